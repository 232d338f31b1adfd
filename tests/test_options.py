"""Options: columns as YAML has them, and back; the defaults of the classes behind them."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kerash5._errors import OptionError
from kerash5._options import DataOptions, format_columns, parse_columns
from kerash5.h5 import Column

PACKAGE: Final = Path(__file__).resolve().parent.parent / "kerash5"

NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1)
LABELS = st.lists(NAMES, min_size=1, unique=True) | st.lists(st.integers(), min_size=1, unique=True)
COLUMNS = st.builds(
    Column,
    path=NAMES,
    shape=st.none() | st.lists(st.integers(0, 99), max_size=3).map(tuple),
    dtype=st.none() | st.sampled_from(["uint8", "float32", "<i8"]),
    one_hot=st.none() | st.integers(1, 99),
    labels=st.none() | LABELS | LABELS.map(lambda values: {v: n for n, v in enumerate(values)}),
)
KEYS = NAMES.filter(lambda name: name != "path")
SPECS = st.recursive(
    NAMES | COLUMNS,
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(tuple)
        | st.dictionaries(KEYS, parts, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


def as_named(spec: Any) -> Any:
    """Return `spec` with columns that say nothing but a path in the short form, and one dtype."""
    if isinstance(spec, Column):
        plain = Column(spec.path) == spec
        dtype = None if spec.dtype is None else str(np.dtype(spec.dtype))
        return (
            spec.path
            if plain
            else Column(
                spec.path, shape=spec.shape, dtype=dtype, one_hot=spec.one_hot, labels=spec.labels
            )
        )
    if isinstance(spec, dict):
        return {key: as_named(part) for key, part in spec.items()}
    return tuple(as_named(part) for part in spec) if isinstance(spec, tuple) else spec


@given(spec=SPECS)
def test_columns_come_back_from_yaml_as_they_were(spec: Any) -> None:
    text = yaml.safe_dump(format_columns(spec), allow_unicode=True)
    assert parse_columns(yaml.safe_load(text)) == as_named(spec)


FORMS: Final[dict[str, tuple[Any, Any]]] = {
    "nothing": (None, None),
    "a path": ("image", "image"),
    "a column that says no more": (Column("image"), "image"),
    "a shape": (Column("i", shape=(2, 3)), {"path": "i", "shape": [2, 3]}),
    "a type as a class": (Column("i", dtype=np.float32), {"path": "i", "dtype": "float32"}),
    "labels in a tuple": (Column("i", labels=("a", "b")), {"path": "i", "labels": ["a", "b"]}),
    "labels as bytes": (Column("i", labels=[b"a"]), {"path": "i", "labels": ["a"]}),
    "labels of NumPy": (
        Column("i", labels=list(np.array([3, 5]))),
        {"path": "i", "labels": [3, 5]},
    ),
    "labels that map numbers": (
        Column("i", labels={np.int64(3): 0}),
        {"path": "i", "labels": {3: 0}},
    ),
    "several": ((Column("a"), "b"), ["a", "b"]),
    "several by name": ({"left": "a", "right": {"x": "b"}}, {"left": "a", "right": {"x": "b"}}),
}


@pytest.mark.parametrize(("spec", "form"), FORMS.values(), ids=FORMS)
def test_the_form_of_columns_in_yaml_is_this(spec: Any, form: Any) -> None:
    formatted = format_columns(spec)
    assert formatted == form
    assert yaml.safe_load(yaml.safe_dump(formatted)) == form


def test_a_setting_that_no_column_has_is_refused_with_the_right_one() -> None:
    with pytest.raises(OptionError, match=r"column .* no option 'shap'; did you mean 'shape'"):
        parse_columns({"path": "image", "shap": [28, 28]})


def test_a_shape_that_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match="shape="):
        parse_columns({"path": "image", "shape": [28.5]})


# `H5Dataset` has options of `DataOptions` too, and imports Keras, so it is read, not loaded.


def constructor_defaults(file: str, name: str) -> dict[str, object]:
    """Return the arguments of a class's constructor that have a plain default."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    made = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name)
    start = next(n for n in made.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    pairs = zip(start.args.kwonlyargs, start.args.kw_defaults, strict=True)
    return {
        argument.arg: ast.literal_eval(default)
        for argument, default in pairs
        if default is not None
    }


def test_a_data_set_and_a_data_module_have_the_same_defaults() -> None:
    of_dataset = constructor_defaults("feeds/_keras.py", "H5Dataset")
    of_module = {field.name: field.default for field in fields(DataOptions)}
    shared = of_dataset.keys() & of_module.keys()
    assert {"batch_size", "shuffle", "cache", "transform", "rows"} <= shared
    assert {name: of_dataset[name] for name in shared} == {name: of_module[name] for name in shared}
