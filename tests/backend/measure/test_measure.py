"""Backends are measured as they are: equal start, equal batches, and planted faults are found.

The faults: a backend that computes something else, and an input that has become slower. What the
runner does with children that fail is tested without Keras, in tests/comparison/test_runner.py.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

from kerash5._errors import RunError
from kerash5._json import parse_values
from kerash5.assets import digits_test, digits_train
from kerash5.comparison._children import Contender
from kerash5.comparison._compare import find_files
from kerash5.comparison._measurement import Measurement
from kerash5.comparison._parity import Setting, judge_parity
from kerash5.comparison._processes import Processes
from kerash5.comparison._progress import Progress
from kerash5.comparison._results import SETTINGS, Comparison, Method, Sample
from kerash5.comparison._runner import Runner
from kerash5.feeds._served import served_by
from kerash5.measure._measure import (
    KERAS_FIT,
    MeasurementContext,
    make_weights,
    measure_parity,
    measure_sample,
)
from kerash5.measure._probe import probe
from kerash5.report._findings import find_tables

BACKEND: Final = keras.backend.backend()
BATCH_SIZE: Final = 20
STEPS: Final = 8
SLEEP_SECONDS: Final = 0.2  # much more than a step takes, on a busy machine too


def make_job(folder: Path, job: Any, **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "backend": BACKEND,
        "model": "mlp",
        "batch_size": BATCH_SIZE,
        "settings": ("plain", "tuned"),
        "train": (str(digits_train()),),
        "test": (str(digits_test()),),
        "x": "image",
        "y": "label",
        "weights": str(folder / "mlp.weights.h5"),
        "scratch": str(folder),
        "num_steps": STEPS,
        "num_epochs": 2,
        "seed": 0,
        "threads": 1,
    }
    return Measurement(job=job, **{**values, **changes})


def begin(folder: Path, job: Any, **changes: Any) -> MeasurementContext:
    """Return a workplace whose initial weights are made."""
    make_weights(MeasurementContext(make_job(folder, "weights")))
    return MeasurementContext(make_job(folder, job, **changes))


# In this process.


def test_initial_weights_are_numpys_and_a_function_of_the_seed(tmp_path: Path) -> None:
    context = begin(tmp_path, "parity")
    first = context.build()
    make_weights(context)
    for one, other in zip(first.get_weights(), context.build().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    kernel, bias = first.get_layer("dense1").get_weights()
    assert kernel.shape == (784, 128)
    assert np.abs(kernel).max() == pytest.approx(math.sqrt(6 / (784 + 128)), rel=1e-3)
    assert not bias.any()
    make_weights(MeasurementContext(make_job(tmp_path, "weights", seed=1)))
    assert not np.array_equal(context.build().get_layer("dense1").get_weights()[0], kernel)


def make_identity(setting: Setting, **values: Any) -> Sample:
    told = {"contender": BACKEND, "repeat": 0, "position": 0, **values}
    return Sample(backend=BACKEND, model="mlp", batch_size=BATCH_SIZE, setting=setting, **told)


def make_sample(identity: Sample, found: dict[str, Any]) -> Sample:
    """Return what the runner makes of the JSON that a process sends."""
    return parse_values(Sample, {**asdict(identity), **json.loads(json.dumps(found))}, "this")


def make_method(*contenders: str, repeats: int = 1) -> Method:
    return Method(
        model="mlp",
        contenders=contenders,
        batch_sizes=(BATCH_SIZE,),
        settings=("plain",),
        repeats=repeats,
        num_steps=STEPS,
        num_epochs=2,
        seed=0,
        threads=1,
        precision="float32",
        tf32=False,
        data="digits",
    )


def measure(folder: Path, setting: Setting) -> Sample:
    folder.mkdir()
    found = measure_sample(begin(folder, "sample", settings=(setting,)))
    return make_sample(make_identity(setting), found)


def test_a_sample_says_all_that_a_process_can_know_in_both_settings(tmp_path: Path) -> None:
    samples = [measure(tmp_path / setting, setting) for setting in SETTINGS]
    for sample in samples:
        assert (sample.num_steps, sample.num_rows) == (STEPS, STEPS * BATCH_SIZE)
        assert len(sample.epoch_seconds) == len(sample.epoch_losses) == 4
        assert sample.warm_up_epochs == 2
        assert len(sample.cached_epoch_seconds) == 2
        assert min(*sample.epoch_seconds, *sample.cached_epoch_seconds, sample.build_seconds) > 0
        assert sample.epoch_losses[0] > sample.epoch_losses[-1]
        assert 0 < sample.first_step_seconds < 60
        assert 0.2 < sample.final_accuracy <= 1  # by chance it would be 0.1
        assert sample.evaluated_on == "test"
        assert (sample.engine == KERAS_FIT) is (sample.setting == "plain")
        assert sample.engine
        assert sample.peak_host_bytes is not None
        assert 1 << 26 < sample.peak_host_bytes < 1 << 36
        assert sample.peak_host_counter
    # The same rows in the same order: the settings end at the same loss.
    np.testing.assert_allclose(samples[0].epoch_losses, samples[1].epoch_losses, rtol=1e-3)


def test_an_epoch_is_whole_batches_of_the_plan(tmp_path: Path) -> None:
    context = begin(tmp_path, "sample", settings=("plain",))
    served = np.concatenate([y for _, y in context.train().batches(epoch=0)])
    assert len(served) == STEPS * BATCH_SIZE
    other = MeasurementContext(replace(context.job, seed=1))
    assert not np.array_equal(served, np.concatenate([y for _, y in other.train().batches()]))
    assert served_by(context.train()).fingerprint() == served_by(context.train()).fingerprint()


def test_the_cached_epoch_is_one_batch_over_and_over(tmp_path: Path) -> None:
    context = begin(tmp_path, "sample", settings=("plain",))
    x, y = context.train().read(0)
    cached = context.repeated([(x, y)], 5)
    assert served_by(cached).fits_memory
    served = list(cached.batches())
    assert len(served) == 5
    for batch in served:
        np.testing.assert_array_equal(batch[0], x)
        np.testing.assert_array_equal(batch[1], y)


def test_without_test_files_the_rows_trained_on_are_evaluated(tmp_path: Path) -> None:
    context = begin(tmp_path, "sample", settings=("plain",), test=())
    tested = np.sort(np.concatenate([y for _, y in context.test().batches()]))
    trained = np.sort(np.concatenate([y for _, y in context.train().batches()]))
    np.testing.assert_array_equal(tested, trained)


def test_our_trainer_computes_what_keras_computes(tmp_path: Path) -> None:
    context = begin(tmp_path, "parity")
    sound = measure_parity(context)
    assert [len(sound["plain"][name]) for name in ("losses", "adam", "sgd")] == [5, 10, 64]
    assert sound["plain"]["losses"] == sound["plain"]["adam"][:5]
    judged = judge_parity({BACKEND: sound})
    assert len(judged) == 2
    assert all(check.is_passed for _, checks in judged.values() for check in checks)


def test_this_backend_is_there_and_says_its_versions() -> None:
    found = probe(BACKEND)
    assert found["error"] == ""
    assert BACKEND in found["installed"]
    assert found["versions"]["keras"] == keras.__version__


def test_a_slower_input_is_measured_and_blamed_on_input_wait(tmp_path: Path) -> None:
    # Read by the thread that trains: where threads read ahead, a slower input need not slow
    # anything down. What statistics make of it on a quiet machine: benchmarks/against_itself.py.
    few = {"settings": ("plain",), "reading_threads": 0, "num_steps": 4}
    context = begin(tmp_path, "sample", sleep_seconds=SLEEP_SECONDS, **few)
    sample = make_sample(make_identity("plain"), measure_sample(context))
    assert sample.step_seconds >= SLEEP_SECONDS
    assert sample.input_wait_share > 0.5


# In processes of their own.


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Let the runner measure this backend and one that computes something else, once each."""
    contenders = [
        Contender(name=BACKEND, backend=BACKEND),
        Contender(name="wrong", backend=BACKEND, weight_factor=1.001),
    ]
    method = make_method(BACKEND, "wrong", repeats=1)
    with own_package():
        processes = start_processes(method, tmp_path_factory.mktemp("compare"))
        return Runner(processes, contenders, Progress(method)).run()


def start_processes(method: Method, folder: Path) -> Processes:
    files = find_files(None, None, "image", "label")
    return Processes(method=method, files=files, folder=folder, timeout_seconds=200)


@contextmanager
def own_package() -> Iterator[None]:
    """Let children import the package that is under test, whether it is installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        yield


def test_every_process_measures(comparison: Comparison) -> None:
    assert [sample.error for sample in comparison.samples] == ["", ""]
    assert {len(sample.epoch_seconds) for sample in comparison.samples} == {4}
    assert comparison.versions[BACKEND]["keras"] == keras.__version__


def test_weights_that_are_a_thousandth_too_large_fail_parity(comparison: Comparison) -> None:
    sound, wrong = comparison.parities
    assert sound.is_passed
    assert not wrong.is_passed
    assert f"forward differs from {BACKEND} by" in wrong.reason
    (table,) = find_tables(comparison)
    (row,) = (row for row in table.rows if row.contender == "wrong")
    assert row.standing == "unranked"


def test_processes_run_under_the_policy_that_was_asked_for(comparison: Comparison) -> None:
    for sample in comparison.samples:
        assert sample.environment["threads"] == 1
        assert sample.environment["precision"] == "float32"
        assert sample.environment["tf32"] is False
        assert sample.environment["settings"]["KERAS_BACKEND"] == BACKEND
        assert os.sep not in "".join(sample.environment["settings"].values())
        assert sample.import_seconds > 0.3  # Keras and a backend; the process was not warm


def test_only_jax_keeps_compiled_programs_for_the_next_process(comparison: Comparison) -> None:
    caches = {sample.compile_cache for sample in comparison.samples}
    assert caches == ({"cold"} if BACKEND == "jax" else {"none"})


def test_a_child_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    make_weights(MeasurementContext(make_job(tmp_path, "weights")))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    job = make_job(
        tmp_path,
        "sample",
        settings=("plain",),
        parent=gone.pid,
        sleep_seconds=600.0,
        reading_threads=0,
    )
    words = [sys.executable, "-P", "-m", "kerash5.measure"]
    with own_package():
        done = subprocess.run(
            words, input=job.to_json(), capture_output=True, text=True, timeout=200, check=False
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_what_a_child_refuses_reaches_whoever_asked(tmp_path: Path) -> None:
    processes = start_processes(replace(make_method(BACKEND), model="mpl"), tmp_path)
    refused = pytest.raises(RunError, match="there is no model 'mpl'; did you mean 'mlp'")
    with own_package(), refused:
        processes.make_weights(Contender(name=BACKEND, backend=BACKEND))
