"""Recurrent layers, their cells and wrappers, with masks and without."""

from collections.abc import Callable
from typing import Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.layers_core import SEQUENCE, on_sequences
from tests.backend.differential.models import Part, compiled, layers, stack

RECURRENT: Final = (layers.LSTM, layers.GRU, layers.SimpleRNN)


def on_tokens(*parts: Part) -> Kind:
    """Return a kind of these layers on token numbers, the last of which are padding."""
    embed = layers.Embedding(10, 4, mask_zero=True)
    return Kind(
        f"masked tokens {' '.join(map(str, parts))}", stack(embed, *parts, dtype="int32"), "token"
    )


def on_masked(*parts: Part) -> Kind:
    """Return a kind of these layers on masked sequences."""
    build = stack(layers.Masking(), *parts, shape=SEQUENCE)
    return Kind(f"masked {' '.join(map(str, parts))}", build, "sequence")


def on_videos(part: Part, column: str, shape: tuple[int, ...], *before: Part) -> Kind:
    """Return a kind of a layer on sequences of images."""
    return Kind(str(part), stack(*before, part, layers.Flatten(), shape=shape), column, epochs=2)


def stateful(name: str) -> Kind:
    """Return a kind whose state goes from one batch to the next: all have 4 rows."""

    def build() -> keras.Model:
        rows = keras.Input(batch_shape=(4, *SEQUENCE))
        hidden = getattr(keras.layers, name)(4, stateful=True)(rows)
        return compiled(keras.Model(rows, keras.layers.Dense(3, activation="softmax")(hidden)))

    return Kind(f"{name}(stateful=True)", build, "sequence", batch_size=4)


def bare(of: Callable[..., Part]) -> list[Kind]:
    """Return the kinds of one recurrent layer."""
    return [
        on_sequences(of(4)),
        on_sequences(of(4, return_sequences=True)),
        on_sequences(of(4, return_sequences=True), of(3)),
        on_sequences(of(4, unroll=True)),
        on_sequences(of(4, go_backwards=True)),
        on_sequences(of(4, dropout=0.3, recurrent_dropout=0.2, seed=1)),
        on_sequences(of(4, activation="relu", use_bias=False)),
        on_sequences(of(4, kernel_regularizer="l2", recurrent_constraint="max_norm")),
        on_masked(of(4)),
        on_tokens(of(4)),
        on_sequences(layers.Bidirectional(of(4))),
        on_sequences(layers.Bidirectional(of(4, return_sequences=True), merge_mode="sum")),
    ]


KINDS: Final = (
    *(kind for make in RECURRENT for kind in bare(make)),
    *map(stateful, ("LSTM", "GRU", "SimpleRNN")),
    on_sequences(layers.GRU(4, reset_after=False)),
    on_sequences(layers.LSTM(4, unit_forget_bias=False)),
    on_sequences(layers.LSTM(4, use_cudnn=False)),
    on_sequences(layers.RNN(layers.LSTMCell(4))),
    on_sequences(layers.RNN(layers.GRUCell(4), return_sequences=True)),
    on_sequences(layers.RNN(layers.SimpleRNNCell(4))),
    on_sequences(layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)])),
    on_sequences(layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(4)]))),
    on_sequences(layers.TimeDistributed(layers.Dense(4))),
    on_masked(layers.TimeDistributed(layers.Dense(4)), layers.LSTM(3)),
    on_tokens(layers.Bidirectional(layers.LSTM(4))),
    on_masked(layers.GlobalAveragePooling1D()),
    on_videos(layers.ConvLSTM1D(3, 2), "video", (3, 5, 5, 2), layers.Reshape((3, 5, 10))),
    on_videos(layers.ConvLSTM2D(3, 2), "video", (3, 5, 5, 2)),
    on_videos(
        layers.ConvLSTM2D(3, 2, padding="same", return_sequences=True), "video", (3, 5, 5, 2)
    ),
    on_videos(layers.ConvLSTM3D(2, 2), "films", (2, 4, 4, 4, 1)),
    Kind(
        "masked sequence answers LSTM",
        stack(layers.Masking(), layers.LSTM(4, return_sequences=True), shape=SEQUENCE),
        "sequence",
        "label_sequence",
        fault="metrics lose the mask of the answers",
        is_default=True,
    ),
    Kind(
        "sequence answers LSTM",
        stack(layers.LSTM(4, return_sequences=True), shape=SEQUENCE),
        "sequence",
        "label_sequence",
    ),
    Kind(
        "masked sequence answers Dense, one-hot",
        stack(layers.Masking(), layers.Dense(4), shape=SEQUENCE, loss="categorical_crossentropy"),
        "sequence",
        "one_hot_sequence",
    ),
)
