"""Cancel reads whose result is no longer needed, between two chunks.

A thread that reads ahead checks an event. The thread that waits for it sets the event, on Ctrl-C or
when an epoch is left early, and the read ends within one chunk instead of one batch. Threads
without an event, such as the training thread, are never stopped.
"""

from __future__ import annotations

import threading
from typing import Final

_THIS_THREAD: Final = threading.local()


class ReadingStopped(BaseException):
    """Raised to end a read whose result is not needed."""


def obey(stop: threading.Event) -> None:
    """Make reads of this thread end once `stop` is set."""
    _THIS_THREAD.stop = stop


def check_stop() -> None:
    """Raise `ReadingStopped` if the event of this thread is set. Called between chunks."""
    stop: threading.Event | None = getattr(_THIS_THREAD, "stop", None)
    if stop is not None and stop.is_set():
        raise ReadingStopped
