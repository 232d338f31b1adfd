"""What does a shuffled epoch cost over rows that are windows, patches, or files of their own?

    python benchmarks/layouts.py [--rounds 3] [--megabytes 64] [--files 2000] [--out FILE]

Each case is read in turns by NumPy (the whole in memory, gathered), by h5py (a slice for each row,
in shuffled order, of as many batches as some seconds allow) and by kerash5 with a cache of a tenth
of the decoded rows. Beside rows/s: how often a chunk is decoded in an epoch, and how much memory
the process takes at its peak, less what it took before.

On two shared cores with other work beside (Linux x86_64, Python 3.11.7, h5py 3.16.0), medians of 2,
rows/s of NumPy, h5py and kerash5: windows of 1e6 values, contiguous, 2,990,000, 6,500 and 173,000;
gzip, 2,400,000, 1,440 and 638,000 (a chunk of 10,000 values is decoded 1.55 times an epoch: blocks
of two chunks share one with the next); patches of 32^3 in 64^3 chunks of a volume of 180 MB, 2,900,
92 and 990 (2 times: a block of patches is half of the chunks it touches); 2,000 files of one image,
700,000, 380 and 1,370 (once). Of memory it took at most the cache; the first epoch of 1e6 rows took
100 MB more, which is its order.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = {key: value for key, value in vars(given).items() if key != "out"}
    file = ResultFile.begin("layouts", packages=("numpy", "h5py"), settings=settings, out=given.out)
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for name, case in make_cases(Path(folder), given).items():
            for outcome in measure(name, case, given.rounds):
                file.add(outcome)
                print(f"{outcome.case}, {outcome.way}: {tell(outcome)}")


def tell(outcome: Outcome) -> str:
    """Return one line of text."""
    median, low, high = spread(outcome.values)
    return f"{median:,.4g} {outcome.unit} ({low:,.4g} to {high:,.4g}) {outcome.note}"


def make_cases(folder: Path, given: argparse.Namespace) -> Mapping[str, Case]:
    """Write the files of all cases."""
    series = np.random.default_rng(0).normal(size=given.steps).cumsum().round(1).astype("f4")
    side = round((given.megabytes * 1e6) ** (1 / 3)) // 64 * 64
    volume = np.random.default_rng(0).integers(0, 8, (side, side, side), "u1")
    with h5py.File(folder / "a.h5", "w") as file:
        file["plain"] = series
        file.create_dataset("gzip", data=series, chunks=(10_000,), compression="gzip")
        file.create_dataset("volume", data=volume, chunks=(64, 64, 64), compression="gzip")
    return {
        "windows, contiguous": windows(folder / "a.h5", "plain", series),
        "windows, gzip": windows(folder / "a.h5", "gzip", series),
        "patches, gzip": patches(folder / "a.h5", volume),
        "files of one row": files(folder / "many", given.files),
    }


def windows(path: Path, name: str, series: np.ndarray) -> Case:
    """Return windows of a recording."""
    view = sliding_window_view(series, LENGTH)

    def slices(rows: NDArray[np.int64]) -> np.ndarray:
        with h5py.File(path) as file:
            dataset = file[name]
            return np.stack([dataset[row : row + LENGTH] for row in rows.tolist()])

    source = windows_from_series(path, x=name, length=LENGTH)
    num_chunks = -(-len(series) // 10_000) if name == "gzip" else 0
    return Case(source, view.__getitem__, slices, num_chunks)


def patches(path: Path, volume: np.ndarray) -> Case:
    """Return patches of a volume, eight in a chunk."""
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


def measure(name: str, case: Case, rounds: int) -> Iterator[Outcome]:
    """Yield what each way of reading a case took."""
    decoded: list[int] = []
    memory: list[float] = []
    ways: dict[str, Callable[[], float]] = {
        NUMPY: lambda: rate_of(case, case.gather),
        H5PY: lambda: rate_of(case, case.slices),
        OURS: lambda: read_epoch(case, decoded, memory),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for values in take_turns(ways, rounds=rounds):
        for way, value in values.items():
            found[way].append(value)
    reference = Outcome(case=name, way=NUMPY, unit="rows/s", values=found[NUMPY])
    yield reference
    yield Outcome(case=name, way=H5PY, unit="rows/s", values=found[H5PY]).compared(reference)
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
