"""Check that a source serves what NumPy says its rows are, in whatever way it is asked.

`servings` draws the ways; `assert_serves` reads rows, and a whole epoch of every shard.
"""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Source
from tests.strategies import assert_same_bytes

STORED: Final[dict[str, dict[str, Any]]] = {
    "contiguous": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "chunked": {},
    "lzf": {"compression": "lzf"},
}


@dataclass(frozen=True)
class Serving:
    """How an epoch is read."""

    shuffle: Literal["rows", "chunks", False, "auto"]
    cache: int | str
    threads: int
    batch_size: int
    num_shards: int


def servings() -> st.SearchStrategy[Serving]:
    """Draw a way to read an epoch."""
    return st.builds(
        Serving,
        st.sampled_from(["rows", "chunks", False, "auto"]),
        st.sampled_from([0, 500, 3_000, "auto"]),
        st.sampled_from([0, 2]),
        st.integers(2, 9),
        st.integers(1, 3),
    )


def store(
    path: Path, values: Mapping[str, NDArray[Any]], layout: str, chunk: Sequence[int] = ()
) -> None:
    """Write data sets in one of the ways of `STORED`; `chunk` begins the shape of a chunk."""
    with h5py.File(path, "a") as file:
        for name, array in values.items():
            sizes = [*chunk[: array.ndim], *array.shape[len(chunk) :]]
            sizes = [max(1, min(a, b)) for a, b in zip(sizes, array.shape, strict=True)]
            is_plain = layout == "contiguous" or not array.ndim or not array.size
            options = {} if is_plain else {"chunks": tuple(sizes), **STORED[layout]}
            file.create_dataset(name, data=array, **options)


def assert_serves(
    source: Source, expected: Mapping[str, NDArray[Any]], rows: Sequence[int], serving: Serving
) -> None:
    """Check that a source has these rows, byte for byte, read one by one and as an epoch."""
    assert len(source) == len(next(iter(expected.values())))
    numbers = np.asarray(rows, np.int64) % len(source)
    again: Source = pickle.loads(pickle.dumps(source))
    for one in (source, again):
        for name, found in one.read(numbers).items():
            assert_same_bytes(found, np.ascontiguousarray(expected[name][numbers]))
    assert again.fingerprint() == source.fingerprint()
    count = min(serving.num_shards, len(source))
    served = [assert_epoch(source, expected, serving, (shard, count)) for shard in range(count)]
    assert_array_equal(np.sort(np.concatenate(served)), np.arange(len(source)))


def assert_epoch(
    source: Source,
    expected: Mapping[str, NDArray[Any]],
    serving: Serving,
    shard: tuple[int, int],
) -> NDArray[np.int64]:
    """Check the batches of an epoch; return the rows in it."""
    options = BatchOptions(
        batch_size=serving.batch_size,
        shuffle=serving.shuffle,
        # A window holds at least one chunk.
        cache=serving.cache if serving.shuffle != "chunks" else 100_000,
        threads=serving.threads,
        shard=shard,
    )
    y = "y" if "y" in expected else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chunks that do not fit so small a cache
        batches = open_batches(source, "x", y, None, options)
        rows = [np.empty(0, np.int64)]
        for step, batch in enumerate(batches.epoch(0)):
            rows.append(batches.plan.rows(step))
            for name, found in zip(("x", "y"), batch, strict=False):
                assert_array_equal(found, expected[name][rows[-1]])
    return np.concatenate(rows)
