"""Which reader a data set gets: the fastest whose rules it meets, or in words why not."""

from __future__ import annotations

import os
import warnings
from typing import Final, Literal

import h5py

from kerash5._errors import DamagedFileError, KerasH5Error, explain_system_error
from kerash5.h5.reading._chunk_readers import DirectReader, MappedReader
from kerash5.h5.reading._contiguous import ContiguousReader, why_not_contiguous
from kerash5.h5.reading._readers import AbstractReader, H5pyReader, Origin
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

READERS: Final[tuple[Reader, ...]] = ("auto", "direct", "h5py")


def open_part(
    path: str, file: H5File, *, allow_external: bool = False, reader: Reader = "auto"
) -> tuple[Layout, AbstractReader]:
    """Open one data set of one file with the fastest reader that it qualifies for.

    Args:
        path: The data set.
        file: The file.
        allow_external: Let its data lie outside the file's folder.
        reader: "auto"; "direct" to have no offset of the file trusted; "h5py" for h5py alone.

    Raises:
        KerasH5Error: There is no such data set, it is no column, or it is damaged.
    """
    try:
        with file.open() as handle:
            found = find_dataset(handle, path, allow_external=allow_external)
            layout = read_layout(found.dataset, handle)
            chosen = _choose(path, file, found.dataset, layout, reader)
            chosen.other_files = found.other_files
            chosen.origin = _find_origin(found.dataset)
            return layout, chosen
    except KerasH5Error:
        raise
    except (KeyError, TypeError, *HDF5_ERRORS) as error:
        what = f"{path!r} in {file.path!r}"
        raise explain_system_error(error, what) or DamagedFileError(
            f"{what} is damaged ({words_of(error)}); copy or download the file again"
        ) from error


def _find_origin(dataset: h5py.Dataset) -> Origin | None:
    # Links may have led to another file than the one that was opened.
    try:
        stat = os.stat(h5py.h5f.get_name(dataset.id))
    except FileNotFoundError:  # removed meanwhile, which reading will report
        return None
    return stat.st_dev, stat.st_ino, h5py.h5o.get_info(dataset.id).addr


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
    """Refuse chunks that no filter made smaller, and that are: their filters are lost.

    HDF5 reads on behind them, past the end of the file if need be.
    """
    nominal = layout.num_written_chunks * layout.chunk_bytes
    if layout.dtype_is_exact and not layout.filters and layout.num_stored_bytes != nominal:
        raise DamagedFileError(
            f"{path!r} in {file.path!r} is damaged: its chunks take {layout.num_stored_bytes} "
            f"bytes instead of {nominal}, and no filter is known; copy or download the file again"
        )


def _map(path: str, file: H5File, dataset: h5py.Dataset, layout: Layout) -> ChunkMap | None:
    """Return the map of the chunks, or None if a look at some of them shows that it is wrong."""
    chunk_map = read_chunk_map(dataset, layout)
    if cross_check(dataset, chunk_map):
        return chunk_map
    warnings.warn(
        f"HDF5 reports wrong places for the chunks of {path!r} in {file.path!r}; they are read one "
        "by one instead, which is slower",
        stacklevel=2,
    )
    return None
