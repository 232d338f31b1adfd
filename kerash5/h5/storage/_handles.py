"""Return the paths and names of open h5py objects that are passed instead of paths.

Files are read through handles of our own, in any process; only the names of a user's object are
used.
"""

from __future__ import annotations

import os
from typing import Final

import h5py

from kerash5._errors import OptionError

_ON_DISK: Final = ("sec2", "stdio", "direct", "log")  # drivers of one plain file


def name_file(file: h5py.File, what: str) -> str:
    """Return the path of the file behind an open handle.

    Args:
        file: The handle.
        what: Beginning of messages, such as "path=".

    Raises:
        OptionError: The file is closed, open for writing, or not on disk.
    """
    if not file:
        raise OptionError(f"{what} is an h5py.File that is closed; give the path of the file")
    return _name_open_file(file, what)


def name_dataset(dataset: h5py.Dataset, what: str) -> tuple[str, str]:
    """Return the path of the file of an open data set, and the name of the data set.

    Args:
        dataset: The data set.
        what: Beginning of messages, such as "column x=".

    Raises:
        OptionError: The data set is closed or has no name, or its file cannot be read by its path.
    """
    if not dataset:
        raise OptionError(
            f"{what} is a data set of a file that is closed; open the file again, or give its path "
            "and the name of the data set"
        )
    if not dataset.name:
        raise OptionError(
            f"{what} is a data set without a name; give it one, as in file['x'] = dataset, and "
            "close the file"
        )
    return _name_open_file(dataset.file, what), dataset.name.strip("/")


def _name_open_file(file: h5py.File, what: str) -> str:
    name = os.fsdecode(file.filename)
    is_writing = bool(file.id.get_intent() & h5py.h5f.ACC_RDWR)
    is_copy = file.driver == "core" and not is_writing and os.path.exists(name)  # of a file on disk
    if file.driver == "core" and not is_copy:
        raise OptionError(
            f"{what} lies in a file in memory (driver='core'), and files are read from disk; write "
            "its data sets by kerash5.write, and give the path"
        )
    if file.driver not in _ON_DISK and not is_copy:
        raise OptionError(
            f"{what} lies in a file that is open with the driver {file.driver!r}, and single files "
            "on disk are read; copy it into one (h5repack), and give the path"
        )
    if is_writing:
        raise OptionError(
            f"{what} lies in {name!r}, which is open for writing, so not all of it need be on the "
            "disk; close the file first, or open it with mode 'r'"
        )
    return name
