"""Stores of every kind over the same rows, and how tests walk through them."""

import threading
import weakref
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5.batches.cache import (
    AbstractRows,
    DirectRows,
    ResidentBlocks,
    ResidentRows,
    WindowRows,
)
from kerash5.h5 import Source
from kerash5.h5.reading._buffers import _BATCHES, Memory
from kerash5.order._blocks import Blocks
from kerash5.order._plan import Plan

NUM_ROWS: Final = 150


BLOCK_ROWS: Final = 8


ROW_BYTES: Final = 3 * 2 + 8  # of x and y below


BLOCK_BYTES: Final = BLOCK_ROWS * ROW_BYTES


X: Final = np.arange(NUM_ROWS * 3, dtype=np.uint16).reshape(NUM_ROWS, 3)


Y: Final = np.arange(NUM_ROWS, dtype=np.int64) * 7


def make_plan(
    source: Source, batch_size: int = 5, window_blocks: int = 2, rows: Any = None, **options: Any
) -> tuple[Plan, Blocks]:
    blocks = Blocks(source.part_starts, source.block_rows)
    block_starts = blocks.block_starts(rows)
    options = {"shuffle": "chunks", **options}
    plan = Plan(
        NUM_ROWS,
        batch_size,
        rows_to_serve=rows,
        block_starts=block_starts,
        window_blocks=window_blocks,
        **options,
    )
    return plan, blocks


def make_windows(source: Source, **options: Any) -> WindowRows:
    return WindowRows(source, *make_plan(source, **options))


def make_resident(source: Source, **options: Any) -> ResidentRows:
    return ResidentRows(source, *make_plan(source, **options))


def make_direct(source: Source, **options: Any) -> DirectRows:
    return DirectRows(source, make_plan(source, **options)[0], "for a test")


def make_half_direct(source: Source, **options: Any) -> DirectRows:
    plan, blocks = make_plan(source, **options)
    kept = ResidentBlocks(source.select(y="y"), blocks, plan.rows_to_serve)
    return DirectRows(source, plan, "for a test", kept)


def make_one_window(source: Source, **options: Any) -> WindowRows:
    return WindowRows(source, *make_plan(source, **options), max_windows=1)


def make_half_windows(source: Source, **options: Any) -> WindowRows:
    plan, blocks = make_plan(source, **options)
    kept = ResidentBlocks(source.select(y="y"), blocks, plan.rows_to_serve)
    return WindowRows(source, plan, blocks, kept)


def make_spilled(source: Source, **options: Any) -> ResidentRows:
    plan, blocks = make_plan(source, **options)
    return ResidentRows(source, plan, blocks, scratch=str(Path(source.paths[0]).parent))


def make_half_spilled(source: Source, **options: Any) -> ResidentRows:
    plan, blocks = make_plan(source, **options)
    kept = ResidentBlocks(source.select(y="y"), blocks, plan.rows_to_serve)
    folder = str(Path(source.paths[0]).parent)
    return ResidentRows(source, plan, blocks, scratch=folder, pinned=kept)


STORES: Final = {
    "direct": make_direct,
    "half direct": make_half_direct,
    "resident": make_resident,
    "windows": make_windows,
    "one window": make_one_window,
    "half windows": make_half_windows,
    "spilled": make_spilled,
    "half spilled": make_half_spilled,
}


def assert_rows(loaded: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> None:
    assert_array_equal(loaded["x"], X[rows])
    assert_array_equal(loaded["y"], Y[rows])


def walk(
    store: AbstractRows, steps: range, threads: int, *, as_views: bool = False
) -> Generator[tuple[int, Any], None, None]:
    """Take steps as `Batches` does: a few in flight, and the store told of the oldest."""
    with ThreadPoolExecutor(threads) as executor:
        if as_views:
            for step in steps:
                store.advance(step, executor, threads)
                yield step, store.view(step)
            return
        futures = [executor.submit(store.read, step) for step in steps[: threads + 1]]
        for step in steps:
            store.advance(step, executor)
            yield step, futures.pop(0).result()
            coming = step + threads + 1
            if coming in steps:
                futures.append(executor.submit(store.read, coming))


class Counted:
    """Counts the decoded bytes that are alive, and the most there ever were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.live = self.peak = self.total = 0
        self._lock = threading.Lock()
        allocate, lend = Source.allocate, Memory.empty

        def counting(source: Source, num_rows: int) -> dict[str, NDArray[Any]]:
            arrays = allocate(source, num_rows)
            for array in arrays.values():
                self._note(array)
            return arrays

        def lending(memory: Memory, *arguments: Any) -> NDArray[Any]:
            array = lend(memory, *arguments)
            if memory is not _BATCHES:
                self._note(array)
            return array

        monkeypatch.setattr(Source, "allocate", counting)
        monkeypatch.setattr(Memory, "empty", lending)

    def _note(self, array: NDArray[Any]) -> None:
        self._count(array.nbytes)
        weakref.finalize(array, self._count, -array.nbytes)

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self.live += num_bytes
            self.total += max(num_bytes, 0)
            self.peak = max(self.peak, self.live)
