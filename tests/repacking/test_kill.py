"""Killed for real, at random moments: the file is the old or the new one, and work goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import pytest

from tests.markdown import ROOT
from tests.repacking.same import find_differences

KILLS: Final = int(os.environ.get("KERASH5_KILLS", "8"))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


def live(source: Path, out: Path, seconds: float | None) -> tuple[int, float]:
    """Run the child, killed after some seconds; return its exit code and how long it worked."""
    words = [sys.executable, "-m", "tests.repacking.kill_child", str(source), str(out)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        began = time.monotonic()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.returncode, time.monotonic() - began


@pytest.mark.timeout(60 * (5 + KILLS))
def test_a_file_repacked_through_kills_equals_its_source(tmp_path: Path) -> None:
    rng, source, out = np.random.default_rng(0), tmp_path / "source.h5", tmp_path / "out.h5"
    with h5py.File(source, "w") as file:
        x = rng.integers(0, 9, (3000, 8, 8)).astype("i4")
        file.create_dataset("x", data=x, chunks=(100, 4, 4), compression="gzip")
        file["y"] = np.arange(3000)
        file.create_dataset("word", data=[f"w{n}" for n in range(3000)])
    code, span = live(source, out, None)
    assert code == 0
    whole = out.read_bytes()
    moments, killed, lives = random.Random(int(time.time())), 0, 0
    out.write_bytes(b"old")
    while killed < KILLS:
        lives += 1
        code, _ = live(source, out, moments.uniform(0, span / 2))
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        content = out.read_bytes()
        assert content == b"old" or code == 0 or is_same(source, out)
        if code == 0 or content != b"old":
            assert is_same(source, out)
            out.write_bytes(b"old")
    while live(source, out, None)[0]:
        pass
    assert is_same(source, out)
    assert len(whole) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "source.h5"]


def is_same(source: Path, out: Path) -> bool:
    with h5py.File(source) as one, h5py.File(out) as other:
        order = other["row_order"][()]
        return not list(find_differences(one, other, order, added="row_order"))
