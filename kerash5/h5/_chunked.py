"""The fast readers of chunked data: stored bytes to decoded rows, without HDF5's filter pipeline.

`MappedReader` takes the bytes straight from the file, at the offsets of a chunk map. `DirectReader`
asks `read_direct_chunk` for them, under h5py's lock, and needs no offsets. Both decode outside
every lock, so that threads decode side by side, and both give what h5py gives or an error: see
`_chunks` for what they refuse, and `_readers` for the law.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final, cast, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError
from kerash5.h5._chunks import ChunkMap
from kerash5.h5._clock import clocked
from kerash5.h5._descriptors import read_bytes
from kerash5.h5._file import HDF5_ERRORS, H5File, words_of
from kerash5.h5._filters import CodecError, Pipeline
from kerash5.h5._layout import Layout
from kerash5.h5._readers import AbstractReader
from kerash5.h5._stop import check_stop

_GROUP_BYTES: Final = 1 << 20  # stored bytes fetched at a time
# Read through a gap between two chunks up to this: a second system call costs more than the bytes.
_GAP_BYTES: Final = 16 << 10

Stored = tuple[memoryview | None, int]  # bytes (None: never written), filter mask


class _ChunkedReader(AbstractReader):
    """Reads chunk by chunk; how the stored bytes are had is left to its children."""

    def __init__(self, file: H5File, path: str, layout: Layout) -> None:
        chunks = cast("tuple[int, ...]", layout.chunks)  # `why_not_*` refuses None
        self._file = file
        self._path = path
        self._pipeline = Pipeline(layout.filters, layout.chunk_bytes, layout.element_bytes)
        self._chunks = chunks
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
        # Where each chunk of a run of rows lies in a row: (start, stop) along the other axes.
        axes = zip(self.row_shape, self._chunks[1:], strict=True)
        edges = [
            [(low, min(low + size, length)) for low in range(0, length, size)]
            for length, size in axes
        ]
        self._tiles: list[tuple[tuple[int, int], ...]] = list(product(*edges))
        self._holds_whole_rows = self._chunks[1:] == self.row_shape
        self.num_shares = max(1, len(self._tiles))

    @abstractmethod
    def _fetch(self, chunks: Sequence[int]) -> Iterator[Stored]:
        """Yield the stored bytes of these chunks, numbered in C order of the grid."""

    @abstractmethod
    def _locate(self, chunk: int) -> str:
        """Say in words where the stored bytes of a chunk lie."""

    def read_range(
        self, start: int, stop: int, out: np.ndarray, share: tuple[int, int] = (0, 1)
    ) -> None:
        """Read rows [start, stop) into `out`; whole chunks are decoded into their place."""
        if start >= stop:
            return
        target = out.view(self._copied_as)
        size, per_run = self._chunks[0], len(self._tiles)
        runs = range(start // size, -(-stop // size))
        tiles = range(per_run * share[0] // share[1], per_run * (share[0] + 1) // share[1])
        chunks = [run * per_run + tile for run in runs for tile in tiles]
        spare: np.ndarray | None = None
        for number, stored in zip(chunks, self._fetch(chunks), strict=True):
            run, tile = divmod(number, per_run)
            low, high = max(start, run * size), min(stop, (run + 1) * size)
            place = target[low - start : high - start]
            if self._holds_whole_rows and high - low == size:
                self._decode(number, stored, place)
                continue
            spare = self._new_chunk() if spare is None else spare
            self._decode(number, stored, spare)
            self._copy(spare, tile, slice(low - run * size, high - run * size), place, slice(None))

    def read_rows(self, rows: NDArray[np.int64], out: np.ndarray) -> None:
        """Read rows in the order asked for; each chunk is decoded once."""
        if not len(rows):
            return
        target = out.view(self._copied_as)
        runs = rows // self._chunks[0]
        order = np.argsort(runs, kind="stable")
        edges = np.flatnonzero(np.diff(runs[order])) + 1
        spare = self._new_chunk()
        per_run = len(self._tiles)
        wanted = np.split(order, edges)
        chunks = [
            int(runs[places[0]]) * per_run + tile for places in wanted for tile in range(per_run)
        ]
        fetched = self._fetch(chunks)
        for places in wanted:
            run = int(runs[places[0]])
            inside = rows[places] - run * self._chunks[0]
            for tile in range(per_run):
                self._decode(run * per_run + tile, next(fetched), spare)
                self._copy(spare, tile, inside, target, places)

    def _new_chunk(self) -> np.ndarray:
        return np.empty(self._chunks, self._copied_as)

    def _copy(
        self,
        chunk: np.ndarray,
        tile: int,
        inside: slice | NDArray[np.int64],
        target: np.ndarray,
        places: slice | NDArray[np.int64],
    ) -> None:
        """Copy rows of a decoded chunk to the part of their rows that it holds."""
        bounds = self._tiles[tile]
        kept = tuple(slice(0, high - low) for low, high in bounds)
        held = tuple(slice(low, high) for low, high in bounds)
        target[(places, *held)] = chunk[(inside, *kept)]

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
            raise self._damaged(
                number, f"{self._locate(number)} does not decode ({error})"
            ) from error

    def _damaged(self, number: int, complaint: str) -> DamagedFileError:
        """Return the error about a chunk, unless the file is no longer the one that was opened."""
        self._file.check_unchanged()
        return DamagedFileError(
            f"{self._path!r} in {self._file.path!r} is damaged: chunk {self._coordinates(number)} "
            f"{complaint}; copy or download the file again"
        )

    def _coordinates(self, number: int) -> tuple[int, ...]:
        """Return the first element of a chunk, as HDF5 names chunks."""
        run, tile = divmod(number, len(self._tiles))
        return (run * self._chunks[0], *(low for low, _ in self._tiles[tile]))


@final
class MappedReader(_ChunkedReader):
    """Reads stored chunks straight from the file. Made only where `why_not_mapped` is None."""

    def __init__(self, file: H5File, path: str, layout: Layout, chunk_map: ChunkMap) -> None:
        super().__init__(file, path, layout)
        self._map = chunk_map
        misplaced = chunk_map.find_misplaced(layout.first_byte, file.identity.num_bytes)
        self._misplaced = frozenset(misplaced.tolist())

    def describe(self) -> str:
        """Say in words how the rows are reached."""
        return "straight from the file (chunk map), decoded on threads"

    def _locate(self, chunk: int) -> str:
        return f"at byte {self._map.offsets[chunk]} ({self._map.sizes[chunk]} bytes)"

    def _refuse_misplaced(self, chunks: Sequence[int]) -> None:
        for number in chunks:
            if number in self._misplaced:
                where = f"{self._locate(number)} of {self._file.identity.num_bytes}"
                raise self._damaged(number, f"lies {where}, outside the file")

    def _fetch(self, chunks: Sequence[int]) -> Iterator[Stored]:
        if self._misplaced:
            self._refuse_misplaced(chunks)
        numbers = np.asarray(chunks, np.int64)
        offsets, sizes, masks = (
            self._map.offsets[numbers],
            self._map.sizes[numbers],
            self._map.masks[numbers],
        )
        for begin, end in _neighbours(offsets, sizes):
            if offsets[begin] < 0:
                yield from ((None, 0) for _ in range(begin, end))
                continue
            base = int(offsets[begin])
            data = np.empty(int(offsets[end - 1] + sizes[end - 1]) - base, np.uint8).data
            read_bytes(self._file, self._path, base, data)
            for low, size, mask in zip(
                (offsets[begin:end] - base).tolist(),
                sizes[begin:end].tolist(),
                masks[begin:end].tolist(),
                strict=True,
            ):
                yield data[low : low + size], mask


@final
class DirectReader(_ChunkedReader):
    """Reads stored chunks through `read_direct_chunk`, one at a time, and decodes them here."""

    def __init__(self, file: H5File, path: str, layout: Layout, reason: str) -> None:
        super().__init__(file, path, layout)
        self._reason = reason

    def describe(self) -> str:
        """Say in words how the rows are reached, and why not straight from the file."""
        return f"chunk by chunk through HDF5, decoded on threads ({self._reason})"

    def _locate(self, chunk: int) -> str:
        return f"(number {chunk})"

    def _fetch(self, chunks: Sequence[int]) -> Iterator[Stored]:
        for number in chunks:
            yield self._fetch_one(number)

    @clocked("read")
    def _fetch_one(self, number: int) -> Stored:
        coordinates = self._coordinates(number)[: self._rank]
        with self._file.open() as file:
            try:
                mask, data = file[self._path].id.read_direct_chunk(coordinates)
            except HDF5_ERRORS as error:
                raise self._damaged(number, f"cannot be read ({words_of(error)})") from error
        return memoryview(data), mask


def _neighbours(offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut chunks into runs for one call each: in file order, close together, not too large."""
    count = len(offsets)
    ends = offsets + sizes
    gaps = offsets[1:] - ends[:-1]
    # Chunks that were never written (-1) stand alone: their gap is nonsense, in whichever sign.
    joined = (gaps >= 0) & (gaps <= _GAP_BYTES) & (offsets[1:] >= 0) & (offsets[:-1] >= 0)
    begin = 0
    while begin < count:
        end = begin + 1
        while end < count and joined[end - 1] and ends[end] - offsets[begin] <= _GROUP_BYTES:
            end += 1
        yield begin, end
        begin = end
