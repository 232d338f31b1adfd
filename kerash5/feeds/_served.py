"""What an `H5Dataset` serves: its columns, its labels, and its rows in order.

kerash5's own code reads these facts through `served_by(dataset)`; users need none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeGuard, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, OptionError
from kerash5.batches._batches import Batch, Tree, count_rows
from kerash5.batches._roles import names_in
from kerash5.batches._transform_result import Made
from kerash5.feeds.labels._facts import LabelFacts, read_facts, read_is_one_hot
from kerash5.feeds.passes._task_batches import TaskBatches
from kerash5.h5 import Source
from kerash5.h5.storage._file import StrPath
from kerash5.order._plan import Plan

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset


@final
class ServedData:
    """The columns and rows of a data set.

    Args:
        batches: The batches of each task.

    Attributes:
        loop_error: The last error that a loop of Keras met while reading. TensorFlow raises an
            error of its own instead.
    """

    def __init__(self, batches: TaskBatches) -> None:
        self.batches = batches
        self.loop_error: BaseException | None = None
        # Facts about labels, by column and by the class that a loss ignores; each is read once.
        self._facts: dict[tuple[str, int | None], LabelFacts] = {}
        self._are_one_hot: dict[str, bool] = {}
        self._made: Made | None = None

    @property
    def source(self) -> Source:
        """The columns read."""
        return self.batches.training.source

    @property
    def plan(self) -> Plan:
        """The order served in training."""
        return self.batches.training.plan

    @property
    def is_transformed(self) -> bool:
        """Whether a transform changes the batches, so that they differ from the columns."""
        return self.batches.training.is_transformed

    @property
    def fits_memory(self) -> bool:
        """Whether all decoded rows fit in the cache."""
        return self.batches.training.fits_memory

    def offer_scratch(self, folder: StrPath) -> None:
        """Use this folder for decoded rows that do not fit in memory, if `scratch` was not given.

        Batches do not change. Nothing happens if a scratch file would not help.
        """
        self.batches.training = self.batches.training.offer_scratch(folder)

    def warn(self) -> None:
        """Warn, once, if the order mixes classes badly; iterating over batches does so too."""
        self.batches.training.warn()

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal for two data sets to serve the same batches. JSON-ready."""
        return {"source": self.source.fingerprint(), "plan": self.plan.fingerprint()}

    # Columns.

    def columns_of(self, role: str) -> Tree | None:
        """Return the source's column names for a role: one name, or a tuple or dict of names.

        None if the role has no column.
        """
        batches = self.batches.training
        return batches.tree(role) if role in batches.roles else None

    def column_names(self, role: str) -> tuple[str, ...]:
        """Return the names that the source has for the columns of x, y or sample_weight.

        Args:
            role: "x", "y" or "sample_weight"; the result is empty if it has no column.
        """
        tree = self.columns_of(role)
        return () if tree is None else tuple(names_in(tree))

    def column_path(self, role: str) -> str:
        """Return the path of the HDF5 data set for x, y or sample_weight.

        If a role has several columns, return the name of the role.
        """
        tree = self.batches.training.tree(role)
        return self.source.columns[tree].column.path if isinstance(tree, str) else role

    def read_column(self, role: str) -> np.ndarray:
        """Read all served rows of y (or of another single column), in the order of `rows`.

        Meant for labels: the result is held in memory.

        Raises:
            ColumnError: There is no such single column.
        """
        tree = self.columns_of(role)
        if not isinstance(tree, str):
            raise ColumnError(f"{self.source!r} has no single column {role!r}")
        return self.source.select(**{role: tree}).read(self.plan.served_rows)[role]

    # Labels.

    @property
    def has_labels(self) -> bool:
        """Whether batches have a y."""
        return self.columns_of("y") is not None

    @property
    def num_classes(self) -> int | None:
        """The number of classes of y, as in `H5Dataset.num_classes`."""
        if not self.is_transformed:
            return self.num_stored_classes
        return self.num_stored_classes if self.made.has_ids else self.made.num_one_hot

    @property
    def made(self) -> Made:
        """What the transform makes of the first batch; it is called once for it."""
        if self._made is None:
            self._made = Made.of(self.batches.training.read(0))
        return self._made

    @property
    def num_stored_classes(self) -> int | None:
        """The number of classes of the stored y, whatever a transform makes of it."""
        tree = self.columns_of("y")
        if not isinstance(tree, str):
            return None
        column = self.source.columns[tree]
        if column.class_names is not None:
            return len(column.class_names)
        if column.column.one_hot is not None:
            return column.column.one_hot
        if column.dtype.kind in "iub" and column.shape in ((), (1,)):
            largest = self.label_facts(tree).largest
            return 1 if largest is None else int(max(0, largest[0])) + 1
        return column.shape[0] if self.is_one_hot(tree) and len(column.shape) == 1 else None

    def label_facts(self, name: str, ignored: int | None = None) -> LabelFacts:
        """Return the range of the labels in a column of the source; the labels are read once.

        Args:
            name: The column.
            ignored: A class that is ignored; None for none.
        """
        if (name, ignored) not in self._facts:
            self._facts[name, ignored] = read_facts(*self._label_reader(name), ignored)
        return self._facts[name, ignored]

    def is_one_hot(self, name: str) -> bool:
        """Return whether the rows of a column of the source are one-hot; read once."""
        if name not in self._are_one_hot:
            column = self.source.columns[name]
            is_possible = column.dtype.kind in "biuf" and len(column.shape) > 0
            is_possible = is_possible and column.shape[-1] > 1
            found = is_possible and read_is_one_hot(*self._label_reader(name))
            self._are_one_hot[name] = found
        return self._are_one_hot[name]

    def _label_reader(
        self, name: str
    ) -> tuple[Callable[[NDArray[np.int64]], np.ndarray], NDArray[np.int64], int]:
        """Return a reader of a column's rows, the row numbers served, and the bytes of one row."""
        labels, column = self.source.select(y=name), self.source.columns[name]
        row_bytes = math.prod(column.shape) * column.dtype.itemsize
        return lambda wanted: labels.read(wanted)["y"], self.plan.served_rows, row_bytes

    # Rows in the stored order.

    @property
    def num_rows_in_order(self) -> int:
        """Number of rows that `batches_in_order` yields: all rows of this shard."""
        start, stop = self.batches.in_order.plan.shard_bounds
        return stop - start

    def rows_in_order(self) -> NDArray[np.int64]:
        """Return the row numbers of what `batches_in_order` yields, shape (num_rows_in_order,)."""
        plan = self.batches.in_order.plan
        return np.concatenate([plan.rows(step) for step in range(plan.steps_per_epoch)])

    def batches_in_order(self) -> Iterator[Batch]:
        """Yield every row once, in the order of `rows`, ignoring `shuffle`; threads read ahead."""
        return self.batches.in_order.epoch(0)

    def check_answerable(self, batch: Batch, index: int) -> None:
        """Check that a transformed batch of `batches_in_order` still has one row per row read.

        Args:
            batch: The batch.
            index: Number of the batch, from 0.

        Raises:
            OptionError: A transform has returned another number of rows.
        """
        if not self.is_transformed:
            return
        expected = len(self.batches.in_order.plan.rows(index))
        found = count_rows(batch)
        if found != expected:
            raise OptionError(
                f"transform returned {found} rows for {expected}, and predict answers each row "
                "once; return a row for each, or choose the rows with rows="
            )


def served_by(dataset: H5Dataset) -> ServedData:
    """Return what a data set serves."""
    return dataset._served  # noqa: SLF001  the one place that reads it, so that users do not see it


def is_h5dataset(data: object) -> TypeGuard[H5Dataset]:
    """Return whether an object is an `H5Dataset`, whose module imports this one."""
    return isinstance(getattr(data, "_served", None), ServedData)
