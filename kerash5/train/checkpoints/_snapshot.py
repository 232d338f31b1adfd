"""Captures the state of a fit between two steps as a checkpoint, and restores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import keras
import numpy as np

from kerash5._errors import RunError
from kerash5._run import Epoch
from kerash5.train.checkpoints._checkpoint import Checkpoint
from kerash5.train.checkpoints._fingerprint import (
    changes_of_content,
    compare_fits,
    name_differences,
)
from kerash5.train.loop._position import Position
from kerash5.train.state._random_state import capture_random, restore_random
from kerash5.train.state._state import (
    GROUPS,
    WEIGHTS,
    ModelState,
    capture_callbacks,
    restore_callbacks,
)

Callbacks = Sequence[keras.callbacks.Callback]
# If these differ, the batches of an epoch differ: it cannot be continued in its middle.
_BATCHES: Final = ("data", "steps_per_epoch", "is_overfitting")


@final
@dataclass(frozen=True, slots=True)
class Counters:
    """The state of a fit outside its variables.

    Args:
        epochs: The epochs that have ended.
        best_epoch: The best of them; None before the first.
        seconds: Duration of the whole run.
        callbacks: Counters of callbacks, and the weights they store.
        learning_rate: The current learning rate; None if a schedule sets it.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int | None
    seconds: float
    callbacks: tuple[Mapping[str, Any], Mapping[str, np.ndarray]]
    learning_rate: np.ndarray | None


def read_counters(
    model: keras.Model,
    callbacks: Callbacks,
    *,
    epochs: tuple[Epoch, ...],
    best_epoch: int | None,
    seconds: float,
) -> Counters:
    """Return the state of a fit outside its variables."""
    number = _learning_rate_number(model)
    rate = None
    if number is not None:
        rate = np.array(keras.ops.convert_to_numpy(model.optimizer.variables[number]))
    return Counters(epochs, best_epoch, seconds, capture_callbacks(callbacks), rate)


def take_snapshot(
    current: ModelState,
    position: Position,
    counted: Counters,
    files: Mapping[str, Path],
    **state: object,
) -> Checkpoint:
    """Return the state of a fit as a checkpoint. The variables must be current.

    Args:
        current: The model, with its optimizer and metrics.
        position: The position of the fit.
        counted: The state outside its variables.
        files: Files that belong to the checkpoint, by name.
        **state: Further JSON values.
    """
    arrays = current.capture()
    number = _learning_rate_number(current.model)
    if number is not None and counted.learning_rate is not None:
        arrays[f"optimizer/{number:05}"] = counted.learning_rate
    random, random_arrays = capture_random()
    callbacks, callback_arrays = counted.callbacks
    python, python_arrays = current.python.capture()
    return Checkpoint(
        {**arrays, **callback_arrays, **random_arrays, **python_arrays},
        {
            "position": asdict(position),
            "epochs": [asdict(epoch) for epoch in counted.epochs],
            "best_epoch": counted.best_epoch,
            "seconds": counted.seconds,
            "callbacks": callbacks,
            "random": random,
            "optimizers": current.optimizers(),
            "python": python,
            **state,
        },
        files,
    )


def restore_snapshot(
    current: ModelState, callbacks: Callbacks, checkpoint: Checkpoint
) -> list[str]:
    """Restore model, callbacks and random generators from a checkpoint.

    Returns:
        Names of callbacks with state that are missing in the checkpoint, and of Python state of the
        steps that no longer exists.

    Raises:
        RunError: The variables do not fit.
    """
    current.build_optimizers(checkpoint.state.get("optimizers", {}))
    current.restore(checkpoint.arrays)
    unknown = restore_callbacks(callbacks, checkpoint.state["callbacks"], checkpoint.arrays)
    restore_random(checkpoint.state["random"], checkpoint.arrays)
    return unknown + current.python.restore(checkpoint.state.get("python", {}), checkpoint.arrays)


def restore_partial(current: ModelState, callbacks: Callbacks, checkpoint: Checkpoint) -> list[str]:
    """Restore like `restore_snapshot`, but skip variables that do not fit, except weights.

    Returns:
        The groups of variables that were not restored.
    """
    current.build_optimizers(checkpoint.state.get("optimizers", {}))
    left = []
    for group in GROUPS:
        try:
            current.restore(checkpoint.arrays, groups=(group,))
        except RunError:
            if group == WEIGHTS:
                raise
            left.append(group)
    restore_callbacks(callbacks, checkpoint.state["callbacks"], checkpoint.arrays)
    return left + current.python.restore(checkpoint.state.get("python", {}), checkpoint.arrays)


def check_weights(current: ModelState, checkpoint: Checkpoint) -> None:
    """Raise `RunError` if a checkpoint's weights do not fit this model."""
    current.check(checkpoint.arrays, groups=(WEIGHTS,))


def compare(checkpoint: Checkpoint, now: Mapping[str, Any], *, is_forced: bool) -> list[str]:
    """Return descriptions of how the fit of a checkpoint differs from the current one.

    Raises:
        RunError: It differs, and `is_forced` is not set.
    """
    found = compare_fits(checkpoint.state["fingerprint"], now)
    if found and not is_forced:
        cure = "give it the same data and model"
        raise other_fit(str(checkpoint.path), name_differences(found), cure)
    return found


def other_fit(path: str, found: str, cure: str) -> RunError:
    """Return the error for a checkpoint that belongs to another fit."""
    return RunError(
        f"the checkpoint {path!r} belongs to another fit: {found}; {cure}, begin anew with "
        "resume=None, or go on all the same with resume='force'"
    )


def position_of(checkpoint: Checkpoint, now: Mapping[str, Any]) -> Position:
    """Return where to continue: in the middle of the epoch only if its batches are the same."""
    position = Position(**checkpoint.state["position"])
    then = checkpoint.state["fingerprint"]
    if any(then.get(key) != now.get(key) for key in _BATCHES) or changes_of_content(then, now):
        return Position(position.epoch)
    return position


def epochs_of(checkpoint: Checkpoint) -> tuple[Epoch, ...]:
    """Return the epochs that had ended at the checkpoint."""
    return tuple(Epoch(**epoch) for epoch in checkpoint.state["epochs"])


def _learning_rate_number(model: keras.Model) -> int | None:
    """Return the index of the learning rate among the optimizer's variables."""
    optimizer = model.optimizer
    names = [] if optimizer is None else [variable.name for variable in optimizer.variables]
    return names.index("learning_rate") if "learning_rate" in names else None
