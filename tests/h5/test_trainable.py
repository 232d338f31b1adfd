"""What `describe` suggests to train on, and that the command it writes parses."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kerash5
from kerash5.assets import digits_train
from kerash5.cli import _main
from kerash5.h5 import describe

IMAGES = np.zeros((12, 8, 8, 3), np.uint8)
TEXT = h5py.string_dtype()


def lines_of(path: Path | str) -> list[str]:
    """Return the lines of the suggestion."""
    lines = describe(path).splitlines()
    first = next((n for n, line in enumerate(lines) if "can be trained on" in line), None)
    return [] if first is None else lines[first : first + 2]


CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "images and labels": (
        {"image": IMAGES, "label": np.zeros(12, "i4")},
        "x = image, rows of (8, 8, 3) uint8; y = label, rows of int32; 12 rows",
        "--data.x image --data.y label --model convnet",
    ),
    "the tutorial's names": (
        {
            "train_set_x": IMAGES,
            "train_set_y": np.zeros(12, "i8"),
            "list_classes": np.array([b"non-cat", b"cat"]),
        },
        "x = train_set_x, rows of (8, 8, 3) uint8; y = train_set_y, rows of int64; 12 rows",
        "--data.x train_set_x --data.y train_set_y --model convnet",
    ),
    "splits in one file": (
        {
            "X_train": np.zeros((9, 4), "f4"),
            "y_train": np.zeros(9, "i4"),
            "X_test": np.zeros((3, 4), "f4"),
            "y_test": np.zeros(3, "i4"),
        },
        "9 rows; and test rows",
        "--data.x 'X_{split}' --data.y 'y_{split}' --model mlp",
    ),
    "text labels and odd names": (
        {"the features": np.zeros((5, 3)), "class": np.array(["a"] * 5, dtype=TEXT)},
        "x = the features, rows of (3,) float64; y = class, rows of text; 5 rows",
        "--data.x 'the features' --data.y class --model mlp",
    ),
    "a float target": (
        {"x": np.zeros((5, 3)), "target": np.zeros(5)},
        "y = target, rows of float64",
        "--data.x x --data.y target --model MODULE:FUNCTION --loss mse",
    ),
    "groups that are parts": (
        {f"fold{n}/{name}": np.zeros((4, 2), "f4") for n in range(3) for name in ("x", "y")},
        "x = fold0/x, rows of (2,) float32; y = fold0/y, rows of (2,) float32; 4 rows in each of 3",
        "--data.x 'fold{part}/x' --data.y 'fold{part}/y' --model MODULE:FUNCTION --loss mse",
    ),
    "no target": (
        {"signal": np.zeros((5, 3)), "time": np.zeros(5)},
        "x = signal, rows of (3,) float64; no data set is named like a target",
        "--data.x signal --data.y NAME",
    ),
}


@pytest.mark.parametrize(("columns", "words", "options"), CASES.values(), ids=CASES)
def test_describe_says_first_what_can_be_trained_on(
    columns: dict[str, Any], words: str, options: str, tmp_path: Path
) -> None:
    path = tmp_path / "a file.h5"
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    said, command = lines_of(path)
    assert words in said
    assert command.strip() == f"kerash5 fit '{path}' {options}"
    assert "a file.h5" in describe(path).splitlines()[0]
    parsed = _main._parse("fit", shlex.split(command)[2:])
    assert parsed["data"]["train"] == str(path)


NOTHING: list[dict[str, Any]] = [
    {},
    {"scalar": 3},
    {"one": np.zeros((1, 4))},
    {"time": np.zeros(4)},  # one number a row, and no word about what it is
    {"model_weights/d/kernel:0": np.zeros((4, 4))},
    {"_index/x": np.zeros((4, 4))},
]


@pytest.mark.parametrize("columns", NOTHING, ids=str)
def test_nothing_is_suggested_where_nothing_is_found(
    columns: dict[str, Any], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    assert lines_of(tmp_path / "a.h5") == []


def test_groups_that_are_rows_are_suggested_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for number in range(5):
            file[f"s_{number}/image"] = np.full((4, 4), number)
            file[f"s_{number}/label"], file[f"s_{number}/time"] = number % 2, 0.5
    said, call = lines_of(path)
    assert "5 groups, each a row: x = s_{row}/image, rows of (4, 4) int64" in said
    assert call.strip().startswith("k5.rows_from_groups(")
    source = eval(call.strip(), {"k5": kerash5})
    assert source.read([3])["x"].tolist() == np.full((1, 4, 4), 3).tolist()
    assert source.read([3])["y"].tolist() == [1]


def test_the_shipped_digits_are_trained_on_as_suggested() -> None:
    said, command = lines_of(digits_train())
    assert "x = image, rows of (28, 28) uint8; y = label" in said
    assert command.endswith("--data.x image --data.y label --model convnet")
