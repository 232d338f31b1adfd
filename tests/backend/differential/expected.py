"""Kinds whose verdict is not a good one for a reason that is known."""

from __future__ import annotations

from typing import Final

from tests.backend.differential.harness import Result, Verdict

GOOD: Final = ("equal", "slower")

_SHAPES_BY_POSITION = (
    "Keras' fit on JAX writes states back by their position, which freezing a layer changes"
)
_RAGGED = (
    "Keras' fit on TensorFlow averages the losses of single outputs over batches, the ragged last "
    "one as much as others; the trainer over rows"
)
_SCHEDULE_FREE = (
    "ScheduleFreeAdamW reads its old momentum after the update, which Keras' own step on PyTorch "
    "has written into that very tensor"
)
_COMPILED_ONCE = (
    "fit keeps the step that it compiled in an earlier fit, hyperparameters included; each fit of "
    "the trainer compiles its own"
)
_READ_ANEW = (
    "JAX bakes a variable outside the model in as it is when a step is traced; a resumed fit "
    "traces anew, sees that it has another value, and says so"
)
_TRACED_FROZEN = (
    "fit never sees on TensorFlow that a layer was frozen after its step was traced; a resumed fit "
    "traces anew, sees it, and says so"
)
_BUILT_IN_THE_STEP = (
    "Keras' fit on TensorFlow builds the optimizer within the step that it traces, so that its "
    "momentum is set to the weights again in every step; a fit whose optimizer was built before, "
    "eager mode, JAX and the trainer agree"
)
_ONE_FIELD_PER_BATCH = (
    "Keras draws one distortion for a whole batch where the number of rows is not known when the "
    "step is traced, as in fit on TensorFlow; one per row in eager mode and in the trainer"
)
_DRAWN_IN_PYTHON = (
    "AugMix chooses by Python's random module when the step is traced, on TensorFlow: fit, the "
    "trainer and a resumed fit trace at other states of it, and a resumed fit says so"
)
_NAN = "the loss becomes NaN, in fit too; the trainer ends there"
_STOPS_AT_ONCE = "fit validates once more after stop_training in mid-epoch, the trainer does not"

# (backend, kind) -> (verdict, why).
EXPECTED: Final[dict[tuple[str, str], tuple[Verdict, str]]] = {
    **{
        ("jax", kind): ("fit fails", _SHAPES_BY_POSITION)
        for kind in (
            "a layer is frozen, SGD",
            "a layer is frozen, Adam",
            "a layer is frozen, shapes differ",
            "a layer is unfrozen",
            "a batch normalization is frozen",
            "freeze between fits",
        )
    },
    **{
        (backend, "stop in the middle, validated"): ("different", _STOPS_AT_ONCE)
        for backend in ("jax", "tensorflow", "torch")
    },
    **{
        ("tensorflow", kind): ("different", _RAGGED)
        for kind in (
            "outputs by name",
            "outputs by name, other order",
            "outputs in order",
            "outputs in order, loss weights",
        )
    },
    **{
        (backend, "another beta between fits"): ("different", _COMPILED_ONCE)
        for backend in ("jax", "tensorflow")
    },
    **{
        ("jax", kind): ("refused", _READ_ANEW)
        for kind in (
            "loss that closes over a variable",
            "loss that closes over a variable, many epochs",
            "loss that closes over what is derived of a variable",
        )
    },
    **{
        ("tensorflow", kind): ("refused", _TRACED_FROZEN)
        for kind in (
            "a layer is frozen, SGD",
            "a layer is frozen, shapes differ",
            "a batch normalization is frozen",
        )
    },
    ("torch", "ScheduleFreeAdamW(0.01)"): ("different", _SCHEDULE_FREE),
    ("tensorflow", "ScheduleFreeAdamW(0.01)"): ("different", _BUILT_IN_THE_STEP),
    ("tensorflow", "RandomElasticTransform(0.5, value_range=(0.0, 1.0), seed=1)"): (
        "different",
        _ONE_FIELD_PER_BATCH,
    ),
    ("tensorflow", "AugMix(value_range=(0.0, 1.0), seed=1)"): ("different", _DRAWN_IN_PYTHON),
    ("tensorflow", "freeze between fits"): ("different", _COMPILED_ONCE),
    ("tensorflow", "loss that closes over a variable, many epochs"): ("refused", _NAN),
    **{
        ("torch", kind): ("refused", _NAN)
        for kind in (
            "CTC",
            "loss of a number in Python, by batch",
            "loss that closes over a variable, many epochs",
            "metric function that counts",
        )
    },
}

# Kinds that are not resumed, whatever their verdict is before.
REFUSED_TO_RESUME: Final = frozenset({("tensorflow", "AugMix(value_range=(0.0, 1.0), seed=1)")})


def is_expected(result: Result) -> bool:
    """Say whether a result is equal, or what is known of its kind."""
    if result.verdict in GOOD:
        return True
    if result.variant.startswith("resumed") and (result.backend, result.kind) in REFUSED_TO_RESUME:
        return result.verdict == "refused"
    known = EXPECTED.get((result.backend, result.kind))
    return known is not None and known[0] == result.verdict
