"""Many places of one file with one system call: a batch of rows read as fast as the kernel copies.

A `pread` per row costs Python several microseconds a row, and two threads that want the GIL back
256 times a batch stand in each other's way. Linux takes a whole list of reads at once (`io_submit`,
its native asynchronous I/O, which on ordinary files is done when the call returns), without the
GIL. Nothing is mapped, so a file that is cut short is a short read here and no SIGBUS, and what was
read counts once in memory. Where the call is missing or forbidden, everything is left unread, and
the caller reads with `pread`. Nothing here knows about rows or data sets: see `_contiguous`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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
_EVENT: Final = np.dtype([("data", "i8"), ("object", "u8"), ("result", "i8"), ("result2", "i8")])


def gather(
    descriptor: int,
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    out: NDArray[np.uint8],
    places: NDArray[np.int64],
    *,
    flags: int = 0,
) -> NDArray[np.int64]:
    """Read bytes from many places of a file to many places of an array.

    Args:
        descriptor: The file, open for reading.
        offsets: Where each run of bytes lies in the file, shape (n,).
        sizes: Bytes of each run, shape (n,), at most `MOST_BYTES`.
        out: Shape (bytes,), C-contiguous.
        places: Where each run goes in `out`, shape (n,); they do not overlap.
        flags: Of preadv2, such as `os.RWF_NOWAIT`.

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
        addresses = places + _address(out)
        for start in range(0, len(offsets), _MOST_READS):
            part = slice(start, start + _MOST_READS)
            context.prepare(descriptor, offsets[part], sizes[part], addresses[part], flags)
            context.read(found[part])
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
        np.minimum.reduce(sizes) >= 0
        and np.minimum.reduce(places) >= 0
        and np.maximum.reduce(places + sizes) <= out.size
        and np.maximum.reduce(sizes) <= MOST_BYTES
    )
    if not is_sound or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError("a run of bytes lies outside its array")


def _address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


class _Context:
    """A queue of reads of the kernel's, and their descriptions; used by one thread at a time."""

    def __init__(self) -> None:
        self._number = ctypes.c_ulong(0)
        if _KERNEL.setup(_MOST_READS, ctypes.byref(self._number)) != 0:
            raise OSError(ctypes.get_errno(), "io_setup")
        requests = np.zeros(_MOST_READS, _IOCB)
        requests["data"] = np.arange(_MOST_READS)
        # Looking a field up costs as much as filling it.
        self._descriptors, self._buffers = requests["descriptor"], requests["buffer"]
        self._sizes, self._offsets = requests["num_bytes"], requests["offset"]
        self._flags = requests["rw_flags"]
        self._pointers = np.arange(_MOST_READS) * _IOCB.itemsize + requests.ctypes.data
        self._pointers_at = _address(self._pointers)
        self._events = np.zeros(_MOST_READS, _EVENT)
        self._events_at = self._events.ctypes.data
        self._numbers, self._results = self._events["data"], self._events["result"]

    def prepare(
        self,
        descriptor: int,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        addresses: NDArray[np.int64],
        flags: int,
    ) -> None:
        """Describe what is read next: sizes[i] bytes from offsets[i] on to addresses[i]."""
        count = len(offsets)
        self._descriptors[:count] = descriptor
        self._flags[:count] = flags
        self._buffers[:count] = addresses
        self._sizes[:count] = sizes
        self._offsets[:count] = offsets

    def read(self, found: NDArray[np.int64]) -> None:
        """Do all reads; `found` becomes the bytes each has read, or an error's negative number.

        Where a read is not even begun, its number stays as it was.
        """
        count = len(found)
        submitted = 0
        while submitted < count:
            # Less than asked for where a request is bad; the rest is left to the caller.
            pointers = self._pointers_at + submitted * self._pointers.itemsize
            taken = _KERNEL.submit(self._number, count - submitted, pointers)
            if taken <= 0:
                break
            submitted += taken
        # Nearly always all is there, and the GIL need not be let go and waited for to see it.
        left = submitted - self._take_events(_KERNEL.look, 0, submitted, found)
        while left:
            left -= self._take_events(_KERNEL.wait, left, left, found)

    def _take_events(
        self, ask: Callable[..., int], fewest: int, most: int, found: NDArray[np.int64]
    ) -> int:
        count = ask(self._number, fewest, most, self._events_at, None)
        if count < 0 and ctypes.get_errno() != errno.EINTR:
            raise OSError(ctypes.get_errno(), "io_getevents")
        count = max(count, 0)
        found[self._numbers[:count]] = self._results[:count]
        return count

    def destroy(self) -> None:
        """Wait for all reads, and give the queue back to the kernel."""
        _KERNEL.destroy(self._number)


_FREE: Final[list[_Context]] = []  # append and pop are one step each, so there is no lock


class _Kernel:
    """The system calls, and whether this system has them; found out by trying, once."""

    def __init__(self) -> None:
        self.numbers = _NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
        if struct.calcsize("P") != 8 or sys.byteorder != "little":
            self.numbers = None
        if self.numbers is None:
            return
        setup, destroy, submit, getevents = self.numbers
        number, size, place = ctypes.c_ulong, ctypes.c_long, ctypes.c_void_p
        library = ctypes.CDLL(None, use_errno=True)
        self.setup = _system_call(library, setup, size, place)
        self.destroy = _system_call(library, destroy, number)
        self.submit = _system_call(library, submit, number, size, place)
        self.wait = _system_call(library, getevents, number, size, size, place, place)
        # The same, for when it returns at once: this one keeps the GIL.
        library = ctypes.PyDLL(None, use_errno=True)
        self.look = _system_call(library, getevents, number, size, size, place, place)


def _system_call(library: ctypes.CDLL, number: int, *types: type) -> Callable[..., int]:
    """Return a system call; it gives -1 where it fails, and leaves its errno."""
    call = library["syscall"]  # a new function each time it is asked for, with types of its own
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long, *types]
    return partial(call, number)


_KERNEL: Final = _Kernel()


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
