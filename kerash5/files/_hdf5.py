"""Create HDF5 files in a way that hides write errors from HDF5.

When a write fails, HDF5 keeps its data, tries again when the process exits, and crashes there. HDF5
therefore writes through a file object that stores the first error and discards all later writes;
the error is then raised to the caller.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import final

import h5py

from kerash5._errors import FileError, KerasH5Error
from kerash5.files._new_file import create_file, unwritable


@final
class HDF5Draft:
    """An HDF5 file that is being written. Made by `create_hdf5`."""

    def __init__(self, file: h5py.File, sink: _Sink) -> None:
        self.file = file
        self._sink = sink

    def check(self) -> None:
        """Raise the error of the first failed write, if there is one."""
        self._sink.check()


@contextmanager
def create_hdf5(path: str, *, overwrite: bool) -> Iterator[HDF5Draft]:
    """Open a new HDF5 file, which appears at `path` when the block ends.

    Args:
        path: Path of the file; its folder must exist.
        overwrite: As in `create_file`.

    Raises:
        FileError: The file cannot be written, or it exists and `overwrite` is False. Exceptions of
            the block are raised unchanged. After any exception, no partial file is left.
    """
    error_of_block: BaseException | None = None
    try:
        with create_file(path, overwrite=overwrite) as stream:
            sink = _Sink(stream)
            try:
                with h5py.File(sink, "w") as file:
                    try:
                        yield HDF5Draft(file, sink)
                    except BaseException as error:
                        error_of_block = error
                        raise
            except Exception:
                sink.check()  # first: once bytes are discarded, later errors are meaningless
                raise
            sink.check()
    except FileExistsError as error:
        if error is error_of_block:
            raise
        raise FileError(
            f"{path!r} exists: it was created while this file was written; pass overwrite=True "
            "to replace it"
        ) from error
    except (OSError, RuntimeError) as error:
        if error is error_of_block or isinstance(error, KerasH5Error):
            raise
        raise unwritable(path, error) from error


@final
class _Sink:
    """The file object that HDF5 writes to. Writes never fail; `check` raises the first error."""

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise the error of the first failed write, if there is one."""
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        # BaseException: also KeyboardInterrupt, which must not reach HDF5 either.
        try:
            if self._error is None:
                self._stream.write(data)
        except BaseException as error:  # noqa: BLE001
            self._error = error
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            if self._error is None:
                self._stream.truncate(size)
        except BaseException as error:  # noqa: BLE001
            self._error = error
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes | None:
        return self._stream.read(size)

    def readinto(self, buffer: memoryview) -> int | None:
        return self._stream.readinto(buffer)

    def flush(self) -> None:
        """Do nothing: `create_file` calls fsync when everything is written."""
