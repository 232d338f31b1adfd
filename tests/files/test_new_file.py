"""Files that appear whole or not at all, and never in place of a file that nobody offered."""

import errno
import io
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerash5._errors import FileError, KerasH5Error
from kerash5.files import _new_file, create_file, replace_text, replacing
from kerash5.h5 import Source, write
from kerash5.h5._append import open_writer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, links and locks of POSIX")
MODES = ("nameless", "named", "without links")


@pytest.fixture(params=MODES, ids=MODES)
def each_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with drafts that have no name, with named ones, and without hard links."""
    if request.param == "nameless":
        if not hasattr(os, "O_TMPFILE"):
            pytest.skip("this system has no files without names")
    else:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param == "without links":

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def create(path: Path, content: bytes, *, overwrite: bool) -> None:
    with create_file(str(path), overwrite=overwrite) as stream:
        stream.write(content)


@pytest.mark.usefixtures("each_kind")
def test_a_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    with create_file(str(tmp_path / "a"), overwrite=False) as stream:
        stream.write(b"whole")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["a"]


@pytest.mark.usefixtures("each_kind")
def test_a_file_made_in_the_meantime_is_never_replaced(tmp_path: Path) -> None:
    with (
        pytest.raises(FileExistsError),
        create_file(str(tmp_path / "a"), overwrite=False),
    ):
        (tmp_path / "a").write_bytes(b"first")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


@pytest.mark.usefixtures("each_kind")
def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["a"]


@pytest.mark.usefixtures("each_kind")
def test_a_write_that_the_system_cuts_short_goes_on_or_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the system writes 4096 of 5000
    try:
        with pytest.raises(FileError, match=r"could not be written.*File too large"):
            replace_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_text(path, "old")
    replace_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "write"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "a.txt"
    replace_text(path, "old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    text = "new"
    if failing == "fsync":
        monkeypatch.setattr("os.fsync", fail)
    else:
        text = "\ud800"  # has no UTF-8
    with pytest.raises((OSError, UnicodeEncodeError)):
        replace_text(path, text)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("each_kind")
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_error_in_the_block_leaves_nothing_behind(tmp_path: Path, overwrite: bool) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        create_file(str(tmp_path / "a"), overwrite=overwrite),
    ):
        raise ZeroDivisionError
    assert names(tmp_path) == []


@pytest.mark.usefixtures("each_kind")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o604], ids=oct)
def test_overwriting_keeps_the_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    create(path, b"new", overwrite=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)
    assert names(tmp_path) == ["a"]


@pytest.mark.usefixtures("each_kind")
def test_a_draft_of_a_private_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with create_file(str(path), overwrite=True) as stream:
        assert os.fstat(stream.fileno()).st_mode & 0o077 == 0


@pytest.mark.usefixtures("each_kind")
def test_a_new_file_has_the_mode_that_open_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    wanted = (tmp_path / "plain").stat().st_mode
    create(tmp_path / "a", b"new", overwrite=False)
    create(tmp_path / "b", b"new", overwrite=True)
    assert {(tmp_path / name).stat().st_mode for name in "ab"} == {wanted}


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
@pytest.mark.usefixtures("each_kind")
def test_overwriting_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    create(path, b"new", overwrite=True)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.usefixtures("each_kind")
@pytest.mark.parametrize("exists", [True, False], ids=["to a file", "to no file yet"])
def test_overwriting_follows_a_symbolic_link(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "a", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("far/a")
    create(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert (names(tmp_path), names(target.parent)) == (["far", "link"], ["a"])


def test_a_dangling_link_counts_as_a_file_that_exists(tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to("nowhere.h5")
    with pytest.raises(FileError, match="exists; pass overwrite=True"):
        write(tmp_path / "link.h5", x=[1])
    assert names(tmp_path) == ["link.h5"]


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "circle"):
        with pytest.raises(FileError, match="a device, a pipe or a circle of links"):
            write(tmp_path / name, overwrite=True, x=[1])
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.usefixtures("each_kind")
@pytest.mark.parametrize("writer", ["write", "open_writer"])
def test_one_of_many_writers_of_a_name_succeeds(tmp_path: Path, writer: str) -> None:
    path, told = tmp_path / "a.h5", []
    barrier = threading.Barrier(8)

    def run(number: int) -> None:
        rows = np.full((50, 10), number)
        barrier.wait()
        try:
            if writer == "write":
                write(path, x=rows)
            else:
                with open_writer(path, 50) as rows_of:
                    rows_of.append({"x": rows})
        except KerasH5Error as error:
            assert "exists" in str(error)  # noqa: PT017  of a thread
        else:
            told.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert np.unique(Source(path, x="x").read(range(50))["x"]).tolist() == told
    assert names(tmp_path) == ["a.h5"]


# Drafts of killed processes

KILLED = """
import os, signal, sys
if sys.argv[2] == "named":
    del os.O_TMPFILE
import numpy as np
from kerash5.h5._append import open_writer
with open_writer(sys.argv[1], 9) as writer:
    writer.append({"x": np.zeros(3)})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(path: Path, kind: str) -> None:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    command = [sys.executable, "-c", KILLED, str(path), kind]
    assert subprocess.run(command, check=False, timeout=60, env=environment).returncode == -9


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no files without names")
def test_a_killed_row_writer_leaves_nothing(tmp_path: Path) -> None:
    descriptor = _new_file._open_nameless(str(tmp_path), 0o600)
    if descriptor is None:
        pytest.skip("this file system has no files without names")
    os.close(descriptor)
    kill_a_writer(tmp_path / "a.h5", "nameless")
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no files without names")
def test_the_next_writer_in_the_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    kill_a_writer(tmp_path / "a.h5", "named")
    assert len(names(tmp_path)) == 1
    write(tmp_path / "b.h5", x=[1])
    assert names(tmp_path) == ["b.h5"]


def test_the_draft_of_a_living_writer_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    with create_file(str(tmp_path / "a"), overwrite=False) as stream:
        stream.write(b"half")
        (draft,) = names(tmp_path)
        create(tmp_path / "b", b"", overwrite=False)
        assert names(tmp_path) == [draft, "b"]
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(("age", "is_left"), [(3600, True), (90_000, False)], ids=["hour", "day"])
def test_a_draft_of_another_machine_is_removed_after_a_day(
    tmp_path: Path, age: int, is_left: bool
) -> None:
    draft = tmp_path / ".a.h5.01234567.89abcdef.partial"
    draft.write_bytes(b"")
    then = draft.stat().st_mtime - age
    os.utime(draft, (then, then))
    _new_file.remove_old_drafts(str(tmp_path))
    assert draft.exists() is is_left


def test_files_of_others_are_never_swept(tmp_path: Path) -> None:
    mine = [".a.h5.partial", "a.h5.01234567.89abcdef.partial", ".a.h5.01234567.89abcdef.partially"]
    for name in mine:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    _new_file.remove_old_drafts(str(tmp_path))
    assert names(tmp_path) == sorted(mine)


def test_a_draft_that_cannot_be_linked_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def refuse(source: str, *arguments: Any, **options: Any) -> None:
        if source.startswith("/proc"):
            raise OSError(errno.ENOENT, "No such file or directory")
        link(source, *arguments, **options)

    monkeypatch.setattr(os, "link", refuse)
    content = os.urandom(3 << 20)
    create(tmp_path / "a", content, overwrite=False)
    create(tmp_path / "b", content, overwrite=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == content
    assert names(tmp_path) == ["a", "b"]


def test_a_folder_that_cannot_be_forced_to_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112  a descriptor
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.warns(UserWarning, match="is written, but its folder could not be synced"):
        create(tmp_path / "a", b"whole", overwrite=False)
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_the_stream_is_a_plain_file(tmp_path: Path) -> None:
    with create_file(str(tmp_path / "a"), overwrite=False) as stream:
        assert isinstance(stream, io.FileIO)
        stream.write(b"0123")
        stream.seek(1)
        assert stream.read(2) == b"12"
