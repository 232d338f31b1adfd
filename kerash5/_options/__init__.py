"""Every option of data, model and training, declared once, with its documentation.

`H5DataModule` and `Trainer` take the fields of `DataOptions` and `TrainerOptions` as arguments. The
command line and config.yaml use the same names, for fields whose values can be written as text.
Keras is not imported, so that parsing is quick.
"""

from kerash5._options._columns import ColumnOption, Columns, format_columns, parse_columns
from kerash5._options._data import ColumnSpecOption, DataOptions
from kerash5._options._model import ModelOptions
from kerash5._options._text import TextOption, check_aliases, text_options
from kerash5._options._trainer import TrainerOptions

__all__ = [
    "ColumnOption",
    "ColumnSpecOption",
    "Columns",
    "DataOptions",
    "ModelOptions",
    "TextOption",
    "TrainerOptions",
    "check_aliases",
    "format_columns",
    "parse_columns",
    "text_options",
]
