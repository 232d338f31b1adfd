"""Models with a `train_step` of their own: what `fit` does with them, and what checkpoints hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import RunError
from kerash5.train.state._state import ModelState
from tests.backend.train import own_steps
from tests.backend.train.own_steps import BACKEND, BUILDERS, ROWS

BATCH_SIZE: Final = 8  # 6 batches; the last one is short
Build = Callable[[], keras.Model]
every_model = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., k5.H5Dataset]:
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file["x"] = ROWS
    return lambda **options: k5.H5Dataset(
        str(path), x="x", batch_size=BATCH_SIZE, shuffle=False, **options
    )


def trainer(run_dir: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 3}
    return k5.Trainer(run_dir=run_dir, **{**quiet, **options})


def captured(model: keras.Model) -> dict[str, np.ndarray]:
    """Return every variable but the averages, as a checkpoint holds it."""
    arrays = ModelState(model).capture()
    return {name: array for name, array in arrays.items() if not name.startswith("metrics/")}


def assert_same(model: keras.Model, expected: keras.Model) -> None:
    found, wanted = captured(model), captured(expected)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert_array_equal(found[name], array, err_msg=name)


@every_model
def test_they_are_trained_as_fit_trains_them(
    build: Build, rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    expected = build()
    history = expected.fit(ROWS, batch_size=BATCH_SIZE, epochs=3, shuffle=False, verbose=0).history
    model = build()
    run = trainer(tmp_path / "run").fit(model, rows())
    assert run.history == {name: pytest.approx(kept, rel=1e-6) for name, kept in history.items()}
    for found, wanted in zip(model.weights, expected.weights, strict=True):
        # A fused Adam rounds in other places.
        np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-3, atol=1e-5)


@pytest.mark.thinned(2)
@every_model
@pytest.mark.parametrize("steps", [1, 8, 12])
def test_a_cut_run_goes_on_to_the_byte(
    build: Build, steps: int, rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    whole = build()
    run = trainer(tmp_path / "whole").fit(whole, rows())
    trainer(tmp_path / "cut", max_steps=steps).fit(build(), rows())
    model = build()
    resumed = trainer(tmp_path / "cut").fit(model, rows(), resume="auto")
    assert_same(model, whole)
    assert resumed.history == run.history


@every_model
def test_a_checkpoint_holds_the_slots_of_each_optimizer(
    build: Build, rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    model = build()
    trainer(tmp_path / "run").fit(model, rows())
    used = [model.optimizer, *getattr(model, "optimizers", {}).values()]
    used = [*used, *getattr(model, "further", [])]
    held = [name for name, each in ModelState(model).variables().items()]
    ids = {id(each) for each in ModelState(model).variables().values()}
    assert len(held) == len(ids)
    for optimizer in filter(None, used):
        assert {id(each) for each in optimizer.variables} <= ids


def test_x_alone_is_validated_as_an_array(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    expected = own_steps.autoencoder()
    history = expected.fit(
        ROWS[:32], batch_size=BATCH_SIZE, validation_data=(ROWS[32:],), shuffle=False, verbose=0
    ).history
    model = own_steps.autoencoder()
    data = k5.H5DataModule(
        rows().source.paths[0],
        x="x",
        batch_size=BATCH_SIZE,
        validation_split=range(32, 44),
        shuffle=False,
    )
    run = trainer(tmp_path / "run", max_epochs=1).fit(model, data)
    assert run.history == {name: pytest.approx(kept, rel=1e-6) for name, kept in history.items()}
    assert "test_step" not in vars(model)
    assert trainer(tmp_path / "other").validate(model, data)["loss"] == pytest.approx(
        run.history["val_loss"][0]
    )


# Which metric decides.


class Counter(keras.callbacks.Callback):
    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self._steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps.append(batch)


def test_without_a_loss_one_like_it_decides_and_is_named(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path / "run", early_stopping=9).fit(own_steps.gan(), rows())
    assert run.monitor == "g_loss"
    assert run.best_epoch == int(np.argmin(run.history["g_loss"]))
    assert "the model reports no 'loss', so 'g_loss' decides" in capsys.readouterr().err


def test_a_metric_asked_for_that_a_step_of_its_own_lacks_is_refused_after_the_first_dispatch(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    model = own_steps.gan()
    steps: list[int] = []
    with pytest.raises(RunError, match=r"'accuracy' is no metric of this run; .* 'd_loss', 'g_lo"):
        trainer(
            tmp_path / "run",
            monitor="accuracy",
            callbacks=[Counter(steps)],
        ).fit(model, rows())
    assert len(steps) == 1
    resumed = trainer(tmp_path / "run", monitor="d_loss").fit(
        own_steps.gan(), rows(), resume="auto"
    )
    assert len(resumed.epochs) == 3  # nothing was lost


def test_a_metric_asked_for_that_the_steps_of_keras_lack_is_refused_before_the_first(
    tmp_path: Path, rows: Callable[..., k5.H5Dataset]
) -> None:
    model = stock()
    before = captured(model)
    with pytest.raises(RunError, match="'acc' is no metric of this run; there are 'loss'"):
        trainer(tmp_path / "run", monitor="acc").fit(model, pairs(rows))
    assert all((before[name] == captured(model)[name]).all() for name in before)


def stock() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = own_steps.net(own_steps.WIDTH, 4, own_steps.WIDTH)
    model.compile("adam", "mse")
    return model


def pairs(rows: Callable[..., k5.H5Dataset]) -> k5.H5Dataset:
    return k5.H5Dataset(rows().source.paths[0], x="x", y="x", batch_size=BATCH_SIZE, shuffle=False)


# What acts on `model.optimizer` alone.


@pytest.mark.parametrize(
    "options",
    [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}, {"ema_momentum": 0.9}],
    ids=str,
)
def test_what_acts_on_one_optimizer_is_refused_where_others_train(
    options: dict[str, Any], rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"acts on model\.optimizer alone, .*optimizers\['g'\]"):
        trainer(tmp_path / "run", **options).fit(own_steps.gan(), rows())


# What cannot be saved is said; of stock models nothing is.


def test_of_keras_own_parts_nothing_is_said(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path / "run").fit(stock(), pairs(rows))
    assert "not part of checkpoints" not in capsys.readouterr().err


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's operations count by themselves")
def test_random_operations_of_tensorflow_are_named(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    class Noisy(own_steps.Autoencoder):
        def loss_of(self, data: Any) -> Any:
            return super().loss_of(data + tf.random.normal(tf.shape(data)))

    model = Noisy()
    model.compile(own_steps.adam())
    trainer(tmp_path / "run", max_epochs=1).fit(model, rows())
    said = " ".join(capsys.readouterr().err.split())
    assert "the random state of RandomStandardNormal in train_step" in said
    assert "is not part of checkpoints; a resumed run starts anew there" in said


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow traces the step")
def test_python_in_a_step_runs_once_for_each_shape(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    shapes = []

    class Counting(own_steps.Autoencoder):
        def loss_of(self, data: Any) -> Any:
            shapes.append(tuple(data.shape))
            return super().loss_of(data)

    model = Counting()
    model.compile(own_steps.adam())
    # A trace that makes variables is done again, under fit as well.
    model.optimizer.build(model.trainable_variables)
    trainer(tmp_path / "run").fit(model, rows())
    assert shapes == [(8, 6), (4, 6)]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own variables")
def test_variables_of_tensorflow_that_only_the_graph_knows_go_on(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    import tensorflow as tf

    class Hidden:
        __slots__ = ()  # nothing of it can be walked

    def build() -> keras.Model:
        count = tf.Variable(0.0)
        hidden = type(
            "Hidden", (Hidden,), {"__module__": "keras", "count": property(lambda _: count)}
        )

        class Counting(own_steps.Autoencoder):
            tool: Any = hidden()

            def loss_of(self, data: Any) -> Any:
                return super().loss_of(data) * (1.0 + self.tool.count.assign_add(0.1))

        keras.utils.set_random_seed(1)
        model = Counting()
        model.compile(own_steps.adam())
        return model

    whole = build()
    trainer(tmp_path / "whole").fit(whole, rows())
    trainer(tmp_path / "cut", max_steps=8).fit(build(), rows())
    model = build()
    trainer(tmp_path / "cut").fit(model, rows(), resume="auto")
    assert_same(model, whole)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone has steps without side effects")
def test_what_a_step_on_jax_would_write_in_vain_is_refused(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path
) -> None:
    class Counting(own_steps.Autoencoder):
        def __init__(self) -> None:
            super().__init__()
            self.further = {"o2": own_steps.adam()}
            self.further["o2"].build(self.encoder.trainable_variables)

        def train_step(self, state: Any, data: Any) -> Any:
            self.further["o2"].iterations.assign_add(1)
            return super().train_step(state, data)

    model = Counting()
    model.compile(own_steps.adam())
    with pytest.raises(
        RunError, match=r"train_step of model .* writes further\['o2'\]\._iterations"
    ):
        trainer(tmp_path / "run").fit(model, rows())
    assert int(model.further["o2"].iterations) == 0


# What a step holds in Python, where it runs as Python.


class Remembering(own_steps.Autoencoder):
    """Weighs its loss by all kinds of things that it changes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.factor, self.average = 0, 1.0, None
        self.seen: list[float] = []
        self.noise = np.random.default_rng(4)
        self.kept = np.zeros(own_steps.WIDTH, "float32")
        self.ticks = itertools.count()

    def loss_of(self, data: Any) -> Any:
        self.count += 1
        self.factor *= 0.97
        mean = data.mean(axis=0)
        self.average = mean if self.average is None else 0.9 * self.average + 0.1 * mean
        self.seen.append(float(mean[0]))
        self.kept += np.asarray(mean, "float32")
        noise = float(self.noise.normal()) + self.count % 3 + float(self.kept[1])
        far = ((data - self.average) ** 2).mean()
        return super().loss_of(data) * (self.factor + 0.1 * noise) + far * 0 + sum(self.seen) * 0.01


def remembering() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = Remembering()
    model.compile(own_steps.adam())
    return model


@pytest.mark.skipif(BACKEND != "torch", reason="a compiled step holds no state in Python")
def test_what_a_step_holds_in_python_goes_on(
    rows: Callable[..., k5.H5Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = remembering()
    run = trainer(tmp_path / "whole").fit(whole, rows())
    said = " ".join(capsys.readouterr().err.split())
    assert "ticks is not part of checkpoints; a resumed run starts anew there" in said
    trainer(tmp_path / "cut", max_steps=8).fit(remembering(), rows())
    model = remembering()
    resumed = trainer(tmp_path / "cut").fit(model, rows(), resume="auto")
    assert_same(model, whole)
    assert resumed.history == run.history
    assert (model.count, model.seen) == (whole.count, whole.seen)
    assert_array_equal(model.kept, whole.kept)
    assert_array_equal(model.average, whole.average)


def test_a_loss_of_any_name_that_is_nan_ends_the_fit(tmp_path: Path) -> None:
    spoiled = ROWS.copy()
    spoiled[20] = np.nan
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = spoiled
    data = k5.H5Dataset(tmp_path / "rows.h5", x="x", batch_size=BATCH_SIZE, shuffle=False)
    # Where the first step makes variables, no checkpoint is there to take steps again from.
    where = r"(step 2 made it so, on the rows|it became so in one of the steps) "
    with pytest.raises(RunError, match=rf"the loss '[gd]_loss' is nan: {where}"):
        trainer(tmp_path / "run").fit(BUILDERS["gan"](), data)
