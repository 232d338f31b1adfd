"""The open HDF5 handles of this process: at most 128, opened on first use, closed when unused.

So ten thousand files do not need ten thousand descriptors. `H5File` describes a file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import h5py

from kerash5.h5.storage._opening import HDF5_ERRORS, open_hdf5

if TYPE_CHECKING:
    from kerash5.h5.storage._file import H5File

_MAX_OPEN: Final = 128  # half of the smallest default descriptor limit in use (256, macOS)


class HandlePool:
    """The open handles of this process, least recently used first.

    One lock is enough, because h5py itself has only one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._handles: OrderedDict[H5File, h5py.File] = OrderedDict()
        # The same files by path and by inode, to find older versions of a file.
        self._versions: dict[object, H5File] = {}
        self._users: Counter[H5File] = Counter()
        self._num_lent = 0  # nested calls of the thread that has the lock
        self._leavers: deque[tuple[H5File, ...]] = deque()

    def retain(self, files: tuple[H5File, ...]) -> None:
        with self._lock:
            self._users.update(files)

    def leave(self, files: tuple[H5File, ...]) -> None:
        """Record that a user of these files is gone; close the files that have no user left.

        The garbage collector may call this at any time, even while this thread has the lock of
        HDF5. So it never waits for a lock: the thread that has it closes the files afterwards.
        """
        self._leavers.append(files)
        self._close_unused()

    def _close_unused(self) -> None:
        while self._leavers and self._lock.acquire(blocking=False):
            try:
                if self._num_lent:  # to this thread, which closes them after reading
                    return
                self._forget_leavers()
            finally:
                self._lock.release()

    def _forget_leavers(self) -> None:
        while self._leavers:
            try:
                files = self._leavers.popleft()
            except IndexError:  # another thread was quicker
                return
            for file in files:
                self._users[file] -= 1
                if self._users[file] <= 0:
                    del self._users[file]
                    self._close_one(file)

    @contextmanager
    def lend(self, file: H5File) -> Iterator[h5py.File]:
        try:
            with self._lock:
                handle = self._handles.get(file)
                if handle is None or not handle:
                    handle = self._open(file)
                self._handles.move_to_end(file)
                self._num_lent += 1
                try:
                    yield handle
                finally:
                    self._num_lent -= 1
        finally:
            self._close_unused()

    def _open(self, file: H5File) -> h5py.File:
        """Open a file, and close the one that was not used for longest if there are too many."""
        self._handles.pop(file, None)
        self._close_older(file)
        file.check_unchanged()
        handle = self._handles[file] = open_hdf5(file.place, file.path)
        self._versions |= dict.fromkeys(_version_keys(file), file)
        while len(self._handles) > _MAX_OPEN:
            self._close_one(next(iter(self._handles)))
        return handle

    def close(self, files: Iterable[H5File] | None = None) -> None:
        with self._lock:
            for file in list(self._handles if files is None else files):
                self._close_one(file)

    def _close_one(self, file: H5File) -> None:
        if (handle := self._handles.pop(file, None)) is not None:
            for key in _version_keys(file):
                self._versions.pop(key, None)
            with suppress(*HDF5_ERRORS):  # damaged metadata; nothing was written
                handle.close()

    def _close_older(self, file: H5File) -> None:
        """Close handles of older versions of the file, whose cached metadata HDF5 would reuse."""
        for key in _version_keys(file):
            other = self._versions.get(key)
            if other is not None and other.identity != file.identity:
                self._close_one(other)

    def forget(self) -> None:
        """Reset the pool in a forked child: a thread of the parent may have had the lock."""
        self.__init__()  # type: ignore[misc]  # resets every attribute


def _version_keys(file: H5File) -> tuple[object, object]:
    """Return the two keys that identify versions of one file: its path, and its inode."""
    return file.place, (file.identity.device, file.identity.inode)


POOL: Final = HandlePool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


def close_with(user: object, files: tuple[H5File, ...]) -> None:
    """Close the handles of files once all objects registered for them here are gone.

    Args:
        user: The object that reads them.
        files: The files.
    """
    POOL.retain(files)
    weakref.finalize(user, POOL.leave, files).atexit = False


def close_files(files: Iterable[H5File] | None = None) -> None:
    """Close the HDF5 handles of this process; they reopen automatically when needed.

    Args:
        files: The files to close; None for all.
    """
    POOL.close(files)


@contextmanager
def closing_files(files: Iterable[H5File]) -> Iterator[None]:
    """Close the handles of files at the end, also after an error, so that they can be replaced."""
    try:
        yield
    finally:
        close_files(files)
