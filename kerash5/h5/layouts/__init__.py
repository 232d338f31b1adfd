"""What may count as a row besides the entries of axis 0. Each function returns a `Source`."""

from kerash5.h5.layouts._classes import classes_from_files, classes_from_groups
from kerash5.h5.layouts._patches import patches_from_volumes
from kerash5.h5.layouts._rows import rows_from_files, rows_from_groups
from kerash5.h5.layouts._windows import windows_from_series

__all__ = [
    "classes_from_files",
    "classes_from_groups",
    "patches_from_volumes",
    "rows_from_files",
    "rows_from_groups",
    "windows_from_series",
]
