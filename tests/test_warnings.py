"""A warning names the line of the user that led to it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import pytest

import kerash5 as k5
from kerash5 import _warnings

SOURCES: Final = sorted(Path(k5.__file__).parent.rglob("*.py"))


def packed(folder: Path) -> str:
    """Write a file whose column is warned of when a source is opened."""
    with h5py.File(folder / "ocean.nc", "w") as file:
        file["sst"] = np.arange(6, dtype="i2").reshape(3, 2)
        file["sst"].attrs["scale_factor"] = 0.01
    return str(folder / "ocean.nc")


def line_of(text: str) -> int:
    """Return the number of the only line of this file that begins with a text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (found,) = (n for n, line in enumerate(lines, 1) if line.strip().startswith(text))
    return found


def test_a_source_warns_at_the_line_that_opens_it(tmp_path: Path) -> None:
    path = packed(tmp_path)
    with pytest.warns(UserWarning, match="as it is stored") as noted:
        k5.Source(path, x="sst")
    (one,) = noted
    assert (one.filename, one.lineno) == (__file__, line_of("k5.Source(path,"))


def test_a_function_of_files_warns_at_the_line_that_calls_it(tmp_path: Path) -> None:
    for number in range(4):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["image"] = np.zeros((16, 16), "u1")
    with pytest.warns(UserWarning, match="are read as 64 rows") as noted:
        k5.describe(tmp_path / "*.h5") and k5.Source(tmp_path / "*.h5", x="image")
    assert {one.filename for one in noted} == {__file__}


def called_by(name: str, file: str, function: Callable[[], None]) -> None:
    """Call a function from a module of another name or file."""
    code = compile("function()", file, "exec")
    exec(code, {"__name__": name, "function": function})


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("keras.src.trainers", "trainer.py"),
        ("contextlib", "contextlib.py"),
        ("kerash5.h5", str(Path(k5.__file__).with_name("made_up.py"))),
        ("__main__", str(Path(k5.__file__).with_name("__main__.py"))),
    ],
)
def test_what_lies_between_is_not_named(name: str, file: str) -> None:
    with pytest.warns(UserWarning, match="look out") as noted:
        called_by(name, file, lambda: _warnings.warn("look out"))
    assert [one.filename for one in noted] == [__file__]


def test_a_module_whose_name_only_begins_alike_is_the_users() -> None:
    with pytest.warns(DeprecationWarning, match="look out") as noted:
        exec(
            compile("warn('look out', DeprecationWarning)", "mine.py", "exec"),
            {"__name__": "keras_tools.data", "warn": _warnings.warn},
        )
    assert [one.filename for one in noted] == ["mine.py"]


def test_a_thread_without_a_line_of_the_user_warns_all_the_same() -> None:
    source = compile("warn('look out')", str(Path(k5.__file__).with_name("made_up.py")), "exec")
    names = {"__name__": "kerash5.made_up", "warn": _warnings.warn}
    with ThreadPoolExecutor(1) as pool, pytest.warns(UserWarning, match="look out") as noted:
        pool.submit(exec, source, names).result()
    assert [Path(one.filename).name for one in noted] == ["made_up.py"]


def test_each_line_of_the_user_is_warned_once_by_default() -> None:
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("default")
        for _ in range(3):
            _warnings.warn("look out")
        _warnings.warn("look out")
    assert len(noted) == 2


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_other_module_warns_by_itself(source: Path) -> None:
    calls = (
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    )
    assert "warnings.warn" not in calls
