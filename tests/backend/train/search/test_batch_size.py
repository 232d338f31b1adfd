"""The search for a batch size: the right answer, and no harm by a trial that dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kerash5 as k5
from kerash5._errors import OptionError, RunError
from kerash5.report import Trial
from kerash5.train.search import _batch_size
from kerash5.train.search._batch_size import next_size

pytestmark = pytest.mark.one_backend


@pytest.fixture
def data(tmp_path: Path) -> k5.H5Dataset:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = np.ones((64, 4), np.float32), np.arange(64) % 2
    return k5.H5Dataset(tmp_path / "rows.h5", x="x", y="y", batch_size=8)


def build() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def search(model: keras.Model, data: Any, **options: Any) -> Any:
    return k5.Trainer(enable_progress_bar=False).batch_size_find(model, data, **options)


@given(most=st.integers(1, 5000), limit=st.integers(0, 6000), start=st.integers(1, 600))
def test_the_search_ends_near_the_largest_size_that_trains(
    most: int, limit: int, start: int
) -> None:
    trials: dict[int, Trial] = {}
    size: int | None = min(start, most)
    while size is not None:
        assert 1 <= size <= most
        assert size not in trials
        trials[size] = Trial(size, 1.0) if size <= limit else Trial(size, error="no")
        size = next_size(trials, most)
    found = max((size for size, trial in trials.items() if trial.is_trained), default=0)
    assert len(trials) < 30
    assert found <= min(limit, most)
    assert min(limit, most) - found <= max(1, found // 8)


def test_a_size_is_measured_in_a_process_of_its_own(data: k5.H5Dataset) -> None:
    model = build()
    before = [weight.copy() for weight in model.get_weights()]
    found = search(model, data, init_val=64)
    (trial,) = found.trials
    assert found.largest == found.fastest == 64
    assert trial.rows_per_second > 0
    assert trial.peak_bytes > 50e6
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_trial_that_takes_too_much_memory_is_ended(data: k5.H5Dataset) -> None:
    found = search(build(), data, memory_limit="1MB", max_trials=1)
    assert found.largest is None
    assert "more than 1 MB" in found.trials[0].error


def test_a_trial_that_takes_too_long_is_ended(data: k5.H5Dataset) -> None:
    found = search(build(), data, seconds_per_trial=0.2, max_trials=1)
    assert "longer than" in found.trials[0].error


def test_a_process_that_is_killed_is_a_trial_that_failed() -> None:
    killed = _batch_size._judge(["began"], -signal.SIGKILL, 32)
    assert killed.error == "its process ended early (signal 9, as when memory runs out)"
    assert _batch_size._judge(["began"], 3, 32).error == "its process ended early (exit code 3)"
    assert _batch_size._judge(["began", {"error": "MemoryError: no"}], 0, 8).error
    with pytest.raises(RunError, match="if __name__ == '__main__'"):
        _batch_size._judge([], 1, 32)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"init_val": 0}, "init_val=0"),
        ({"steps_per_trial": True}, "steps_per_trial=True"),
        ({"max_val": -1}, "max_val=-1"),
        ({"memory_limit": "much"}, "memory_limit='much'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    data: k5.H5Dataset, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(OptionError, match=match):
        search(build(), data, **options)


def test_a_transform_that_cannot_be_sent_is_one_sentence(data: k5.H5Dataset) -> None:
    path = data.source.paths[0]
    local = k5.H5Dataset(path, x="x", y="y", transform=lambda x, y: (x, y))
    with pytest.raises(RunError, match="at module level"):
        search(build(), local, init_val=8)


def test_the_memory_of_a_process_that_is_gone_is_none() -> None:
    gone: Any = SimpleNamespace(pid=2**22 + 1)
    assert _batch_size._memory_of(gone) == 0
    here: Any = SimpleNamespace(pid=os.getpid())
    assert _batch_size._memory_of(here) > 1e6
