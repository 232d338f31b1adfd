"""Runs: JSON both ways, what is computed from their epochs, and files that are no runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerash5._errors import FileError, FileMissingError, KerasH5Error
from kerash5._run import RUN_FILE, Epoch, Metrics, Run, to_scalars

NAN = math.nan


def epochs_at(*speeds: float) -> tuple[Epoch, ...]:
    """Return epochs of one second each at these rows per second."""
    return tuple(Epoch(n, 1.0, int(speed), {"loss": 1.0 / speed}) for n, speed in enumerate(speeds))


RUN = Run(
    model="mlp",
    backend="jax",
    num_parameters=12,
    run_dir="runs/mlp",
    status="done",
    started="2025-01-01T00:00:00+00:00",
    seconds=2.5,
    epochs=(
        Epoch(0, 1.0, 100, {"loss": 0.5, "val_loss": 0.6}, 0.1, 0.2),
        Epoch(1, 0.5, 100, {"loss": 0.25, "val_loss": 0.5}, 0.0, 0.2),
    ),
    best_epoch=1,
    test={"loss": 0.5, "accuracy": 0.75},
    config={"data": {"x": "image", "shape": [28, 28]}},
    environment={"python": "3.11", "cores": 2},
    class_names={"y": ("cat", "dog")},
)

NUMBERS = st.floats(allow_infinity=False)
VALUES = NUMBERS | st.recursive(st.lists(NUMBERS, max_size=3), lambda x: st.lists(x, max_size=3))
NAMES = st.sampled_from(["loss", "accuracy", "val_loss", "Größe", "loss_0", "loss_0_1", "loss__0"])
METRICS = st.dictionaries(NAMES, VALUES)
EPOCHS = st.builds(
    Epoch,
    epoch=st.integers(0, 99),
    seconds=st.floats(0, 1e6),
    num_rows=st.integers(0, 1 << 40),
    metrics=METRICS,
    input_wait_seconds=st.floats(0, 1e6),
    validation_seconds=st.floats(0, 1e6),
)
RUNS = st.builds(
    Run,
    model=st.text(),
    backend=st.sampled_from(["jax", "tensorflow", "torch"]),
    num_parameters=st.integers(0, 1 << 40),
    run_dir=st.text(),
    status=st.sampled_from(["running", "done", "stopped", "failed"]),
    seconds=st.floats(0, 1e6),
    epochs=st.lists(EPOCHS, max_size=3).map(tuple),
    best_epoch=st.none() | st.integers(0, 99),
    test=METRICS,
    error=st.text(),
    engine=st.text(),
)


def nan_as_text(run: Run) -> str:
    """Return everything of a run in a form in which NaN equals NaN."""
    return repr(run)


@given(run=RUNS)
def test_a_run_comes_back_from_json_as_it_was(run: Run) -> None:
    assert nan_as_text(Run.from_json(run.to_json())) == nan_as_text(run)


@given(metrics=METRICS)
def test_every_number_of_the_metrics_has_a_name_of_its_own(metrics: Metrics) -> None:
    found = to_scalars(metrics)
    assert list(map(repr, found.values())) == list(map(repr, numbers_in(list(metrics.values()))))
    assert all(found[name] is value for name, value in metrics.items() if isinstance(value, float))


def numbers_in(value: Any) -> list[float]:
    if not isinstance(value, list):
        return [value]
    return [number for inner in value for number in numbers_in(inner)]


def test_elements_of_two_arrays_never_share_a_name() -> None:
    metrics = {"loss": [[1.0]], "loss_0": [2.0]}
    assert to_scalars(metrics) == {"loss_0_0": 1.0, "loss_0__0": 2.0}


def test_elements_are_named_by_their_places() -> None:
    metrics: Metrics = {"f1": [0.5, 0.25], "m": [[1.0, 2.0], [3.0, 4.0]], "loss": 1.0}
    names = ["f1_0", "f1_1", "m_0_0", "m_0_1", "m_1_0", "m_1_1", "loss"]
    assert to_scalars(metrics) == dict(zip(names, [0.5, 0.25, 1, 2, 3, 4, 1], strict=True))
    assert list(to_scalars({"f1": [0.5], "f1_0": 1.0})) == ["f1__0", "f1_0"]


def test_history_holds_arrays_and_nan_where_an_epoch_lacks_them() -> None:
    epochs = (Epoch(0, 1.0, 1, {"f1": [0.5, 0.25]}), Epoch(1, 1.0, 1, {"loss": 1.0}))
    history = replace(RUN, epochs=epochs).history
    assert repr(history) == "{'f1': [[0.5, 0.25], nan], 'loss': [nan, 1.0]}"


def test_config_and_environment_come_back_too() -> None:
    assert Run.from_json(RUN.to_json()) == RUN


def test_the_json_is_one_that_every_parser_reads() -> None:
    run = replace(RUN, test={"loss": NAN, "up": math.inf, "down": -math.inf})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    values = json.loads(run.to_json(), parse_constant=refuse)
    assert values["test"] == {"loss": None, "up": None, "down": None}


@pytest.mark.parametrize("place", ["test", "epoch"])
def test_a_metric_that_was_nan_comes_back_as_nan(place: str) -> None:
    metrics = {"loss": NAN}
    run = (
        replace(RUN, test=metrics)
        if place == "test"
        else replace(RUN, epochs=(Epoch(0, 1.0, 1, metrics),))
    )
    back = Run.from_json(run.to_json())
    found = back.test if place == "test" else back.epochs[0].metrics
    assert math.isnan(found["loss"])


def test_what_a_later_version_noted_besides_is_passed_over() -> None:
    values = json.loads(RUN.to_json())
    values["mood"] = "good"
    values["epochs"][0]["joules"] = 3.0
    assert Run.from_json(json.dumps(values)) == RUN


def test_a_run_is_saved_to_its_folder_and_loaded_from_folder_or_file(tmp_path: Path) -> None:
    path = RUN.save(tmp_path)
    assert path == str(tmp_path / RUN_FILE)
    assert Run.load(tmp_path) == Run.load(path) == RUN
    assert [file.name for file in tmp_path.iterdir()] == [RUN_FILE]


# What is no run.

NOT_RUNS = {
    "text": b"hello",
    "nothing": b"",
    "a list": b"[1, 2]",
    "a number": b"3",
    "no format": b"{}",
    "no epochs": b'{"format": 1}',
    "epochs that are none": b'{"format": 1, "epochs": [3], "test": {}}',
    "bytes of another kind": b"\x89HDF\r\n\x1a\n\xff\xfe",
    "a run without a model": b'{"format": 1, "epochs": [], "test": {}, "backend": "jax"}',
}


@pytest.mark.parametrize("content", NOT_RUNS.values(), ids=NOT_RUNS)
def test_a_file_that_is_no_run_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(FileError, match=r"run\.json' is no run \(.*written by Trainer\.fit"):
        Run.load(tmp_path)


def test_a_run_of_another_format_says_to_upgrade(tmp_path: Path) -> None:
    values = {**json.loads(RUN.to_json()), "format": 2}
    (tmp_path / RUN_FILE).write_text(json.dumps(values))
    with pytest.raises(FileError, match="pip install -U kerash5"):
        Run.load(tmp_path)


@pytest.mark.parametrize("name", ["", "other"])
def test_no_run_at_all_is_an_error_that_names_the_place(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    with pytest.raises(FileMissingError, match=r"no run at.*name the run_dir") as caught:
        Run.load(place)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, KerasH5Error)
    assert repr(str(place)) in str(caught.value)


def test_a_run_that_cannot_be_read_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).mkdir()
    with pytest.raises(FileError, match="cannot be read"):
        Run.load(tmp_path)


# What follows from the epochs.


def test_history_has_a_value_per_epoch_and_nan_where_one_lacks_it() -> None:
    epochs = (Epoch(0, 1.0, 1, {"loss": 3.0}), Epoch(1, 1.0, 1, {"loss": 2.0, "val_loss": 4.0}))
    history = replace(RUN, epochs=epochs).history
    assert list(history) == ["loss", "val_loss"]
    assert history["loss"] == [3.0, 2.0]
    assert math.isnan(history["val_loss"][0])
    assert history["val_loss"][1] == 4.0


@pytest.mark.parametrize(
    ("speeds", "median"),
    [
        pytest.param((10,), 10, id="one epoch counts"),
        pytest.param((10, 30), 30, id="the first of two does not"),
        pytest.param((1, 30, 10), 20, id="even"),
        pytest.param((1, 1000, 10, 30), 30, id="an outlier does not move it"),
    ],
)
def test_rows_per_second_is_the_median_without_the_first_epoch(
    speeds: tuple[float, ...], median: float
) -> None:
    assert replace(RUN, epochs=epochs_at(*speeds)).rows_per_second == median


def test_before_the_first_epoch_there_is_no_speed_and_no_history() -> None:
    run = replace(RUN, epochs=())
    assert math.isnan(run.rows_per_second)
    assert run.history == {}


def test_an_epoch_without_time_has_no_speed() -> None:
    assert math.isnan(Epoch(0, 0.0, 5, {}).rows_per_second)
