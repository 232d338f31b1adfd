"""A folder is one run's, until that run lets go of it or is killed; on Windows, by a file in it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kerash5.train.checkpoints import _lock
from kerash5.train.checkpoints._lock import LOCK_FILE, FolderLock

HOLD = """
import os, sys
from filelock import lock_descriptor
descriptor = os.open(sys.argv[1], os.O_RDONLY if os.path.isdir(sys.argv[1]) else os.O_RDWR)
print(lock_descriptor(descriptor, blocking=False), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["a folder", "a file in it"])
def locked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Return what is locked for `tmp_path`."""
    is_folder = request.param == "a folder"
    monkeypatch.setattr(_lock, "_OPENS_FOLDERS", is_folder)
    yield tmp_path if is_folder else tmp_path / LOCK_FILE
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE] * (not is_folder)


@pytest.mark.usefixtures("locked")
def test_a_folder_is_locked_once_until_it_is_released(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.try_acquire()
    assert not second.try_acquire()
    second.release()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_killed_process_holds_no_folder(locked: Path, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert lock.try_acquire()
    lock.release()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(locked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert not lock.try_acquire()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert lock.try_acquire()
    lock.release()


@pytest.mark.usefixtures("locked")
def test_a_folder_that_cannot_be_locked_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(f"no locks for {descriptor}, {blocking=}")

    monkeypatch.setattr(_lock, "lock_descriptor", fail)
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.try_acquire()
    assert second.try_acquire()
    first.release()
