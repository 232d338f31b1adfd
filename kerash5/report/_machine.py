"""The machine a comparison ran on: what a reader must know to believe its numbers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

import psutil

from kerash5._backends import environment

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_SECONDS: Final = 20


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, GPUs, system, Python and commit; no names of hosts."""
    found = environment()
    return {
        "processor": found["processor"],
        "cores": found["cores"],
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": "; ".join(_lines("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")),
        "platform": found["platform"],
        "python": found["python"],
        "commit": find_commit(),
    }


def find_commit() -> str:
    """Return the commit of the checkout that runs, "+" after it where files differ; "" elsewhere.

    An installed package has none: it has a version.
    """
    if not (_CHECKOUT / ".git").exists():
        return ""
    commit = _lines("git", "-C", str(_CHECKOUT), "rev-parse", "--short=12", "HEAD")
    changed = _lines("git", "-C", str(_CHECKOUT), "status", "--porcelain", "--", "kerash5")
    return f"{commit[0]}{'+' if changed else ''}" if commit else ""


def count_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lines(*words: str) -> list[str]:
    """Return what a program prints, by line; nothing where there is no such program."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
