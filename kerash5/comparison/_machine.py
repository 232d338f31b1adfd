"""The machine a comparison ran on: the facts needed to interpret its numbers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import psutil

from kerash5._backends import environment

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_SECONDS: Final = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine a comparison ran on, without its host name.

    Made by `find_machine`, or read from a result file.

    Args:
        processor: Name of the processor; "" if unknown.
        cores: Number of cores the process could use; None if unknown.
        memory_bytes: Main memory of the machine, in bytes; None if unknown.
        gpus: Names of the GPUs that nvidia-smi lists; None if unknown.
        platform: Operating system and its version.
        python: Python version.
        commit: Commit of the checkout; "" for an installed package.
    """

    processor: str = ""
    cores: int | None = None
    memory_bytes: int | None = None
    gpus: tuple[str, ...] | None = None
    platform: str = ""
    python: str = ""
    commit: str = ""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Return the machine stored in a result file; a value of the wrong type counts as unknown.

        Files of earlier versions store all GPU names in one string, `gpu`, separated by "; ".
        """

        def text(name: str) -> str:
            found = values.get(name)
            return found if isinstance(found, str) else ""

        def count(name: str) -> int | None:
            found = values.get(name)
            return found if isinstance(found, int) else None

        gpus = values.get("gpus")
        if gpus is None and isinstance(old := values.get("gpu"), str):
            gpus = [name for name in old.split("; ") if name]
        return cls(
            processor=text("processor"),
            cores=count("cores"),
            memory_bytes=count("memory_bytes"),
            gpus=tuple(map(str, gpus)) if isinstance(gpus, list | tuple) else None,
            platform=text("platform"),
            python=text("python"),
            commit=text("commit"),
        )


def find_machine() -> Machine:
    """Return the machine that runs this process."""
    found = environment()
    return Machine(
        processor=found["processor"],
        cores=found["cores"],
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(_lines("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")),
        platform=found["platform"],
        python=found["python"],
        commit=find_commit(),
    )


def find_commit() -> str:
    """Return the commit of the running checkout, with "+" appended if files are modified.

    An installed package has a version instead of a commit; it returns "".
    """
    if not (_CHECKOUT / ".git").exists():
        return ""
    commit = _lines("git", "-C", str(_CHECKOUT), "rev-parse", "--short=12", "HEAD")
    changed = _lines("git", "-C", str(_CHECKOUT), "status", "--porcelain", "--", "kerash5")
    return f"{commit[0]}{'+' if changed else ''}" if commit else ""


def count_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lines(*words: str) -> list[str]:
    """Return the output lines of a program; empty if the program is not installed or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
