"""What the tests on a backend share: which of them run where, and programs that JAX has compiled.

A push runs all cases on PyTorch, where a model trains at once. On JAX and TensorFlow, where each
model is traced and compiled first, it leaves out the tests marked `one_backend`, and runs every
n-th case of those marked `thinned(n)`, other ones on each. `KERASH5_EVERY_CASE=1`, which
`nox -s every_case` sets, runs everything everywhere.

Many tests train the same small models, each from nothing. With a cache of compiled programs for the
length of the test run, its children included, the tests on JAX take half the time. Comparisons,
which measure how long compiling takes, give their children caches of their own.
"""

import gc
import itertools
import os
import tempfile
from collections.abc import Iterable

import pytest

EVERY_PROGRAM = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


TURNS = {"jax": 0, "tensorflow": 1}  # which case of n runs there; all do on another backend


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    turn = TURNS.get(os.environ.get("KERAS_BACKEND", ""))
    if turn is None or os.environ.get("KERASH5_EVERY_CASE") == "1" or asks_for_tests(config):
        return
    kept = list(chosen(items, turn))
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def asks_for_tests(config: pytest.Config) -> bool:
    """Return whether somebody named a test or a file of tests, and so wants all of its cases."""
    return any(".py" in word for word in config.args)


def chosen(items: Iterable[pytest.Item], turn: int) -> Iterable[pytest.Item]:
    """Yield the tests of a push, where the backend compiles."""
    for _, cases in itertools.groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        for number, item in enumerate(cases):
            thinned = item.get_closest_marker("thinned")
            is_left_out = item.get_closest_marker("one_backend") is not None
            if not is_left_out and (thinned is None or number % thinned.args[0] == turn):
                yield item


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("KERAS_BACKEND") != "jax" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="kerash5-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ.update(EVERY_PROGRAM, JAX_COMPILATION_CACHE_DIR=folder.name)


@pytest.fixture
def earlier_data_sets_gone() -> None:
    """Collect data sets that earlier tests left in cycles, and end their threads with them."""
    gc.collect()
