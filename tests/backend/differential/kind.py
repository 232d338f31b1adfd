"""A kind of model and of training, and the ways in which the trainer can be asked to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import keras

from tests.backend.differential.rows import BATCH_SIZE, Columns

BACKENDS: Final = ("jax", "tensorflow", "torch")
Fit = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A model, its data, and what happens while it is trained.

    Args:
        name: Unique; what is special about it.
        build: Returns a new compiled model; the same one under the same seed.
        x: Columns of the inputs.
        y: Columns of the targets.
        sample_weight: Column of the weights.
        epochs: Of training.
        callbacks: Returns new callbacks.
        fit_options: For `Model.fit` and `Trainer.fit` alike, such as `class_weight`.
        trainer_options: For the trainer alone.
        transform: Of the data set, from the columns of a batch; for `fit`, of all rows at once.
        is_validated: Whether the last rows are left for validation.
        drive: Runs several fits instead of one: called with the model and a function that fits it
            for a number of epochs, either by `fit` or by the trainer.
        backends: Where it is run.
        tolerance: Relative difference that counts as rounding.
        batch_size: Rows in a batch.
        why_not_resumed: Why a fit that was stopped cannot go on bit for bit; "" if it must.
        is_baked: Whether it changes Python that JAX and TensorFlow read once, while they compile a
            step: a fit that is resumed compiles anew there, and reads what it is then.
        fault: A silent fault that was seen, which this kind stands for.
        is_default: Whether each push runs it; all others are run by `nox -s differential`.
    """

    name: str
    build: Callable[[], keras.Model]
    x: Columns = "vector"
    y: Columns = "label"
    sample_weight: str | None = None
    epochs: int = 3
    callbacks: Callable[[], Sequence[keras.callbacks.Callback]] = tuple
    fit_options: Mapping[str, Any] = field(default_factory=dict)
    trainer_options: Mapping[str, Any] = field(default_factory=dict)
    transform: Callable[..., Any] | None = None
    is_validated: bool = False
    drive: Callable[[keras.Model, Fit], None] | None = None
    backends: tuple[str, ...] = BACKENDS
    tolerance: float = 5e-5
    batch_size: int = BATCH_SIZE
    why_not_resumed: str = ""
    is_baked: bool = False
    fault: str = ""
    is_default: bool = False

    @property
    def is_resumable(self) -> bool:
        """Whether a fit that was stopped must go on bit for bit."""
        is_read_anew = not self.is_baked or keras.backend.backend() == "torch"
        return not self.why_not_resumed and self.drive is None and is_read_anew


@dataclass(frozen=True, slots=True)
class Variant:
    """How the trainer is asked to run the steps."""

    steps: int | Literal["auto"]
    device_cache: int | Literal["auto"]

    def __str__(self) -> str:
        return f"steps={self.steps}, cache={self.device_cache}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of the trainer."""
        return {"steps_per_dispatch": self.steps, "device_cache": self.device_cache}


VARIANTS: Final = (
    Variant(4, "auto"),
    Variant("auto", 0),
    Variant(1, "auto"),
    Variant("auto", "auto"),
    Variant(4, 0),
    Variant(1, 0),
)
