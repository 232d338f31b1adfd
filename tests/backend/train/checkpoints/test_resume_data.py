"""Resuming over files that were touched, copied or changed in place since the checkpoint."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from rich.console import Console

import kerash5 as k5
from kerash5._errors import RunError
from kerash5.train.checkpoints import _fingerprint
from kerash5.train.checkpoints._fingerprint import (
    _describe_content,
    _draw_positions,
    changes_of_content,
    compare_fits,
    note_times,
)

pytestmark = pytest.mark.one_backend

NUM_ROWS: Final = 1000


def write_rows(path: Path, count: int = NUM_ROWS, **options: Any) -> str:
    with h5py.File(path, "w") as file:
        x = np.random.default_rng(0).random((count, 4)).astype(np.float32)
        file.create_dataset("x", data=x, **options)
        file["y"] = np.arange(count) % 3
    return str(path)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write_rows(tmp_path / "train.h5")


def change(path: str, column: str, rows: Any, value: float, *, keeps_time: bool = False) -> None:
    stat = Path(path).stat()
    with h5py.File(path, "r+") as file:
        values = file[column][...]
        values[rows] = value
        file[column][...] = values
    if keeps_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def fit(path: str, epochs: int, resume: str | None = None) -> tuple[k5.Run, str]:
    """Train, and return the run and what was said."""
    keras.utils.set_random_seed(1)
    softmax = keras.layers.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((4,)), softmax])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    said = io.StringIO()
    trainer = k5.Trainer(
        max_epochs=epochs,
        run_dir=Path(path).parent / "run",
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    trainer.console = Console(file=said)
    data = k5.H5DataModule(path, x="x", y="y", batch_size=100)
    return trainer.fit(model, data, resume=resume), said.getvalue()


def content(path: str, known: Any = None, **options: Any) -> dict[str, Any]:
    dataset = k5.H5Dataset(path, x="x", y="y", **options)
    found: dict[str, Any] = json.loads(json.dumps(_describe_content(dataset, known)))
    return found


@pytest.mark.parametrize("keeps_time", [False, True], ids=["as it is", "with its old time"])
def test_rows_changed_in_place_are_refused(path: str, keeps_time: bool) -> None:
    fit(path, 1)
    # All but the rows that earlier versions looked at.
    rows = np.setdiff1d(np.arange(NUM_ROWS), np.linspace(0, NUM_ROWS - 1, 16).astype(int))
    change(path, "x", rows, -5, keeps_time=keeps_time)
    with pytest.raises(RunError, match=r"rows of the training files were changed.*resume='force'"):
        fit(path, 2, "auto")
    assert len(fit(path, 2, "force")[0].epochs) == 2


def test_one_changed_label_is_refused(path: str) -> None:
    fit(path, 1)
    change(path, "y", 123, 1)
    with pytest.raises(RunError, match="labels in the training files were changed"):
        fit(path, 2, "auto")


def test_a_touched_and_a_copied_file_resume_with_one_line(path: str) -> None:
    fit(path, 1)
    os.utime(path)
    run, said = fit(path, 2, "auto")
    assert len(run.epochs) == 2
    assert said.count("modification times") == 1
    assert "all rows and all labels were compared" in " ".join(said.split())
    shutil.copy(path, f"{path}.copy")
    Path(path).unlink()
    shutil.move(f"{path}.copy", path)
    run, said = fit(path, 3, "auto")
    assert (len(run.epochs), said.count("modification times")) == (3, 1)
    run, said = fit(path, 4, "auto")  # the new times are the ones known now
    assert (len(run.epochs), said.count("modification times")) == (4, 0)


def test_checkpoints_of_before_resume(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        plain = _fingerprint._without_content
        made = _fingerprint.fingerprint
        earlier.setattr("kerash5.train._fit_state.fingerprint", lambda *given: plain(made(*given)))
        fit(path, 1)
    os.utime(path)
    run, said = fit(path, 2, "auto")
    assert (len(run.epochs), said.count("modification times")) == (2, 0)


# What is compared.


@pytest.mark.parametrize(("total", "count"), [(1, 1), (1000, 1000), (1000, 7), (10**12, 1024)])
def test_one_row_of_each_run_is_drawn(total: int, count: int) -> None:
    positions = _draw_positions(total, count)
    starts = [number * total // count for number in range(count + 1)]
    assert len(positions) == count
    assert all(a <= p < b for a, p, b in zip(starts, positions.tolist(), starts[1:], strict=False))


def test_rows_drawn_stay_the_same() -> None:
    # Pinned: with others no checkpoint of before could be resumed.
    assert _draw_positions(1_000_000, 5).tolist() == [7535, 355700, 545679, 742444, 894747]


@pytest.mark.parametrize("count", [1, 5, 20], ids=lambda count: f"{count / 10:g} %")
def test_a_sample_finds_changed_rows_as_often_as_its_docstring_says(count: int) -> None:
    n, total, tries = 1024, 200_000, 400
    positions = set(_draw_positions(total, n).tolist())
    rng = np.random.default_rng(4)
    changed = (rng.choice(total, total * count // 1000, replace=False) for _ in range(tries))
    found = sum(not positions.isdisjoint(rows.tolist()) for rows in changed) / tries
    promised = 1 - (1 - count / 1000) ** n
    assert found >= promised - 4 * np.sqrt(promised * (1 - promised) / tries) - 1 / tries


def test_the_cost_is_bounded(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fingerprint, "_FEW", (64, 1024))
    monkeypatch.setattr(_fingerprint, "_MORE", (256, 64 * 100))
    row_bytes = 4 * 4 + 8
    found = content(path)
    assert (found["few"][0], found["more"][0]) == (1024 // row_bytes, 256)
    assert found["labels"] is None  # 8,000 bytes of them
    chunked = write_rows(tmp_path / "chunked.h5", chunks=(500, 4), compression="gzip")
    assert content(chunked)["more"][0] == 16  # each row costs 500


def test_more_is_compared_only_where_times_differ(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, asked = _fingerprint._digest_sample, []

    def noted(train: k5.H5Dataset, most_rows: int, most_bytes: int) -> list[Any]:
        asked.append(most_rows)
        return digest(train, most_rows, most_bytes)

    monkeypatch.setattr(_fingerprint, "_digest_sample", noted)
    first = content(path)
    assert content(path, first) == first
    os.utime(path)
    again = content(path, first)
    assert asked == [1024, 16_384, 1024, 1024, 16_384]
    assert changes_of_content({"content": first}, {"content": again}) == []
    assert note_times({"content": first}, {"content": again}) is not None
    assert compare_fits({"content": first}, {"content": again}) == []


def test_only_rows_that_are_trained_on_count(path: str) -> None:
    before = content(path, rows=slice(0, 500))
    change(path, "x", slice(500, None), 9)
    after = content(path, rows=slice(0, 500))
    assert changes_of_content({"content": before}, {"content": after}) == []
    change(path, "x", 499, 9)
    assert changes_of_content({"content": before}, {"content": content(path, rows=slice(0, 500))})
