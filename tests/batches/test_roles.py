"""What a model cannot take is refused before the first batch, with what to do about it."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, OptionError
from kerash5.batches._batches import Batches, BatchOptions, open_batches
from kerash5.h5 import Column, Source

TEXTS = ["good film", "bad", "so-so", "bad", "öde"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["c"] = np.array([[1 + 2j, 3], [4, 5j], [0, 1], [2, 3], [7, 8j]], "c8")
        file["long"] = np.arange(5).astype(np.longdouble)
        file["n"] = np.arange(5)
        file.create_dataset("text", data=TEXTS, dtype=h5py.string_dtype())
        file["bytes"] = np.array([text.encode() for text in TEXTS])
    return tmp_path / "a.h5"


def open_all(path: Path, x: Any = "n", y: Any = "n", **options: Any) -> Batches:
    chosen = BatchOptions(**{"shuffle": False, "threads": 0, **options})
    return open_batches(path, x, y, None, chosen)


@pytest.mark.parametrize("specs", [{"x": "c"}, {"y": "c"}, {"x": {"a": "n", "b": "c"}}], ids=str)
def test_complex_values_are_refused_without_a_transform(path: Path, specs: Any) -> None:
    with pytest.raises(
        ColumnError, match="has complex64 values, whose imaginary parts Keras would drop"
    ):
        open_all(path, **specs)


def test_a_transform_makes_real_numbers_of_complex_ones(path: Path) -> None:
    batches = open_all(path, "c", transform=lambda x, y: (np.stack([x.real, x.imag], -1), y))
    x, _ = batches.read(0)
    assert_array_equal(x[0], [[1, 2], [3, 0]])
    with pytest.raises(ColumnError, match="has complex64 values"):
        batches.with_rows(None, transform=None)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": x}, lambda x: (x, x)])
def test_a_transform_that_leaves_complex_values_is_named(path: Path, wrap: Any) -> None:
    batches = open_all(path, "c", transform=lambda x, y: (wrap(x), y))
    with pytest.raises(OptionError, match=r"returned complex64 values for x\S*, whose"):
        batches.read(0)


def test_a_source_reads_complex_values(path: Path) -> None:
    assert Source(path, c="c").read([0])["c"].tolist() == [[1 + 2j, 3]]


def test_extended_precision_names_its_cure(path: Path) -> None:
    cure = "which no backend supports; cast them: Column('long', dtype='float64')"
    with pytest.raises(ColumnError, match=re.escape(cure)):
        open_all(path, "long")
    (x, _) = open_all(path, Column("long", dtype="float64")).read(0)
    assert (x.dtype, x.tolist()) == (np.float64, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("name", ["text", "bytes"])
@pytest.mark.parametrize("nest", [lambda x: x, lambda x: {"a": "n", "b": x}], ids=["one", "dict"])
def test_text_is_no_input_unless_somebody_says_how(path: Path, name: str, nest: Any) -> None:
    with pytest.raises(ColumnError, match="has text, which would become class ids, but only"):
        open_all(path, nest(name))
    with pytest.raises(ColumnError, match="has text"):
        open_all(path, nest(Column(name, dtype="float32")))


def test_text_of_a_source_is_no_input_either(path: Path) -> None:
    with pytest.raises(ColumnError, match="has text"):
        open_batches(Source(path, x="text", y="n"), None, None, None, BatchOptions())


def test_text_is_an_input_where_its_ids_are_said(path: Path) -> None:
    labels = ["bad", "so-so", "good film", "öde"]
    (x, _) = open_all(path, Column("text", labels=labels)).read(0)
    assert x.tolist() == [2, 0, 1, 0, 3]
    (x, _) = open_all(path, Column("text", one_hot=4)).read(0)
    assert x.argmax(axis=1).tolist() == [1, 0, 2, 0, 3]


def test_text_stays_a_label(path: Path) -> None:
    (_, y) = open_all(path, "n", "text").read(0)
    assert y.tolist() == [1, 0, 2, 0, 3]


@pytest.mark.parametrize("name", ["text", "bytes"])
@pytest.mark.parametrize("options", [{}, {"cache": 0}, {"shuffle": "rows", "threads": 2}], ids=str)
def test_a_transform_is_called_with_the_text_itself(path: Path, name: str, options: Any) -> None:
    seen: list[str] = []

    def encode(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.extend(x)
        return np.array([len(text) for text in x]), y

    served: dict[int, int] = {}
    for x, y in open_all(path, name, transform=encode, batch_size=2, **options).epoch(0):
        served |= dict(zip(y.tolist(), x.tolist(), strict=True))
    assert [served[row] for row in range(5)] == [len(text) for text in TEXTS]
    assert sorted(seen) == sorted(TEXTS)


def test_arrays_as_columns_name_the_function_that_writes_them(path: Path) -> None:
    with pytest.raises(OptionError, match=r"^x/a=an array of shape \(5, 2\);.*; k5\.write writes"):
        open_all(path, {"a": np.zeros((5, 2))})
