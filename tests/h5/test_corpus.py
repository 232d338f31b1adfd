"""Real files of other people: each data set equals its golden hash, or is refused in our words.

The files are read by a child process with limits, several after one another; it is started anew
when it dies, so that one file's crash is that file's failure.
"""

import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest

_SECONDS: Final = 20  # a file may take
_MEMORY: Final = 4 << 30
_MAX_BYTES: Final = 64 << 20  # larger data sets are left out
_GROUPS: Final = 12


def read_files() -> None:
    """Read the files whose golden lines come on stdin; one line of complaints each on stdout."""
    from kerash5 import KerasH5Error

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for line in sys.stdin:
        golden = json.loads(line)
        complaints = []
        for entry in golden["datasets"]:
            try:
                complaints += check(golden["path"], entry)
            except KerasH5Error:
                continue
            except Exception as error:  # noqa: BLE001  # a raw error is what the test is about
                complaints.append(f"{entry['p']}: raw {type(error).__name__}: {error}")
        sys.stdout.write(json.dumps(complaints) + "\n")
        sys.stdout.flush()


def check(path: str, entry: dict[str, Any]) -> list[str]:
    """Compare one data set with its golden hash, by each reader."""
    from kerash5 import Source
    from kerash5.h5.reading._readers import H5pyReader

    complaints = []
    for reader in ("auto", "direct"):
        source = Source(path, reader=reader, x=entry["p"])
        column = source.columns["x"]
        if len(source) * column.loaded_row_bytes > _MAX_BYTES or column.labels is not None:
            continue
        rows = source.load_rows(np.arange(len(source)))["x"]
        found = digest(rows)
        by_h5py = isinstance(column.parts[0], H5pyReader)
        if found != entry["sha"] and not (by_h5py and found == digest_of_h5py(path, entry["p"])):
            complaints.append(f"{entry['p']} by {reader} ({column.parts[0].describe()}): {found}")
    return complaints


def digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:32]


def digest_of_h5py(path: str, name: str) -> str:
    """Return the hash by this HDF5: the golden one's undid one broken file's filter otherwise."""
    with h5py.File(path) as file:
        return digest(file[name][()])


def golden_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the files that h5py survives, with their data sets that have rows and a hash."""
    found = []
    with (folder / "golden.jsonl").open(encoding="utf-8") as lines:
        for golden in map(json.loads, lines):
            kept = [d for d in golden["datasets"] if "sha" in d and d["shape"]]
            if kept and not golden["crashes_h5py"]:
                path = str(folder / golden["file"])
                found.append({"file": golden["file"], "path": path, "datasets": kept})
    return found


def run_child(lines: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each file with what is wrong with it; a file the child dies of is wrong."""
    waiting = list(lines)
    while waiting:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            out, _ = child.communicate(
                "".join(json.dumps(line) + "\n" for line in waiting), _SECONDS * len(waiting)
            )
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
        answers = out.splitlines()
        yield from zip((line["file"] for line in waiting), map(json.loads, answers), strict=False)
        waiting = waiting[len(answers) :]
        if waiting:
            yield waiting.pop(0)["file"], [f"the child died or hung ({child.returncode})"]


@pytest.mark.parametrize("group", range(_GROUPS))
def test_every_data_set_of_the_corpus_equals_its_hash_or_is_refused(
    group: int, corpus_dir: Path
) -> None:
    lines = golden_lines(corpus_dir)[group::_GROUPS]
    assert len(lines) > 20
    answers = dict(run_child(lines))
    assert len(answers) == len(lines)
    assert {file: wrong for file, wrong in answers.items() if wrong} == {}


if __name__ == "__main__":
    read_files()
