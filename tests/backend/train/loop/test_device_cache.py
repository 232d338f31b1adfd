"""Rows on the device: the same training to the bit, and reasons where they cannot be there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import FileChangedError, OptionError
from kerash5.train import _fit_parts
from kerash5.train.engines import AbstractEngine, make_engine
from kerash5.train.loop._device_cache import DeviceRows, parse_device_cache

NUM_ROWS: Final = 60
IMAGES: Final = np.random.default_rng(4).integers(0, 256, (NUM_ROWS, 4, 4), dtype=np.uint8)
PLANS: Final[dict[str, dict[str, Any]]] = {
    "all rows": {},
    "a split, the last batch short": {"validation_split": 13},
    "chunks": {"shuffle": "chunks", "cache": 200},
    "given rows in their order": {"rows": [9, 3, 50, 7, 21, 22], "shuffle": False},
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file.create_dataset("image", data=IMAGES, chunks=(4, 4, 4), compression="gzip")
        file["label"] = np.arange(NUM_ROWS) % 3
    return str(tmp_path / "train.h5")


@pytest.fixture
def held_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches came as positions, for each epoch or part of one."""
    found: list[int] = []
    positions = DeviceRows.positions

    def watched(self: DeviceRows, epoch: int, start: int = 0) -> Any:
        found.append(0)
        for one in positions(self, epoch, start):
            found[-1] += 1
            yield one

    monkeypatch.setattr(DeviceRows, "positions", watched)
    return found


def fit(
    path: str, run_dir: Path, options: dict[str, Any], **asked: Any
) -> tuple[k5.Run, list[np.ndarray]]:
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((4, 4)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = k5.H5DataModule(path, x="image", y="label", batch_size=7, **options)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = k5.Trainer(**{"run_dir": run_dir, "max_epochs": 2, **quiet, **asked})
    return trainer.fit(model, data, resume="auto", class_weight={1: 2.0}), model.get_weights()


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS)
def test_training_on_rows_on_the_device_is_the_same_to_the_bit(
    path: str, tmp_path: Path, held_steps: list[int], options: dict[str, Any]
) -> None:
    run, expected = fit(path, tmp_path / "host", options, device_cache=0)
    assert held_steps == []
    other, found = fit(path, tmp_path / "device", options, device_cache="1MB")
    assert len(held_steps) == 2
    assert all(held_steps)
    for one, wanted in zip(found, expected, strict=True):
        assert_array_equal(one, wanted)
    assert [epoch.metrics for epoch in other.epochs] == [epoch.metrics for epoch in run.epochs]
    assert [epoch.num_rows for epoch in other.epochs] == [epoch.num_rows for epoch in run.epochs]


def test_a_fit_that_is_stopped_goes_on_with_or_without_them(path: str, tmp_path: Path) -> None:
    _, expected = fit(path, tmp_path / "unbroken", {}, device_cache=0)
    for number, (first, second) in enumerate([(0, "1MB"), ("1MB", 0), ("1MB", "1MB")]):
        run_dir = tmp_path / str(number)
        fit(path, run_dir, {}, max_steps=5, device_cache=first)
        _, found = fit(path, run_dir, {}, device_cache=second)
        for one, wanted in zip(found, expected, strict=True):
            assert_array_equal(one, wanted)


def test_a_file_that_changes_is_noticed_though_nothing_is_read(path: str, tmp_path: Path) -> None:
    class Touch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            os.utime(path, (1, 1))

    with pytest.raises(FileChangedError, match="was written to or replaced"):
        fit(path, tmp_path / "run", {}, device_cache="1MB", callbacks=[Touch()])


@pytest.mark.parametrize(
    ("options", "limit_and_words"),
    [
        ({"transform": lambda x, y: (x, y)}, ("1MB", "a transform makes each batch anew")),
        ({}, (100, "they take 1,440 bytes, and 100 are allowed")),
        ({}, ("1MB", r"60 rows \(1,440 bytes\) are on the device")),
    ],
    ids=["transform", "too large", "they are"],
)
def test_who_asks_for_them_is_told(
    path: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    limit_and_words: tuple[float | str, str],
) -> None:
    limit, words = limit_and_words
    fit(path, tmp_path / "run", options, device_cache=limit)
    assert re.search(words, capsys.readouterr().err)
    fit(path, tmp_path / "quiet", options, device_cache="auto")
    assert "on the device" not in capsys.readouterr().err


def test_what_a_short_fit_would_never_see_is_not_put_there(
    path: str, tmp_path: Path, held_steps: list[int]
) -> None:
    for number, asked in enumerate(({"max_steps": 5}, {"overfit_batches": 3}, {"max_steps": 9})):
        fit(path, tmp_path / str(number), {}, device_cache="auto", **asked)
    assert held_steps == [9]
    fit(path, tmp_path / "asked for", {}, device_cache="1MB", max_steps=5)
    assert held_steps == [9, 5]


def test_rows_are_let_go_at_the_end(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[AbstractEngine] = []

    def watched(*args: Any, **options: Any) -> AbstractEngine:
        engines.append(make_engine(*args, **options))
        return engines[-1]

    class Fail(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert engines[-1]._device_rows is not None
            if epoch == 1:
                raise RuntimeError("rain")

    monkeypatch.setattr(_fit_parts, "make_engine", watched)
    fit(path, tmp_path / "run", {}, device_cache="1MB", max_epochs=1, callbacks=[Fail()])
    with pytest.raises(RuntimeError, match="rain"):
        fit(path, tmp_path / "fails", {}, device_cache="1MB", callbacks=[Fail()])
    assert [engine._device_rows for engine in engines] == [None, None]


@pytest.mark.parametrize("device_cache", [0, "1MB"])
def test_an_order_that_mixes_classes_badly_is_warned_of(
    tmp_path: Path, device_cache: int | str
) -> None:
    with h5py.File(tmp_path / "sorted.h5", "w") as file:
        file.create_dataset("image", data=np.tile(IMAGES, (10, 1, 1)), chunks=(4, 4, 4))
        file["label"] = np.repeat(np.arange(10), NUM_ROWS)
    options = {"shuffle": "chunks", "cache": 800}
    with pytest.warns(UserWarning, match="a batch of 7 has .* labels"):
        fit(str(tmp_path / "sorted.h5"), tmp_path, options, device_cache=device_cache, max_epochs=1)


def test_no_time_is_put_down_to_a_way_that_no_batch_takes(path: str, tmp_path: Path) -> None:
    profiles = [
        fit(path, tmp_path / str(cache), {}, device_cache=cache, profiler="simple")[0].profile
        for cache in (0, "1MB")
    ]
    assert [profile["transfer"] > 0 for profile in profiles if profile] == [True, False]


def test_a_plain_engine_takes_batches_from_the_host(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plain(*args: Any, **options: Any) -> AbstractEngine:
        return make_engine(*args, **options, is_plain=True)

    monkeypatch.setattr(_fit_parts, "make_engine", plain)
    fit(path, tmp_path / "run", {}, device_cache="1MB")
    assert "not kept on the device: this engine reads batches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "num_bytes"), [("auto", None), (0, 0), (False, 0), ("2kB", 2000), (512.0, 512)]
)
def test_sizes_are_read_as_they_are_written(asked: Any, num_bytes: int | None) -> None:
    assert parse_device_cache(asked) == num_bytes


@pytest.mark.parametrize("asked", [True, "much", -1, 0.5, None])
def test_what_is_no_size_is_refused(asked: Any) -> None:
    with pytest.raises(OptionError, match=r"device_cache=.*'2GB'"):
        k5.Trainer(device_cache=asked)
