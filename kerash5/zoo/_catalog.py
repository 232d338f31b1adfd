"""The models that ship with kerash5. Each one's module is imported only when it is built.

Options and recipes stand here and not beside the layers, so that `info` and `kerash5 fit --help`
need no Keras; a test compares the options with the signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kerash5.zoo._info import ModelInfo, Recipe

_SCALE: Final[Mapping[str, Any]] = {"scale": "auto"}
_FLIP: Final[Mapping[str, Any]] = {"flip": False, "scale": "auto"}
# No warm-up, which these papers have: Keras' schedule of it cannot be captured on PyTorch, so that
# training would be slower. Half the usual learning rate does without.
_ADAMW: Final = Recipe(
    optimizer="AdamW",
    learning_rate=5e-4,
    optimizer_options={"weight_decay": 0.05},
    decay="cosine",
    epochs=30,
    batch_size=128,
)

# By name: what it is, and "module:function". Those that take images get a channel axis if rows have
# none (`TAKES_IMAGES`).
CATALOG: Final[Mapping[str, tuple[ModelInfo, str]]] = {
    info.name: (info, f"kerash5.zoo.models.{module}:build")
    for info, module in (
        (
            ModelInfo(
                name="convnet",
                purpose="the 2020 tutorial's three convolutions, for images from 7 x 7 pixels",
                smallest_input=(7, 7, 1),
                options=_SCALE,
            ),
            "_convnet",
        ),
        (
            ModelInfo(
                name="lenet5",
                purpose="LeNet-5 with relu and max pooling, for small images of any size",
                paper="LeCun et al., Gradient-based learning applied to document recognition",
                year=1998,
                smallest_input=(1, 1, 1),
                options=_SCALE,
            ),
            "_lenet5",
        ),
        (
            ModelInfo(
                name="mlp",
                purpose="dense layers, for rows of any shape: tables, features, small images",
                smallest_input=(1,),
                options={"hidden": (128, 64), **_SCALE},
            ),
            "_mlp",
        ),
        (
            ModelInfo(
                name="resnet20",
                purpose="residual network, for images of up to about 64 x 64 pixels",
                paper="He et al., Deep residual learning for image recognition",
                year=2016,
                smallest_input=(4, 4, 1),
                options={"width": 16, "blocks": 3, **_FLIP},
                recipe=Recipe(
                    optimizer="SGD",
                    learning_rate=0.05,
                    optimizer_options={"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
                    decay="cosine",
                    epochs=30,
                    batch_size=128,
                ),
            ),
            "_resnet",
        ),
        (
            ModelInfo(
                name="mobilenet_small",
                purpose="small inverted residuals, for images from 8 x 8 pixels",
                paper="Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks",
                year=2018,
                smallest_input=(8, 8, 1),
                options={"width": 1.0, "blocks": 2, **_FLIP},
                recipe=Recipe(
                    optimizer="AdamW",
                    learning_rate=2e-3,
                    optimizer_options={"weight_decay": 1e-2},
                    decay="cosine",
                    epochs=30,
                    batch_size=128,
                ),
            ),
            "_mobilenet",
        ),
        (
            ModelInfo(
                name="convnext_pico",
                purpose="modern convolutional network, for larger images and more rows",
                paper="Liu et al., A ConvNet for the 2020s",
                year=2022,
                smallest_input=(4, 4, 1),
                options={"widths": (64, 128, 256, 512), "depths": (2, 2, 6, 2), **_FLIP},
                recipe=_ADAMW,
            ),
            "_convnext",
        ),
        (
            ModelInfo(
                name="vit_tiny",
                purpose="vision transformer, for many rows of images",
                paper="Dosovitskiy et al., An image is worth 16x16 words",
                year=2021,
                smallest_input=(4, 4, 1),
                options={"patch": None, "width": 192, "depth": 12, "heads": 3, **_FLIP},
                recipe=_ADAMW,
            ),
            "_vit",
        ),
        (
            ModelInfo(
                name="conv1d",
                purpose="fully convolutional network, for windows and spectra: (steps,) or "
                "(steps, channels)",
                paper="Wang et al., Time series classification from scratch",
                year=2017,
                smallest_input=(1,),
                options={"filters": (128, 256, 128), **_SCALE},
                recipe=Recipe(decay="cosine", epochs=20, batch_size=64),
            ),
            "_conv1d",
        ),
        (
            ModelInfo(
                name="lstm",
                purpose="recurrent network, for sequences: (steps,) or (steps, channels)",
                paper="Hochreiter and Schmidhuber, Long short-term memory",
                year=1997,
                smallest_input=(1,),
                options={"units": (64,), **_SCALE},
                recipe=Recipe(
                    learning_rate=3e-3,
                    # Gradients through many steps can explode.
                    optimizer_options={"clipnorm": 1.0},
                    decay="cosine",
                    epochs=20,
                    batch_size=64,
                ),
            ),
            "_lstm",
        ),
        (
            ModelInfo(
                name="deepsets",
                purpose="sets of points in any order, for point clouds and jets: "
                "(points, features)",
                paper="Zaheer et al., Deep sets",
                year=2017,
                smallest_input=(1, 1),
                options={"point": (64, 64, 128), "cloud": (64, 64), **_SCALE},
                recipe=Recipe(learning_rate=3e-3, decay="cosine", epochs=20, batch_size=128),
            ),
            "_deepsets",
        ),
        (
            ModelInfo(
                name="unet_small",
                purpose="a class for each pixel, where y is a mask of class ids",
                paper="Ronneberger et al., U-Net: convolutional networks for biomedical image "
                "segmentation",
                year=2015,
                task="segmentation",
                smallest_input=(8, 8, 1),
                options={"width": 16, "depth": 3, **_SCALE},
                recipe=Recipe(decay="cosine", epochs=20, batch_size=16),
            ),
            "_unet",
        ),
        (
            ModelInfo(
                name="autoencoder",
                purpose="a code of few numbers from which the row is reconstructed: y = x, rows "
                "of any shape",
                paper="Hinton and Salakhutdinov, Reducing the dimensionality of data with neural "
                "networks",
                year=2006,
                task="reconstruction",
                smallest_input=(1,),
                options={"hidden": (128, 64), "code": 32, **_SCALE},
                recipe=Recipe(decay="cosine", epochs=20, batch_size=64),
            ),
            "_autoencoder",
        ),
    )
}
TAKES_IMAGES: Final = frozenset(
    name for name, (info, _) in CATALOG.items() if len(info.smallest_input or ()) == 3
)
