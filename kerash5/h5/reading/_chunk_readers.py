"""The fast readers of chunked data: stored bytes to decoded rows, without HDF5's filter pipeline.

`MappedReader` reads the bytes straight from the file, at the offsets of a chunk map. `DirectReader`
reads them with `read_direct_chunk`, under h5py's lock, and needs no offsets. Both decode outside
h5py's lock, so that threads decode in parallel; only small chunks are decoded by one thread at a
time. Both return what h5py returns, or raise an error: `h5/storage/_chunk_map` defines which data
sets they do not read, and `_readers` has the reference reader.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Final, cast, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, explain_system_error
from kerash5.h5.reading._bands import BandPart, split_bands
from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._cancel import check_stop
from kerash5.h5.reading._descriptors import read_byte_ranges, read_in_turn
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._runs import Runs
from kerash5.h5.reading._timers import clocked
from kerash5.h5.storage._chunk_map import ChunkMap
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._filters import CodecError, Pipeline
from kerash5.h5.storage._layout import Layout
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

_GROUP_BYTES: Final = 1 << 20  # stored bytes fetched at a time
# Gaps between two chunks up to this size are read, too: a second system call takes longer.
_GAP_BYTES: Final = 16 << 10

_SMALL_READ: Final = 8 << 10  # bytes of a read; smaller ones are faster in one group

# Smaller chunks decode so fast that two threads mostly wait for the GIL of each other: in the best
# quarter of 36 rounds, one thread at a time decodes 6 to 34 % more rows per second.
_SMALL_BYTES: Final = 64 << 10

Stored = tuple[np.ndarray | None, int]  # bytes (None: never written), filter mask


class ChunkedReader(AbstractReader):
    """Reads and decodes chunks; subclasses read the stored bytes."""

    def __init__(self, file: H5File, path: str, layout: Layout) -> None:
        chunks = cast("tuple[int, ...]", layout.chunks)  # `why_not_*` excludes None
        self._file = file
        self._path = path
        self._pipeline = Pipeline(layout.filters, layout.chunk_bytes, layout.element_bytes)
        self.chunks = chunks
        self._rank = layout.rank
        self.num_rows = layout.num_rows
        self.row_shape = layout.row_shape
        self.dtype = layout.dtype
        self.block_rows = chunks[0]
        self.is_direct = False
        # Fields are copied with the bytes between them: assigning structs would skip the padding.
        self._copied_as = (
            layout.dtype if layout.dtype.names is None else np.dtype(f"V{layout.dtype.itemsize}")
        )
        self._fill = (
            None if layout.fill_bytes is None else np.frombuffer(layout.fill_bytes, self._copied_as)
        )
        # A band of chunks contains whole rows. A tile is the part of a row in
        # one chunk: (start, stop) along the other axes.
        axes = zip(self.row_shape, self.chunks[1:], strict=True)
        edges = [
            [(low, min(low + size, length)) for low in range(0, length, size)]
            for length, size in axes
        ]
        self._tiles: list[tuple[tuple[int, int], ...]] = list(product(*edges))
        self._holds_whole_rows = self.chunks[1:] == self.row_shape
        self.num_shards = max(1, len(self._tiles))
        self._is_small = layout.chunk_bytes < _SMALL_BYTES

    @abstractmethod
    def _fetch(self, chunks: Sequence[int]) -> Iterator[Sequence[Stored]]:
        """Yield the stored bytes of these chunks, numbered in C order of the grid, in groups.

        The bytes of a group are valid until the next group is requested.
        """

    @abstractmethod
    def _locate(self, chunk: int) -> str:
        """Describe where the stored bytes of a chunk are."""

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions; whole chunks are decoded into `out`."""
        size, bands = self.chunks[0], []
        for start, stop, place in runs:
            for band in range(start // size, -(-stop // size)):
                low, high = max(start, band * size), min(stop, (band + 1) * size)
                inside = slice(low - band * size, high - band * size)
                bands.append(
                    BandPart(band, inside, slice(low + place - start, high + place - start))
                )
        self._load(bands, range(len(self._tiles)), out)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order; each chunk is decoded once."""
        count = len(self._tiles)
        tiles = range(count * shard[0] // shard[1], count * (shard[0] + 1) // shard[1])
        if tiles:
            self._load(split_bands(rows, positions, self.chunks[0]), tiles, out)

    def _load(self, parts: Sequence[BandPart], tiles: range, out: np.ndarray) -> None:
        """Load the given tiles of parts of bands to their output buffers."""
        target, count = out.view(self._copied_as), len(self._tiles)
        pairs = [(part, tile) for part in parts for tile in tiles]
        due = iter(pairs)
        whole = slice(0, self.chunks[0]) if self._holds_whole_rows else None
        spare: np.ndarray | None = None
        for group in self._fetch([part.band * count + tile for part, tile in pairs]):
            # Not around reading: threads can wait for a disk or a network in parallel.
            with _TURN.lock if self._is_small else nullcontext():
                for stored, ((band, inside, positions), tile) in zip(group, due, strict=False):
                    if isinstance(positions, slice) and inside == whole:
                        self._decode(band, stored, target[positions])
                        continue
                    spare = self._new_chunk() if spare is None else spare
                    self._decode(band * count + tile, stored, spare)
                    self._copy(spare, tile, inside, target, positions)

    def visit_chunks(
        self, numbers: Sequence[int], visit: Callable[[int, np.ndarray], None]
    ) -> None:
        """Decode chunks, numbered in C order of the grid, and call `visit` with each.

        Args:
            numbers: Numbers of the chunks.
            visit: Called with the index in `numbers` and the decoded chunk, shape `chunks`. The
                array is reused for the next chunk; values outside the data set are undefined.
        """
        spare, due = self._new_chunk(), iter(range(len(numbers)))
        for group in self._fetch(numbers):
            with _TURN.lock if self._is_small else nullcontext():
                for stored, place in zip(group, due, strict=False):
                    self._decode(numbers[place], stored, spare)
                    visit(place, spare)

    def _new_chunk(self) -> np.ndarray:
        return empty(self.chunks, self._copied_as)

    def _copy(
        self,
        chunk: np.ndarray,
        tile: int,
        inside: slice | NDArray[np.int64],
        target: np.ndarray,
        positions: slice | NDArray[np.int64],
    ) -> None:
        """Copy the tile of rows in a decoded chunk to the output rows."""
        if self._holds_whole_rows:
            target[positions] = chunk[inside]
            return
        bounds = self._tiles[tile]
        source = tuple(slice(0, high - low) for low, high in bounds)
        tile_slices = tuple(slice(low, high) for low, high in bounds)
        target[(positions, *tile_slices)] = chunk[(inside, *source)]

    @clocked("decode")
    def _decode(self, number: int, stored: Stored, out: np.ndarray) -> None:
        check_stop()
        data, mask = stored
        if data is None:
            out[...] = self._fill
            return
        try:
            self._pipeline.decode(data, mask, out.reshape(-1).view(np.uint8))
        except CodecError as error:
            complaint = f"{self._locate(number)} does not decode ({error})"
            raise self._damaged(number, complaint) from error

    def _damaged(self, number: int, complaint: str) -> DamagedFileError:
        """Return the error for a damaged chunk; raise if the file has changed."""
        self._file.check_unchanged()
        return DamagedFileError(
            f"{self._path!r} in {self._file.path!r} is damaged: chunk {self._coordinates(number)} "
            f"{complaint}; copy or download the file again"
        )

    def _coordinates(self, number: int) -> tuple[int, ...]:
        """Return the coordinates of the first element of a chunk, which identify it in HDF5."""
        band, tile = divmod(number, len(self._tiles))
        return (band * self.chunks[0], *(low for low, _ in self._tiles[tile]))


@final
class MappedReader(ChunkedReader):
    """Reads stored chunks straight from the file. Created only if `why_not_mapped` is None."""

    def __init__(self, file: H5File, path: str, layout: Layout, chunk_map: ChunkMap) -> None:
        super().__init__(file, path, layout)
        self.chunk_map = chunk_map
        misplaced = chunk_map.find_misplaced(layout.first_byte, file.identity.num_bytes)
        self._misplaced = frozenset(misplaced.tolist())

    def describe(self) -> str:
        """Describe how the rows are read."""
        return "straight from the file (chunk map), decoded on threads"

    def _locate(self, chunk: int) -> str:
        return f"at byte {self.chunk_map.offsets[chunk]} ({self.chunk_map.sizes[chunk]} bytes)"

    def _refuse_misplaced(self, chunks: Sequence[int]) -> None:
        for number in chunks:
            if number in self._misplaced:
                where = f"{self._locate(number)} of {self._file.identity.num_bytes}"
                raise self._damaged(number, f"lies {where}, outside the file")

    def _fetch(self, chunks: Sequence[int]) -> Iterator[Sequence[Stored]]:
        if self._misplaced:
            self._refuse_misplaced(chunks)
        numbers = np.asarray(chunks, np.int64)
        offsets, sizes = self.chunk_map.offsets[numbers], self.chunk_map.sizes[numbers]
        masks = self.chunk_map.masks[numbers].tolist()
        num_joined = np.count_nonzero(offsets[1:] == offsets[:-1] + sizes[:-1])
        is_small = sizes.sum() < _SMALL_READ * len(sizes)
        stored = zip(offsets.tolist(), sizes.tolist(), masks, strict=True)
        # Read one by one, each chunk is still in the processor's cache when it is decoded. For
        # small and for adjacent chunks the additional calls cost more than that gains.
        if is_small or 2 * num_joined > len(sizes):
            return self._fetch_groups(stored)
        return self._fetch_each(list(stored))

    def _fetch_each(self, stored: list[tuple[int, int, int]]) -> Iterator[Sequence[Stored]]:
        """Yield stored chunks one by one, in the same memory."""
        data = np.empty(max((size for _, size, _ in stored), default=0), np.uint8)
        positions = [(offset, size) for offset, size, _ in stored if offset >= 0]
        reads = read_in_turn(self._file, self._path, positions, data)
        for offset, size, mask in stored:
            if offset < 0:
                yield [(None, 0)]
            else:
                next(reads)
                yield [(data[:size], mask)]

    def _fetch_groups(self, stored: Iterable[tuple[int, int, int]]) -> Iterator[Sequence[Stored]]:
        group = _Group()
        # Lists, not arrays: each of a dozen NumPy calls takes as long as a dozen iterations.
        for offset, size, mask in stored:
            if not group.takes(offset, size, mask):
                yield self._fetch_group(group)
                group = _Group()
                group.takes(offset, size, mask)
        yield self._fetch_group(group)

    def _fetch_group(self, group: _Group) -> list[Stored]:
        data = empty((group.num_bytes,), np.uint8)
        if group.offsets:
            read_byte_ranges(
                self._file,
                self._path,
                offsets=np.array(group.offsets),
                sizes=np.array(group.sizes),
                out=data,
                positions=np.array(group.positions),
            )
        return [
            (None, 0) if place is None else (data[place : place + size], mask)
            for place, size, mask in group.chunks
        ]


class _Turn:
    """The lock for decoding small chunks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def forget(self) -> None:
        """Create a new lock in a forked child, where a lock of another thread is never released."""
        self.lock = threading.Lock()


_TURN: Final = _Turn()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_TURN.forget)


class _Group:
    """Stored chunks that are read together, up to `_GROUP_BYTES`; adjacent ones with one read."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self.offsets: list[int] = []  # of each read: offset in the file
        self.sizes: list[int] = []  # of each read: bytes
        self.positions: list[int] = []  # of each read: position in memory
        self.chunks: list[
            tuple[int | None, int, int]
        ] = []  # position (None: no bytes), bytes, mask
        self._end = -1  # end of the last read in the file

    def takes(self, offset: int, size: int, mask: int) -> bool:
        """Add a chunk, and return True, if the group is not full; offset -1: never written."""
        if offset < 0:
            self.chunks.append((None, 0, 0))
            return True
        gap = offset - self._end
        is_near = bool(self.offsets) and 0 <= gap <= _GAP_BYTES
        place = self.num_bytes + gap if is_near else self.num_bytes
        if place + size > _GROUP_BYTES and self.num_bytes:
            return False
        if is_near:
            self.sizes[-1] += gap + size
        else:
            self.offsets.append(offset)
            self.sizes.append(size)
            self.positions.append(place)
        self.chunks.append((place, size, mask))
        self.num_bytes, self._end = place + size, offset + size
        return True


@final
class DirectReader(ChunkedReader):
    """Reads stored chunks through `read_direct_chunk`, one at a time, and decodes them here."""

    def __init__(self, file: H5File, path: str, layout: Layout, reason: str) -> None:
        super().__init__(file, path, layout)
        self._reason = reason
        self._may_miss_some = layout.may_be_extensible_array

    def describe(self) -> str:
        """Describe how the rows are read, and why not straight from the file."""
        return f"chunk by chunk through HDF5, decoded on threads ({self._reason})"

    def _locate(self, chunk: int) -> str:
        return f"(number {chunk})"

    def _fetch(self, chunks: Sequence[int]) -> Iterator[Sequence[Stored]]:
        for number in chunks:
            yield [self._fetch_one(number)]

    @clocked("read")
    def _fetch_one(self, number: int) -> Stored:
        coordinates = self._coordinates(number)[: self._rank]
        with self._file.open() as file:
            try:
                mask, data = file[self._path].id.read_direct_chunk(coordinates)
            except HDF5_ERRORS as error:
                if self._may_miss_some and "chunk storage is not allocated" in str(error):
                    return None, 0  # never written, though HDF5 counts it: h5py reads it as fill
                what = f"{self._path!r} in {self._file.path!r}"
                raise explain_system_error(error, what) or self._damaged(
                    number, f"cannot be read ({words_of(error)})"
                ) from error
        return np.frombuffer(data, np.uint8), mask
