"""Layers that prepare rows inside a model: numbers, categories, sound, images, augmentation."""

from typing import Any, Final

import keras

from tests.backend.differential.kind import BACKENDS, Kind
from tests.backend.differential.kinds.layers_core import on_images, on_rows
from tests.backend.differential.models import Part, classify, graph, layers, stack
from tests.backend.differential.rows import COLUMNS

FROZEN_IDS: Final = "the ids of the first batch are used for ever"


def adapted() -> keras.Model:
    """Build a model whose normalization has seen the data."""
    normal = keras.layers.Normalization()
    normal.adapt(COLUMNS["vector"])
    return stack(lambda: normal, layers.Dense(5))()


def discretized() -> keras.Model:
    """Build a model whose bins have seen the data."""
    bins = keras.layers.Discretization(num_bins=4, output_mode="one_hot")
    bins.adapt(COLUMNS["vector"])
    return stack(lambda: bins, layers.Flatten(), layers.Dense(5))()


def on_tokens(
    part: Part,
    *after: Part,
    fault: str = "",
    backends: tuple[str, ...] = BACKENDS,
    dtype: str = "int32",
) -> Kind:
    """Return a kind of a layer that takes whole numbers."""
    build = stack(part, *after, dtype=dtype)
    return Kind(str(part), build, "token", fault=fault, backends=backends)


def crossed(tokens: Any) -> Any:
    """Cross two columns of categories."""
    layer = keras.layers.HashedCrossing(num_bins=5, output_mode="one_hot")
    return classify(layer([tokens[:, :1], tokens[:, 1:2]]))


EMBED: Final = (layers.Embedding(12, 3), layers.Flatten())
# Image augmentation that draws from a seed; those without a seed make one when they are built.
AUGMENTATION: Final = (
    layers.RandomFlip(seed=1),
    layers.RandomFlip("horizontal"),
    layers.RandomRotation(0.2, seed=1),
    layers.RandomRotation(0.1, fill_mode="nearest"),
    layers.RandomTranslation(0.2, 0.2, seed=1),
    layers.RandomTranslation(0.1, 0.1),
    layers.RandomZoom(0.2, seed=1),
    layers.RandomZoom(0.2, 0.1),
    layers.RandomContrast(0.2, seed=1),
    layers.RandomBrightness(0.2, value_range=(0.0, 1.0), seed=1),
    layers.RandomCrop(6, 6, seed=1),
    layers.RandomShear(0.2, 0.2, seed=1),
    layers.RandomPerspective(0.5, seed=1),
    layers.RandomElasticTransform(0.5, value_range=(0.0, 1.0), seed=1),
    layers.RandomErasing(0.5, value_range=(0.0, 1.0), seed=1),
    layers.RandomGaussianBlur(0.5, value_range=(0.0, 1.0), seed=1),
    layers.RandomGrayscale(0.5, seed=1),
    layers.RandomHue(0.3, value_range=(0.0, 1.0), seed=1),
    layers.RandomInvert(0.5, value_range=(0.0, 1.0), seed=1),
    layers.RandomPosterization(4, value_range=(0.0, 1.0), seed=1),
    layers.RandomSaturation(0.3, value_range=(0.0, 1.0), seed=1),
    layers.RandomSharpness(0.3, value_range=(0.0, 1.0), seed=1),
    layers.RandomColorDegeneration(0.3, value_range=(0.0, 1.0), seed=1),
    layers.RandomColorJitter(
        (0.0, 1.0), brightness_factor=0.2, contrast_factor=0.2, saturation_factor=0.2, seed=1
    ),
    layers.AugMix(value_range=(0.0, 1.0), seed=1),
    layers.RandAugment(value_range=(0.0, 1.0), seed=1),
    layers.MixUp(seed=1),
    layers.CutMix(seed=1),
    layers.AutoContrast(value_range=(0.0, 1.0)),
    layers.Equalization(value_range=(0.0, 1.0)),
    layers.ContrastLimitedAdaptiveHistogramEqualization(value_range=(0.0, 1.0)),
    layers.Solarization(value_range=(0.0, 1.0)),
)

KINDS: Final = (
    Kind("Normalization adapted", adapted),
    on_rows(layers.Normalization(mean=[0.1] * 6, variance=[2.0] * 6), layers.Dense(4)),
    on_rows(layers.Normalization(mean=0.1, variance=2.0, invert=True), layers.Dense(4)),
    on_rows(layers.Rescaling(0.5, 1.0), layers.Dense(4)),
    Kind("Discretization adapted", discretized),
    on_rows(layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0]), *EMBED),
    on_rows(layers.Discretization(bin_boundaries=[-1.0, 1.0], output_mode="multi_hot")),
    on_tokens(layers.CategoryEncoding(10, output_mode="multi_hot"), layers.Dense(4)),
    on_tokens(layers.CategoryEncoding(10, output_mode="one_hot"), layers.Flatten()),
    on_tokens(layers.CategoryEncoding(10, output_mode="count"), layers.Dense(4)),
    on_tokens(
        layers.IntegerLookup(vocabulary=[1, 2, 3, 4], mask_token=0),
        *EMBED,
        fault=FROZEN_IDS,
        dtype="int64",
    ),
    on_tokens(
        layers.IntegerLookup(vocabulary=[1, 2, 3, 4], num_oov_indices=2), *EMBED, dtype="int64"
    ),
    on_tokens(layers.IntegerLookup(vocabulary=[1, 2, 3], output_mode="multi_hot"), dtype="int64"),
    on_tokens(layers.Hashing(6), *EMBED, fault=FROZEN_IDS),
    on_tokens(layers.Hashing(6, salt=3), *EMBED),
    on_tokens(layers.Hashing(6, output_mode="one_hot"), layers.Flatten()),
    Kind("HashedCrossing of two columns", graph(crossed, dtype="int64"), "token", fault=FROZEN_IDS),
    Kind(
        "bytes rescaled",
        stack(layers.Rescaling(1 / 255), layers.Conv2D(3, 3), layers.Flatten(), shape=(8, 8, 3)),
        "bytes",
    ),
    Kind(
        "bytes rescaled, input of bytes",
        stack(
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 3),
            layers.Flatten(),
            shape=(8, 8, 3),
            dtype="uint8",
        ),
        "bytes",
    ),
    *(
        Kind(str(part), stack(part, layers.Flatten(), shape=(64,)), "signal")
        for part in (
            layers.STFTSpectrogram(frame_length=16, frame_step=8, fft_length=16),
            layers.STFTSpectrogram(
                mode="psd", frame_length=16, frame_step=8, fft_length=16, window=None
            ),
            layers.MelSpectrogram(
                num_mel_bins=4,
                sampling_rate=64,
                sequence_stride=8,
                fft_length=16,
                max_freq=30,
                min_freq=1,
            ),
        )
    ),
    on_images(layers.Resizing(6, 6)),
    on_images(layers.Resizing(10, 6, interpolation="nearest")),
    on_images(layers.Resizing(6, 4, crop_to_aspect_ratio=True)),
    on_images(layers.CenterCrop(4, 6)),
    on_images(layers.Pipeline([layers.Rescaling(2.0), layers.RandomFlip(seed=1)])),
    *(on_images(part, epochs=2) for part in AUGMENTATION),
    Kind(
        "a chain of augmentation without seeds",
        stack(
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomContrast(0.2),
            layers.Flatten(),
            shape=(8, 8, 3),
        ),
        "image",
        is_default=True,
    ),
)
