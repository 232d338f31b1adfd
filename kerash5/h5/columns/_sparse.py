"""Sparse matrices that are stored row by row (CSR): groups of `data`, `indices` and `indptr`.

Four conventions say what lies in such a group:

- AnnData: the attributes `encoding-type` ("csr_matrix" or "csc_matrix") and `shape`; before its
  version 0.7, `h5sparse_format` ("csr" or "csc") and `h5sparse_shape`.
- 10x Genomics: a data set `shape`, (features, barcodes), of a matrix stored by columns. A column is
  a cell, so these are the rows that are wanted: cells, of features.
- MATLAB: data sets `data`, `ir` and `jc` of a matrix stored by columns, and the attribute
  `MATLAB_sparse`, its number of rows. A dense matrix of MATLAB lies transposed in the file, so that
  its columns are the rows of axis 0; they are here, too.
- biom: the group `matrix` in `observation` or in `sample`, of which each is a row; the file's
  attribute `shape` is (observations, samples).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import h5py
import numpy as np

from kerash5._errors import ColumnError
from kerash5.h5.columns._column import Column
from kerash5.h5.columns._ragged import read_offsets
from kerash5.h5.reading._ranges import CsrReader
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import H5File


@dataclass(frozen=True, slots=True)
class _Found:
    """What a group says about its matrix."""

    format: str | None  # "csr" or "csc"
    shape: tuple[int, int] | None
    is_10x: bool


_MATLAB: Final = "MATLAB_sparse"


def is_of_matlab(group: h5py.Group) -> bool:
    """Return whether a group is a sparse matrix as MATLAB stores it."""
    return _MATLAB in group.attrs


def is_sparse(group: h5py.Group) -> bool:
    """Return whether a group holds a sparse matrix in compressed rows or columns."""
    return is_of_matlab(group) or all(name in group for name in ("data", "indices", "indptr"))


def open_sparse(
    column: Column,
    file: H5File,
    path: str,
    group: h5py.Group,
    *,
    allow_external: bool,
    reader: Reader,
) -> tuple[str, AbstractReader]:
    """Open a sparse matrix, whose rows are made dense as they are read.

    Args:
        column: The column as the user defined it.
        file: The file.
        path: Path of the group in the file.
        group: The group, open.
        allow_external: As in `Source`.
        reader: As in `open_part`.

    Returns:
        How it is stored, and the reader.

    Raises:
        ColumnError: It is stored by columns, or does not say how wide it is.
    """
    what = f"column {path!r} of {file.path!r}"
    is_matlab = is_of_matlab(group)
    if is_matlab:
        _check_matlab(column, group, what)
    names = ("data", "ir", "jc") if is_matlab else ("data", "indices", "indptr")
    (layout, data), (_, indices) = (
        open_part(f"{path}/{name}", file, allow_external=allow_external, reader=reader)
        for name in names[:2]
    )
    if data.num_rows != indices.num_rows or data.row_shape or indices.dtype.kind not in "iu":
        raise ColumnError(
            f"{what} is no sparse matrix: it has {data.num_rows} values of shape {data.row_shape} "
            f"and {indices.num_rows} indices of {indices.dtype}; write it again"
        )
    indptr = read_offsets(f"{path}/{names[2]}", file, data.num_rows, allow_external=allow_external)
    if is_matlab:
        width, form = int(group.attrs[_MATLAB]), "MATLAB's sparse columns"
    else:
        width = _find_width(column, _read_what_it_says(group), len(indptr) - 1, what)
        form = "CSR"
    storage = f"{form}, values in {layout.describe()}"
    return storage, CsrReader(data, indices, indptr, width, what)


def _check_matlab(column: Column, group: h5py.Group, what: str) -> None:
    if column.axis:
        raise ColumnError(
            f"axis={column.axis} of {what}, a sparse matrix that MATLAB stores by columns: a row "
            "is spread over all of them; save it transposed, X = X.'; save('file.mat', 'X', "
            "'-v7.3'), and leave axis= out"
        )
    if "ir" not in group or "data" not in group:
        raise ColumnError(f"{what} is a sparse matrix in which nothing is stored; leave it out")


def _read_what_it_says(group: h5py.Group) -> _Found:
    kind = _text(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "")))
    shape: Any = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    is_10x = shape is None and isinstance(group.get("shape"), h5py.Dataset)
    if is_10x:
        shape = group["shape"][()]
    if shape is None and group.name.endswith(("observation/matrix", "sample/matrix")):
        shape = group.file.attrs.get("shape")
        if shape is not None and group.name.endswith("sample/matrix"):
            shape = shape[::-1]
    sizes = np.asarray([] if shape is None else shape).reshape(-1)
    is_shape = sizes.size == 2 and sizes.dtype.kind in "iuf"
    return _Found(
        kind.removesuffix("_matrix") or None,
        (int(sizes[0]), int(sizes[1])) if is_shape else None,
        is_10x,
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _find_width(column: Column, found: _Found, num_rows: int, what: str) -> int:
    """Return the values in a dense row, or refuse what is stored by columns."""
    if found.shape is None:
        if column.shape is not None:
            return int(np.prod(column.shape))
        raise ColumnError(
            f"{what} is a sparse matrix that does not say how many columns it has; say so with "
            "shape=(NUMBER,)"
        )
    height, width = found.shape
    if found.format == "csc" or (not found.is_10x and found.format is None and num_rows != height):
        raise ColumnError(
            f"{what} is a sparse matrix of shape {found.shape} stored by columns (CSC), of which a "
            "row is spread over all; write it by rows: adata.X = adata.X.tocsr(), or "
            "scipy.sparse.csr_matrix(matrix)"
        )
    if found.is_10x and found.format is None and num_rows == width:
        return height  # its columns are the cells
    if num_rows != height:
        raise ColumnError(
            f"{what} is a sparse matrix of shape {found.shape}, and its indptr is that of "
            f"{num_rows} rows; write it again"
        )
    return width
