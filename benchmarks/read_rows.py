"""How fast do shuffled batches come out of an HDF5 file, as a share of gathering them from memory?

    python benchmarks/read_rows.py [--rows 20000] [--rounds 5] [--mnist DIR] [--out FILE.jsonl]

56x56x3 uint8 rows, made of MNIST digits (of the shipped ones without --mnist), in batches of 256,
one epoch a measurement, in several layouts. Within a round everything is measured once, one after
another; what counts is the share of the NumPy gather of the same round: medians, with the smallest
and the largest share. `fits` has room for all rows decoded, and the first epoch, which decodes, is
not counted; `tenth` has room for a tenth of them. The limit of `tenth` is decoding every chunk
once, on as many threads, and doing nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from kerash5._backends import environment
from kerash5._batches import Batches, BatchOptions, open_batches
from kerash5.assets import digits_train
from kerash5.h5 import Source

BATCH: Final = 256
SHAPE: Final = (56, 56, 3)
LAYOUTS: Final[dict[str, dict[str, Any]]] = {
    "contiguous": {},
    "gzip-64": {"chunks": (64, *SHAPE), "compression": "gzip"},
    "lzf-64": {"chunks": (64, *SHAPE), "compression": "lzf"},
    "auto-chunked gzip": {"compression": "gzip"},
    "one row per gzip chunk": {"chunks": (1, *SHAPE), "compression": "gzip"},
}


def main() -> None:
    """Measure every layout and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows, labels = make_rows(options.mnist, options.rows)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, how in LAYOUTS.items():
            path = write(Path(folder) / "rows.h5", rows, labels, how)
            found.append({"layout": name, **measure(path, rows, labels, options.rounds)})
            print(json.dumps(found[-1]), file=sys.stderr)
    about = {"rows": options.rows, "rounds": options.rounds, "batch": BATCH, **environment()}
    if options.out:
        lines = [json.dumps(about), *map(json.dumps, found)]
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(table(found))


def make_rows(mnist: Path | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return digits of twice the size in three channels, one of them inverted, and their labels."""
    with h5py.File(mnist / "train.hdf5" if mnist else digits_train()) as file:
        images, labels = file["image"][()], file["label"][()]
    chosen = np.arange(count) % len(images)
    large = images.repeat(2, axis=1).repeat(2, axis=2)[chosen]
    return np.stack([large, 255 - large, large], axis=-1), labels[chosen]


def write(path: Path, rows: np.ndarray, labels: np.ndarray, how: dict[str, Any]) -> Path:
    """Write the file in one layout; return its path."""
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=rows, **how)
        file["label"] = labels
    return path


def measure(path: Path, rows: np.ndarray, labels: np.ndarray, rounds: int) -> dict[str, Any]:
    """Return the rows per second of each way, and its shares of the NumPy gather."""
    speeds: dict[str, list[float]] = {}
    fits, tenth = open_ours(path, 2 * rows.nbytes), open_ours(path, rows.nbytes // 10)
    timed(fits.epoch(0))
    for number in range(rounds):
        epochs = {
            "numpy": gather(rows, labels, fits, number),
            "fits": fits.epoch(number),
            "tenth": tenth.epoch(number),
        }
        for name, batches in epochs.items():
            speeds.setdefault(name, []).append(len(rows) / timed(batches))
        speeds.setdefault("h5py", []).append(speed_of_h5py(path, fits, number))
        speeds.setdefault("limit", []).append(len(rows) / seconds_to_decode(path))
    shares = {
        name: [round(a / b, 3) for a, b in zip(found, speeds["numpy"], strict=True)]
        for name, found in speeds.items()
    }
    of_limit = [round(a / b, 3) for a, b in zip(speeds["tenth"], speeds["limit"], strict=True)]
    medians = {name: round(statistics.median(found)) for name, found in speeds.items()}
    return {"rows_per_second": medians, "shares": shares, "tenth_of_limit": of_limit}


def open_ours(path: Path, cache: int) -> Batches:
    """Return our batches of the file, with a cache of so many bytes."""
    return open_batches(path, "image", "label", None, BatchOptions(batch_size=BATCH, cache=cache))


def timed(batches: Iterator[Any]) -> float:
    """Return the seconds it takes to run through all batches."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def gather(rows: np.ndarray, labels: np.ndarray, ours: Batches, epoch: int) -> Iterator[Any]:
    """Yield the same batches out of arrays in memory."""
    order = np.concatenate(
        [ours.plan.rows(epoch * len(ours) + index) for index in range(len(ours))]
    )
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield rows[chosen], labels[chosen]


def speed_of_h5py(path: Path, ours: Batches, epoch: int, most_seconds: float = 4.0) -> float:
    """Return the rows per second of sorted fancy indexing, over as many batches as time allows."""
    start, count = time.perf_counter(), 0
    with h5py.File(path) as file:
        images, labels = file["image"], file["label"]
        for index in range(len(ours)):
            chosen = np.sort(ours.plan.rows(epoch * len(ours) + index))
            count += len(images[chosen]) + 0 * len(labels[chosen])
            if time.perf_counter() - start > most_seconds:
                break
    return count / (time.perf_counter() - start)


def seconds_to_decode(path: Path, threads: int = 2) -> float:
    """Return the time to decode every chunk once into place, side by side, and nothing else."""
    source = Source(path, x="image")
    out = source.allocate(len(source))["x"]
    out[...] = 0  # so that no page is new
    size = max(64, source.block_rows)
    starts = range(0, len(source), size)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as executor:
        list(
            executor.map(
                lambda a: source.load_range(
                    a, min(a + size, len(source)), {"x": out[a : a + size]}
                ),
                starts,
            )
        )
    return time.perf_counter() - start


def table(found: list[dict[str, Any]]) -> str:
    """Return the shares as Markdown: median (smallest to largest)."""
    lines = [
        "| file | NumPy, rows/s | fits | tenth | tenth, of its limit | h5py |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        shares, speed = one["shares"], one["rows_per_second"]["numpy"]
        cells = [
            spread(shares["fits"]),
            spread(shares["tenth"]),
            spread(one["tenth_of_limit"]),
            spread(shares["h5py"], 4),
        ]
        lines.append(f"| {one['layout']} | {speed:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(shares: list[float], digits: int = 2) -> str:
    """Return the median with the smallest and the largest."""
    middle, low, high = statistics.median(shares), min(shares), max(shares)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
