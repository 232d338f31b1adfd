"""Groups of a file as parts of one source."""

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import kerash5 as k5
from kerash5._errors import ColumnError, UnknownColumnError
from tests.served import STORED, Serving, assert_serves, servings, store


@given(
    counts=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=11), min_size=1, max_size=2),
    layout=st.sampled_from(list(STORED)),
    chunk=st.integers(1, 6),
    rows=st.lists(st.integers(0, 1000), max_size=20),
    serving=servings(),
)
def test_groups_are_parts_in_natural_order(
    counts: list[list[int]], layout: str, chunk: int, rows: list[int], serving: Serving
) -> None:
    expected: dict[str, list[NDArray[Any]]] = {"x": [], "y": []}
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for number, lengths in enumerate(counts):
            for part, length in enumerate(lengths):
                rng = np.random.default_rng(len(expected["x"]))
                found = {"x": rng.random((length, 2)), "y": rng.integers(0, 9, length)}
                named = {f"fold{part}/{name}": array for name, array in found.items()}
                store(Path(folder) / f"{number}.h5", named, layout, [chunk])
                for name, array in found.items():
                    expected[name].append(array)
        source = k5.Source(f"{folder}/*.h5", x="fold{part}/x", y="fold{part}/y")
        joined = {name: np.concatenate(arrays) for name, arrays in expected.items()}
        assert_serves(source, joined, rows, serving)
        lengths = [length for each in counts for length in each]
        assert source.part_starts.tolist() == [0, *np.cumsum(lengths).tolist()]
        assert len(source.paths) == len(counts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for part in range(1, 12):
            file[f"fold{part}/x"] = np.full((2, 3), part)
            file[f"fold{part}/y"] = [f"class {part}", "class 0"]
        file["labels"] = np.arange(22)
    return tmp_path / "a.h5"


def test_text_has_one_class_id_in_all_parts(path: Path) -> None:
    source = k5.Source(path, x="fold{part}/x", y=k5.Column("fold{part}/y"))
    assert source.class_names is not None
    found = source.read([20, 21, 1])
    assert found["x"][:, 0].tolist() == [11, 11, 1]
    assert [source.class_names[i] for i in found["y"]] == ["class 11", "class 0", "class 0"]


def test_parts_are_described_and_belong_to_the_fingerprint(path: Path) -> None:
    source = k5.Source(path, x="fold{part}/x")
    assert "11 parts 'fold{part}/x', in natural order: 1, 2, 3, 4, 5, 6, 7, 8, ..." in (
        source.describe()
    )
    assert "22 rows in 1 file" in source.describe()
    assert source.fingerprint() != k5.Source(path, x="fold1{part}/x").fingerprint()


def test_a_wrong_value_is_named_by_its_row(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["fold3/x"][1] = 300
    source = k5.Source(path, x=k5.Column("fold{part}/x", dtype="uint8"))
    with pytest.raises(ColumnError, match=r"row 5 of '.*a\.h5'"):
        source.read([5])


def test_untrusted_parts_are_looked_at(path: Path) -> None:
    assert len(k5.Source(path, x="fold{part}/x", untrusted=True)) == 22


def test_parts_that_differ_are_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["fold12/x"] = np.zeros((2, 4), "i8")
    with pytest.raises(
        ColumnError, match=r"\(3,\) int64 in 'fold1/x' .*, of shape \(4,\) int64 in 'fold12/x'"
    ):
        k5.Source(path, x="fold{part}/x")
    with pytest.raises(UnknownColumnError, match="fold12/y"):
        k5.Source(path, x="fold{part}/x", y="fold{part}/y")
    with h5py.File(path, "r+") as file:
        del file["fold12"]
        del file["fold7/y"]
        file["fold7/y"] = ["class 1"]
    with pytest.raises(ColumnError, match=r"'fold7/x' has 2 rows, 'fold7/y' 1"):
        k5.Source(path, x="fold{part}/x", y="fold{part}/y")


def test_columns_agree_in_which_parts_there_are(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"column y='labels' has no \{part\}, and others have"):
        k5.Source(path, x="fold{part}/x", y="labels")
    with h5py.File(path, "r+") as file:
        file["x_1"] = file["x_2"] = file["y_1"] = np.zeros(3)
    with pytest.raises(ColumnError, match="there is 'x_2' and no 'y_2'"):
        k5.Source(path, x="x_{part}", y="y_{part}")
    with pytest.raises(ColumnError, match=r"nothing in .*a\.h5' fits 'split\{part\}'"):
        k5.Source(path, x="split{part}/x")
