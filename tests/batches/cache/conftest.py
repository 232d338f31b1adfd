"""Fixtures of the tests in this folder."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from kerash5.h5 import Runs, Source, write
from kerash5.order._blocks import Blocks
from tests.batches.cache.stores import BLOCK_ROWS, NUM_ROWS, Counted, X, Y


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Two files of compressed rows, read as one; the first ends inside a block."""
    folder = tmp_path_factory.mktemp("arena")
    for name, rows in (("a.h5", slice(0, 60)), ("b.h5", slice(60, NUM_ROWS))):
        write(folder / name, chunk_rows=BLOCK_ROWS, x=X[rows], y=Y[rows])
    return Source(folder / "*.h5", x="x", y="y")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Count how often each range of rows is loaded."""
    found: Counter[tuple[int, int]] = Counter()
    load_runs, load_rows_to = Source.load_runs, Source.load_rows_to

    def counting_runs(source: Source, runs: Runs, out: Any) -> None:
        found.update((start, stop) for start, stop, _ in runs)
        load_runs(source, runs, out)

    def counting_rows(
        source: Source, rows: Any, out: Any, positions: Any = None, shard: tuple[int, int] = (0, 1)
    ) -> None:
        if shard[0] == 0 and positions is not None:  # None: not a window
            blocks = Blocks(source.part_starts, source.block_rows).of_rows(rows)
            for block in np.unique(blocks):
                some = rows[blocks == block]
                found[int(some[0]), int(some[-1]) + 1] += 1
        load_rows_to(source, rows, out, positions, shard)

    monkeypatch.setattr(Source, "load_runs", counting_runs)
    monkeypatch.setattr(Source, "load_rows_to", counting_rows)
    return found
