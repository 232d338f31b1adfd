"""What one data set of an HDF5 file looks like, and where its bytes lie.

`read_layout` asks h5py once, and a `Layout` after that is plain values that can cross process
borders. Nothing here reads data: see `_readers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Final

import h5py
import numpy as np

from kerash5._errors import ColumnError

_FILTERS: Final = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How one data set is stored. Made only by `read_layout`; all fields agree with each other."""

    shape: tuple[int, ...]
    dtype: np.dtype  # as h5py reads it, sub-arrays folded into `shape`
    chunks: tuple[int, ...] | None  # None: contiguous, compact or virtual
    filters: tuple[str, ...]  # names, in the order they were applied on writing
    foreign_filters: tuple[tuple[int, str], ...]  # codes and names of those HDF5 does not bring
    num_stored_bytes: int
    offset: int | None  # first byte in the file, of contiguous data that was written
    dtype_is_exact: bool  # the bytes in the file are the bytes h5py would return
    is_virtual: bool
    has_external_bytes: bool  # in raw files, or in the HDF5 file that a link led to
    is_plain_file: bool  # opened read-only by HDF5's default driver: file offsets are what they say

    @property
    def num_rows(self) -> int:
        """The length of axis 0."""
        return self.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: every axis but the first."""
        return self.shape[1:]

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk; 1 where there are no chunks, for then each row stands alone."""
        return self.chunks[0] if self.chunks else 1

    def describe(self) -> str:
        """Say in a few words how the data set is stored."""
        if self.is_virtual:
            return "virtual"
        if self.chunks is None:
            return "external" if self.has_external_bytes else "contiguous"
        return f"chunks {self.chunks}" + (
            f", {' + '.join(self.filters)}" if self.filters else ", no filter"
        )


def read_layout(dataset: h5py.Dataset, file: h5py.File) -> Layout:
    """Read how a data set is stored.

    Args:
        dataset: What `find_dataset` found.
        file: The file it was found in; a link may have led to another.

    Raises:
        ColumnError: It has no axis to count rows along, or its type cannot be a column.
    """
    where = f"{dataset.name!r} in {dataset.file.filename!r}"
    if dataset.shape is None or len(dataset.shape) == 0:
        kind = "empty (a null data space)" if dataset.shape is None else "a scalar"
        raise ColumnError(f"{where} is {kind} and has no rows; a column needs at least one axis")
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError) as error:
        raise ColumnError(f"{where} cannot be a column: {error}") from error
    if (reason := why_not_column(dtype)) is not None:
        raise ColumnError(f"{where} cannot be a column: {reason}")
    creation = dataset.id.get_create_plist()
    layout = creation.get_layout()
    filters = _read_filters(creation)
    foreign = tuple((code, name) for code, name in filters if code not in _FILTERS)
    load_filters(foreign)
    return Layout(
        shape=tuple(dataset.shape) + tuple(dtype.shape),
        dtype=dtype.base,
        chunks=None if dataset.chunks is None else tuple(dataset.chunks),
        filters=tuple(name for _, name in filters),
        foreign_filters=foreign,
        num_stored_bytes=dataset.id.get_storage_size(),
        offset=dataset.id.get_offset() if layout == h5py.h5d.CONTIGUOUS else None,
        dtype_is_exact=_dtype_is_exact(dataset),
        is_virtual=layout == h5py.h5d.VIRTUAL,
        has_external_bytes=(
            creation.get_external_count() > 0 or dataset.file.filename != file.filename
        ),
        is_plain_file=_is_plain_file(dataset.file),
    )


def why_not_column(dtype: np.dtype) -> str | None:
    """Say why values of this type cannot be a column; None if they can."""
    if h5py.check_string_dtype(dtype) is not None:
        return None
    if h5py.check_vlen_dtype(dtype) is not None:
        return (
            "its rows differ in length (a variable-length type); pad them to one length and write "
            "them again"
        )
    if dtype.hasobject:
        return f"its values are {_object_kind(dtype)}, not numbers"
    return None


def _object_kind(dtype: np.dtype) -> str:
    return "references" if h5py.check_ref_dtype(dtype) is not None else "Python objects"


def load_filters(filters: Sequence[tuple[int, str]]) -> list[str]:
    """Make foreign filters known to HDF5, and return the names of those that stay unknown."""
    missing = [name for code, name in filters if not h5py.h5z.filter_avail(code)]
    if missing:
        with suppress(ImportError):
            import_module("hdf5plugin")  # registers its filters
        missing = [name for code, name in filters if not h5py.h5z.filter_avail(code)]
    return missing


def _read_filters(creation: h5py.h5p.PropDCID) -> list[tuple[int, str]]:
    found = [creation.get_filter(position) for position in range(creation.get_nfilters())]
    return [(code, _FILTERS.get(code) or _filter_name(code, name)) for code, _, _, name in found]


def _filter_name(code: int, name: bytes) -> str:
    # Some filters put a sentence here: "HDF5 blosc filter; see http://...".
    return name.decode("utf-8", "replace").strip("\0 ").split(";")[0] or f"filter {code}"


def _dtype_is_exact(dataset: h5py.Dataset) -> bool:
    # False for bfloat16, bit fields, odd precisions, null-terminated strings: h5py converts those
    # on reading.
    if dataset.dtype.hasobject:
        return False
    try:
        return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype, logical=True)))
    except (TypeError, ValueError):
        return False


def _is_plain_file(file: h5py.File) -> bool:
    # Intent 0 is plain read-only: opening "r" what this process has open for writing gives a
    # writing handle, with bytes in memory that are not in the file yet. User blocks shift offsets
    # before HDF5 1.14.4.
    shifted = file.userblock_size > 0 and h5py.version.hdf5_version_tuple < (1, 14, 4)
    return file.driver == "sec2" and file.id.get_intent() == 0 and not shifted
