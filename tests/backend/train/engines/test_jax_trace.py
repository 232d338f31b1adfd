"""One trace for all programs: what Python changes in a fit is seen as plain `fit` sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

if keras.backend.backend() != "jax":
    pytest.skip("JAX alone bakes Python values into a program", allow_module_level=True)

import jax

from kerash5.train.engines import make_engine
from kerash5.train.engines.jax._jax import _take
from kerash5.train.engines.jax._jax_trace import Trace, _Writer
from tests.backend.train.engines.annealed import (
    Anneal,
    Annealed,
    X,
    Y,
    build,
    make_trainer,
    open_rows,
)
from tests.backend.train.engines.cases import CASES, TRACED, dense


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
    engine.put_rows_on_device(tuple(columns))
    engine.train_on_device_rows([np.arange(8, dtype=np.int32)] * 3)
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


def digest_traced(function: Callable[..., Any], *values: Any) -> str:
    writer = _Writer()
    writer.write(jax.make_jaxpr(function)(*values))
    return writer.digest.hexdigest()


def test_a_weak_type_is_seen_only_where_it_changes_something() -> None:
    weak, strong = jax.numpy.asarray(0), jax.numpy.zeros((), "int32")
    assert weak.weak_type != strong.weak_type

    def pass_on(value: Any, x: Any) -> Any:
        return value, x + 1

    x = jax.numpy.ones(3, "float16")
    assert digest_traced(pass_on, weak, x) == digest_traced(pass_on, strong, x)
    one, other = jax.numpy.asarray(1.5), jax.numpy.asarray(1.5, "float32")
    assert digest_traced(lambda a, b: a * b, one, x) != digest_traced(lambda a, b: a * b, other, x)
