"""Ctrl-C in mid-epoch: a real signal to a child process that reads from slow storage."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest

from kerash5.batches._batches import open_batches
from kerash5.batches._options import BatchOptions
from kerash5.h5.reading._cancel import ReadingStopped, check_stop, obey
from kerash5.h5.reading._chunk_readers import MappedReader

# Each chunk takes 50 ms, as on slow storage: a batch of all rows would take 15 s.
READ_ON: Final = """
import sys, threading, time
from kerash5.batches._options import BatchOptions
from kerash5.batches._batches import open_batches
from kerash5.h5.reading import _readers
from kerash5.h5.reading._chunk_readers import MappedReader
from kerash5.h5.reading._readers import H5pyReader

def slow_down(kind, name):
    read = getattr(kind, name)
    def slow(self, *arguments):
        time.sleep(0.05)
        return read(self, *arguments)
    setattr(kind, name, slow)

_readers._SLAB_BYTES = 128  # two rows
slow_down(MappedReader, "_decode")
slow_down(H5pyReader, "_read_slab")
path, reader, shuffle, cache, threads = sys.argv[1:]
options = BatchOptions(batch_size=600, shuffle=shuffle, cache=int(cache), threads=int(threads))
batches = open_batches(path, "x", None, None, options, reader=reader)
epoch = batches.epoch(0)
threading.Timer(0.5, print, ["reading"], {"flush": True}).start()
try:
    list(epoch)
finally:
    left = [thread.name for thread in threading.enumerate() if "kerash5" in thread.name]
    print("threads left:", left, flush=True)
"""
ROWS: Final = 600
STORES: Final = {
    "windows": ("chunks", 60_000, 2),
    "in memory": ("rows", 10**9, 2),
    "no cache": ("rows", 0, 2),
    "without threads": ("rows", 0, 0),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow") / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.arange(ROWS * 64, dtype=np.uint8).reshape(ROWS, 64)
        file.create_dataset("x", data=values, chunks=(2, 64), compression=1)
    return path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("reader", ["auto", "h5py"])
@pytest.mark.parametrize("store", STORES)
def test_ctrl_c_ends_a_read_within_a_second(store: str, reader: str, path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", READ_ON, path, reader, *map(str, STORES[store])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "reading\n"
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert out == "threads left: []\n"
    assert seconds < 3  # 0.3 s; a busy machine takes longer, and a whole batch 15 s


@pytest.mark.timeout(60)
def test_an_epoch_left_in_its_middle_ends_within_a_chunk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = MappedReader._decode
    is_reading, decoded = threading.Event(), 0

    def slow(self: MappedReader, *arguments: Any) -> None:
        nonlocal decoded
        decoded += 1
        if decoded > 150:  # of the second batch
            is_reading.set()
            time.sleep(0.01)
        decode(self, *arguments)

    monkeypatch.setattr(MappedReader, "_decode", slow)
    options = BatchOptions(batch_size=300, shuffle=False, cache=0, threads=1)
    batches = open_batches(path, "x", None, None, options)
    found: Any = batches.epoch(0)
    next(found)
    assert is_reading.wait(30)
    found.close()
    assert decoded < 290
    assert [thread for thread in threading.enumerate() if "kerash5" in thread.name] == []
    monkeypatch.undo()
    assert len(list(batches.epoch(0))) == 2


def test_only_threads_that_obey_are_stopped() -> None:
    stop = threading.Event()
    stop.set()
    check_stop()
    seen: list[BaseException] = []

    def read() -> None:
        obey(stop)
        try:
            check_stop()
        except ReadingStopped as error:
            seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert len(seen) == 1
    check_stop()
