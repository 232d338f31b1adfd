"""Create files that appear whole or not at all."""

from kerash5.files._hdf5 import HDF5Draft, create_hdf5
from kerash5.files._new_file import (
    create_file,
    replace_text,
    replacing,
    sync_folder,
    unwritable,
)
from kerash5.files._resumable import ResumableFile, open_resumable

__all__ = [
    "HDF5Draft",
    "ResumableFile",
    "create_file",
    "create_hdf5",
    "open_resumable",
    "replace_text",
    "replacing",
    "sync_folder",
    "unwritable",
]
