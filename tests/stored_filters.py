"""Lists of filters as files have them: any of them in any order, and chunks that skip some.

All are optional to HDF5, as h5py writes them too: one that cannot do its work on some chunk is
skipped there, and the chunk's mask says so.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

_OPTIONAL: Final = 1
_SCALEOFFSET: Final = 6


@dataclass(frozen=True)
class StoredFilter:
    """One filter to ask for; HDF5 may add to its values what it knows of the data set."""

    name: str
    code: int
    values: tuple[int, ...] = ()

    def add_to(self, creation: Any) -> None:
        """Append this filter to the list of a data set to be made."""
        if self.code == _SCALEOFFSET:
            creation.set_scaleoffset(h5py.h5z.SO_INT, 0)
        else:
            creation.set_filter(self.code, _OPTIONAL, self.values)


def _values(*parts: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*parts)


_ANY: Final = st.integers(0, 9)
_NO_VALUES: Final[st.SearchStrategy[tuple[int, ...]]] = st.just(())
_ZEROS: Final = [st.just(0)] * 4
_FILTERS: Final[dict[str, tuple[int, st.SearchStrategy[tuple[int, ...]]]]] = {
    "gzip": (1, _values(_ANY)),
    "shuffle": (2, _NO_VALUES),
    "fletcher32": (3, _NO_VALUES),
    "lzf": (32000, _NO_VALUES),
    "nbit": (5, _NO_VALUES),
    "scaleoffset": (_SCALEOFFSET, _NO_VALUES),
    "bzip2": (307, _values(st.integers(1, 9))),
    # level, shuffle, compressor
    "blosc": (
        32001,
        _values(*_ZEROS, _ANY, st.integers(0, 2), st.sampled_from([0, 1, 2, 4, 5])),
    ),
    "lz4": (32004, _values(st.sampled_from([0, 64, 1000]))),
    # elements of a block, compressor (none, LZ4, Zstandard)
    "bitshuffle": (32008, _values(st.sampled_from([0, 8, 64]), st.sampled_from([0, 2, 3]))),
    "zstd": (32015, _values(st.integers(1, 9))),
    "blosc2": (32026, _values(*_ZEROS, _ANY, st.integers(0, 2), st.sampled_from([0, 1, 2, 4, 5]))),
}
# These look at elements, or at the chunk as a whole: behind others HDF5 cannot undo them, or the
# plugin frees what it may not (blosc behind gzip, hdf5plugin 7.1).
_FIRST: Final = ("nbit", "scaleoffset", "blosc", "blosc2")
_USUAL: Final = ("gzip", "shuffle", "fletcher32", "lzf")


@st.composite
def filter_lists(draw: st.DrawFn, dtype: np.dtype[Any]) -> tuple[StoredFilter, ...]:
    """Draw filters in any order, often the usual ones in the usual order, each once."""
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(_USUAL), unique=True))
    else:
        others = [name for name in _FILTERS if name not in _FIRST]
        first = draw(st.sampled_from([(), *((name,) for name in _suiting(dtype))]))
        names = [*first, *draw(st.lists(st.sampled_from(others), unique=True, max_size=4))]
    found = [StoredFilter(name, _FILTERS[name][0], draw(_FILTERS[name][1])) for name in names]
    return tuple(_readable(found))


def _readable(filters: list[StoredFilter]) -> list[StoredFilter]:
    """Leave out what HDF5 writes and cannot read again.

    Bitshuffle fails on what another filter has packed. HDF5 then skips it, but does not always
    store that it did (hdf5plugin 7.1, HDF5 2.0).
    """
    names = [each.name for each in filters]
    if "bitshuffle" not in names:
        return filters
    position = names.index("bitshuffle")
    is_behind = any(name not in ("shuffle", "fletcher32") for name in names[:position])
    return [*filters[:position], *filters[position + 1 :]] if is_behind else filters


def _suiting(dtype: np.dtype[Any]) -> list[str]:
    if dtype.kind in "iu" and h5py.check_enum_dtype(dtype) is None:
        return list(_FIRST)
    # The list that nbit makes of a compound's fields is longer than HDF5 allows.
    return [*_FIRST[2:], "nbit"] if dtype.kind == "f" else list(_FIRST[2:])


def file_in_memory() -> Any:
    """Return a new file that is never written to the disk.

    As `h5py.File.in_memory` does, which the lowest h5py that is allowed does not have. Each has a
    name of its own: HDF5 takes two open files of one name for one.
    """
    return h5py.File(f"{uuid.uuid4()}.h5", "w", driver="core", backing_store=False)


@contextmanager
def packed_chunk(
    values: NDArray[Any], chunks: tuple[int, ...], kind: Any, filters: Sequence[StoredFilter]
) -> Iterator[tuple[int, bytes]]:
    """Lend the mask and the bytes HDF5 makes of one chunk with these filters."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(chunks)
    for entry in filters:
        entry.add_to(creation)
    with file_in_memory() as file:
        space = h5py.h5s.create_simple(chunks)
        dataset = h5py.Dataset(h5py.h5d.create(file.id, b"x", kind, space, dcpl=creation))
        dataset[...] = values
        yield dataset.id.read_direct_chunk((0,) * len(chunks))


def skip_filters(
    dataset: h5py.Dataset,
    values: NDArray[Any],
    filters: Sequence[StoredFilter],
    mask: int,
) -> None:
    """Write the first chunk again, without the filters whose bits are set in `mask`.

    Does nothing where the stored size stays: HDF5 then keeps the old mask.
    """
    kept = [position for position in range(len(filters)) if not mask >> position & 1]
    kind, first = dataset.id.get_type(), (0,) * len(dataset.chunks)
    left = [filters[position] for position in kept]
    with packed_chunk(values, dataset.chunks, kind, left) as (skipped, stored):
        for bit, position in enumerate(kept):
            mask |= (skipped >> bit & 1) << position
        if len(stored) != len(dataset.id.read_direct_chunk(first)[1]):
            dataset.id.write_direct_chunk(first, stored, filter_mask=mask)
