"""Open an HDF5 file, or raise an error that explains why it does not open and how to fix that.

A file with an HDF5 name is often something else: a Git LFS pointer, a web page, an archive.
"""

from __future__ import annotations

import os
import shlex
from typing import Final

import h5py

from kerash5._errors import (
    DamagedFileError,
    FileError,
    NotHDF5Error,
    explain_system_error,
)

# Raised by HDF5 for damaged data. MemoryError: a wrong size may request too much memory.
HDF5_ERRORS: Final = (MemoryError, OSError, RuntimeError, ValueError)

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"  # HDF5 file format specification, section II.A

# First bytes of other formats with HDF5 file names, and the message for each.
_STRANGERS: Final = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the data; run 'git lfs pull' to fetch the file",
    ),
    (b"<!doctype html", "a web page, not the data; download the file again"),
    (b"<html", "a web page, not the data; download the file again"),
    (b"<?xml", "an XML document, often a server's error message; download the file again"),
    (b"\x1f\x8b", "a gzip archive; unpack it first (gunzip or tar xzf)"),
    (b"PK\x03\x04", "a zip archive (a .keras or .npz file, perhaps); unpack it first"),
    (b"\x93NUMPY", "a NumPy .npy file; load it with numpy.load and write it with kerash5.write"),
    (b"CDF", "a classic netCDF-3 file; convert it to netCDF-4 (nccopy -k nc4)"),
    (b"\x0e\x03\x13\x01", "an HDF4 file; convert it with h4toh5"),
    (b"PAR1", "a Parquet file"),
    (b"\x80\x04", "a Python pickle, which is never loaded here"),
    (b"\x80\x05", "a Python pickle, which is never loaded here"),
)


def words_of(error: BaseException) -> str:
    """Return the text of an HDF5 error; a MemoryError has none, so it gets one."""
    return str(error) or "it needs more memory than there is"


def open_hdf5(place: str, name: str) -> h5py.File:
    """Open a file for reading.

    Args:
        place: Absolute path of the file.
        name: Name of the file in messages.

    Raises:
        FileError: It cannot be opened; the message states the reason and the cure.
    """
    try:
        # best-effort: a file system without locks (NFS, some containers) must not make reads fail.
        return h5py.File(place, "r", locking="best-effort")
    except HDF5_ERRORS as error:
        raise _explain_failed_open(name, place, error) from error


def _explain_failed_open(name: str, place: str, error: Exception) -> FileError:
    if isinstance(error, PermissionError):
        return FileError(
            f"{name!r} may not be read by this user; change its permissions (chmod u+r)"
        )
    if system := explain_system_error(error, repr(name)):
        return system
    if "already open for" in str(error):
        return FileError(
            f"{name!r} is open for writing, or was when its writer was killed; wait until the "
            "writer has closed it, or, if no process writes to it any more, clear the mark with: "
            f"h5clear -s {shlex.quote(name)}"
        )
    if "unable to lock file" in str(error):
        return FileError(
            f"{name!r} is open for writing elsewhere; close it there first, or set "
            "HDF5_USE_FILE_LOCKING=FALSE"
        )
    num_bytes = os.path.getsize(place)
    if "truncated file" in str(error):
        return DamagedFileError(
            f"{name!r} is cut short: it has {num_bytes} bytes and its header promises more "
            f"({error}); copy or download it again"
        )
    with open(place, "rb") as stream:
        head = stream.read(64)
    return _explain_stranger(name, head, num_bytes) or DamagedFileError(
        f"{name!r} is damaged: HDF5 cannot open it ({error}); copy or download it again"
    )


def _explain_stranger(name: str, head: bytes, num_bytes: int) -> NotHDF5Error | None:
    if num_bytes == 0:
        return NotHDF5Error(f"{name!r} is empty (0 bytes); download or write it again")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, what in _STRANGERS:
        if head.startswith(magic) or text.startswith(magic.lower()):
            return NotHDF5Error(f"{name!r} is not an HDF5 file but {what}")
    if not head.startswith(_SIGNATURE):
        return NotHDF5Error(
            f"{name!r} is not an HDF5 file: it begins with {head[:8]!r} instead of {_SIGNATURE!r}"
        )
    return None
