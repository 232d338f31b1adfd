"""Attention, with and without masks."""

from dataclasses import replace
from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.layers_core import SEQUENCE
from tests.backend.differential.models import classify, graph

# Softmax forgets what is added to all keys: the gradient of their bias is nothing but rounding.
KEY_BIAS: Final = 1e-4
ON_SEQUENCES: Final[dict[str, Any]] = {"shapes": (SEQUENCE,)}


def heads(*, mask_zero: bool = False, is_causal: bool = False, **options: Any) -> Any:
    """Return a function that attends to embedded tokens."""

    def attend(tokens: Any) -> Any:
        embedded = keras.layers.Embedding(10, 8, mask_zero=mask_zero)(tokens)
        layer = keras.layers.MultiHeadAttention(2, 4, **options)
        found = layer(embedded, embedded, use_causal_mask=is_causal)
        normal = keras.layers.LayerNormalization()(keras.layers.Add()([embedded, found]))
        return classify(keras.layers.GlobalAveragePooling1D()(normal))

    return graph(attend, dtype="int32")


def pairs(name: str, *, is_causal: bool = False, **options: Any) -> Any:
    """Return a function that attends by query and value."""

    def attend(rows: Any) -> Any:
        query = keras.layers.Dense(4)(rows)
        layer = getattr(keras.layers, name)(**options)
        return classify(layer([query, query], use_causal_mask=is_causal))

    return graph(attend, **ON_SEQUENCES)


def grouped(**options: Any) -> Any:
    """Return a function that attends with fewer keys than queries."""

    def attend(rows: Any) -> Any:
        layer = keras.layers.GroupQueryAttention(**options)
        return classify(layer(rows, rows))

    return graph(attend, **ON_SEQUENCES)


def encoder(rows: Any) -> Any:
    """Return the answer of one block of a transformer."""
    layers = keras.layers
    wide = layers.Dense(8)(rows)
    found = layers.MultiHeadAttention(2, 4, dropout=0.1, seed=1)(wide, wide)
    first = layers.LayerNormalization()(wide + found)
    hidden = layers.Dense(8)(layers.Dense(16, activation="gelu")(first))
    return classify(layers.LayerNormalization()(first + hidden))


KINDS: Final = tuple(
    replace(kind, tolerance=KEY_BIAS)
    for kind in (
        Kind("MultiHeadAttention", heads(), "token", is_default=True),
        Kind("MultiHeadAttention causal", heads(is_causal=True), "token"),
        Kind("MultiHeadAttention masked", heads(mask_zero=True), "token", is_default=True),
        Kind(
            "MultiHeadAttention masked causal dropout",
            heads(mask_zero=True, is_causal=True, dropout=0.2, seed=1),
            "token",
        ),
        Kind("MultiHeadAttention value_dim", heads(value_dim=3, use_bias=False), "token"),
        Kind("MultiHeadAttention no flash", heads(flash_attention=False), "token"),
        Kind(
            "GroupQueryAttention",
            grouped(head_dim=4, num_query_heads=4, num_key_value_heads=2),
            "sequence",
        ),
        Kind(
            "GroupQueryAttention dropout",
            grouped(head_dim=4, num_query_heads=2, num_key_value_heads=1, dropout=0.2, seed=1),
            "sequence",
        ),
        Kind("Attention", pairs("Attention"), "sequence"),
        Kind("Attention scaled", pairs("Attention", use_scale=True), "sequence"),
        Kind("Attention concat", pairs("Attention", score_mode="concat"), "sequence"),
        Kind("Attention causal", pairs("Attention", is_causal=True), "sequence"),
        Kind("Attention dropout", pairs("Attention", dropout=0.2, seed=1), "sequence"),
        Kind("AdditiveAttention", pairs("AdditiveAttention"), "sequence"),
        Kind("AdditiveAttention unscaled", pairs("AdditiveAttention", use_scale=False), "sequence"),
        Kind("a block of a transformer", graph(encoder, **ON_SEQUENCES), "sequence"),
    )
)
