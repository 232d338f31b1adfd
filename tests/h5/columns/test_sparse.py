"""Sparse matrices as columns: CSR groups of AnnData, 10x and biom."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerash5._errors import ColumnError, DamagedFileError
from kerash5.h5 import Column, Source
from kerash5.h5.reading import _ranges
from tests.column_kinds import check_rows, new_folder, row_lists


def compress(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, indices and indptr of the rows of a matrix."""
    rows, columns = np.nonzero(dense)
    counts = np.bincount(rows, minlength=len(dense))
    return dense[rows, columns], columns.astype("i4"), np.cumsum([0, *counts])


def write(file: h5py.File, dense: np.ndarray, kind: str, **options: Any) -> None:
    """Write a matrix as one of the conventions has it."""
    data, indices, indptr = compress(dense)
    group = file.create_group("X")
    for name, values in {"data": data, "indices": indices}.items():
        group.create_dataset(name, data=values, **(options if values.size > 2 else {}))
    group["indptr"] = indptr
    if kind == "anndata":
        group.attrs.update({"encoding-type": "csr_matrix", "shape": dense.shape})
    elif kind == "h5sparse":
        group.attrs.update({"h5sparse_format": b"csr", "h5sparse_shape": dense.shape})
    elif kind == "10x":
        group["shape"] = dense.shape[::-1]


@settings(max_examples=40)
@given(
    data=st.data(),
    kind=st.sampled_from(["anndata", "h5sparse", "10x", "said"]),
    chunks=st.sampled_from([None, 3]),
    slab=st.sampled_from([1, 5, 1 << 20]),
    num_parts=st.integers(1, 2),
)
def test_rows_are_those_of_the_dense_matrix(
    data: Any, kind: str, chunks: int | None, slab: int, num_parts: int
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dense = rng.integers(1, 9, (4 * num_parts, 5)) * (rng.random((4 * num_parts, 5)) < 0.4)
    dense = dense.astype(data.draw(st.sampled_from(["f4", "i4", "f8"])))
    with new_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranges, "_MAX_VALUES", slab)
        patch.setattr(_ranges, "_MAX_BYTES", slab * 40)
        paths = [folder / f"{number}.h5" for number in range(num_parts)]
        for path, part in zip(paths, np.split(dense, num_parts), strict=True):
            with h5py.File(path, "w") as file:
                write(file, part, kind, chunks=None if chunks is None else (chunks,))
        column = Column("X", shape=(5,) if kind == "said" else None)
        check_rows(paths, column, dense, data.draw(row_lists(len(dense))), batches=slab == 5)


def test_a_block_of_rows_is_two_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.eye(6, dtype="f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, dense, "anndata", chunks=(2,))
    source = Source(tmp_path / "a.h5", x="X")
    part: Any = source.columns["x"].parts[0]
    asked = []
    for number, flat in enumerate(part._flat):

        def note(runs: Any, out: Any, number: int = number, read: Any = flat.read_runs) -> None:
            asked.append((number, *[tuple(run) for run in runs]))
            read(runs, out)

        monkeypatch.setattr(flat, "read_runs", note)
    source.load_range(1, 5, source.allocate(4))
    assert asked == [(0, (1, 5, 0)), (1, (1, 5, 0))]
    assert source.block_rows == 2
    assert "CSR, 6 values, 0.17 of all" in source.describe()


def test_values_given_twice_are_summed_and_need_no_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X/data"] = np.array([1, 2, 4, 8], "f4")
        file["X/indices"] = [2, 0, 2, 1]
        file["X/indptr"] = [0, 3, 4]
        file["X"].attrs.update({"encoding-type": "csr_matrix", "shape": (2, 3)})
    check_rows(tmp_path / "a.h5", "X", np.array([[2, 0, 5], [0, 8, 0]], "f4"), [1, 0, 1])


def test_both_matrices_of_biom_are_rows(tmp_path: Path) -> None:
    dense = np.array([[1, 0, 2], [0, 3, 0]], "f8")
    with h5py.File(tmp_path / "a.biom", "w") as file:
        file.attrs["shape"] = dense.shape
        for group, matrix in {"observation": dense, "sample": dense.T}.items():
            for name, values in zip(
                ("data", "indices", "indptr"), compress(np.ascontiguousarray(matrix)), strict=True
            ):
                file[f"{group}/matrix/{name}"] = values
    check_rows(tmp_path / "a.biom", "observation/matrix", dense, [1, 0])
    check_rows(tmp_path / "a.biom", "sample/matrix", dense.T, [2, 0])


def test_columns_are_refused_with_the_cure(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, np.eye(3), "anndata")
        file["X"].attrs["encoding-type"] = "csc_matrix"
    with pytest.raises(ColumnError, match=r"stored by columns \(CSC\).*adata\.X\.tocsr\(\)"):
        Source(tmp_path / "a.h5", x="X")


def test_a_width_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, np.eye(3), "said")
    with pytest.raises(ColumnError, match=r"how many columns it has; say so with shape="):
        Source(tmp_path / "a.h5", x="X")


def test_indices_outside_the_matrix_are_damage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, np.eye(3), "anndata")
        file["X/indices"][1] = 7
    source = Source(tmp_path / "a.h5", x="X")
    source.read([0])
    with pytest.raises(DamagedFileError, match="its indices go from 7 to 7"):
        source.read([1])


@pytest.mark.parametrize("options", [{"axis": 1}, {"field": "data"}, {"pad_to": 3}], ids=str)
def test_options_that_would_do_nothing_are_refused(options: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, np.eye(3), "anndata")
    with pytest.raises(ColumnError, match="does not go with column 'X'"):
        Source(tmp_path / "a.h5", x=Column("X", **options))


def write_matlab(path: Path, dense: np.ndarray, kind: str = "double") -> None:
    """Write a matrix of MATLAB as `save -v7.3` does: `dense` and `sparse`, the same values."""
    data, indices, indptr = compress(dense.T)  # by columns
    with h5py.File(path, "w", userblock_size=512) as file:
        file["dense"] = dense.T  # axes in reverse
        file["dense"].attrs["MATLAB_class"] = np.bytes_(kind)
        group = file.create_group("sparse")
        group.attrs["MATLAB_class"] = np.bytes_(kind)
        group.attrs["MATLAB_sparse"] = np.uint64(len(dense))
        if len(data):
            group["data"], group["ir"] = data, indices.astype("u8")
        group["jc"] = indptr.astype("u8")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\0\2IM")


@pytest.mark.parametrize(("kind", "dtype"), [("double", "f8"), ("logical", "u1")])
def test_columns_of_a_sparse_matrix_of_matlab_are_rows_as_those_of_a_dense_one(
    tmp_path: Path, kind: str, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(1, 2 if kind == "logical" else 9, (7, 12)) * (rng.random((7, 12)) < 0.3)
    write_matlab(tmp_path / "m.mat", values.astype(dtype), kind)
    source = Source(tmp_path / "m.mat", x="sparse", y="dense")
    found = source.read(np.array([11, 0, 5, 5]))
    np.testing.assert_array_equal(found["x"], values.T[[11, 0, 5, 5]])
    np.testing.assert_array_equal(found["x"], found["y"])
    assert found["x"].dtype == dtype
    assert "MATLAB's sparse columns" in source.describe()


@pytest.mark.parametrize("axis", [1, -1])
def test_rows_of_a_sparse_matrix_of_matlab_are_refused_with_the_cure(
    tmp_path: Path, axis: int
) -> None:
    write_matlab(tmp_path / "m.mat", np.eye(5))
    cure = r"axis=-?1 of column 'sparse' .* MATLAB stores by columns.* X = X.'; save"
    with pytest.raises(ColumnError, match=cure):
        Source(tmp_path / "m.mat", x=Column("sparse", axis=axis))
    write_matlab(tmp_path / "m.mat", np.zeros((3, 4)))
    with pytest.raises(ColumnError, match="in which nothing is stored"):
        Source(tmp_path / "m.mat", x="sparse")
