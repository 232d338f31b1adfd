"""Damaged files: an error of ours or what h5py reads, and the process lives.

Each mutant is read by child processes, by kerash5 and by plain h5py. HDF5 itself crashes or hangs
on some damaged metadata, and that is not ours to prevent: a child that dies is a defect only where
h5py's lives. Where a chunk is too short HDF5 returns whatever memory held: what it answers two
processes differently it cannot be held to, but our own decoding must never do so.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest

from tests.mutants import MODES, find_data, lookup3, mutants
from tests.reading_child import Answer, By, Child
from tests.stored_filters import StoredFilter

IS_DEEP: Final = os.environ.get("KERASH5_HYPOTHESIS_PROFILE") == "deep"
SEED: Final = int(os.environ.get("KERASH5_MUTANT_SEED", "0"))
OWN_COUNT: Final = 50 * len(MODES) if IS_DEEP else len(MODES) // 2
CORPUS_FILES: Final = 250 if IS_DEEP else 8
CORPUS_COUNT: Final = 2 * len(MODES) if IS_DEEP else 5
OTHER_ROWS: Final = "wrong: other rows than h5py"
_PATIENCE: Final = 180  # seconds
_MAX_FILE_BYTES: Final = 200_000

VALUES: Final = np.random.default_rng(3).integers(0, 50, (60, 5, 4), np.uint8)


def contiguous(file: Any) -> None:
    file["x"] = VALUES


def chunked(file: Any) -> None:
    file.create_dataset(
        "x", data=VALUES, chunks=(8, 5, 3), compression="gzip", shuffle=True, fletcher32=True
    )


def growing(file: Any) -> None:
    dataset = file.create_dataset(
        "x", (10, 5, 4), "u1", chunks=(8, 5, 4), maxshape=(None, 5, 4), compression="lzf"
    )
    dataset[...] = VALUES[:10]
    dataset.resize((60, 5, 4))
    dataset[30:] = VALUES[30:]


def growing_sideways(file: Any) -> None:
    file.create_dataset("x", data=VALUES, chunks=(8, 2, 2), maxshape=(60, None, 4), compression=1)


def compound(file: Any) -> None:
    dtype = np.dtype([("a", "u1"), ("b", ">f8"), ("c", "<i2", (2,))], align=True)
    values = np.zeros(60, dtype)
    values["a"], values["b"] = VALUES[:, 0, 0], VALUES[:, 1, 1]
    file.create_dataset("x", data=values, chunks=(16,), compression="gzip")


def text(file: Any) -> None:
    words = [f"word {number % 7}" for number in range(60)]
    file.create_dataset("x", data=words, dtype=h5py.string_dtype(), chunks=(16,))


def nested(file: Any) -> None:
    group = file
    for name in "abc":
        group = group.create_group(name)
        for number in range(12):
            group.attrs[f"note {number}"] = "text " * number
    group["x"] = VALUES
    file["x"] = h5py.SoftLink("/a/b/c/x")


def packed_by(*filters: StoredFilter) -> Callable[[Any], None]:
    def make(file: Any) -> None:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for entry in filters:
            entry.add_to(creation)
        file.create_dataset("x", data=VALUES, chunks=(8, 5, 4), dcpl=creation)

    return make


FILES: Final[dict[str, Callable[[Any], None]]] = {
    **{
        make.__name__: make
        for make in (contiguous, chunked, growing, growing_sideways, compound, text, nested)
    },
    "lz4": packed_by(StoredFilter("lz4", 32004, (0,))),
    "zstd": packed_by(StoredFilter("zstd", 32015, (3,))),
    "blosc": packed_by(StoredFilter("blosc", 32001, (0, 0, 0, 0, 5, 1, 1))),
    "bitshuffle": packed_by(StoredFilter("bitshuffle", 32008, (0, 2))),
    "bzip2": packed_by(StoredFilter("bzip2", 307, (9,))),
    "scaleoffset": packed_by(StoredFilter("scaleoffset", 6)),
}


@pytest.fixture(scope="module")
def children() -> Iterator[dict[By, Child]]:
    """One child for each way to read, for all tests: to start one takes longer than to read."""
    with Child("auto") as auto, Child("direct") as direct, Child("h5py") as truth:
        yield {"auto": auto, "direct": direct, "h5py": truth}


@pytest.mark.deep
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_an_error_or_what_h5py_reads(
    name: str, libver: str, children: dict[By, Child], tmp_path: Path
) -> None:
    path = tmp_path / "sound.h5"
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        FILES[name](file)
    seen, complaints = read_mutants(path, ["x"], OWN_COUNT, children, tmp_path)
    report(f"{name}, {libver}", seen)
    assert complaints == []
    assert seen["rows"] + seen["refused"] > OWN_COUNT


@pytest.mark.deep
def test_damage_to_real_files_is_an_error_or_what_h5py_reads(
    corpus_dir: Path, children: dict[By, Child], tmp_path: Path
) -> None:
    total: Counter[str] = Counter()
    complaints = []
    for path, names in corpus_files(corpus_dir):
        seen, wrong = read_mutants(path, names, CORPUS_COUNT, children, tmp_path)
        total += seen
        complaints += wrong
    report("real files", total)
    assert complaints == []
    assert total["rows"]
    assert total["refused"]


def read_mutants(
    path: Path, names: list[str], count: int, children: dict[By, Child], folder: Path
) -> tuple[Counter[str], list[str]]:
    """Read the mutants of a file by each reader; return what came of it, and what is wrong."""
    seen: Counter[str] = Counter()
    complaints = []
    sound, damaged = path.read_bytes(), folder / "damaged.h5"
    for number, mutant in enumerate(mutants(sound, find_data(path), count, SEED)):
        damaged.write_bytes(mutant.content)
        for name in names:
            expected = children["h5py"].ask(damaged, name)
            for by in ("auto", "direct"):
                answer = children[by].ask(damaged, name)
                verdict = judge(answer, expected)
                if "died" in answer and verdict.startswith("wrong"):
                    # HDF5 may take nearly as long as it is given, and longer the next time.
                    with Child(by, seconds=_PATIENCE) as another:
                        verdict = judge(another.ask(damaged, name), expected)
                if verdict == OTHER_ROWS and answer["by"] == "H5pyReader":
                    with Child("h5py", memory_holds=SEED + 90) as another:
                        if another.ask(damaged, name) != expected:
                            verdict = "unsure, as h5py is"
                seen[verdict] += 1
                if verdict.startswith("wrong"):
                    where = f"{path.name} mutant {number} ({mutant.mode}) {name!r} by {by}"
                    complaints.append(f"{where}: {verdict}: {answer} against {expected}")
                    keep(mutant.content, f"{path.stem}-{number}")
    return seen, complaints


def judge(answer: Answer, expected: Answer) -> str:
    """Say in a word or two what an answer is, seen what h5py's is; "wrong ..." is a defect."""
    if "refused" in answer:
        return "refused"
    if "died" in answer:
        return "died as h5py does" if "died" in expected else "wrong: died, and h5py does not"
    if "raw" in answer:
        return "wrong: a raw error"
    if "rows" not in expected:
        return "wrong: rows where h5py has none"
    return "rows" if answer["rows"] == expected["rows"] else OTHER_ROWS


@pytest.mark.parametrize(
    ("answer", "expected", "verdict"),
    [
        ({"rows": "a"}, {"rows": "a"}, "rows"),
        ({"rows": "a"}, {"rows": "b"}, OTHER_ROWS),
        ({"rows": "a"}, {"raw": "OSError"}, "wrong: rows where h5py has none"),
        ({"rows": "a"}, {"died": "hung"}, "wrong: rows where h5py has none"),
        ({"refused": "cut short"}, {"rows": "b"}, "refused"),
        ({"raw": "KeyError"}, {"raw": "KeyError"}, "wrong: a raw error"),
        ({"died": "hung"}, {"died": "by signal 11"}, "died as h5py does"),
        ({"died": "hung"}, {"rows": "b"}, "wrong: died, and h5py does not"),
    ],
)
def test_what_is_a_defect(answer: Answer, expected: Answer, verdict: str) -> None:
    assert judge(answer, expected) == verdict


def keep(content: bytes, name: str) -> None:
    """Keep a mutant that was read wrong, where somebody asks for it."""
    if folder := os.environ.get("KERASH5_KEEP_MUTANTS"):
        Path(folder, f"{name}.h5").write_bytes(content)


def report(what: str, seen: Counter[str]) -> None:
    """Leave what came of it in pytest's captured output."""
    print(f"{what}: {dict(sorted(seen.items()))}")  # noqa: T201


def corpus_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield some small sound files of other people, spread over all, with up to three data sets."""
    found = []
    with (folder / "golden.jsonl").open(encoding="utf-8") as lines:
        for golden in map(json.loads, lines):
            path = folder / golden["file"]
            names = [d["p"] for d in golden["datasets"] if "sha" in d and d["shape"]][:3]
            is_small = path.stat().st_size <= _MAX_FILE_BYTES
            if names and is_small and not golden["crashes_h5py"]:
                found.append((path, names))
    yield from found[:: max(1, len(found) // CORPUS_FILES)][:CORPUS_FILES]


def test_sound_files_are_read_alike_by_all_children(
    children: dict[By, Child], tmp_path: Path
) -> None:
    for name, make in FILES.items():
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        answers = [child.ask(path, "x")["rows"] for child in children.values()]
        assert len(set(answers)) == 1, name


def test_a_child_that_dies_or_hangs_is_noticed_and_followed_by_another(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it waits for a writer
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = VALUES
    with Child("h5py", seconds=3) as child:
        assert child.ask(tmp_path / "pipe", "x") == {"died": "hung"}
        assert "rows" in child.ask(tmp_path / "a.h5", "x")
        assert child._process is not None
        child._process.send_signal(signal.SIGSEGV)
        assert child.ask(tmp_path / "a.h5", "x") == {"died": "by signal 11"}
        assert "rows" in child.ask(tmp_path / "a.h5", "x")


def test_checksums_of_metadata_are_those_of_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["x"] = VALUES
    raw = (tmp_path / "a.h5").read_bytes()
    assert raw[8] in (2, 3)  # the superblock's version; its checksum ends it
    assert lookup3(raw[:44]) == int.from_bytes(raw[44:48], "little")


def test_mutants_are_the_same_each_time() -> None:
    content = bytes(range(256)) * 40
    first = list(mutants(content, [(100, 500)], 60, seed=1))
    assert first == list(mutants(content, [(100, 500)], 60, seed=1))
    assert first != list(mutants(content, [(100, 500)], 60, seed=2))
    assert {mutant.mode for mutant in first} == set(MODES)
