"""Repacking changes chunks, filters and, if asked, the order of rows; nothing else."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerash5 as k5
from kerash5.h5 import close_files
from kerash5.repacking import _options, _repack, _rows
from tests import strategies
from tests.repacking.same import find_differences

OPTIONS = st.fixed_dictionaries(
    {
        "chunks": st.sampled_from(["auto", 1, 3, 1000]),
        "compression": st.sampled_from(_options.COMPRESSIONS),
        "paged": st.booleans(),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 3),
    }
)
NAMES = (*strategies.DTYPES, *strategies.ODD_TYPES)


def differences(one: Path, other: Path) -> list[str]:
    with h5py.File(one) as source, h5py.File(other) as made:
        order = made["row_order"][()] if "row_order" in made else None
        added = "row_order" if order is not None else ""
        return list(find_differences(source, made, order, added=added))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write a few rows at a time, commit after each, and shuffle on disk."""
    monkeypatch.setattr(_rows, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(_rows, "_MAX_MEMORY", 100)
    monkeypatch.setattr(_repack, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(_repack, "_COMMIT_SHARE", 1e9)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=rng.random((40, 3)), chunks=(7, 2), compression="gzip")
        file["y"] = np.arange(40)
        file.create_dataset("word", data=[f"w{n}" for n in range(40)])
        file["names"] = np.arange(5)
    return path


@settings(deadline=None)
@given(case=strategies.stored_arrays(dtype_names=NAMES), options=OPTIONS)
def test_rows_of_every_type_and_layout_are_kept_to_the_bit(
    case: strategies.StoredArray, options: dict[str, Any]
) -> None:
    with strategies.written(case) as path:
        made = path.with_name("made.h5")
        k5.repack(path, made, **options)
        assert differences(path, made) == []
        assert sorted(path.parent.iterdir()) == [path, made]


@pytest.mark.usefixtures("small_blocks")
@settings(deadline=None, max_examples=20)
@given(case=strategies.stored_arrays(dtype_names=NAMES), options=OPTIONS)
def test_rows_are_kept_where_little_fits_in_memory(
    case: strategies.StoredArray, options: dict[str, Any]
) -> None:
    with strategies.written(case) as path:
        made = path.with_name("made.h5")
        k5.repack(path, made, **options)
        assert differences(path, made) == []


def write_all_kinds(path: Path) -> None:
    """Write a file with every kind of object, link, attribute and reference."""
    with h5py.File(path, "w", track_order=True) as file:
        x = file.create_dataset("z/x", data=np.arange(12.0).reshape(4, 3), maxshape=(None, 3))
        file["scalar"], file["a"] = 3, np.arange(4)
        file["scale"] = np.arange(4)
        file["scale"].make_scale("time")
        x.dims[0].attach_scale(file["scale"])
        x.dims[1].label = "feature"
        file["hard"], file["group again"] = x, file["z"]
        file["soft"], file["far"] = h5py.SoftLink("/z/x"), h5py.ExternalLink("other.h5", "/x")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["empty"], file["none"] = h5py.Empty("f4"), np.zeros((0, 3))
        file["type"] = np.dtype([("p", "f4")])
        file["of type"] = np.zeros(3, [("p", "f4")])
        ragged = file.create_dataset("ragged", (3,), h5py.vlen_dtype(np.int32))
        ragged[0] = [1, 2]
        file.create_dataset("texts", data=["a", "", "ccc"])
        refs = file.create_dataset("refs", (2,), h5py.ref_dtype)
        refs[0] = x.ref
        regions = file.create_dataset("regions", (1,), h5py.regionref_dtype)
        regions[0] = x.regionref[1:3, :2]
        inside = np.zeros(1, [("n", "i4"), ("to", h5py.ref_dtype)])
        inside["to"][0] = file["a"].ref
        file["inside"] = inside
        file.create_dataset("never written", (10**6, 10**6, 10**6), "f8")
        file.attrs["text"], file.attrs["fixed"] = "é", np.bytes_(b"ab")
        file.attrs["to"], file.attrs["empty"] = x.ref, h5py.Empty("i4")
        file["z"].attrs["list"], file["z"].attrs["words"] = [1, 2, 3], ["a", "bb"]
        x.attrs.create("several", [x.ref, file["a"].ref], dtype=h5py.ref_dtype)
        x.attrs["units"] = "K"


@pytest.mark.parametrize("options", [{}, {"compression": "none", "chunks": 2}, {"paged": True}])
def test_all_other_objects_links_attributes_and_references_are_kept(
    options: dict[str, Any], tmp_path: Path
) -> None:
    write_all_kinds(tmp_path / "a.h5")
    done = k5.repack(tmp_path / "a.h5", tmp_path / "b.h5", **options)
    assert done.notes == ()
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    with h5py.File(tmp_path / "b.h5") as made:
        assert made["z/x"].maxshape == (None, 3)
        assert made["hard"] == made["z/x"]
        assert made["regions"][0]
        region = made[made["regions"][0]]
        assert region[made["regions"][0]].tolist() == [[3.0, 4.0], [6.0, 7.0]]
        assert next(iter(made)) == "z"  # the order of creation


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.zeros((4, 300)), maxshape=(None, 300))
        file["gone"] = np.zeros(3)
        file.attrs["to"] = file["gone"].ref
        del file["gone"]
    done = k5.repack(tmp_path / "a.h5", tmp_path / "b.h5", compression="none")
    told = " | ".join(done.notes)
    assert "user block" in told
    assert "'x' can no longer be extended" in told
    assert "a reference in '@to' is not kept" in told


def test_chunks_are_of_whole_rows_with_the_compression_asked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((4000, 28, 28), "u1"), chunks=(500, 4, 4))
        file["few"] = np.zeros(4)
    cases: list[tuple[dict[str, Any], tuple[int, ...] | None, str | None]] = [
        ({}, (334, 28, 28), "gzip"),
        ({"chunks": 64, "compression": "lzf"}, (64, 28, 28), "lzf"),
        ({"compression": "none"}, None, None),
    ]
    for options, chunks, compression in cases:
        k5.repack(tmp_path / "a.h5", tmp_path / "b.h5", overwrite=True, **options)
        with h5py.File(tmp_path / "b.h5") as made:
            assert (made["x"].chunks, made["x"].compression) == (chunks, compression)
            assert (made["few"].chunks is None) == ("chunks" not in options)
    k5.repack(tmp_path / "a.h5", tmp_path / "b.h5", overwrite=True, paged=True)
    with h5py.File(tmp_path / "b.h5") as made:
        assert (
            made.id.get_create_plist().get_file_space_strategy()[0] == h5py.h5f.FSPACE_STRATEGY_PAGE
        )


# The order of rows


def test_shuffled_rows_stay_aligned_and_name_their_source(source: Path, tmp_path: Path) -> None:
    done = k5.repack(source, tmp_path / "b.h5", shuffle=True, seed=4)
    assert done.shuffled == ("word", "x", "y")
    assert "names: rows in their order" in " ".join(done.notes)
    assert differences(source, tmp_path / "b.h5") == []
    with h5py.File(tmp_path / "b.h5") as made:
        order = made["row_order"][()]
        assert made["y"][()].tolist() == order.tolist()
        assert sorted(order) == list(range(40))
        assert made["names"][()].tolist() == list(range(5))
    k5.repack(source, tmp_path / "c.h5", shuffle=True, seed=4)
    k5.repack(source, tmp_path / "d.h5", shuffle=True, seed=5)
    with h5py.File(tmp_path / "c.h5") as again, h5py.File(tmp_path / "d.h5") as other:
        assert again["row_order"][()].tolist() == order.tolist()
        assert other["row_order"][()].tolist() != order.tolist()


def test_a_file_shuffled_twice_still_names_the_first_rows(source: Path, tmp_path: Path) -> None:
    k5.repack(source, tmp_path / "b.h5", shuffle=True)
    done = k5.repack(tmp_path / "b.h5", tmp_path / "c.h5", shuffle=True, seed=1)
    assert "'row_order' of the source was put in the same order" in " ".join(done.notes)
    with h5py.File(tmp_path / "c.h5") as made:
        assert made["y"][()].tolist() == made["row_order"][()].tolist()


def test_sparse_rows_are_not_shuffled(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X/data"], file["X/indices"], file["X/indptr"] = np.ones(2), [0, 1], [0, 1, 2]
    with pytest.raises(k5.ColumnError, match="'X', a sparse matrix"):
        k5.repack(tmp_path / "a.h5", tmp_path / "b.h5", shuffle=True)


# What is refused


@pytest.mark.parametrize("how", ["itself", "hard link", "soft link"])
def test_a_file_is_not_written_over_itself(how: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    if how == "itself":
        out = tmp_path / "x" / ".." / "source.h5"
        (tmp_path / "x").mkdir()
    elif how == "hard link":
        out.hardlink_to(source)
    else:
        out.symlink_to(source)
    before = source.read_bytes()
    with pytest.raises(k5.OptionError, match="is the file to be repacked"):
        k5.repack(source, out, overwrite=True)
    assert source.read_bytes() == before


def test_an_existing_file_is_replaced_only_if_asked(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    out.write_bytes(b"mine")
    with pytest.raises(k5.FileError, match="exists"):
        k5.repack(source, out)
    assert out.read_bytes() == b"mine"
    out.chmod(0o640)
    k5.repack(source, out, overwrite=True)
    assert out.stat().st_mode & 0o777 == 0o640
    assert differences(source, out) == []


def test_an_unknown_filter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    k5.write(tmp_path / "a.h5", x=np.zeros((4, 3)))
    monkeypatch.setattr(_repack, "load_filters", lambda found: ["odd filter; see"] * len(found))
    with pytest.raises(k5.ColumnError, match="'odd filter', which is not installed"):
        k5.repack(tmp_path / "a.h5", tmp_path / "b.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    "options", [{"chunks": 0}, {"chunks": "many"}, {"compression": "best"}, {"seed": 0.5}], ids=str
)
def test_a_wrong_option_is_refused(options: dict[str, Any], source: Path, tmp_path: Path) -> None:
    with pytest.raises(k5.OptionError):
        k5.repack(source, tmp_path / "out.h5", **options)
    assert not (tmp_path / "out.h5").exists()


# Interruptions


def interrupt(source: Path, out: Path, at: float, **options: Any) -> None:
    """Repack until this share is done, and stop as Ctrl-C does."""

    def stop(done: int, of: int) -> None:
        if done >= at * of:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        k5.repack(source, out, progress=stop, **options)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("at", [0.01, 0.2, 0.4, 0.7])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_interrupted_call_is_continued(
    at: float, shuffle: bool, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    out.write_bytes(b"old")
    interrupt(source, out, at, overwrite=True, shuffle=shuffle)
    assert out.read_bytes() == b"old"
    seen: list[int] = []
    done = k5.repack(
        source, out, overwrite=True, shuffle=shuffle, progress=lambda n, _: seen.append(n)
    )
    assert done.was_continued
    if at > 0.1:
        assert seen[0] > min(seen[-1] * 0.4, seen[-1] * (at - 0.2))  # not from the beginning
    assert differences(source, out) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "source.h5"]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("change", ["options", "source"])
def test_a_draft_of_something_else_is_not_continued(
    change: str, source: Path, tmp_path: Path
) -> None:
    interrupt(source, tmp_path / "out.h5", 0.3)
    options: dict[str, Any] = {}
    if change == "options":
        options["chunks"] = 3
    else:
        close_files()
        with h5py.File(source, "r+") as file:
            file["y"][0] = 99
    done = k5.repack(source, tmp_path / "out.h5", **options)
    assert not done.was_continued
    assert "was not continued" in done.notes[0]
    assert differences(source, tmp_path / "out.h5") == []


@pytest.mark.usefixtures("small_blocks")
def test_a_source_that_changes_meanwhile_is_an_error(source: Path, tmp_path: Path) -> None:
    def change(_done: int, _of: int) -> None:
        os.utime(source, (1, 1))

    with pytest.raises(k5.FileChangedError):
        k5.repack(source, tmp_path / "out.h5", progress=change)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.usefixtures("small_blocks")
def test_rows_that_were_written_wrongly_are_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _rows.write_rows

    def spoil(dataset: h5py.Dataset, start: int, values: np.ndarray, *, is_raw: bool) -> None:
        if dataset.name == "/y" and start <= 33 < start + len(values):
            values = values.copy()
            values[33 - start] = values[33 - start - 1] if start < 33 else b"\x01" * 8
        write(dataset, start, values, is_raw=is_raw)

    monkeypatch.setattr(_repack, "write_rows", spoil)
    with pytest.raises(k5.FileError, match="row 33 of 'y' was not written"):
        k5.repack(source, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_only_one_process_writes_a_file(source: Path, tmp_path: Path) -> None:
    def again(_done: int, _of: int) -> None:
        with pytest.raises(k5.FileError, match="is being written by another process"):
            k5.repack(source, tmp_path / "out.h5")

    k5.repack(source, tmp_path / "out.h5", progress=again)
    assert differences(source, tmp_path / "out.h5") == []


@given(
    num_rows=st.integers(1, 500),
    row_bytes=st.integers(1, 1 << 26),
    chunks=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    start=st.integers(0, 40),
)
def test_blocks_cover_every_row_once_and_split_no_chunk(
    num_rows: int, row_bytes: int, chunks: tuple[int, int], start: int
) -> None:
    rows = _rows.RowSet("x", (num_rows,), row_bytes, True, False, chunks[0])
    first = start // chunks[1] * chunks[1]
    blocks = list(rows.blocks(chunks[1], first))
    edges = [first, *(stop for _, stop in blocks)]
    assert blocks == list(pairwise(edges))
    assert edges[-1] == max(first, num_rows)
    assert all(begin % chunks[1] == 0 for begin, _ in blocks)
