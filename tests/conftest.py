"""What all tests share: how hard Hypothesis tries, and where the large real files lie.

The profile is chosen by `KERASH5_HYPOTHESIS_PROFILE`: `ci` (the default) draws the same few hundred
cases each time, `deep` draws thousands of new ones. The real files are no part of a checkout: tests
that want them are skipped, and say so, where they are missing.
"""

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# No deadline: a first case pays for imports and for opening files, and says nothing about the next.
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile(
    "deep",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("KERASH5_HYPOTHESIS_PROFILE", "ci"))

HAS_KERAS = importlib.util.find_spec("keras") is not None
# Without Keras these files could not be imported. The session that must run them (`tests`) names
# the folder, and pytest fails when it then finds no test.
collect_ignore = [] if HAS_KERAS else ["backend"]


def pytest_report_header() -> list[str]:
    backend = os.environ.get("KERAS_BACKEND", "Keras' own choice")
    return [
        f"hypothesis profile: {os.environ.get('KERASH5_HYPOTHESIS_PROFILE', 'ci')}",
        f"backend: {backend}" if HAS_KERAS else "backend: no Keras here, tests/backend is left out",
    ]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of large real files: `KERASH5_SHARED`, or `shared` beside the checkout."""
    folder = Path(os.environ.get("KERASH5_SHARED", ROOT.parent / "shared"))
    return existing(folder, "the folder of large real files; set KERASH5_SHARED to where it is")


@pytest.fixture(scope="session")
def mnist_dir(shared_dir: Path) -> Path:
    """The whole MNIST: `train.hdf5` (60,000 rows) and `test.hdf5` (10,000 rows)."""
    return existing(shared_dir / "data" / "mnist", "the whole MNIST as train.hdf5 and test.hdf5")


@pytest.fixture(scope="session")
def corpus_dir(shared_dir: Path) -> Path:
    """Real HDF5 files of every kind, with the hashes of what they hold."""
    return existing(shared_dir / "corpus", "the corpus of real HDF5 files")


def existing(folder: Path, what: str) -> Path:
    """Return `folder`, or skip the test with the reason when it is not there."""
    if not folder.is_dir():
        pytest.skip(f"no {str(folder)!r}: {what}")
    return folder
