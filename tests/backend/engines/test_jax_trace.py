"""One trace for all programs: what Python changes in a fit is seen as plain `fit` sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

if keras.backend.backend() != "jax":
    pytest.skip("JAX alone bakes Python values into a program", allow_module_level=True)

import jax

import kerash5 as k5
from kerash5._errors import RunError
from kerash5.train.engines import AbstractEngine, make_engine
from kerash5.train.engines import _jax as jax_engine
from kerash5.train.engines._jax import _take
from kerash5.train.engines._jax_trace import Trace
from tests.backend.engines.cases import CASES, TRACED, dense

ROWS: Final = 60  # seven batches of eight, and a short one
X: Final = np.random.default_rng(3).normal(size=(ROWS, 4)).astype(np.float32)
Y: Final = np.random.default_rng(4).normal(size=(ROWS, 1)).astype(np.float32)


class Annealed:
    """A loss with state in Python, and in a variable that no model knows."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.offset = keras.Variable(0.5, trainable=False)

    def __call__(self, y: Any, answers: Any) -> Any:
        return self.factor * keras.ops.mean((y - answers) ** 2) + self.offset


class Anneal(keras.callbacks.Callback):
    """Changes that loss at the end, or at the beginning, of each epoch."""

    def __init__(self, loss: Annealed, *, at_begin: bool = False, has_offset: bool = True) -> None:
        super().__init__()
        self._loss, self._at_begin, self._has_offset = loss, at_begin, has_offset

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._at_begin:
            self._loss.factor = 0.3**epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._at_begin:
            self._loss.factor *= 0.3
            if self._has_offset:
                self._loss.offset.assign(self._loss.offset * 0.3)


def build(seed: int = 1) -> tuple[keras.Model, Annealed]:
    keras.utils.set_random_seed(seed)
    loss = Annealed()
    layers = [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.05), loss)
    return model, loss


def open_rows(folder: Path) -> k5.H5Dataset:
    path = folder / "rows.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = X, Y
    return k5.H5Dataset(path, x="x", y="y", batch_size=8, shuffle=False)


def make_trainer(folder: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return k5.Trainer(**{**quiet, "run_dir": folder, "max_epochs": 6, **options})


@pytest.mark.parametrize("device_cache", [0, "auto"], ids=["from the host", "on the device"])
@pytest.mark.parametrize("steps", [1, 3, 8, "auto"])
@pytest.mark.parametrize("at_begin", [False, True], ids=["after epochs", "before epochs"])
def test_what_python_changes_between_epochs_is_seen_as_fit_sees_it(
    tmp_path: Path, steps: Any, device_cache: Any, at_begin: bool
) -> None:
    plain, loss = build()
    callback = Anneal(loss, at_begin=at_begin)
    options = {"batch_size": 8, "epochs": 6, "shuffle": False, "verbose": 0}
    expected = plain.fit(X, Y, callbacks=[callback], **options).history["loss"]
    model, loss = build()
    trainer = make_trainer(
        tmp_path / "run",
        callbacks=[Anneal(loss, at_begin=at_begin)],
        steps_per_dispatch=steps,
        device_cache=device_cache,
    )
    run = trainer.fit(model, open_rows(tmp_path))
    assert_allclose(run.history["loss"], expected, rtol=1e-5)
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


class Counting(keras.Model):
    """Counts how often its step is traced."""

    count = 0

    def train_step(self, *args: Any) -> Any:
        type(self).count += 1
        return super().train_step(*args)


def test_a_step_is_traced_once_for_each_shape_whatever_is_compiled() -> None:
    Counting.count = 0
    engine = make_engine(dense(kind=Counting)())
    long, short = CASES["short last batch"].batches(2)
    for count in (1, 1, 2, 3, 8):
        engine.train([long] * count)
    assert Counting.count == 1
    engine.train([short])
    columns = [np.concatenate([array] * 3) for array in long]
    engine.hold(tuple(columns))
    engine.train_held([np.arange(8, dtype=np.int32)] * 3)
    assert Counting.count == 2
    assert len(engine.traced()["digests"]) == 2


def digest_of(build: Callable[[], keras.Model], batch: Any) -> str:
    model = build()
    make_engine(model).build(batch)
    return Trace(model, _take(model), batch).digest


def test_a_digest_is_the_same_for_the_same_step_and_another_for_every_other() -> None:
    names = [name for name in TRACED if name != "class weights"]  # the step of another one
    first, second = (
        [digest_of(CASES[name].build, CASES[name].batches(1)[0]) for name in names]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(names)


@pytest.mark.parametrize(
    "change",
    [
        lambda loss: setattr(loss, "factor", 0.5),
        lambda loss: loss.offset.assign(0.25),
        lambda loss: setattr(loss, "factor", np.ones(1, np.float32)),
    ],
    ids=["a number", "a variable outside the model", "an array"],
)
def test_a_digest_tells_what_python_held(change: Callable[[Annealed], None]) -> None:
    def build_changed(*changes: Callable[[Annealed], None]) -> keras.Model:
        model, loss = build()
        for each in changes:
            each(loss)
        return model

    batch = (X[:8], Y[:8])
    plain = digest_of(build_changed, batch)
    assert plain == digest_of(lambda: build_changed(lambda _: None), batch)
    assert plain != digest_of(lambda: build_changed(change), batch)


def test_large_arrays_in_a_closure_are_part_of_the_digest() -> None:
    def build_with(last: float) -> Callable[[], keras.Model]:
        table = np.zeros((64, 64), np.float32)
        table[-1, -1] = last

        def make() -> keras.Model:
            model, _ = build()
            model.compile("sgd", lambda y, z: keras.ops.mean(y - z) + keras.ops.sum(table))
            return model

        return make

    batch = (X[:8], Y[:8])
    assert digest_of(build_with(1.0), batch) != digest_of(build_with(2.0), batch)


def test_a_step_that_holds_a_value_of_the_state_keeps_it() -> None:
    class Holding(keras.Model):
        held: Any = None

        def train_step(self, *args: Any) -> Any:
            logs, state = super().train_step(*args)
            return {**logs, "held": self.held + 0.0}, state

    model = dense(kind=Holding)()
    model.optimizer.build(model.trainable_variables)
    model.held = model.optimizer.variables[1].value
    engine = make_engine(model, steps_per_dispatch=4)
    batch = CASES["plain"].batches(1)
    engine.train(batch)  # gives the state away
    engine.train(batch * 4)  # compiles another program
    assert engine.metrics()["held"] == pytest.approx(1e-2)


class HaltError(Exception):
    """Ends a fit in its middle."""


class Halt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 3:
            raise HaltError


def stop_and_resume(
    folder: Path, *, at_begin: bool, resume: str = "auto", **options: Any
) -> tuple[keras.Model, k5.Run]:
    model, loss = build()
    trainer = make_trainer(
        folder / "run", callbacks=[Anneal(loss, at_begin=at_begin, has_offset=False), Halt()]
    )
    with pytest.raises(HaltError):
        trainer.fit(model, open_rows(folder))
    model, loss = build(seed=9)
    callbacks = [Anneal(loss, at_begin=at_begin, has_offset=False)]
    trainer = make_trainer(folder / "run", callbacks=callbacks, **options)
    return model, trainer.fit(model, open_rows(folder), resume=resume)


@pytest.mark.parametrize(
    "options",
    [{}, {"steps_per_dispatch": 1}, {"device_cache": 0, "steps_per_dispatch": 5}],
    ids=["as it was", "one step", "from the host"],
)
def test_a_resumed_fit_that_traces_the_same_step_goes_on(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, loss = build()
    make_trainer(tmp_path / "whole", callbacks=[Anneal(loss, has_offset=False)]).fit(
        whole, open_rows(tmp_path)
    )
    model, run = stop_and_resume(tmp_path, at_begin=False, **options)
    assert run.status == "done"
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert_array_equal(ours, theirs)


def test_a_resumed_fit_that_traces_another_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"another fit: for batches of \('float32\[8, 4\]'.*'force'"):
        stop_and_resume(tmp_path, at_begin=True)
    # Nothing was run, so the checkpoint is still there, and a fit with the old values goes on.
    model, loss = build()
    run = make_trainer(tmp_path / "run").fit(model, open_rows(tmp_path), resume="auto")
    assert (run.status, len(run.epochs), loss.factor) == ("done", 6, 1.0)


def test_a_forced_fit_says_that_it_traces_another_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = stop_and_resume(tmp_path, at_begin=True, resume="force")
    assert run.status == "done"
    assert "going on in spite of differences: for batches of (" in capsys.readouterr().err


def test_traces_of_other_versions_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [(X[:8], Y[:8])]
    first = make_engine(build()[0])
    first.train(batches)
    found = first.traced()
    assert "jax" in found["versions"]
    found["digests"] = dict.fromkeys(found["digests"], "another")
    assert reports_of(found, batches) == [
        "batches of ('float32[8, 4]', 'float32[8, 1]')",
    ]
    monkeypatch.setattr(jax_engine, "name_versions", lambda: f"jax {jax.__version__}.1")
    assert reports_of(found, batches) == []
    assert reports_of({}, batches) == []


def reports_of(traced: dict[str, Any], batches: list[Any]) -> list[str]:
    engine: AbstractEngine = make_engine(build()[0])
    said: list[str] = []
    engine.expect_traced(traced, said.append)
    engine.train(batches)
    return said
