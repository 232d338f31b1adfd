"""Averaged weights: what is validated is what is kept, saved and restored.

With `Trainer(ema_momentum=...)` these are the averages; with an optimizer that keeps averages of
its own and without that option, everything is as in `fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from keras import callbacks as stock
from numpy.testing import assert_allclose, assert_array_equal

import kerash5 as k5
from kerash5._errors import OptionError
from kerash5.train.checkpoints._run_dir import BEST_WEIGHTS, LAST_WEIGHTS
from kerash5.train.state._state import variables_of

NUM_EPOCHS: Final = 5
NUM_STEPS: Final = 4
MOMENTUM: Final = 0.8
Callbacks = Sequence[keras.callbacks.Callback]


@pytest.fixture
def data(tmp_path: Path) -> k5.H5DataModule:
    random = np.random.default_rng(6)
    x = random.standard_normal((44, 5)).astype(np.float32)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = x, (x.sum(axis=1) > 0).astype(np.int64)
    return k5.H5DataModule(tmp_path / "rows.h5", x="x", y="y", batch_size=8, validation_split=12)


def build(**options: Any) -> keras.Model:
    """Return a model whose rate is so large that validation becomes better and worse."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0, momentum=0.5, **options), loss, metrics=["accuracy"])
    return model


def own(**options: Any) -> keras.Model:
    return build(use_ema=True, ema_momentum=MOMENTUM, **options)


def make_trainer(run_dir: Path, **options: Any) -> k5.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    asked = {"max_epochs": NUM_EPOCHS, "run_dir": run_dir, **quiet, **options}
    return k5.Trainer(**asked)


def values(model: keras.Model) -> list[np.ndarray]:
    """Return what training goes on from: weights, and the optimizer's slots and averages."""
    groups = variables_of(model)
    return [
        np.array(keras.ops.convert_to_numpy(variable))
        for name in ("trainable", "non_trainable", "optimizer")
        for variable in groups[name]
    ]


def validated(model: keras.Model, data: k5.H5DataModule) -> float:
    assert data.validation is not None
    found: float = model.evaluate(data.validation, verbose=0, return_dict=True)["loss"]
    return found


class Seen(keras.callbacks.Callback):
    """Notes the weights that the model has in the hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[np.ndarray]] = []
        self.epochs: list[list[np.ndarray]] = []
        self.begun: list[list[np.ndarray]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun.append(weights_of(self.model))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(weights_of(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(weights_of(self.model))


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(each)) for each in model.trainable_variables]


def assert_close(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# An optimizer of the user's own: as `fit`.

CALLBACKS: Final[dict[str, Callable[[Path], Callbacks]]] = {
    "none": lambda _: [],
    "EarlyStopping": lambda _: [stock.EarlyStopping(patience=1, restore_best_weights=True)],
    "ModelCheckpoint": lambda folder: [stock.ModelCheckpoint(folder / "{epoch}.keras")],
    "ModelCheckpoint of the best": lambda folder: [
        stock.ModelCheckpoint(
            folder / "best.weights.h5", save_best_only=True, save_weights_only=True
        )
    ],
    "ModelCheckpoint of steps": lambda folder: [
        stock.ModelCheckpoint(
            folder / "{epoch}-{batch}.weights.h5", save_freq=3, save_weights_only=True
        )
    ],
    "ReduceLROnPlateau": lambda _: [stock.ReduceLROnPlateau(factor=0.1, patience=1)],
    "BackupAndRestore": lambda folder: [
        stock.BackupAndRestore(folder / "backup", delete_checkpoint=False)
    ],
    "SwapEMAWeights": lambda _: [stock.SwapEMAWeights()],
    "SwapEMAWeights to save": lambda folder: [
        stock.SwapEMAWeights(swap_on_epoch=True),
        stock.ModelCheckpoint(folder / "{epoch}.weights.h5", save_weights_only=True),
    ],
    "what hooks see": lambda _: [Seen()],
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("name", "frequency"), [*((name, None) for name in CALLBACKS), ("what hooks see", 3)]
)
def test_averages_of_an_optimizer_of_ones_own_are_those_of_fit(
    data: k5.H5DataModule, tmp_path: Path, name: str, frequency: int | None
) -> None:
    models, histories, callbacks = [], [], []
    for kind in ("ours", "theirs"):
        (tmp_path / kind).mkdir()
        model, given = own(ema_overwrite_frequency=frequency), CALLBACKS[name](tmp_path / kind)
        if kind == "ours":
            trainer = make_trainer(tmp_path / "run", callbacks=list(given))
            histories.append(trainer.fit(model, data).history)
        else:
            histories.append(
                model.fit(
                    data.train,
                    validation_data=data.validation,
                    epochs=NUM_EPOCHS,
                    callbacks=list(given),
                    verbose=0,
                ).history
            )
        models.append(model)
        callbacks.append(given)
    for key in histories[1].keys() - {"learning_rate"}:
        assert_allclose(histories[0][key], histories[1][key], rtol=1e-4, err_msg=key)
    assert_close(values(models[0]), values(models[1]))
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")
    for one, other in zip(*callbacks, strict=True):
        if isinstance(one, Seen):
            for hook in ("begun", "steps", "epochs"):
                for found, expected in zip(getattr(one, hook), getattr(other, hook), strict=True):
                    assert_close(found, expected)


def assert_same_files(ours: Path, theirs: Path) -> None:
    names = [
        sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) for folder in (ours, theirs)
    ]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith((".h5", ".keras")):
            assert_close(load(ours / name), load(theirs / name))


def load(path: Path) -> list[np.ndarray]:
    if path.suffix == ".keras":
        return values(keras.models.load_model(path))
    model = own()
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    return values(model)


def test_the_best_weights_are_those_that_were_validated(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    for name, callbacks in {"raw": [], "averaged": [stock.SwapEMAWeights()]}.items():
        run = make_trainer(tmp_path / name, callbacks=callbacks).fit(own(), data)
        model = own()
        model.optimizer.build(model.trainable_variables)
        model.load_weights(tmp_path / name / BEST_WEIGHTS)
        expected = min(run.history["val_loss"])
        assert validated(model, data) == pytest.approx(expected, rel=1e-4)


# `Trainer(ema_momentum=...)`: the averages.


def train_averaged(
    data: k5.H5DataModule, folder: Path, *callbacks: keras.callbacks.Callback, **options: Any
) -> tuple[keras.Model, list[float]]:
    """Return the model at the end, and the validation losses."""
    model = build()
    trainer = make_trainer(
        folder / "run", ema_momentum=MOMENTUM, callbacks=list(callbacks), **options
    )
    losses: list[float] = trainer.fit(model, data).history["val_loss"]
    return model, losses


def averages(steps: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Return the averages after each step, as Keras begins and goes on with them."""
    found = [list(steps[0])]
    for weights in steps[1:]:
        found.append(
            [
                MOMENTUM * average + (1 - MOMENTUM) * weight
                for average, weight in zip(found[-1], weights, strict=True)
            ]
        )
    return found


def test_callbacks_see_averages_at_the_end_of_an_epoch_alone(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    seen, plain = Seen(), Seen()
    model, losses = train_averaged(data, tmp_path, seen)
    make_trainer(tmp_path / "plain", callbacks=[plain]).fit(build(), data)
    for found, expected in zip(seen.steps, plain.steps, strict=True):
        assert_close(found, expected)  # training goes on from its own weights
    for number, weights in enumerate(seen.begun[1:], start=1):
        assert_close(weights, seen.steps[NUM_STEPS * number - 1])
    for number, weights in enumerate(seen.epochs, start=1):
        assert_close(weights, averages(seen.steps)[NUM_STEPS * number - 1])
    assert_close(weights_of(model), seen.epochs[-1])
    assert validated(model, data) == pytest.approx(losses[-1], rel=1e-5)


@pytest.mark.parametrize("frequency", [0.5, 1.0], ids=["within epochs too", "after epochs"])
def test_early_stopping_restores_what_was_validated(
    data: k5.H5DataModule, tmp_path: Path, frequency: float
) -> None:
    stopping = stock.EarlyStopping(patience=2, restore_best_weights=True)
    options = {"max_epochs": 30, "val_check_interval": frequency}
    model, losses = train_averaged(data, tmp_path, stopping, **options)
    assert losses[-1] > min(losses)  # or this test would show nothing
    assert validated(model, data) == pytest.approx(min(losses), rel=1e-5)
    last = own()
    last.optimizer.build(last.trainable_variables)
    last.load_weights(tmp_path / "run" / LAST_WEIGHTS)
    assert validated(last, data) == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("is_whole", [True, False], ids=["models", "weights"])
@pytest.mark.parametrize("is_best", [True, False], ids=["the best", "all"])
def test_model_checkpoints_are_what_was_validated(
    data: k5.H5DataModule, tmp_path: Path, is_whole: bool, is_best: bool
) -> None:
    ending = "keras" if is_whole else "weights.h5"
    name = f"best.{ending}" if is_best else f"{{epoch}}.{ending}"
    saving = stock.ModelCheckpoint(
        tmp_path / name, save_best_only=is_best, save_weights_only=not is_whole
    )
    _, losses = train_averaged(data, tmp_path, saving)
    expected = {"best": min(losses)} if is_best else dict(enumerate(losses, start=1))
    for stem, loss in expected.items():
        path = tmp_path / f"{stem}.{ending}"
        model = keras.models.load_model(path) if is_whole else own()
        if not is_whole:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(path)
        assert validated(model, data) == pytest.approx(loss, rel=1e-5)


def test_the_rate_is_reduced_by_what_was_validated(data: k5.H5DataModule, tmp_path: Path) -> None:
    model, _ = train_averaged(
        data, tmp_path, stock.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=9.0)
    )
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert rate == pytest.approx(10.0 ** (1 - NUM_EPOCHS), rel=1e-4)


class SetWeights(keras.callbacks.Callback):
    """Sets one weight at the end of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self.model.trainable_variables[1].assign(np.full((4,), 7.0))


def test_weights_that_a_callback_sets_stay(data: k5.H5DataModule, tmp_path: Path) -> None:
    seen = Seen()
    train_averaged(data, tmp_path, SetWeights(), seen)
    assert_array_equal(seen.begun[2][1], np.full((4,), 7.0))
    for index in (0, 2, 3, 4, 5):
        assert_array_equal(seen.begun[2][index], seen.steps[2 * NUM_STEPS - 1][index])


# Both are in a checkpoint.


class Break(keras.callbacks.Callback):
    """Ends the training with an error, in an epoch or at its end."""

    def __init__(self, *, step: int = -1, epoch: int = -1) -> None:
        super().__init__()
        self._step, self._epoch, self._count = step, epoch, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._epoch:
            raise InterruptedError("switched off")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._count += 1
        if self._count == self._step:
            raise InterruptedError("switched off")


@pytest.mark.thinned(3)
@pytest.mark.parametrize("where", [{"step": 10}, {"epoch": 2}], ids=["in an epoch", "after one"])
@pytest.mark.parametrize("kind", ["ema", "own", "swapped", "swapped to save"])
def test_a_fit_with_averages_is_resumed_exactly(
    data: k5.H5DataModule, tmp_path: Path, kind: str, where: dict[str, int]
) -> None:
    def fit(name: str, *more: keras.callbacks.Callback, resume: str | None = None) -> keras.Model:
        model = build() if kind == "ema" else own()
        callbacks: list[Any] = [stock.EarlyStopping(patience=9, restore_best_weights=True), *more]
        if kind.startswith("swapped"):
            callbacks.append(stock.SwapEMAWeights(swap_on_epoch=kind == "swapped to save"))
        options = {"ema_momentum": MOMENTUM} if kind == "ema" else {}
        trainer = make_trainer(tmp_path / name, callbacks=callbacks, **options)
        trainer.fit(model, data, resume=resume)
        return model

    whole = fit("whole", Break())
    with pytest.raises(InterruptedError):
        fit("cut", Break(**where))
    resumed = fit("cut", Break(), resume="auto")
    for found, expected in zip(values(resumed), values(whole), strict=True):
        assert_array_equal(found, expected)


# What goes with it, and what does not.


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (
            stock.SwapEMAWeights(),
            "ema_momentum= cannot be combined with SwapEMAWeights: .* leave that",
        ),
        (stock.BackupAndRestore("there"), "BackupAndRestore: .* resume='auto'"),
    ],
    ids=["SwapEMAWeights", "BackupAndRestore"],
)
def test_callbacks_that_swap_by_themselves_are_refused(callback: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        k5.Trainer(ema_momentum=0.9, callbacks=[callback])


def test_callbacks_know_the_last_epoch_of_a_fit_of_steps(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    model = own()
    swap = stock.SwapEMAWeights(swap_on_epoch=True)
    make_trainer(tmp_path / "run", max_epochs=None, max_steps=7, callbacks=[swap]).fit(model, data)
    assert swap.params["epochs"] == 2
