"""What the tests on a backend share: programs that JAX has compiled.

Many tests train the same small models, each from nothing. With a cache of compiled programs for the
length of the test run, its children included, the tests on JAX take half the time. Comparisons,
which measure how long compiling takes, give their children caches of their own.
"""

import gc
import os
import tempfile

import pytest

EVERY_PROGRAM = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


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
