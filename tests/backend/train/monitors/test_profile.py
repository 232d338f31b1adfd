"""Where the time went: seconds that add up, the bottleneck that was built in, traces on disk."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from rich.console import Console

import kerash5 as k5
from kerash5._errors import OptionError
from kerash5.h5.reading import _timers
from kerash5.h5.reading._timers import clocked, counted_seconds
from kerash5.train.monitors._profile import Profile, _compiling

pytestmark = pytest.mark.one_backend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("x", data=np.ones((160, 4), np.float32), chunks=(8, 4), compression=1)
        file["y"] = np.arange(160) % 2
    return tmp_path / "rows.h5"


def fit(
    path: Path, folder: Path, *, profiler: Any, callbacks: Any = (), **options: Any
) -> tuple[k5.Run, str]:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    trainer = k5.Trainer(
        max_epochs=2,
        run_dir=folder,
        profiler=profiler,
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.console = Console(file=io.StringIO(), width=200)
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, **options)
    run = trainer.fit(model, data)
    said = trainer.console.file
    assert isinstance(said, io.StringIO)
    return run, said.getvalue()


def sleep_in_transform(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    time.sleep(0.03)
    return x, y


def test_a_slow_transform_is_named_and_kept_in_the_run(path: Path, tmp_path: Path) -> None:
    run, said = fit(
        path, tmp_path / "run", profiler="simple", transform=sleep_in_transform, threads=1
    )
    profile = run.profile
    assert profile["bottleneck"] == "transform"
    assert profile["reading"]["transform"] >= 40 * 0.03
    assert profile["wait"] > 0.5
    assert "bottleneck: the transform; use layers of the model" in said
    parts = ("step", "compiling", "wait", "validation", "other")
    assert sum(profile[part] for part in parts) == pytest.approx(profile["total"], rel=0.05)
    kept = k5.Run.load(tmp_path / "run").profile
    assert kept["bottleneck"] == "transform"


def test_a_slow_callback_is_named(path: Path, tmp_path: Path) -> None:
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: time.sleep(1.0))
    run, _ = fit(path, tmp_path / "run", profiler="simple", callbacks=[callback])
    assert run.profile["other"] > 2.0 * 0.9


def test_off_nothing_is_counted(path: Path, tmp_path: Path) -> None:
    run, said = fit(path, tmp_path / "run", profiler=None)
    assert run.profile == {}
    assert "where the time went" not in said
    assert _timers._COUNTERS == []


def test_a_trace_of_the_framework_is_in_the_folder(path: Path, tmp_path: Path) -> None:
    run, said = fit(path, tmp_path / "run", profiler="trace")
    files = [each for each in (tmp_path / "run" / "trace").rglob("*") if each.is_file()]
    assert max(each.stat().st_size for each in files) > 1000
    assert "trace: " in said
    assert run.status == "done"


def test_another_profile_is_refused() -> None:
    with pytest.raises(OptionError, match="choose 'simple', 'trace' or None"):
        k5.Trainer(profiler="advanced")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("seconds", "bottleneck"),
    [
        ({"step": 9.0, "wait": 0.5}, "step"),
        ({"step": 5.0, "wait": 5.0}, "decode"),
        ({"step": 4.0, "wait": 1.0, "total": 12.0}, "other"),
        ({"step": 9.0, "transfer": 6.0}, "transfer"),
        ({"step": 1.0, "wait": 9.0, "reading": {}}, "read"),
        ({"step": 0.0, "wait": 0.0, "total": 0.0}, "step"),
    ],
)
def test_the_bottleneck_is_what_takes_most(seconds: dict[str, Any], bottleneck: str) -> None:
    values: dict[str, Any] = {
        "total": 10.0,
        "compiling": 0.0,
        "transfer": 0.0,
        "wait": 0.0,
        "validation": 0.0,
        "reading": {"read": 1.0, "decode": 3.0, "gather": 0.5},
        **seconds,
    }
    profile = Profile(**values)
    assert profile.bottleneck == bottleneck
    assert "bottleneck: " in profile.describe()


def test_only_calls_far_slower_than_usual_compile() -> None:
    assert _compiling([]) == 0
    assert _compiling([(1.0, 10), (1.5, 10), (0.1, 1)]) == 0
    assert _compiling([(5.0, 1), (0.1, 1), (0.1, 1)]) == pytest.approx(4.9)


def test_the_clock_counts_all_threads_and_only_inside_the_block() -> None:
    work: Callable[[], None] = clocked("work")(lambda: time.sleep(0.01))
    work()
    with counted_seconds() as outer:
        work()
        with counted_seconds() as inner:
            work()
    work()
    assert 0.02 <= outer["work"] < 0.5
    assert 0.01 <= inner["work"] < outer["work"]
