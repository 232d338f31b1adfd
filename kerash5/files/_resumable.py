"""An HDF5 file whose writing is continued after a kill: a draft beside it, and a log.

HDF5 changes what it has already written (headers, indices), so a killed process leaves a file that
cannot be opened. Here, between two commits, bytes past the end of the last commit go to the draft,
and changes before that end are held in memory, page by page. A commit writes these pages and a note
to the log, whole or not at all, and only then to the draft. A draft is opened by cutting it to the
committed size and writing the pages of its log again: it is then the file of the last commit,
whatever the process was doing when it ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import h5py

from kerash5._errors import FileError
from kerash5.files._new_file import lock_file, replacing, sync_folder

_PAGE: Final = 4096


@final
class ResumableFile:
    """The draft of one HDF5 file. Made by `open_resumable`.

    Args:
        target: Path of the file that it will be.
        key: What is written there, and of what; a draft with another key is not continued.

    Attributes:
        note: What the last commit noted; None where nothing has been committed.
    """

    def __init__(self, target: str, key: str) -> None:
        self.target = target
        self._key = key
        self.path, self._log = _names(target)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if not lock_file(self._descriptor):
            os.close(self._descriptor)
            raise FileError(
                f"{target!r} is being written by another process; wait for it, or choose another "
                "path"
            )
        self._pages: dict[int, bytearray] = {}
        self._committed = self._size = 0
        self._is_finished = self._is_committing = False
        self._sink: _PagedSink | None = None
        self.note: Any = None
        self.was_other = False  # there was a draft of something else
        self._recover()

    def _recover(self) -> None:
        """Make the draft what it was at its last commit; empty if it is not ours."""
        found = _read_log(self._log)
        size = os.fstat(self._descriptor).st_size
        if found is not None and found[0]["key"] == self._key and found[0]["size"] <= size:
            header, pages = found
            os.ftruncate(self._descriptor, header["size"])
            self._write_pages(pages)
            self._committed, self.note = header["size"], header["note"]
            return
        self.was_other = found is not None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)
        os.ftruncate(self._descriptor, 0)

    @contextmanager
    def open(self, **options: object) -> Iterator[h5py.File]:
        """Open the draft for writing; `options` are of `h5py.File`, for a new one.

        Raises:
            OSError: A write failed, now or before; the draft is as it was at the last commit.
        """
        sink = self._sink = _PagedSink(self._descriptor, self._committed, self._pages)
        mode, given = ("r+", {}) if self.note is not None else ("w", options)
        try:
            with h5py.File(sink, mode, **given) as file:
                yield file
        except Exception:
            sink.check()  # first: once bytes are discarded, later errors are meaningless
            raise
        sink.check()
        self._size = sink.size

    def check(self) -> None:
        """Raise the error of the first failed write, if there is one."""
        if self._sink is not None:
            self._sink.check()

    def commit(self, note: object) -> None:
        """Force all that was written to the disk, with a note; the file must be closed.

        Raises:
            OSError: It could not be written; the draft is as it was at the last commit.
        """
        os.fsync(self._descriptor)
        self._is_committing = True  # until then, only the log knows how large the draft is
        pages = {number: bytes(page) for number, page in self._pages.items()}
        header = {"key": self._key, "size": self._size, "note": note}
        header["pages"], body = list(pages), b"".join(pages.values())
        header["lengths"] = [len(page) for page in pages.values()]
        header["sha256"] = hashlib.sha256(body).hexdigest()
        with replacing(self._log) as stream:
            stream.write(json.dumps(header).encode() + b"\n" + body)
        sync_folder(os.path.dirname(self._log) or ".")
        self._write_pages(pages)
        os.ftruncate(self._descriptor, self._size)
        self._pages.clear()
        self._committed, self.note = self._size, note
        self._is_committing = False

    def finish(self, *, overwrite: bool) -> None:
        """Give the draft the name of the file.

        Raises:
            FileExistsError: `overwrite` is False, and there is a file.
        """
        os.fsync(self._descriptor)
        if overwrite and os.path.exists(self.target):
            os.fchmod(self._descriptor, os.stat(self.target).st_mode & 0o7777)
        else:
            os.fchmod(self._descriptor, 0o666 & ~_read_umask())
        if overwrite:
            os.replace(self.path, self.target)
        else:
            os.link(self.path, self.target)  # never replaces a file
            os.unlink(self.path)
        self._is_finished = True
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)
        sync_folder(os.path.dirname(self.target) or ".")

    def close(self) -> None:
        """Close the draft, which stays where it is; one without a commit is removed."""
        if not self._is_finished:
            with contextlib.suppress(OSError):  # neither is needed to go on
                if self.note is None and not self._is_committing:
                    os.unlink(self.path)
                elif not self._is_committing:  # free what is written again
                    os.ftruncate(self._descriptor, self._committed)
        os.close(self._descriptor)

    def _write_pages(self, pages: dict[int, bytes]) -> None:
        for number, page in pages.items():
            _pwrite(self._descriptor, page, number * _PAGE)


@contextmanager
def open_resumable(target: str, key: str) -> Iterator[ResumableFile]:
    """Open the draft of a file, and continue one with the same key; see `ResumableFile`."""
    draft = ResumableFile(os.path.realpath(target), key)
    try:
        yield draft
    finally:
        draft.close()


@final
class _PagedSink:
    """The file object that HDF5 writes to: it changes no byte before the committed size.

    Writes never fail; `check` raises the first error. See `kerash5.files._hdf5`.
    """

    def __init__(self, descriptor: int, committed: int, pages: dict[int, bytearray]) -> None:
        self._descriptor = descriptor
        self._committed = committed
        self._pages = pages
        self._place = 0
        self._error: BaseException | None = None
        self.size = committed

    def check(self) -> None:
        """Raise the error of the first failed call, if there is one."""
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        view = memoryview(data).cast("B")
        # BaseException: also KeyboardInterrupt, which must not reach HDF5 either.
        try:
            if self._error is None:
                split = max(0, min(len(view), self._committed - self._place))
                self._hold(view[:split])
                _pwrite(self._descriptor, view[split:], self._place + split)
        except BaseException as error:  # noqa: BLE001
            self._error = error
        self._place += len(view)
        self.size = max(self.size, self._place)
        return len(view)

    def _hold(self, view: memoryview) -> None:
        """Hold bytes before the committed size in memory."""
        place = self._place
        while len(view):
            number, start = divmod(place, _PAGE)
            page = self._pages.get(number)
            if page is None:
                length = min(_PAGE, self._committed - number * _PAGE)
                page = bytearray(os.pread(self._descriptor, length, number * _PAGE))
                page.extend(bytes(length - len(page)))
                self._pages[number] = page
            count = min(len(view), len(page) - start)
            page[start : start + count] = view[:count]
            view, place = view[count:], place + count

    def readinto(self, buffer: memoryview) -> int:
        view = memoryview(buffer).cast("B")
        try:
            self._read(view)
        except BaseException as error:  # noqa: BLE001
            self._error = self._error or error
        self._place += len(view)
        return len(view)

    def _read(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            got = os.preadv(self._descriptor, [view[done:]], self._place + done)
            if not got:
                view[done:] = bytes(len(view) - done)
                break
            done += got
        first, last = self._place // _PAGE, (self._place + len(view) - 1) // _PAGE
        for number in range(first, last + 1):
            if (page := self._pages.get(number)) is None:
                continue
            start = max(self._place, number * _PAGE)
            stop = min(self._place + len(view), number * _PAGE + len(page))
            if start < stop:
                piece = page[start - number * _PAGE : stop - number * _PAGE]
                view[start - self._place : stop - self._place] = piece

    def truncate(self, size: int) -> int:
        try:
            if self._error is None and size >= self._committed:
                os.ftruncate(self._descriptor, size)
        except BaseException as error:  # noqa: BLE001
            self._error = error
        self.size = size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (self.size if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        buffer = bytearray(self.size - self._place if size < 0 else size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def flush(self) -> None:
        """Do nothing: `commit` calls fsync when the file is closed."""


def _names(target: str) -> tuple[str, str]:
    folder, name = os.path.split(target)
    draft = os.path.join(folder, f".{name[:48]}.{_digest(name)}.draft")  # at most 255 bytes
    return draft, f"{draft}.log"


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def _read_log(path: str) -> tuple[dict[str, Any], dict[int, bytes]] | None:
    """Return the header and the pages of a log; None if there is none that is whole."""
    try:
        with open(path, "rb") as stream:
            header: dict[str, Any] = json.loads(stream.readline())
            body = stream.read()
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            return None
        pages, start = {}, 0
        for number, length in zip(header["pages"], header["lengths"], strict=True):
            pages[number], start = body[start : start + length], start + length
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return header, pages


def _pwrite(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    rest = memoryview(data)
    while rest:  # the system may take less than all at once
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
