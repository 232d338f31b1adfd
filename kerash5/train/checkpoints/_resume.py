"""Finds where a fit begins: in a new folder, or at a checkpoint of an earlier run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from kerash5._errors import RunError
from kerash5._run import RUN_FILE, Run
from kerash5.train.checkpoints._checkpoint import Checkpoint, Checkpoints, load_checkpoint
from kerash5.train.checkpoints._run_dir import (
    CHECKPOINTS_FOLDER,
    RunDir,
    claim_run_dir,
    make_folder,
    reopen_run_dir,
)

_MODES: Final = ("auto", "last", "best", "force")

Resume = str | os.PathLike[str] | None


@final
@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a fit begins.

    Args:
        run_dir: The folder, locked by this process.
        checkpoint: The checkpoint to continue from; None for a start from scratch.
        earlier: The run that is continued in the same folder; None for a new run.
        is_forced: Whether to continue even if data or settings differ.
    """

    run_dir: RunDir
    checkpoint: Checkpoint | None = None
    earlier: Run | None = None
    is_forced: bool = False


def find_resume_point(resume: Resume, wanted: Path) -> ResumePoint:
    """Return where a fit begins, with its folder locked.

    Args:
        resume: As in `Trainer.fit`.
        wanted: The requested folder of the run.

    Raises:
        RunError: There is nothing to resume, or another process trains there.
        FileError: A folder cannot be created or read.
    """
    if resume is None:
        return ResumePoint(claim_run_dir(wanted))
    if not isinstance(resume, str) or resume not in _MODES:
        checkpoint = _load_from(Path(resume))
        return ResumePoint(claim_run_dir(wanted), checkpoint)
    if not (wanted / RUN_FILE).exists():
        if resume in ("last", "best"):
            raise RunError(
                f"resume={resume!r}, and there is no run in {str(wanted)!r}; name the run_dir of "
                "one, or begin with resume='auto'"
            )
        return ResumePoint(reopen_run_dir(make_folder(wanted)))
    run_dir = reopen_run_dir(wanted)
    try:
        return _go_on(resume, run_dir)
    except BaseException:
        run_dir.lock.release()
        raise


def _go_on(resume: str, run_dir: RunDir) -> ResumePoint:
    earlier = Run.load(run_dir.path)
    checkpoints = run_dir.checkpoints
    found = best_checkpoint(checkpoints) if resume == "best" else checkpoints.newest()
    if found is None and resume in ("last", "best"):
        cure = "train with save_top_k=1" if resume == "best" else "begin anew with resume=None"
        raise RunError(f"{str(run_dir.path)!r} holds no {resume} checkpoint; {cure}")
    return ResumePoint(run_dir, found, earlier, is_forced=resume == "force")


def best_checkpoint(checkpoints: Checkpoints) -> Checkpoint | None:
    """Return the checkpoint of the best epoch, which may be truncated by the end of the run.

    None if there is no such checkpoint.
    """
    ranks = ranks_of(checkpoints, cut=checkpoints.paths()[:1])
    # Of equals, the first.
    best = min(ranks, key=lambda path: (ranks[path], path.name), default=None)
    return None if best is None else load_checkpoint(best)


def ranks_of(checkpoints: Checkpoints, cut: Sequence[Path] = ()) -> dict[Path, float]:
    """Return the rank of each intact checkpoint at the end of an epoch; the best has the smallest.

    Args:
        checkpoints: The checkpoints of a run.
        cut: Checkpoints to include even if a limit has truncated their epoch.
    """
    ranks: dict[Path, float] = {}
    for path in checkpoints.paths():
        state = checkpoints.read_state(path)
        rank = state.get("rank")
        is_wanted = path in cut or state.get("position", {}).get("index") == 0
        if is_wanted and rank is not None and rank == rank:  # noqa: PLR0124  NaN is not a rank
            ranks[path] = rank
    return ranks


def _load_from(path: Path) -> Checkpoint:
    if not (path / CHECKPOINTS_FOLDER).is_dir():
        return load_checkpoint(path)
    found = Checkpoints(path / CHECKPOINTS_FOLDER).newest()
    if found is None:
        raise RunError(f"{str(path)!r} holds no checkpoint; begin anew with resume=None")
    return found
