"""Chunks larger than the cache: one is in memory at a time, and training begins with a warning."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5.batches._batches import Batches, BatchOptions, open_batches
from kerash5.batches.cache import DirectRows
from kerash5.h5 import Source

WARNING: Final = r"chunk of column 'x' does not fit the cache \(4\.0 MB decoded, cache 2\.0 MB\)"

CHILD: Final = """
import re, sys, warnings
from pathlib import Path
from kerash5.batches._batches import BatchOptions, open_batches
def size(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
warnings.simplefilter("ignore")
options = BatchOptions(batch_size=32, cache="8MB", threads=3, shuffle="rows")
batches = open_batches(sys.argv[1], "x", None, None, options)
Path("/proc/self/clear_refs").write_text("5")
before = size("VmRSS")
for _, batch in zip(range(3), batches.epoch(0)):
    pass
print(size("VmHWM") - before)
"""


def write_chunks(path: Path, num_rows: int, row_bytes: int, chunk_rows: int) -> Path:
    with h5py.File(path, "w") as file:
        x = file.create_dataset(
            "x",
            (num_rows, row_bytes),
            "u1",
            chunks=(chunk_rows, row_bytes),
            compression="gzip",
            compression_opts=1,
        )
        for start in range(0, num_rows, chunk_rows):  # whole chunks: others are packed row by row
            numbers = np.arange(start, min(start + chunk_rows, num_rows)) % 251
            x[start : start + chunk_rows] = np.repeat(numbers.astype("u1")[:, None], row_bytes, 1)
    return path


def open_chunks(path: Path, **options: Any) -> Batches:
    return open_batches(path, "x", None, None, BatchOptions(cache="2MB", threads=2, **options))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_holds_one_chunk_whatever_the_threads(tmp_path: Path) -> None:
    path = write_chunks(tmp_path / "a.h5", 1200, 150_000, 400)  # chunks of 57 MiB
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.6 * 57 + 8


@pytest.mark.parametrize("shuffle", ["auto", "rows", False])
def test_training_begins_with_one_warning_that_names_the_cures(
    tmp_path: Path, shuffle: Any
) -> None:
    batches = open_chunks(write_chunks(tmp_path / "a.h5", 2000, 4000, 1000), shuffle=shuffle)
    with pytest.warns(UserWarning, match=WARNING) as said:
        served = np.concatenate([x for (x,) in batches.epoch(0)])
    words = str(said[0].message)
    assert "cache='9MB', scratch= a folder with 8.0 MB" in words
    assert "or smaller chunks: kerash5 repack OLD.h5 NEW.h5" in words
    rows = np.concatenate([batches.plan.rows(step) for step in range(len(batches))])
    assert_array_equal(served[:, 7], rows % 251)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(batches.epoch(1))


@pytest.mark.parametrize("cure", ["cache", "scratch", "chunks"])
def test_each_cure_ends_the_warning(tmp_path: Path, cure: str) -> None:
    path = write_chunks(tmp_path / "a.h5", 2000, 4000, 65 if cure == "chunks" else 1000)
    options = BatchOptions(
        cache="9MB" if cure == "cache" else "2MB",
        scratch=tmp_path if cure == "scratch" else None,
    )
    batches = open_batches(path, "x", None, None, options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(len(x) for (x,) in batches.epoch(0)) == 2000


def test_one_thread_reads_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_chunks(tmp_path / "a.h5", 60, 1 << 20, 40)  # chunks of 40 MiB
    batches = open_batches(path, "x", None, None, BatchOptions(cache=0, batch_size=4, threads=3))
    assert isinstance(batches._store, DirectRows)
    inside, most, lock, load = 0, 0, threading.Lock(), Source.load_rows

    def counted(self: Source, rows: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        try:
            return load(self, rows)
        finally:
            with lock:
                inside -= 1

    monkeypatch.setattr(Source, "load_rows", counted)
    with pytest.warns(UserWarning, match="does not fit the cache"):
        next(iter(batches.epoch(0)))
    assert most == 1
