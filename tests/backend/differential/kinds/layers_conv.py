"""Convolutions and pooling in one, two and three dimensions, each with several arguments."""

from typing import Final

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.layers_core import on_images, on_sequences, on_volumes
from tests.backend.differential.models import layers

CONVOLUTIONS: Final = (
    *(
        on_sequences(part)
        for part in (
            layers.Conv1D(4, 2),
            layers.Conv1D(4, 2, padding="causal"),
            layers.Conv1D(4, 2, padding="same", strides=2, use_bias=False),
            layers.Conv1D(3, 2, groups=3),
            layers.Conv1D(4, 2, dilation_rate=2, activation="relu"),
            layers.Conv1DTranspose(4, 2),
            layers.Conv1DTranspose(4, 2, strides=2, padding="same"),
            layers.DepthwiseConv1D(2),
            layers.DepthwiseConv1D(2, depth_multiplier=2, padding="same"),
            layers.SeparableConv1D(4, 2),
            layers.SeparableConv1D(4, 2, depth_multiplier=2, padding="same"),
        )
    ),
    *(
        on_images(part)
        for part in (
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.Conv2D(4, (1, 3), use_bias=False),
            layers.Conv2D(4, 3, dilation_rate=2),
            layers.Conv2D(6, 3, groups=3),
            layers.Conv2D(4, 3, kernel_regularizer="l2", kernel_constraint="max_norm"),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
            layers.Conv2DTranspose(4, 3, use_bias=False),
            layers.DepthwiseConv2D(3),
            layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"),
            layers.SeparableConv2D(4, 3),
            layers.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"),
        )
    ),
    *(
        on_volumes(part)
        for part in (
            layers.Conv3D(3, 2),
            layers.Conv3D(3, 2, padding="same", strides=2),
            layers.Conv3DTranspose(2, 2, strides=2),
            layers.Conv3DTranspose(2, 2, padding="same", use_bias=False),
        )
    ),
    on_images(layers.Conv2D(4, 3), is_default=True),
    on_images(
        layers.Conv2D(4, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        is_default=True,
    ),
)
POOLING: Final = (
    *(
        on_sequences(part)
        for part in (
            layers.MaxPooling1D(2),
            layers.MaxPooling1D(2, strides=1, padding="same"),
            layers.AveragePooling1D(2),
            layers.AveragePooling1D(2, padding="same"),
            layers.GlobalMaxPooling1D(),
            layers.GlobalMaxPooling1D(keepdims=True),
            layers.GlobalAveragePooling1D(),
            layers.AdaptiveAveragePooling1D(2),
            layers.AdaptiveMaxPooling1D(2),
        )
    ),
    *(
        on_images(part)
        for part in (
            layers.MaxPooling2D(2),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.AveragePooling2D(2),
            layers.AveragePooling2D(3, padding="same"),
            layers.GlobalMaxPooling2D(),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.AdaptiveAveragePooling2D(3),
            layers.AdaptiveMaxPooling2D((2, 4)),
        )
    ),
    *(
        on_volumes(part)
        for part in (
            layers.MaxPooling3D(2),
            layers.AveragePooling3D(2),
            layers.AveragePooling3D(3, strides=1, padding="same"),
            layers.GlobalMaxPooling3D(),
            layers.GlobalAveragePooling3D(),
            layers.AdaptiveAveragePooling3D(2),
            layers.AdaptiveMaxPooling3D(2),
        )
    ),
    on_images(layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()),
    on_images(layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()),
    on_sequences(layers.Conv1D(4, 2), layers.MaxPooling1D(2)),
)

KINDS: Final[tuple[Kind, ...]] = (*CONVOLUTIONS, *POOLING)
