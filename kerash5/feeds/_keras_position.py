"""Where Keras is in its loop: which epoch, and whether it trains, evaluates or predicts.

Keras tells a data set neither. Its hooks fire early, and more often than there are epochs (how
often depends on the backend and on whether the model is built); `fit` shuffles the batch numbers it
asks for; `evaluate` asks just as `fit` does. So the answers are read where they are: in the
variables of the calls on the stack. Nothing is changed there, and every answer may be None:
`H5Dataset` then falls back to what Keras asks for, which still serves every row once per epoch.

Names as in Keras 3.13 to 3.16: `fit(..., initial_epoch)` with `epoch`, `evaluate`, `predict`;
`PyDatasetAdapter._finite_generator` with `indices`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Literal

Task = Literal["fit", "evaluate", "predict"]

_TASKS: Final[tuple[Task, ...]] = ("fit", "evaluate", "predict")
_GENERATOR: Final = "_finite_generator"
_MAX_FRAMES: Final = 60  # Keras' own calls between its loop and its data set's hook are about ten


@dataclass(frozen=True, slots=True)
class Position:
    """What Keras is doing, and in which epoch (0 but in `fit`)."""

    task: Task
    epoch: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of Keras: its task, what it was called with, and two arguments of `fit` alone.

    None stands for what was not given, or cannot be seen.
    """

    task: Task
    position: Position | None
    is_begun: bool  # False while `fit` builds the model, before its first epoch
    model: Any
    data: Any
    validation_data: Any = None
    class_weight: Any = None


def calling_frame() -> FrameType | None:
    """Return the call of whatever called the function that asks; None if this Python cannot say."""
    here = inspect.currentframe()
    asking = here.f_back if here is not None else None
    return asking.f_back if asking is not None else None


def find_position(loop: Loop | None) -> Position | None:
    """Return what a loop of `find_loop` is doing; None if there is none, or it cannot be seen."""
    return None if loop is None else loop.position


def find_loop() -> Loop | None:
    """Return the innermost Keras loop around the caller; None if there is none known here."""
    found = _find_frame()
    if found is None:
        return None
    task, frame = found
    given = frame.f_locals
    names = ("self", "x", "validation_data", "class_weight")
    arguments = map(given.get, names if task == "fit" else names[:2])
    is_begun = task != "fit" or "epoch" in given
    return Loop(task, _read_position(task, frame), is_begun, *arguments)


def _find_frame() -> tuple[Task, FrameType] | None:
    frame = inspect.currentframe()
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return None
        for task in _TASKS:
            if frame.f_code.co_name == task and is_keras_frame(frame):
                return task, frame
        frame = frame.f_back
    return None


def find_indices(frame: FrameType | None) -> Sequence[int] | None:
    """Return the batch numbers an epoch of Keras will ask for, in its order.

    None if `frame` is not what asks for them. The sequence belongs to that one pass over the data,
    so that it also tells two passes apart.
    """
    if frame is None or frame.f_code.co_name != _GENERATOR or not is_keras_frame(frame):
        return None
    indices = frame.f_locals.get("indices")
    return indices if isinstance(indices, list | range) else None


def is_keras_frame(frame: FrameType | None) -> bool:
    """Whether this call is Keras' own, rather than a user's."""
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith("keras.")


def _read_position(task: Task, frame: FrameType) -> Position | None:
    if task != "fit":
        return Position(task, 0)
    # Before its first epoch `fit` builds the model on a batch; `epoch` is not there yet.
    epoch = frame.f_locals.get("epoch", frame.f_locals.get("initial_epoch"))
    return Position("fit", int(epoch)) if isinstance(epoch, int) else None
