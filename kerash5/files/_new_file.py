"""Create files that appear whole or not at all.

Bytes are written to a draft in the folder of the file. If the system supports it (Linux, most local
file systems), the draft has no name, so it vanishes when the process is killed. Otherwise it has a
temporary name, and the next writer in the folder removes it. After fsync, the draft gets the name
of the file: by a link, which never replaces a file, or by a rename, which does.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING, Final, final

from kerash5._errors import FileError
from kerash5._warnings import warn

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be removed there
    fcntl = None  # type: ignore[assignment]

# .NAME.HOST.TOKEN.partial. It has the host, because locks may be visible on one machine only.
_DRAFT: Final = re.compile(r"\..+\.([0-9a-f]{8})\.[0-9a-f]{8}\.partial")
_HOST: Final = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_OTHER_HOSTS_SECONDS: Final = 86_400  # one day, after which drafts of other machines are removed
_DESCRIPTORS: Final = "/proc/self/fd"
# Errors of file systems without hard links; ENOENT and EXDEV if /proc belongs to another one.
_NO_LINKS: Final = frozenset(
    {
        *(errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP),
        *(errno.EINVAL, errno.EXDEV, errno.ENOENT, errno.EMLINK),
    }
)


@contextmanager
def create_file(path: str, *, overwrite: bool) -> Iterator[FileIO]:
    """Open a new file for reading and writing; it appears at `path` when the block ends.

    Args:
        path: Path of the file; its folder must exist.
        overwrite: Replace a file that exists when the block ends. The new file gets its mode and,
            if permitted, its owner; a symbolic link is followed.

    Raises:
        FileExistsError: `overwrite` is False and the file exists, even if it was created meanwhile.
        OSError: The file cannot be written. After any exception, no partial file is left and an
            existing file is unchanged.
    """
    target = os.path.realpath(path) if overwrite else path
    with _draft_of(target, overwrite=overwrite) as stream:
        yield stream
    try:
        sync_folder(os.path.dirname(target) or ".")
    except OSError as error:
        warn(
            f"{target!r} is written, but its folder could not be synced to disk ({error}): "
            "after a power failure the file may be missing; write it again if that happens"
        )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[FileIO]:
    """Open a new file for writing; it replaces the one at `path` when the block ends.

    For files that are written again and again: the bytes are forced to the disk, the name is not,
    so that after a power failure the old file may be there. Otherwise as `create_file`.

    Raises:
        OSError: The file cannot be written; one that was there is unchanged.
    """
    with _draft_of(os.path.realpath(path), overwrite=True) as stream:
        yield stream


def replace_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file whole or not at all.

    Raises:
        FileError: It cannot be written; a file that was there is unchanged.
    """
    try:
        with replacing(path) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from error


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Force the names of the files in a folder to the disk, where the system can.

    Raises:
        OSError: The system reports an error.
    """
    if os.name != "posix":  # there, a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # not for folders, here
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _draft_of(target: str, *, overwrite: bool) -> Iterator[FileIO]:
    """Open a draft, and give it the name of its file when the block ends."""
    remove_old_drafts(os.path.dirname(target) or ".")
    old = _stat(target) if overwrite else None
    # A file that only its owner may read is never readable by others, not even while it is written.
    draft = _Draft(target, 0o666 if old is None else 0o600)
    try:
        yield draft.stream
        if overwrite:
            draft.copy_access(_stat(target) or old)
        os.fsync(draft.stream.fileno())
        if overwrite:
            draft.replace()
        else:
            draft.link()
    finally:
        draft.discard()


@final
class _Stream(FileIO):
    """A file that is written to without a buffer, and takes all bytes or raises."""

    def write(self, data: Buffer) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:  # the system may take less than all at once
            rest = rest[super().write(rest) :]
        return size


@final
class _Draft:
    """The bytes of a file that is not complete yet.

    Args:
        target: Path of the final file.
        mode: Permissions, from which the umask is subtracted.
    """

    def __init__(self, target: str, mode: int) -> None:
        self._target = target
        self._mode = mode
        self._name: str | None = None
        descriptor = _open_nameless(os.path.dirname(target) or ".", mode)
        if descriptor is None:
            self._name, descriptor = _open_named(target, mode)
        self.stream = _Stream(descriptor, "r+")

    def copy_access(self, old: os.stat_result | None) -> None:
        """Copy owner and mode of the file to be replaced to the draft."""
        if old is None or os.name != "posix":
            return
        descriptor = self.stream.fileno()
        found = os.fstat(descriptor)
        if (found.st_uid, found.st_gid) != (old.st_uid, old.st_gid):
            # Only root may change the owner.
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != stat.S_IMODE(old.st_mode):
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))

    def replace(self) -> None:
        """Rename the draft to the name of the file, replacing an existing file."""
        name = self._ensure_name()
        self._close_on_windows()
        os.replace(name, self._target)
        self._name = None

    def link(self) -> None:
        """Link the draft to the name of the file, or raise `FileExistsError`."""
        try:
            if os.name == "nt":
                self._close_on_windows()
                os.rename(self._ensure_name(), self._target)  # never replaces a file on Windows
                self._name = None
            else:
                self._link_to(self._target)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links here: reserve the name with an empty file, which is then replaced.
            os.close(os.open(self._target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode))
            try:
                self.replace()
            except BaseException:
                os.unlink(self._target)
                raise

    def discard(self) -> None:
        """Remove the draft, unless it has become the file."""
        with contextlib.suppress(OSError):  # errors of close were already raised by fsync
            self.stream.close()
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name)

    def _link_to(self, path: str) -> None:
        if self._name is not None:
            os.link(self._name, path)
            return
        descriptor = self.stream.fileno()
        # src_dir_fd, which an absolute path ignores, makes Python call linkat, which follows the
        # link in /proc to the file.
        os.link(f"{_DESCRIPTORS}/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)

    def _ensure_name(self) -> str:
        """Return the temporary name of the draft, creating one if it has none."""
        if self._name is not None:
            return self._name
        name = _draft_name(self._target)
        try:
            self._link_to(name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._copy()
        self._name = name
        return name

    def _copy(self) -> str:
        """Copy the draft to a draft with a name."""
        self._name, descriptor = _open_named(self._target, self._mode)
        nameless, self.stream = self.stream, _Stream(descriptor, "r+")
        with nameless:
            nameless.seek(0)
            shutil.copyfileobj(nameless, self.stream, 1 << 20)
            self.copy_access(os.fstat(nameless.fileno()))
        os.fsync(descriptor)
        return self._name

    def _close_on_windows(self) -> None:
        if os.name == "nt":  # an open file cannot be renamed there
            self.stream.close()


def unwritable(path: str | os.PathLike[str], error: Exception) -> FileError:
    """Return the error for a file that cannot be written."""
    return FileError(
        f"{os.fspath(path)!r} could not be written ({error}); free space or choose another path"
    )


def remove_old_drafts(folder: str) -> None:
    """Remove drafts in a folder whose writers have ended."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _DRAFT.fullmatch(entry.name)
            if found and entry.is_file(follow_symlinks=False):
                _remove_if_orphaned(entry.path, is_ours=found[1] == _HOST)


def _remove_if_orphaned(path: str, *, is_ours: bool) -> None:
    if not is_ours and time.time() - os.stat(path).st_mtime < _OTHER_HOSTS_SECONDS:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer runs
        os.unlink(path)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _open_nameless(folder: str, mode: int) -> int | None:
    """Return the descriptor of a file without a name; None if the system does not support it."""
    flags = getattr(os, "O_TMPFILE", None)
    if flags is None or not os.path.isdir(_DESCRIPTORS):
        return None
    try:
        descriptor = os.open(folder, flags | os.O_RDWR, mode)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EISDIR, errno.ENOENT):
            return None  # not supported by the file system or the kernel
        raise
    _lock(descriptor)  # it may get a temporary name later
    return descriptor


def _open_named(target: str, mode: int) -> tuple[str, int]:
    """Return the name and the descriptor of a new file beside `target`."""
    while True:
        name = _draft_name(target)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(name, flags, mode)
        _lock(descriptor)
        if os.path.exists(name):  # or another process removed it before it was locked
            return name, descriptor
        os.close(descriptor)


def lock_file(descriptor: int) -> bool:
    """Lock an open file until it is closed; return whether no other process has it locked."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return True
    return True


def _lock(descriptor: int) -> None:
    """Lock a draft while it is open, to show that its writer runs."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # no locks here: drafts are not removed
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _draft_name(target: str) -> str:
    folder, name = os.path.split(target)
    # At most 255 bytes, at four bytes per character.
    return os.path.join(folder, f".{name[:48]}.{_HOST}.{secrets.token_hex(4)}.partial")


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
