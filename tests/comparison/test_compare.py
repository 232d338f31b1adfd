"""What `compare` makes of its arguments, before any process starts."""

import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import FileMissingError, KerasH5Error, OptionError, UnknownColumnError
from kerash5.assets import digits_test, digits_train
from kerash5.comparison._compare import compare, describe_files, find_files, name_contenders
from tests.comparison.contenders import make_contender


def write(path: Path, rows: int = 30, **more: Any) -> str:
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((rows, 4, 4), np.uint8)
        file["label"] = np.zeros(rows, np.int64)
        for name, values in more.items():
            file[name] = values
    return str(path)


def test_a_backend_that_is_named_twice_runs_against_itself() -> None:
    found = name_contenders(["jax", "torch", "jax", "jax"], {"torch": "/there/python"})
    assert [one.name for one in found] == ["jax", "torch", "jax-2", "jax-3"]
    assert [one.backend for one in found] == ["jax", "torch", "jax", "jax"]
    assert [one.python for one in found] == [sys.executable, "/there/python", *[sys.executable] * 2]


def test_the_digits_on_board_are_read_unless_files_are_given(tmp_path: Path) -> None:
    shipped = find_files(None, None, "image", "label")
    assert shipped.train == (str(digits_train()),)
    assert shipped.test == (str(digits_test()),)
    assert shipped.num_rows == 5000
    own = find_files(write(tmp_path / "own.h5"), None, "image", "label")
    assert own.test == ()
    assert own.num_rows == 30


def test_several_files_are_one_and_are_told_without_their_folder(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / f"part-{number}.h5")
    files = find_files(str(tmp_path / "part-*.h5"), None, "image", "label")
    words = describe_files(files)
    assert words == ("part-0.h5, part-1.h5, part-2.h5 and 2 more: 150 rows, x=image, y=label")
    assert all(Path(path).is_absolute() for path in files.train)


def test_no_file_and_no_column_are_errors_before_any_process_starts(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        compare(data=str(tmp_path / "none.h5"), out=tmp_path / "out")
    with pytest.raises(UnknownColumnError):
        compare(data=write(tmp_path / "own.h5"), x="picture", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backends": ("jax", "mxnet")}, "no backend 'mxnet'; choose one of jax"),
        ({"backends": ()}, "no backend is named; name at least one of jax"),
        ({"pythons": {"mxnet": "python"}}, "no backend 'mxnet'"),
        ({"batch_sizes": ()}, r"batch_sizes=\(\); give each size once"),
        ({"batch_sizes": (10, 10)}, "give each size once"),
        ({"batch_sizes": (0,)}, "batch_sizes=0; it is .*: a whole number, at least 1"),
        ({"batch_sizes": (5001,)}, "a batch has 5,001 rows, but the data have 5,000"),
        ({"settings": ("fast",)}, "no setting 'fast'; choose one of plain, tuned"),
        ({"settings": ()}, "give plain, tuned, or both"),
        ({"repeats": 0}, "repeats=0; it is"),
        ({"steps": True}, "steps=True; it is"),
        ({"epochs": 1.5}, "epochs=1.5; it is"),
        ({"threads": -1}, "threads=-1; it is"),
        ({"precision": "float8"}, "no precision 'float8'"),
        ({"seed": "now"}, "seed='now'"),
        ({"timeout_seconds": 0}, "timeout_seconds=0; it must be"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_sentence(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        compare(**{"out": tmp_path / "out", **options})
    assert isinstance(caught.value, KerasH5Error)
    assert not (tmp_path / "out").exists()


def test_compare_is_a_public_name_and_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pythons = {name: make_contender(tmp_path, name).python for name in ("jax", "torch")}
    out = tmp_path / "out"
    found = k5.compare(("jax", "torch"), model="mlp", repeats=2, steps=3, pythons=pythons, out=out)
    assert len(found.samples) == 8
    assert found.method.data == "digits-train.hdf5: 5,000 rows, x=image, y=label"
    assert not re.search(re.escape(str(tmp_path)), found.to_json())
    assert repr(k5.Comparison.load(out)) == repr(found)
    assert "8/8" in capsys.readouterr().err
