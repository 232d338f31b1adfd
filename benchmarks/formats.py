"""How long does it take to have MNIST in memory from HDF5, from JSON and from a database?

    python benchmarks/formats.py --mnist DIR [--rounds 5]

The tutorial this project comes from says: HDF5 reads a data set in 2 s where JSON takes 1 min and a
database 1 h. Here each format holds the same rows, and each way ends with the same two arrays,
which is checked. Files were just written, so they are in the memory of the operating system. The
database is SQLite, in the same process: what a server and a network would add is not measured.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from _harness import Outcome, ResultFile, take_turns

from kerash5.assets import digits_train
from kerash5.h5 import Source, write

Arrays = tuple[np.ndarray, np.ndarray]
PIXELS: Final = 28 * 28


def main() -> None:
    """Write all formats, read them in turns, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="the folder with train.hdf5; else 5,000 digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="another place for the results")
    options = parser.parse_args()
    with h5py.File(options.mnist / "train.hdf5" if options.mnist else digits_train()) as file:
        images, labels = file["image"][()], file["label"][()].astype(np.uint8)
    settings = {"rows": len(images), "rounds": options.rounds}
    results = ResultFile.begin(
        "formats", packages=("kerash5", "h5py", "numpy"), settings=settings, out=options.out
    )
    with tempfile.TemporaryDirectory() as folder:
        files = write_all(Path(folder), images, labels)
        ways = {name: timed(read, path, (images, labels)) for name, (read, path) in files.items()}
        turns = list(take_turns(ways, rounds=options.rounds))
        found = {
            name: Outcome(case=name, way="to read", unit="s", values=[turn[name] for turn in turns])
            for name in files
        }
        first = next(iter(files))
        for name, outcome in found.items():
            times = outcome.compared(found[first])
            megabytes = files[name][1].stat().st_size / 1e6
            results.add(outcome)
            results.add(Outcome(case=name, way="times as long", values=times.shares))
            results.add(Outcome(case=name, way="on disk", unit="MB", values=[megabytes]))


def timed(read: Callable[[Path], Arrays], path: Path, expected: Arrays) -> Callable[[], float]:
    """Return what reads once, checks what came, and returns the seconds."""

    def seconds() -> float:
        start = time.perf_counter()
        found = read(path)
        taken = time.perf_counter() - start
        for mine, theirs in zip(found, expected, strict=True):
            if mine.dtype != theirs.dtype or not np.array_equal(mine, theirs):
                raise SystemExit(f"{path.name} does not hold the same rows")
        return taken

    return seconds


def write_all(
    folder: Path, images: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[Callable[[Path], Arrays], Path]]:
    """Write each format; return how to read it, and its file."""
    paths = {name: folder / name for name in ("a.h5", "a.json", "blobs.sqlite", "columns.sqlite")}
    write(paths["a.h5"], image=images, label=labels)
    text = json.dumps({"image": images.tolist(), "label": labels.tolist()})
    paths["a.json"].write_text(text, encoding="utf-8")
    write_blobs(paths["blobs.sqlite"], images, labels)
    write_columns(paths["columns.sqlite"], images, labels)
    return {
        "HDF5, h5py": (read_h5py, paths["a.h5"]),
        "HDF5, kerash5": (read_kerash5, paths["a.h5"]),
        "JSON": (read_json, paths["a.json"]),
        "SQLite, an image a row": (read_blobs, paths["blobs.sqlite"]),
        f"SQLite, {PIXELS} columns": (read_columns, paths["columns.sqlite"]),
    }


def read_h5py(path: Path) -> Arrays:
    """Read both data sets whole."""
    with h5py.File(path) as file:
        return file["image"][()], file["label"][()]


def read_kerash5(path: Path) -> Arrays:
    """Read the same by kerash5."""
    source = Source(path, image="image", label="label")
    found = source.allocate(len(source))
    source.load_range(0, len(source), found)
    return found["image"], found["label"]


def read_json(path: Path) -> Arrays:
    """Parse the text, and make arrays of its lists."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return np.array(found["image"], np.uint8), np.array(found["label"], np.uint8)


def write_blobs(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write a table of (id, label, image), the image as its bytes."""
    rows = ((i, int(labels[i]), images[i].tobytes()) for i in range(len(images)))
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE digit (id INTEGER PRIMARY KEY, label INTEGER, image BLOB)")
        database.executemany("INSERT INTO digit VALUES (?, ?, ?)", rows)
    database.close()


def read_blobs(path: Path) -> Arrays:
    """Ask for one row after another, as a training loop does."""
    database = sqlite3.connect(path)
    (count,) = database.execute("SELECT count(*) FROM digit").fetchone()
    images, labels = np.empty((count, 28, 28), np.uint8), np.empty(count, np.uint8)
    for number in range(count):
        query = database.execute("SELECT label, image FROM digit WHERE id = ?", (number,))
        label, image = query.fetchone()
        images[number] = np.frombuffer(image, np.uint8).reshape(28, 28)
        labels[number] = label
    database.close()
    return images, labels


def write_columns(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write a table of a label and a column for each pixel."""
    columns = ", ".join(f"p{number} INTEGER" for number in range(PIXELS))
    marks = ", ".join("?" * (PIXELS + 1))
    rows = np.column_stack([labels, images.reshape(len(images), PIXELS)])
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE digit (label INTEGER, {columns})")
        database.executemany(f"INSERT INTO digit VALUES ({marks})", map(np.ndarray.tolist, rows))  # noqa: S608
    database.close()


def read_columns(path: Path) -> Arrays:
    """Walk through the table row by row."""
    database = sqlite3.connect(path)
    rows = [
        np.array(row, np.uint8) for row in database.execute("SELECT * FROM digit ORDER BY rowid")
    ]
    database.close()
    found = np.stack(rows)
    return found[:, 1:].reshape(-1, 28, 28), found[:, 0].copy()


if __name__ == "__main__":
    main()
