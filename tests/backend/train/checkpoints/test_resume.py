"""Resuming: what was stopped goes on as if it never had been, on the backend that is set."""

from __future__ import annotations

import csv
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import DamagedFileError, FileMissingError, OptionError, RunError
from kerash5.files import replacing
from kerash5.train import _fit_parts
from kerash5.train.checkpoints import _checkpoint
from kerash5.train.checkpoints._checkpoint import Checkpoints, load_checkpoint
from kerash5.train.checkpoints._resume import best_checkpoint
from kerash5.train.checkpoints._run_dir import (
    BEST_BEFORE_TRUNCATION,
    BEST_WEIGHTS,
    LAST_WEIGHTS,
    reopen_run_dir,
)
from kerash5.train.state._state import variables_of
from tests.backend.train.handed import engines_that_tell

NUM_ROWS: Final = 40
BATCH_SIZE: Final = 6  # 5 batches of 30 rows; in the last epoch's last, none is short
IMAGES: Final = np.random.default_rng(2).integers(0, 256, (NUM_ROWS, 4, 4), dtype=np.uint8)
KERNEL, BIAS = "dense/vars/0", "dense_1/vars/1"  # of the first layer, of the last
LABELS: Final = np.arange(NUM_ROWS) % 3


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write(tmp_path / "train.h5")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The x of every batch that an engine was handed, in order, from the host or on the device."""
    batches: list[bytes] = []
    make = engines_that_tell(lambda x: batches.append(x.tobytes()))
    monkeypatch.setattr(_fit_parts, "make_engine", make)
    return batches


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C is heeded: what a shell runs in the background ignores it, and so does a fit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def write(path: Path, images: np.ndarray = IMAGES) -> str:
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = images, LABELS
    return str(path)


def open_module(train: str, **options: Any) -> k5.H5DataModule:
    asked = {
        "x": "image",
        "y": "label",
        "batch_size": BATCH_SIZE,
        "validation_split": 10,
        **options,
    }
    return k5.H5DataModule(train, **asked)


def build(seed: int = 7, units: int = 5, optimizer: str = "adam") -> keras.Model:
    """Return a model with all that has a state: dropout, batch normalisation, Adam, metrics."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((4, 4)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(units, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.run_eagerly = keras.backend.backend() != "jax"  # compiling is most of the time
    return model


def make_trainer(run_dir: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 3}
    return k5.Trainer(**{**quiet, "run_dir": run_dir, "every_n_train_steps": 2, **options})


def counting_callbacks() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping("val_loss", patience=9),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=10.0),
    ]


class StopAt(keras.callbacks.Callback):
    """Does something once, after a step of the whole fit or at the end of an epoch."""

    def __init__(self, act: Callable[[], None], *, step: int = -1, epoch: int = -1) -> None:
        super().__init__()
        self._act = act
        self._step, self._epoch, self._count = step, epoch, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._count += 1
        if self._count == self._step:
            self._act()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._epoch:
            self._act()


class WeatherError(Exception):
    """An error that is neither ours nor Keras'."""


def rain() -> None:
    raise WeatherError("rain")


def values(model: keras.Model) -> list[np.ndarray]:
    """Return every variable that training has changed, but for averages."""
    groups = variables_of(model)
    return [
        keras.ops.convert_to_numpy(variable)
        for name in ("trainable", "non_trainable", "optimizer")
        for variable in groups[name]
    ]


def assert_same(model: keras.Model, other: keras.Model) -> None:
    for found, expected in zip(values(model), values(other), strict=True):
        assert_array_equal(found, expected)


def plain(run: k5.Run) -> list[tuple[int, int, dict[str, float]]]:
    """Return what is the same in two runs of the same fit."""
    return [(epoch.epoch, epoch.num_rows, epoch.metrics) for epoch in run.epochs]


def unbroken(train: str, tmp_path: Path, **options: Any) -> tuple[keras.Model, k5.Run]:
    model = build()
    trainer = make_trainer(tmp_path / "unbroken", callbacks=counting_callbacks(), **options)
    return model, trainer.fit(model, open_module(train))


@dataclass(frozen=True, slots=True)
class Reference:
    """The fit that nothing interrupts: its model, its run, and the batches it was handed."""

    model: keras.Model
    run: k5.Run
    served: list[bytes]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Reference]:
    """Return the unbroken fit with some options; each is made once, for it is always the same."""
    known: dict[tuple[Any, ...], Reference] = {}

    def find(**options: Any) -> Reference:
        key = tuple(sorted(options.items()))
        if key not in known:
            folder, batches = tmp_path_factory.mktemp("reference"), []
            with pytest.MonkeyPatch.context() as patch:
                make = engines_that_tell(lambda x: batches.append(x.tobytes()))
                patch.setattr(_fit_parts, "make_engine", make)
                model, run = unbroken(write(folder / "train.h5"), folder, **options)
            known[key] = Reference(model, run, batches)
        return known[key]

    return find


# Going on.

STOPS: Final = {
    "after the first step": {"step": 1},
    "in the middle of an epoch": {"step": 8},
    "after the last step of an epoch": {"step": 5},
    "at the end of an epoch": {"epoch": 1},
    "at the very end": {"epoch": 2},
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_fit_that_failed_goes_on_as_if_it_had_not(
    train: str,
    tmp_path: Path,
    served: list[bytes],
    reference: Callable[..., Reference],
    stop: dict[str, int],
) -> None:
    expected, run, planned = reference().model, reference().run, reference().served
    trainer = make_trainer(tmp_path / "a", callbacks=[*counting_callbacks(), StopAt(rain, **stop)])
    with pytest.raises(WeatherError):
        trainer.fit(build(), open_module(train))
    assert k5.Run.load(tmp_path / "a").status == "failed"
    model = build(seed=99)  # other weights: all that counts comes from the checkpoint
    resumed = make_trainer(tmp_path / "a", callbacks=counting_callbacks()).fit(
        model, open_module(train), resume="auto"
    )
    assert_same(model, expected)
    assert plain(resumed) == plain(run)
    assert resumed.run_dir == str(tmp_path / "a")
    assert (resumed.status, resumed.best_epoch) == ("done", run.best_epoch)
    assert len(planned) == 15
    assert served == planned  # a step that was done is not done again: its error saved it


@pytest.mark.thinned(2)
@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
def test_any_precision_goes_on_to_the_bit(train: str, tmp_path: Path, policy: str) -> None:
    def fit(name: str, callbacks: list[keras.callbacks.Callback], resume: str) -> keras.Model:
        keras.config.set_dtype_policy(policy)
        try:
            model = build()
        finally:
            keras.config.set_dtype_policy("float32")
        trainer = make_trainer(tmp_path / name, max_epochs=2, callbacks=callbacks)
        trainer.fit(model, open_module(train), resume=resume)
        return model

    expected = fit("unbroken", [], "auto")
    with pytest.raises(WeatherError):
        fit("a", [StopAt(rain, step=8)], "auto")
    found = fit("a", [], "last")
    assert_same(found, expected)
    kinds = {str(variable.dtype) for variable in found.trainable_variables}
    assert kinds == {"bfloat16" if policy == "bfloat16" else "float32"}


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_step_saves_and_is_raised(
    train: str,
    tmp_path: Path,
    served: list[bytes],
    reference: Callable[..., Reference],
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    stop = StopAt(lambda: os.kill(os.getpid(), number), step=7)
    trainer = make_trainer(tmp_path / "a", callbacks=[*counting_callbacks(), stop])
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        trainer.fit(build(), open_module(train))
    assert isinstance(caught.value, KeyboardInterrupt) is (number == signal.SIGINT)
    assert getattr(caught.value, "code", 143) == 143
    assert signal.getsignal(number) is before
    assert len(served) == 7
    assert k5.Run.load(tmp_path / "a").status == "stopped"
    (newest, *_) = Checkpoints(tmp_path / "a" / "checkpoints").paths()
    assert newest.name.endswith("-step-7")
    model = build()
    make_trainer(tmp_path / "a", callbacks=counting_callbacks()).fit(
        model, open_module(train), resume="last"
    )
    assert len(served) == 15
    assert_same(model, reference().model)


def test_a_signal_in_validation_breaks_it_off_and_it_is_made_again(
    train: str, tmp_path: Path, reference: Callable[..., Reference]
) -> None:
    class InValidation(keras.callbacks.Callback):
        def on_test_begin(self, logs: Any = None) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        make_trainer(tmp_path / "a", callbacks=[*counting_callbacks(), InValidation()]).fit(
            build(), open_module(train)
        )
    assert k5.Run.load(tmp_path / "a").epochs == ()
    model = build()
    resumed = make_trainer(tmp_path / "a", callbacks=counting_callbacks()).fit(
        model, open_module(train), resume="auto"
    )
    assert plain(resumed) == plain(reference().run)
    assert_same(model, reference().model)


def test_a_second_signal_ends_at_once(train: str, tmp_path: Path, served: list[bytes]) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still here")

    trainer = make_trainer(tmp_path / "a", callbacks=[StopAt(twice, step=3)])
    with pytest.raises(SystemExit):
        trainer.fit(build(), open_module(train))
    assert len(served) == 3


def test_outside_the_main_thread_no_signal_is_caught(train: str, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    runs: list[k5.Run] = []

    def fit() -> None:
        runs.append(make_trainer(tmp_path / "a", max_epochs=1).fit(build(), open_module(train)))

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert [run.status for run in runs] == ["done"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_where_nothing_is_to_be_resumed_auto_begins(train: str, tmp_path: Path) -> None:
    run = make_trainer(tmp_path / "a", max_epochs=1).fit(build(), open_module(train), resume="auto")
    assert (run.run_dir, run.status) == (str(tmp_path / "a"), "done")


def test_a_finished_run_is_not_trained_again_and_the_model_gets_its_weights(
    train: str, tmp_path: Path, served: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, run = unbroken(train, tmp_path)
    served.clear()
    model = build(seed=99)
    trainer = make_trainer(tmp_path / "unbroken")
    assert trainer.fit(model, open_module(train), resume="auto") == run
    assert served == []
    assert "is finished; nothing to train" in capsys.readouterr().err
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        assert_array_equal(found, wanted)


def test_a_finished_run_whose_weights_are_gone_says_what_is_left(
    train: str, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path / "run", max_epochs=1)
    run = trainer.fit(build(), open_module(train))
    (tmp_path / "run" / LAST_WEIGHTS).unlink()
    words = r"is finished, and 'last.weights.h5', .* no longer there; model.load_weights\('.*best"
    with pytest.raises(FileMissingError, match=words) as caught:
        trainer.fit(build(), open_module(train), resume="auto")
    assert "\n" not in str(caught.value)
    assert k5.Run.load(tmp_path / "run") == run
    (tmp_path / "run" / BEST_WEIGHTS).unlink()
    with pytest.raises(FileMissingError, match="no longer there; train again with resume=None"):
        trainer.fit(build(), open_module(train), resume="last")


def test_a_finished_run_goes_on_where_more_epochs_are_asked_for(
    train: str, tmp_path: Path, reference: Callable[..., Reference]
) -> None:
    for epochs in (1, 3):
        model = build()
        resumed = make_trainer(
            tmp_path / "a", max_epochs=epochs, callbacks=counting_callbacks()
        ).fit(model, open_module(train), resume="auto")
    assert plain(resumed) == plain(reference().run)
    assert_same(model, reference().model)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("first", [3, 7, 10, 13])
def test_a_fit_that_used_up_its_steps_goes_on_where_more_are_asked_for(
    train: str,
    tmp_path: Path,
    served: list[bytes],
    reference: Callable[..., Reference],
    first: int,
) -> None:
    expected = reference(max_steps=14)
    run, whole = expected.run, Path(expected.run.run_dir)

    def go_on(max_steps: int, model: keras.Model) -> k5.Run:
        trainer = make_trainer(tmp_path / "a", max_steps=max_steps, callbacks=counting_callbacks())
        return trainer.fit(model, open_module(train), resume="auto")

    short = go_on(first, build())
    assert (short.status, len(short.epochs), len(served)) == ("done", -(-first // 5), first)
    assert go_on(first, build(seed=99)) == short  # nothing is left, and nothing is lost
    assert len(served) == first
    model = build(seed=99)
    resumed = go_on(14, model)
    assert served == expected.served
    assert plain(resumed) == plain(run)
    assert resumed.best_epoch == run.best_epoch
    assert_same(model, expected.model)
    kept = tmp_path / "a" / BEST_WEIGHTS
    assert_array_equal(weight(kept, KERNEL), weight(whole / BEST_WEIGHTS, KERNEL))
    left = {path.name for path in (tmp_path / "a").glob("*.weights.h5")}
    assert left == {BEST_WEIGHTS, LAST_WEIGHTS}
    assert steps_logged(tmp_path / "a") == steps_logged(whole)


def steps_logged(run_dir: Path) -> list[str]:
    """Return the lines of metrics.csv without what is measured."""
    with (run_dir / "metrics.csv").open() as stream:
        return [f"{row['epoch']} {row['loss']} {row['val_loss']}" for row in csv.DictReader(stream)]


def weight(path: Path, name: str) -> np.ndarray:
    """Return a weight from a file of Keras: layer "dense_1", "1" for its bias."""
    with h5py.File(path) as file:
        return np.asarray(file[f"layers/{name}"])


class Biased(keras.callbacks.Callback):
    """Decides how good the model is after a step: the larger the bias, the worse."""

    def __init__(self, biases: dict[int, float]) -> None:
        super().__init__()
        self._biases = biases

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if step in self._biases:
            self.model.layers[-1].bias.assign([self._biases[step], 0.0, 0.0])


def test_an_epoch_that_was_best_when_cut_may_not_be_the_best_of_a_longer_fit(
    train: str, tmp_path: Path
) -> None:
    for max_steps, best in ((7, 1), (10, 0)):
        model = build()
        model.optimizer.learning_rate = 0.0
        trainer = make_trainer(
            tmp_path / "a", max_steps=max_steps, callbacks=[Biased({5: 20.0, 7: 0.0, 10: 40.0})]
        )
        run = trainer.fit(model, open_module(train), resume="auto")
        assert (run.best_epoch, len(run.epochs)) == (best, 2)
        bias = weight(tmp_path / "a" / BEST_WEIGHTS, BIAS)
        assert_array_equal(bias, [{0: 20.0, 1: 0.0}[best], 0.0, 0.0])
        kept = best_checkpoint(Checkpoints(tmp_path / "a" / "checkpoints"))
        assert kept is not None
        at = kept.state["position"]
        assert (at["epoch"], at["index"]) == {0: (1, 0), 1: (1, 2)}[best]
    # In a new folder too.
    model.optimizer.learning_rate = 0.0
    trainer = make_trainer(tmp_path / "b", callbacks=[Biased({15: 50.0})])
    run = trainer.fit(model, open_module(train), resume=tmp_path / "a")
    assert (run.best_epoch, len(run.epochs)) == (0, 3)
    assert_array_equal(weight(tmp_path / "b" / BEST_WEIGHTS, BIAS), [20.0, 0.0, 0.0])


@pytest.mark.parametrize("is_eager", [True, False], ids=["one by one", "in groups"])
def test_a_validation_that_was_due_when_it_was_stopped_is_made_first(
    train: str, tmp_path: Path, *, is_eager: bool
) -> None:
    class Tested(keras.callbacks.Callback):
        async_safe = True

        def on_test_begin(self, logs: Any = None) -> None:
            found.append(int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)))

    def fit(name: str, max_steps: int) -> list[int]:
        found.clear()
        model = build()
        model.run_eagerly = is_eager
        make_trainer(
            tmp_path / name,
            max_steps=max_steps,
            max_epochs=1,
            val_check_interval=2,
            callbacks=[Tested()],
            num_sanity_val_steps=0,
        ).fit(model, open_module(train), resume="auto")
        return list(found)

    found: list[int] = []
    assert fit("unbroken", 5) == [2, 4, 5]
    assert fit("a", 2) == [2]
    assert fit("a", 5) == [2, 4, 5]


def test_the_best_epoch_can_be_gone_on_from(train: str, tmp_path: Path) -> None:
    _, run = unbroken(train, tmp_path)
    assert run.best_epoch is not None
    resumed = make_trainer(tmp_path / "unbroken", max_epochs=4).fit(
        build(), open_module(train), resume="best"
    )
    assert plain(resumed)[: run.best_epoch + 1] == plain(run)[: run.best_epoch + 1]
    assert [epoch.epoch for epoch in resumed.epochs] == [0, 1, 2, 3]


def test_a_path_begins_a_new_run_from_that_state(
    train: str, tmp_path: Path, reference: Callable[..., Reference]
) -> None:
    expected, run = reference().model, reference().run
    stop = StopAt(rain, step=8)
    with pytest.raises(WeatherError):
        make_trainer(tmp_path / "a", callbacks=[*counting_callbacks(), stop]).fit(
            build(), open_module(train)
        )
    kept = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    model = build()
    resumed = make_trainer(tmp_path / "b", callbacks=counting_callbacks()).fit(
        model, open_module(train), resume=tmp_path / "a"
    )
    assert (resumed.run_dir, plain(resumed)) == (str(tmp_path / "b"), plain(run))
    assert_same(model, expected)
    best, wanted = (Path(folder) / BEST_WEIGHTS for folder in (resumed.run_dir, run.run_dir))
    assert_array_equal(weight(best, KERNEL), weight(wanted, KERNEL))
    assert {path: path.read_bytes() for path in kept} == kept


# What is refused.


def test_there_must_be_something_to_resume(train: str, tmp_path: Path) -> None:
    for resume in ("last", "best"):
        with pytest.raises(RunError, match=f"resume='{resume}', and there is no run in"):
            make_trainer(tmp_path / "a").fit(build(), open_module(train), resume=resume)
    with pytest.raises(FileMissingError, match="no checkpoint at"):
        make_trainer(tmp_path / "a").fit(build(), open_module(train), resume=tmp_path / "no")


def interrupted(train: str, run_dir: Path, **options: Any) -> None:
    with pytest.raises(WeatherError):
        make_trainer(run_dir, callbacks=[StopAt(rain, step=8)], **options).fit(
            build(), open_module(train)
        )


CHANGES: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "batch size": ({"batch_size": 5}, {}, r"batch_size was 6 and is 5"),
    "seed": ({"seed": 1}, {}, r"seed was 0 and is 1"),
    "rows": ({"validation_split": 9}, {}, r"rows was '.*' and is '"),
    "a wider layer": ({}, {"units": 6}, r"units was 5 and is 6"),
    "another optimizer": ({}, {"optimizer": "sgd"}, r"kind was 'Adam' and is 'SGD'"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_fit_is_refused_and_the_difference_named(
    train: str, tmp_path: Path, change: tuple[dict[str, Any], dict[str, Any], str]
) -> None:
    data, model, words = change
    interrupted(train, tmp_path / "a")
    before = Checkpoints(tmp_path / "a" / "checkpoints").paths()
    with pytest.raises(RunError, match=f"belongs to another fit: .*{words}.*resume='force'"):
        make_trainer(tmp_path / "a").fit(build(**model), open_module(train, **data), resume="auto")
    assert Checkpoints(tmp_path / "a" / "checkpoints").paths() == before


def test_other_values_in_a_file_of_the_same_size_are_noticed(train: str, tmp_path: Path) -> None:
    interrupted(train, tmp_path / "a")
    write(Path(train), IMAGES[::-1].copy())
    with pytest.raises(RunError, match=r"data\.rows was .* and is"):
        make_trainer(tmp_path / "a").fit(build(), open_module(train), resume="auto")


def test_by_force_it_goes_on_with_other_data_from_the_beginning_of_the_epoch(
    train: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(train, tmp_path / "a")
    run = make_trainer(tmp_path / "a").fit(
        build(), open_module(train, batch_size=5), resume="force"
    )
    assert [(epoch.epoch, epoch.num_rows) for epoch in run.epochs] == [(0, 30), (1, 30), (2, 30)]
    assert "in spite of differences" in capsys.readouterr().err


def test_by_force_weights_go_on_under_another_optimizer(train: str, tmp_path: Path) -> None:
    interrupted(train, tmp_path / "a")
    run = make_trainer(tmp_path / "a").fit(
        build(optimizer="sgd"), open_module(train), resume="force"
    )
    assert run.status == "done"


def test_even_by_force_weights_must_fit(train: str, tmp_path: Path) -> None:
    interrupted(train, tmp_path / "a")
    with pytest.raises(RunError, match=r"of shape \(16, 6\); use the same model"):
        make_trainer(tmp_path / "a").fit(build(units=6), open_module(train), resume="force")


def test_two_runs_at_once_do_not_share_a_folder(train: str, tmp_path: Path) -> None:
    interrupted(train, tmp_path / "a")
    other = reopen_run_dir(tmp_path / "a")
    try:
        with pytest.raises(RunError, match="another process trains in"):
            make_trainer(tmp_path / "a").fit(build(), open_module(train), resume="auto")
        run = make_trainer(tmp_path / "a", max_epochs=1).fit(build(), open_module(train))
        assert run.run_dir == str(tmp_path / "a-2")
    finally:
        other.lock.release()
    assert make_trainer(tmp_path / "a").fit(build(), open_module(train), resume="auto").epochs


def test_without_checkpoints_there_is_nothing_to_resume(train: str, tmp_path: Path) -> None:
    interrupted(train, tmp_path / "a", enable_checkpointing=False)
    assert not (tmp_path / "a" / "checkpoints").exists()
    with pytest.raises(RunError, match="holds no last checkpoint"):
        make_trainer(tmp_path / "a").fit(build(), open_module(train), resume="last")


# Damage, and full disks.


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut short":
        del content[len(content) // 2 :]
    else:
        content[-40] ^= 1
    path.write_bytes(bytes(content))


def test_best_weights_are_kept_whole_where_a_disk_without_links_fills_up(
    train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: list[str] = []

    def no_link(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    @contextmanager
    def fill(target: Path) -> Iterator[FileIO]:
        with replacing(target) as stream:
            yield stream
            if BEST_BEFORE_TRUNCATION in target.name and not full:
                stream.truncate(stream.tell() // 2)
                full.append(target.name)
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(_checkpoint, "replacing", fill)
    with pytest.warns(UserWarning, match="No space left on device"):
        make_trainer(tmp_path / "a", max_steps=7).fit(build(), open_module(train))
    assert [path.name for path in (tmp_path / "a").rglob("*partial*")] == []
    newest, before, *_ = Checkpoints(tmp_path / "a" / "checkpoints").paths()
    assert full
    assert not (newest / BEST_WEIGHTS).exists()
    assert weight(before / BEST_WEIGHTS, KERNEL).size
    assert load_checkpoint(newest).state["position"]["index"] == 2


def test_weights_beside_a_checkpoint_that_are_damaged_damage_it(train: str, tmp_path: Path) -> None:
    unbroken(train, tmp_path)
    (newest, *_) = Checkpoints(tmp_path / "unbroken" / "checkpoints").paths()
    content = (newest / BEST_WEIGHTS).read_bytes()
    (newest / BEST_WEIGHTS).unlink()  # another name of the run's own file
    (newest / BEST_WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match=f"{BEST_WEIGHTS} is not what was written"):
        load_checkpoint(newest)


@pytest.mark.one_backend
@pytest.mark.parametrize("how", ["cut short", "a bit turned over"])
@pytest.mark.parametrize("file", ["state.weights.h5", "state.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    train: str, tmp_path: Path, reference: Callable[..., Reference], how: str, file: str
) -> None:
    stop = StopAt(rain, step=8)
    with pytest.raises(WeatherError):
        make_trainer(tmp_path / "a", callbacks=[*counting_callbacks(), stop]).fit(
            build(), open_module(train)
        )
    newest, before, *_ = Checkpoints(tmp_path / "a" / "checkpoints").paths()
    damage(newest / file, how)
    model = build()
    with pytest.warns(UserWarning, match=f"{newest.name}' is damaged .*the one before it is used"):
        resumed = make_trainer(tmp_path / "a", callbacks=counting_callbacks()).fit(
            model, open_module(train), resume="auto"
        )
    assert newest.name.endswith("-step-8")
    assert before.name.endswith("-step-6")
    assert plain(resumed) == plain(reference().run)
    assert_same(model, reference().model)


def test_a_full_disk_leaves_the_earlier_checkpoint_and_training_goes_on(
    train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kerash5.train.checkpoints import _checkpoint

    folder = tmp_path / "a" / "checkpoints"
    kept: dict[str, list[Path]] = {}
    write_bytes = _checkpoint._write

    def fill() -> None:
        kept["before"] = Checkpoints(folder).paths()

        def fail(path: Path, content: bytes) -> None:
            path.write_bytes(content[:9])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(_checkpoint, "_write", fail)

    trainer = make_trainer(tmp_path / "a", callbacks=[StopAt(fill, step=7)])
    words = r"no checkpoint could be written.*No space left.*goes on"
    with pytest.warns(UserWarning, match=words) as noted:
        run = trainer.fit(build(), open_module(train))
    ours = [one for one in noted if "no checkpoint" in str(one.message)]
    assert {one.filename for one in ours} == {__file__}
    assert (run.status, len(run.epochs)) == ("done", 3)
    assert Checkpoints(folder).paths() == kept["before"]
    assert [path.name for path in folder.iterdir() if "partial" in path.name] == []
    monkeypatch.setattr(_checkpoint, "_write", write_bytes)
    assert Checkpoints(folder).newest() is not None


# A loss that is no number.


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_a_loss_that_is_no_number_names_the_step_and_its_rows(tmp_path: Path, value: float) -> None:
    def spoil(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = x.astype(np.float32)
        x[x[:, 0, 0] == 251] = value
        return x, y

    images = np.minimum(IMAGES, 250)
    images[17, 0, 0] = 251
    path = write(tmp_path / "train.h5", images)
    data = open_module(path, transform=spoil, validation_split=None)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    (step,) = (step for step in range(7) if 17 in data.train.plan.rows(step))
    with pytest.raises(RunError, match=rf"the loss is nan.*step {step} made it so, on the rows"):
        make_trainer(tmp_path / "a").fit(model, data)
    assert k5.Run.load(tmp_path / "a").status == "failed"
    newest = Checkpoints(tmp_path / "a" / "checkpoints").newest()
    assert newest is not None
    assert newest.state["step"] <= step
    assert all(np.isfinite(array).all() for array in newest.arrays.values())
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


# Which are kept.


def test_the_newest_two_and_the_best_are_kept(train: str, tmp_path: Path) -> None:
    run = make_trainer(tmp_path / "a", save_top_k=2, max_epochs=4).fit(build(), open_module(train))
    checkpoints = Checkpoints(tmp_path / "a" / "checkpoints")
    states = [checkpoints.read_state(path) for path in checkpoints.paths()]
    ranks = sorted(state["rank"] for state in states if state["rank"] is not None)
    assert ranks[:2] == sorted(epoch.metrics["val_loss"] for epoch in run.epochs)[:2]
    assert len(states) <= 4
    assert states[0]["position"]["epoch"] == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every_n_train_steps": 0}, "every_n_train_steps=0"),
        ({"train_time_interval": "soon"}, "train_time_interval='soon'.*'10min'"),
        ({"save_top_k": -1}, "save_top_k=-1"),
    ],
    ids=str,
)
def test_a_cadence_that_makes_no_sense_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        make_trainer(tmp_path, **options)
