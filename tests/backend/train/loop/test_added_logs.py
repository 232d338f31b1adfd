"""What callbacks add to the logs of an epoch is recorded as `fit` records it in its history."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5

pytestmark = pytest.mark.one_backend


class Adding(keras.callbacks.Callback):
    """Adds values to the logs of each epoch."""

    def __init__(self, make: Callable[[int, float], dict[str, Any]]) -> None:
        super().__init__()
        self._make = make

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        logs |= self._make(epoch, logs["loss"])


@pytest.fixture
def data(tmp_path: Path) -> k5.H5Dataset:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = np.ones((24, 4), np.float32), np.arange(24) % 2
    return k5.H5Dataset(tmp_path / "rows.h5", x="x", y="y", batch_size=8)


def build() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def trainer(folder: Path, *callbacks: keras.callbacks.Callback, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return k5.Trainer(
        **{"max_epochs": 3, "run_dir": folder, **quiet, **options}, callbacks=list(callbacks)
    )


def test_added_values_are_in_run_csv_and_callback_metrics(
    data: k5.H5Dataset, tmp_path: Path
) -> None:
    def added() -> Adding:
        return Adding(
            lambda epoch, loss: {
                "twice": 2 * loss,
                "number": np.int64(epoch),
                "shares": np.array([epoch, 0.5]),
            }
        )

    expected = build().fit(data, epochs=3, verbose=0, callbacks=[added()]).history
    ours = trainer(tmp_path / "run", added())
    run = ours.fit(build(), data)
    for epoch in run.epochs:
        found = {name: values[epoch.epoch] for name, values in expected.items()}
        assert epoch.metrics.keys() == found.keys()
        for name, value in found.items():
            np.testing.assert_allclose(epoch.metrics[name], value, rtol=1e-6)
    assert k5.Run.load(tmp_path / "run").epochs == run.epochs
    assert ours.callback_metrics == run.epochs[-1].metrics
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [float(row["number"]) for row in csv.DictReader(file)] == [0, 1, 2]


def test_the_learning_rate_is_recorded_once(data: k5.H5Dataset, tmp_path: Path) -> None:
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    run = trainer(tmp_path / "run", schedule).fit(build(), data)
    assert [epoch.learning_rate for epoch in run.epochs] == pytest.approx([0.1, 0.05, 0.1 / 3])
    assert all(epoch.metrics.keys() == {"loss"} for epoch in run.epochs)
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header.count("learning_rate") == 1


def test_what_is_no_number_is_said_and_left_out(data: k5.H5Dataset, tmp_path: Path) -> None:
    noted = Adding(lambda epoch, _: {"note": "fine", "number": epoch})
    with pytest.warns(UserWarning, match=r"logs\['note'\] to 'fine', which is no number"):
        run = trainer(tmp_path / "run", noted, max_epochs=1).fit(build(), data)
    assert run.epochs[0].metrics.keys() == {"loss", "number"}


def test_a_resumed_fit_has_the_values_of_all_epochs(data: k5.H5Dataset, tmp_path: Path) -> None:
    class FailingOnce(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise InterruptedError

    added = Adding(lambda epoch, _: {"number": epoch * 10})
    with pytest.raises(InterruptedError):
        trainer(tmp_path / "run", added, FailingOnce()).fit(build(), data)
    run = trainer(tmp_path / "run", added).fit(build(), data, resume="auto")
    assert [epoch.metrics["number"] for epoch in run.epochs] == [0, 10, 20]


def test_a_changed_value_is_recorded_as_it_was(data: k5.H5Dataset, tmp_path: Path) -> None:
    expected = trainer(tmp_path / "plain").fit(build(), data)
    changed = Adding(lambda epoch, loss: {"loss": "low" if epoch else loss + 100})
    with pytest.warns(UserWarning, match=r"a callback has changed logs\['loss'\]; it is recorded"):
        run = trainer(tmp_path / "run", changed).fit(build(), data)
    assert [epoch.metrics for epoch in run.epochs] == [epoch.metrics for epoch in expected.epochs]
    assert run.best_epoch == expected.best_epoch
