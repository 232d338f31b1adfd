"""How long does it take, and how much memory, to learn where every chunk of a data set lies?

    python benchmarks/map_chunks.py [--chunks 100000 1000000] [--rounds 5]

Each measurement is a process of its own, so that its peak memory is its own: resident bytes at the
peak, less those before the map was read (Linux only); HDF5's cache of the index counts. Every kind
of index that can be mapped is measured, in turns: what one round sees, the others see too.

On two shared cores (Linux x86_64, Python 3.11.7, h5py 3.16.0, HDF5 2.0.0), medians of 5:
100,000 chunks in 0.18-0.20 s and 6 MB, 1,000,000 in 1.68-1.80 s and 24-43 MB, whatever the index.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import h5py
import numpy as np

from kerash5.h5.storage._chunk_map import read_chunk_map
from kerash5.h5.storage._layout import read_layout

# The index that HDF5 takes follows from the format version and from the axes that may grow.
KINDS: Final[dict[str, tuple[str, tuple[int | None, int | None]]]] = {
    "B-tree 1": ("earliest", (None, 8)),
    "fixed array": ("latest", (-1, 8)),  # -1: as long as it is
    "extensible array": ("latest", (None, 8)),
    "B-tree 2": ("latest", (None, None)),
}


def main() -> None:
    """Measure every kind of index and print one line of JSON each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for num_chunks in arguments.chunks:
            paths = {kind: write(Path(folder), kind, num_chunks) for kind in KINDS}
            rounds = [
                {kind: in_own_process(path) for kind, path in paths.items()}
                for _ in range(arguments.rounds)
            ]
            for kind in KINDS:
                print(json.dumps(summary(kind, num_chunks, [one[kind] for one in rounds])))


def write(folder: Path, kind: str, num_chunks: int) -> Path:
    """Write a data set of chunks of 8 bytes in one compressed file."""
    libver, (rows, columns) = KINDS[kind]
    path = folder / f"{kind.replace(' ', '-')}-{num_chunks}.h5"
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # writes every chunk
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        file.create_dataset(
            "x",
            (num_chunks, 8),
            np.uint8,
            chunks=(1, 8),
            maxshape=(num_chunks if rows == -1 else rows, columns),
            compression="gzip",
            dcpl=creation,
        )
    return path


def in_own_process(path: Path) -> tuple[float, float]:
    """Return what `measure` returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, path).result()


def measure(path: Path) -> tuple[float, float]:
    """Return the seconds and the megabytes that mapping took."""
    with h5py.File(path) as file:
        layout = read_layout(file["x"], file)
        before = reset_peak()
        start = time.perf_counter()
        chunk_map = read_chunk_map(file["x"], layout)
        seconds = time.perf_counter() - start
        assert (chunk_map.offsets > 0).all()  # noqa: S101  # a map that is wrong has no speed
        return seconds, read_peak() - before


def reset_peak() -> float:
    """Let the peak begin at the memory held now, and return that, in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return read_peak()


def read_peak() -> float:
    """Return the most resident memory since `reset_peak`, in MB."""
    # Not getrusage: on Linux that begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def summary(kind: str, num_chunks: int, rounds: list[tuple[float, float]]) -> dict[str, object]:
    """Put the rounds of one kind into one line."""
    seconds = [one for one, _ in rounds]
    return {
        "index": kind,
        "chunks": num_chunks,
        "seconds": round(statistics.median(seconds), 3),
        "seconds_range": [round(min(seconds), 3), round(max(seconds), 3)],
        "peak_mb": round(max(peak for _, peak in rounds), 1),
        "rounds": len(rounds),
        "hdf5": h5py.version.hdf5_version,
        "h5py": h5py.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    main()
