"""Read byte ranges of a file completely, or raise an error that names what is missing.

A process has one pool of descriptors, so that ten thousand files do not need ten thousand of them.
The readers interpret the bytes: see `_contiguous` and `_chunk_readers`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, FileError, explain_system_error
from kerash5.h5.reading import _batched_pread
from kerash5.h5.reading._timers import clocked
from kerash5.h5.storage._file import H5File

_MAX_DESCRIPTORS: Final = 64
_MAX_PREAD: Final = 1 << 30  # one call returns at most 2,147,479,552 bytes on Linux
_FEW: Final = 4  # ranges; so few are faster with a call each
_AT_ONCE: Final = getattr(
    os, "RWF_NOWAIT", None
)  # read only cached bytes, without waiting for a disk


@clocked("read")
def read_byte_ranges(
    file: H5File,
    path: str,
    *,
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    out: NDArray[np.uint8],
    positions: NDArray[np.int64],
) -> None:
    """Read byte ranges of a file: sizes[i] bytes at offsets[i] to out[positions[i]] and after it.

    Args:
        file: The file.
        path: The data set, for the message.
        offsets: Bytes from the start of the file, shape (n,).
        sizes: Bytes of each range, shape (n,).
        out: Output buffer, shape (bytes,), C-contiguous.
        positions: Start of each range in `out`, shape (n,); ranges do not overlap.

    Raises:
        DamagedFileError: The file ends before; the message names data set `path`.
        FileChangedError: It is not the file it was.
    """
    descriptor = _DESCRIPTORS.get(file)
    left = np.arange(len(offsets))
    if len(offsets) > _FEW and int(sizes.max()) <= _batched_pread.MOST_BYTES:
        if descriptor.tells_what_is_cached:
            left = descriptor.gather(offsets, sizes, out, positions, at_once=True)
        if len(left):
            descriptor.announce(zip(offsets[left].tolist(), sizes[left].tolist(), strict=True))
            left = left[descriptor.gather(offsets[left], sizes[left], out, positions[left])]
    # Ranges that were not read completely are read here, or raise an error.
    memory = out.data
    for number in left.tolist():
        place, size = int(positions[number]), int(sizes[number])
        _read(descriptor, file, path, int(offsets[number]), memory[place : place + size])


def read_in_turn(
    file: H5File, path: str, runs: Sequence[tuple[int, int]], out: NDArray[np.uint8]
) -> Iterator[None]:
    """Read byte ranges of a file to the front of one array, each when the caller continues.

    Each range is still in the processor's cache while the caller processes it.

    Args:
        file: The file.
        path: The data set, for the message.
        runs: Offset in the file and number of bytes of each range.
        out: Output buffer, shape (bytes,), C-contiguous, as large as the largest range.

    Raises:
        DamagedFileError: The file ends before; the message names data set `path`.
        FileChangedError: It is not the file it was.
    """
    descriptor, memory, is_cold = _DESCRIPTORS.get(file), out.data, False
    for number, (offset, size) in enumerate(runs):
        done = 0 if is_cold else descriptor.read_at_once(offset, memory[:size])
        if done < size:
            if not is_cold:
                descriptor.announce(runs[number:])
                is_cold = True
            _read(descriptor, file, path, offset + done, memory[done:size])
        yield


@clocked("read")
def _read(descriptor: _Descriptor, file: H5File, path: str, offset: int, place: memoryview) -> None:
    # pread, not seek + read, because threads share the descriptor. A loop, because one call may
    # return less than requested.
    while place:
        try:
            count = os.preadv(descriptor.number, [place[:_MAX_PREAD]], offset)
        except OSError as error:
            raise _explain(error, f"{path!r} in {file.path!r}") from error
        if count == 0:
            file.check_unchanged()
            raise DamagedFileError(
                f"{path!r} in {file.path!r} ends at byte {offset}, {len(place)} bytes early; the "
                "file is cut short: copy or download it again"
            )
        place = place[count:]
        offset += count


def _explain(error: OSError, what: str) -> FileError:
    return explain_system_error(error, what) or FileError(
        f"{what} cannot be read ({error.strerror}); see whether the file can be copied"
    )


class _Descriptor:
    """A file descriptor that is closed when its last user has released it."""

    def __init__(self, file: H5File) -> None:
        file.check_unchanged()
        try:
            self.number = os.open(file.place, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise _explain(error, repr(file.path)) from error
        # Checked again, because the file may have been replaced between the two calls.
        if not file.identity.is_of(os.fstat(self.number)):
            file.check_unchanged()
        self.tells_what_is_cached = _AT_ONCE is not None  # set to False at the first failure
        self.read_at_once(0, memoryview(bytearray(1)))

    @clocked("read")
    def read_at_once(self, offset: int, place: memoryview) -> int:
        """Read the bytes that are in the page cache; return how many, from the first on."""
        if not self.tells_what_is_cached:
            return 0
        try:
            return os.preadv(self.number, [place[:_MAX_PREAD]], offset, _AT_ONCE or 0)
        except BlockingIOError:
            return 0
        except OSError:  # not supported by this file system or kernel
            self.tells_what_is_cached = False
            return 0

    def gather(
        self,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        out: NDArray[np.uint8],
        positions: NDArray[np.int64],
        *,
        at_once: bool = False,
    ) -> NDArray[np.int64]:
        """Read byte ranges with few calls; return the indices of those not read completely."""
        flags = (_AT_ONCE or 0) if at_once else 0
        return _batched_pread.gather(self.number, offsets, sizes, out, positions, flags=flags)

    def announce(self, runs: Iterable[tuple[int, int]]) -> None:
        """Announce byte ranges to the kernel, so that a disk reads all of them concurrently.

        Measured: scattered rows of 9 kB are read 4 to 8 times as fast from a file that is not
        cached, and a fifth slower from a cached one. So only uncached ranges are announced.
        """
        if hasattr(os, "posix_fadvise"):
            for offset, size in runs:
                os.posix_fadvise(self.number, offset, size, os.POSIX_FADV_WILLNEED)

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
        """Return a descriptor; it stays open as long as the caller has a reference to it."""
        with self._lock:
            descriptor = self._open.pop(file, None) or _Descriptor(file)
            self._open[file] = descriptor
            while len(self._open) > _MAX_DESCRIPTORS:
                self._open.popitem(last=False)
            return descriptor

    def forget(self) -> None:
        """Create a new lock in a forked child, where a lock of another thread is never released."""
        self._lock = threading.Lock()


_DESCRIPTORS: Final = _DescriptorPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_DESCRIPTORS.forget)
