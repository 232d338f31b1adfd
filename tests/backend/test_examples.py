"""Each example runs on the backend that is set, as a user would start it, and prints its result."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5.assets import digits_test

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
FLAGS: Final = {  # enough rows to learn something from, in seconds
    "before_and_after.py": "--rows 1000 --epochs 1",
    "lightning_style.py": "--model mlp --rows 1000 --epochs 2",
    "plain_keras.py": "--rows 1000 --epochs 1",
    "tutorial.py": "--rows 250 --epochs 3",
}
CHANCE: Final = 0.1


def run_example(name: str, folder: Path, *flags: str) -> str:
    """Start an example in a folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *FLAGS[name].split(), *flags],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def find_number(pattern: str, text: str) -> float:
    found = re.search(pattern + r" (\d\.\d{4})\b", text)
    assert found, f"no {pattern!r} in {text!r}"
    return float(found[1])


def test_every_example_is_run_here_and_named_in_their_readme() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == set(FLAGS)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {name for name in names if f"[{name}]({name})" not in readme} == set()


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_an_example_begins_by_saying_what_it_shows(name: str) -> None:
    about = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert about
    assert re.match(r"Shows .*\.$", about.splitlines()[0])


def test_the_tutorial_trains_its_convnet(tmp_path: Path) -> None:
    digits = k5.Source(digits_test(), image="image", label="label").read(np.arange(200))
    test = k5.write(tmp_path / "test.h5", image=digits["image"], label=digits["label"])
    printed = run_example("tutorial.py", tmp_path, "--test", test)
    assert "8,023,946 parameters" in printed
    assert find_number("test accuracy", printed) > 4 * CHANCE


@pytest.mark.one_backend
def test_the_lightning_style_leaves_a_run(tmp_path: Path) -> None:
    printed = run_example("lightning_style.py", tmp_path)
    assert find_number("test accuracy", printed) > 4 * CHANCE
    assert (tmp_path / "runs" / "lightning_style" / "run.json").is_file()


@pytest.mark.one_backend
def test_plain_keras_walks_all_its_ways(tmp_path: Path) -> None:
    printed = run_example("plain_keras.py", tmp_path)
    accuracy = find_number("test accuracy", printed)
    assert accuracy > 4 * CHANCE
    # `evaluate` averages float32 over batches, `predict` was compared in NumPy.
    assert find_number("by hand", printed) == pytest.approx(accuracy, abs=2e-4)
    assert find_number("trained on 7 alone:", printed) == 1
    assert find_number("digit 9: training accuracy", printed) > 2 * CHANCE
    assert find_number("3 parts, 1000 rows: training accuracy", printed) > 2 * CHANCE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_backend
def test_before_and_after_leaves_a_curve_and_answers(tmp_path: Path) -> None:
    printed = run_example("before_and_after.py", tmp_path)
    assert re.search(r"learning rate \d\.\d\de-0\d, at which the loss fell fastest", printed)
    assert re.search(r"held up by: \w+", printed)
    assert find_number("test accuracy", printed) > 4 * CHANCE
    assert {path.name for path in tmp_path.iterdir()} == {
        "answers.h5",
        "learning_rates.png",
        "runs",
    }


@pytest.mark.one_backend
def test_the_notebook_runs_and_shows_tables_and_pictures(tmp_path: Path) -> None:
    client = pytest.importorskip("nbclient", reason="the extra notebook has nbclient and a kernel")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(notebook, timeout=200, resources=resources).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {cell.source: kinds_shown(cell) for cell in cells}
    assert shown["run"] == ["text/html"]
    assert shown["run.class_scores()"] == ["text/html"]
    for call in ("run.plot()", "run.plot_confusion()", "run.plot_predictions()"):
        assert shown[call] == ["image/png"]
    assert (tmp_path / "runs" / "notebook" / "run.json").exists()


def kinds_shown(cell: Any) -> list[str]:
    """Return what a cell shows besides text: the kinds of its results."""
    results = [each for each in cell.outputs if each.output_type == "execute_result"]
    return [kind for each in results for kind in each.data if kind != "text/plain"]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells)
