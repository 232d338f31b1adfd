"""`file=`: a column that lies in other files than the source, row by row and file by file."""

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, FileChangedError, FileMissingError, OptionError
from kerash5._options import format_columns, parse_columns
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from kerash5.h5._source import modified_ns
from tests.column_kinds import check_rows, new_folder, numbered, row_lists


def write(folder: Path, lengths: list[int], name: str = "y") -> list[Path]:
    paths = []
    for number, values in enumerate(np.split(numbered((sum(lengths),)), np.cumsum(lengths)[:-1])):
        paths.append(folder / f"{name}{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            file[name] = values
    return paths


@settings(max_examples=20)
@given(
    data=st.data(),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    as_pattern=st.booleans(),
)
def test_rows_are_matched_file_by_file(data: Any, lengths: list[int], as_pattern: bool) -> None:
    with new_folder() as folder:
        paths, others = write(folder, lengths, "x"), write(folder, lengths)
        file = str(folder / "y*.h5") if as_pattern else others
        expected = numbered((sum(lengths),))
        rows = data.draw(row_lists(sum(lengths)))
        check_rows(paths, Column("y", file=file), expected, rows)
        both = Source(paths, x="x", y=Column("y", file=file, select=...))
        found = pickle.loads(pickle.dumps(both)).read(rows)
        assert_array_equal(found["x"], found["y"])
        batches = open_batches(paths, "x", Column("y", file=file), None, BatchOptions())
        for x, y in batches.epoch(0):
            assert_array_equal(x, y)


def test_lengths_are_compared_file_by_file(tmp_path: Path) -> None:
    paths, others = write(tmp_path, [2, 3], "x"), write(tmp_path, [3, 2])
    with pytest.raises(ColumnError, match=r"'x' has 2 rows in '.*x0\.h5', 'y' 3 in '.*y0\.h5'"):
        Source(paths, x="x", y=Column("y", file=others))


def test_as_many_files_are_asked_for(tmp_path: Path) -> None:
    paths, others = write(tmp_path, [2, 3], "x"), write(tmp_path, [5])
    with pytest.raises(ColumnError, match=r"lies in 1 files .* and the source has 2; give one"):
        Source(paths, x="x", y=Column("y", file=others))


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    paths, others = write(tmp_path, [2], "x"), write(tmp_path, [2])
    source = Source(paths, x="x", y=Column("y", file=others[0]))
    assert len(modified_ns(source)) == 2
    source.close()
    with h5py.File(others[0], "r+") as file:
        file["more"] = np.zeros(1000)
    with pytest.raises(FileChangedError, match=r"y0\.h5"):
        source.read([0])


def test_described_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    paths, others = write(tmp_path, [2, 3], "x"), write(tmp_path, [2, 3])
    source = Source(paths, x="x", y=Column("y", file=others), untrusted=True)
    assert f"of {str(others[0])!r} and 1 more" in source.describe()
    columns: Any = source.fingerprint()["columns"]
    assert [name for name, _ in columns["y"][3]["file"]] == ["y0.h5", "y1.h5"]
    assert source.select(y="y").read([4])["y"] == 4


def test_it_survives_a_config(tmp_path: Path) -> None:
    for file in ("a*.h5", ["a.h5", "b.h5"], tmp_path / "a.h5"):
        column = Column("y", file=file)
        assert parse_columns(format_columns(column)) == column


@pytest.mark.parametrize("file", [3, [], [3], {"a.h5"}, b"a.h5"], ids=repr)
def test_what_is_no_file_is_refused_at_once(file: Any) -> None:
    with pytest.raises(OptionError, match="it is the path of the file that the column lies in"):
        Column("y", file=file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"nowhere\.h5"):
        Source(write(tmp_path, [2], "x"), y=Column("y", file=tmp_path / "nowhere.h5"))
