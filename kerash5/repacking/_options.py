"""How the rows of a file are written again: chunks, compression, order. Opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import h5py
import numpy as np

from kerash5._checks import parse_count
from kerash5._errors import OptionError
from kerash5.order._permutation import parse_seed

Compression = Literal["gzip", "lzf", "none", "zstd", "lz4", "blosc", "bitshuffle"]

COMPRESSIONS: Final = ("gzip", "lzf", "none", "zstd", "lz4", "blosc", "bitshuffle")
_OWN: Final = ("gzip", "lzf", "none")  # of h5py; the others are hdf5plugin's
_CHUNK_BYTES: Final = 256 << 10  # as `kerash5.write`: a few hundred chunks make a window
_MAX_CHUNK_BYTES: Final = 1 << 30  # HDF5 has no chunks of 4 GiB
_GZIP_LEVEL: Final = 4
_PLUGINS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = MappingProxyType(
    {
        "zstd": ("Zstd", {}),
        "lz4": ("LZ4", {}),
        "blosc": ("Blosc", {}),
        "bitshuffle": ("Bitshuffle", {}),
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """Made by `parse_options` only."""

    chunk_rows: int | None  # None: as many as make about 256 KiB
    compression: Compression
    seed: int | None  # of the order of rows; None: the order of the source
    paged: bool

    def chunk_shape(self, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
        """Return the chunks of a data set; None if it is to be contiguous."""
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * itemsize
        if 0 in shape or row_bytes > _MAX_CHUNK_BYTES:
            return None
        if self.compression == "none" and self.chunk_rows is None:
            return None
        rows = self.chunk_rows or max(1, _CHUNK_BYTES // max(1, row_bytes))
        return (min(shape[0], rows, max(1, _MAX_CHUNK_BYTES // max(1, row_bytes))), *shape[1:])

    def add_filters(self, creation: Any, dtype: np.dtype | None) -> None:  # noqa: ANN401  of h5py
        """Add the compression to the properties of a data set that is chunked.

        Args:
            creation: The properties.
            dtype: Type of the values; None where it has no NumPy type.
        """
        if self.compression == "none":
            return
        is_number = dtype is not None and dtype.kind in "iufc" and dtype.itemsize > 1
        if self.compression in ("gzip", "lzf"):
            if is_number:
                creation.set_shuffle()
            if self.compression == "gzip":
                creation.set_deflate(_GZIP_LEVEL)
            else:
                creation.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)
            return
        import hdf5plugin

        name, arguments = _PLUGINS[self.compression]
        found = getattr(hdf5plugin, name)(**arguments)
        creation.set_filter(found.filter_id, h5py.h5z.FLAG_OPTIONAL, found.filter_options)


def parse_options(
    *, chunks: int | str, compression: str, shuffle: bool, seed: int, paged: bool
) -> Options:
    """Return the options, or raise `OptionError`."""
    if compression not in COMPRESSIONS:
        raise OptionError(f"compression={compression!r}; choose {', '.join(COMPRESSIONS)}")
    if compression not in _OWN:
        try:
            import hdf5plugin  # noqa: F401  registers its filters
        except ImportError as error:
            raise OptionError(
                f"compression={compression!r} needs hdf5plugin: pip install 'kerash5[filters]'"
            ) from error
    rows = None
    if chunks != "auto":
        rows = parse_count("chunks", chunks, "rows of a chunk, or 'auto'", least=1)
    number = parse_seed(seed)
    return Options(rows, compression, number if shuffle else None, bool(paged))  # type: ignore[arg-type]  # checked above
