"""The file: h5py, threads, bytes. No Keras, no randomness."""

from kerash5.h5._append import RowWriter, open_writer
from kerash5.h5._describe import describe
from kerash5.h5._source import Source
from kerash5.h5._verify import Verdict, verify
from kerash5.h5._write import write
from kerash5.h5.columns._columns import Column
from kerash5.h5.reading._runs import Runs
from kerash5.h5.storage._pool import close_files

__all__ = [
    "Column",
    "RowWriter",
    "Runs",
    "Source",
    "Verdict",
    "close_files",
    "describe",
    "open_writer",
    "verify",
    "write",
]
