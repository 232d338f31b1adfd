"""What the tests of the contract with Keras share: numbered rows, and a model that keeps a ledger.

The ledger is an embedding with one weight per row, whose loss is the sum of what it answers. SGD
then takes the learning rate of a step from the weight of each row served in that step, and the
rates are such that the weights tell afterwards in which batches each row came. Nothing is recorded
on the way: data set, threads and compiled training step are those of any other model.
"""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

import kerash5 as k5
from kerash5.batches.cache import DirectRows, ResidentRows, WindowRows
from kerash5.feeds._served import served_by

NUM_ROWS: Final = 103
BATCH_SIZE: Final = 10
STEPS: Final = 11  # in an epoch; the last batch has three rows
_BASE: Final = 16  # more than batches in an epoch
_MAX_EPOCHS: Final = 5  # float32 is exact for six such digits

CHUNK_ROWS: Final = 8
# Room for two windows of two chunks each, and not for all rows.
WINDOW_CACHE: Final = 2 * 2 * CHUNK_ROWS * (8 + 16)
STORES: Final[dict[str, type]] = {
    "contiguous": DirectRows,
    "resident": ResidentRows,
    "windowed": WindowRows,
}


def write_rows(folder: Path, kind: str) -> str:
    """Write rows whose x is their number and whose y is 0, unless done; return the path."""
    path = folder / f"{kind}.h5"
    if not path.exists():
        x, y = np.arange(NUM_ROWS, dtype=np.int32), np.zeros((NUM_ROWS, 1), np.float32)
        if kind == "contiguous":
            k5.write(path, x=x, y=y, compression=None)
        else:
            k5.write(path, x=x, y=y, chunk_rows=CHUNK_ROWS)
    return str(path)


def open_rows(folder: Path, kind: str = "contiguous", **options: Any) -> k5.H5Dataset:
    """Return a data set of such a file, read in the way that `kind` names."""
    caches = {"windowed": WINDOW_CACHE, "contiguous": 0}
    if kind in caches:
        options = {"cache": caches[kind], **options}
    path = write_rows(folder, kind)
    ds = k5.H5Dataset(path, **{"x": "x", "y": "y", "batch_size": BATCH_SIZE, **options})
    assert isinstance(served_by(ds).batches.training._store, STORES[kind])
    return ds


class _Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The digit "index of the batch, counted from 1" at the place of the epoch, in base 16."""

    def __init__(self, steps: int) -> None:
        rates = [make_rate(step, steps) for step in range(_MAX_EPOCHS * steps)]
        self.rates = np.array(rates, np.float32)

    def __call__(self, step: Any) -> Any:
        rates = keras.ops.convert_to_tensor(self.rates)
        return keras.ops.take(rates, keras.ops.cast(step, "int32"))


def make_rate(step: int, steps: int) -> int:
    """Return the learning rate of the model's `step`, in epochs of `steps`."""
    epoch, index = divmod(step, steps)
    return (index + 1) * int(_BASE**epoch)


class Subclassed(keras.Model):
    def __init__(self, embed: keras.layers.Layer) -> None:
        super().__init__()
        self.embed = embed

    def call(self, x: Any) -> Any:
        return self.embed(x)


def _functional(embed: keras.layers.Layer) -> keras.Model:
    x = keras.Input((), dtype="int32")
    return keras.Model(x, embed(x))


MODELS: Final[dict[str, Callable[[keras.layers.Layer], keras.Model]]] = {
    "functional": _functional,
    "sequential": lambda embed: keras.Sequential([embed]),  # not built before it sees a batch
    "subclassed": Subclassed,
}


class Ledger:
    """A compiled model, and what was served to it.

    Args:
        steps: Training steps in an epoch.
        kind: One of `MODELS`.
        **options: Of `compile`.
    """

    def __init__(self, steps: int = STEPS, kind: str = "functional", **options: Any) -> None:
        self._steps = steps
        self._embed = keras.layers.Embedding(NUM_ROWS, 1, embeddings_initializer="zeros")
        self.model = MODELS[kind](self._embed)
        self.model.compile(
            optimizer=keras.optimizers.SGD(_Rates(steps)), loss=_sum_of_answers, **options
        )

    def fit(self, ds: Any, **options: Any) -> Any:
        """Train in silence; return Keras' history."""
        return self.model.fit(ds, **{"verbose": 0, **options})

    @property
    def served(self) -> list[int]:
        """For each row, the sum of the rates of the steps it was served in."""
        (weights,) = self._embed.get_weights()
        return [round(value) for value in (-weights[:, 0]).tolist()]

    def expect(self, batches: Iterable[NDArray[np.int64]]) -> list[int]:
        """Return what `served` is after training on these row numbers, batch by batch."""
        ledger = np.zeros(NUM_ROWS, np.int64)
        for step, rows in enumerate(batches):
            np.add.at(ledger, rows, make_rate(step, self._steps))
        return ledger.tolist()


def _sum_of_answers(y: Any, answer: Any) -> Any:
    return keras.ops.sum(answer) + 0 * keras.ops.sum(y)


def planned(ds: k5.H5Dataset, *epochs: int) -> list[NDArray[np.int64]]:
    """Return the row numbers of each batch of these epochs, as planned."""
    each = len(ds)
    return [ds.plan.rows(step) for e in epochs for step in range(e * each, (e + 1) * each)]


class Recorder:
    """A transform that remembers the x of each batch; in order where `threads=0`."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        self.seen.append(x.tolist())
        return x, y

    def rows(self, count: int) -> list[int]:
        """Return the x of the last `count` batches, one after another."""
        return [row for batch in self.seen[-count:] for row in batch]


def reading_threads(patience: float = 5.0) -> list[str]:
    """Return the names of our reading threads that are still there after a while."""
    end = time.monotonic() + patience
    while True:
        names = [t.name for t in threading.enumerate() if t.name.startswith("kerash5-read")]
        if not names or time.monotonic() > end:
            return names
        time.sleep(0.01)
