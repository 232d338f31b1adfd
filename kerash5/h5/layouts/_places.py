"""Where rows lie that are data sets or attributes of their own, one for each row.

Each place has a path that begins as in its column and names one object, as "sample_3/image" or, for
an attribute, "sample_3@label". Those that are missing, or unlike the first, are named together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import h5py
import numpy as np

from kerash5._errors import ColumnError, DamagedFileError, UnknownColumnError
from kerash5.h5.layouts._base import derive_origin
from kerash5.h5.layouts._dataset_readers import Opened, ValueReader, join_datasets
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

_MAX_NAMED: Final = 3
Kind = tuple[tuple[int, ...], np.dtype]  # the shape and type of a place


@dataclass(frozen=True, slots=True)
class Place:
    """A data set, or an attribute of a group or data set, of one file."""

    file: H5File
    path: str

    def __str__(self) -> str:
        """Return the path and the file, for messages."""
        return f"{self.path!r} of {self.file.path!r}"


@final
class PlaceCollector:
    """Opens the data sets of one column, file by file, and tells what is wrong with any of them.

    Args:
        asked: The path of the column.
        allow_external: As in `Source`.
        reader: As in `Source`.
    """

    def __init__(self, asked: str, *, allow_external: bool, reader: Reader) -> None:
        self.readers: list[AbstractReader] = []  # one for each file
        self.storage = ""
        self._asked = asked
        self._allow_external = allow_external
        self._reader: Reader = reader
        self._first: tuple[Place, Kind] | None = None
        self._num_paths = 0
        self._missing: list[Place] = []
        self._unlike: list[tuple[Place, Kind]] = []

    def add(self, file: H5File, paths: Sequence[str]) -> None:
        """Open the data sets of another file."""
        with file.open() as handle:
            if "@" in self._asked:
                values = [self._read_attribute(Place(file, path), handle) for path in paths]
                self._add_values(values, "attributes")
            elif self._is_scalar(handle, paths[0]):
                values = [self._read_scalar(Place(file, path), handle) for path in paths]
                self._add_values(values, "data sets of one value")
            else:
                self._add_datasets(file, paths)
        self._num_paths += len(paths)

    def check(self) -> None:
        """Raise `ColumnError` if a place is missing, or unlike the first."""
        if self._missing:
            named = ", ".join(map(str, self._missing[:_MAX_NAMED]))
            more = len(self._missing) - _MAX_NAMED
            raise ColumnError(
                f"{len(self._missing)} of {self._num_paths} rows have no {self._asked!r}: "
                f"{named}{f' and {more} more' if more > 0 else ''}; add what is missing, or "
                "leave those rows out with a narrower pattern"
            )
        if self._unlike and self._first is not None:
            (place, (shape, dtype)), (first, (like, kind)) = self._unlike[0], self._first
            raise ColumnError(
                f"rows of {self._asked!r} differ: {first} is of shape {like} {kind}, and "
                f"{len(self._unlike)} of {self._num_paths} are not, such as {place}, of shape "
                f"{shape} {dtype}; write them alike, or read volumes of many sizes by "
                "patches_from_volumes"
            )

    def _add_datasets(self, file: H5File, paths: Sequence[str]) -> None:
        opened: list[Opened] = []
        for path in paths:
            place = Place(file, path)
            try:
                layout, part = open_part(
                    path, file, allow_external=self._allow_external, reader=self._reader
                )
            except UnknownColumnError:
                self._missing.append(place)
                continue
            self.storage = self.storage or f"{layout.describe()} each"
            if self._is_like(place, (layout.shape, layout.dtype)):
                opened.append((layout, part))
        if opened:
            reader = join_datasets(file, self._asked, opened)
            reader.origin = derive_origin([part.origin for _, part in opened])
            self.readers.append(reader)

    def _add_values(self, values: Sequence[np.ndarray | None], where: str) -> None:
        alike = [value for value in values if value is not None]
        if alike:
            self.storage = where
            self.readers.append(ValueReader(np.stack(alike), where))

    def _is_like(self, place: Place, kind: Kind) -> bool:
        if self._first is None:
            self._first = place, kind
        if kind != self._first[1]:
            self._unlike.append((place, kind))
            return False
        return True

    def _is_scalar(self, handle: h5py.File, path: str) -> bool:
        try:
            found = find_object(handle, path, allow_external=self._allow_external)
        except UnknownColumnError:
            return False
        return isinstance(found, h5py.Dataset) and found.shape == ()

    def _read_attribute(self, place: Place, handle: h5py.File) -> np.ndarray | None:
        path, _, name = place.path.rpartition("@")
        with self._damage_told(place):
            try:
                found = find_object(handle, path or "/", allow_external=self._allow_external)
                value = found.attrs.get(name)
            except UnknownColumnError:
                value = None
        return self._as_value(place, value)

    def _read_scalar(self, place: Place, handle: h5py.File) -> np.ndarray | None:
        with self._damage_told(place):
            try:
                found = find_object(handle, place.path, allow_external=self._allow_external)
            except UnknownColumnError:
                return self._as_value(place, None)
            if not isinstance(found, h5py.Dataset) or found.shape != ():
                self._unlike.append((place, (getattr(found, "shape", ()) or (), np.dtype("V"))))
                return None
            return self._as_value(place, found[()])

    def _as_value(self, place: Place, value: object) -> np.ndarray | None:
        if value is None or isinstance(value, h5py.Empty):
            self._missing.append(place)
            return None
        if isinstance(value, str | bytes):  # of any length, so that all are of one type
            text = value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
            array = np.empty((), object)
            array[()] = text
        else:
            array = np.asarray(value)
        return array if self._is_like(place, (array.shape, array.dtype)) else None

    @contextmanager
    def _damage_told(self, place: Place) -> Iterator[None]:
        try:
            yield
        except (TypeError, *HDF5_ERRORS) as error:
            raise DamagedFileError(
                f"{place} cannot be read ({words_of(error)}); copy or download the file again"
            ) from error
