"""Opening HDF5 files: many at once, lazily, once per process, and with a clear word when it fails.

An `H5File` is a path and the identity the file had when it was first seen. It pickles, survives
`fork`, and holds no handle of its own: handles live in one pool per process, so that ten thousand
files need no ten thousand descriptors. Nothing here looks at data sets: see `_layout`.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import shlex
import stat
import threading
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import h5py

from kerash5._errors import (
    DamagedFileError,
    FileChangedError,
    FileError,
    FileMissingError,
    NotHDF5Error,
    OptionError,
    explain_system_error,
)

StrPath = str | os.PathLike[str]

# What HDF5 raises about damaged data. A size that is wrong may ask for more memory than there is.
HDF5_ERRORS: Final = (MemoryError, OSError, RuntimeError, ValueError)

_MAX_OPEN: Final = 128  # half of the smallest default descriptor limit in use (256, macOS)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"  # HDF5 file format specification, section II.A

# First bytes of what people meet under an HDF5 name, and what to do about it.
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


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Tells one version of a file from another.

    It changes whenever the file is replaced, cut or written to.
    """

    device: int
    inode: int
    num_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: str) -> FileIdentity:
        """Ask the file system."""
        return cls.from_stat(os.stat(path))

    @classmethod
    def from_stat(cls, stat: os.stat_result) -> FileIdentity:
        """Take it from what the file system said."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def is_of(self, stat: os.stat_result) -> bool:
        """Whether the file system still says the same; asked for every batch."""
        return (
            stat.st_mtime_ns == self.modified_ns
            and stat.st_size == self.num_bytes
            and stat.st_ino == self.inode
            and stat.st_dev == self.device
        )


@dataclass(frozen=True, slots=True)
class H5File:
    """A file and the identity it had when first seen. Made by `find_file` and `find_files`."""

    path: str  # as it was passed, for messages
    place: str  # absolute: a later chdir changes nothing
    identity: FileIdentity

    @contextmanager
    def open(self) -> Iterator[h5py.File]:
        """Lend the process's handle of this file, opened on first use.

        Raises:
            FileError: The file cannot be opened any more.
            FileChangedError: It is not the file it was.
        """
        with _POOL.lend(self) as handle:
            yield handle

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was first seen.

        Raises:
            FileChangedError: It was replaced, cut short, written to or removed.
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
    """Check that `path` is an HDF5 file that opens, and remember which.

    Raises:
        FileMissingError: Nothing is there.
        NotHDF5Error: Something else is there.
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
    with _open_hdf5(path, path) as handle:
        yield handle


def find_files(path: StrPath | Sequence[StrPath]) -> tuple[H5File, ...]:
    """Expand one path, a glob pattern, or a list of either into the files it names.

    The files come in the sorted order of their paths, whatever order a list had: the same files are
    the same rows. None is opened: of thousands, each is opened once, when its columns are found.

    Raises:
        FileMissingError: A file is not there, or nothing matches a pattern.
        NotHDF5Error: Something else than a file is there.
        OptionError: An empty list, or what is no path.
    """
    names = [name for entry in _parse_paths(path) for name in _expand(entry)]
    return tuple(_note_file(name) for name in sorted(names))


def _parse_paths(path: StrPath | Sequence[StrPath]) -> list[str]:
    entries: list[Any] = [path]
    is_one = isinstance(path, str | bytes | os.PathLike | h5py.File | h5py.Dataset)
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
            f"path={path!r} is a data set; give its file first and name the data set, as in "
            f"H5Dataset({file}, x={column})"
        )
    if isinstance(path, h5py.File):
        if not path:
            raise OptionError("path= is an h5py.File that is closed; give the path of the file")
        return str(path.filename)
    name: object = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise OptionError(f"path={path!r}; it is a path, a glob pattern or a list of them")
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
    """Return the pattern that most of the HDF5 files in a folder fit, going by their names."""
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


def words_of(error: BaseException) -> str:
    """Return what an error of HDF5 says; the one about memory says nothing."""
    return str(error) or "it needs more memory than there is"


def _open_hdf5(place: str, name: str) -> h5py.File:
    try:
        # best-effort: file systems without locks (NFS, some containers) must not refuse a read.
        return h5py.File(place, "r", locking="best-effort")
    except (OSError, RuntimeError, ValueError) as error:
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


class _HandlePool:
    """The open handles of this process, least recently used first.

    One lock serves: h5py has only one itself.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._handles: OrderedDict[H5File, h5py.File] = OrderedDict()
        # The same files by what tells that two are versions of one.
        self._versions: dict[object, H5File] = {}
        self._users: Counter[H5File] = Counter()
        self._num_lent = 0  # to the thread that holds the lock, one call within another
        self._leavers: deque[tuple[H5File, ...]] = deque()

    def retain(self, files: tuple[H5File, ...]) -> None:
        with self._lock:
            self._users.update(files)

    def leave(self, files: tuple[H5File, ...]) -> None:
        """Note that a user of these files is gone; close what has none left.

        The garbage collector calls this in the middle of anything, HDF5's lock held perhaps by
        this thread: it waits for no lock, and whoever holds it closes the files afterwards.
        """
        self._leavers.append(files)
        self._close_unused()

    def _close_unused(self) -> None:
        while self._leavers and self._lock.acquire(blocking=False):
            try:
                if self._num_lent:  # by this thread: it closes them when it has read
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
                handle = self._handles.pop(file, None)
                if handle is None or not handle:
                    self._close_older(file)
                    file.check_unchanged()
                    handle = _open_hdf5(file.place, file.path)
                self._handles[file] = handle
                self._versions |= dict.fromkeys(_version_keys(file), file)
                while len(self._handles) > _MAX_OPEN:
                    self._close_one(next(iter(self._handles)))
                self._num_lent += 1
                try:
                    yield handle
                finally:
                    self._num_lent -= 1
        finally:
            self._close_unused()

    def close(self, files: Iterable[H5File] | None = None) -> None:
        with self._lock:
            for file in list(self._handles if files is None else files):
                self._close_one(file)

    def _close_one(self, file: H5File) -> None:
        if (handle := self._handles.pop(file, None)) is not None:
            for key in _version_keys(file):
                self._versions.pop(key, None)
            handle.close()

    def _close_older(self, file: H5File) -> None:
        """Close handles of what the file was before: HDF5 would answer from what it remembers."""
        for key in _version_keys(file):
            other = self._versions.get(key)
            if other is not None and other.identity != file.identity:
                self._close_one(other)

    def forget(self) -> None:
        """Start over in a forked child: another thread of the parent may have held the lock."""
        self.__init__()  # type: ignore[misc]  # the point is to be new again


def _version_keys(file: H5File) -> tuple[object, object]:
    """Return what two versions of one file share, either of it: its place, or what lies there."""
    return file.place, (file.identity.device, file.identity.inode)


_POOL: Final = _HandlePool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def close_with(user: object, files: tuple[H5File, ...]) -> None:
    """Close the handles of files once every object that was given to this function is gone.

    Args:
        user: What reads them.
        files: The files.
    """
    _POOL.retain(files)
    weakref.finalize(user, _POOL.leave, files).atexit = False


def close_files(files: Iterable[H5File] | None = None) -> None:
    """Close HDF5 handles this process reads from; they reopen by themselves when needed.

    Args:
        files: Those of these files; None for all.
    """
    _POOL.close(files)
