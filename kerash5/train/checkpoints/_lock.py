"""One run at a time in a folder. The lock is the system's: a process that is killed holds none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

try:
    import fcntl
except ImportError:  # Windows: two runs there must be told apart by their user
    fcntl = None  # type: ignore[assignment]


@final
class FolderLock:
    """Holds a folder for this process until `release`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the folder; say whether it was free."""
        if fcntl is None:
            return True
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:  # a file system without locks
            os.close(descriptor)
            return True
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go of the folder."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
