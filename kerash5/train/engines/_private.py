"""All that the engines use of Keras and PyTorch without a promise that it stays.

Each function here first looks whether what it wants is there, and has a plain way where it is not;
the tests force both. Nothing else in this room may name what begins with an underscore there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from kerash5._batches import Batch


def build_variables(model: keras.Model, batch: Batch) -> None:
    """Make every variable of a compiled model, its metrics and its optimizer. Runs no step."""
    build = getattr(model, "_symbolic_build", None)
    if build is not None:
        padded = (*batch, None, None)[:3]
        build(data_batch=padded)
    else:  # the public way: costs a compilation of the test step
        with restored_metrics(model):
            model.test_on_batch(*batch)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


@contextmanager
def restored_metrics(model: keras.Model) -> Iterator[None]:
    """Leave the metrics' variables as they were."""
    kept = [(variable, keras.ops.copy(variable)) for variable in model.metrics_variables]
    try:
        yield
    finally:
        model.reset_metrics()
        for variable, value in kept:
            variable.assign(value)


@contextmanager
def running_metrics(model: keras.Model) -> Iterator[None]:
    """Keep `train_on_batch` from beginning the averages anew at each batch.

    It calls the public `reset_metrics` of the model, for which an instance may have its own.
    """
    vars(model)["reset_metrics"] = lambda: None
    try:
        yield
    finally:
        del vars(model)["reset_metrics"]
