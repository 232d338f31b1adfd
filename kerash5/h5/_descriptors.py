"""Reading bytes of a file at given places: all of them, or an error that says what is missing.

One pool of descriptors per process serves, so that ten thousand files need no ten thousand of them.
What the bytes mean is for readers to know: see `_parallel` and `_chunked`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError
from kerash5.h5 import _gather
from kerash5.h5._clock import clocked
from kerash5.h5._file import FileIdentity, H5File

_MAX_DESCRIPTORS: Final = 64
_MAX_PREAD: Final = 1 << 30  # one call returns at most 2,147,479,552 bytes on Linux
_FEW: Final = 4  # runs that are not worth a list of them
# A run this slow came from a disk and not from memory; the next ones are then asked for ahead.
_SLOW_SECONDS: Final = 20e-6
_SLOW_BYTES_PER_SECOND: Final = 1e9
_ADVISED_READS: Final = 16  # so many reads are announced before it is measured again


@clocked("read")
def read_places(
    file: H5File,
    path: str,
    *,
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    out: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> None:
    """Fill places of an array with bytes of a file: out[places[i]] on from offsets[i] on.

    Args:
        file: The file.
        path: The data set, for the message.
        offsets: Bytes from the start of the file, shape (n,).
        sizes: Bytes of each run, shape (n,).
        out: Shape (bytes,), C-contiguous.
        places: Where each run goes, shape (n,); they do not overlap.

    Raises:
        DamagedFileError: The file ends before; the message names data set `path`.
        FileChangedError: It is not the file it was.
    """
    descriptor = _DESCRIPTORS.get(file)
    unread = np.arange(len(offsets))
    if len(offsets) > _FEW and int(sizes.max()) <= _gather.MOST_BYTES:
        descriptor.announce(offsets, sizes)
        start = time.perf_counter()
        unread = _gather.gather(descriptor.number, offsets, sizes, out, places)
        descriptor.learn(time.perf_counter() - start, len(offsets), int(sizes.sum()))
    # What was not read, or not to its end: here it is read, or it is clear why not.
    memory = out.data
    for number in unread.tolist():
        place, size = int(places[number]), int(sizes[number])
        _read(descriptor, file, path, int(offsets[number]), memory[place : place + size])


def _read(descriptor: _Descriptor, file: H5File, path: str, offset: int, place: memoryview) -> None:
    # pread, not seek + read: threads share the descriptor. In a loop: one call may return less
    # than asked.
    while place:
        count = os.preadv(descriptor.number, [place[:_MAX_PREAD]], offset)
        if count == 0:
            file.check_unchanged()
            raise DamagedFileError(
                f"{path!r} in {file.path!r} ends at byte {offset}, {len(place)} bytes early; the "
                "file is cut short: copy or download it again"
            )
        place = place[count:]
        offset += count


class _Descriptor:
    """A file descriptor that closes when nobody uses it any more, not before."""

    def __init__(self, file: H5File) -> None:
        file.check_unchanged()
        self.number = os.open(file.place, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        stat = os.fstat(self.number)  # again: it may have been replaced between the two calls
        if FileIdentity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) != file.identity:
            file.check_unchanged()

        self._num_announced = 0  # reads that are still to be announced; lost updates do no harm

    def announce(self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Tell the kernel what will be read, if reading was slow: a disk then works on all of it.

        Seen to make scattered rows of 9 kB come 4 to 8 times as fast from a cold file. From memory
        they come a fifth slower, so it is not done always.
        """
        if self._num_announced <= 0 or not hasattr(os, "posix_fadvise"):
            return
        self._num_announced -= 1
        for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
            os.posix_fadvise(self.number, offset, size, os.POSIX_FADV_WILLNEED)

    def learn(self, seconds: float, num_runs: int, num_bytes: int) -> None:
        """Take note of how long a read took."""
        usual = num_runs * _SLOW_SECONDS + num_bytes / _SLOW_BYTES_PER_SECOND
        if self._num_announced <= 0 and seconds > usual:
            self._num_announced = _ADVISED_READS

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class _DescriptorPool:
    """The read-only descriptors of this process, least recently used first.

    There are at most `_MAX_DESCRIPTORS`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[H5File, _Descriptor] = OrderedDict()

    def get(self, file: H5File) -> _Descriptor:
        """Return a descriptor; it stays open as long as the caller holds it."""
        with self._lock:
            descriptor = self._open.pop(file, None) or _Descriptor(file)
            self._open[file] = descriptor
            while len(self._open) > _MAX_DESCRIPTORS:
                self._open.popitem(last=False)
            return descriptor

    def forget(self) -> None:
        """Start over in a forked child, where another thread's lock would never open."""
        self._lock = threading.Lock()


_DESCRIPTORS: Final = _DescriptorPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_DESCRIPTORS.forget)
