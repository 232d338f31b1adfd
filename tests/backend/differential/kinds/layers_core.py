"""Dense layers, merging, shapes, noise and normalization."""

from typing import Any, Final

import keras
from keras import ops

from tests.backend.differential.kind import Kind
from tests.backend.differential.models import Part, classify, graph, layers, stack

POOL: Final = layers.GlobalAveragePooling2D()
IMAGE: Final = (8, 8, 3)
SEQUENCE: Final = (5, 3)
VOLUME: Final = (4, 4, 4, 2)


def on_rows(*parts: Part, **options: Any) -> Kind:
    """Return a kind of these layers on rows of six numbers."""
    return Kind(" ".join(map(str, parts)), stack(*parts), **options)


def on_images(*parts: Part, **options: Any) -> Kind:
    """Return a kind of these layers on images."""
    build = stack(*parts, layers.Flatten(), shape=IMAGE)
    return Kind(" ".join(map(str, parts)), build, "image", **options)


def on_sequences(*parts: Part, **options: Any) -> Kind:
    """Return a kind of these layers on sequences."""
    build = stack(*parts, layers.Flatten(), shape=SEQUENCE)
    return Kind(" ".join(map(str, parts)), build, "sequence", **options)


def on_volumes(*parts: Part, **options: Any) -> Kind:
    """Return a kind of these layers on volumes."""
    build = stack(*parts, layers.Flatten(), shape=VOLUME)
    return Kind(" ".join(map(str, parts)), build, "volume", **options)


def merged(name: str) -> Kind:
    """Return a kind that merges two dense layers by a layer of that name."""

    def join(x: Any) -> Any:
        part = getattr(keras.layers, name)
        merge = part(axes=1) if name == "Dot" else part()
        return classify(merge([keras.layers.Dense(4)(x), keras.layers.Dense(4)(x)]))

    return Kind(f"{name} of two branches", graph(join))


def low_rank() -> keras.Model:
    """Build a model with a low-rank adapter on a dense layer."""
    model = stack(layers.Dense(6), layers.Dense(5))()
    model.layers[0].enable_lora(2)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def quantized() -> keras.Model:
    """Build a model with a dense layer of eight-bit integers."""
    model = stack(layers.Dense(6), layers.Dense(5))()
    model.layers[0].quantize("int8")
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def tied(x: Any) -> Any:
    """Use one dense layer twice."""
    dense = keras.layers.Dense(6)
    return classify(dense(keras.layers.ReLU()(dense(x))))


def nested(x: Any) -> Any:
    """Use a model as a layer."""
    inner = keras.Sequential(
        [keras.layers.Dense(6, use_bias=False), keras.layers.BatchNormalization()]
    )
    return classify(inner(x))


def frozen_inside(x: Any) -> Any:
    """Use a frozen model as a layer, as in transfer learning."""
    base = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2, seed=1),
        ]
    )
    base.trainable = False
    return classify(base(x))


def with_ops(x: Any) -> Any:
    """Use operations of Keras as layers."""
    found = [ops.sin(x), ops.where(x > 0, x, -x), ops.cumsum(x, axis=1), ops.sort(x, axis=1)]
    return classify(ops.concatenate(found, axis=-1))


def with_more_ops(x: Any) -> Any:
    """Use operations that choose by value."""
    chosen = ops.one_hot(ops.argmax(x, axis=1), 6)
    return classify(ops.concatenate([ops.erf(x), ops.top_k(x, 2)[0], chosen], axis=-1))


def tied_embedding(x: Any) -> Any:
    """Use the matrix of an embedding again for the answer."""
    embed = keras.layers.ReversibleEmbedding(9, 4)
    pooled = keras.layers.GlobalAveragePooling1D()(embed(x))
    return keras.layers.Softmax()(embed(pooled, reverse=True))


DENSE: Final = (
    on_rows(layers.Dense(5), is_default=True),
    on_rows(layers.Dense(5, use_bias=False)),
    on_rows(layers.Dense(5, kernel_initializer="he_normal", bias_initializer="ones")),
    on_rows(layers.Dense(5, trainable=False), layers.Dense(4)),
    on_rows(layers.Dense(5), layers.Dense(5), layers.Dense(5), epochs=4),
    on_rows(layers.EinsumDense("ab,bc->ac", output_shape=5)),
    on_rows(layers.EinsumDense("ab,bc->ac", output_shape=5, bias_axes="c", activation="tanh")),
    Kind(
        "Embedding(10, 4)",
        stack(layers.Embedding(10, 4), layers.Flatten(), dtype="int32"),
        "token",
        is_default=True,
    ),
    Kind(
        "Embedding(10, 4, embeddings_regularizer='l2')",
        stack(
            layers.Embedding(10, 4, embeddings_regularizer="l2"),
            layers.GlobalAveragePooling1D(),
            dtype="int32",
        ),
        "token",
    ),
    Kind(
        "Embedding(10, 4, mask_zero=True) averaged",
        stack(
            layers.Embedding(10, 4, mask_zero=True), layers.GlobalAveragePooling1D(), dtype="int32"
        ),
        "token",
    ),
    Kind("ReversibleEmbedding tied to the answer", graph(tied_embedding, dtype="int32"), "token"),
    on_rows(layers.Identity(), layers.Dense(4)),
    Kind("low-rank adapter", low_rank),
    Kind("eight-bit dense layer", quantized),
    Kind("InputLayer", stack(layers.Dense(4))),
)
GRAPHS: Final = (
    Kind("one layer used twice", graph(tied)),
    Kind("a model as a layer", graph(nested), is_default=True),
    Kind("a frozen model as a layer", graph(frozen_inside)),
    Kind("operations as layers", graph(with_ops)),
    Kind("operations that choose by value", graph(with_more_ops)),
    Kind("stop_gradient", graph(lambda x: classify(ops.stop_gradient(keras.layers.Dense(6)(x))))),
    *map(merged, ("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply")),
    Kind(
        "Subtract of two branches",
        graph(
            lambda x: classify(
                keras.layers.Subtract()([keras.layers.Dense(4)(x), keras.layers.Dense(4)(x)])
            )
        ),
    ),
)
SHAPES: Final = (
    on_images(layers.Permute((2, 1, 3)), layers.Reshape((4, 16, 3))),
    on_images(layers.Flatten()),
    on_rows(layers.RepeatVector(3), layers.Flatten()),
    on_rows(layers.Reshape((2, 3)), layers.Permute((2, 1)), layers.Flatten()),
    on_sequences(layers.Cropping1D((1, 1))),
    on_sequences(layers.ZeroPadding1D(2)),
    on_sequences(layers.UpSampling1D(2)),
    on_images(layers.Cropping2D(((1, 2), (0, 1)))),
    on_images(layers.ZeroPadding2D((1, 2))),
    on_images(layers.UpSampling2D(2)),
    on_images(layers.UpSampling2D(2, interpolation="bilinear")),
    on_volumes(layers.Cropping3D(1)),
    on_volumes(layers.ZeroPadding3D(1)),
    on_volumes(layers.UpSampling3D(2)),
)
NORMALIZATION: Final = (
    on_rows(layers.BatchNormalization(), layers.Dense(4), is_default=True),
    on_images(layers.BatchNormalization(momentum=0.5, epsilon=1e-2)),
    on_images(layers.BatchNormalization(scale=False, center=False)),
    on_images(layers.BatchNormalization(axis=1)),
    on_images(layers.BatchNormalization(trainable=False)),
    on_images(layers.BatchNormalization(renorm=True)),
    on_images(layers.BatchNormalization(gamma_regularizer="l2", beta_constraint="non_neg")),
    on_images(layers.BatchNormalization(synchronized=True), backends=("tensorflow",)),
    on_rows(layers.LayerNormalization()),
    on_images(layers.LayerNormalization(axis=[1, 2, 3], center=False)),
    on_rows(layers.LayerNormalization(scale=False)),
    on_rows(layers.RMSNormalization()),
    on_images(layers.GroupNormalization(groups=3)),
    on_images(layers.GroupNormalization(groups=-1, scale=False)),
    on_rows(layers.UnitNormalization()),
    on_rows(layers.Dense(5), layers.UnitNormalization(axis=1)),
    on_rows(layers.SpectralNormalization(layers.Dense(5))),
    on_images(layers.SpectralNormalization(layers.Conv2D(3, 3), power_iterations=2)),
)
NOISE: Final = (
    *(
        on_rows(layers.Dense(8), part)
        for part in (
            layers.Dropout(0.3, seed=1),
            layers.Dropout(0.0),
            layers.Dropout(0.5, noise_shape=(None, 1), seed=2),
            layers.AlphaDropout(0.3, seed=1),
            layers.GaussianDropout(0.3, seed=1),
            layers.GaussianNoise(0.3, seed=1),
            layers.ActivityRegularization(0.01, 0.01),
        )
    ),
    *(
        on_rows(layers.Dense(8), part)
        for part in (
            layers.Dropout(0.3),
            layers.AlphaDropout(0.3),
            layers.GaussianDropout(0.3),
            layers.GaussianNoise(0.3),
        )
    ),
    on_sequences(layers.SpatialDropout1D(0.3, seed=1)),
    on_images(layers.SpatialDropout2D(0.3, seed=1)),
    on_volumes(layers.SpatialDropout3D(0.3, seed=1)),
    on_sequences(layers.Masking(), layers.Dense(3)),
)

KINDS: Final = (*DENSE, *GRAPHS, *SHAPES, *NORMALIZATION, *NOISE)
