"""Windows of a recording as rows: Keras' `timeseries_dataset_from_array` for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kerash5._checks import is_whole, parse_count
from kerash5._errors import ColumnError, OptionError
from kerash5.h5._row_kind import RowKind
from kerash5.h5._source import Source
from kerash5.h5.columns._columns import Column
from kerash5.h5.layouts._base import Base, check_same_lengths, open_bases
from kerash5.h5.layouts._window_reader import WindowReader
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File, StrPath

YAt = Literal["last", "next", "window"] | int

_Y_WORDS: Final = {
    "last": "the value at its last one",
    "next": "the value after its last one",
    "window": "the values at all of them",
}


def windows_from_series(
    path: StrPath | Sequence[StrPath] | None = None,
    *,
    x: str | Column,
    y: str | Column | None = None,
    length: int,
    stride: int = 1,
    sampling_rate: int = 1,
    y_at: YAt = "last",
    allow_external: bool = False,
    reader: Reader = "auto",
) -> Source:
    """Make a source whose rows are windows of a series, such as a recording. Nothing is copied.

    Window i of a file begins at value `i * stride` and takes `length` values, `sampling_rate`
    apart. Values are the entries of axis 0 and may have any shape. Windows never reach from one
    file into the next. Those that overlap share the values that are read: a block of windows
    decodes its part of the file once.

    Windows that overlap have values in common. To validate on values that were not trained on, give
    `rows=` as a slice, or files of their own, instead of a random fraction.

    Args:
        path: A file, a glob pattern, or a list of either, each one series; as in `Source`.
        x: The data set of the series, shape (num_values, *value_shape), or a `Column`, whose
            `shape` is that of a window.
        y: The data set that y is taken from, aligned with x value by value; x itself to forecast.
        length: Values in a window.
        stride: Values from the beginning of a window to that of the next: Keras' sequence_stride.
        sampling_rate: Values from one value of a window to the next; 2 takes every other.
        y_at: Where y is taken: at the "last" value of the window; at the "next" one, which is
            `sampling_rate` values after it; at all values of the "window"; or at a number of values
            after the first one of the window; 0 pairs as Keras' function does. Windows without a y
            are left out, as is an incomplete last window.
        allow_external: As in `Source`.
        reader: As in `Source`.

    Returns:
        A source with the columns "x", rows of shape (length, *value_shape), and "y", rows of shape
        value_shape, or (length, *value_shape) where `y_at` is "window". File follows file in sorted
        order, window follows window.

    Raises:
        OptionError: `length`, `stride` or `sampling_rate` is less than 1, or `y_at` is unknown.
        ColumnError: A series is shorter than one window with its y, or x and y differ in length.

    Examples:
        >>> write("signal.h5", signal=np.arange(100.0))
        >>> source = windows_from_series("signal.h5", x="signal", y="signal", length=3, y_at="next")
        >>> source.read([0, 96])["x"].tolist(), source.read([0, 96])["y"].tolist()
        ([[0.0, 1.0, 2.0], [96.0, 97.0, 98.0]], [3.0, 99.0])
    """
    cut = _parse_cut(length, stride, sampling_rate, y_at if y is not None else None)
    if y is None and y_at != "last":
        raise OptionError(f"y_at={y_at!r} without y=; name the data set that y is taken from")
    files, bases = open_bases(path, {"x": x, "y": y}, allow_external=allow_external, reader=reader)
    check_same_lengths(files, bases, "series")
    counts = [
        cut.count_windows(file, bases["x"], part)
        for file, part in zip(files, bases["x"].parts, strict=True)
    ]
    columns = {
        name: base.with_readers(
            [
                cut.read_x(part, count) if name == "x" else cut.read_y(part, count)
                for part, count in zip(base.parts, counts, strict=True)
            ]
        )
        for name, base in bases.items()
    }
    return Source.from_parts(files, columns, cut.as_kind())


@dataclass(frozen=True, slots=True)
class _Cut:
    """How series are divided into windows; from `_parse_cut`."""

    length: int
    stride: int
    rate: int
    y_at: YAt | None  # None: there is no y

    @property
    def _span(self) -> int:
        """From the first value of a window to its last, both counted."""
        return (self.length - 1) * self.rate + 1

    @property
    def _y_offset(self) -> int:
        """From the first value of a window to its y."""
        if isinstance(self.y_at, int):
            return self.y_at
        return self._span - 1 + (self.rate if self.y_at == "next" else 0)

    def count_windows(self, file: H5File, base: Base, part: AbstractReader) -> int:
        """Return how many windows a series has.

        Raises:
            ColumnError: It has no window.
        """
        needed = max(self._span, self._y_offset + 1)
        if part.num_rows < needed:
            what = f"a window of length={self.length}"
            what += f" and sampling_rate={self.rate}" if self.rate > 1 else ""
            what += f" with y_at={self.y_at!r}" if needed > self._span else ""
            raise ColumnError(
                f"the series {base.asked.path!r} of {file.path!r} has {part.num_rows} values, and "
                f"{what} takes {needed}; choose a smaller length=, or leave the file out"
            )
        return (part.num_rows - needed) // self.stride + 1

    def read_x(self, part: AbstractReader, count: int) -> WindowReader:
        return WindowReader(part, count, stride=self.stride, length=self.length, rate=self.rate)

    def read_y(self, part: AbstractReader, count: int) -> WindowReader:
        if self.y_at == "window":
            return self.read_x(part, count)
        return WindowReader(part, count, first=self._y_offset, stride=self.stride)

    def as_kind(self) -> RowKind:
        words = f"each row is a window of {self.length} values"
        words += f", {self.rate} apart" if self.rate > 1 else ""
        every = f"every {self.stride} values" if self.stride > 1 else "at every value"
        words += f"; a window begins {every} of a file"
        if self.y_at is not None:
            y_words = f"the value {self.y_at} after its first one"
            words += f"; its y is {_Y_WORDS.get(str(self.y_at), y_words)}"
        options = {
            "length": self.length,
            "stride": self.stride,
            "sampling_rate": self.rate,
            "y_at": self.y_at,
        }
        return RowKind("windows_from_series", words, options)


def _parse_cut(length: object, stride: object, rate: object, y_at: object) -> _Cut:
    if y_at is not None and not (isinstance(y_at, str) and y_at in _Y_WORDS):
        if not is_whole(y_at) or y_at < 0:
            raise OptionError(
                f"y_at={y_at!r}; choose 'last', 'next', 'window', or how many values after the "
                "first one of the window, at least 0"
            )
        y_at = int(y_at)
    return _Cut(
        parse_count("length", length, "the number of values in a window"),
        parse_count("stride", stride, "the number of values from one window to the next"),
        parse_count("sampling_rate", rate, "the number of values from one to the next"),
        y_at,  # type: ignore[arg-type]  # checked above
    )
