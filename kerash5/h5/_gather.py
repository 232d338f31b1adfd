"""Many places of one file with one system call: a batch of rows read as fast as the kernel copies.

A `pread` per row costs Python several microseconds a row, and two threads that want the GIL back
256 times a batch stand in each other's way. Linux takes a whole list of reads at once (`io_submit`,
its native asynchronous I/O, which on ordinary files is done when the call returns), without the
GIL. Nothing is mapped, so a file that is cut short is a short read here and no SIGBUS, and what was
read counts once in memory. Where the call is missing or forbidden, everything is left unread, and
the caller reads with `pread`. Nothing here knows about rows or data sets: see `_parallel`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_BYTES: Final = 1 << 30  # of one place; Linux reads at most 2,147,479,552 bytes at a time

# io_setup, io_destroy, io_submit, io_getevents: arch/*/syscall*.tbl and asm-generic/unistd.h
_NUMBERS: Final = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}
_MOST_READS: Final = 256  # at a time; all contexts of a machine share fs.aio-max-nr (65,536)
_IOCB: Final = np.dtype(  # struct iocb of linux/aio_abi.h, little-endian; its operation 0 is pread
    [
        ("data", "u8"),
        ("key", "u4"),
        ("rw_flags", "u4"),
        ("operation", "u2"),
        ("priority", "i2"),
        ("descriptor", "u4"),
        ("buffer", "u8"),
        ("num_bytes", "u8"),
        ("offset", "i8"),
        ("reserved", "u8"),
        ("flags", "u4"),
        ("result_descriptor", "u4"),
    ]
)
_EVENT: Final = np.dtype([("data", "u8"), ("object", "u8"), ("result", "i8"), ("result2", "i8")])


def gather(
    descriptor: int,
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    out: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Read bytes from many places of a file to many places of an array.

    Args:
        descriptor: The file, open for reading.
        offsets: Where each run of bytes lies in the file, shape (n,).
        sizes: Bytes of each run, shape (n,), at most `MOST_BYTES`.
        out: Shape (bytes,), C-contiguous.
        places: Where each run goes in `out`, shape (n,); they do not overlap.

    Returns:
        The runs that were not read, or not to their end: ascending numbers. All of them, where the
        operating system does not do this.
    """
    _check_places(sizes, out, places)
    found = np.full(len(offsets), -1, np.int64)
    context = _borrow()
    if context is None:
        return np.arange(len(offsets))
    try:
        address = out.ctypes.data
        for start in range(0, len(offsets), _MOST_READS):
            part = slice(start, start + _MOST_READS)
            requests = np.zeros(len(offsets[part]), _IOCB)
            requests["data"] = np.arange(len(requests))
            requests["descriptor"] = descriptor
            requests["buffer"] = address + places[part]
            requests["num_bytes"] = sizes[part]
            requests["offset"] = offsets[part]
            context.read(requests, found[part])
    except BaseException:
        context.destroy()  # waits for what is under way: nobody writes to `out` after this
        raise
    _FREE.append(context)
    return np.flatnonzero(found != sizes)


def _check_places(
    sizes: NDArray[np.int64], out: NDArray[np.uint8], places: NDArray[np.int64]
) -> None:
    # The kernel believes addresses. A wrong one would overwrite what is not ours.
    is_sound = len(sizes) == 0 or (
        int(sizes.min()) >= 0
        and int(places.min()) >= 0
        and int((places + sizes).max()) <= out.size
        and int(sizes.max()) <= MOST_BYTES
    )
    if not is_sound or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError("a run of bytes lies outside its array")


class _Context:
    """A queue of reads of the kernel's; used by one thread at a time."""

    def __init__(self) -> None:
        self._number = ctypes.c_ulong(0)
        self._events = np.zeros(_MOST_READS, _EVENT)
        if _call(0, _MOST_READS, ctypes.byref(self._number)) != 0:
            raise OSError(ctypes.get_errno(), "io_setup")

    def read(self, requests: np.ndarray, found: NDArray[np.int64]) -> None:
        """Do all requests; `found` becomes the bytes each has read, or stays as it was."""
        pointers = requests.ctypes.data + np.arange(len(requests)) * _IOCB.itemsize
        submitted = 0
        while submitted < len(requests):
            # Less than asked for where a request is bad; the rest is left to the caller.
            count = _call(2, self._number, len(requests) - submitted, pointers[submitted:])
            if count <= 0:
                break
            submitted += count
        while submitted:
            count = _call(3, self._number, submitted, submitted, self._events, None)
            if count < 0 and ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), "io_getevents")
            events = self._events[: max(count, 0)]
            found[events["data"].astype(np.int64)] = events["result"]
            submitted -= len(events)

    def destroy(self) -> None:
        """Wait for all reads, and give the queue back to the kernel."""
        _call(1, self._number)


_FREE: Final[list[_Context]] = []  # append and pop are one step each, so there is no lock


class _Kernel:
    """Whether this system reads many places at once; found out by trying, once."""

    def __init__(self) -> None:
        self.numbers = _NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
        if struct.calcsize("P") != 8 or sys.byteorder != "little":
            self.numbers = None
        self.call = None if self.numbers is None else ctypes.CDLL(None, use_errno=True).syscall
        if self.call is not None:
            self.call.restype = ctypes.c_long


_KERNEL: Final = _Kernel()


def _call(which: int, *arguments: object) -> int:
    """Make one of the four system calls, without the GIL; -1 where it fails."""
    numbers, call = _KERNEL.numbers, _KERNEL.call
    if numbers is None or call is None:
        return -1
    found: int = call(ctypes.c_long(numbers[which]), *map(_as_argument, arguments))
    return found


def _as_argument(value: object) -> object:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_long(value) if isinstance(value, int) else value


def _borrow() -> _Context | None:
    """Return a queue that nobody uses; None where there are none."""
    with suppress(IndexError):
        return _FREE.pop()
    if _KERNEL.numbers is None:
        return None
    try:
        return _Context()
    except OSError:  # forbidden, not built in, or the machine has given all its queues away
        _KERNEL.numbers = None
        return None


# A queue belongs to the process that made it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FREE.clear)
