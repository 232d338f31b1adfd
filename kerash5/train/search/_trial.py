"""The child process of the batch-size search: load a model, train a few steps, send the result."""

from __future__ import annotations

import sys
import time
import warnings
from itertools import count, islice
from multiprocessing.connection import Connection
from typing import Any

import keras

from kerash5.batches._batches import Batch
from kerash5.feeds._keras import H5Dataset
from kerash5.train.engines import make_engine

_WARM_STEPS = 1  # compiles


def run_trial(
    pipe: Connection, model_path: str, dataset: H5Dataset, batch_size: int, num_steps: int
) -> None:
    """Train some steps and send the result: first "began", then the fields of a `Trial`."""
    pipe.send("began")
    try:
        found = _measure(model_path, dataset, batch_size, num_steps)
    except Exception as error:  # noqa: BLE001  any error means that this batch size fails
        found = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    pipe.send(found)
    pipe.close()


def _measure(
    model_path: str, dataset: H5Dataset, batch_size: int, num_steps: int
) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer was saved before it had variables
        model = keras.models.load_model(model_path)
    rows = dataset.plan.rows_to_serve
    data = dataset.select_rows(rows, batch_size=batch_size)
    engine = make_engine(model)
    feed = (batch for epoch in count() for batch in data.batches(epoch))
    engine.build(data.read(0))
    engine.reset_metrics()
    engine.begin()
    engine.train(list(islice(feed, _WARM_STEPS)))
    engine.metrics()  # synchronizes with the device
    began, num_rows = time.perf_counter(), 0
    for batch in islice(feed, num_steps):
        engine.train([batch])
        num_rows += _num_rows(batch)
    engine.metrics()
    seconds = time.perf_counter() - began
    return {"rows_per_second": num_rows / seconds, "peak_bytes": _peak_bytes()}


def _num_rows(batch: Batch) -> int:
    return len(keras.tree.flatten(batch)[0])


def _peak_bytes() -> int:
    """Return the peak memory of this process in bytes; 0 if the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
