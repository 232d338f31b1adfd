from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerash5._errors import ColumnError, OptionError
from kerash5.h5.storage._file import find_file
from kerash5.h5.storage._names import NamePattern, natural_key


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    names = ["a10", "a2", "b1", "a2b10", "a2b9", "a", "10", "2", "02", "é"]
    expected = ["2", "02", "10", "a", "a2", "a2b9", "a2b10", "a10", "b1", "é"]
    assert sorted(sorted(names), key=natural_key) == sorted(expected, key=natural_key)
    assert sorted(names, key=natural_key).index("a2") < sorted(names, key=natural_key).index("a10")
    assert sorted(["s_10", "s_9", "s_1"], key=natural_key) == ["s_1", "s_9", "s_10"]


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_names_have_one_order(names: list[str]) -> None:
    backwards = list(reversed(names))
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def find(path: str, names: list[str], folder: Path) -> list[str]:
    with h5py.File(folder / "a.h5", "w") as handle:
        for name in names:
            handle.create_group(name)
    file = find_file(folder / "a.h5")
    with file.open() as handle:
        return NamePattern(path, "row").find(file, handle, allow_external=False)


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("s_{row}/image", ["s_10", "s_2", "t_1", "s_"], ["2", "10"]),
        ("{row}", ["b", "a", "10", "9"], ["9", "10", "a", "b"]),
        ("/a/{row}/x/y", ["a/2", "a/1", "b"], ["1", "2"]),
        ("s{row:d}@label", ["s1", "s10", "sum", "s2"], ["1", "2", "10"]),
        ("{row}_of_{row}", ["1_of_1", "1_of_2", "a_of_a"], ["1", "a"]),
        ("a.{row}", ["a.1", "ab2"], ["1"]),
        ("{row}/{row}.png", ["x/x.png"], ["x"]),
    ],
    ids=str,
)
def test_names_that_fit_are_found(
    path: str, names: list[str], expected: list[str], tmp_path: Path
) -> None:
    assert find(path, names, tmp_path) == expected


def test_a_pattern_is_filled_everywhere() -> None:
    assert NamePattern("s_{row}/im_{row:d}@l", "row").fill(r"\1") == r"s_\1/im_\1@l"
    assert NamePattern("/s/{row}/im@l", "row").stem == "s/{row}"


@pytest.mark.parametrize("path", ["image", "image_{part}", "image@{row}", "im{ row }"])
def test_a_pattern_without_its_field_is_refused(path: str) -> None:
    with pytest.raises(OptionError, match=r"has no \{row\}, .* as in 'sample_\{row\}/image'"):
        NamePattern(path, "row")


def test_a_pattern_that_nothing_fits_says_what_there_is(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as handle:
        handle["one/image"] = [1]
    file = find_file(tmp_path / "b.h5")
    with file.open() as handle, pytest.raises(ColumnError, match=r"fits 'two_\{row\}'.*one/image"):
        NamePattern("two_{row}/image", "row").find(file, handle, allow_external=False)
    with file.open() as handle, pytest.raises(ColumnError, match=r"fits 'one/image/\{row\}'"):
        NamePattern("one/image/{row}", "row").find(file, handle, allow_external=False)
