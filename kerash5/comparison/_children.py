"""Contenders and the processes that measure them: one job in, one result out, or a sentence.

A child has its own process group, its own settings and a time limit; whatever becomes of it, the
runner goes on. Nothing here knows what is measured.
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
# Nothing in the folder where the runner happens to be is imported: a user's own keras.py, say.
_SAFE: Final = ("-P",)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who is compared: a backend in an environment.

    Args:
        name: In tables; the backend's, and "jax-2" where a backend stands twice.
        backend: jax, tensorflow or torch.
        python: The interpreter of its environment.
        sleep_seconds: A fault to plant, as in `Measurement`.
        weight_factor: A fault to plant, as in `Measurement`.
    """

    name: str
    backend: str
    python: str = sys.executable
    sleep_seconds: float = 0.0
    weight_factor: float = 1.0

    def probe(self) -> dict[str, Any]:
        """Ask its environment, without importing a backend, what is there.

        Returns:
            What `kerash5.measure._probe` tells; `error` also says where there is no such
            interpreter, or no kerash5 in its environment.
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
    """Let a fresh process of this contender do a job; return its result.

    Args:
        contender: Who.
        job: What; the planted faults of the contender are added.
        cache: The folder for what its backend has compiled.
        timeout_seconds: After so long it is ended.

    Raises:
        RunError: It failed, was killed or took too long; one sentence says which.
    """
    env = child_settings(contender.backend, job.threads, cache, os.environ)
    planted = replace(
        job, sleep_seconds=contender.sleep_seconds, weight_factor=contender.weight_factor
    )
    text = replace(planted, began=time.time(), parent=os.getpid()).to_json()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [contender.python, *_SAFE, "-m", _CHILD],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        out = _finish(process, text, timeout_seconds)
        if process.returncode:
            raise RunError(_why(process.returncode, complaints))
    result: dict[str, Any] = json.loads(out)
    if "error" in result:
        raise RunError(f"{result['error']}")
    return result


def child_settings(
    backend: str, threads: int, cache: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of a child: one policy for all, over what is inherited.

    Threads are said here because pools are made on import. NPROC is what XLA's CPU client asks.
    Compiled programs are kept from the first on, however quickly they were compiled.
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
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _finish(process: subprocess.Popen[str], text: str, timeout_seconds: float) -> str:
    """Talk to the process to its end; leave none behind, whatever happens."""
    try:
        out, _ = process.communicate(text, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        raise RunError(
            f"the process took longer than {timeout_seconds:g} s and was ended; allow more with "
            "--timeout, or take fewer --steps"
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


def _why(code: int, complaints: IO[str]) -> str:
    complaints.seek(0)
    line = last_line(complaints.read())
    if code < 0:
        return f"the process was killed by {signal.Signals(-code).name} (last words: {line})"
    return f"the process failed: {line}"
