"""Class names of several data sets: each id must mean the same class in all data of one model.

A text column numbers its own classes, sorted, so two files with different classes get different
ids. `adopt_classes` gives a data set the ids of another one, and `check_classes` raises if the ids
of two data sets disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from kerash5._errors import ColumnError, LabelError, OptionError
from kerash5._run import Run
from kerash5.batches._roles import ROLES, ColumnSpec, flatten_roles
from kerash5.feeds._served import is_h5dataset, served_by
from kerash5.h5 import Column, Source
from kerash5.h5.columns._columns import ResolvedColumn, assemble_column
from kerash5.h5.columns._given import name_columns
from kerash5.h5.reading._readers import ConstantReader

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset

ClassNames = Mapping[str, tuple[str, ...]]  # by the source's column name: "y", "y/kind"

_ROLES: Final = ("x", "y")
# The class names each model was trained on last. Keras would track and save an attribute.
_TRAINED: Final[WeakKeyDictionary[Any, ClassNames]] = WeakKeyDictionary()


def class_names_of(dataset: H5Dataset) -> ClassNames:
    """Return the class names in order of their ids, for each column of x and y that has names."""
    columns = dataset.source.columns
    return {
        name: names
        for role in _ROLES
        for name in served_by(dataset).column_names(role)
        if (names := columns[name].class_names) is not None
        # Text that a transform gets as text has no ids.
        and (role == "y" or not columns[name].is_named_by_itself)
    }


def adopt_classes(
    path: Any,  # noqa: ANN401  as in `H5Dataset`
    specs: tuple[ColumnSpec | None, ...],
    classes_of: Any,  # noqa: ANN401  a data module, which imports this module
) -> tuple[Any, tuple[Any, ...]]:
    """Give text columns the class ids of the same columns of another data set.

    Args:
        path: Files, or a source.
        specs: The columns of x, y and sample_weight, as given.
        classes_of: An `H5Dataset`, an object whose `train` is one, or a `Run`.

    Returns:
        `path` and `specs`, with `labels` set in the columns that had none and whose counterparts
        have classes.

    Raises:
        OptionError: `classes_of` is something else, or has no classes.
    """
    labels = _find_labels(classes_of)
    if not labels:
        named = "the run" if isinstance(classes_of, Run) else repr(classes_of)
        raise OptionError(
            f"classes_of={named} has no class names, so its ids are the stored numbers; leave "
            "classes_of= out"
        )
    asked = {role: spec for role, spec in zip(ROLES, specs, strict=True) if spec is not None}
    if isinstance(path, Source):
        return _relabel(path, asked, labels), specs
    path, asked = name_columns(path, asked)
    changed = {role: _with_labels(role, spec, labels) for role, spec in asked.items()}
    return path, tuple(changed.get(role) for role in ROLES)


def _find_labels(classes_of: Any) -> dict[str, Any]:  # noqa: ANN401  a data module stands above
    """Return the value for `Column(labels=)` of each column with class names, by column name."""
    if isinstance(classes_of, Run):
        return dict(classes_of.class_names)
    train = getattr(classes_of, "train", classes_of)
    if not is_h5dataset(train):
        raise OptionError(
            f"classes_of={classes_of!r}; give the H5Dataset or the H5DataModule that is trained "
            "on, or the Run of that training"
        )
    return {name: _labels_of(train.source.columns[name]) for name in class_names_of(train)}


def _labels_of(column: ResolvedColumn) -> Any:  # noqa: ANN401  what `Column(labels=)` takes
    if column.labels is None:  # named by groups: the id is the position
        return column.class_names
    return dict(zip(column.labels.values.tolist(), column.labels.ids.tolist(), strict=True))


def _with_labels(name: str, spec: ColumnSpec, labels: Mapping[str, Any]) -> Any:  # noqa: ANN401  the form of `spec`
    if isinstance(spec, str | Column):
        column = Column(spec) if isinstance(spec, str) else spec
        found = labels.get(name) if column.labels is None else None
        return spec if found is None else replace(column, labels=found)
    if isinstance(spec, Mapping):
        return {key: _with_labels(f"{name}/{key}", part, labels) for key, part in spec.items()}
    return tuple(_with_labels(f"{name}/{key}", part, labels) for key, part in enumerate(spec))


def _relabel(source: Source, specs: Mapping[str, ColumnSpec], labels: Mapping[str, Any]) -> Source:
    flat, _ = flatten_roles(specs or {role: role for role in ROLES if role in source.columns})
    columns = dict(source.columns)
    for name, spec in flat.items():
        column = columns.get(str(spec))
        if column is None or name not in labels or column.column.labels is not None:
            continue
        is_grouped = all(isinstance(part, ConstantReader) for part in column.parts)
        if column.labels is None and column.class_names is not None and is_grouped:
            columns[str(spec)] = _rename_groups(column, column.class_names, labels[name], source)
            continue
        asked = replace(column.column, labels=labels[name])
        columns[str(spec)] = assemble_column(
            asked, column.parts, column.storage, column.packing, column.beside
        )
    return source.with_columns(columns)


def _rename_groups(
    column: ResolvedColumn,
    names: tuple[str, ...],
    labels: Any,  # noqa: ANN401  what `Column(labels=)` takes
    source: Source,
) -> ResolvedColumn:
    """Give the groups of `classes_from_groups` the ids of their names in `labels`."""
    ids = dict(labels) if isinstance(labels, Mapping) else {n: i for i, n in enumerate(labels)}
    parts = []
    for part in column.parts:
        old = np.empty(1, np.int64)
        part.read_rows(np.zeros(1, np.int64), old)
        name = names[old[0]]
        if name not in ids:
            raise LabelError(
                f"{source!r} has a group for class {name!r}, which is not among the classes "
                f"{', '.join(map(repr, ids))} of the training data; train with it, or write a file "
                "without that group"
            )
        parts.append(ConstantReader(np.array(ids[name], np.int64), part.num_rows))
    by_id = {number: str(name) for name, number in ids.items()}
    renamed = tuple(by_id.get(number, str(number)) for number in range(max(by_id) + 1))
    return replace(column, parts=tuple(parts), class_names=renamed)


def remember_classes(model: object, train: H5Dataset) -> None:
    """Store the class names of the data that a model is trained on."""
    if model is not None:
        _TRAINED[model] = class_names_of(train)


def recall_classes(model: object, run: Run) -> None:
    """Store the class names of the run that a model was loaded from."""
    _TRAINED[model] = run.class_names


def check_trained_classes(model: object, dataset: H5Dataset, *, has_y: bool = True) -> None:
    """Check that the class ids mean the same as in the model's training data, if those are known.

    Args:
        model: The model, or None.
        dataset: The data to evaluate or predict.
        has_y: Whether the classes of y are checked, as in evaluation.

    Raises:
        ColumnError: A class id means another class.
    """
    known = None if model is None else _TRAINED.get(model)
    if known is not None and not has_y:
        known = {name: names for name, names in known.items() if name.partition("/")[0] == "x"}
    if known:
        _check(known, dataset, "the data that this model was trained on")


def check_classes(train: H5Dataset, other: H5Dataset) -> None:
    """Check that each class id means the same class in both data sets.

    Raises:
        ColumnError: It does not; the message names the id and its two classes.
    """
    _check(class_names_of(train), other, "the training data")


def _check(known: ClassNames, dataset: H5Dataset, whose: str) -> None:
    for name, found in class_names_of(dataset).items():
        wanted = known.get(name)
        if wanted is None or wanted[: len(found)] == found[: len(wanted)]:
            continue
        number = next(
            i for i, pair in enumerate(zip(found, wanted, strict=False)) if len({*pair}) > 1
        )
        raise ColumnError(
            f"class id {number} is {found[number]!r} in {dataset.source!r} and {wanted[number]!r} "
            f"in {whose}, so one id would mean two things; give both the same classes: open these "
            "data with H5Dataset(..., classes_of=train), where train is the data trained on or "
            "Run.load(run_dir), or both with the same "
            f"Column({dataset.source.columns[name].column.path!r}, labels=[...])"
        )
