"""Dtype policies, global float types, and ways of compiling."""

from collections.abc import Callable
from typing import Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.models import Part, layers, optimizers, stack

POLICIES: Final = ("mixed_bfloat16", "mixed_float16", "float64", "bfloat16", "float16")
# Rounding of half precision, which averages of rows in another order show.
# float16: two steps of the type at 0.3, for sums in another order.
TOLERANCE: Final = {"float64": 1e-10, "float16": 5e-4}
ANSWER: Final = layers.Activation("softmax", dtype="float32")


def under(policy: str, build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """Return a function that builds a model while a policy is set."""

    def make() -> keras.Model:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return build()
        finally:
            keras.config.set_dtype_policy(before)

    return make


def with_floatx(name: str, build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """Return a function that builds a model while `floatx` is set."""

    def make() -> keras.Model:
        before = keras.config.floatx()
        keras.config.set_floatx(name)
        try:
            return build()
        finally:
            keras.config.set_floatx(before)

    return make


def kinds_of(policy: str) -> list[Kind]:
    """Return the kinds of a policy."""
    adam, sgd = optimizers.Adam(0.01, epsilon=1e-3), optimizers.SGD(0.05, momentum=0.9)
    tail = (layers.Dense(3), ANSWER)
    bodies: dict[str, tuple[tuple[Part, ...], Part, str, tuple[int, ...]]] = {
        "dense, SGD": ((layers.Dense(6, activation="relu"),), sgd, "vector", (6,)),
        "dense, Adam": (
            (layers.Dense(6, activation="tanh"), layers.LayerNormalization()),
            adam,
            "vector",
            (6,),
        ),
        "convolution": (
            (layers.Conv2D(4, 3), layers.BatchNormalization(), layers.GlobalAveragePooling2D()),
            sgd,
            "image",
            (8, 8, 3),
        ),
        "recurrent": ((layers.GRU(4),), sgd, "sequence", (5, 3)),
    }
    return [
        Kind(
            f"{policy}: {name}",
            under(policy, stack(*body, *tail, head=None, shape=shape, optimizer=optimizer)),
            column,
            tolerance=TOLERANCE.get(policy, 5e-5),
            is_default=policy.startswith("mixed") and name == "dense, SGD",
        )
        for name, (body, optimizer, column, shape) in bodies.items()
    ]


def mapped() -> keras.Model:
    """Build a model whose layers have several policies."""
    return stack(
        layers.Dense(6, dtype="mixed_bfloat16"),
        layers.Dense(5, dtype="float32"),
        layers.Dense(4, dtype="float64"),
        head=layers.Dense(3, activation="softmax", dtype="float32"),
    )()


SMALL: Final = (layers.Dense(6), layers.BatchNormalization(), layers.Dropout(0.2, seed=1))

KINDS: Final = (
    *(kind for policy in POLICIES for kind in kinds_of(policy)),
    Kind("layers of several policies", mapped),
    Kind(
        "mixed_float16 with a fixed scale",
        under(
            "mixed_float16",
            stack(
                layers.Dense(6),
                ANSWER,
                optimizer=optimizers.SGD(0.05, loss_scale_factor=64.0),
            ),
        ),
    ),
    Kind(
        "mixed_float16, a scale that overflows",
        under(
            "mixed_float16",
            stack(
                layers.Dense(6),
                layers.Dense(3),
                ANSWER,
                head=None,
                optimizer=optimizers.LossScaleOptimizer(
                    optimizers.SGD(0.05), initial_scale=2.0**24, dynamic_growth_steps=3
                ),
            ),
        ),
    ),
    Kind(
        "floatx float64",
        with_floatx("float64", stack(layers.Dense(6), optimizer=optimizers.Adam(0.01))),
        "double",
    ),
    Kind(
        "double columns in a float32 model",
        stack(layers.Dense(6), head=layers.Dense(1), loss="mse", metrics=["mae"]),
        "double",
        "target_double",
    ),
    Kind("run_eagerly", stack(*SMALL, run_eagerly=True), epochs=2),
    Kind("jit_compile=False", stack(*SMALL, jit_compile=False), epochs=2),
    Kind(
        "jit_compile=True",
        stack(*SMALL, jit_compile=True),
        epochs=2,
        backends=("jax", "tensorflow"),
    ),
    Kind(
        "steps_per_execution=3",
        stack(*SMALL, steps_per_execution=3),
        backends=("jax", "tensorflow"),
    ),
)
