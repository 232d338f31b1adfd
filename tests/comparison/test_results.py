"""The results of a comparison come back from JSON as they were, and say what follows from one."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerash5._errors import FileError, FileMissingError, KerasH5Error
from kerash5.comparison._machine import Machine
from kerash5.comparison._parity import Parity, ParityCheck
from kerash5.comparison._results import (
    COMPARISON_FILE,
    Comparison,
    Method,
    Sample,
)

NAN = math.nan
SAMPLE = Sample(
    contender="jax",
    backend="jax",
    model="mlp",
    batch_size=32,
    setting="plain",
    repeat=0,
    position=3,
    num_steps=10,
    num_rows=320,
    epoch_seconds=(5.0, 2.0, 4.0, 3.0),
    cached_epoch_seconds=(2.0, 2.5, 2.25),
    import_seconds=1.0,
    build_seconds=0.5,
    first_step_seconds=0.25,
    compile_cache="cold",
    peak_host_bytes=1 << 30,
    peak_host_counter="VmHWM",
    epoch_losses=(2.0, 1.0, 0.5, 0.25),
    final_loss=0.5,
    final_accuracy=0.75,
    evaluated_on="test",
    engine="JAX, 8 compiled steps per dispatch",
    environment={"threads": 2, "affinity": [0, 1]},
)
METHOD = Method(
    model="mlp",
    contenders=("jax", "torch"),
    batch_sizes=(32,),
    settings=("plain", "tuned"),
    repeats=2,
    num_steps=10,
    num_epochs=3,
    seed=0,
    threads=2,
    precision="float32",
    tf32=False,
    data="5,000 digits",
)
PARITY = Parity(
    contender="torch",
    backend="torch",
    model="mlp",
    batch_size=32,
    setting="plain",
    reference="jax",
    checks=(
        ParityCheck(name="forward", difference=1e-7, bound=1e-5),
        ParityCheck(name="sgd", difference=1e-3, bound=1e-2, loosened="TF32 is on"),
    ),
)
COMPARISON = Comparison(
    method=METHOD,
    samples=(SAMPLE, replace(SAMPLE, contender="torch", status="failed", error="killed")),
    parities=(PARITY,),
    machine=Machine(processor="a CPU", cores=2, gpus=("A GPU", "A GPU")),
    versions={"jax": {"jax": "0.10.2"}},
    notes=("The environment is shared.",),
    started="2026-11-23T03:00:00+00:00",
    seconds=12.5,
)

NUMBERS = st.floats(allow_infinity=False)
SEVERAL = st.lists(NUMBERS, max_size=4).map(tuple)
SAMPLES = st.builds(
    Sample,
    contender=st.text(),
    backend=st.sampled_from(["jax", "tensorflow", "torch"]),
    model=st.text(),
    batch_size=st.integers(1, 1 << 20),
    setting=st.sampled_from(["plain", "tuned"]),
    repeat=st.integers(0, 99),
    position=st.integers(0, 999),
    status=st.sampled_from(["ok", "failed", "missing"]),
    error=st.text(),
    num_steps=st.integers(0, 1000),
    epoch_seconds=SEVERAL,
    warm_up_epochs=st.integers(1, 2),
    cached_epoch_seconds=SEVERAL,
    import_seconds=NUMBERS,
    peak_host_bytes=st.none() | st.integers(0, 1 << 50),
    epoch_losses=SEVERAL,
    final_loss=NUMBERS,
)


@given(sample=SAMPLES)
def test_a_sample_comes_back_from_json_as_it_was(sample: Sample) -> None:
    assert repr(Sample.from_json(sample.to_json())) == repr(sample)


def test_a_comparison_comes_back_from_json_with_all_it_holds() -> None:
    assert repr(Comparison.from_json(COMPARISON.to_json())) == repr(COMPARISON)


def test_the_json_is_one_that_every_parser_reads() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = replace(SAMPLE, final_loss=math.inf, epoch_losses=(NAN,)).to_json()
    values = json.loads(text, parse_constant=refuse)
    assert values["final_loss"] is None
    assert values["epoch_losses"] == [None]


def test_what_a_later_version_noted_besides_is_passed_over() -> None:
    values = json.loads(COMPARISON.to_json())
    values["mood"] = "good"
    values["samples"][0]["joules"] = 3.0
    values["method"]["weather"] = "fine"
    assert repr(Comparison.from_json(json.dumps(values))) == repr(COMPARISON)


def test_a_comparison_is_saved_to_its_folder_and_loaded_from_folder_or_file(tmp_path: Path) -> None:
    path = COMPARISON.save(tmp_path)
    assert path == str(tmp_path / COMPARISON_FILE)
    assert repr(Comparison.load(tmp_path)) == repr(Comparison.load(path)) == repr(COMPARISON)


NO_RESULTS = {
    "text": b"hello",
    "nothing": b"",
    "a list": b"[1, 2]",
    "no format": b"{}",
    "no samples": b'{"format": 1, "method": {}}',
    "a sample": SAMPLE.to_json().encode(),
    "bytes of another kind": b"\x89HDF\r\n\x1a\n\xff\xfe",
}


@pytest.mark.parametrize("content", NO_RESULTS.values(), ids=NO_RESULTS)
def test_a_file_that_holds_no_comparison_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / COMPARISON_FILE).write_bytes(content)
    with pytest.raises(FileError, match=r"comparison\.json' holds no results .*kerash5 compare"):
        Comparison.load(tmp_path)


@pytest.mark.parametrize("kind", [Sample, Comparison])
def test_results_of_another_format_say_to_upgrade(kind: type[Sample | Comparison]) -> None:
    with pytest.raises(FileError, match="pip install -U kerash5"):
        kind.from_json('{"format": 2}')


def test_a_number_that_is_none_is_refused() -> None:
    values = json.loads(SAMPLE.to_json())
    values["final_loss"] = "small"
    with pytest.raises(FileError, match="holds no results"):
        Sample.from_json(json.dumps(values))


def test_no_comparison_at_all_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"no comparison at .*pass the --out") as caught:
        Comparison.load(tmp_path / "other")
    assert isinstance(caught.value, KerasH5Error)


# What follows from one process.


def test_the_warm_up_does_not_count_for_the_speed() -> None:
    assert SAMPLE.step_seconds == 0.3
    assert SAMPLE.rows_per_second == pytest.approx(320 / 3)
    assert replace(SAMPLE, warm_up_epochs=2).step_seconds == 0.35
    assert math.isnan(replace(SAMPLE, warm_up_epochs=4).step_seconds)


def test_input_wait_is_what_one_cached_batch_would_save() -> None:
    assert SAMPLE.input_wait_share == 0.25
    assert replace(SAMPLE, cached_epoch_seconds=(9.0,)).input_wait_share == 0.0


def test_compiling_is_the_first_step_and_what_the_warm_up_took_beyond_an_epoch() -> None:
    assert SAMPLE.compile_seconds == 2.25
    assert replace(SAMPLE, epoch_seconds=(1.0, 3.0)).compile_seconds == 0.25
    assert replace(SAMPLE, warm_up_epochs=2).compile_seconds == 0.25
    assert math.isnan(replace(SAMPLE, warm_up_epochs=4).compile_seconds)
    assert SAMPLE.time_to_first_step_seconds == 1.75


@pytest.mark.parametrize(
    "name", ["step_seconds", "rows_per_second", "input_wait_share", "compile_seconds"]
)
def test_a_process_that_measured_nothing_has_no_speed(name: str) -> None:
    empty = replace(SAMPLE, num_steps=0, epoch_seconds=(), cached_epoch_seconds=())
    assert math.isnan(getattr(empty, name))


def test_a_key_names_a_sample_within_its_comparison() -> None:
    assert SAMPLE.key == "jax-plain-b32-r0"


# Parity.


def test_parity_is_passed_when_every_check_is() -> None:
    assert PARITY.is_passed
    assert PARITY.reason == ""


def test_a_difference_beyond_its_bound_fails_and_is_told() -> None:
    wrong = replace(PARITY, checks=(ParityCheck(name="adam", difference=0.5, bound=1e-3),))
    assert not wrong.is_passed
    assert wrong.reason == "adam differs from jax by 0.5, the bound is 0.001"


def test_numbers_that_are_not_finite_fail() -> None:
    wrong = replace(PARITY, checks=(ParityCheck(name="adam", difference=NAN, bound=1e-3),))
    assert not wrong.is_passed


def test_parity_that_was_not_measured_is_not_passed() -> None:
    assert not replace(PARITY, checks=()).is_passed
    missing = replace(PARITY, status="missing", error="not installed")
    assert not missing.is_passed
    assert missing.reason == "not installed"
