"""Killed for real: SIGKILL at random moments, resumed, compared with the unbroken run to the byte.

The unbroken run reads its batches; each life of the others may keep its rows on the device. In
turns these read the same rows as they are, from a sparse matrix, and as windows of a series.

`KERASH5_KILLS` says how many lives the run has: 3 unless it is set.
"""

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

import kerash5 as k5
from kerash5.assets import digits_train
from tests.markdown import ROOT

CHILD: Final = "tests.backend.train.checkpoints.kill_child"
KILLS: Final = int(os.environ.get("KERASH5_KILLS", "3"))
# Then the run is allowed to end, and another begins, on rows stored in another way.
KILLS_PER_RUN: Final = min(6, max(1, KILLS // 3))
NUM_ROWS: Final = 400
STEPS_PER_EPOCH: Final = 40


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = k5.Source(str(digits_train()), image="image", label="label").read(np.arange(NUM_ROWS))
    path = tmp_path_factory.mktemp("data") / "train.h5"
    k5.write(str(path), image=rows["image"], label=rows["label"])
    return str(path)


@pytest.fixture(scope="module")
def sparse_train(train: str) -> str:
    """The same rows, as AnnData stores a sparse matrix."""
    rows = k5.Source(train, image="image", label="label").read(np.arange(NUM_ROWS))
    images = rows["image"].reshape(NUM_ROWS, -1)
    places, indices = np.nonzero(images)
    path = Path(train).with_name("sparse.h5")
    with h5py.File(path, "w") as file:
        group = file.create_group("image")
        group.attrs.update({"encoding-type": "csr_matrix", "shape": images.shape})
        group.create_dataset("data", data=images[places, indices], chunks=(999,))
        group.create_dataset("indices", data=indices, chunks=(999,), compression="gzip")
        group["indptr"] = np.cumsum([0, *np.bincount(places, minlength=NUM_ROWS)])
        file["label"] = rows["label"]
    return str(path)


@pytest.fixture(scope="module")
def series_train(train: str) -> str:
    """The same rows, as windows of a series: the rows of all images, one below another."""
    rows = k5.Source(train, image="image", label="label").read(np.arange(NUM_ROWS))
    path = Path(train).with_name("series.h5")
    with h5py.File(path, "w") as file:
        series = rows["image"].reshape(-1, 28)
        file.create_dataset("image", data=series, chunks=(300, 28), compression="gzip")
        file["label"] = np.repeat(rows["label"], 28)
    return str(path)


def live(train: str, run_dir: Path, log: Path, seconds: float, device_cache: str) -> int:
    """Run the child until it ends or is killed; return its exit code."""
    words = [train, str(run_dir), str(log), str(seconds), device_cache]
    done = subprocess.run(
        [sys.executable, "-m", CHILD, *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def read_log(log: Path) -> tuple[list[str], list[str]]:
    """Return the batches, and what the process said at its end."""
    lines = log.read_text(encoding="utf-8").splitlines()
    batches = [line for line in lines if line.startswith("batch ")]
    return batches, [line for line in lines if not line.startswith("batch ")]


@pytest.mark.timeout(
    60 * (5 + 2 * KILLS)
)  # each life imports a backend, on machines that may be busy
def test_a_run_killed_at_random_moments_ends_as_the_unbroken_one(
    train: str, sparse_train: str, series_train: str, tmp_path: Path
) -> None:
    began = time.perf_counter()
    assert live(train, tmp_path / "unbroken", tmp_path / "unbroken.log", 0, "0") == 0
    planned, said = read_log(tmp_path / "unbroken.log")
    span = k5.Run.load(tmp_path / "unbroken").seconds
    assert len(planned) == 4 * STEPS_PER_EPOCH
    seed = int(os.environ.get("KERASH5_KILL_SEED", "0")) or int(began * 1e6)
    moments, killed, number = random.Random(seed), 0, 0
    while killed < KILLS:
        # The rows are the same, so that one unbroken run serves all.
        path = (train, sparse_train, series_train)[number % 3]
        number += 1
        most = min(KILLS - killed, KILLS_PER_RUN)
        killed += kill_and_compare(path, tmp_path / f"run{number}", moments, span, most)
        batches, told = read_log(tmp_path / f"run{number}.log")
        assert told == said, f"seed {seed}"
        assert_in_order(batches, planned)


def kill_and_compare(
    train: str, run_dir: Path, moments: random.Random, span: float, kills: int
) -> int:
    """Kill a run so often, then let it end. Return how often it was killed: it may end before."""
    log, killed = run_dir.with_suffix(".log"), 0
    for _ in range(kills):
        # Each life has about a share of the way to go, so that some are killed late.
        seconds, device_cache = moments.uniform(0.001, span * 0.5), moments.choice(["auto", "0"])
        if live(train, run_dir, log, seconds, device_cache) == 0:
            return killed
        killed += 1
    assert live(train, run_dir, log, 0, "auto") == 0
    return killed


def assert_in_order(batches: list[str], planned: list[str]) -> None:
    """Check that each life served the plan's batches in order, from where a checkpoint may be."""
    position = 0
    for batch in batches:
        if position < len(planned) and batch == planned[position]:
            position += 1
            continue
        # A new life: it goes back to a checkpoint, at most three steps and one epoch's end away.
        back = max(place for place in range(position) if planned[place] == batch)
        position = back + 1
    assert position == len(planned)
