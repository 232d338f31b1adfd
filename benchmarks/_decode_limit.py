"""The limit of windowed reading: decode every chunk once, on all cores, and do nothing else.

No file is opened, no row is gathered, no checksum is compared: the stored bytes are mapped before
the clock starts, and each chunk is decoded by a bare call of the codec library into its place in
one arena, whose pages are warm and used again and again. Which codec of those that can, and how
many chunks a thread takes at a time, is found out first; the best is the limit.
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
            places: list[tuple[int, int]] = []
            dataset.id.chunk_iter(lambda info: places.append((info.byte_offset, info.size)))
        with path.open("rb") as opened:
            stored = np.frombuffer(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
        stored.max()  # so that every page is here
        self._stored = [stored[offset : offset + size] for offset, size in sorted(places)]
        # Each thread has a part to itself: a codec reads back what it has just written.
        slots = min(max(1, arena_bytes // chunk_bytes // num_cores()), len(places))
        self._arenas = np.zeros((num_cores(), slots, chunk_bytes), np.uint8)
        (number,) = filters  # one filter: what others would add is not decoding alone
        self.codec, self.at_a_time = self._choose(_CODECS[number])
        self._decode = _CODECS[number][self.codec]

    def seconds(self) -> float:
        """Return the time to decode every chunk once."""
        return self._timed(self._decode, self.at_a_time)

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

    def _timed(self, decode: Callable[..., Any], at_a_time: int) -> float:
        turn = count(0, at_a_time)
        with ThreadPoolExecutor(num_cores()) as executor:
            start = time.perf_counter()
            work = [executor.submit(self._work, decode, turn, at_a_time, a) for a in self._arenas]
            for each in work:
                each.result()
            return time.perf_counter() - start

    def _work(
        self, decode: Callable[..., Any], turn: Iterator[int], at_a_time: int, arena: np.ndarray
    ) -> None:
        places = cycle(arena)
        while (first := next(turn)) < len(self._stored):
            for stored in self._stored[first : first + at_a_time]:
                decode(stored, next(places))
