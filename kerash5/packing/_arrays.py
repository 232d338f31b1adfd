"""Arrays of .npy and .npz files, copied some rows at a time: they may be larger than memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, final

import h5py
import numpy as np

from kerash5._errors import ColumnError, FileError
from kerash5.files import HDF5Draft, create_hdf5, unwritable
from kerash5.h5._write import check_place, check_room
from kerash5.h5.storage._file import open_once
from kerash5.packing._images import Step

_BLOCK_BYTES: Final = 16 << 20
_DAMAGED: Final = (OSError, ValueError, EOFError, zipfile.BadZipFile, SyntaxError)


@final
class ArrayStream:
    """One array of a file: its type is known, its values are read from start to end.

    Args:
        name: What it is called in its file, and in the new one.
        stream: The open file, from the beginning of the .npy format on.
        where: The file, for messages.
    """

    def __init__(self, name: str, stream: IO[bytes], where: str) -> None:
        self.name = name
        self._stream = stream
        self._where = where
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        self.shape, self._is_fortran, self.stored_dtype = read(stream)
        if self.stored_dtype.hasobject or self.stored_dtype.kind in "mM":
            kind = "Python objects" if self.stored_dtype.hasobject else str(self.stored_dtype)
            raise ColumnError(
                f"array {name!r} of {where!r} holds {kind}, which HDF5 does not store; save "
                "numbers or text (np.savez(file, x=x.astype('float32')))"
            )
        self.dtype = self.stored_dtype
        if self.stored_dtype.kind == "U":  # HDF5 has no UTF-32
            self.dtype = np.dtype(f"S{max(1, self.stored_dtype.itemsize)}")

    @property
    def num_bytes(self) -> int:
        """Bytes of all values in the new file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the rows in order; of an array in Fortran's order all at once."""
        length = self.shape[0] if self.shape else 1
        row_bytes = math.prod(self.shape[1:]) * self.stored_dtype.itemsize
        rows = max(1, _BLOCK_BYTES // max(1, row_bytes))
        if self._is_fortran and len(self.shape) > 1:
            flat = self._read(length * row_bytes)
            yield self._encode(np.ascontiguousarray(flat.reshape(self.shape[::-1]).T))
            return
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            yield self._encode(
                self._read((stop - start) * row_bytes).reshape(stop - start, *self.shape[1:])
            )

    def _read(self, size: int) -> np.ndarray:
        data = self._stream.read(size)
        if len(data) < size:
            raise FileError(
                f"{self._where!r} is cut short: array {self.name!r} of shape {self.shape} lacks "
                f"{size - len(data)} bytes or more; copy or download it again"
            )
        return np.frombuffer(data, self.stored_dtype)

    def _encode(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind != "U":
            return values
        encoded = (
            np.strings.encode(values, "utf-8")
            if hasattr(np, "strings")
            else (np.char.encode(values, "utf-8"))
        )
        return encoded.astype(self.dtype)


@contextmanager
def open_arrays(path: str, entry: str | None) -> Iterator[ArrayStream]:
    """Open one array: of an .npz file by the name of its entry, of an .npy file with None."""
    try:
        if entry is None:
            with open(path, "rb") as stream:
                yield ArrayStream("data", stream, path)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(entry) as stream:
                yield ArrayStream(entry.removesuffix(".npy"), stream, path)
    except (FileError, ColumnError):
        raise
    except _DAMAGED as error:
        raise FileError(
            f"{path!r} is no file of np.save or np.savez, or it is damaged ({error}); copy or "
            "download it again"
        ) from error


def list_entries(path: str) -> list[str | None]:
    """Return the names of the arrays of an .npz file; [None] for an .npy file."""
    if path.lower().endswith(".npy"):
        return [None]
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if name.endswith(".npy")]
    except _DAMAGED as error:
        raise FileError(
            f"{path!r} is no file of np.savez, or it is damaged ({error}); copy or download it "
            "again"
        ) from error
    if not found:
        raise FileError(f"{path!r} has no arrays; write it with np.savez")
    return list(found)


def pack_arrays(path: str, out: str, *, overwrite: bool, step: Step) -> int:
    """Write each array as a data set of its name; return how many.

    They may differ in length (x_train and x_test), so this is no `open_writer`.
    """
    entries = list_entries(path)
    check_place(out, overwrite=overwrite)
    total = 0
    for entry in entries:
        with open_arrays(path, entry) as array:
            total += array.num_bytes
    check_room(out, total)
    with create_hdf5(out, overwrite=overwrite) as draft:
        for entry in entries:
            with open_arrays(path, entry) as array:
                _copy(array, draft, out, step)
    with open_once(out):  # checks that the written file opens
        return len(entries)


def _copy(array: ArrayStream, draft: HDF5Draft, out: str, step: Step) -> None:
    made = _create(array, draft.file)
    at = 0
    for block in array.blocks():
        try:
            if array.shape:
                made[at : at + len(block)] = block
            else:
                made[()] = block[0]
            draft.check()
        except (OSError, RuntimeError) as error:
            raise unwritable(out, error) from error
        at += len(block)
        step()


def _create(array: ArrayStream, file: h5py.File) -> Any:  # noqa: ANN401  of h5py
    try:
        return file.create_dataset(array.name, array.shape, array.dtype, track_times=False)
    except (KeyError, TypeError, ValueError) as error:
        raise ColumnError(
            f"array {array.name!r} of type {array.dtype} cannot be stored ({error}); save numbers "
            "or text, under another name"
        ) from error
