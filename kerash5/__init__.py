"""Train Keras 3 models straight from HDF5 files, on JAX, TensorFlow or PyTorch.

The public names below load on first use (PEP 562): importing kerash5 imports no Keras and no
backend.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from kerash5._version import __version__

if TYPE_CHECKING:
    from kerash5 import assets, zoo
    from kerash5._errors import (
        BackendError,
        ColumnError,
        DamagedFileError,
        DownloadError,
        ExternalDataError,
        FileChangedError,
        FileError,
        FileMissingError,
        KerasH5Error,
        LabelError,
        NotHDF5Error,
        OptionError,
        RowError,
        RunError,
        ShapeError,
        UnknownColumnError,
    )
    from kerash5._run import Epoch, Run
    from kerash5.benchmark import bench
    from kerash5.comparison import Comparison, compare
    from kerash5.feeds._grain import grain_dataset
    from kerash5.feeds._keras import H5Dataset
    from kerash5.h5 import (
        Column,
        Source,
        Verdict,
        describe,
        open_writer,
        verify,
        write,
    )
    from kerash5.h5.layouts import (
        classes_from_files,
        classes_from_groups,
        patches_from_volumes,
        rows_from_files,
        rows_from_groups,
        windows_from_series,
    )
    from kerash5.order._plan import Plan
    from kerash5.order._split import Split, k_folds, split_rows
    from kerash5.packing import Packed, pack
    from kerash5.repacking import Repacked, repack
    from kerash5.report import BatchSizes, LearningRates
    from kerash5.train import H5DataModule, Trainer, load_model
    from kerash5.viewing import view

_PLACES = {
    "kerash5._errors": (
        "BackendError",
        "ColumnError",
        "DamagedFileError",
        "DownloadError",
        "ExternalDataError",
        "FileChangedError",
        "FileError",
        "FileMissingError",
        "KerasH5Error",
        "LabelError",
        "NotHDF5Error",
        "OptionError",
        "RowError",
        "RunError",
        "ShapeError",
        "UnknownColumnError",
    ),
    "kerash5._run": ("Epoch", "Run"),
    "kerash5.benchmark": ("bench",),
    "kerash5.comparison": ("Comparison", "compare"),
    "kerash5.feeds._grain": ("grain_dataset",),
    "kerash5.feeds._keras": ("H5Dataset",),
    "kerash5.h5": (
        "Column",
        "Source",
        "Verdict",
        "describe",
        "open_writer",
        "verify",
        "write",
    ),
    "kerash5.h5.layouts": (
        "classes_from_files",
        "classes_from_groups",
        "patches_from_volumes",
        "rows_from_files",
        "rows_from_groups",
        "windows_from_series",
    ),
    "kerash5.order._plan": ("Plan",),
    "kerash5.order._split": ("Split", "k_folds", "split_rows"),
    "kerash5.packing": ("Packed", "pack"),
    "kerash5.repacking": ("Repacked", "repack"),
    "kerash5.report": ("BatchSizes", "LearningRates"),
    "kerash5.train": ("H5DataModule", "Trainer", "load_model"),
    "kerash5.viewing": ("view",),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "BackendError",
    "BatchSizes",
    "Column",
    "ColumnError",
    "Comparison",
    "DamagedFileError",
    "DownloadError",
    "Epoch",
    "ExternalDataError",
    "FileChangedError",
    "FileError",
    "FileMissingError",
    "H5DataModule",
    "H5Dataset",
    "KerasH5Error",
    "LabelError",
    "LearningRates",
    "NotHDF5Error",
    "OptionError",
    "Packed",
    "Plan",
    "Repacked",
    "RowError",
    "Run",
    "RunError",
    "ShapeError",
    "Source",
    "Split",
    "Trainer",
    "UnknownColumnError",
    "Verdict",
    "__version__",
    "assets",
    "bench",
    "classes_from_files",
    "classes_from_groups",
    "compare",
    "describe",
    "grain_dataset",
    "k_folds",
    "load_model",
    "open_writer",
    "pack",
    "patches_from_volumes",
    "repack",
    "rows_from_files",
    "rows_from_groups",
    "split_rows",
    "verify",
    "view",
    "windows_from_series",
    "write",
    "zoo",
]


def __getattr__(name: str) -> object:
    if name in ("assets", "zoo"):
        return import_module(f"kerash5.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'kerash5' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
