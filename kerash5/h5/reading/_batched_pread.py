"""Read many byte ranges of one file with one system call, so that a batch is read at copy speed.

A `pread` per row costs Python several microseconds a row, and two threads that acquire the GIL 256
times per batch delay each other. Linux accepts a list of reads in one call without the GIL
(`io_submit`, its native asynchronous I/O; on ordinary files the reads are complete when it
returns). Nothing is mapped, so a truncated file gives a short read here instead of a SIGBUS, and
the bytes are in memory once. If the call is missing or forbidden, nothing is read, and the caller
uses `pread`. Nothing here knows about rows or data sets: see `_contiguous`.
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

MOST_BYTES: Final = 1 << 30  # of one range; Linux reads at most 2,147,479,552 bytes at a time

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
    positions: NDArray[np.int64],
    *,
    flags: int = 0,
) -> NDArray[np.int64]:
    """Read byte ranges of a file to positions of an array.

    Args:
        descriptor: The file, open for reading.
        offsets: Offset of each range in the file, shape (n,).
        sizes: Bytes of each range, shape (n,), at most `MOST_BYTES`.
        out: Output buffer, shape (bytes,), C-contiguous.
        positions: Start of each range in `out`, shape (n,); ranges do not overlap.
        flags: Flags of preadv2, such as `os.RWF_NOWAIT`.

    Returns:
        Ascending indices of the ranges that were not read completely: all of them if the operating
        system has no such call.
    """
    _check_positions(sizes, out, positions)
    found = np.full(len(offsets), -1, np.int64)
    context = _borrow()
    if context is None:
        return np.arange(len(offsets))
    try:
        addresses = positions + _address(out)
        for start in range(0, len(offsets), _MOST_READS):
            part = slice(start, start + _MOST_READS)
            context.prepare(descriptor, offsets[part], sizes[part], addresses[part], flags)
            context.read(found[part])
    except BaseException:
        context.destroy()  # waits for pending reads, so that none writes to `out` later
        raise
    _FREE.append(context)
    return np.flatnonzero(found != sizes)


def _check_positions(
    sizes: NDArray[np.int64], out: NDArray[np.uint8], positions: NDArray[np.int64]
) -> None:
    # The kernel does not check addresses; a wrong one would overwrite other memory.
    is_sound = len(sizes) == 0 or (
        np.minimum.reduce(sizes) >= 0
        and np.minimum.reduce(positions) >= 0
        and np.maximum.reduce(positions + sizes) <= out.size
        and np.maximum.reduce(sizes) <= MOST_BYTES
    )
    if not is_sound or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError("a run of bytes lies outside its array")


def _address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


class _Context:
    """A kernel queue of reads, and their requests; used by one thread at a time."""

    def __init__(self) -> None:
        self._number = ctypes.c_ulong(0)
        if _KERNEL.setup(_MOST_READS, ctypes.byref(self._number)) != 0:
            raise OSError(ctypes.get_errno(), "io_setup")
        requests = np.zeros(_MOST_READS, _IOCB)
        requests["data"] = np.arange(_MOST_READS)
        # Views of the fields, because looking a field up takes as long as filling it.
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
        """Prepare the next requests: read sizes[i] bytes at offsets[i] to addresses[i]."""
        count = len(offsets)
        self._descriptors[:count] = descriptor
        self._flags[:count] = flags
        self._buffers[:count] = addresses
        self._sizes[:count] = sizes
        self._offsets[:count] = offsets

    def read(self, found: NDArray[np.int64]) -> None:
        """Execute all requests; set `found` to the bytes read, or to negative error numbers.

        The values of requests that were not begun stay unchanged.
        """
        count = len(found)
        submitted = 0
        while submitted < count:
            # Fewer are submitted if a request is invalid; the caller reads the rest.
            pointers = self._pointers_at + submitted * self._pointers.itemsize
            taken = _KERNEL.submit(self._number, count - submitted, pointers)
            if taken <= 0:
                break
            submitted += taken
        # Nearly always all reads are complete; `look` collects them without releasing the GIL.
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
        """Wait for all reads, and free the queue of the kernel."""
        _KERNEL.destroy(self._number)


_FREE: Final[list[_Context]] = []  # no lock: append and pop are atomic


class _Kernel:
    """The system calls; `numbers` is None if this system does not have them."""

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
        # The same call without releasing the GIL, for when it returns at once.
        library = ctypes.PyDLL(None, use_errno=True)
        self.look = _system_call(library, getevents, number, size, size, place, place)


def _system_call(library: ctypes.CDLL, number: int, *types: type) -> Callable[..., int]:
    """Return a function for a system call; on failure it returns -1 and sets errno."""
    call = library["syscall"]  # each lookup creates a new function with its own types
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long, *types]
    return partial(call, number)


_KERNEL: Final = _Kernel()


def _borrow() -> _Context | None:
    """Return an unused queue; None if the system has none."""
    with suppress(IndexError):
        return _FREE.pop()
    if _KERNEL.numbers is None:
        return None
    try:
        return _Context()
    except OSError:  # forbidden, not built in, or all queues of the machine are in use
        _KERNEL.numbers = None
        return None


# A queue belongs to the process that created it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FREE.clear)
