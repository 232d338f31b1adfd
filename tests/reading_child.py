"""A child process that reads data sets it does not trust, so that a crash is the child's.

`Child` is the parent's end: it asks, waits, and starts another child where one died or hung. The
child reads either by kerash5 or by plain h5py, which is how a crash of HDF5 is told from ours.
"""

import hashlib
import json
import os
import resource
import selectors
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

_MEMORY: Final = 3 << 30
_MAX_BYTES: Final = 32 << 20  # of larger data sets some rows are read
_FEW: Final = 3
By = Literal["auto", "direct", "h5py"]
Answer = dict[str, str]


class Child:
    """Asks a child process for data sets, one after another.

    Args:
        by: By which reader of kerash5, or by "h5py" without kerash5.
        seconds: That one answer may take.
        memory_holds: What fresh memory of the child is made of, a byte; whoever reads memory that
            nobody wrote answers differently for another one.
    """

    def __init__(self, by: By, *, seconds: float = 20, memory_holds: int = 7) -> None:
        self._by = by
        self._seconds = seconds
        self._memory_holds = memory_holds % 256
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._end()

    def ask(self, path: Path, name: str) -> Answer:
        """Return what came of reading a data set.

        Returns:
            What came under "rows", a digest, and then "by", which reader; "refused", a
            KerasH5Error; "raw", any other error; or "died", which is "hung" where it took too long.
        """
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([str(path), name]) + "\n")
            process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            is_due = bool(selector.select(self._seconds))
        line = process.stdout.readline() if is_due else ""
        if not line:
            if is_due:
                process.wait(self._seconds)  # it closed its end, and is about to be gone
            self._end()
            return {"died": f"by signal {-process.returncode}" if is_due else "hung"}
        answer: Answer = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, self._by],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "MALLOC_PERTURB_": str(self._memory_holds)},  # of glibc
        )

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve(by: By) -> None:
    """Answer the questions on stdin."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # plugins of HDF5 print what they think
    for line in sys.stdin:
        path, name = json.loads(line)
        answer = by_h5py(path, name) if by == "h5py" else by_kerash5(path, name, by)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def by_kerash5(path: str, name: str, by: By) -> Answer:
    """Read all rows, or some of very many, as a user would."""
    from kerash5 import KerasH5Error, Source

    try:
        source = Source(path, reader=by, x=name)
        column = source.columns["x"]
        rows = source.read(wanted(len(source), column.loaded_row_bytes))["x"]
        if column.class_names is not None:
            rows = np.array(column.class_names, object)[rows]
        return {"rows": digest(rows), "by": type(column.parts[0]).__name__}
    except KerasH5Error as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  # a raw error is what this is about
        return {"raw": f"{type(error).__name__}: {error}"}


def by_h5py(path: str, name: str) -> Answer:
    """Read the same rows by h5py, after asking it all that kerash5 asks it for."""
    import hdf5plugin  # noqa: F401  # registers its filters

    try:
        with h5py.File(path, "r") as file:
            dataset = file[name]
            ask_about(dataset)
            row_bytes = int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
            rows = wanted(len(dataset), row_bytes)
            whole = dataset[()] if len(rows) == len(dataset) else None
            found = [dataset[row] for row in rows.tolist()] if whole is None else whole
            return {"rows": digest(np.asarray(found, dataset.dtype))}
    except Exception as error:  # noqa: BLE001  # whatever it is, it is h5py's answer
        return {"raw": f"{type(error).__name__}: {error}"}


def ask_about(dataset: h5py.Dataset) -> None:
    """Ask HDF5 about a data set: any of it may be what it dies of."""
    creation = dataset.id.get_create_plist()
    with suppress(Exception):
        [creation.get_filter(number) for number in range(creation.get_nfilters())]
    if not dataset.chunks:
        dataset.id.get_offset()
        return
    firsts: list[tuple[int, ...]] = []
    for ask in (
        dataset.id.get_num_chunks,
        dataset.id.get_storage_size,
        lambda: dataset.id.chunk_iter(lambda chunk: firsts.append(chunk.chunk_offset)),
        lambda: [dataset.id.read_direct_chunk(first) for first in firsts[:1000]],
    ):
        with suppress(Exception):
            ask()


def wanted(num_rows: int, row_bytes: int) -> NDArray[np.int64]:
    """Return the rows to read: all, or a few where they are large."""
    if num_rows * max(1, row_bytes) <= _MAX_BYTES:
        return np.arange(num_rows)
    if row_bytes > _MAX_BYTES:
        raise MemoryError(f"rows of {row_bytes} bytes")
    return np.unique(np.linspace(0, num_rows - 1, _FEW).astype(np.int64))


def digest(rows: NDArray[Any]) -> str:
    """Return a hash of shape, type and every value; what pads a compound does not count."""
    found = hashlib.sha256(str(rows.shape).encode())
    _add(found, rows)
    return found.hexdigest()[:32]


def _add(found: Any, rows: NDArray[Any]) -> None:
    if rows.dtype.names is not None:
        for name in rows.dtype.names:
            _add(found, rows[name])
    elif rows.dtype.kind in "OSU":
        found.update("\n".join(map(_text, rows.flat)).encode("utf-8", "surrogatepass"))
    else:
        found.update(str(rows.dtype).encode() + np.ascontiguousarray(rows).tobytes())


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    serve(sys.argv[1])  # type: ignore[arg-type]  # the parent above
