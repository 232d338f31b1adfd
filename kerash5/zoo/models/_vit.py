"""ViT-Tiny, after Dosovitskiy et al. (2021).

"An image is worth 16x16 words: transformers for image recognition at scale", ICLR; the size "tiny"
(12 layers of width 192, 3 heads) is that of DeiT (Touvron et al., 2021). 5,353,162 parameters for
28 x 28 x 1 images and 10 classes. Simplified: the patches are averaged instead of a class token
(Beyer, Zhai and Kolesnikov, 2022, "Better plain ViT baselines for ImageNet-1k"), and no dropout.
"""

from __future__ import annotations

from typing import Final

import keras

from kerash5._checks import parse_count
from kerash5._errors import OptionError
from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    flipped,
    require_image,
    scaled_input,
)

SMALL: Final = 96  # pixels; below, patches of 16 pixels would be too few to tell anything apart


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    patch: int | None = None,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    flip: bool = False,
    scale: Scale = "auto",
) -> keras.Model:
    """Embed the patches, stack `depth` transformer layers, average, and add a softmax.

    Args:
        input_shape: (height, width, channels), sides of at least 4 pixels; zeros are added at the
            right and at the bottom up to a multiple of `patch`.
        num_classes: Width of the softmax.
        patch: Pixels along each side of a patch; None: 16, and 4 for sides below 96 pixels.
        width: Width of a patch's embedding, a multiple of `heads`.
        depth: Number of layers.
        heads: Attention heads of each layer.
        flip: Mirror images at random in training, left to right; not for digits or letters.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    require_image(input_shape, smallest=4)
    if patch is None:
        patch = 4 if min(input_shape[:2]) < SMALL else 16
    parse_count("patch", patch, "the number of pixels along each side of a patch")
    if parse_count("width", width, "the width of an embedding") % parse_count(
        "heads", heads, "the number of attention heads"
    ):
        raise OptionError(f"width={width} is no multiple of heads={heads}; give one that is")
    inputs, x = scaled_input(input_shape, scale)
    x = _embed_patches(flipped(x, flip), patch, width)
    for layer in range(1, depth + 1):
        x = _transformer_layer(x, width, heads, name=f"layer{layer}")
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="pool")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="vit_tiny")


def _embed_patches(x: keras.KerasTensor, patch: int, width: int) -> keras.KerasTensor:
    """Return one vector per patch, shape (n, patches, width), with its position embedded."""
    _, height, length, channels = x.shape
    rows, columns = -(-height // patch), -(-length // patch)
    missing = ((0, rows * patch - height), (0, columns * patch - length))
    x = keras.layers.ZeroPadding2D(missing, data_format="channels_last", name="pad")(x)
    x = keras.layers.Reshape((rows, patch, columns, patch, channels), name="split")(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5), name="gather")(x)
    x = keras.layers.Reshape((rows * columns, patch * patch * channels), name="patches")(x)
    # The bias has a vector for each patch: it is the learned position embedding.
    embed = keras.layers.EinsumDense(
        "npi,io->npo",
        (rows * columns, width),
        bias_axes="po",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name="embed",
    )
    return embed(x)


def _transformer_layer(
    x: keras.KerasTensor, width: int, heads: int, *, name: str
) -> keras.KerasTensor:
    """Add attention and a perceptron, each after a normalization and beside a shortcut."""
    normed = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    attend = keras.layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")
    x = keras.layers.Add(name=f"{name}_add1")([x, attend(normed, normed)])
    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = keras.layers.Dense(4 * width, activation="gelu", name=f"{name}_expand")(y)
    y = keras.layers.Dense(width, name=f"{name}_project")(y)
    return keras.layers.Add(name=f"{name}_add2")([x, y])
