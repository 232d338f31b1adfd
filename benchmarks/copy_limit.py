"""How fast could shuffled rows of contiguous data be read that do not fit into memory?

    pip install -e '.[fast,filters]'
    python benchmarks/copy_limit.py --mnist DIR [--rows 60000] [--rounds 9]

The contiguous file, batches and cache of `read_rows` (`a tenth fits`). A file that is not mapped is
copied by the kernel, so nobody could be faster than that: `pread alone` is bare threads, one on
each core, that read the rows of shuffled batches into the same warm memory again and again, with
one `io_submit` a batch or one `pread` a row, whichever is faster. `mapped alone` is what the same
threads do to a mapped file with NumPy: it would be faster, and a file that is cut short meanwhile
ends the process. All are measured once a round, in turns.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import h5py
import numpy as np
from _harness import Outcome, num_cores, take_turns
from _peers import BATCH
from read_rows import NUMPY, TENTH, Data, gather, measure_limit, open_ours, seconds_of

from kerash5.h5.reading._batched_pread import gather as gather_ranges

PREAD, MAPPED = "pread alone", "mapped alone"


class CopyLimit:
    """Reads shuffled batches of a contiguous data set, and does nothing else."""

    def __init__(self, path: Path, name: str) -> None:
        with h5py.File(path) as file:
            dataset = file[name]
            self._num_rows, self._offset = len(dataset), dataset.id.get_offset()
            self._row_bytes = int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
        self._descriptor = os.open(path, os.O_RDONLY)
        file_bytes = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ)
        stop = self._offset + self._num_rows * self._row_bytes
        mapped = np.frombuffer(file_bytes, np.uint8)[self._offset : stop]
        self._mapped = mapped.reshape(self._num_rows, self._row_bytes)
        self._mapped[:, ::512].max()  # so that every page is here

    def pread_seconds(self, epoch: int) -> float:
        """Return the time to read all rows, by the faster of two ways."""
        return min(self._timed(epoch, way) for way in (self._submit, self._pread))

    def mapped_seconds(self, epoch: int) -> float:
        """Return the time to gather all rows from the mapped file."""
        return self._timed(epoch, self._take)

    def _timed(self, epoch: int, read: Callable[[np.ndarray, np.ndarray], None]) -> float:
        order = np.random.default_rng(epoch).permutation(self._num_rows)
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        memory = np.zeros((num_cores(), BATCH, self._row_bytes), np.uint8)
        turn = count()

        def work(out: np.ndarray) -> None:
            while (number := next(turn)) < len(batches):
                read(batches[number], out[: len(batches[number])])

        with ThreadPoolExecutor(num_cores()) as executor:
            start = time.perf_counter()
            list(executor.map(work, memory))
            return time.perf_counter() - start

    def _submit(self, rows: np.ndarray, out: np.ndarray) -> None:
        sizes = np.full(len(rows), self._row_bytes)
        offsets = self._offset + rows * self._row_bytes
        positions = np.arange(len(rows)) * self._row_bytes
        gather_ranges(self._descriptor, offsets, sizes, out.reshape(-1), positions)

    def _pread(self, rows: np.ndarray, out: np.ndarray) -> None:
        for row, place in zip(rows.tolist(), out, strict=True):
            os.preadv(self._descriptor, [place.data], self._offset + row * self._row_bytes)

    def _take(self, rows: np.ndarray, out: np.ndarray) -> None:
        np.take(self._mapped, rows, axis=0, out=out, mode="clip")


def main() -> None:
    """Measure the contiguous layout, and write the results."""
    measure_limit("copy_limit", __doc__, measure)


def measure(data: Data, rounds: int) -> Iterator[Outcome]:
    """Measure NumPy, both limits and ours, in turns."""
    path, epochs, num_rows = data.write("contiguous"), count(), len(data.rows)
    tenth, limit = open_ours(path, data.rows.nbytes // 10), CopyLimit(path, "image")
    ways = {
        NUMPY: lambda: num_rows / seconds_of(gather(data, next(epochs))),
        PREAD: lambda: num_rows / limit.pread_seconds(next(epochs)),
        MAPPED: lambda: num_rows / limit.mapped_seconds(next(epochs)),
        TENTH: lambda: num_rows / seconds_of(tenth.epoch(next(epochs))),
    }
    turns = list(take_turns(ways, rounds=rounds))
    numpy, pread, mapped, ours = (
        Outcome(case="contiguous", way=way, unit="rows/s", values=[turn[way] for turn in turns])
        for way in ways
    )
    yield numpy
    yield from (each.compared(numpy) for each in (pread, mapped, ours))
    yield replace(ours.compared(pread), way=f"{TENTH} / {PREAD}", unit="")


if __name__ == "__main__":
    main()
