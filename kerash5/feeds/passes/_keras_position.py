"""Finds the state of Keras' loop: the epoch, and whether it trains, evaluates or predicts.

Keras does not pass either to a data set. Its hooks are called early, and more often than once per
epoch (how often depends on the backend and on whether the model is built). `fit` shuffles the batch
numbers it requests, and `evaluate` makes the same calls as `fit`. So the state is read from the
local variables of the frames on the stack. Nothing is changed there, and every result may be None:
`H5Dataset` then serves the batch numbers that Keras requests, which is still every row once per
epoch.

Names as in Keras 3.13 to 3.16: `fit(..., initial_epoch)` with `epoch`, `evaluate`, `predict`;
`PyDatasetAdapter._finite_generator` with `indices`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Final, Literal

Task = Literal["fit", "evaluate", "predict"]

_TASKS: Final[tuple[Task, ...]] = ("fit", "evaluate", "predict")
_GENERATOR: Final = "_finite_generator"
_MAX_FRAMES: Final = 60  # about ten frames lie between Keras' loop and the hook of its data set


@dataclass(frozen=True, slots=True)
class Position:
    """The task of Keras' loop, and its epoch (0 except in `fit`)."""

    task: Task
    epoch: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of Keras: its task, its arguments, and some of `fit` or `evaluate`.

    None stands for an argument that was not given or cannot be found.
    """

    task: Task
    position: Position | None
    is_begun: bool  # False while `fit` builds the model, before its first epoch
    model: Any
    data: Any
    validation_data: Any = None
    class_weight: Any = None
    steps: Any = None  # of `evaluate`, of which `fit` has validation_steps


def calling_frame() -> FrameType | None:
    """Return the frame of the caller's caller; None if this Python has no frames."""
    here = inspect.currentframe()
    asking = here.f_back if here is not None else None
    return asking.f_back if asking is not None else None


def find_position(loop: Loop | None) -> Position | None:
    """Return the position of a loop of `find_loop`; None if it cannot be found."""
    return None if loop is None else loop.position


def find_loop() -> Loop | None:
    """Return the innermost Keras loop around the caller; None if no known loop is found."""
    found = _find_frame()
    if found is None:
        return None
    task, frame = found
    given = frame.f_locals
    names = ("self", "x", "validation_data", "class_weight")
    arguments = map(given.get, names if task == "fit" else names[:2])
    is_begun = task != "fit" or "epoch" in given
    loop = Loop(task, _read_position(task, frame), is_begun, *arguments)
    return replace(loop, steps=given.get("steps"))


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
    """Return the batch numbers that an epoch of Keras will request, in its order.

    None if `frame` is not the frame that requests them. The sequence belongs to one pass over the
    data, so that it also identifies the pass.
    """
    if frame is None or frame.f_code.co_name != _GENERATOR or not is_keras_frame(frame):
        return None
    indices = frame.f_locals.get("indices")
    return indices if isinstance(indices, list | range) else None


def is_keras_frame(frame: FrameType | None) -> bool:
    """Return whether this frame is Keras' own code, not a user's."""
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith("keras.")


def _read_position(task: Task, frame: FrameType) -> Position | None:
    if task != "fit":
        return Position(task, 0)
    # Before its first epoch `fit` builds the model on a batch; `epoch` does not exist yet.
    epoch = frame.f_locals.get("epoch", frame.f_locals.get("initial_epoch"))
    return Position("fit", int(epoch)) if isinstance(epoch, int) else None
