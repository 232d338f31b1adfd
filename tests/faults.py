"""Every system call of a writer fails once: what is left, and how the process ends.

`faults.c` is compiled and loaded into a child process, which imports what it needs, then forks for
each call that shall fail. A fork runs the writer and ends as any Python does, with HDF5's own end.
"""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytest

_SOURCE: Final = Path(__file__).with_name("faults.c")
IS_DEEP: Final = os.environ.get("KERASH5_HYPOTHESIS_PROFILE") == "deep"
_ROWS: Final = np.arange(3000).reshape(1000, 3)
Fault = Literal["full", "EIO"]
# As a full disk, on which nothing more can be written; and as a bad block, which fails alone.
_FAULTS: Final[dict[Fault, tuple[int, bool]]] = {
    "full": (errno.ENOSPC, False),
    "EIO": (errno.EIO, True),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a writer ended of which one call failed.

    Args:
        number: The call, from 1.
        call: Its name and the path; "" where there were fewer calls.
        code: The exit status; negative: the signal.
        errors: What the process wrote to stderr.
        folder: What is there now.
    """

    number: int
    call: str
    code: int
    errors: str
    folder: Path

    def content(self, name: str) -> bytes | None:
        """Return the bytes of a file, None where there is none."""
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def names(self) -> list[str]:
        """Return all that is in the folder, and in those in it."""
        found = self.folder.rglob("*")
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


@dataclass(frozen=True, slots=True)
class Faults:
    """Runs writers of which calls fail.

    Args:
        library: The compiled shim.
        scratch: A folder for what they write.
    """

    library: Path
    scratch: Path

    def count(self, writer: str) -> int:
        """Return how many calls a writer makes."""
        shutil.rmtree(self.scratch)
        self.scratch.mkdir()
        code, errors = self._run(writer, "full", [0])[0]
        assert code == 0, errors
        return int(errors.rpartition("calls: ")[2])

    def run(self, writer: str, fault: Fault, numbers: Iterable[int]) -> list[Outcome]:
        """Run a writer for each number of a call that fails."""
        asked = list(numbers)
        found = []
        for number, (code, errors) in zip(asked, self._run(writer, fault, asked), strict=True):
            lines = errors.splitlines()
            calls = [line.removeprefix("fault: ") for line in lines if line.startswith("fault: ")]
            said = "\n".join(line for line in lines if not line.startswith(("fault: ", "calls: ")))
            folder = self._folder(writer, fault, number)
            found.append(Outcome(number, calls[0] if calls else "", code, said, folder))
        return found

    def contents(self, writer: str, name: str) -> tuple[bytes | None, bytes]:
        """Return the file that is there before a writer begins, and the one after; see `count`."""
        folder = self._folder(writer, "full", 0)
        old = folder.with_name(f"{folder.name}.old") / name
        return old.read_bytes() if old.exists() else None, (folder / name).read_bytes()

    def _folder(self, writer: str, fault: Fault, number: int) -> Path:
        return self.scratch / f"{writer}-{fault}-{number}"

    def _run(self, writer: str, fault: Fault, numbers: list[int]) -> list[tuple[int, str]]:
        folders = [str(self._folder(writer, fault, number)) for number in numbers]
        asked = json.dumps([writer, str(self.library), *_FAULTS[fault], numbers, folders])
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self.library),
            "PYTHONPATH": os.pathsep.join([str(_SOURCE.parent.parent), *filter(None, sys.path)]),
            "PYTHONWARNINGS": "default",
        }
        done = subprocess.run(
            [sys.executable, __file__, asked],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return [(code, errors) for code, errors in json.loads(done.stdout.splitlines()[-1])]


def make_faults(folder: Path) -> Faults:
    """Compile the shim, or skip the test where that is impossible."""
    if sys.platform != "linux":
        pytest.skip("calls are made to fail by LD_PRELOAD, which is Linux'")
    compiler = shutil.which(shlex.split(os.environ.get("CC", "cc"))[0])
    if compiler is None:
        pytest.skip("no C compiler (cc, or $CC) for the library that lets calls fail")
    library = folder / "faults.so"
    flags = ["-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run([compiler, *flags], check=True)
    (folder / "written").mkdir()
    return Faults(library, folder / "written")


def spread(count: int, most: int | None) -> list[int]:
    """Return the numbers 1 to `count`, or at most so many of them: the first, the last, between."""
    if most is None or count <= most:
        return list(range(1, count + 1))
    return sorted({round(number) for number in np.linspace(1, count, most)})


def tally(outcomes: Iterable[Outcome]) -> str:
    """Return how often which exit status came, for the report of a test."""
    counted = Counter(outcome.code for outcome in outcomes)
    return ", ".join(f"{times} x exit {code}" for code, times in sorted(counted.items()))


# The child process


def write_columns(folder: Path, *, overwrite: bool = True, **options: Any) -> None:
    from kerash5.h5 import write

    write(folder / "a.h5", overwrite=overwrite, x=_ROWS, y=["a", "bc"] * 500, **options)


def write_rows(folder: Path, *, overwrite: bool = True) -> None:
    from kerash5.h5._append import open_writer

    with open_writer(folder / "a.h5", 1000, overwrite=overwrite) as writer:
        for start in range(0, 1000, 250):
            rows = slice(start, start + 250)
            writer.append({"x": _ROWS[rows], "deep/y": _ROWS[rows, 0]})


def write_run(folder: Path) -> None:
    from kerash5._run import Run

    Run("mlp", "torch", 7, str(folder)).save(folder)


def write_old(folder: Path) -> None:
    """Write the files that are there before."""
    from kerash5._run import Run
    from kerash5.h5 import write

    write(folder / "a.h5", x=[1, 2, 3])
    Run("older", "jax", 7, "elsewhere").save(folder)


def write_source(folder: Path) -> None:
    """Write the files that are there before, and one to be written again."""
    from kerash5.h5 import write

    write_old(folder)
    write(folder / "source.h5", x=_ROWS, y=["a", "bc"] * 500, z=_ROWS[::-1])


def repack_rows(folder: Path) -> None:
    from kerash5.repacking import _repack, _rows, repack

    _rows._BLOCK_BYTES, _repack._COMMIT_SECONDS = 10_000, 0.0  # type: ignore[misc]
    _repack._COMMIT_SHARE = 1e9  # type: ignore[misc]
    repack(folder / "source.h5", folder / "a.h5", overwrite=True, shuffle=True)


def nothing(_folder: Path) -> None:
    """Begin with an empty folder."""


Step = Callable[[Path], None]
WRITERS: Final[dict[str, tuple[Step, Step]]] = {
    "gzip": (write_old, write_columns),
    "contiguous": (write_old, lambda folder: write_columns(folder, compression=None)),
    "chunks": (write_old, lambda folder: write_columns(folder, compression="lzf", chunk_rows=100)),
    "new file": (nothing, lambda folder: write_columns(folder, overwrite=False)),
    "rows": (write_old, write_rows),
    "new rows": (nothing, lambda folder: write_rows(folder, overwrite=False)),
    "repack": (write_source, repack_rows),
    "run": (write_old, write_run),
}


def _fork(step: Step, arm: Callable[[], None], folder: Path) -> tuple[int, str]:
    """Run a step in a fork; return its exit status and what it wrote to stderr."""
    log = folder.with_name(f"{folder.name}.log")
    child = os.fork()
    if child == 0:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, 2)
        os.dup2(descriptor, 1)
        arm()
        step(folder)
        _say_calls()
        sys.exit(0)  # by Python's own end, where HDF5 has its last chance to crash
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, log.read_text(errors="replace")


def _say_calls() -> None:
    print(f"calls: {_SHIM.faults_seen()}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Do what the parent asks, and print the outcomes as JSON."""
    global _SHIM  # noqa: PLW0603
    import ctypes

    writer, library, error, is_once, numbers, folders = json.loads(sys.argv[1])
    _SHIM = ctypes.CDLL(library)
    if writer not in WRITERS:
        WRITERS.update(
            import_module("tests.backend.train.checkpoints.fault_writers").WRITERS
        )  # it imports Keras
    before, step = WRITERS[writer]
    outcomes = []
    for number, name in zip(numbers, folders, strict=True):
        folder = Path(name)
        folder.mkdir()
        before(folder)
        if not number:
            shutil.copytree(folder, folder.with_name(f"{folder.name}.old"))

        def arm(number: int = number, name: str = name) -> None:
            _SHIM.faults_arm(name.encode(), ctypes.c_long(number), error, is_once)

        outcomes.append(_fork(step, arm, folder))
    print(json.dumps(outcomes))  # noqa: T201


_SHIM: Any = None

if __name__ == "__main__":
    main()
