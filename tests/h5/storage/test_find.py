import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import (
    ColumnError,
    DamagedFileError,
    ExternalDataError,
    FileChangedError,
    FileMissingError,
    KerasH5Error,
    NotHDF5Error,
    UnknownColumnError,
)
from kerash5.h5 import Source, close_files
from kerash5.h5.reading._select_reader import open_part
from kerash5.h5.storage._file import find_file
from kerash5.h5.storage._layout import Layout


def layout_of(path: Path, name: str = "x") -> Layout:
    return open_part(name, find_file(path))[0]


def read_all(path: Path, name: str = "x", *, allow_external: bool = False) -> list[Any]:
    source = Source(path, allow_external=allow_external, x=name)
    found: list[Any] = source.read(np.arange(len(source)))["x"].tolist()
    return found


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of the file that is read, and a folder outside it."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    return inside, outside


def write_file(path: Path, **columns: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name.replace("__", "/")] = values
    return path


# What is no column


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.h5", image=[1, 2], label=[0, 1], train__images=[1, 2])
    with pytest.raises(UnknownColumnError, match=r"no data set 'imagee'.*did you mean 'image'"):
        Source(path, x="imagee")
    with pytest.raises(UnknownColumnError, match="did you mean 'train/images'"):
        Source(path, x="train/image")


def test_an_unknown_column_with_no_neighbour_lists_what_there_is(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.h5", image=[1, 2], label=[0, 1])
    with pytest.raises(UnknownColumnError, match=r"it has 'image', 'label'$"):
        Source(path, x="zzz")


def test_an_unknown_column_is_a_value_error_and_a_key_error_and_one_sentence(
    tmp_path: Path,
) -> None:
    path = write_file(tmp_path / "a.h5", image=[1, 2])
    for kind in (KeyError, ValueError, KerasH5Error):
        with pytest.raises(kind) as caught:
            Source(path, x="imag")
        assert str(caught.value).startswith("no data set 'imag' in ")


def test_a_file_with_no_data_sets_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownColumnError, match="it has no data sets at all"):
        Source(write_file(tmp_path / "a.h5"), x="x")


def test_a_path_through_a_data_set_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownColumnError, match="no data set 'x/y'"):
        Source(write_file(tmp_path / "a.h5", x=[1]), x="x/y")


def test_a_group_names_the_data_sets_in_it(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.h5", train__image=[1], train__label=[1])
    with pytest.raises(ColumnError, match=r"'train' in .* is a group.*'train/image'"):
        Source(path, x="train")


def test_a_scalar_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="is a scalar and has no rows"):
        Source(write_file(tmp_path / "a.h5", x=3), x="x")


def test_a_null_data_space_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match=r"is empty \(a null data space\)"):
        Source(write_file(tmp_path / "a.h5", x=h5py.Empty("f4")), x="x")


def test_zero_rows_are_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="has no rows; there is nothing to read"):
        Source(write_file(tmp_path / "a.h5", x=np.empty((0, 3))), x="x")


def test_a_named_type_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="is a named data type, not a data set"):
        Source(write_file(tmp_path / "a.h5", x=np.dtype("f4")), x="x")


def test_ragged_rows_say_how_to_pad_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (3,), h5py.vlen_dtype(np.int32))
    with pytest.raises(ColumnError, match=r"rows differ in length.*pass pad_to="):
        Source(tmp_path / "a.h5", x="x")


@pytest.mark.parametrize("kind", [h5py.ref_dtype, h5py.regionref_dtype], ids=["object", "region"])
def test_references_are_no_numbers(kind: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (3,), kind)
    with pytest.raises(ColumnError, match="its values are references"):
        Source(tmp_path / "a.h5", x="x")


def test_a_compound_with_text_of_any_length_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (3,), np.dtype([("n", "i4"), ("t", h5py.string_dtype())]))
    with pytest.raises(ColumnError, match="cannot be a column"):
        Source(tmp_path / "a.h5", x="x")


def test_a_type_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.UNIX_D32LE, space)
    with pytest.raises(ColumnError, match="cannot be a column"):
        Source(tmp_path / "a.h5", x="x")


# Links


def test_soft_and_hard_links_are_followed(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.h5", group__deep__x=[3, 1, 2])
    with h5py.File(path, "r+") as file:
        file["hard"] = file["group/deep/x"]
        file["absolute"] = h5py.SoftLink("/group/deep/x")
        file["group/relative"] = h5py.SoftLink("deep/x")
        file["to_group"] = h5py.SoftLink("/group")
        file["twice"] = h5py.SoftLink("/to_group/relative")
    for name in (
        "hard",
        "absolute",
        "group/relative",
        "to_group/relative",
        "twice",
        "/hard",
        "hard/",
    ):
        assert read_all(path, name) == [3, 1, 2]


def test_a_soft_link_to_nothing_says_what_is_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.SoftLink("/gone")
    with pytest.raises(UnknownColumnError, match="'/gone'"):
        Source(tmp_path / "a.h5", x="x")


@pytest.mark.timeout(20)
def test_soft_links_in_a_circle_end_in_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = h5py.SoftLink("/y"), h5py.SoftLink("/x")
    with pytest.raises(ColumnError, match="nested more than 16 deep, perhaps in a circle"):
        Source(tmp_path / "a.h5", x="x")


def test_an_external_link_inside_the_folder_is_read_as_h5py_reads_it(tmp_path: Path) -> None:
    write_file(tmp_path / "other.h5", pad=np.zeros(9), group__x=[3, 1, 2])
    path = write_file(tmp_path / "a.h5", x=np.full(3, 9))
    with h5py.File(path, "r+") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/group/x")
        file["group"] = h5py.ExternalLink("other.h5", "/group")
    assert read_all(path, "link") == [3, 1, 2]
    assert read_all(path, "group/x") == [3, 1, 2]


def test_a_soft_link_behind_an_external_link_belongs_to_the_other_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["real"] = [3, 1, 2]
        file["g/near"] = [6, 6, 6]
        file["g/soft"] = h5py.SoftLink("/real")
        file["g/relative"] = h5py.SoftLink("near")
    path = write_file(tmp_path / "a.h5", real=np.full(3, 9), near=np.full(3, 8))
    with h5py.File(path, "r+") as file:
        file["ext"] = h5py.ExternalLink("other.h5", "/g")
    assert read_all(path, "ext/soft") == [3, 1, 2]
    assert read_all(path, "ext/relative") == [6, 6, 6]


def link_out(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    with h5py.File(inside / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("../outside/secret.h5", "/x")


def link_out_absolute(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    with h5py.File(inside / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(outside / "secret.h5"), "/x")


def link_out_through_a_symlink(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    (inside / "near.h5").symlink_to(outside / "secret.h5")
    with h5py.File(inside / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("near.h5", "/x")


def link_out_through_another_file(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    with h5py.File(inside / "near.h5", "w") as file:
        file["x"] = h5py.ExternalLink("../outside/secret.h5", "/x")
    with h5py.File(inside / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("near.h5", "/x")


def link_out_behind_a_soft_link(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    with h5py.File(inside / "a.h5", "w") as file:
        file["far"] = h5py.ExternalLink("../outside/secret.h5", "/")
        file["x"] = h5py.SoftLink("/far/x")


def raw_file_out(inside: Path, outside: Path) -> None:
    np.array([7, 7]).tofile(outside / "secret.raw")
    with h5py.File(inside / "a.h5", "w") as file:
        raw = [(str(outside / "secret.raw"), 0, 16)]
        file.create_dataset("x", (2,), "i8", external=raw)


def virtual_out(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    make_virtual(inside / "a.h5", "../outside/secret.h5")


def virtual_out_through_a_link_of_the_same_file(inside: Path, outside: Path) -> None:
    link_out(inside, outside)
    with h5py.File(inside / "a.h5", "r+") as file:
        file.move("x", "far")
        layout = h5py.VirtualLayout((2,), "i8")
        layout[:] = h5py.VirtualSource(".", "far", (2,))
        file.create_virtual_dataset("x", layout)


def virtual_out_through_another_file(inside: Path, outside: Path) -> None:
    virtual_out(inside, outside)
    (inside / "a.h5").rename(inside / "near.h5")
    make_virtual(inside / "a.h5", "near.h5")


def virtual_out_by_numbered_names(inside: Path, outside: Path) -> None:
    write_file(outside / "part-0.h5", x=[7, 7])
    make_numbered(inside / "a.h5", b"../outside/part-%b.h5")


def virtual_out_behind_numbered_names(inside: Path, outside: Path) -> None:
    write_file(outside / "secret.h5", x=[7, 7])
    with h5py.File(inside / "part-0.h5", "w") as file:
        file["x"] = h5py.ExternalLink("../outside/secret.h5", "/x")
    make_numbered(inside / "a.h5", b"part-%b.h5")


def make_virtual(path: Path, target: str, name: str = "x") -> None:
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((2,), "i8")
        layout[:] = h5py.VirtualSource(target, name, (2,))
        file.create_virtual_dataset("x", layout, fillvalue=-1)


def make_numbered(path: Path, target: bytes, name: bytes = b"/x", mode: str = "w") -> None:
    """Make a virtual data set whose sources are numbered files or data sets, HDF5's "%b"."""
    with h5py.File(path, mode) as file:
        whole = h5py.h5s.create_simple((2,), (h5py.h5s.UNLIMITED,))
        whole.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), stride=(2,), block=(2,))
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_virtual(whole, target, name, h5py.h5s.create_simple((2,)))
        space = h5py.h5s.create_simple((2,), (h5py.h5s.UNLIMITED,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, space, creation)


every_way_out = pytest.mark.parametrize(
    "make",
    [
        link_out,
        link_out_absolute,
        link_out_through_a_symlink,
        link_out_through_another_file,
        link_out_behind_a_soft_link,
        raw_file_out,
        virtual_out,
        virtual_out_through_a_link_of_the_same_file,
        virtual_out_through_another_file,
        virtual_out_by_numbered_names,
        virtual_out_behind_numbered_names,
    ],
    ids=lambda make: make.__name__,
)


@every_way_out
def test_data_outside_the_folder_need_a_yes(make: Any, folders: tuple[Path, Path]) -> None:
    make(*folders)
    path = folders[0] / "a.h5"
    with pytest.raises(ExternalDataError, match=r"outside the folder.*allow_external=True"):
        Source(path, x="x")
    with pytest.raises(PermissionError):
        Source(path, x="x")
    assert read_all(path, allow_external=True) == [7, 7]


@every_way_out
@pytest.mark.parametrize("change", ["touched", "gone"])
def test_a_change_of_a_file_that_others_lead_to_is_seen(
    make: Any, change: str, folders: tuple[Path, Path]
) -> None:
    make(*folders)
    source = Source(folders[0] / "a.h5", allow_external=True, x="x")
    assert source.read([0])["x"] == [7]
    (secret,) = folders[1].iterdir()
    if change == "touched":
        os.utime(secret, ns=(1, 1))
    else:
        secret.unlink()
    words = "is gone now" if change == "gone" else "was written to or replaced"
    for read in (source.read, source.check_unchanged):
        with pytest.raises(FileChangedError, match=rf"(secret|near|part).* {words}"):
            read(np.array([0]))
    with pytest.raises(FileChangedError, match=words):
        source.load_range(0, 2, source.allocate(2))


def test_a_link_never_falls_back_to_the_working_directory(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # HDF5 looks beside the file first, and then where the process happens to stand.
    write_file(folders[1] / "secret.h5", x=[7, 7])
    with h5py.File(folders[0] / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("secret.h5", "/x")
    monkeypatch.chdir(folders[1])
    with pytest.raises(FileMissingError, match=r"'.*inside/secret\.h5' is missing"):
        Source(folders[0] / "a.h5", x="x")


def test_a_link_redirected_by_the_environment_needs_a_yes(folders: tuple[Path, Path]) -> None:
    write_file(folders[0] / "b.h5", x=[1, 2])
    write_file(folders[1] / "b.h5", x=[7, 7])
    with h5py.File(folders[0] / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("b.h5", "/x")
    close_files()
    os.environ["HDF5_EXT_PREFIX"] = str(folders[1])  # HDF5 asks the C library: no monkeypatch
    try:
        with pytest.raises(ExternalDataError, match=r"outside the folder"):
            Source(folders[0] / "a.h5", x="x")
        assert read_all(folders[0] / "a.h5", allow_external=True) == [7, 7]
    finally:
        del os.environ["HDF5_EXT_PREFIX"]


def test_a_link_to_a_missing_file_or_data_set_is_an_error(tmp_path: Path) -> None:
    write_file(tmp_path / "b.h5", y=[1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("gone.h5", "/x")
        file["y"] = h5py.ExternalLink("b.h5", "/x")
    with pytest.raises(FileMissingError, match=r"gone\.h5' is missing"):
        Source(tmp_path / "a.h5", x="x")
    with pytest.raises(UnknownColumnError, match=r"no data set '/x' in '.*b\.h5'"):
        Source(tmp_path / "a.h5", x="y")


def test_a_link_to_what_is_no_hdf5_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "b.h5").write_text("<html>")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("b.h5", "/x")
    make_virtual(tmp_path / "v.h5", "b.h5")
    for name in ("a.h5", "v.h5"):
        with pytest.raises(NotHDF5Error, match="a web page"):
            Source(tmp_path / name, x="x")


@pytest.mark.timeout(20)
def test_files_that_link_to_each_other_in_a_circle_end_in_an_error(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = h5py.ExternalLink(f"{other}.h5", "/x")
    with pytest.raises(ColumnError, match="nested more than"):
        Source(tmp_path / "a.h5", x="x")


# Raw files and virtual data sets


def test_a_raw_file_inside_the_folder_is_read(tmp_path: Path) -> None:
    np.arange(9).tofile(tmp_path / "x.raw")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (2, 2), "i8", external=[(str(tmp_path / "x.raw"), 24, 32)])
    assert read_all(tmp_path / "a.h5") == [[3, 4], [5, 6]]
    assert layout_of(tmp_path / "a.h5").describe() == "external"


def test_a_raw_file_is_looked_for_where_hdf5_looks_the_working_directory(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = folders
    with h5py.File(inside / "a.h5", "w") as file:
        file.create_dataset("x", (2,), "i8", external=[("x.raw", 0, 16)])
    np.array([1, 2]).tofile(inside / "x.raw")
    np.array([7, 7]).tofile(outside / "x.raw")
    monkeypatch.chdir(inside)
    assert read_all(inside / "a.h5") == [1, 2]
    monkeypatch.chdir(outside)
    with pytest.raises(ExternalDataError, match=r"x\.raw.*outside the folder"):
        Source(inside / "a.h5", x="x")


@pytest.mark.parametrize("size", [32, h5py.h5f.UNLIMITED], ids=["stated size", "open end"])
def test_a_raw_file_that_is_too_short_is_an_error_instead_of_zeros(
    size: int, tmp_path: Path
) -> None:
    raw = tmp_path / "x.raw"
    np.arange(4).tofile(raw)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (4,), "i8", external=[(str(raw), 0, size)])
    assert read_all(tmp_path / "a.h5") == [0, 1, 2, 3]
    os.truncate(raw, 24)
    with pytest.raises(DamagedFileError, match=r"x\.raw.*24 bytes.*32"):
        Source(tmp_path / "a.h5", x="x")
    raw.unlink()
    with pytest.raises(FileMissingError, match=r"x\.raw' is missing"):
        Source(tmp_path / "a.h5", x="x")


def test_a_virtual_data_set_inside_the_folder_is_read(tmp_path: Path) -> None:
    for number in range(3):
        write_file(tmp_path / f"{number}.h5", x=np.arange(4) + 10 * number)
    layout = h5py.VirtualLayout((3, 4), "i8")
    for number in range(3):
        layout[number] = h5py.VirtualSource(f"{number}.h5", "x", (4,))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
        file["y"] = np.arange(3)
        own = h5py.VirtualLayout((3,), "i8")
        own[:] = h5py.VirtualSource(file["y"])
        file.create_virtual_dataset("z", own)
    source = Source(tmp_path / "all.h5", x="x", z="z")
    found = source.read([2, 0, 2])
    assert_array_equal(found["x"], np.arange(4) + np.array([[20], [0], [20]]))
    assert_array_equal(found["z"], [2, 0, 2])
    assert layout_of(tmp_path / "all.h5").describe() == "virtual"


def test_a_virtual_data_set_of_numbered_files_is_read(tmp_path: Path) -> None:
    for number in range(3):
        write_file(tmp_path / f"part-{number}.h5", x=np.arange(2) + 10 * number)
    make_numbered(tmp_path / "all.h5", b"part-%b.h5")
    with h5py.File(tmp_path / "all.h5", "r") as file:
        expected = file["x"][()].tolist()
    assert expected[:2] == [0, 1]
    assert read_all(tmp_path / "all.h5") == expected


def test_a_virtual_data_set_of_numbered_data_sets_is_read(tmp_path: Path) -> None:
    write_file(tmp_path / "a.h5", x0=[1, 2], x1=[3, 4])
    make_numbered(tmp_path / "b.h5", b"a.h5", b"/x%b")
    make_numbered(tmp_path / "a.h5", b".", b"/x%b", mode="r+")
    for path in (tmp_path / "a.h5", tmp_path / "b.h5"):
        with h5py.File(path, "r") as file:
            expected = file["x"][()].tolist()
        assert expected[:2] == [1, 2]
        assert read_all(path) == expected


def test_a_virtual_data_set_with_a_missing_part_is_an_error_instead_of_fill_values(
    tmp_path: Path,
) -> None:
    make_virtual(tmp_path / "a.h5", "gone.h5")
    with pytest.raises(FileMissingError, match=r"gone\.h5' is missing; HDF5 would read it as fill"):
        Source(tmp_path / "a.h5", x="x")
    write_file(tmp_path / "gone.h5", y=[1, 2])
    with pytest.raises(UnknownColumnError, match=r"no data set 'x' in '.*gone\.h5'"):
        Source(tmp_path / "a.h5", x="x")


@pytest.mark.timeout(20)
def test_virtual_data_sets_in_a_circle_end_in_an_error(tmp_path: Path) -> None:
    make_virtual(tmp_path / "a.h5", "b.h5")
    make_virtual(tmp_path / "b.h5", "a.h5")
    with pytest.raises(ColumnError, match="nested more than"):
        Source(tmp_path / "a.h5", x="x")


def test_columns_are_found_in_files_named_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "b.h5", x=[1, 2])
    make_virtual(tmp_path / "a.h5", "b.h5")
    monkeypatch.chdir(tmp_path)
    assert read_all(Path("a.h5")) == [1, 2]
