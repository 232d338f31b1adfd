"""What all benchmarks share: taking turns, medians with their spread, and where results are kept.

A result file is JSON lines: benchmarks/results/MACHINE-DATE/NAME.jsonl. Its first line says what
the figures depend on; each other line is one `Outcome`. `tables.py` makes the tables of it.

    file = ResultFile.begin("training_loop", packages=("keras", "torch"), settings={"batch": 50})
    for round in take_turns({"fit": run_fit, "by hand": run_by_hand}, rounds=5, warm_up=1): ...

Nothing here imports kerash5 or NumPy: the processes of all peers can import it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
_SETTINGS: Final = ("KERAS_BACKEND", "OMP_NUM_", "MKL_NUM_", "TF_NUM_", "TF_XLA_FLAGS")

T = TypeVar("T")


class Spread(NamedTuple):
    """The median of some rounds, with the smallest and the largest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one way of doing it took in one case: a value per round, or why there is none.

    Args:
        case: What was done, such as a layout or a model: a row of the table.
        way: How it was done: a column of the table.
        unit: Of the values, such as "rows/s".
        values: One per round.
        shares: Each value divided by that of the way `of` in the same round. On a busy machine
            these tell more than the values.
        of: The way that counts as 1.
        skipped: Why there are no values.
        note: What a reader of the figure must know, such as how a peer shuffles.
        part: The table this belongs to, where a benchmark has several.
    """

    case: str
    way: str
    unit: str = ""
    values: Sequence[float] = ()
    shares: Sequence[float] = ()
    of: str = ""
    skipped: str = ""
    note: str = ""
    part: str = ""

    def compared(self, reference: Outcome) -> Outcome:
        """Return the same, with its share of another way, round by round."""
        shares = [
            float(f"{mine / theirs:.4g}")
            for mine, theirs in zip(self.values, reference.values, strict=True)
        ]
        return Outcome(**{**asdict(self), "shares": shares, "of": reference.way})

    def as_line(self) -> dict[str, Any]:
        """Return what is written: without what is empty, with four digits."""
        said = {name: value for name, value in asdict(self).items() if value}
        if self.values:
            said["values"] = [float(f"{value:.4g}") for value in self.values]
        return said


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of results: what the figures depend on, and the outcomes so far."""

    path: Path
    about: Mapping[str, Any]

    @classmethod
    def begin(
        cls,
        name: str,
        *,
        packages: Iterable[str] = (),
        settings: Mapping[str, Any] | None = None,
        out: Path | None = None,
        add: bool = False,
    ) -> ResultFile:
        """Begin a file anew.

        Args:
            name: Of the benchmark: what `<!-- table:NAME -->` asks for.
            packages: Whose versions matter.
            settings: What was asked for: rows, rounds, batch, and so on.
            out: Another place than benchmarks/results/MACHINE-DATE/NAME.jsonl.
            add: Go on with a file that is there, if it depends on the same things.

        Raises:
            SystemExit: It does not.
        """
        about = {"benchmark": name, **environment(packages), **(settings or {})}
        path = out or RESULTS / f"{machine_slug()}-{about['date']}" / f"{name}.jsonl"
        if add and path.exists():
            begun, _ = cls.read(path)
            if differing := [key for key in about if begun.about.get(key) != about[key]]:
                raise SystemExit(f"{path} differs in {', '.join(differing)}; leave out --add")
            return begun
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return cls(path, about)

    def add(self, outcome: Outcome) -> None:
        """Write one more outcome; a run that is stopped keeps what it has."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(outcome.as_line()) + "\n")

    @classmethod
    def read(cls, path: Path) -> tuple[ResultFile, list[Outcome]]:
        """Read a file back."""
        about, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return cls(path, about), [Outcome(**line) for line in lines]


def take_turns(
    ways: Mapping[str, Callable[[], T]], *, rounds: int, warm_up: int = 1
) -> Iterator[dict[str, T]]:
    """Do all ways once a round, and yield what they return.

    Each round begins with another way, so that none always runs on what another left in the caches
    of the machine. The first `warm_up` rounds are done but not yielded.
    """
    names = list(ways)
    for number in range(warm_up + rounds):
        turn = number % len(names)
        found = {name: ways[name]() for name in [*names[turn:], *names[:turn]]}
        if number >= warm_up:
            yield {name: found[name] for name in names}


def spread(values: Sequence[float]) -> Spread:
    """Return the median of the rounds, the smallest and the largest."""
    return Spread(statistics.median(values), min(values), max(values))


def environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return what figures depend on: machine, versions, commit, settings. No host, no path."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": num_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": installed_versions(packages),
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)
        },
    }


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def num_cores() -> int:
    """Return the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_slug() -> str:
    """Return a short name of processor and cores: "amd-epyc-2-cores"."""
    return re.sub(r"[^a-z0-9]+", "-", f"{_processor()} {num_cores()} cores".lower()).strip("-")


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit measured, with a "+" if the code differs from it."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        code = ("kerash5", ":(glob)benchmarks/*.py")
        return commit + "+" * bool(_git("status", "--porcelain", "--", *code))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def set_threads(backend: str, threads: int) -> None:
    """Give the backend so many threads; XLA on a CPU takes those of its process."""
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
