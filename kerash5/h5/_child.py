"""A child process with limits that reads files and reports the results on standard output.

HDF5 itself crashes or hangs on some damaged files, and fills memory on others. A child reports each
item before it begins it, so that the parent knows which one ended it. `_verify` and `_look` define
what it reads.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Final, cast, final

from kerash5 import _errors
from kerash5._errors import DamagedFileError, FileError, KerasH5Error

MEMORY_BYTES: Final = 4 << 30  # of addresses, that a child may use
SECONDS = 60.0  # without a sign of life


@final
class Child:
    """One child process: what it says, and how it ended.

    Args:
        function: What it runs, as "module:function"; it begins with `read_options`.
        options: What `read_options` returns there; "memory" limits its addresses.
        most_seconds: How long it may be silent; None for 60.

    Raises:
        FileError: The system starts no process.
    """

    def __init__(
        self, function: str, options: dict[str, Any], most_seconds: float | None = None
    ) -> None:
        self._most_seconds = SECONDS if most_seconds is None else most_seconds
        self._hung = False
        self.has_finished = False
        module, _, name = function.partition(":")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", f"from {module} import {name}; {name}()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # HDF5 prints long error stacks there
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            raise FileError(
                f"no process can be started to read the file in ({error}); end some processes, "
                "and try again"
            ) from error
        stdin = cast("IO[str]", self._process.stdin)
        with suppress(BrokenPipeError), stdin:
            json.dump({"memory": MEMORY_BYTES, **options}, stdin)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield its messages, until it ends or sends none for too long."""
        said: queue.Queue[str] = queue.Queue()
        thread = threading.Thread(target=self._listen, args=(said,), daemon=True)
        thread.start()
        try:
            while line := said.get(timeout=self._most_seconds):
                found = json.loads(line)
                self.has_finished = self.has_finished or "end" in found
                yield found
        except queue.Empty:
            self._hung = True
        finally:
            self._process.kill()
            self._process.wait()
            thread.join()

    def _listen(self, said: queue.Queue[str]) -> None:
        with cast("IO[str]", self._process.stdout) as stdout:
            for line in stdout:
                said.put(line)
        said.put("")

    @property
    def has_crashed(self) -> bool:
        """Whether HDF5 crashed or hung, so that the file is to blame."""
        return self._hung or (self._process.returncode < 0 and not self.was_killed)

    @property
    def was_killed(self) -> bool:
        """Whether the system ended it, as it does when memory runs out."""
        return not self._hung and self._process.returncode == -signal.SIGKILL

    def error(self, path: str) -> FileError:
        """Return the error that describes how it ended at a file."""
        if self.has_crashed:
            return DamagedFileError(
                f"{path!r} is damaged: {self.why_dead()}; copy or download it again"
            )
        cure = "free some memory, and try again" if self.was_killed else "report this with the file"
        return FileError(f"{path!r} was not looked at: {self.why_dead()}; {cure}")

    def why_dead(self) -> str:
        """Describe how the child ended."""
        if self._hung:
            return f"HDF5 hangs on it (nothing for {self._most_seconds:.0f} s)"
        code = self._process.returncode
        if self.was_killed:
            return "the system ended the process that read it, perhaps for want of memory (SIGKILL)"
        if code < 0:
            return f"HDF5 crashes on it ({signal.Signals(-code).name})"
        return f"the reading process ended with exit code {code}"


def read_options() -> dict[str, Any]:
    """In the child: return the options, and keep to the limit of memory that they state."""
    options: dict[str, Any] = json.load(sys.stdin)
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (options["memory"], options["memory"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dumps of crashes of HDF5
    return options


def say(**what: object) -> None:
    """Send a message to the parent process; {"end": True} is the last one."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def say_refusal(error: KerasH5Error) -> None:
    """Send one of our errors to the parent process."""
    say(refused=type(error).__name__, reason=str(error))


def refusal(line: dict[str, Any]) -> KerasH5Error:
    """Return the error that the child sent."""
    return cast("KerasH5Error", getattr(_errors, line["refused"])(line["reason"]))
