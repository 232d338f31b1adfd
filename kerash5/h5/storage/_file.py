"""Find HDF5 files by paths and patterns, and record the identity of each.

An `H5File` consists of a path and the identity of the file when it was first seen. It can be
pickled, survives `fork`, and has no handle of its own: one pool per process has the handles, so
that ten thousand files do not need ten thousand descriptors. Nothing here reads data sets: see
`_layout`.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import h5py

from kerash5._errors import (
    FileChangedError,
    FileError,
    FileMissingError,
    NotHDF5Error,
    OptionError,
)
from kerash5.h5.storage._handles import name_file
from kerash5.h5.storage._opening import open_hdf5
from kerash5.h5.storage._pool import POOL

StrPath = str | os.PathLike[str]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The identity of one version of a file.

    It changes whenever the file is replaced, truncated or written to.
    """

    device: int
    inode: int
    num_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: str) -> FileIdentity:
        """Return the identity of the file at `path`, from the file system."""
        return cls.from_stat(os.stat(path))

    @classmethod
    def from_stat(cls, stat: os.stat_result) -> FileIdentity:
        """Return the identity that a stat result describes."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def is_of(self, stat: os.stat_result) -> bool:
        """Return whether a stat result has this identity; called for every batch."""
        return (
            stat.st_mtime_ns == self.modified_ns
            and stat.st_size == self.num_bytes
            and stat.st_ino == self.inode
            and stat.st_dev == self.device
        )


@dataclass(frozen=True, slots=True)
class H5File:
    """A file and its identity when first seen. Created by `find_file` and `find_files`."""

    path: str  # as it was passed, for messages
    place: str  # absolute, so that a later chdir has no effect
    identity: FileIdentity

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """Return the handle of this process for this file, opened on first use.

        Raises:
            FileError: The file can no longer be opened.
            FileChangedError: The file has changed since it was first seen.
        """
        with POOL.lend(self) as handle:
            yield handle

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was first seen.

        Raises:
            FileChangedError: It was replaced, truncated, written to or removed.
        """
        try:
            stat = os.stat(self.place)
        except OSError as error:
            raise FileChangedError(
                f"{self.path!r} was there when reading began and is gone now "
                f"({error.strerror}); put it back and start again"
            ) from error
        if not self.identity.is_of(stat):
            now = FileIdentity.from_stat(stat)
            what = (
                f"had {self.identity.num_bytes} bytes and has {now.num_bytes}"
                if now.num_bytes != self.identity.num_bytes
                else "was written to or replaced"
            )
            raise FileChangedError(
                f"{self.path!r} {what} since reading began; finish writing it first, then start "
                "again"
            )


def find_file(path: StrPath) -> H5File:
    """Return the HDF5 file at `path`, after checking that it opens.

    Raises:
        FileMissingError: There is no such file.
        NotHDF5Error: It is not an HDF5 file.
        DamagedFileError: HDF5 cannot open it.
    """
    file = _note_file(os.fspath(path))
    with file.open():
        return file


def _note_file(name: str) -> H5File:
    _check_regular(name)
    return H5File(name, os.path.abspath(name), FileIdentity.of(name))


@contextmanager
def open_once(path: str) -> Iterator[h5py.File]:
    """Open a file that no source reads, and close it at the end.

    Raises:
        FileError: As `find_file`.
    """
    _check_regular(path)
    with open_hdf5(path, path) as handle:
        yield handle


def find_files(path: StrPath | Sequence[StrPath] | None) -> tuple[H5File, ...]:
    """Expand one path, a glob pattern, or a list of either into the files it names.

    The files are sorted by path, whatever the order of a list, so that the same files always give
    the same rows. No file is opened here: each of possibly thousands is opened once, when its
    columns are found.

    Raises:
        FileMissingError: A file does not exist, or nothing matches a pattern.
        NotHDF5Error: A path is not a regular file.
        OptionError: The list is empty, or an entry is not a path.
    """
    names = [name for entry in _parse_paths(path) for name in _expand(entry)]
    return tuple(_note_file(name) for name in sorted(names))


def _parse_paths(path: StrPath | Sequence[StrPath] | None) -> list[str]:
    entries: list[Any] = [path]
    is_one = isinstance(path, str | bytes | os.PathLike | h5py.Group | h5py.Dataset)
    if isinstance(path, Iterable) and not is_one:
        entries = list(path)
    if not entries:
        raise OptionError("path is an empty list; name at least one HDF5 file")
    return [_parse_path(entry) for entry in entries]


def _parse_path(path: object) -> str:
    if isinstance(path, h5py.Dataset):
        file = repr(os.fspath(path.file.filename)) if path else "FILE"
        column = repr(path.name.strip("/")) if path and path.name else "NAME"
        raise OptionError(
            f"path={path!r} is a data set; name what it is, as in H5Dataset(x=dataset), or give "
            f"its file first: H5Dataset({file}, x={column})"
        )
    if isinstance(path, h5py.File):
        return name_file(path, "path=")
    if isinstance(path, h5py.Group):
        raise OptionError(
            f"path={path!r} is a group; give its file first, and name the data sets in it, as in "
            f"x={f'{path.name}/NAME'.strip('/') if path else 'GROUP/NAME'!r}"
        )
    name: object = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        missing = "; leave it out only where columns are open data sets" if path is None else ""
        raise OptionError(f"path={path!r}; it is a path, a glob pattern or a list of them{missing}")
    if os.path.exists(name):
        return name
    if found := _SCHEME.match(name):
        raise FileError(
            f"{name!r} is an address ({found[1]}), and files are read from this machine; download "
            "it first, or mount its storage, and give the path"
        )
    return os.path.expanduser(name)


def _expand(name: str) -> list[str]:
    if os.path.exists(name) or not glob.has_magic(name):
        return [name]
    names = sorted(glob.glob(name, recursive=True))
    if not names:
        raise FileMissingError(
            f"no file matches {name!r}; the pattern is relative to {os.getcwd()!r}"
        )
    return names


def _pattern_of(folder: str) -> str:
    """Return the pattern that matches most HDF5 files in a folder, judged by their names."""
    endings = [os.path.splitext(name)[1] for name in os.listdir(folder)]
    return "*" + max((".h5", ".hdf5", ".hdf", ".he5", ".nc"), key=endings.count)


def _check_regular(name: str) -> None:
    if not os.path.exists(name):
        raise FileMissingError(f"no such file: {name!r}{_nearest_names(name)}")
    if os.path.isdir(name):
        raise FileError(
            f"{name!r} is a folder, not a file; name one file, or pass "
            f"{os.path.join(name, _pattern_of(name))!r} to read all of its files as one"
        )
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise NotHDF5Error(f"{name!r} is not a regular file but a pipe, socket or device")


def _nearest_names(name: str) -> str:
    if os.path.islink(name):
        return f"; it is a symbolic link to {os.readlink(name)!r}, which is not there"
    folder, base = os.path.split(name)
    if not os.path.isdir(folder or "."):
        return f"; its folder {folder!r} does not exist either"
    near = difflib.get_close_matches(base, os.listdir(folder or "."), n=3)
    if not near:
        return ""
    return f"; did you mean {' or '.join(repr(os.path.join(folder, other)) for other in near)}?"
