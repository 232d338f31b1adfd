"""Run measurements in child processes: one job in, one result or one error message out.

Each child has its own process group, environment variables and time limit. A child that fails does
not stop the runner. This module does not know what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, final

from kerash5._errors import RunError
from kerash5.comparison._measurement import Measurement

_PROBE_SECONDS: Final = 120
_PROBE: Final = "kerash5.measure._probe"
_CHILD: Final = "kerash5.measure"
# -P: do not import from the working directory, where the user may have a keras.py of their own.
_SAFE: Final = ("-P",)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A backend in one environment, which takes part in a comparison.

    Args:
        name: Name in tables: the backend's, or "jax-2" for the second contender with that backend.
        backend: "jax", "tensorflow" or "torch".
        python: Path of the Python interpreter of its environment.
        sleep_seconds: Planted fault, see `Measurement`.
        weight_factor: Planted fault, see `Measurement`.
    """

    name: str
    backend: str
    python: str = sys.executable
    sleep_seconds: float = 0.0
    weight_factor: float = 1.0

    def probe(self) -> dict[str, Any]:
        """Return what is installed in the contender's environment, without importing a backend.

        Returns:
            The output of `kerash5.measure._probe`. Its `error` is set if the interpreter cannot be
            run or its environment has no kerash5.
        """
        words = [self.python, *_SAFE, "-m", _PROBE, self.backend]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"error": f"{self.python!r} cannot be run ({error})"}
        if done.returncode:
            return {
                "error": f"{self.python!r} has no kerash5 ({last_line(done.stderr)}): pip install "
                f"'kerash5[{self.backend}]' there"
            }
        return dict(json.loads(done.stdout))


def run_child(
    contender: Contender, job: Measurement, cache: Path, timeout_seconds: float
) -> dict[str, Any]:
    """Run a job in a fresh process of a contender and return its result.

    Args:
        contender: The contender that runs the job.
        job: The job; the contender's planted faults are added to it.
        cache: Folder for the compilation cache of the backend.
        timeout_seconds: The process is killed after this time.

    Raises:
        RunError: The process failed, was killed or timed out; the message says which.
    """
    env = child_settings(contender.backend, job.threads, cache, os.environ)
    planted = replace(
        job, sleep_seconds=contender.sleep_seconds, weight_factor=contender.weight_factor
    )
    text = replace(planted, began=time.time(), parent=os.getpid()).to_json()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
        subprocess.Popen(
            [contender.python, *_SAFE, "-m", _CHILD],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        out = _finish(process, text, timeout_seconds)
        if process.returncode:
            raise RunError(_why(process.returncode, stderr))
    result: dict[str, Any] = json.loads(out)
    if "error" in result:
        raise RunError(f"{result['error']}")
    return result


def child_settings(
    backend: str, threads: int, cache: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment variables of a child: fixed settings on top of the inherited ones.

    Thread counts are set here because backends create their thread pools on import. NPROC is what
    XLA's CPU client reads. The thresholds of 0 and -1 make JAX cache every compiled program,
    however small or quickly compiled.
    """
    number = str(threads)
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
    own = {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_NUM_INTRAOP_THREADS": number,
        "TF_NUM_INTEROP_THREADS": number,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
    }
    return {**inherited, **dict.fromkeys(pools, number), **own}


def last_line(text: str) -> str:
    """Return the last non-empty line of a text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _finish(process: subprocess.Popen[str], text: str, timeout_seconds: float) -> str:
    """Send the job to the process and wait for it; on a timeout, kill its process group."""
    try:
        out, _ = process.communicate(text, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        raise RunError(
            f"the process took longer than {timeout_seconds:g} s and was killed; allow more with "
            "--timeout, or lower --steps"
        ) from None
    finally:
        if process.poll() is None:
            _kill_group(process)
    return out


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _why(code: int, stderr: IO[str]) -> str:
    stderr.seek(0)
    line = last_line(stderr.read())
    if code < 0:
        return f"the process was killed by {signal.Signals(-code).name} (stderr ends with: {line})"
    return f"the process failed: {line}"
