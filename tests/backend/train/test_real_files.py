"""Real files that are no plain rows: read as h5py and NumPy do, and trained on for an epoch.

Each case is what a user writes: the columns, in text where the command line takes them so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5

pytestmark = pytest.mark.one_backend

Array = np.ndarray
Expected = Callable[[h5py.File], tuple[Any, Array]]
_ANNDATA: Final = "scverse+anndata/tests/data/archives"
_10X: Final = "scverse+scanpy/tests/_data"
_RADAR: Final = "wradlib+wradlib-data/data"
_COOLER: Final = "open2c+cooler/tests/data"


@dataclass(frozen=True)
class Real:
    """A file of the corpus, what is written to train on it, and what its rows are.

    Args:
        file: Its path in the corpus.
        x, y: The columns.
        rows: Returns x and y of all rows, by h5py and NumPy.
    """

    file: str
    x: Any
    y: Any
    rows: Expected


def dense(group: h5py.Group, width: int) -> Array:
    """Return a sparse matrix, made dense row by row."""
    indptr, data, indices = (group[name][:] for name in ("indptr", "data", "indices"))
    out = np.zeros((len(indptr) - 1, width), data.dtype)
    np.add.at(out, (np.repeat(np.arange(len(out)), np.diff(indptr)), indices), data)
    return out


def ids_of(values: Array) -> Array:
    """Return the class ids of text: positions among its sorted values."""
    texts = np.array([v.decode() if isinstance(v, bytes) else v for v in values])
    return np.searchsorted(np.unique(texts), texts)


def fields(table: Array, *names: str) -> Array:
    return np.stack([table[name] for name in names], axis=-1)


def unpacked(dataset: h5py.Dataset) -> Array:
    """Return what netCDF's conventions say values are, in the type of the scale."""
    scaled: Array = dataset[:] * dataset.attrs["scale_factor"]
    return scaled


REAL: Final[dict[str, Real]] = {
    "AnnData 0.7.0": Real(
        f"{_ANNDATA}/v0.7.0/adata.h5ad",
        "X",
        "obs/obs_cat",
        lambda f: (dense(f["X"], 20), f["obs/obs_cat"][:]),
    ),
    "AnnData 0.7.8": Real(
        f"{_ANNDATA}/v0.7.8/adata.h5ad",
        {"cells": "X", "embedding": "obsm/array"},
        "obs/cat_ordered",
        lambda f: (
            {"cells": dense(f["X"], 20), "embedding": f["obsm/array"][:]},
            f["obs/cat_ordered"][:],
        ),
    ),
    "10x 1.2": Real(
        f"{_10X}/10x_data/1.2.0/filtered_gene_bc_matrices_h5.h5",
        "hg19_chr21",
        "hg19_chr21/barcodes",
        lambda f: (dense(f["hg19_chr21"], 343), ids_of(f["hg19_chr21/barcodes"][:])),
    ),
    "10x 3.0": Real(
        f"{_10X}/10x_data/3.0.0/filtered_feature_bc_matrix.h5",
        k5.Column("matrix", select=slice(1, None)),
        k5.Column("matrix", select=0),
        lambda f: (dense(f["matrix"], 507)[:, 1:], dense(f["matrix"], 507)[:, 0]),
    ),
    "Visium": Real(
        f"{_10X}/visium_data/2.1.0/raw_probe_bc_matrix.h5",
        "matrix",
        "matrix/filtered_barcodes",
        lambda f: (dense(f["matrix"], 1000), f["matrix/filtered_barcodes"][:]),
    ),
    "loom": Real(
        "linnarsson-lab+loompy/test.loom",
        k5.Column("matrix", axis=-1),
        "col_attrs/Cell",
        lambda f: (f["matrix"][:].T, f["col_attrs/Cell"][:]),
    ),
    "PyTables, pandas": Real(
        "PyTables+PyTables/tables/tests/idx-std-1.x.h5",
        "table:col1,col3,col4",
        "table:col2",
        lambda f: (fields(f["table"][:], "col1", "col3", "col4"), f["table"]["col2"]),
    ),
    "PyTables with text": Real(
        "PyTables+PyTables/tables/tests/ex-noattr.h5",
        "detector/table:ADCcount,TDCcount,grid_i,grid_j",
        "detector/table:name",
        lambda f: (
            fields(f["detector/table"][:], "ADCcount", "TDCcount", "grid_i", "grid_j"),
            ids_of(f["detector/table"]["name"]),
        ),
    ),
    "big-endian table": Real(
        "brtnfld+hdf5/hl/test/testfiles/test_table_be.h5",
        "table8:Longitude,Latitude,Temperature",
        "table8:Pressure",
        lambda f: (
            fields(f["table8"][:], "Longitude", "Latitude", "Temperature"),
            f["table8"]["Pressure"],
        ),
    ),
    "observations": Real(
        "HDFGroup+hdf5-json/data/hdf5/compound.h5",
        "dset:temp,pressure",
        "dset:wind",
        lambda f: (fields(f["dset"][:], "temp", "pressure"), ids_of(f["dset"]["wind"])),
    ),
    "radiosonde": Real(
        f"{_RADAR}/misc/radiosonde_10410_20140610_1200.h5",
        "data:PRES,HGHT,DWPT",
        "data:TEMP",
        lambda f: (fields(f["data"][:], "PRES", "HGHT", "DWPT"), f["data"]["TEMP"]),
    ),
    "netCDF-4 with CF": Real(
        "fsspec+kerchunk/tests/air.nc",
        k5.Column("air", cf=True, select=(slice(1, None),)),
        k5.Column("air", cf=True, select=0),
        lambda f: (unpacked(f["air"])[:, 1:], unpacked(f["air"])[:, 0]),
    ),
    "cooler pixels": Real(
        f"{_COOLER}/hg19.GM12878-MboI.matrix.2000kb.cool",
        ("pixels/bin1_id", "pixels/bin2_id"),
        "pixels/count",
        lambda f: ((f["pixels/bin1_id"][:], f["pixels/bin2_id"][:]), f["pixels/count"][:]),
    ),
    "cooler bins": Real(
        f"{_COOLER}/odd.1.cool",
        ("bins/start", "bins/end"),
        "bins/chrom",
        lambda f: ((f["bins/start"][:], f["bins/end"][:]), f["bins/chrom"][:]),
    ),
    "membership functions": Real(
        f"{_RADAR}/misc/msf_cband_v1.nc",
        "cband",
        "obs",
        lambda f: (f["cband"][:], ids_of(f["obs"][:])),
    ),
    "ODIM radar": Real(
        f"{_RADAR}/hdf5/20130429043000.rad.bewid.pvol.dbzh.scan1.hdf",
        "dataset1/data1/data",
        "dataset1/data1/quality1/data",
        lambda f: (f["dataset1/data1/data"][:], f["dataset1/data1/quality1/data"][:]),
    ),
}


def make_nexus(path: Path) -> Real:
    """Write a scan of NeXus: a signal along a monitor, and links to it."""
    rng = np.random.default_rng(0)
    counts, angles = rng.integers(0, 999, (40, 8, 8), "u4"), np.linspace(0, 1, 40)
    with h5py.File(path, "w") as file:
        for name, kind in {"entry": "NXentry", "entry/instrument": "NXinstrument"}.items():
            file.create_group(name).attrs["NX_class"] = kind
        detector = file.create_group("entry/instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector.create_dataset("data", data=counts, chunks=(1, 8, 8), compression="gzip")
        detector["polar_angle"] = angles
        data = file.create_group("entry/data")
        data.attrs.update(
            {"NX_class": "NXdata", "signal": "data", "axes": ["polar_angle", ".", "."]}
        )
        data["data"] = detector["data"]  # a hard link, as NAPI writes it
        data["polar_angle"] = h5py.SoftLink("/entry/instrument/detector/polar_angle")
    return Real(str(path), "entry/data/data", "entry/data/polar_angle", lambda _: (counts, angles))


def make_matlab(path: Path) -> Real:
    """Write a table of samples in rows as `save -v7.3` does, with its user block."""
    rng = np.random.default_rng(0)
    values, kinds = rng.random((30, 5)), rng.integers(1, 4, (30, 1)).astype("f8")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, matrix in {"X": values, "y": kinds}.items():
            file.create_dataset(name, data=matrix.T, chunks=matrix.T.shape, compression="gzip")
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\0\2IM")
    y = k5.Column("y", axis=-1, labels=[1, 2, 3])
    return Real(str(path), k5.Column("X", axis=-1), y, lambda _: (values, kinds - 1))


def make_matlab_sparse(path: Path) -> Real:
    """Write a sparse matrix of samples in columns as `save -v7.3` does."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 9, (24, 6)) * (rng.random((24, 6)) < 0.3).astype("f8")
    rows, features = np.nonzero(values)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("X")
        group.attrs["MATLAB_class"] = np.bytes_("double")
        group.attrs["MATLAB_sparse"] = np.uint64(6)
        group["data"], group["ir"] = values[rows, features], features.astype("u8")
        group["jc"] = np.cumsum([0, *np.bincount(rows, minlength=24)]).astype("u8")
        file["y"] = np.arange(24.0).reshape(24, 1)  # 1 x 24 in MATLAB
    return Real(str(path), "X", "y", lambda _: (values, np.arange(24.0).reshape(24, 1)))


MADE: Final = {
    "NeXus": make_nexus,
    "MATLAB": make_matlab,
    "sparse MATLAB": make_matlab_sparse,
}


def train(path: Path, real: Real) -> None:
    """Compare all rows, and train an epoch on them."""
    data = k5.H5Dataset(path, x=real.x, y=real.y, batch_size=64, shuffle=False)
    with h5py.File(path) as file:
        x, y = real.rows(file)
    assert data.num_rows == len(y)
    found = data.read(0)
    for got, wanted in zip(keras.tree.flatten(found), keras.tree.flatten((x, y)), strict=True):
        np.testing.assert_array_equal(got, wanted[:64])
    history = build(found).fit(data.select_rows(None, shuffle="rows"), epochs=1, verbose=0).history
    assert len(history["loss"]) == 1


def build(batch: Any) -> keras.Model:
    """Return a model of these rows."""
    x, y = batch
    inputs = keras.tree.map_structure(lambda each: keras.Input(each.shape[1:], dtype="float32"), x)
    if isinstance(inputs, dict):
        inputs = {name: keras.Input(x[name].shape[1:], name=name) for name in x}
    flat = [keras.layers.Flatten()(each) for each in keras.tree.flatten(inputs)]
    joined = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    shape = y.shape[1:] or (1,)
    outputs = keras.layers.Reshape(shape)(keras.layers.Dense(int(np.prod(shape)))(joined))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    model.run_eagerly = keras.backend.backend() != "jax"  # compiling is most of the time
    return model


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_trained_on(name: str, corpus_dir: Path) -> None:
    train(corpus_dir / "files" / REAL[name].file, REAL[name])


@pytest.mark.parametrize("name", MADE)
def test_a_file_in_the_layout_of_a_program_is_trained_on(name: str, tmp_path: Path) -> None:
    train(tmp_path / "made.h5", MADE[name](tmp_path / "made.h5"))
