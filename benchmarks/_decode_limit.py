"""The limit of windowed reading: decode every chunk once, on all cores, and do nothing else.

No file is opened, no row is gathered, no checksum is compared: the stored bytes are mapped before
the clock starts, and each chunk is decoded by a bare call of the codec library into its place in
one arena, whose pages are warm and used again and again. Which codec of those that can, and how
many chunks a thread takes at a time, is found out first; the best is the limit.

Rows that are mixed within a window have to be copied once more, from the chunk to their place. What
that makes of the limit is measured too: each chunk is decoded into one that stays in the caches of
the processor, and its rows are copied to random positions of the arena with one call of NumPy's.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final, final

import h5py
import imagecodecs
import numpy as np
from _harness import num_cores

_CODECS: Final[dict[int, dict[str, Callable[..., Any]]]] = {  # by HDF5's filter number
    1: {
        "libdeflate": lambda stored, out: imagecodecs.deflate_decode(stored, out=out),
        "zlib-ng": lambda stored, out: imagecodecs.zlibng_decode(stored, out=out),
    },
    32000: {"lzf": lambda stored, out: imagecodecs.lzf_decode(stored, out=out)},
    32001: {"blosc": lambda stored, out: imagecodecs.blosc_decode(stored, numthreads=1, out=out)},
    32015: {"zstd": lambda stored, out: imagecodecs.zstd_decode(stored, out=out)},
}
_AT_A_TIME: Final = (1, 4, 16, 64, 256)
_TRIALS: Final = 2


@final
class DecodeLimit:
    """Decodes a data set of one filter; made for one file, timed again in each round.

    Args:
        path: The file.
        name: The data set.
        arena_bytes: Where chunks are decoded to, over and over: as much as a cache would hold.
    """

    def __init__(self, path: Path, name: str, arena_bytes: int) -> None:
        with h5py.File(path) as file:
            dataset = file[name]
            creation = dataset.id.get_create_plist()
            filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
            chunk_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
            self._chunk_rows = dataset.chunks[0]
            extents: list[tuple[int, int]] = []
            dataset.id.chunk_iter(lambda info: extents.append((info.byte_offset, info.size)))
        with path.open("rb") as opened:
            stored = np.frombuffer(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
        stored.max()  # so that every page is here
        self._stored = [stored[offset : offset + size] for offset, size in sorted(extents)]
        # Each thread has a part to itself: a codec reads back what it has just written.
        slots = min(max(1, arena_bytes // chunk_bytes // num_cores()), len(extents))
        self._arenas = np.zeros((num_cores(), slots, chunk_bytes), np.uint8)
        (number,) = filters  # one filter: what others would add is not decoding alone
        self.codec, self.at_a_time = self._choose(_CODECS[number])
        self._decode = _CODECS[number][self.codec]

    def seconds(self) -> float:
        """Return the time to decode every chunk once."""
        return self._timed(self._decode, self.at_a_time)

    def mixing_seconds(self) -> float:
        """Return the time to decode every chunk once and to copy its rows to random positions.

        Only where chunks hold whole rows.
        """
        return self._timed(self._decode, self.at_a_time, mixes=True)

    def _choose(self, codecs: dict[str, Callable[..., Any]]) -> tuple[str, int]:
        """Return the fastest codec, and the number of chunks a thread should take at a time."""
        most = max(1, len(self._stored) // (4 * num_cores()))
        sizes = [size for size in _AT_A_TIME if size <= most] or [1]
        trials = {
            (name, size): min(self._timed(codec, size) for _ in range(_TRIALS))
            for name, codec in codecs.items()
            for size in sizes
        }
        return min(trials, key=trials.__getitem__)

    def _timed(self, decode: Callable[..., Any], at_a_time: int, *, mixes: bool = False) -> float:
        turn = count(0, at_a_time)
        do = self._mix if mixes else self._work
        with ThreadPoolExecutor(num_cores()) as executor:
            start = time.perf_counter()
            work = [executor.submit(do, decode, turn, at_a_time, a) for a in self._arenas]
            for each in work:
                each.result()
            return time.perf_counter() - start

    def _work(
        self, decode: Callable[..., Any], turn: Iterator[int], at_a_time: int, arena: np.ndarray
    ) -> None:
        slots = cycle(arena)
        while (first := next(turn)) < len(self._stored):
            for stored in self._stored[first : first + at_a_time]:
                decode(stored, next(slots))

    def _mix(
        self, decode: Callable[..., Any], turn: Iterator[int], at_a_time: int, arena: np.ndarray
    ) -> None:
        rows = arena.reshape(-1, arena.shape[1] // self._chunk_rows)
        order = np.random.default_rng(0).permutation(len(rows)).reshape(-1, self._chunk_rows)
        chunk, slots = np.empty(arena.shape[1], np.uint8), cycle(order)
        while (first := next(turn)) < len(self._stored):
            for stored in self._stored[first : first + at_a_time]:
                decode(stored, chunk)
                rows[next(slots)] = chunk.reshape(self._chunk_rows, -1)
