"""A peer in a process of its own, in the Python that has its libraries.

The parent asks by JSON lines on stdin, the child answers on what was its stdout. So libraries never
meet that must not (torch, TensorFlow), and a peer that fails is a sentence in the results.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from _peer_formats import GrainOverArrayRecord, HuggingFace, LitData, TFRecord
from _peers import (
    GrainOverH5py,
    H5pySorted,
    Peer,
    TextbookPyDataset,
    TorchOverH5py,
    TorchOverH5pyBatched,
)

PEERS: Final[dict[str, type[Peer]]] = {
    "h5py, sorted fancy indexing": H5pySorted,
    "textbook PyDataset": TextbookPyDataset,
    "torch DataLoader + h5py": TorchOverH5py,
    "torch DataLoader + h5py, batched": TorchOverH5pyBatched,
    "Grain + h5py": GrainOverH5py,
    "Grain + ArrayRecord": GrainOverArrayRecord,
    "tf.data + TFRecord": TFRecord,
    "HF datasets (Arrow)": HuggingFace,
    "litdata": LitData,
}


_IDLE: Final = 0.05  # of one core, at the most, before the next is measured
_MOST_WAIT: Final = 15.0


class PeerError(Exception):
    """Says why a peer cannot be measured."""


@final
class PeerProcess:
    """The parent's side: ask, and wait for the answer."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self.name = name
        self.peer = PEERS[name]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
        here = {"HF_HOME": str(folder / "hf-home"), "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
        keras = {"KERAS_BACKEND": "torch"}
        self._errors = (folder / f"{self.peer.__name__}.log").open("w+", encoding="utf-8")
        try:
            self._process = subprocess.Popen(
                [python, str(Path(__file__)), name, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                start_new_session=True,
                env={**os.environ, **quiet, **here, **keras},
            )
        except OSError as error:
            self._errors.close()
            raise PeerError(f"its Python cannot be started ({error.strerror})") from None

    def ask(self, what: str, *, most_seconds: float = 900, **more: Any) -> dict[str, Any]:
        """Return the answer. Until it is asked again the peer stands still, and all its threads.

        Some read on by themselves after an epoch was left, on a core that others are measured on.

        Raises:
            PeerError: The peer failed, or did not answer in time.
        """
        self._signal(signal.SIGCONT)
        try:
            return self._ask(what, most_seconds, more)
        finally:
            self._signal(signal.SIGSTOP)

    def _ask(self, what: str, most_seconds: float, more: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101  Popen was asked for both
        assert stdout is not None  # noqa: S101
        try:
            stdin.write(json.dumps({"what": what, **more}) + "\n")
            stdin.flush()
        except OSError:
            raise PeerError(self._last_words()) from None
        if not select.select([stdout], [], [], most_seconds)[0]:
            raise PeerError(f"not one batch within {most_seconds:.0f} s")
        line = stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, and those it started."""
        self._signal(signal.SIGCONT)
        with suppress(OSError, ValueError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=5)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its workers, too
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(OSError):  # it has ended
            os.killpg(self._process.pid, number)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"its process ended: {lines[-1] if lines else 'without a word'}"


def serve(name: str, folder: Path) -> None:
    """Be the child: answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    peer = PEERS[name](folder)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = answer_to(peer, asked)
        except Exception as error:  # noqa: BLE001  whatever it is, the parent says it
            first = next(iter(str(error).strip().splitlines()), "")
            answer = {"error": f"{type(error).__name__}: {first}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def answer_to(peer: Peer, asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    if asked["what"] == "convert":
        start = time.perf_counter()
        peer.convert()
        return {"seconds": time.perf_counter() - start, "versions": versions(peer)}
    if asked["what"] == "open":
        peer.open(Path(asked["path"]))
        return {}
    return measure(peer, asked["epoch"], asked["seconds"])


def measure(peer: Peer, epoch: int, most_seconds: float) -> dict[str, Any]:
    """Run through an epoch, or as much of it as time allows; check what comes, then settle."""
    rows, labels = peer.rows()
    seen: list[Any] = []
    first = None
    batches = peer.epoch(epoch)
    start = time.perf_counter()
    for x, y in batches:
        first = x if first is None else first
        seen.append(y)
        seconds = time.perf_counter() - start
        if seconds > most_seconds:
            break
    seconds = time.perf_counter() - start
    batches.close()
    check(first, rows)
    found = np.concatenate([np.asarray(each).reshape(-1) for each in seen])
    if len(found) == len(labels) and (np.bincount(found) != np.bincount(labels)).any():
        raise PeerError("its epoch does not hold every row once")
    settle()
    return {"rows": len(found), "seconds": seconds}


def check(x: Any, rows: np.ndarray) -> None:
    """Make sure that a batch is one."""
    batch = np.asarray(x)
    if batch.shape[1:] != rows.shape[1:] or batch.dtype != rows.dtype:
        raise PeerError(f"its batches are {batch.dtype} of shape {batch.shape}")
    if not (batch[:, :, :, 1] == 255 - batch[:, :, :, 0]).all():
        raise PeerError("its rows are not the ones that were written")


def settle() -> None:
    """Wait until threads and workers have stopped reading ahead: others are measured next."""
    deadline = time.perf_counter() + _MOST_WAIT
    while time.perf_counter() < deadline:
        before, start = cpu_seconds(), time.perf_counter()
        time.sleep(0.1)
        if cpu_seconds() - before < _IDLE * (time.perf_counter() - start):
            return


def cpu_seconds() -> float:
    """Return the processor time that this process and its children have had."""
    import psutil

    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def versions(peer: Peer) -> dict[str, str]:
    """Return the versions of a peer's packages."""
    found = {}
    for name in peer.packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
