"""What does a shuffled epoch cost over rows that are windows, patches, or files of their own?

    python benchmarks/layouts.py [--rounds 3] [--megabytes 64] [--files 2000] [--cells 10000]
        [--genes 2000] [--steps 1000000] [--cases NAME ...] [--out FILE]

Each case is read in turns by NumPy (the whole in memory, gathered), by h5py (a slice for each row,
in shuffled order, of as many batches as some seconds allow), by scDataset where it is installed
(blocks of 16 rows in shuffled order, 16 batches fetched at a time by the same h5py slices, in its
callback form) and by kerash5 with a cache of a tenth of the decoded rows. Sparse rows are made
dense in each way. Beside rows/s: how often a chunk is decoded in an epoch, and how much memory
the process takes at its peak, less what it took before.

On two shared cores (Linux x86_64, Python 3.11.7, h5py 3.16.0, scDataset 0.3.0), means of 2, rows/s
of NumPy, h5py, scDataset and kerash5 (benchmarks/results, 2026-11-28): windows of 1e7 values,
contiguous, 27,000,000, 89,000, 194,000 and 213,000 (each row is read by itself, shuffled exactly);
gzip, 27,600,000, 6,100, 65,500 and 4,120,000 (a chunk of 10,000 values is decoded 1.55 times an
epoch: blocks of two chunks share one with the next); patches of 32^3 in 64^3 chunks of a volume of
1 GB, 29,300, 960, 57 and 15,800 (2.08 times: a block of patches is half of the chunks it touches);
10,000 files of one image, 1,660,000, 2,980, 2,550 and 8,040 (once); 100,000 sparse rows of 20,000,
105,000, 345, 2,370 and 19,300 (2.16 times). Memory grew by the cache, and by 48 to 213 MB more: the
order of 1e7 rows, and chunks and batches in progress.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from _harness import Outcome, ResultFile, spread, take_turns
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kerash5 import Source, patches_from_volumes, rows_from_files, windows_from_series
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5.reading._chunk_readers import ChunkedReader

BATCH: Final = 256
LENGTH: Final = 50
PATCH: Final = 32
SECONDS: Final = 3.0  # that h5py has for its batches
NUMPY, H5PY, OURS = "NumPy, in memory", "h5py, row by row", "kerash5, a tenth fits"
SCDATASET: Final = "scDataset, h5py slices"
DENSITY: Final = 0.05  # of the values of a sparse matrix that are not zero


@dataclass(frozen=True)
class Case:
    """A layout, and how its rows are read."""

    source: Source
    gather: Callable[[NDArray[np.int64]], np.ndarray]  # NumPy, from memory
    slices: Callable[[NDArray[np.int64]], np.ndarray]  # h5py, a slice for each row
    num_chunks: int

    @property
    def cache(self) -> int:
        """A tenth of the decoded rows, in bytes."""
        return len(self.source) * self.source.row_bytes // 10


def main() -> None:
    """Measure all cases, print them and write them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=64, help="of the volume")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the recording")
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--cells", type=int, default=10_000, help="rows of the sparse matrix")
    parser.add_argument("--genes", type=int, default=2_000, help="its columns")
    parser.add_argument("--cases", nargs="*", help="words in the names of the cases to measure")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = {key: value for key, value in vars(given).items() if key != "out"}
    file = ResultFile.begin("layouts", packages=("numpy", "h5py"), settings=settings, out=given.out)
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for name, make in cases_of(Path(folder), given).items():
            if given.cases and not any(word in name for word in given.cases):
                continue
            case = make()
            for outcome in measure(name, case, given.rounds):
                file.add(outcome)
                print(f"{outcome.case}, {outcome.way}: {tell(outcome)}")


def tell(outcome: Outcome) -> str:
    """Return one line of text."""
    median, low, high = spread(outcome.values)
    return f"{median:,.4g} {outcome.unit} ({low:,.4g} to {high:,.4g}) {outcome.note}"


def cases_of(folder: Path, given: argparse.Namespace) -> Mapping[str, Callable[[], Case]]:
    """Return what writes the file of each case."""
    return {
        "windows, contiguous": lambda: windows(folder / "plain.h5", given.steps),
        "windows, gzip": lambda: windows(folder / "gzip.h5", given.steps, compression="gzip"),
        "patches, gzip": lambda: patches(folder / "volume.h5", given.megabytes),
        "files of one row": lambda: files(folder / "many", given.files),
        "sparse rows, gzip": lambda: sparse(folder / "sparse.h5", given.cells, given.genes),
    }


def windows(path: Path, steps: int, compression: str | None = None) -> Case:
    """Write a recording; return windows of it."""
    series = np.random.default_rng(0).normal(size=steps).cumsum().round(1).astype("f4")
    chunks = (10_000,) if compression else None
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=series, chunks=chunks, compression=compression)
    view = sliding_window_view(series, LENGTH)

    def slices(rows: NDArray[np.int64]) -> np.ndarray:
        with h5py.File(path) as file:
            dataset = file["x"]
            return np.stack([dataset[row : row + LENGTH] for row in rows.tolist()])

    source = windows_from_series(path, x="x", length=LENGTH)
    num_chunks = -(-len(series) // 10_000) if compression else 0
    return Case(source, view.__getitem__, slices, num_chunks)


def patches(path: Path, megabytes: int) -> Case:
    """Write a volume; return patches of it, eight in a chunk."""
    side = round((megabytes * 1e6) ** (1 / 3)) // 64 * 64
    volume = np.random.default_rng(0).integers(0, 8, (side, side, side), "u1")
    with h5py.File(path, "w") as file:
        file.create_dataset("volume", data=volume, chunks=(64, 64, 64), compression="gzip")
    count = volume.shape[0] // PATCH

    def boxes(rows: NDArray[np.int64]) -> Iterator[tuple[slice, ...]]:
        for corner in zip(*np.unravel_index(rows, (count,) * 3), strict=True):
            yield tuple(slice(int(a) * PATCH, int(a) * PATCH + PATCH) for a in corner)

    def slices(rows: NDArray[np.int64]) -> np.ndarray:
        with h5py.File(path) as file:
            return np.stack([file["volume"][box] for box in boxes(rows)])

    source = patches_from_volumes(path, x="volume", shape=(PATCH,) * 3)
    return Case(
        source,
        lambda rows: np.stack([volume[box] for box in boxes(rows)]),
        slices,
        (volume.shape[0] // 64) ** 3,
    )


def files(folder: Path, count: int) -> Case:
    """Write files of one image each."""
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 8, (count, 64, 64), "u1")
    paths = [folder / f"{number}.h5" for number in range(count)]
    for path, row in zip(paths, rows, strict=True):
        with h5py.File(path, "w") as file:
            file.create_dataset("img", data=row, chunks=(64, 64), compression="gzip")

    def slices(chosen: NDArray[np.int64]) -> np.ndarray:
        found = []
        for row in chosen.tolist():
            with h5py.File(paths[row]) as file:
                found.append(file["img"][()])
        return np.stack(found)

    source = rows_from_files(str(folder / "*.h5"), x="img")
    return Case(source, rows.__getitem__, slices, count)


def sparse(path: Path, cells: int, genes: int) -> Case:
    """Write a sparse matrix as AnnData does, by rows; return its rows, dense."""
    rng = np.random.default_rng(0)
    counts = rng.binomial(genes, DENSITY, cells)
    indptr = np.concatenate([[0], counts.cumsum()])
    # Sorted columns without repeats: gaps of 1 and more that add up to less than the width.
    indices = np.concatenate([np.sort(rng.choice(genes, n, replace=False)) for n in counts])
    data = rng.integers(1, 20, len(indices)).astype("f4")
    per_chunk = min(100_000, len(indices))
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs["encoding-type"], group.attrs["encoding-version"] = "csr_matrix", "0.1.0"
        group.attrs["shape"] = (cells, genes)
        group["indptr"] = indptr
        for name, values in (("indices", indices.astype("i4")), ("data", data)):
            group.create_dataset(name, data=values, chunks=(per_chunk,), compression="gzip")

    def dense(rows: NDArray[np.int64], columns: Any, values: Any) -> np.ndarray:
        found = np.zeros((len(rows), genes), "f4")
        for position, row in enumerate(rows.tolist()):
            low, high = indptr[row], indptr[row + 1]
            found[position, columns[low:high]] = values[low:high]
        return found

    def slices(rows: NDArray[np.int64]) -> np.ndarray:
        with h5py.File(path) as file:
            return dense(rows, file["X/indices"], file["X/data"])

    num_chunks = 2 * -(-len(indices) // per_chunk)
    return Case(Source(path, x="X"), lambda rows: dense(rows, indices, data), slices, num_chunks)


def measure(name: str, case: Case, rounds: int) -> Iterator[Outcome]:
    """Yield what each way of reading a case took."""
    decoded: list[int] = []
    memory: list[float] = []
    ways: dict[str, Callable[[], float]] = {
        NUMPY: lambda: rate_of(case, case.gather),
        H5PY: lambda: rate_of(case, case.slices),
        OURS: lambda: read_epoch(case, decoded, memory),
    }
    if find_spec("scdataset"):
        ways[SCDATASET] = lambda: rate_of_scdataset(case)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for values in take_turns(ways, rounds=rounds):
        for way, value in values.items():
            found[way].append(value)
    reference = Outcome(case=name, way=NUMPY, unit="rows/s", values=found[NUMPY])
    yield reference
    for way in [each for each in found if each not in (NUMPY, OURS)]:
        yield Outcome(case=name, way=way, unit="rows/s", values=found[way]).compared(reference)
    note = f"cache {case.cache / 1e6:.1f} MB, {max(memory):.1f} MB more memory at the peak"
    if case.num_chunks:
        note += f", a chunk decoded {max(decoded) / case.num_chunks:.2f} times"
    ours = Outcome(case=name, way=OURS, unit="rows/s", values=found[OURS], note=note)
    yield ours.compared(reference)


def rate_of(case: Case, read: Callable[[NDArray[np.int64]], np.ndarray]) -> float:
    """Return the rows/s of as many shuffled batches as there is time for."""
    order = np.random.default_rng(0).permutation(len(case.source))
    start, count = time.perf_counter(), 0
    for low in range(0, len(order), BATCH):
        count += len(read(order[low : low + BATCH]))
        if time.perf_counter() - start > SECONDS:
            break
    return count / (time.perf_counter() - start)


def rate_of_scdataset(case: Case) -> float:
    """Return the rows/s of scDataset for as many batches as there is time for."""
    from scdataset import BlockShuffling, scDataset

    batches = scDataset(
        range(len(case.source)),
        BlockShuffling(block_size=16),
        batch_size=BATCH,
        fetch_factor=16,
        fetch_callback=lambda _, rows: case.slices(np.asarray(rows)),
    )
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
        if time.perf_counter() - start > SECONDS:
            break
    return count / (time.perf_counter() - start)


def read_epoch(case: Case, decoded: list[int], memory: list[float]) -> float:
    """Return the rows/s of an epoch; add how many chunks it decoded, and its peak of memory."""
    numbers: list[int] = []
    decode = ChunkedReader._decode  # noqa: SLF001

    def note(self: Any, number: int, *rest: Any) -> None:
        numbers.append(number)
        decode(self, number, *rest)

    options = BatchOptions(batch_size=BATCH, cache=case.cache, threads=2)
    batches = open_batches(case.source, None, None, None, options)
    before = reset_peak()
    start = time.perf_counter()
    ChunkedReader._decode = note  # type: ignore[method-assign, assignment]  # noqa: SLF001
    try:
        count = sum(len(batch[0]) for batch in batches.epoch(0))
    finally:
        ChunkedReader._decode = decode  # type: ignore[method-assign]  # noqa: SLF001
    seconds = time.perf_counter() - start
    decoded.append(len(numbers))
    memory.append(read_peak() - before)
    return count / seconds


def reset_peak() -> float:
    """Let the peak begin at the memory held now, and return that, in MB (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return read_peak()


def read_peak() -> float:
    """Return the most resident memory since `reset_peak`, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
