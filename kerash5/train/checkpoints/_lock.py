"""A lock that allows one run at a time in a folder; the system releases it after a kill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, final

from filelock import lock_descriptor

# Windows cannot open folders: there, an empty file in the folder is locked instead.
_OPENS_FOLDERS: Final = os.name == "posix"
LOCK_FILE: Final = ".lock"


@final
class FolderLock:
    """Locks a folder for this process until `release`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Lock the folder; return False if another run holds it.

        A folder on a file system without locks is treated as free.
        """
        if _OPENS_FOLDERS:
            descriptor = os.open(self._folder, os.O_RDONLY)
        else:
            descriptor = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        try:
            is_free = lock_descriptor(descriptor, blocking=False)
        except OSError:  # a file system without locks
            os.close(descriptor)
            return True
        if is_free:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return is_free

    def release(self) -> None:
        """Unlock the folder."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
