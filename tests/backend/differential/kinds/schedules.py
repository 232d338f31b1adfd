"""Every learning-rate schedule under two optimizers, and schedules of a user's own."""

from typing import Any, Final

import keras
from keras import ops

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.optimizers import ADAM, trained_by
from tests.backend.differential.models import optimizers, own, schedules

SCHEDULES: Final = (
    schedules.ExponentialDecay(0.05, 3, 0.5),
    schedules.ExponentialDecay(0.05, 3, 0.5, staircase=True),
    schedules.PolynomialDecay(0.05, 10, 0.001),
    schedules.PolynomialDecay(0.05, 4, 0.001, cycle=True, power=2.0),
    schedules.InverseTimeDecay(0.05, 3, 0.5),
    schedules.InverseTimeDecay(0.05, 3, 0.5, staircase=True),
    schedules.CosineDecay(0.05, 10),
    schedules.CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=4),
    schedules.CosineDecayRestarts(0.05, 4),
    schedules.CosineDecayRestarts(0.05, 3, t_mul=1.5, m_mul=0.7, alpha=0.1),
)
PIECEWISE: Final = schedules.PiecewiseConstantDecay([4, 9], [0.05, 0.01, 0.1])
ADDS_UP: Final = "the learning rate adds up from step to step"


class InverseRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a user's own, in operations of Keras."""

    def __call__(self, step: Any) -> Any:
        return 0.05 / ops.sqrt(1.0 + ops.cast(step, "float32"))


class TwoRates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a user's own that chooses by value."""

    def __call__(self, step: Any) -> Any:
        return ops.where(step < 7, 0.1, 0.01)


class Looked(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a user's own that looks rates up."""

    def __call__(self, step: Any) -> Any:
        rates = ops.convert_to_tensor([0.1, 0.05, 0.02, 0.01])
        return ops.take(rates, ops.minimum(ops.cast(step, "int32") // 5, 3))


class IfInPython(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a user's own that decides in Python."""

    def __call__(self, step: Any) -> Any:
        return 0.1 if step < 7 else 0.01


KINDS: Final = (
    *(
        Kind(f"SGD({each})", trained_by(optimizers.SGD(each, momentum=0.9)))
        for each in (*SCHEDULES, schedules.PiecewiseConstantDecay([7], [0.05, 0.01]))
    ),
    *(Kind(f"Adam({each})", trained_by(optimizers.Adam(each)), **ADAM) for each in SCHEDULES),
    Kind(
        f"SGD({PIECEWISE})", trained_by(optimizers.SGD(PIECEWISE)), fault=ADDS_UP, is_default=True
    ),
    Kind(f"Adam({PIECEWISE})", trained_by(optimizers.Adam(PIECEWISE)), fault=ADDS_UP, **ADAM),
    Kind("Nadam with a schedule", trained_by(optimizers.Nadam(SCHEDULES[0]))),
    Kind(
        "schedule and accumulation",
        trained_by(optimizers.SGD(SCHEDULES[0], gradient_accumulation_steps=2)),
    ),
    Kind("own schedule", trained_by(optimizers.SGD(own(InverseRoot)))),
    Kind("own schedule that chooses", trained_by(optimizers.SGD(own(TwoRates)))),
    Kind("own schedule of a table", trained_by(optimizers.SGD(own(Looked)))),
    Kind(
        "own schedule that decides in Python",
        trained_by(optimizers.SGD(own(IfInPython))),
        backends=("torch",),
        fault="a decision in Python is frozen",
        is_default=True,
    ),
)
