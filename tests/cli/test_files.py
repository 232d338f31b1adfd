"""The commands that write and show HDF5 files, without Keras."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5.cli import _file_jobs
from kerash5.cli._main import main
from tests.cli.lines import only_line

Console = pytest.CaptureFixture[str]


# repack


def test_repack_writes_the_file_and_says_what_it_did(
    file: str, tmp_path: Path, capsys: Console
) -> None:
    out = str(tmp_path / "out.h5")
    words = ["--shuffle", "--seed", "3", "--chunks", "2", "--compression", "lzf", "--paged"]
    assert main(["repack", file, out, *words]) == 0
    printed, err = capsys.readouterr()
    assert only_line(printed).startswith(f"{out}: 2 data sets, 2 of them shuffled, ")
    assert err == ""
    with h5py.File(out) as made:
        assert (made["label"].chunks, made["label"].compression) == ((2,), "lzf")
        assert (made["label"][()] == made["row_order"][()] % 2).all()


def test_repack_says_in_one_line_what_is_wrong(file: str, tmp_path: Path, capsys: Console) -> None:
    out = str(tmp_path / "out.h5")
    for words, said in (
        ([file, file], "is the file to be repacked"),
        ([str(tmp_path / "no.h5"), out], "no.h5"),
        ([file, str(tmp_path / "no" / "out.h5")], "there is no folder"),
        ([file, out, "--chunks", "0"], "chunks=0"),
    ):
        assert main(["repack", *words]) == 1
        assert said in only_line(capsys.readouterr().err)
    assert main(["repack", file, out, "--compression", "best"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["train.h5"]


def test_repack_that_is_stopped_says_that_it_goes_on(
    file: str, tmp_path: Path, capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_file_jobs, "repack", stop)
        assert main(["repack", file, str(tmp_path / "out.h5")]) == 130
    assert "the same command goes on from there" in only_line(capsys.readouterr().err)


# pack


def test_pack_says_what_to_do_with_the_file(tmp_path: Path, capsys: Console) -> None:
    path, out = tmp_path / "in.npz", tmp_path / "a [1].h5"
    np.savez(path, x=np.zeros((5, 3)), y=np.arange(5) % 2)
    assert main(["pack", str(path), str(out)]) == 0
    printed, err = capsys.readouterr()
    assert printed.splitlines() == [
        f"{out}: 2 arrays, {out.stat().st_size / 1e3:.1f} kB",
        f"train on it: kerash5 fit '{out}' --data.x x --data.y y --model mlp",
    ]
    assert err == ""


def test_pack_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: Console) -> None:
    out = str(tmp_path / "out.h5")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    for words, said in (
        ([str(tmp_path / "t.csv"), out, "--label", "c"], "has no column 'c'"),
        ([str(tmp_path), out], "a folder for each class"),
        (["mnist", out, "--size", "3", "3"], "--size does not go with mnist"),
    ):
        assert main(["pack", *words]) == 1
        assert said in only_line(capsys.readouterr().err)
    assert main(["pack", str(tmp_path / "t.csv"), out, "--size", "3"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


# view


def test_view_prints_where_the_picture_is(
    file: str, tmp_path: Path, capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "a.png")
    assert main(["view", file, "-x", "image", "-y", "label", "--rows", "0:4", "--out", out]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    monkeypatch.chdir(tmp_path)
    assert main(["view", file]) == 0
    assert capsys.readouterr().out == "train.png\n"
    assert main(["view", file, "--rows", "9:12", "--out", out]) == 1
    assert "numbered 0 to 5" in only_line(capsys.readouterr().err)
