"""The machine of a comparison: found, written, read again and told in words, by one type."""

from dataclasses import replace
from pathlib import Path

import pytest

from kerash5._errors import OptionError
from kerash5.comparison import Comparison, _machine
from kerash5.comparison._machine import Machine, find_machine
from kerash5.report._baseline import slower_than_baseline
from kerash5.report._page import render_page
from kerash5.report._verdict import describe_machine
from tests.comparison.simulated import make_comparison

SMI = """#!/bin/sh
echo "Example GPU 80GB"
echo "Example GPU 80GB"
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as nvidia-smi tells."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("gpus")
def test_a_report_names_the_gpus_that_were_found() -> None:
    found = find_machine()
    assert found.gpus == ("Example GPU 80GB", "Example GPU 80GB")
    comparison = replace(make_comparison(), machine=found)
    read = Comparison.from_json(comparison.to_json())
    assert read.machine == found
    page = render_page([read])
    assert "Example GPU 80GB" in page
    assert "no GPU" not in page


def test_a_machine_without_nvidia_smi_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "_lines", lambda *_: [])
    assert find_machine().gpus == ()
    assert describe_machine(find_machine()).endswith(", no GPU")


@pytest.mark.usefixtures("gpus")
def test_a_baseline_of_another_gpu_is_refused() -> None:
    new = replace(make_comparison(), machine=find_machine())
    old = replace(new, machine=replace(new.machine, gpus=("Another GPU",)))
    with pytest.raises(OptionError, match=r"gpus is .*80GB.*, but was \('Another GPU',\)"):
        slower_than_baseline(new, old)


@pytest.mark.parametrize(
    ("values", "gpus"),
    [
        ({"gpu": ""}, ()),
        ({"gpu": "A GPU"}, ("A GPU",)),
        ({"gpu": "A GPU; Another GPU"}, ("A GPU", "Another GPU")),
        ({"gpus": ["A GPU"]}, ("A GPU",)),
        ({}, None),
        ({"gpus": None}, None),
        ({"gpus": 2}, None),
    ],
    ids=str,
)
def test_result_files_of_earlier_versions_are_read(
    values: dict[str, object], gpus: tuple[str, ...] | None
) -> None:
    assert Machine.from_values(values).gpus == gpus


def test_what_was_not_noted_is_not_told() -> None:
    assert describe_machine(Machine()) == "unknown processor"
    assert describe_machine(Machine(processor="a CPU", cores=1, gpus=())) == "a CPU, 1 core, no GPU"
