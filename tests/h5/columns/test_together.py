"""Columns of one data set are read once, and held once where they are the same rows."""

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from kerash5.h5.columns._together import group_columns
from tests.column_kinds import new_folder, numbered, row_lists

CUTS: dict[str, Any] = {
    "whole": None,
    "left": slice(2),
    "last": -1,
    "some": [2, 0],
}


@settings(max_examples=30)
@given(
    data=st.data(),
    names=st.lists(st.sampled_from(sorted(CUTS)), min_size=2, max_size=4),
    chunks=st.sampled_from([None, (3, 2), (4, 4)]),
    cache=st.sampled_from([0, "auto"]),
    num_parts=st.integers(1, 2),
)
def test_each_column_is_what_it_is_alone(
    data: Any, names: list[str], chunks: Any, cache: Any, num_parts: int
) -> None:
    whole = numbered((5 * num_parts, 4), "i4")
    with new_folder() as folder:
        paths = [folder / f"{number}.h5" for number in range(num_parts)]
        for path, values in zip(paths, np.split(whole, num_parts), strict=True):
            with h5py.File(path, "w") as file:
                file.create_dataset("m", data=values, chunks=chunks)
                file["text"] = ["a", "b", "a", "b", "c"]
        columns: dict[str, Any] = {
            f"c{number}": Column("m", select=CUTS[name]) for number, name in enumerate(names)
        }
        expected = {
            key: whole if name == "whole" else whole[:, CUTS[name]]
            for key, name in zip(columns, names, strict=True)
        }
        source = Source(list(paths), t="text", **columns)
        assert [len(group) for group in group_columns(source.columns, 0)] == [1, len(names)]
        rows = data.draw(row_lists(len(whole)))
        for one in (source, pickle.loads(pickle.dumps(source))):
            found = one.read(rows)
            for key, values in expected.items():
                assert_array_equal(found[key], values[rows])
        options = BatchOptions(batch_size=3, cache=cache, threads=1)
        batches = open_batches(source, {key: key for key in columns}, "t", None, options)
        order = np.concatenate([batches.plan.rows(step) for step in range(len(batches))])
        for _ in range(2):
            made = [batch[0] for batch in batches.epoch(0)]
            for key, values in expected.items():
                assert_array_equal(np.concatenate([x[key] for x in made]), values[order])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", data=numbered((20, 6), "u1"), chunks=(5, 6), compression=1)
        table = np.zeros(20, [("a", "f4"), ("b", "i4")])
        table["a"], table["b"] = np.arange(20), np.arange(20) * 2
        file["table"] = table
    return tmp_path / "a.h5"


def count_reads(source: Source, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many rows are read of the data set, each time."""
    reader = source.columns["x"].parts[0]
    root: Any = getattr(reader, "base", reader)
    found: list[int] = []
    read = root.read_rows

    def note(rows: Any, *args: Any, **more: Any) -> None:
        found.append(len(rows))
        read(rows, *args, **more)

    monkeypatch.setattr(root, "read_rows", note)
    return found


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("image", "image"),
        (Column("image", select=slice(-1)), Column("image", select=-1)),
        (Column("image", shape=(2, 3)), Column("image", dtype="float32")),
        ("table:a", "table:b"),
    ],
    ids=["same", "cut", "shaped", "fields"],
)
def test_their_rows_are_read_once(
    path: Path, x: Any, y: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(path, x=x, y=y)
    found = count_reads(source, monkeypatch)
    both = source.read([3, 1, 1])
    assert found == [3]
    alone = {name: Source(path, **{name: column}) for name, column in (("x", x), ("y", y))}
    for name, one in alone.items():
        assert_array_equal(both[name], one.read([3, 1, 1])[name])


def test_the_same_rows_are_held_once_and_served_apart(path: Path) -> None:
    source = Source(path, x="image", y="image")
    arrays = source.allocate(4)
    assert arrays["x"] is arrays["y"]
    batches = open_batches(source, None, None, None, BatchOptions(batch_size=4, shuffle=False))
    for x, y in batches.epoch(0):
        assert not np.shares_memory(x, y)  # a transform may write to one
        assert_array_equal(x, y)
    apart = Source(path, x="image", y=Column("image", select=slice(-1))).allocate(4)
    assert apart["x"].shape != apart["y"].shape
