"""The cache option: bytes, a size, a fraction of free memory; what is given back to it."""

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from kerash5._errors import OptionError
from kerash5.batches.cache import (
    AUTO_CACHE_BYTES,
    parse_cache,
)
from kerash5.h5 import Source
from kerash5.h5.reading import _buffers
from tests.batches.cache.stores import STORES, make_plan, make_windows, walk

# The cache


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets the free memory."""

    def pretend(num_bytes: int) -> None:
        memory = psutil.virtual_memory()._replace(available=num_bytes)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    pretend(10**12)
    return pretend


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("cache", "num_bytes"),
    [
        *((0, 0), (1, 1), (12_345, 12_345), (np.int64(7), 7), (2e9, 2 * 10**9)),
        *(("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("2G", 2 * 10**9), ("1.5kB", 1500)),
        *(("512 MiB", 512 << 20), ("512mi", 512 << 20), (" 3 TiB ", 3 << 40), ("1 KiB", 1024)),
        *(("100", 100), ("100 B", 100), ("0", 0)),
        *((0.5, 5 * 10**11), (1.0, 10**12), (np.float32(0.25), 25 * 10**10), (0.0, 0)),
        *(("0.5", 5 * 10**11), ("auto", AUTO_CACHE_BYTES)),
    ],
    ids=repr,
)
def test_a_cache_is_bytes_or_a_size_or_a_share_of_free_memory(cache: Any, num_bytes: int) -> None:
    assert parse_cache(cache) == num_bytes


def test_an_automatic_cache_leaves_most_of_a_small_memory_alone(
    free: Callable[[int], None],
) -> None:
    free(100 << 20)
    assert parse_cache("auto") == 25 << 20


@pytest.mark.parametrize(
    "cache",
    [
        *(-1, -0.5, 1.5, float("nan"), float("inf"), True, None, [1], b"2GB"),
        *("", "GB", "2 XB", "2ib", "-2GB", "1e9", "2GB or so", "half", "1.5"),
    ],
    ids=repr,
)
def test_a_cache_that_is_none_of_these_says_what_it_may_be(cache: Any) -> None:
    words = rf"cache={re.escape(repr(cache))}; give bytes, a size such as '2GB'"
    with pytest.raises(OptionError, match=words):
        parse_cache(cache)


def test_the_folder_of_a_source_is_not_written_to(source: Source) -> None:
    folder = Path(source.paths[0]).parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for make in STORES.values():
        make(source).read(0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_callers_bring_back_at_once_is_not_kept_beyond_the_windows(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_buffers, "_SMALLEST", 0)
    plan, _ = make_plan(source, window_blocks=4)
    store = make_windows(source, window_blocks=4)
    batches = list(walk(store, range(plan.steps_per_epoch), threads=2, as_views=True))
    assert len(batches) == plan.steps_per_epoch
    del batches
    gc.collect()
    kept = sum(size * len(same) for size, same in store._windows.memory._free.items())
    assert 0 < kept <= 2 * 2 * _buffers.round_up(1)  # two windows of two small columns
