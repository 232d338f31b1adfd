"""The data sets of a trainer by role, and calls of Keras with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from kerash5._errors import OptionError, RunError
from kerash5.feeds._class_names import check_classes
from kerash5.feeds._held_out import read_class_ids
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._keras_loops import OWN_ROWS
from kerash5.feeds._module import H5DataModule
from kerash5.feeds._overlap import check_no_overlap
from kerash5.feeds._served import served_by
from kerash5.h5 import Source
from kerash5.order._balance import balanced_weights

Data = H5DataModule | H5Dataset
T = TypeVar("T")


def parts(
    data: Data, validation: H5Dataset | None = None
) -> tuple[H5Dataset, H5Dataset | None, H5Dataset | None]:
    """Return the data sets for training, validation and test.

    Args:
        data: A data module, or the training data set.
        validation: The validation data set, if `data` is a data set.

    Raises:
        OptionError: `data` is neither a data module nor a data set, or both arguments give
            validation data.
    """
    _check_kind(data)
    if isinstance(data, H5Dataset):
        if validation is not None:
            _check_validation(data, validation)
        return data, validation, None
    if validation is not None:
        raise OptionError(
            "a data module says itself what to validate on, and validation= was given too; give "
            "H5DataModule(..., validation_data=), or two H5Datasets"
        )
    return data.train, data.validation, data.test


def _check_validation(train: H5Dataset, validation: object) -> None:
    if not isinstance(validation, H5Dataset):
        raise OptionError(
            f"validation is a {type(validation).__name__}; give an H5Dataset, or an H5DataModule "
            "that holds both"
        )
    check_classes(train, validation)
    check_no_overlap(train, validation, task="validate", cure=OWN_ROWS)


def choose(data: Data, role: str) -> H5Dataset:
    """Return the data set of a role; a data set is returned unchanged.

    Raises:
        RunError: The data module has no data for this role.
        OptionError: `data` is neither a data module nor a data set.
    """
    _check_kind(data)
    if isinstance(data, H5Dataset):
        return data
    found: H5Dataset | None = getattr(data, role)
    if found is None:
        option = {"validation": "validation_split= or validation_data"}.get(role, role)
        raise RunError(f"the data module has no {role} data; give H5DataModule {option}=")
    return found


def _check_kind(data: object) -> None:
    if isinstance(data, H5DataModule | H5Dataset):
        return
    kind = type(data).__name__
    cure = "give an H5DataModule or an H5Dataset"
    if isinstance(data, str | os.PathLike | Source):
        cure += f", such as H5DataModule({data!r}, x=..., y=..., validation_split=0.2)"
    else:
        cure += "; model.fit takes arrays in memory, and k5.write puts them into a file"
    raise OptionError(f"data is a {kind}, and a Trainer reads HDF5 files: {cure}")


def check_has_labels(data: Data, test: H5Dataset) -> None:
    """Raise `RunError` if the test data have no labels to compare predictions with.

    Args:
        data: The data given to the trainer.
        test: The test data set.
    """
    if not isinstance(data, H5DataModule) or served_by(test).has_labels:
        return
    train = served_by(data.train)
    if train.has_labels:
        raise RunError(
            f"the test data have no {train.column_path('y')!r} in {test.source.paths[0]!r}, "
            "so there is nothing to compare with; call predict, or give a test file with labels"
        )


def balance_weights(train: H5Dataset) -> dict[int, float]:
    """Return class weights that give all classes of the served rows the same total weight.

    Raises:
        OptionError: y is not a single column of class labels, or a transform may change it.
    """
    is_transformed = served_by(train).is_transformed
    if served_by(train).num_stored_classes is None or is_transformed:
        reason = "a transform may change y" if is_transformed else "y holds no class labels"
        raise OptionError(
            f"class_weight='balanced' counts the labels of the file, and {reason}; give a dict of "
            "class number -> weight"
        )
    return balanced_weights(read_class_ids(train))


def first_batches(dataset: H5Dataset, count: int) -> H5Dataset:
    """Return the data set of the first `count` batches, in the given order, for evaluation."""
    if count >= len(dataset):
        return dataset
    rows = dataset.plan.served_rows[: count * dataset.batch_size]
    return dataset.select_rows(rows, shuffle=False, drop_last=False)


def describe_data(data: Data, validation: H5Dataset | None = None) -> dict[str, Any]:
    """Return the description of the data in config.yaml."""
    if isinstance(data, H5DataModule):
        return data.config()
    described = {"described": data.describe()}
    return described if validation is None else {**described, "validation": validation.describe()}


def call_keras(function: Callable[[], T], *datasets: H5Dataset | None) -> T:
    """Call Keras; if a data set failed, raise its own error, which TensorFlow replaces."""
    used = [dataset for dataset in datasets if dataset is not None]
    for dataset in used:
        served_by(dataset).loop_error = None
    try:
        return function()
    except Exception as error:
        for dataset in used:
            met = served_by(dataset).loop_error
            if met is not None and met is not error:
                raise met from error
        raise
    finally:
        for dataset in used:
            dataset.release()  # TensorFlow references the data set, with its threads and windows
