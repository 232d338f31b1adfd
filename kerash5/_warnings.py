"""Warnings that name the line of the user, not one of kerash5 or of what calls kerash5 for them."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Final

_FOLDER: Final = str(Path(__file__).parent) + os.sep
# Between the user's line and ours: Keras' loops, and what runs functions of others.
_BETWEEN: Final = frozenset(
    {"keras", "tensorflow", "torch", "jax", "grain", "concurrent", "contextlib", "threading"}
)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, as from the innermost line that is the user's.

    In a thread that has none, such as a reading thread, warn as from the caller.

    Args:
        message: The warning.
        category: Its class.
    """
    caller = sys._getframe(1)  # noqa: SLF001  as `inspect.currentframe`, which may be None
    frame = _find_user(caller) or caller
    names = frame.f_globals
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=names.get("__name__", "<unknown>"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _find_user(frame: FrameType | None) -> FrameType | None:
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if not frame.f_code.co_filename.startswith(_FOLDER) and package not in _BETWEEN:
            return frame
        frame = frame.f_back
    return None
