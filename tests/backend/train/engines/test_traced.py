"""A resumed fit says where its step is traced with other code or values than before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from numpy.testing import assert_array_equal

if keras.backend.backend() not in {"jax", "tensorflow"}:
    pytest.skip("no step is traced for good on this backend", allow_module_level=True)

import kerash5 as k5
from kerash5._errors import RunError
from kerash5.train.engines import AbstractEngine, make_engine
from tests.backend.train.engines.annealed import Anneal, X, Y, build, make_trainer, open_rows


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
    assert keras.__version__ in found["versions"]
    found["digests"] = dict.fromkeys(found["digests"], "another")
    assert reports_of(found, batches) == [
        "batches of ('float32[8, 4]', 'float32[8, 1]')",
    ]
    backend = keras.backend.backend()
    monkeypatch.setattr(
        f"kerash5.train.engines.{backend}._{backend}.name_versions",
        lambda: found["versions"] + ".1",
    )
    assert reports_of(found, batches) == []
    assert reports_of({}, batches) == []


def reports_of(traced: dict[str, Any], batches: list[Any]) -> list[str]:
    engine: AbstractEngine = make_engine(build()[0])
    said: list[str] = []
    engine.expect_traced(traced, said.append)
    engine.train(batches)
    return said
