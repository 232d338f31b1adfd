"""Which reader the rows of a column get in one file: what is stored, and what is made of it."""

from __future__ import annotations

from kerash5.h5.columns._column import Column
from kerash5.h5.columns._functions import SelectFunction
from kerash5.h5.reading._derived import DerivedReader
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import H5File


def open_column(
    column: Column, file: H5File, *, allow_external: bool = False, reader: Reader = "auto"
) -> tuple[str, AbstractReader]:
    """Open a column of one file.

    Args:
        column: What the user said.
        file: The file.
        allow_external: Let its data lie outside the file's folder.
        reader: As `open_part` has it.

    Returns:
        How it is stored, in words, and the reader of its rows.

    Raises:
        KerasH5Error: There is no such column, its options do not fit it, or it is damaged.
    """
    layout, found = open_part(column.path, file, allow_external=allow_external, reader=reader)
    where = f"column {column.path!r} of {file.path!r}"
    part: AbstractReader = found
    if column.select is not None:
        part = DerivedReader(part, SelectFunction(column.select, part.row_shape, part.dtype, where))
    return layout.describe(), part
