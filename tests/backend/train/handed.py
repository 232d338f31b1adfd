"""Looks on at what a trainer hands to its engine: batches, or positions of rows on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerash5.batches._batches import Batch
from kerash5.train.engines import AbstractEngine, make_engine


def engines_that_tell(note: Callable[[NDArray[Any]], None]) -> Callable[..., AbstractEngine]:
    """Return `make_engine` for engines that tell of the x of each batch before they train on it."""

    def make(*args: Any, **options: Any) -> AbstractEngine:
        engine = make_engine(*args, **options)
        train, put_rows, train_rows = (
            engine.train,
            engine.put_rows_on_device,
            engine.train_on_device_rows,
        )
        on_device: list[NDArray[Any]] = []

        def watched(batches: Sequence[Batch]) -> None:
            for batch in batches:
                note(batch[0])
            train(batches)

        def watched_put(rows: Batch) -> None:
            on_device[:] = [np.array(rows[0])]
            put_rows(rows)

        def watched_rows(positions: Sequence[NDArray[np.int32]]) -> None:
            for each in positions:
                note(on_device[0][each])
            train_rows(positions)

        for name, call in {
            "train": watched,
            "put_rows_on_device": watched_put,
            "train_on_device_rows": watched_rows,
        }.items():
            setattr(engine, name, call)
        return engine

    return make
