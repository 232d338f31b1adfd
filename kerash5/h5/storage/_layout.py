"""The shape, type and storage of one data set of an HDF5 file.

`read_layout` calls h5py once; a `Layout` after that consists of plain values and can be sent to
other processes. Nothing here reads data: see `h5/reading/_readers`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Final, NamedTuple

import h5py
import numpy as np

from kerash5._errors import ColumnError, escape_controls
from kerash5.h5.storage._filters import Filter
from kerash5.h5.storage._opening import HDF5_ERRORS

MAX_CHUNK_BYTES: Final = 256 << 20  # decoded; larger chunks are left to HDF5

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
    """How one data set is stored. Created only by `read_layout`, which checks all fields."""

    shape: tuple[int, ...]
    maxshape: tuple[int | None, ...]  # None: unlimited
    rank: int  # axes of the data space; later ones, also of `chunks` and `grid`, are sub-arrays'
    dtype: np.dtype  # as h5py reads it; sub-arrays are in `shape`
    chunks: tuple[int, ...] | None  # None: contiguous, compact or virtual
    num_written_chunks: int
    filters: tuple[Filter, ...]  # in the order they were applied on writing
    edges_skip_filters: bool | None  # chunks that extend beyond the shape have none; None: unknown
    fill_bytes: bytes | None  # of one value; None: unwritten values are undefined
    num_stored_bytes: int
    offset: int | None  # first byte in the file of written contiguous data; else None
    first_byte: int  # of the HDF5 part of the file, after a user block
    dtype_is_exact: bool  # the bytes in the file are the bytes h5py would return
    is_virtual: bool
    has_external_bytes: bool  # in raw files, or in an HDF5 file behind a link
    why_not_plain: str | None  # why file offsets or bytes may differ from what HDF5 reports

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
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk; 1 if the data set is not chunked."""
        return self.chunks[0] if self.chunks else 1

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks along each axis; empty if the data set is not chunked."""
        return tuple(
            -(-length // size) for length, size in zip(self.shape, self.chunks or (), strict=False)
        )

    @property
    def num_chunks(self) -> int:
        """The number of chunks that cover the shape, written or not."""
        return math.prod(self.grid) if self.chunks else 0

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize if self.chunks else 0

    @property
    def element_bytes(self) -> int:
        """Bytes of one HDF5 element: a value, or a whole sub-array of values."""
        return math.prod(self.shape[self.rank :]) * self.dtype.itemsize

    @property
    def has_holes(self) -> bool:
        """Whether some chunk was never written."""
        return self.num_written_chunks < self.num_chunks

    @property
    def may_be_extensible_array(self) -> bool:
        """Whether the index may be an extensible array, whose chunks HDF5 reports wrongly.

        HDF5 lists these chunks in another order than documented, and counts some outside the shape
        (seen with 1.14.6 and 2.0.0). No function returns the kind of index, and the versions of the
        file and of the data set do not determine it. Only data sets with exactly one unlimited axis
        have such an index; if that is the first axis, order and count are right.
        """
        return self.maxshape.count(None) == 1 and self.maxshape[0] is not None

    @property
    def fill(self) -> np.ndarray | None:
        """The value, shape (), of unwritten elements; None if they are undefined."""
        if self.fill_bytes is None:
            return None
        return np.frombuffer(self.fill_bytes, self.dtype).reshape(())

    @property
    def foreign_filters(self) -> tuple[tuple[int, str], ...]:
        """The codes and names of filters that are not built into HDF5."""
        return tuple((one.code, one.name) for one in self.filters if one.code not in _FILTERS)

    @property
    def is_plain_file(self) -> bool:
        """Whether the offsets that HDF5 reports are offsets in the file."""
        return self.why_not_plain is None

    def describe(self) -> str:
        """Describe in a few words how the data set is stored."""
        if self.is_virtual:
            return "virtual"
        if self.chunks is None:
            return "external" if self.has_external_bytes else "contiguous"
        return f"chunks {self.chunks}" + (
            f", {' + '.join(one.name for one in self.filters)}" if self.filters else ", no filter"
        )


def read_layout(
    dataset: h5py.Dataset, file: h5py.File, *, may_hold_objects: bool = False
) -> Layout:
    """Read how a data set is stored.

    Args:
        dataset: The data set, from `find_dataset`.
        file: The file it was looked up in; the data set may be in another, behind a link.
        may_hold_objects: Accept types that h5py reads as Python objects, such as rows of variable
            length, or compounds with text.

    Raises:
        ColumnError: The data set has no axis of rows, or its type cannot be a column.
    """
    shape, dtype = _check_rows(dataset, may_hold_objects=may_hold_objects)
    inner_shape, value_dtype = _unfold(dtype)
    creation = dataset.id.get_create_plist()
    layout = creation.get_layout()
    filters = _read_filters(creation)
    load_filters([(one.code, one.name) for one in filters if one.code not in _FILTERS])
    is_exact = _dtype_is_exact(dataset, dtype)
    chunks = dataset.chunks
    is_elsewhere = h5py.h5f.get_name(dataset.id) != h5py.h5f.get_name(file.id)
    facts = _read_facts(dataset.file) if is_elsewhere else _facts_of(file)
    num_written = dataset.id.get_num_chunks() if chunks else 0
    return Layout(
        shape=shape + inner_shape,
        maxshape=tuple(dataset.maxshape) + inner_shape,
        rank=len(shape),
        dtype=value_dtype,
        chunks=None if chunks is None else tuple(chunks) + inner_shape,
        num_written_chunks=num_written,
        filters=filters,
        edges_skip_filters=(
            _edges_skip_filters(dataset) if is_exact and filters and num_written else False
        ),
        fill_bytes=_read_fill(creation, value_dtype) if is_exact else None,
        num_stored_bytes=dataset.id.get_storage_size(),
        offset=dataset.id.get_offset() if layout == h5py.h5d.CONTIGUOUS else None,
        first_byte=facts.first_byte,
        dtype_is_exact=is_exact,
        is_virtual=layout == h5py.h5d.VIRTUAL,
        has_external_bytes=is_elsewhere or creation.get_external_count() > 0,
        why_not_plain=facts.why_not_plain,
    )


def _check_rows(
    dataset: h5py.Dataset, *, may_hold_objects: bool
) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the type of a data set, or raise if it cannot be a column."""
    shape = dataset.shape
    reason: str | None
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError) as error:
        reason = str(error)
    else:
        reason = None if may_hold_objects else why_not_column(dtype)
        reason = reason or _why_not_convertible(dataset, dtype)
    if shape and reason is None:
        return tuple(shape), dtype
    where = f"{dataset.name!r} in {dataset.file.filename!r}"
    if not shape:
        kind = "empty (a null data space)" if shape is None else "a scalar"
        raise ColumnError(f"{where} is {kind} and has no rows; a column needs at least one axis")
    raise ColumnError(f"{where} cannot be a column: {reason}")


def why_not_column(dtype: np.dtype) -> str | None:
    """Return why values of this type cannot be a column; None if they can."""
    if h5py.check_string_dtype(dtype) is not None:
        return None
    if h5py.check_vlen_dtype(dtype.base) is not None:
        image = ", or decode='image' if they are encoded images" if _may_be_image(dtype) else ""
        return (
            "its rows differ in length (a variable-length type); pass pad_to=, the length that "
            f"they are padded or truncated to{image}"
        )
    if dtype.names is not None and dtype.hasobject:
        return (
            "some of its fields are text, references or of any length; name those to read with "
            "field="
        )
    if dtype.hasobject:
        return f"its values are {_object_kind(dtype)}, not numbers"
    return None


def _may_be_image(dtype: np.dtype) -> bool:
    values = h5py.check_vlen_dtype(dtype.base)
    return isinstance(values, np.dtype) and values.itemsize == 1


def _unfold(dtype: np.dtype) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the value type of a type that may be an array, also a nested one."""
    shape: tuple[int, ...] = ()
    while dtype.subdtype is not None:
        dtype, inner = dtype.subdtype
        shape += inner
    return shape, dtype


def _why_not_convertible(dataset: h5py.Dataset, dtype: np.dtype) -> str | None:
    """Return why HDF5 cannot convert opaque bytes to what h5py requests; None if it can."""
    base = _unfold(dtype)[1]
    if base.kind != "V" or base.names is not None:
        return None
    stored, read = dataset.id.get_type(), h5py.h5t.py_create(dtype)
    if stored.equal(read) or h5py.h5t.find(stored, read) is not None:
        return None
    return "h5py cannot read values of its type; write them again as numbers"


def _object_kind(dtype: np.dtype) -> str:
    return "references" if h5py.check_ref_dtype(dtype) is not None else "Python objects"


def load_filters(filters: Sequence[tuple[int, str]]) -> list[str]:
    """Register foreign filters with HDF5, and return the names of those that stay unknown."""
    missing = [name for code, name in filters if not h5py.h5z.filter_avail(code)]
    if missing:
        with suppress(ImportError):
            import_module("hdf5plugin")  # registers its filters
        missing = [name for code, name in filters if not h5py.h5z.filter_avail(code)]
    return missing


def _read_filters(creation: h5py.h5p.PropDCID) -> tuple[Filter, ...]:
    found = [creation.get_filter(position) for position in range(creation.get_nfilters())]
    return tuple(
        Filter(code, flags, tuple(values), _FILTERS.get(code) or _filter_name(code, name))
        for code, flags, values, name in found
    )


def _filter_name(code: int, name: bytes) -> str:
    # Some filters store a sentence here: "HDF5 blosc filter; see http://...".
    text = name.decode("utf-8", "replace").strip("\0 ").split(";")[0]
    return escape_controls(text) or f"filter {code}"


def _dtype_is_exact(dataset: h5py.Dataset, dtype: np.dtype) -> bool:
    # False for bfloat16, bit fields, odd precisions, null-terminated strings: h5py converts those
    # on reading.
    if dtype.hasobject:
        return False
    try:
        return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dtype, logical=True)))
    except (TypeError, ValueError):
        return False


def _read_fill(creation: h5py.h5p.PropDCID, dtype: np.dtype) -> bytes | None:
    # HDF5 leaves memory uninitialised where fill values are never written, or are not defined.
    defined = creation.fill_value_defined()
    if (
        creation.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        or defined == h5py.h5d.FILL_VALUE_UNDEFINED
    ):
        return None
    value = np.zeros((), dtype)
    if defined == h5py.h5d.FILL_VALUE_DEFAULT:
        return value.tobytes()
    try:
        creation.get_fill_value(value)
    except (OSError, RuntimeError, TypeError, ValueError):
        return None  # the fill value of sub-arrays, which h5py cannot read
    return value.tobytes()


def _edges_skip_filters(dataset: h5py.Dataset) -> bool | None:
    """Return whether chunks beyond the shape were stored without filters (H5Pset_chunk_opts).

    At least one chunk must have been written: else `read_direct_chunk` returns an arbitrary size
    (h5py 3.16, HDF5 2.0.0).

    The filter masks of these chunks do not contain it, and h5py has no H5Pget_chunk_opts. Without
    filters a chunk has its nominal size, so a chunk of another size was filtered. Otherwise an
    experiment decides: see `_size_of_edge_with_sum`.
    """
    shape, chunks = dataset.shape, dataset.chunks
    pairs = list(zip(shape, chunks or (), strict=False))
    if dataset.size == 0 or not any(length % size for length, size in pairs):
        return False
    chunk_bytes = math.prod(chunks) * dataset.id.get_type().get_size()
    # The last chunk along every axis extends beyond the shape along each axis where any does.
    corner = tuple((length - 1) // size * size for length, size in pairs)
    with suppress(*HDF5_ERRORS):  # this chunk may not have been written
        if len(dataset.id.read_direct_chunk(corner)[1]) != chunk_bytes:
            return False
    if chunk_bytes > MAX_CHUNK_BYTES:
        return None
    try:
        return bool(_size_of_edge_with_sum(dataset) == chunk_bytes)
    except (IndexError, TypeError, *HDF5_ERRORS):
        return None


def _size_of_edge_with_sum(dataset: h5py.Dataset) -> int:
    """Return the stored bytes of a partial chunk with the options of `dataset` and a checksum.

    The chunk is written to a file in memory. The checksum adds 4 bytes if filters are applied.
    """
    creation = dataset.id.get_create_plist()  # a copy, with the same chunk options
    creation.remove_filter(0)  # all of them
    creation.set_fletcher32()
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_IFSET)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(1 << 16, False)
    # A unique name, because HDF5 rejects the second of two open files with one name.
    memory = h5py.h5f.create(uuid.uuid4().hex.encode(), h5py.h5f.ACC_EXCL, fapl=access)
    try:
        ones = (1,) * len(dataset.chunks)
        space = h5py.h5s.create_simple(ones, (h5py.h5s.UNLIMITED,) * len(ones))
        stored = h5py.h5d.create(memory, b"x", dataset.id.get_type().copy(), space, creation)
        return int(stored.get_storage_size())
    finally:
        memory.close()


class _FileFacts(NamedTuple):
    """What is the same for all data sets of a file."""

    first_byte: int
    why_not_plain: str | None


def _facts_of(file: h5py.File) -> _FileFacts:
    """Return the facts about a file, which are read once for each handle."""
    found = file.__dict__.get("_kerash5_facts")
    if not isinstance(found, _FileFacts):
        found = file.__dict__["_kerash5_facts"] = _read_facts(file)
    return found


def _read_facts(file: h5py.File) -> _FileFacts:
    first_byte, driver = file.userblock_size, file.driver
    reasons = (
        (driver != "sec2", f"HDF5 reads the file with its driver {driver!r}"),
        # Intent 0 is plain read-only. Opening a file with "r" that this process has open for
        # writing gives a writing handle, with bytes in memory that are not in the file yet.
        (file.id.get_intent() != 0, "the file is open for writing in this process, or by SWMR"),
        (
            first_byte > 0 and h5py.version.hdf5_version_tuple < (1, 14, 4),
            "the file begins with a user block, which HDF5 before 1.14.4 miscounts",
        ),
    )
    return _FileFacts(first_byte, next((reason for is_so, reason in reasons if is_so), None))
