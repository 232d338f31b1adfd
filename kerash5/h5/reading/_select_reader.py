"""Select the fastest reader that can read a data set, and state why no faster one can."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, DamagedFileError, KerasH5Error, explain_system_error
from kerash5._warnings import warn
from kerash5.h5.reading._chunk_readers import DirectReader, MappedReader
from kerash5.h5.reading._contiguous import ContiguousReader, why_not_contiguous
from kerash5.h5.reading._readers import AbstractReader, H5pyReader, Origin, describe_axis
from kerash5.h5.storage._chunk_map import (
    ChunkMap,
    cross_check,
    read_chunk_map,
    why_not_direct,
    why_not_mapped,
)
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_dataset
from kerash5.h5.storage._layout import Layout, read_layout
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

Reader = Literal["auto", "direct", "h5py"]

_VLEN_ELEMENT: Final = np.dtype([("length", "<u4"), ("heap", "V12")])
READERS: Final[tuple[Reader, ...]] = ("auto", "direct", "h5py")


def open_part(
    path: str,
    file: H5File,
    *,
    allow_external: bool = False,
    reader: Reader = "auto",
    fields: tuple[str, ...] | None = None,
    axis: int = 0,
    ragged: bool = False,
) -> tuple[Layout, AbstractReader]:
    """Open one data set of one file with the fastest reader that it qualifies for.

    Args:
        path: Path of the data set.
        file: The file.
        allow_external: Allow data outside the folder of the file.
        reader: "auto"; "direct" to use no file offsets; "h5py" to use only h5py.
        fields: Fields to use of a compound; if others are not numeric, only these are read.
        axis: Which axis of the data set counts rows; negative ones count from the last.
        ragged: Allow rows of variable length, which are read as objects.

    Raises:
        KerasH5Error: The data set does not exist, cannot be a column, or is damaged.
    """
    with explained(path, file), file.open() as handle:
        found = find_dataset(handle, path, allow_external=allow_external)
        may_hold_objects = ragged or fields is not None
        layout = read_layout(found.dataset, handle, may_hold_objects=may_hold_objects)
        place = _find_axis(axis, layout, f"{path!r} in {file.path!r}")
        if place or ((ragged or fields is not None) and layout.dtype.hasobject):
            chosen: AbstractReader = _open_by_h5py(path, file, layout, fields, place)
        else:
            chosen = _choose(path, file, found.dataset, layout, reader)
        chosen.other_files = found.other_files
        chosen.origin = _find_origin(found.dataset, handle, file)
        chosen.named_by = _find_names(found.dataset, layout)
        return layout, chosen


@contextmanager
def explained(path: str, file: H5File) -> Iterator[None]:
    """Convert errors of HDF5 about an object of a file to `DamagedFileError`."""
    try:
        yield
    except KerasH5Error:
        raise
    except (KeyError, TypeError, *HDF5_ERRORS) as error:
        what = f"{path!r} in {file.path!r}"
        raise explain_system_error(error, what) or DamagedFileError(
            f"{what} is damaged ({words_of(error)}); copy or download the file again"
        ) from error


def read_vlen_lengths(
    path: str, file: H5File, *, allow_external: bool = False
) -> NDArray[np.int64] | None:
    """Return the length of each array of a variable-length data set, without reading the arrays.

    HDF5 stores 16 bytes per array: its length, and the address of its values (HDF5 file format,
    "Variable-length type" and "Global heap").

    Returns:
        The lengths, in the shape of the data set; None if they cannot be read straight from the
        file, or the data set has no variable length.
    """
    with file.open() as handle:
        dataset = find_dataset(handle, path, allow_external=allow_external).dataset
        try:
            kind = dataset.dtype
            is_text = h5py.check_string_dtype(kind) is not None
            if not kind.hasobject or not (is_text or h5py.check_vlen_dtype(kind) is not None):
                return None
            layout = replace(
                read_layout(dataset, handle, may_hold_objects=True),
                dtype=_VLEN_ELEMENT,
                dtype_is_exact=True,
                fill_bytes=bytes(_VLEN_ELEMENT.itemsize),
            )
            reader = _choose(path, file, dataset, layout, "auto")
            if isinstance(reader, H5pyReader):
                return None
            found = np.empty(layout.shape, _VLEN_ELEMENT)
            reader.read_range(0, layout.num_rows, found)
        except (KerasH5Error, *HDF5_ERRORS):
            return None
    lengths: NDArray[np.int64] = found["length"].astype(np.int64)
    return lengths


def _find_axis(axis: int, layout: Layout, where: str) -> int:
    """Return the axis as a number >= 0, after checking that the data set has it."""
    if not -layout.rank <= axis < layout.rank:
        raise ColumnError(
            f"axis={axis} of {where}, which has the shape {layout.shape[: layout.rank]}; choose an "
            f"axis from 0 to {layout.rank - 1}"
        )
    return axis % layout.rank


def _open_by_h5py(
    path: str, file: H5File, layout: Layout, fields: tuple[str, ...] | None, axis: int
) -> H5pyReader:
    """Return the reader for what only h5py can read: other axes, or some of the fields."""
    tops, reason = None, "it holds no plain numbers"
    if axis:
        reason = describe_axis(layout, axis)
    if fields is not None and layout.dtype.hasobject:
        tops = tuple(dict.fromkeys(split_field(one, layout.dtype)[0] for one in fields))
        check_fields(tops, layout.dtype, f"{path!r} in {file.path!r}")
    return H5pyReader(file, path, layout, reason=reason, fields=tops, axis=axis)


def check_fields(fields: Iterable[str], dtype: np.dtype, where: str) -> None:
    """Raise `ColumnError` if a type lacks one of some fields.

    Args:
        fields: Names of the fields.
        dtype: The type.
        where: The data set and its file, for the message.
    """
    if dtype.names is None:
        raise ColumnError(
            f"{where} holds {dtype} values, which have no fields; leave field= out, or name the "
            "table"
        )
    for name in fields:
        if name not in dtype.names:
            near = difflib.get_close_matches(name, dtype.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(dtype.names)}"
            raise ColumnError(f"{where} has no field {name!r}; {hint}")


def split_field(field: str, dtype: np.dtype) -> list[str]:
    """Return the names on the path to a field: split at dots, unless a name contains them."""
    return [field] if field in (dtype.names or ()) else field.split(".")


def _find_names(dataset: h5py.Dataset, layout: Layout) -> str | None:
    """Return the data set with category names that AnnData before 0.8 stores in an attribute."""
    is_possible = layout.dtype.kind in "iu" and len(layout.shape) == 1
    if not is_possible or not h5py.h5a.exists(dataset.id, b"categories"):
        return None
    target = dataset.attrs["categories"]
    is_reference = isinstance(target, h5py.Reference) and bool(target)
    return str(dataset.file[target].name) if is_reference else None


def _find_origin(dataset: h5py.Dataset, handle: h5py.File, file: H5File) -> Origin | None:
    address = h5py.h5o.get_info(dataset.id).addr
    name = h5py.h5f.get_name(dataset.id)
    if name == h5py.h5f.get_name(handle.id):
        return file.identity.device, file.identity.inode, address
    try:  # it is in another file, behind a link
        stat = os.stat(name)
    except FileNotFoundError:  # removed meanwhile; reading raises the error
        return None
    return stat.st_dev, stat.st_ino, address


def _choose(
    path: str, file: H5File, dataset: h5py.Dataset, layout: Layout, reader: Reader
) -> AbstractReader:
    if reader == "h5py":
        return H5pyReader(file, path, layout, reason="asked for")
    if layout.chunks is None:
        reason = why_not_contiguous(layout, file.identity.num_bytes)
        if reason is None and reader == "auto":
            return ContiguousReader(file, path, layout)
        return H5pyReader(file, path, layout, reason=reason or "asked for no offsets")
    _check_sizes(path, file, layout)
    not_mapped = why_not_mapped(layout) if reader == "auto" else "asked for"
    if not_mapped is None:
        chunk_map = _map(path, file, dataset, layout)
        if chunk_map is not None:
            return MappedReader(file, path, layout, chunk_map)
        not_mapped = "HDF5 reports wrong offsets for its chunks"
    not_direct = why_not_direct(layout)
    if not_direct is None:
        return DirectReader(file, path, layout, not_mapped)
    return H5pyReader(file, path, layout, reason=not_direct)


def _check_sizes(path: str, file: H5File, layout: Layout) -> None:
    """Raise if chunks without filters do not have their nominal size: their filters are lost.

    HDF5 would read beyond such chunks, even past the end of the file.
    """
    nominal = layout.num_written_chunks * layout.chunk_bytes
    if layout.dtype_is_exact and not layout.filters and layout.num_stored_bytes != nominal:
        raise DamagedFileError(
            f"{path!r} in {file.path!r} is damaged: its chunks take {layout.num_stored_bytes} "
            f"bytes instead of {nominal}, and no filter is known; copy or download the file again"
        )


def _map(path: str, file: H5File, dataset: h5py.Dataset, layout: Layout) -> ChunkMap | None:
    """Return the map of the chunks; None if a check of some chunks shows that it is wrong."""
    chunk_map = read_chunk_map(dataset, layout)
    if cross_check(dataset, chunk_map):
        return chunk_map
    warn(
        f"HDF5 reports wrong offsets for the chunks of {path!r} in {file.path!r}; they are read "
        "one by one instead, which is slower"
    )
    return None
