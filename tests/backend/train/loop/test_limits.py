"""The flags that end a fit, cut the data, and change what the optimizer does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import kerash5 as k5
from kerash5._errors import OptionError, RunError
from kerash5.train import _fit_parts
from kerash5.train.checkpoints._run_dir import BEST_WEIGHTS
from kerash5.train.loop._limits import Limits, parse_duration
from tests.backend.train.handed import engines_that_tell

NUM_ROWS: Final = 30
IMAGES: Final = np.random.default_rng(3).integers(0, 256, (NUM_ROWS, 2, 3), dtype=np.uint8)
LABELS: Final = np.arange(NUM_ROWS) % 3


@pytest.fixture
def data(tmp_path: Path) -> k5.H5DataModule:
    """Four batches of five rows to train on, two to validate on."""
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["image"], file["label"] = IMAGES, LABELS
    return k5.H5DataModule(
        tmp_path / "train.h5", x="image", y="label", batch_size=5, validation_split=10
    )


def build(optimizer: Any = "sgd") -> keras.Model:
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((2, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


class Counter(keras.callbacks.Callback):
    """Notes every hook, and can stop the training after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.called: list[str] = []
        self.weights: list[np.ndarray] = []
        self._stop_after = stop_after

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.called.append(f"step {batch}")
        self.weights.append(self.model.get_weights()[0])
        if len(self.weights) == self._stop_after:
            self.model.stop_training = True

    def on_test_begin(self, logs: Any = None) -> None:
        self.called.append("test")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.called.append(f"tested {batch}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.called.append(f"epoch {epoch}")


def fit(
    data: k5.H5DataModule, tmp_path: Path, model: keras.Model | None = None, **options: Any
) -> tuple[k5.Run, list[str], Counter]:
    counter = Counter(options.pop("stop_after", None))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 2}
    asked = {**quiet, "run_dir": tmp_path / "run", "callbacks": [counter], **options}
    run = k5.Trainer(**asked).fit(model or build(), data)
    return run, counter.called, counter


TESTED: Final = ["test", "tested 0", "tested 1"]
EPOCH: Final = ["step 0", "step 1", "step 2", "step 3", *TESTED]

CASES: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "max_epochs": ({"max_epochs": 1}, [*EPOCH, "epoch 0"]),
    "max_steps in an epoch": (
        {"max_steps": 6},
        [*EPOCH, "epoch 0", "step 0", "step 1", *TESTED, "epoch 1"],
    ),
    "max_steps at its end": ({"max_steps": 4}, [*EPOCH, "epoch 0"]),
    "limit_train_batches": (
        {"limit_train_batches": 1},
        ["step 0", *TESTED, "epoch 0", "step 0", *TESTED, "epoch 1"],
    ),
    "a fraction of the batches": (
        {"limit_train_batches": 0.5, "limit_val_batches": 0.5, "max_epochs": 1},
        ["step 0", "step 1", "test", "tested 0", "epoch 0"],
    ),
    "no validation": (
        {"limit_val_batches": 0, "max_epochs": 1},
        ["step 0", "step 1", "step 2", "step 3", "epoch 0"],
    ),
    "val_check_interval": (
        {"val_check_interval": 0.5, "max_epochs": 1},
        ["step 0", "step 1", *TESTED, "step 2", "step 3", *TESTED, "epoch 0"],
    ),
    "val_check_interval in steps": (
        {"val_check_interval": 3, "max_epochs": 1},
        ["step 0", "step 1", "step 2", *TESTED, "step 3", *TESTED, "epoch 0"],
    ),
    "fast_dev_run": ({"fast_dev_run": True}, ["step 0", "test", "tested 0", "epoch 0"]),
    "a longer fast_dev_run": (
        {"fast_dev_run": 2},
        ["step 0", "step 1", *TESTED, "epoch 0"],
    ),
    "stop_training in an epoch": ({"stop_after": 2}, ["step 0", "step 1", *TESTED, "epoch 0"]),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_so_much_is_trained_and_validated(
    data: k5.H5DataModule, tmp_path: Path, case: tuple[dict[str, Any], list[str]]
) -> None:
    options, expected = case
    run, called, _ = fit(data, tmp_path, **options)
    assert called == expected
    assert run.status == "done"
    steps = [sum(name.startswith("step") for name in part) for part in split_epochs(expected)]
    assert [epoch.num_rows for epoch in run.epochs] == [5 * count for count in steps]


def split_epochs(called: list[str]) -> list[list[str]]:
    epochs: list[list[str]] = [[]]
    for name in called:
        epochs[-1].append(name)
        if name.startswith("epoch"):
            epochs.append([])
    return epochs[:-1]


def test_a_run_of_one_batch_leaves_nothing_behind(data: k5.H5DataModule, tmp_path: Path) -> None:
    run, _, _ = fit(data, tmp_path, fast_dev_run=True)
    assert run.run_dir == ""
    assert not (tmp_path / "run").exists()


def test_the_clock_ends_a_fit(data: k5.H5DataModule, tmp_path: Path) -> None:
    run, called, _ = fit(data, tmp_path, max_epochs=None, max_time=timedelta(seconds=1e-4))
    assert called == ["step 0", *TESTED, "epoch 0"]
    assert run.status == "done"


@pytest.mark.parametrize("device_cache", ["auto", 0])
def test_overfitting_sees_the_same_batches_in_every_epoch(
    data: k5.H5DataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device_cache: str | int,
) -> None:
    handed: list[bytes] = []
    make = engines_that_tell(lambda x: handed.append(x.tobytes()))
    monkeypatch.setattr(_fit_parts, "make_engine", make)
    _, called, _ = fit(data, tmp_path, overfit_batches=1, device_cache=device_cache)
    planned = [x.tobytes() for x, _ in data.train.batches(0)]
    assert handed == [planned[0]] * 2
    once = ["step 0", "test", "tested 0"]
    assert called == [*once, "epoch 0", *once, "epoch 1"]


def test_a_check_within_an_epoch_does_not_touch_its_averages(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    plain, _, _ = fit(data, tmp_path, max_epochs=1)
    checked, _, _ = fit(data, tmp_path, max_epochs=1, val_check_interval=1)
    assert checked.epochs[0].metrics == plain.epochs[0].metrics


def test_validation_can_be_tried_before_the_first_step(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    class WeatherError(Exception):
        pass

    def spoil(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if y[0] == LABELS[np.sort(held_out)[0]] and list(x[0].ravel()) == first:
            raise WeatherError
        return x, y

    assert data.validation is not None
    held_out = np.asarray(data.validation.plan.rows_to_serve)
    first = list(IMAGES[held_out[0]].ravel())
    spoiled = k5.H5DataModule(
        tmp_path / "train.h5",
        x="image",
        y="label",
        batch_size=5,
        validation_split=10,
        transform=spoil,
    )
    counter = Counter()
    trainer = k5.Trainer(
        run_dir=tmp_path / "run",
        callbacks=[counter],
        num_sanity_val_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(WeatherError):
        trainer.fit(build(), spoiled)
    assert counter.called == []


# The optimizer.


def test_gradients_of_several_batches_make_one_update(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    _, _, counter = fit(data, tmp_path, accumulate_grad_batches=2, max_epochs=1)
    first, second, third, fourth = counter.weights
    assert_array_equal(first, build().get_weights()[0])
    assert not np.array_equal(first, second)
    assert_array_equal(second, third)
    assert not np.array_equal(third, fourth)


def test_accumulation_needs_an_optimizer_that_was_not_used(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    model = build()
    fit(data, tmp_path, model, max_epochs=1)
    with pytest.raises(RunError, match=r"gradient_accumulation_steps=2.*call model\.compile"):
        fit(data, tmp_path, model, accumulate_grad_batches=2)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_and_the_optimizer_is_as_before(
    data: k5.H5DataModule, tmp_path: Path, algorithm: str
) -> None:
    model = build(keras.optimizers.SGD(1.0))
    _, _, counter = fit(
        data,
        tmp_path,
        model,
        gradient_clip_val=1e-3,
        gradient_clip_algorithm=algorithm,
        max_steps=1,
    )
    moved = np.abs(counter.weights[0] - build().get_weights()[0])
    # A step of rate 1 moves each weight by its gradient: by at most so much, or all by that norm.
    assert 0 < (np.linalg.norm(moved) if algorithm == "norm" else moved.max()) <= 1e-3 + 1e-6
    assert (model.optimizer.global_clipnorm, model.optimizer.clipvalue) == (None, None)
    weights = model.get_weights()[0]
    fit(data, tmp_path, model, max_steps=1)
    assert np.abs(model.get_weights()[0] - weights).max() > 1e-2  # and compiled without it


def test_averaged_weights_are_validated_saved_and_kept(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    model = build(keras.optimizers.SGD(1.0))
    run, _, counter = fit(data, tmp_path, model, ema_momentum=0.5, max_epochs=1)
    average = counter.weights[0]  # as Keras begins it: the weights after the first step
    for weights in counter.weights[1:]:
        average = 0.5 * average + 0.5 * weights
    assert_allclose(model.get_weights()[0], average, atol=1e-6)
    kept = build(keras.optimizers.SGD(1.0))
    kept.optimizer.use_ema = True
    kept.optimizer.build(kept.trainable_variables)
    kept.load_weights(tmp_path / "run" / BEST_WEIGHTS)
    assert_allclose(kept.get_weights()[0], average, atol=1e-6)
    found = k5.Trainer().validate(model, data)
    assert found["loss"] == pytest.approx(run.epochs[0].metrics["val_loss"], abs=1e-5)


def test_early_stopping_waits_so_long_and_no_longer(data: k5.H5DataModule, tmp_path: Path) -> None:
    model = build(keras.optimizers.SGD(0.0))  # never better than in the first epoch
    run, _, _ = fit(data, tmp_path, model, early_stopping=2, max_epochs=9)
    assert (len(run.epochs), run.status) == (3, "done")


def test_class_weights_weigh_the_rows_of_their_class(data: k5.H5DataModule, tmp_path: Path) -> None:
    def trained(**options: Any) -> np.ndarray:
        model = build(keras.optimizers.SGD(1.0))
        k5.Trainer(
            max_steps=1,
            run_dir=tmp_path / "run",
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(model, data, **options)
        return np.asarray(model.get_weights()[0])

    assert_array_equal(trained(class_weight={0: 0, 1: 0, 2: 0}), build().get_weights()[0])
    assert not np.array_equal(trained(class_weight={0: 5}), trained())


# What makes no sense.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_steps": 0}, "max_steps=0"),
        ({"max_time": "soon"}, "max_time='soon'; give seconds"),
        ({"max_time": 0}, "max_time=0"),
        ({"limit_train_batches": 0}, "limit_train_batches=0"),
        ({"limit_train_batches": 1.5}, r"limit_train_batches=1\.5"),
        ({"limit_val_batches": -1}, "limit_val_batches=-1"),
        ({"overfit_batches": 1, "limit_train_batches": 1}, "overfit_batches and limit_train"),
        ({"val_check_interval": True}, "val_check_interval=True"),
        ({"num_sanity_val_steps": -1}, "num_sanity_val_steps=-1"),
        ({"fast_dev_run": -1}, "fast_dev_run=-1"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches=0"),
        ({"gradient_clip_val": 0}, "gradient_clip_val=0"),
        ({"gradient_clip_algorithm": "both"}, "gradient_clip_algorithm='both'"),
        ({"ema_momentum": 1}, "ema_momentum=1; it is a number between 0 and 1"),
        ({"early_stopping": 0}, "early_stopping=0"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch=0"),
        ({"callbacks": [print]}, "callbacks holds <built-in function print>"),
    ],
    ids=str,
)
def test_a_flag_that_makes_no_sense_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        k5.Trainer(**options)


def test_an_interval_longer_than_an_epoch_is_refused(data: k5.H5DataModule, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="val_check_interval=5 is more than the 4 steps"):
        fit(data, tmp_path, val_check_interval=5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3, 3.0),
        ("90s", 90.0),
        ("10min", 600.0),
        ("1.5h", 5400.0),
        ("2", 2.0),
        ("01:02:03:04", 93784.0),
        (timedelta(hours=1), 3600.0),
    ],
    ids=str,
)
def test_durations_are_read_as_they_are_written(value: Any, seconds: float) -> None:
    assert parse_duration("max_time", value) == seconds


@pytest.mark.parametrize(
    ("limits", "available", "count"),
    [
        (Limits(), 7, 7),
        (Limits(train_batches=3), 7, 3),
        (Limits(train_batches=9), 7, 7),
        (Limits(train_batches=0.5), 7, 3),
        (Limits(train_batches=0.01), 7, 1),
        (Limits(overfit_batches=2), 7, 2),
    ],
    ids=str,
)
def test_limits_become_numbers_of_steps(limits: Limits, available: int, count: int) -> None:
    assert limits.steps_per_epoch(available) == count


def hook_order(fit_once: Callable[[keras.callbacks.Callback], object]) -> list[str]:
    called: list[str] = []

    class Notes(keras.callbacks.Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_") and "predict" not in name:
                return lambda *args, **_: called.append(f"{name} {args[:1]}")
            return super().__getattribute__(name)

    fit_once(Notes())
    return [name for name in called if "({" not in name and "(None" not in name]


def test_hooks_come_in_the_order_of_keras_own_fit(data: k5.H5DataModule, tmp_path: Path) -> None:
    def by_keras(callback: keras.callbacks.Callback) -> None:
        build().fit(
            data.train, validation_data=data.validation, callbacks=[callback], verbose=0, epochs=2
        )

    def by_trainer(callback: keras.callbacks.Callback) -> None:
        fit(data, tmp_path, callbacks=[callback])

    assert hook_order(by_trainer) == hook_order(by_keras)
