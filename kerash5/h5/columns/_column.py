"""`Column`: the user's definition of a data set and the options of its rows. Opens no file."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import DTypeLike

from kerash5._checks import is_number, is_whole, parse_count
from kerash5._display import given_fields
from kerash5._errors import OptionError
from kerash5._keywords import names_keywords
from kerash5.h5.columns._indices import Select, format_select, parse_select
from kerash5.h5.storage._file import StrPath
from kerash5.h5.storage._handles import name_dataset


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file: a data set, and how to transform its rows.

    Its attributes are its arguments, as parsed. `kind_options` and `wants_text` are for kerash5's
    own code and may change.

    Args:
        path: The data set's path in the file, such as "image" or "train/images"; or the open
            `h5py.Dataset`, of a file opened with mode "r".
        shape: The shape each row takes, such as (28, 28, 1) for rows stored as (28, 28); same
            number of values, no cost. No length is -1. Not with `one_hot`.
        dtype: The type each batch is cast to. Better left alone: the stored uint8 travels faster,
            and the model rescales. Floats are rounded (float64 to float32, int64 to float32), and
            nothing else is lost: a value that would wrap (300 as uint8), overflow (1e30 as
            float16), lose a fraction or an imaginary part, or be NaN as an integer, is a
            `ColumnError` that names its row; for labels when the data set is made, for other
            columns when the row is read. `str` gives text as it is, as an array of objects, to a
            `transform` or to a model on TensorFlow, whose layers take text.
        one_hot: The number of classes; integer labels of shape () become float32 rows of shape
            (one_hot,). An id outside [0, one_hot) is a `LabelError`. It may be combined with
            `labels`.
        labels: How stored values become class ids: a sequence of values (the id is the position) or
            a mapping of value to id. A stored value that is not listed is a `LabelError`. String
            columns find their labels by themselves (sorted). "one_hot": each row is a one-hot
            vector, and its id is the position of the 1; a row that is none raises an error.
        select: A NumPy index that is applied to each row, such as `slice(-6, -1)`, `(..., 0)` or
            `[5, 8, 11]`; or its text, "-6:-1". x and y may be selected from one data set.
        field: A field of a compound data set (a table), such as "energy"; one within another by
            dots, "hit.energy"; or a list of fields, which are stacked on a new last axis, in the
            smallest type that holds all their values, or in `dtype`; integers of 64 bits beside
            floats are float64, and raise an error if that cannot hold them. "table:energy" as the
            path, or "table:px,py", says the same, unless a data set has that very name.
        axis: Which axis of the data set counts rows: 0, or -1 for MATLAB's and loom's files. The
            shape of a row is the other axes in order. `Source.describe` says what a row costs.
        pad_to: The length that rows of any length (a variable-length data set) are padded or
            truncated to, at their end; the shape of a row is (pad_to,). Rows that are truncated are
            counted in a warning.
        pad_value: The value that short rows are padded with; needs `pad_to`.
        offsets: The data set that says where each row begins in `path`, a flat data set of the
            values of all rows: num_rows + 1 whole numbers, and row i has the values [offsets[i],
            offsets[i + 1]). Named beside `path`, such as "indptr", or from the root. Needs
            `pad_to`.
        decode: "image" for rows that are the bytes of an image file (JPEG, PNG and others), of any
            length or one. Pillow decodes them: pip install 'kerash5[images]'. The shape of a row is
            that of the first image, (height, width) or (height, width, channels), and all agree.
        resize: The (height, width) that decoded images are scaled to, bilinearly; needs `decode`.
        file: The files that this column lies in, where these are others than those of the source:
            a path, a pattern or a list, as many as the source has, in the sorted order of their
            paths. Rows are matched by their position, file by file.
        complex: What is made of complex numbers: "channels" (real and imaginary part on a new last
            axis), "magnitude" or "phase"; float32 of complex64, float64 of complex128.
        cf: True applies the attributes of netCDF's conventions: values that `_FillValue`,
            `missing_value` or `valid_range` make missing become NaN, and others are unpacked by
            `scale_factor` and `add_offset`, to float32 or float64 as CF has it. False reads what is
            stored. None does so too, and warns where there are such attributes.

    Options are applied in this order: file, axis, field, pad_to or decode, select, cf, complex;
    then labels or one_hot, shape, dtype.

    A path may also name a group that is one column: a sparse matrix stored row by row (CSR, as
    AnnData, 10x Genomics and biom write it), whose rows become dense, shape (columns,), in the type
    of its values; or codes with their categories (AnnData's `obs/cell_type`), which become class
    ids with `class_names`. An HDF5 enum does so too.

    Raises:
        OptionError: An option is no value of its kind. Whether it fits the file is found out, by a
            `ColumnError` or `ShapeError`, when a source is made of it.

    Examples:
        >>> Column("image", shape=(28, 28, 1)).shape
        (28, 28, 1)
        >>> source = Source(digits_train(), x=Column("image", select=(slice(0, 14), ...)))
        >>> source.columns["x"].shape
        (14, 28)
    """

    path: str
    shape: tuple[int, ...] | None = None
    dtype: DTypeLike | None = None
    one_hot: int | None = None
    labels: Sequence[object] | Mapping[Any, int] | None = None
    _: KW_ONLY
    select: Select | None = None
    field: str | Sequence[str] | None = None
    axis: int = 0
    pad_to: int | None = None
    pad_value: float = 0
    offsets: str | None = None
    decode: Literal["image"] | None = None
    resize: tuple[int, int] | None = None
    file: StrPath | Sequence[StrPath] | None = None
    complex: Literal["channels", "magnitude", "phase"] | None = None
    cf: bool | None = None
    # The file of the open data set that was given as path=.
    given_in: str | None = dataclass_field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.path, h5py.Dataset):
            file, name = name_dataset(self.path, "path= of a column")
            object.__setattr__(self, "given_in", file)
            object.__setattr__(self, "path", name)
        if not isinstance(self.path, str) or not self.path.strip("/"):
            raise OptionError(f"a column needs the path of a data set, not {self.path!r}")
        for name, parse in _PARSERS.items():
            value = getattr(self, name)
            if value is not None or name in _NEVER_NONE:
                object.__setattr__(self, name, parse(value, self.path))
        _check_together(self)

    def __repr__(self) -> str:
        """Return the path and the options that were given."""
        return f"Column({given_fields(self)})"

    @property
    def wants_text(self) -> bool:
        """Whether text is asked for as it is."""
        return self.dtype == "str" and self.labels is None and self.one_hot is None

    def kind_options(self) -> dict[str, Any]:
        """Return the given options that define a row, as YAML types."""
        values = {
            "select": None if self.select is None else format_select(self.select),
            "field": list(self.field) if isinstance(self.field, tuple) else self.field,
            "axis": self.axis or None,
            "pad_to": self.pad_to,
            "pad_value": None if self.pad_to is None else self.pad_value,
            "offsets": self.offsets,
            "decode": self.decode,
            "resize": None if self.resize is None else list(self.resize),
            "file": list(self.file) if isinstance(self.file, tuple) else self.file,
            "complex": self.complex,
            "cf": self.cf,
        }
        return {name: value for name, value in values.items() if value is not None}


def _parse_shape(shape: Sequence[int], path: str) -> tuple[int, ...]:
    try:
        # Not int(): it would cut 28.5 to 28, and make (2, 8) of "28".
        parsed = tuple(operator.index(length) for length in shape)
    except TypeError:
        raise OptionError(
            f"shape={shape!r} of column {path!r}; it is a tuple of lengths, such as (28, 28, 1)"
        ) from None
    if any(length < 0 for length in parsed):
        raise OptionError(
            f"shape={parsed} of column {path!r}; lengths are known for stored rows, so none is "
            "negative"
        )
    return parsed


def _check_dtype(dtype: DTypeLike, path: str) -> DTypeLike:
    try:
        parsed = np.dtype(dtype)
    except TypeError:
        raise OptionError(
            f"dtype={dtype!r} of column {path!r} is no type that NumPy knows, such as 'float32'"
        ) from None
    return "str" if parsed == np.dtype(str) else dtype


def _parse_one_hot(count: object, path: str) -> int:
    return parse_count("one_hot", count, f"the number of classes of column {path!r}")


def _parse_field(field: object, path: str) -> str | tuple[str, ...]:
    names = [field] if isinstance(field, str) else field
    told = list(names) if isinstance(names, Sequence) and not isinstance(names, bytes) else []
    if not told or not all(isinstance(name, str) and name for name in told):
        raise OptionError(
            f"field={field!r} of column {path!r}; it is the name of a field of a compound data "
            "set, or a list of such names"
        )
    return field if isinstance(field, str) else tuple(told)


def _parse_axis(axis: object, path: str) -> int:
    if not is_whole(axis):
        raise OptionError(
            f"axis={axis!r} of column {path!r}; it is the number of the axis that counts rows, "
            "such as 0 or -1"
        )
    return int(axis)


def _parse_pad_to(pad_to: object, path: str) -> int:
    meaning = f"the length that rows of column {path!r} are padded or truncated to"
    return parse_count("pad_to", pad_to, meaning)


def _parse_pad_value(value: object, path: str) -> float:
    if not is_number(value):
        raise OptionError(
            f"pad_value={value!r} of column {path!r}; it is a number, such as 0 or -1"
        )
    return int(value) if is_whole(value) else float(value)


def _parse_offsets(offsets: object, path: str) -> str:
    if not isinstance(offsets, str) or not offsets.strip("/"):
        raise OptionError(
            f"offsets={offsets!r} of column {path!r}; it is the path of the data set that says "
            "where rows begin, such as 'indptr'"
        )
    return offsets


def _parse_resize(resize: object, path: str) -> tuple[int, int]:
    sizes = list(resize) if isinstance(resize, list | tuple) else []
    if len(sizes) != 2 or not all(is_whole(size) and size > 0 for size in sizes):
        raise OptionError(
            f"resize={resize!r} of column {path!r}; it is the height and the width of decoded "
            "images, such as (224, 224)"
        )
    return int(sizes[0]), int(sizes[1])


def _parse_file(file: object, path: str) -> str | tuple[str, ...]:
    is_one = isinstance(file, str | os.PathLike)
    entries = [file] if is_one else list(file) if isinstance(file, list | tuple) else []
    names = [os.fspath(entry) for entry in entries if isinstance(entry, str | os.PathLike)]
    if not names or len(names) < len(entries) or not all(isinstance(name, str) for name in names):
        raise OptionError(
            f"file={file!r} of column {path!r}; it is the path of the file that the column lies "
            "in, a glob pattern or a list of them"
        )
    return str(names[0]) if is_one else tuple(map(str, names))


def _chosen_from(name: str, *choices: object) -> Callable[[Any, str], Any]:
    def parse(value: object, path: str) -> object:
        if not (isinstance(value, str | bool) and value in choices):
            told = ", ".join(map(repr, choices))
            raise OptionError(
                f"{name}={value!r} of column {path!r}; choose {told}, or leave it out"
            )
        return value

    return parse


def _check_together(column: Column) -> None:
    """Raise `OptionError` where an option would do nothing, for others are missing or given."""
    needs = {"offsets": "pad_to", "resize": "decode"}
    excludes = {"pad_to": ("field", "decode"), "offsets": ("axis",)}
    given = column.kind_options()
    what = f"of column {column.path!r}"
    for name, needed in needs.items():
        if name in given and needed not in given:
            raise OptionError(f"{name}={given[name]!r} {what} needs {needed}= as well; give both")
    for name, others in excludes.items():
        for other in others:
            if name in given and other in given:
                raise OptionError(
                    f"{name}={given[name]!r} {what} does not go with {other}={given[other]!r}; "
                    "leave one out"
                )
    if column.pad_to is None and column.pad_value != 0:
        raise OptionError(f"pad_value={column.pad_value!r} {what} needs pad_to= as well; give both")


_PARSERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "shape": _parse_shape,
    "dtype": _check_dtype,
    "one_hot": _parse_one_hot,
    "select": parse_select,
    "field": _parse_field,
    "axis": _parse_axis,
    "pad_to": _parse_pad_to,
    "pad_value": _parse_pad_value,
    "offsets": _parse_offsets,
    "decode": _chosen_from("decode", "image"),
    "resize": _parse_resize,
    "file": _parse_file,
    "complex": _chosen_from("complex", "channels", "magnitude", "phase"),
    "cf": _chosen_from("cf", True, False),
}
_NEVER_NONE: Final = ("axis", "pad_value")


_WORDS: Final[Mapping[str, str]] = {
    "window": "windows_from_series makes rows of the windows of a series",
    "length": "it is pad_to= for rows of any length, and windows_from_series(length=) for windows",
    "index": "it is select=, a NumPy index of each row",
    "slice": "it is select=, a NumPy index of each row",
    "fields": "it is field=, one name or a list",
    "columns": "it is select= for a matrix, and field= for a table",
    "transform": "it is an option of the data set: H5Dataset(..., transform=)",
    "scale": "the model rescales; cf=True applies the file's own scale_factor",
    "classes": "it is labels=",
    "num_classes": "it is one_hot=",
    "key": "it is path=",
    "name": "it is path=; the columns of a source are named by its keywords",
}
# An unknown keyword is an `OptionError` that names the right one.
Column.__init__ = names_keywords("Column", cures=_WORDS)(Column.__init__)  # type: ignore[method-assign]
