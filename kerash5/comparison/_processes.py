"""The jobs of a comparison, as processes: initial weights, parity, samples.

Each method starts one child and returns what it found, or raises one sentence. What is kept and
what is left out is for the `_runner`.
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
from kerash5.comparison._rounds import Cell


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files and columns that everybody reads. Paths are absolute."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    x: str
    y: str
    num_rows: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Starts the processes of one comparison.

    Args:
        method: What is asked for.
        files: What is read.
        folder: Of the comparison; scratch files and the initial weights lie in it.
        timeout_seconds: How long one process may take.
        reading_threads: As in `Measurement`.
    """

    method: Method
    files: Files
    folder: Path
    timeout_seconds: float
    reading_threads: int | None = None

    @property
    def weights(self) -> Path:
        """The file of the weights that all begin with."""
        return self.folder / f"{self.method.model}.weights.h5"

    def make_weights(self, contender: Contender) -> None:
        """Let this contender write them.

        Raises:
            RunError: It cannot.
        """
        self._run(contender, {"job": "weights"})

    def compute_parity(self, contender: Contender) -> Mapping[str, Numbers]:
        """Return what this contender computes, by setting, for `judge_parity`.

        Raises:
            RunError: It cannot.
        """
        found = self._run(contender, {"job": "parity"})
        return {setting: found[setting] for setting in self.method.settings}

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Return what a process can know of its `Sample`, and what its compilation cache held.

        Every second round finds the programs that the round before compiled.

        Raises:
            RunError: It failed.
        """
        name = f"{cell.contender.name}-{cell.setting}-b{cell.batch_size}-{cell.repeat // 2}"
        cache = self.folder / "scratch" / name
        if cell.repeat % 2 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        was_filled = _is_filled(cache)
        changes = {
            "settings": (cell.setting,),
            "batch_size": cell.batch_size,
            "seed": self.method.seed + cell.repeat,
        }
        found = self._run(cell.contender, {"job": "sample", **changes}, cache)
        state = "warm" if was_filled else "cold" if _is_filled(cache) else "none"
        return {**found, "compile_cache": state}

    def clear(self) -> None:
        """Remove what nobody needs any more."""
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
