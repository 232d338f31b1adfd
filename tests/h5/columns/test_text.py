"""`dtype=str`: text as it is, not as class ids."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, OptionError
from kerash5._options import format_columns, parse_columns
from kerash5.batches import _roles
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from tests.column_kinds import check_rows, new_folder, row_lists

WORDS = st.lists(st.sampled_from(["", "a", "öde", "so so", "long " * 50]), min_size=4, max_size=4)


@settings(max_examples=30)
@given(
    data=st.data(),
    parts=st.lists(WORDS, min_size=1, max_size=2),
    is_fixed=st.booleans(),
    chunks=st.sampled_from([None, (3,)]),
)
def test_text_is_what_h5py_reads(data: Any, parts: Any, is_fixed: bool, chunks: Any) -> None:
    whole = np.array([word for words in parts for word in words], object)
    with new_folder() as folder:
        paths = [folder / f"{number}.h5" for number in range(len(parts))]
        for path, words in zip(paths, parts, strict=True):
            kind = h5py.string_dtype(length=300 if is_fixed else None)
            with h5py.File(path, "w") as file:
                stored = [word.encode() for word in words] if is_fixed else words
                file.create_dataset("x", data=stored, dtype=kind, chunks=chunks)
        column = Column("x", dtype=str)
        check_rows(paths, column, whole, data.draw(row_lists(len(whole))))
        for options in ({"cache": 0}, {}, {"cache": 0, "scratch": str(folder)}):
            batches = open_batches(paths, column, None, None, BatchOptions(batch_size=3, **options))
            order = np.concatenate([batches.plan.rows(step) for step in range(len(batches))])
            for _ in range(2):
                found = np.concatenate([np.asarray(batch[0]) for batch in batches.epoch(0)])
                assert_array_equal(found, whole[order])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = ["good film", "bad" * 1000]
        file["n"] = np.arange(2)
        file["table"] = np.array([(b"x", 1), (b"y", 2)], [("name", "S3"), ("v", "i4")])
    return tmp_path / "a.h5"


def test_a_transform_is_called_with_it(path: Path) -> None:
    def count(x: Any, y: Any) -> Any:
        return np.array([len(text) for text in x]), y

    options = BatchOptions(transform=count, shuffle=False)
    (batch,) = open_batches(path, Column("text", dtype=str), "n", None, options).epoch(0)
    assert_array_equal(batch[0], [9, 3000])


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_backends_without_text_refuse_it(
    path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_roles, "loaded_backend", lambda: backend)
    if backend == "tensorflow":
        open_batches(path, Column("text", dtype="str"), "n", None, BatchOptions())
        return
    with pytest.raises(ColumnError, match=rf"on TensorFlow alone, and not on {backend}; make num"):
        open_batches(path, Column("text", dtype="str"), "n", None, BatchOptions())


def test_its_memory_is_counted(path: Path) -> None:
    assert Source(path, x=Column("text", dtype=str)).row_bytes > 1000


def test_fields_are_text_too(path: Path) -> None:
    found = Source(path, x=Column("table", field="name", dtype=str)).read([1, 0])["x"]
    assert found.tolist() == ["y", "x"]


def test_numbers_are_no_text(path: Path) -> None:
    with pytest.raises(OptionError, match="int64 values cannot become <U0"):
        Source(path, x=Column("n", dtype=str))


def test_it_survives_a_config() -> None:
    column = Column("text", dtype=str)
    assert parse_columns(format_columns(column)) == column
