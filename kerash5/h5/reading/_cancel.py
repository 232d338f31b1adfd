"""Ending reads that nobody waits for any more, between one chunk and the next.

A thread that reads ahead obeys an event; whoever waits for it sets that event, on Ctrl-C or when an
epoch is left in its middle, and the thread is free within one chunk instead of one batch. Threads
that obey none, such as the one that trains, are never stopped.
"""

from __future__ import annotations

import threading
from typing import Final

_THIS_THREAD: Final = threading.local()


class ReadingStopped(BaseException):
    """Ends a read whose result nobody will take."""


def obey(stop: threading.Event) -> None:
    """Let reads of this thread end once `stop` is set."""
    _THIS_THREAD.stop = stop


def check_stop() -> None:
    """Raise `ReadingStopped` if this thread shall read no more. Called between chunks."""
    stop: threading.Event | None = getattr(_THIS_THREAD, "stop", None)
    if stop is not None and stop.is_set():
        raise ReadingStopped
