"""`kerash5 compare` from its words to its exit code, with children that only play a backend."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kerash5.cli._main import main
from kerash5.comparison._results import COMPARISON_FILE, Comparison
from tests.comparison.contenders import make_contender

Console = pytest.CaptureFixture[str]


def words(folder: Path, *more: str, seconds: float = 1.0, out: str = "out") -> list[str]:
    """Return a comparison of two players, torch being twice as fast."""
    speeds = {"jax": seconds, "torch": seconds / 2}
    players = [
        f"{name}={make_contender(folder, name, seconds=value).python}"
        for name, value in speeds.items()
    ]
    pythons = [word for player in players for word in ("--python", player)]
    few = ("--repeats", "3", "--steps", "4", "--settings", "plain", "--model", "mlp")
    return [
        *("compare", "--backends", "jax,torch", *pythons, *few),
        *("--out", str(folder / out), *more),
    ]


def failing_line(command: list[str], console: Console) -> str:
    assert main(command) == 1
    line = console.readouterr().err.splitlines()[-1]
    assert line.startswith("kerash5: ")
    return line


def test_a_comparison_prints_its_verdict_and_writes_a_page(tmp_path: Path, capsys: Console) -> None:
    assert main(words(tmp_path, "--batch-sizes", "10,20")) == 0
    out, err = capsys.readouterr()
    assert "PyTorch" in out
    assert "12/12" in err
    found = Comparison.load(tmp_path / "out")
    assert found.method.batch_sizes == (10, 20)
    assert found.method.contenders == ("jax", "torch")
    page = next(line for line in out.splitlines() if line.startswith("report: "))
    assert Path(page.removeprefix("report: ")).read_text().startswith("<!")


def test_the_same_command_goes_on_where_it_stopped(tmp_path: Path, capsys: Console) -> None:
    assert main(words(tmp_path)) == 0
    (tmp_path / "out" / "samples" / "jax-plain-b50-r1.json").unlink()
    (tmp_path / "ledger").unlink()
    assert main(words(tmp_path)) == 0
    assert len((tmp_path / "ledger").read_text().splitlines()) == 1
    capsys.readouterr()


def test_files_are_merged_without_measuring(tmp_path: Path, capsys: Console) -> None:
    assert main(words(tmp_path)) == 0
    found = Comparison.load(tmp_path / "out")
    other = replace(found, started="2026-01-01T00:00:00+00:00")
    (tmp_path / "other.json").write_text(other.to_json())
    (tmp_path / "ledger").unlink()
    paths = (str(tmp_path / "out" / COMPARISON_FILE), str(tmp_path / "other.json"))
    merged = tmp_path / "merged"
    assert main(["compare", "--merge", *paths, "--out", str(merged)]) == 0
    assert not (tmp_path / "ledger").exists()
    assert len(list(merged.glob("*.json"))) == 2
    assert capsys.readouterr().out.count("mlp") >= 2


def test_a_baseline_tells_by_the_exit_code_what_became_slower(
    tmp_path: Path, capsys: Console
) -> None:
    assert main(words(tmp_path)) == 0
    before = str(tmp_path / "out" / COMPARISON_FILE)
    assert main(["compare", "--merge", before, "--baseline", before, "--out", before + "-2"]) == 0
    assert "nothing became slower" in capsys.readouterr().out
    slower = words(tmp_path, "--baseline", before, seconds=2.0, out="later")
    line = failing_line(slower, capsys)
    assert "2 became slower than in" in line


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--batch-sizes", "50;256"), "give whole numbers with commas: 50,256"),
        (("--python", "jax"), "give the backend too: --python jax=/env/bin/python"),
        (("--backends", "mxnet"), "no backend 'mxnet'; choose one of jax, tensorflow, torch"),
        (("--settings", "fast"), "no setting 'fast'; choose one of plain, tuned"),
        (("--baseline", "nothing.json"), "no comparison at 'nothing.json'"),
        (("--merge", "nothing.json"), "no comparison at 'nothing.json'"),
        (("--data", "nothing.h5"), "nothing.h5"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path,
    capsys: Console,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert line in failing_line(words(tmp_path, *more), capsys)


def test_nothing_in_the_results_names_a_folder_of_this_machine(
    tmp_path: Path, capsys: Console
) -> None:
    assert main(words(tmp_path)) == 0
    capsys.readouterr()
    text = json.dumps(json.loads((tmp_path / "out" / COMPARISON_FILE).read_text()))
    assert str(tmp_path) not in text
