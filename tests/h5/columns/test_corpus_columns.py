"""Real files of other people whose columns are no plain data sets, each beside h5py and NumPy.

AnnData, 10x Genomics, loom, cooler, PyTables, radiosondes and netCDF-4.
"""

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from tests.column_kinds import check_rows

ANNDATA = "scverse+anndata/tests/data/archives/v0.7.0/adata.h5ad"
TENX = "scverse+scanpy/tests/_data/10x_data"
LOOM = "linnarsson-lab+loompy/test.loom"
COOLER = "open2c+cooler/tests/data/toy.symm.upper.2.cool"
SONDE = "wradlib+wradlib-data/data/misc/radiosonde_10410_20140610_1200.h5"
TABLE = "PyTables+PyTables/tables/tests/smpl_compound_chunked.h5"
NETCDF = "fsspec+kerchunk/tests/air.nc"
ROWS = (3, 0, 0, 5)


@pytest.fixture
def files(corpus_dir: Path) -> Path:
    return corpus_dir / "files"


def densify(group: h5py.Group, num_rows: int, width: int) -> np.ndarray:
    """Make a dense matrix of a compressed one, value by value."""
    dense = np.zeros((num_rows, width), group["data"].dtype)
    data, indices, indptr = (group[name][()] for name in ("data", "indices", "indptr"))
    for row in range(num_rows):
        for place in range(indptr[row], indptr[row + 1]):
            dense[row, indices[place]] += data[place]
    return dense


def test_anndata_is_dense_rows_and_its_categories_are_labels(files: Path) -> None:
    with h5py.File(files / ANNDATA) as file:
        expected = densify(file["X"], 30, 20)
        codes, names = file["obs/obs_cat"][()], file["obs/__categories/obs_cat"].asstr()[()]
    check_rows(files / ANNDATA, "X", expected, ROWS)
    source = Source(files / ANNDATA, x="X", y="obs/obs_cat")
    assert source.class_names == tuple(names)
    assert_array_equal(source.read(range(30))["y"], codes)
    batches = open_batches(files / ANNDATA, "X", "obs/obs_cat", None, BatchOptions(batch_size=8))
    assert sum(len(x) for x, _ in batches.epoch(0)) == 30


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("3.0.0/filtered_feature_bc_matrix.h5", "matrix"),
        ("1.2.0/filtered_gene_bc_matrices_h5.h5", "hg19_chr21"),
    ],
)
def test_rows_of_10x_are_cells(name: str, group: str, files: Path) -> None:
    path = files / TENX / name
    with h5py.File(path) as file:
        num_genes, num_cells = file[group]["shape"][()].tolist()
        assert len(file[group]["barcodes"]) == num_cells
        expected = densify(file[group], num_cells, num_genes)
    source = check_rows(path, group, expected, ROWS, batches=group != "matrix")
    assert "CSR" in source.describe()


def test_cells_of_loom_lie_along_the_last_axis(files: Path) -> None:
    with h5py.File(files / LOOM) as file:
        expected = file["matrix"][()].T
    check_rows(files / LOOM, Column("matrix", axis=-1), expected, ROWS)
    assert len(Source(files / LOOM, x=Column("matrix", axis=-1), y="col_attrs/Cell")) == 200


def test_pixels_and_bins_of_cooler(files: Path) -> None:
    with h5py.File(files / COOLER) as file:
        pixels, chromosomes = file["pixels/count"][()], file["bins/chrom"][()]
        enum = h5py.check_enum_dtype(file["bins/chrom"].dtype)
    check_rows(files / COOLER, "pixels/count", pixels, ROWS)
    source = Source(files / COOLER, x="bins/start", y="bins/chrom")
    assert source.class_names == tuple(sorted(enum, key=enum.get))
    assert_array_equal(source.read(range(32))["y"], chromosomes)


def test_columns_of_a_radiosonde_are_a_vector(files: Path) -> None:
    with h5py.File(files / SONDE) as file:
        table = file["data"][()]
    expected = np.stack([table["PRES"], table["TEMP"], table["DWPT"]], axis=-1)
    check_rows(files / SONDE, "data:PRES,TEMP,DWPT", expected, ROWS)


def test_fields_of_a_table_of_pytables(files: Path) -> None:
    with h5py.File(files / TABLE) as file:
        table = file["CompoundChunked"][()]
    for name in table.dtype.names:
        column = Column("CompoundChunked", field=name)
        if table[name].dtype.kind != "S":
            check_rows(files / TABLE, column, table[name], ROWS)
    assert Source(files / TABLE, y="CompoundChunked:c_name").class_names == ("Hello!",)


def test_packed_values_of_netcdf_are_unpacked(files: Path) -> None:
    with h5py.File(files / NETCDF) as file:
        stored, scale = file["air"][:8], file["air"].attrs["scale_factor"][0]
    kind = np.result_type(scale)
    source = Source(files / NETCDF, x=Column("air", cf=True))
    found = source.read(range(8))["x"]
    assert found.dtype == kind
    assert_array_equal(found, stored.astype(kind) * scale)
    assert 200 < found.mean() < 320  # kelvins


def test_chunks_that_do_not_fit_are_told_without_a_shape_for_rows(files: Path) -> None:
    path = files / TENX / "3.0.0/filtered_feature_bc_matrix.h5"
    batches = open_batches(path, "matrix", None, None, BatchOptions(cache=0))
    with pytest.warns(UserWarning, match=r"to spare, or smaller chunks: kerash5"):
        next(batches.epoch(0))
