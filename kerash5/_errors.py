"""The exceptions kerash5 raises.

Each derives from `KerasH5Error` and from the matching builtin, so that `except k5.KerasH5Error` and
`except FileNotFoundError` both work.

    KerasH5Error
    ├── FileError (OSError)                 a file cannot be used
    │   ├── FileMissingError (FileNotFoundError)
    │   ├── NotHDF5Error                    something else under an HDF5 name
    │   ├── DamagedFileError                truncated, or bytes that do not decode
    │   └── FileChangedError                changed since it was opened
    ├── ExternalDataError (PermissionError) the data lie outside the file
    ├── ColumnError (ValueError)            columns that do not exist, fit or agree
    │   └── UnknownColumnError (KeyError)
    ├── RowError (IndexError)               a row number outside the data
    ├── OptionError (ValueError)            an argument that makes no sense
    ├── LabelError (ValueError)             a label outside the classes
    ├── ShapeError (ValueError)             data and model do not fit together
    ├── RunError (RuntimeError)             a run that cannot start or go on
    ├── BackendError (ImportError)          a backend or optional package that is not there
    └── DownloadError (ConnectionError)     a data set that cannot be fetched

Every message is one sentence: what happened, what was expected, what to do.
"""

from __future__ import annotations

import errno
import re
from typing import Final

# System errors that do not mean a damaged file, and what to do about them.
_SYSTEM_ERRORS: Final = {
    errno.EMFILE: (
        "this process has too many files open; raise the limit (ulimit -n), or close what it does "
        "not need"
    ),
    errno.ENFILE: "this machine has too many files open; close some programs, or raise its limit",
    errno.EIO: (
        "the disk or network reported an input/output error; see whether the file can be copied, "
        "and try again on another disk"
    ),
    errno.ESTALE: (
        "the network file system has lost it (stale file handle); mount it again and start anew"
    ),
    errno.ENOMEM: "the system has no memory left; free some, or use a smaller cache=",
    errno.ETIMEDOUT: "the network file system did not answer in time; try again",
    errno.ENODEV: "its device is gone; connect or mount it again",
    errno.ENXIO: "its device is gone; connect or mount it again",
    errno.ENOTCONN: "its file system is no longer connected; mount it again",
}


class KerasH5Error(Exception):
    """Base of every exception of kerash5."""

    def __str__(self) -> str:
        # KeyError and OSError format their arguments in their own ways; here the message is printed
        # unchanged. Messages of HDF5 may contain text of a file, which could control a terminal.
        return "\n".join(map(escape_controls, str(self.args[0]).split("\n"))) if self.args else ""


class FileError(KerasH5Error, OSError):
    """Raised if a file cannot be read or written."""


def explain_system_error(error: BaseException, what: str) -> FileError | None:
    """Return the error for a failed system call; None if none failed.

    HDF5 raises an OSError whose text may contain the number, "errno = 24", or a MemoryError.

    Args:
        error: The exception raised.
        what: The file, or the data set in it; the message begins with it.
    """
    if isinstance(error, MemoryError):
        return FileError(
            f"{what} cannot be read: it asks for more memory than there is, or than this process "
            "may use; free some, and see with kerash5 verify whether the file is sound"
        )
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"errno = (\d+)", str(error))):
        number = int(found[1])
    cause = _SYSTEM_ERRORS.get(number or 0)
    return None if cause is None else FileError(f"{what} cannot be read: {cause}")


def escape_controls(text: str) -> str:
    """Return text with control characters and line breaks escaped.

    For names and values read from files, because control characters act on a terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class FileMissingError(FileError, FileNotFoundError):
    """Raised if a file does not exist."""


class NotHDF5Error(FileError):
    """Raised if a file is not HDF5."""


class DamagedFileError(FileError):
    """Raised if a file is truncated, or bytes in it do not decode."""


class FileChangedError(FileError):
    """Raised if a file has changed since it was opened."""


class ExternalDataError(KerasH5Error, PermissionError):
    """Raised if a file refers to data outside its folder without `allow_external`."""


class ColumnError(KerasH5Error, ValueError):
    """Raised if columns cannot be used, or do not agree with each other."""


class UnknownColumnError(ColumnError, KeyError):
    """Raised if the file has no such data set."""


class RowError(KerasH5Error, IndexError):
    """Raised if a row number lies outside the data."""


class OptionError(KerasH5Error, ValueError):
    """Raised if an argument has an invalid value."""


class LabelError(KerasH5Error, ValueError):
    """Raised if a label is not one of the classes."""


class ShapeError(KerasH5Error, ValueError):
    """Raised if the shapes of data and model do not fit together."""


class RunError(KerasH5Error, RuntimeError):
    """Raised if a run cannot start or continue."""


class BackendError(KerasH5Error, ImportError):
    """Raised if a backend or an optional package is not installed."""


class DownloadError(KerasH5Error, ConnectionError):
    """Raised if a data set could not be downloaded."""
