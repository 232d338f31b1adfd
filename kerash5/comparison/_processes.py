"""Start the processes of a comparison: initial weights, parity, samples.

Each method starts one child and returns its result or raises `RunError`. Results are stored and
skipped by `_runner`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from kerash5.comparison._children import Contender, run_child
from kerash5.comparison._measurement import Measurement
from kerash5.comparison._parity import Numbers
from kerash5.comparison._results import Method
from kerash5.comparison._rounds import ScheduledRun


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Files and columns that all processes read. Paths are absolute."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    x: str
    y: str
    num_rows: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Start the processes of one comparison.

    Args:
        method: Options of the comparison.
        files: Files to read.
        folder: Folder of the comparison, which contains scratch files and the initial weights.
        timeout_seconds: Time limit of one process, in seconds.
        reading_threads: As in `Measurement`.
    """

    method: Method
    files: Files
    folder: Path
    timeout_seconds: float
    reading_threads: int | None = None

    @property
    def weights(self) -> Path:
        """Path of the file of initial weights that all contenders use."""
        return self.folder / f"{self.method.model}.weights.h5"

    def make_weights(self, contender: Contender) -> None:
        """Write the initial weights with this contender.

        Raises:
            RunError: The process failed.
        """
        self._run(contender, {"job": "weights"})

    def compute_parity(self, contender: Contender) -> Mapping[str, Numbers]:
        """Return the numbers of a contender's parity check, by setting, for `judge_parity`.

        Raises:
            RunError: The process failed.
        """
        found = self._run(contender, {"job": "parity"})
        return {setting: found[setting] for setting in self.method.settings}

    def measure(self, run: ScheduledRun) -> dict[str, Any]:
        """Return the measured fields of a `Sample`, and whether its compilation cache was filled.

        Every second round starts with the compilation cache of the round before.

        Raises:
            RunError: The process failed.
        """
        name = f"{run.contender.name}-{run.setting}-b{run.batch_size}-{run.repeat // 2}"
        cache = self.folder / "scratch" / name
        if run.repeat % 2 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        was_filled = _is_filled(cache)
        changes = {
            "settings": (run.setting,),
            "batch_size": run.batch_size,
            "seed": self.method.seed + run.repeat,
        }
        found = self._run(run.contender, {"job": "sample", **changes}, cache)
        state = "warm" if was_filled else "cold" if _is_filled(cache) else "none"
        return {**found, "compile_cache": state}

    def clear(self) -> None:
        """Remove the scratch files of the comparison."""
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)

    def _run(
        self, contender: Contender, changes: Mapping[str, Any], cache: Path | None = None
    ) -> dict[str, Any]:
        scratch = self.folder / "scratch" / "job"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        method, files = self.method, self.files
        size = changes.get("batch_size", min(method.batch_sizes))
        values: dict[str, Any] = {
            "backend": contender.backend,
            "model": method.model,
            "batch_size": size,
            "settings": method.settings,
            "train": files.train,
            "test": files.test,
            "x": files.x,
            "y": files.y,
            "weights": str(self.weights.absolute()),
            "scratch": str(scratch.absolute()),
            "num_steps": min(method.num_steps, files.num_rows // size),
            "num_epochs": method.num_epochs,
            "seed": method.seed,
            "threads": method.threads,
            "reading_threads": self.reading_threads,
            "precision": method.precision,
            "tf32": method.tf32,
        }
        job = Measurement(**{**values, **changes})
        return run_child(contender, job, (cache or scratch).absolute(), self.timeout_seconds)


def _is_filled(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))
