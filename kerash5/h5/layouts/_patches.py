"""Patches of volumes as rows: boxes on a grid, read chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from kerash5._checks import parse_count
from kerash5._errors import ColumnError, OptionError
from kerash5.h5._row_kind import RowKind
from kerash5.h5._source import Source
from kerash5.h5.columns._columns import Column
from kerash5.h5.layouts._base import Base, derive_origin, open_bases
from kerash5.h5.layouts._boxes import choose_boxes
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._runs import Runs
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File, StrPath

Border = Literal["drop", "pad", "shift"]

_BLOCK_BYTES: Final = 4 << 20  # of patches that are best read together; more, and few are mixed
_GOOD_ENOUGH: Final = 1.25  # times the fewest chunks decoded for a patch
_LARGE_BYTES: Final = 4 << 20  # of a block that several threads read together
_MAX_SHARDS: Final = 8
_BORDER_WORDS: Final = {
    "drop": "whole ones alone",
    "pad": "those at the border padded with zeros",
    "shift": "those at the border shifted inwards",
}


def patches_from_volumes(
    path: StrPath | Sequence[StrPath] | None = None,
    *,
    x: str | Column,
    y: str | Column | None = None,
    shape: int | Sequence[int] = (64, 64, 64),
    stride: int | Sequence[int] | None = None,
    border: Border = "drop",
    allow_external: bool = False,
    reader: Reader = "auto",
) -> Source:
    """Make a source whose rows are patches of volumes, or of images. Nothing is copied.

    Patches lie on a grid that begins at 0, along the first `len(shape)` axes of a data set; axes
    after those, such as channels, stay whole. They come in C order, the last axis fastest, and file
    follows file in sorted order. Each file holds one volume, of any size. Patches that are read
    together decode each chunk once.

    Patches that overlap, because `stride` is less than `shape` or by `border="shift"`, have values
    in common. To validate on values that were not trained on, give other files.

    Args:
        path: A file, a glob pattern, or a list of either, as in `Source`.
        x: The data set of the volume, shape (*size, *rest), or a `Column`, whose `shape` is that of
            a patch.
        y: The data set that y is taken from, of the same size, such as a mask of the volume.
        shape: Shape of a patch along the axes of the grid; one number for one axis.
        stride: Values from one patch to the next along each axis, or one number for all; None:
            `shape`, so that patches touch.
        border: What becomes of the end of an axis that no whole patch fits into: "drop" leaves it
            out, "pad" has a patch there that is filled with zeros, "shift" one that begins earlier.
        allow_external: As in `Source`.
        reader: As in `Source`.

    Returns:
        A source with the columns "x" and "y", rows of shape (*shape, *rest).

    Raises:
        OptionError: `shape` or `stride` is no tuple of numbers of at least 1, or `border` unknown.
        ColumnError: A data set has fewer axes than `shape`, a volume is smaller than a patch, or x
            and y differ in size.

    Examples:
        >>> write("scan.h5", raw=np.zeros((96, 64, 64, 2), "u1"), mask=np.zeros((96, 64, 64), "u1"))
        >>> source = patches_from_volumes("scan.h5", x="raw", y="mask", shape=(32, 32, 32))
        >>> len(source), source.read([0])["x"].shape, source.read([0])["y"].shape
        (12, (1, 32, 32, 32, 2), (1, 32, 32, 32))
    """
    cut = _parse_cut(shape, stride, border)
    files, bases = open_bases(path, {"x": x, "y": y}, allow_external=allow_external, reader=reader)
    grids = [cut.find_grid(file, part, bases) for part, file in enumerate(files)]
    columns = {
        name: base.with_readers(
            [PatchReader(part, grid) for part, grid in zip(base.parts, grids, strict=True)]
        )
        for name, base in bases.items()
    }
    return Source.from_parts(files, columns, cut.as_kind())


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the patches of one volume lie."""

    size: tuple[int, ...]  # of the volume, along the axes of the grid
    shape: tuple[int, ...]  # of a patch
    stride: tuple[int, ...]
    border: Border

    @property
    def counts(self) -> tuple[int, ...]:
        """Patches along each axis."""
        axes = zip(self.size, self.shape, self.stride, strict=True)
        if self.border == "drop":
            return tuple(max(0, (size - shape) // stride + 1) for size, shape, stride in axes)
        # None begins outside the volume, which one after a gap could.
        return tuple(
            min(-(-max(0, size - shape) // stride) + 1, -(-size // stride))
            for size, shape, stride in axes
        )

    def corners(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first corners of patches and those after their last, shape (n, num_axes)."""
        positions = np.stack(np.unravel_index(rows, self.counts), axis=-1).astype(np.int64)
        size, shape = np.array(self.size), np.array(self.shape)
        lows = positions * np.array(self.stride)
        if self.border == "shift":
            lows = np.minimum(lows, size - shape)
        return lows, np.minimum(lows + shape, size)


@final
class PatchReader(AbstractReader):
    """Reads the patches of a volume."""

    def __init__(self, volume: AbstractReader, grid: Grid) -> None:
        num_axes = len(grid.shape)
        self._grid = grid
        self._boxes = choose_boxes(volume, num_axes)
        self._words = volume.describe()
        self.num_rows = math.prod(grid.counts)
        self.row_shape = (*grid.shape, *volume.row_shape[num_axes - 1 :])
        self.dtype = volume.dtype
        self.is_direct = self._boxes.is_direct
        self.other_files = volume.other_files
        self.categories = volume.categories
        self.origin = derive_origin(
            [volume.origin], *grid.shape, *grid.stride, len(grid.border), num_axes
        )
        self.block_rows = choose_block(grid, self._boxes.chunks, self.row_bytes)
        is_large = self.block_rows * self.row_bytes >= _LARGE_BYTES and not self.is_direct
        self.num_shards = _MAX_SHARDS if is_large else 1

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of patches to their positions in `out`."""
        for start, stop, place in runs.joined():
            count = np.arange(stop - start)
            self.read_rows(start + count, out, place + count)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read patches in the requested order; chunks of several patches are decoded once."""
        if not len(rows) or (shard[0] and self.num_shards == 1):
            return
        goes = np.arange(len(rows)) if positions is None else positions
        lows, highs = self._grid.corners(rows)
        if self._grid.border == "pad" and shard[0] == 0:
            self._pad(highs - lows, out, goes)
        self._boxes.read(lows, highs, out, goes, shard if self.num_shards > 1 else (0, 1))

    def describe(self) -> str:
        """Describe how the values are read."""
        return self._words

    def _pad(self, sizes: NDArray[np.int64], out: np.ndarray, positions: NDArray[np.int64]) -> None:
        """Fill only the values outside the volume with zeros; other threads write the rest."""
        shape = self._grid.shape
        for box in np.flatnonzero((sizes < np.array(shape)).any(axis=1)).tolist():
            for axis, size in enumerate(sizes[box].tolist()):
                if size < shape[axis]:
                    out[(positions[box], *[slice(None)] * axis, slice(size, None))] = _zero(
                        out.dtype
                    )


def _zero(dtype: np.dtype) -> np.ndarray:
    return np.zeros((), dtype)


def choose_block(grid: Grid, chunks: tuple[int, ...] | None, row_bytes: int) -> int:
    """Return how many patches are best read together: few, and few chunks for each.

    A block is a run of patches along the last axis, or whole lines of them, or whole layers. Most
    chunks that it decodes should be of no other block, and it should not be large.
    """
    if chunks is None or not math.prod(grid.counts):
        return 1
    costs: dict[int, float] = {}
    for block in _candidates(grid.counts):
        num_rows = math.prod(block)
        if costs and num_rows * row_bytes > _BLOCK_BYTES:
            break
        axes = zip(block, grid.counts, grid.shape, grid.stride, chunks, strict=True)
        costs[num_rows] = math.prod(_chunks_touched(*axis) for axis in axes) / num_rows
    best = min(costs.values())
    return next(rows for rows, cost in costs.items() if cost <= _GOOD_ENOUGH * best)


def _candidates(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return sizes of blocks, ascending: parts of a line, then of a layer, and so on.

    Blocks are runs of rows, so only a size that divides an axis keeps to its line.
    """
    found = [(1,) * len(counts)]
    for axis in reversed(range(len(counts))):
        found += [
            (*(1,) * axis, length, *counts[axis + 1 :])
            for length in range(2, counts[axis] + 1)
            if counts[axis] % length == 0
        ]
    return found


def _chunks_touched(length: int, count: int, shape: int, stride: int, chunk: int) -> float:
    """Return how many chunks along one axis a block touches, on average over its blocks.

    Args:
        length: Number of patches in the block.
        count: Number of patches in total.
        shape: Shape of a patch.
        stride: Stride of the patches.
        chunk: Values in a chunk.
    """
    first = np.arange(0, count, length)
    last = np.minimum(first + length, count) - 1
    return float((((last * stride + shape - 1) // chunk) - first * stride // chunk + 1).mean())


@dataclass(frozen=True, slots=True)
class _Cut:
    """How volumes are divided into patches; from `_parse_cut`."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    border: Border

    def find_grid(self, file: H5File, part: int, bases: dict[str, Base]) -> Grid:
        """Return the grid of one volume.

        Raises:
            ColumnError: There is none for x and y.
        """
        sizes = {}
        for name, base in bases.items():
            reader = base.parts[part]
            whole = (reader.num_rows, *reader.row_shape)
            where = f"{base.asked.path!r} of {file.path!r}"
            if len(whole) < len(self.shape):
                raise ColumnError(
                    f"{where} has {len(whole)} axes, {whole}, and patches of shape={self.shape} "
                    f"have {len(self.shape)}; give shape= so many numbers as axes are cut"
                )
            sizes[name] = whole[: len(self.shape)]
        size = sizes["x"]
        if sizes.get("y", size) != size:
            raise ColumnError(
                f"volumes of {file.path!r} differ in size: {bases['x'].asked.path!r} has {size}, "
                f"{bases['y'].asked.path!r} {sizes['y']}; they must be aligned value by value"
            )
        is_small = any(a < b for a, b in zip(size, self.shape, strict=True))
        if (is_small and self.border != "pad") or not all(size):
            raise ColumnError(
                f"{bases['x'].asked.path!r} of {file.path!r} is of size {size}, smaller than a "
                f"patch of shape={self.shape}; choose a smaller one, border='pad', or leave the "
                "file out"
            )
        return Grid(size, self.shape, self.stride, self.border)

    def as_kind(self) -> RowKind:
        words = (
            f"each row is a patch of {self.shape}, every {self.stride} values of a volume, "
            f"{_BORDER_WORDS[self.border]}"
        )
        options = {
            "shape": list(self.shape),
            "stride": list(self.stride),
            "border": self.border,
        }
        return RowKind("patches_from_volumes", words, options)


def _parse_cut(shape: object, stride: object, border: object) -> _Cut:
    if border not in ("drop", "pad", "shift"):
        raise OptionError(f"border={border!r}; choose 'drop', 'pad' or 'shift'")
    lengths = _parse_lengths("shape", shape, "the values of a patch along each axis")
    if stride is None:
        return _Cut(lengths, lengths, border)
    steps = _parse_lengths("stride", stride, "the values from one patch to the next")
    if len(steps) == 1 and not isinstance(stride, Sequence):
        steps *= len(lengths)
    if len(steps) != len(lengths):
        raise OptionError(
            f"stride={stride!r} for patches of shape={lengths}; give one number for each axis, or "
            "one for all"
        )
    return _Cut(lengths, steps, border)


def _parse_lengths(name: str, given: object, meaning: str) -> tuple[int, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray):
        return (parse_count(name, given, meaning),)
    if not len(given):
        raise OptionError(f"{name}={given!r}; it is {meaning}, such as (64, 64, 64)")
    return tuple(parse_count(name, one, meaning) for one in given)
