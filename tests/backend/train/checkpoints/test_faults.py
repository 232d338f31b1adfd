"""A call that fails while a run is saved: a warning or one error, and no run without weights."""

import errno
import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import FileError
from kerash5.train.checkpoints import _checkpoint, _run_dir
from kerash5.train.checkpoints._checkpoint import Checkpoints, load_checkpoint
from tests.backend.train.checkpoints import fault_writers
from tests.faults import IS_DEEP, Fault, Faults, Outcome, make_faults, spread, tally

pytestmark = pytest.mark.one_backend

MOST = 3  # calls of a writer that fail in a push; all of them where the profile is `deep`
only_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="the child forks, which JAX and TensorFlow do not survive; the writers are the same",
)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return make_faults(tmp_path_factory.mktemp("faults"))


def run(faults: Faults, writer: str, fault: Fault) -> list[Outcome]:
    count = faults.count(writer)
    outcomes = faults.run(writer, fault, spread(count, None if IS_DEEP else MOST))
    print(f"{writer}, {fault}: {len(outcomes)} of {count} calls failed: {tally(outcomes)}")  # noqa: T201
    return outcomes


@only_torch
@pytest.mark.parametrize("fault", ["full", "EIO"])
def test_weights_are_saved_whole_or_not_at_all(faults: Faults, fault: Fault) -> None:
    for outcome in run(faults, "weights", fault):
        assert (outcome.code, outcome.names()) == (1, ["last.weights.h5"]), outcome
        assert "Error: [Errno" in outcome.errors.splitlines()[-1]
        with h5py.File(outcome.folder / "last.weights.h5") as file:
            assert file["layers/dense_1/vars/1"][:].tolist() == [0, 0, 0]  # the old ones


@only_torch
@pytest.mark.parametrize("fault", ["full", "EIO"])
def test_a_checkpoint_is_saved_whole_or_not_at_all(faults: Faults, fault: Fault) -> None:
    for outcome in run(faults, "checkpoint", fault):
        found = Checkpoints(outcome.folder / "checkpoints").paths()
        assert [load_checkpoint(path).state["seven"] for path in found] == [7] * len(found)
        assert found, outcome
        assert outcome.code in (0, 1), outcome  # where there can be no link, there is a copy
        assert not [name for name in outcome.names() if "partial" in name], outcome


@only_torch
@pytest.mark.skipif(not IS_DEEP, reason="a fit for each call: KERASH5_HYPOTHESIS_PROFILE=deep")
@pytest.mark.parametrize("fault", ["full", "EIO"])
def test_a_fit_ends_with_weights_or_one_error(faults: Faults, fault: Fault) -> None:
    for outcome in run(faults, "fit", fault):
        folder = outcome.folder / "run"
        checkpoints = Checkpoints(folder / "checkpoints").paths()
        for path in checkpoints:
            load_checkpoint(path)
        assert not [name for name in outcome.names() if "partial" in name], outcome
        status = k5.Run.load(folder).status if (folder / "run.json").exists() else "failed"
        if outcome.code == 0:
            assert outcome.errors, outcome  # nothing fails in silence
            assert checkpoints or list(folder.glob("*.weights.h5")), outcome
        else:
            assert outcome.code == 1, outcome
            assert outcome.errors.splitlines()[-1].startswith("kerash5._errors.FileError: ")
            assert status != "done"


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every write of weights and checkpoints fail."""

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_run_dir, "replacing", fail)
    monkeypatch.setattr(_checkpoint, "_write", fail)


@pytest.mark.filterwarnings("ignore:.*(cannot be written to|no checkpoint):UserWarning")
def test_a_run_without_any_saved_weights_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_writers.make_data(tmp_path)
    no_room(monkeypatch)
    with pytest.raises(FileError, match=r"none of its weights could be saved.*save_weights"):
        fault_writers.fit(tmp_path)
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (found["status"], found["best_epoch"]) == ("failed", None)
    assert "none of its weights could be saved" in found["error"]
    assert len(found["epochs"]) == 2


class NoRoomAfter(keras.callbacks.Callback):
    """Fills the disk after the first epoch's weights are saved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            no_room(self._monkeypatch)


@pytest.mark.filterwarnings("ignore:.*(cannot be written to|no checkpoint):UserWarning")
def test_the_best_epoch_is_the_one_whose_weights_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).random((60, 8), np.float32)
    k5.write(tmp_path / "train.h5", x=x, y=x.argmax(-1) % 3)
    trainer = k5.Trainer(
        max_epochs=3,
        run_dir=tmp_path / "run",
        monitor="loss",
        callbacks=[NoRoomAfter(monkeypatch)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = k5.H5DataModule(tmp_path / "train.h5", x="x", y="y", batch_size=10)
    found = trainer.fit(fault_writers.build(), data)
    losses = found.history["loss"]
    assert losses[0] > losses[1] > losses[2]
    assert (found.status, found.best_epoch) == ("done", 0)
