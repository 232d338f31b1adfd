"""H5Dataset: the batches as a `keras.utils.PyDataset`.

`fit`, `evaluate` and `predict` accept it like any `PyDataset`. One thing differs: Keras' own
shuffling and workers do not change the order, which is the plan's.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from kerash5._backends import prepare_keras
from kerash5._errors import ColumnError, OptionError, RowError
from kerash5._keywords import DATASET_WORDS, names_keywords
from kerash5.batches._batches import (
    Batch,
    Batches,
    BatchOptions,
    ColumnSpec,
    RowSelection,
    Tree,
    count_rows,
    open_batches,
)
from kerash5.batches._roles import map_tree, names_in
from kerash5.feeds._class_names import (
    adopt_classes,
    check_classes,
    check_trained_classes,
    remember_classes,
)
from kerash5.feeds._epochs import Epochs
from kerash5.feeds._keras_pass import Pass, with_text_as_tensors
from kerash5.feeds._keras_position import (
    Loop,
    Position,
    calling_frame,
    find_indices,
    find_loop,
    find_position,
    is_keras_frame,
)
from kerash5.feeds._overlap import check_no_overlap
from kerash5.feeds._scale import settle_scale
from kerash5.feeds.labels._facts import LabelFacts, read_facts, read_is_one_hot
from kerash5.h5 import Source
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import StrPath
from kerash5.order._plan import Plan, Shuffle

if TYPE_CHECKING:
    PyDataset = object
elif prepare_keras():
    from keras.utils import PyDataset
else:  # without Keras, `batches` and `read` still serve
    PyDataset = object

# One pass of training, one of validation, and passes that were abandoned before their end.
_MAX_PASSES: Final = 4
OWN_ROWS: Final = (
    "give validation_data= rows of its own, such as H5Dataset(..., rows=...) of one side of "
    "split_rows, and evaluate(train) for metrics on the training rows"
)
_MADE_ANEW: Final = (
    "_ordered",
    "_position",
    "_passes",
    "_lock",
    "_hook_calls",
    "_compared",
    "_is_group_checked",
    "_facts",
    "_are_one_hot",
    "_model",
    "_fitted",
    "_first_of",
    "_is_repeat_told",
    "error",
    "wait_seconds",
)


class H5Dataset(PyDataset):
    """Serves the rows of HDF5 files as the batches of a Keras model.

    Every default is right for `model.fit(ds)`: each row once per epoch, shuffled anew each epoch,
    in an order that depends on `seed` and the epoch alone and is the same on every backend.
    `evaluate` and `predict` always get the stored order. If several fits use the same object, each
    starts at epoch 0 again, unless `initial_epoch` is given.

    Outside Keras, `for x, y in ds` and `DataLoader(ds, batch_size=None)` of PyTorch, with or
    without workers, read epoch 0 in the first pass and the next epoch in each further pass.
    `set_epoch` sets the epoch of the next pass.

    Args:
        path: One file, a glob pattern, a list of either (their rows are concatenated, in sorted
            order of the files), or a `Source`. Leave it out (None) if the columns are open
            `h5py.Dataset` objects.
        x: The input of the model: the path of a data set in the file, an open `h5py.Dataset`, a
            `Column`, or a tuple or dict of them. It may be left out for a `Source`, whose columns
            named x, y and sample_weight are then used. Text and complex values need a `transform`
            that encodes them.
        y: The target of the model, in the same forms; None for data without labels.
        sample_weight: One weight per row, in the same forms.
        batch_size: Number of rows in a batch.
        shuffle: "rows", a uniform permutation of all rows; "chunks", whole chunks in random order
            with rows mixed within a window of them, each chunk read once per epoch; False, the
            order of `rows`; "auto", "rows" if single rows are cheap to read or the data fit in the
            cache, else "chunks". `plan.describe()` shows the choice and its reason.
        seed: Seed of the shuffle order.
        rows: The rows to serve: a slice, row numbers, a boolean mask, or one side of a split; or
            rows that the file names: the path of a data set of row numbers or of a mask, or a
            column and a value, such as ("split", "train"). None: all rows.
        transform: Called as transform(x, y[, sample_weight]) with whole NumPy batches, on the
            reading threads; returns the same number of values. Each is an array whose first axis is
            the rows, or a tuple or dict of such arrays, with the same structure in every batch. The
            number of rows may change, except for `predict`, which needs one result per row. If the
            function returns a buffer that it reuses for every batch, the arrays are copied and the
            function is called on one thread at a time. Cast and scale in the model's first layer
            instead: that runs on the device.
        drop_last: Drop the short last batch of an epoch (of `fit`; evaluation sees every row).
        cache: Memory for decoded data: bytes, "2GB", a fraction of free memory, or "auto" (160
            MiB).
        threads: Number of reading threads; 0 reads in the calling thread, None chooses the number.
        shard: (index, count): serve only the `index`-th of `count` shards of the rows, for training
            in several processes. "auto" asks the backend for the index of this process. With a
            `keras.distribution` of several processes, also set its `auto_shard_dataset=False`.
        scratch: A folder for a temporary file of decoded rows. It is used if single rows are read
            from compressed data larger than the cache (shuffle="rows"). The file is unlinked, so
            that its space is freed when the process ends. The order of rows does not depend on it.
        classes_of: A data set, data module or `Run`, such as the training data: text columns get
            its class ids. Without it, each text column numbers its own values, sorted. A value that
            is not among the given classes raises a `LabelError` when it is read.
        reader: "auto", or "h5py" to read everything through h5py.
        allow_external: Let links and virtual data sets point outside the folder of a file.
            Files are trusted; for files from elsewhere pass a `Source(..., untrusted=True)`.
        workers: Keras' name for the number of reading threads; the same as `threads`. Each row is
            still served once per epoch.
        use_multiprocessing, max_queue_size: Accepted because `PyDataset` has them; they have no
            effect.

    Raises:
        KerasH5Error: A file, a column or an option is wrong; the message names it and the cure.

    Example:
        >>> ds = H5Dataset(digits_train(), x="image", y="label", batch_size=50)
        >>> len(ds), ds.read(0)[0].shape
        (100, (50, 28, 28))
    """

    @names_keywords("H5Dataset", cures=DATASET_WORDS)
    def __init__(
        self,
        path: StrPath | Sequence[StrPath] | Source | None = None,
        x: ColumnSpec | None = None,
        y: ColumnSpec | None = None,
        *,
        sample_weight: ColumnSpec | None = None,
        batch_size: int = 32,
        shuffle: Shuffle | Literal["auto"] = "auto",
        seed: int = 0,
        rows: RowSelection = None,
        transform: Callable[..., Any] | None = None,
        drop_last: bool = False,
        cache: float | str = "auto",
        threads: int | None = None,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        scratch: StrPath | None = None,
        classes_of: Any = None,  # noqa: ANN401  a data module, which imports this module
        reader: Reader = "auto",
        allow_external: bool = False,
        workers: int | None = None,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
    ) -> None:
        super().__init__()
        if use_multiprocessing:
            _warn_processes()
        options = BatchOptions(
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            rows=rows,
            transform=transform,
            drop_last=drop_last,
            cache=cache,
            threads=workers if threads is None else threads,
            shard=shard,
            scratch=scratch,
        )
        if classes_of is not None:
            path, (x, y, sample_weight) = adopt_classes(path, (x, y, sample_weight), classes_of)
        self._batches = open_batches(
            path, x, y, sample_weight, options, reader=reader, allow_external=allow_external
        )
        if self._batches.roles == ("x", "sample_weight"):  # Keras would use the second of two as y
            raise ColumnError(
                "sample_weight without y; name y too (an autoencoder's y is the data set of its x)"
            )
        self.epochs_outside_keras = Epochs()
        self._setup()

    def _setup(self) -> None:
        self._ordered: Batches | None = None  # in the stored order; made when first evaluated
        self._position = Position("fit", 0)
        self._passes: list[Pass] = []
        self._lock = threading.Lock()
        self._hook_calls = 0
        self._compared: H5Dataset | None = None  # the validation data already compared with this
        self._is_group_checked = False  # whether the process group was checked
        # Facts about labels, by column and by the class that a loss ignores; each is read once.
        self._facts: dict[tuple[str, int | None], LabelFacts] = {}
        self._are_one_hot: dict[str, bool] = {}
        # A model whose first transformed batch comes next, and whether its y is checked.
        self._model: tuple[Any, bool] | None = None
        self._fitted: ref[Any] | None = None  # the model of the last fit
        self._first_of: ref[Any] | None = None  # that model, if the last epoch was its first
        self._is_repeat_told = False
        self.error: BaseException | None = None
        self.wait_seconds = 0.0  # time that Keras' loops have waited for batches

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without what belongs to this process."""
        return {name: value for name, value in self.__dict__.items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, without a pass in progress."""
        self.__dict__.update(state)
        self._setup()

    def __repr__(self) -> str:
        """Return the source and the batches in one line."""
        batches = f"{len(self)} batches of {self.batch_size}"
        return f"H5Dataset({self.source!r}, {batches}, shuffle={self.plan.shuffle!r})"

    # The batches.

    @property
    def source(self) -> Source:
        """The columns read."""
        return self._batches.source

    @property
    def plan(self) -> Plan:
        """The order served in training: step to row numbers."""
        return self._batches.plan

    @property
    def batch_size(self) -> int:
        """Number of rows in a batch."""
        return self.plan.batch_size

    @property
    def num_rows(self) -> int:
        """Number of rows served in an epoch (over all shards)."""
        return self.plan.num_served

    @property
    def input_shape(self) -> Any:  # noqa: ANN401  nearly always one tuple, and used as one
        """The shape of one row of x; a tuple or dict of shapes if x is a tuple or dict."""
        return map_tree(self._batches.tree("x"), lambda name: self.source.columns[name].shape)

    @property
    def has_labels(self) -> bool:
        """Whether batches have a y."""
        return self.columns_of("y") is not None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names behind the class ids of y, where the file has names."""
        tree = self.columns_of("y")
        return self.source.columns[tree].class_names if isinstance(tree, str) else None

    @property
    def num_classes(self) -> int | None:
        """The number of classes of y; None if y holds no class labels.

        It is the number of class names if there are names. Else it is the width of one-hot labels
        (stored so, or made by `one_hot=`), or the largest label + 1.
        """
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

    def columns_of(self, role: str) -> Tree | None:
        """Return the source's column names for a role: one name, or a tuple or dict of names.

        None if the role has no column.
        """
        return self._batches.tree(role) if role in self._batches.roles else None

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
        served = self.plan.rows_to_serve
        rows = np.arange(len(self.source)) if served is None else served
        row_bytes = math.prod(column.shape) * column.dtype.itemsize
        return lambda wanted: labels.read(wanted)["y"], rows, row_bytes

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._batches)

    def read(self, step: int) -> Batch:
        """Return the batch of a global step as NumPy arrays: (x,), (x, y) or (x, y, sample_weight).

        Args:
            step: The global batch number; the epoch is step // len(self).
        """
        return self._batches.read(step)

    def batches(self, epoch: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch as NumPy arrays, in the plan's order.

        Threads read ahead. Keras is not needed.

        Args:
            epoch: Number of the epoch, from 0.
            start: Index of the first batch, within the epoch.
        """
        return self._batches.epoch(epoch, start)

    def warn(self) -> None:
        """Warn, once, if the order mixes classes badly; iterating over batches does so too."""
        self._batches.warn()

    def batches_in_order(self) -> Iterator[Batch]:
        """Yield every row once, in the order of `rows`, ignoring `shuffle`; threads read ahead."""
        return self._batches_for("predict").epoch(0)

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
        expected = len(self._batches_for("predict").plan.rows(index))
        found = count_rows(batch)
        if found != expected:
            raise OptionError(
                f"transform returned {found} rows for {expected}, and predict answers each row "
                "once; return a row for each, or choose the rows with rows="
            )

    def rows_in_order(self) -> NDArray[np.int64]:
        """Return the row numbers of what `batches_in_order` yields, shape (num_rows_in_order,)."""
        plan = self._batches_for("predict").plan
        return np.concatenate([plan.rows(step) for step in range(plan.steps_per_epoch)])

    @property
    def num_rows_in_order(self) -> int:
        """Number of rows that `batches_in_order` yields: all rows of this shard."""
        start, stop = self._batches_for("predict").plan.shard_bounds
        return stop - start

    def read_column(self, role: str) -> np.ndarray:
        """Read all served rows of y (or of another single column), in the order of `rows`.

        Meant for labels: the result is held in memory.

        Raises:
            ColumnError: There is no such single column.
        """
        tree = self._batches.tree(role) if role in self._batches.roles else None
        if not isinstance(tree, str):
            raise ColumnError(f"{self!r} has no single column {role!r}")
        rows = self.plan.rows_to_serve
        every: NDArray[np.int64] = np.arange(len(self.source)) if rows is None else rows
        return self.source.select(**{role: tree}).read(every)[role]

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
        tree = self._batches.tree(role)
        return self.source.columns[tree].column.path if isinstance(tree, str) else role

    def select_rows(self, rows: RowSelection, **changes: Any) -> H5Dataset:  # noqa: ANN401  they differ
        """Return a data set of the same columns over other rows (numbers of the source's rows).

        It shares decoded rows in memory with this one if they include the selected rows.

        Args:
            rows: As in the constructor.
            **changes: Options of the constructor that differ from this data set's, such as
                shuffle=False.
        """
        batches = self._batches.with_rows(rows, **changes)
        other = self.__class__.__new__(self.__class__)
        state = {"_batches": batches, "epochs_outside_keras": Epochs()}
        other.__setstate__({**self.__getstate__(), **state})
        return other

    @property
    def is_transformed(self) -> bool:
        """Whether a transform changes the batches, so that they differ from the columns."""
        return self._batches.is_transformed

    def offer_scratch(self, folder: StrPath) -> None:
        """Use this folder for decoded rows that do not fit in memory, if `scratch` was not given.

        Batches do not change. Nothing happens if a scratch file would not help.
        """
        self._batches = self._batches.offer_scratch(folder)
        self._ordered = None

    @property
    def fits_memory(self) -> bool:
        """Whether all decoded rows fit in the cache."""
        return self._batches.fits_memory

    def release(self) -> None:
        """Stop reading ahead, and free memory that the next epoch does not need.

        Call it if training stopped within an epoch and the data set stays referenced: TensorFlow
        references every data set it has seen. Further batches of that epoch are read one by one;
        the next epoch is read ahead again.
        """
        with self._lock:
            for under_way in self._passes:
                under_way.release()
            for batches in (self._batches, self._ordered):
                if batches is not None:
                    batches.release()

    def close(self) -> None:
        """Stop reading ahead, and close the HDF5 handles of the files in this process.

        The next read opens them again.
        """
        self.release()
        self.source.close()

    def __enter__(self) -> Self:
        """Return the data set; `with` closes its files at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def describe(self) -> str:
        """Return a description of what is read, in which order, and where rows come from."""
        return self._batches.describe()

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal for two data sets to serve the same batches. JSON-ready."""
        return {"source": self.source.fingerprint(), "plan": self.plan.fingerprint()}

    # The interface of PyDataset.

    @property
    def workers(self) -> int:
        """Always 1, because Keras' own workers repeat and lose batches.

        Setting it sets the number of reading threads.
        """
        return 1

    @workers.setter
    def workers(self, value: int) -> None:
        self._batches = self._batches.with_threads(value)
        self._ordered = None

    @property
    def use_multiprocessing(self) -> bool:
        """Always False: threads read without the GIL, and processes would copy every batch."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        if value:
            _warn_processes()

    @property
    def num_batches(self) -> int:
        """Number of batches: len(self); in evaluation also the batch that `drop_last` drops."""
        if not is_keras_frame(calling_frame()):
            return len(self)
        return len(self._batches_for((find_position(find_loop()) or self._position).task))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch: the first loop reads epoch 0, the second epoch 1.

        `fit`, `evaluate` and `predict` of Keras do not count as such loops, and are not affected.
        """
        is_keras = is_keras_frame(calling_frame())  # adapt(ds) reads data, but is no epoch
        return self.batches(0 if is_keras else self.epochs_outside_keras.begin())

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next loop over the data set, and indexing, will read.

        For loops outside Keras, like `set_epoch` of PyTorch's samplers. Persistent workers of a
        DataLoader that already run are not affected: they count their own epochs.

        Args:
            epoch: From 0.

        Raises:
            OptionError: `epoch` is not a whole number of at least 0.
        """
        self.epochs_outside_keras.set(epoch)

    def __getitem__(self, index: int) -> Batch:
        """Return one batch.

        In a loop of Keras it is the next batch in the plan's order. In a torch DataLoader it is
        batch `index` of the epoch of its pass. Elsewhere it is batch `index` of epoch 0, or of the
        epoch given to `set_epoch`.

        Raises:
            OptionError: A DataLoader stacks batches; pass it batch_size=None.
            RowError: `index` is outside [0, len(self)).
        """
        caller = calling_frame()
        if not is_keras_frame(caller):
            epoch = self.epochs_outside_keras.of_caller(caller, self.batch_size)
            return self._read_index(index, Position("fit", epoch))
        began = time.perf_counter()
        try:
            indices = find_indices(caller)
            if indices is None:  # TensorFlow reads one batch ahead to build its step
                loop = find_loop()
                self._note_model(loop)
                batch = self._read_index(index, find_position(loop) or self._position)
            else:
                batch = self._serve(indices, index)
            return with_text_as_tensors(self._checked(batch))
        except BaseException as error:
            # TensorFlow raises its own error instead of ours; the trainer reads this attribute.
            self.error = error
            raise
        finally:
            self.wait_seconds += time.perf_counter() - began

    def on_epoch_begin(self) -> None:
        """Note what Keras is about to do; Keras also calls this before it only inspects a batch."""
        loop = find_loop()
        self._check_call(loop)
        position = find_position(loop)
        if position is None:
            position = Position("fit", self._hook_calls)
            self._hook_calls += 1
            if self._hook_calls == 1:
                warnings.warn(
                    "this Keras does not tell what it does: epochs are counted by its hooks, and "
                    "evaluate and predict get the order of training; give them shuffle=False data",
                    stacklevel=2,
                )
        self._check_group(position.task, loop)
        is_epoch = loop is not None and loop.task == "fit" and loop.is_begun
        self._fitted = ref(loop.model) if loop is not None and is_epoch else None
        with self._lock:
            if (position.task == "fit") != (self._position.task == "fit"):
                self._release(position.task)
            self._position = position

    def _check_call(self, loop: Loop | None) -> None:
        """Raise if the data do not fit the model or the validation data of Keras' loop."""
        if loop is None or loop.model is None:
            return
        from kerash5.feeds._keras_structure import check_structure  # imports Keras

        check_structure(loop.model, self, loop.task)
        self._note_model(loop)
        if loop.task == "predict":
            check_trained_classes(loop.model, self, has_y=False)
            return
        if loop.data is self:
            self._check_data(loop)
        self._check_labels(loop)

    def _note_model(self, loop: Loop | None) -> None:
        """Schedule a check of the next batch against the model, if a transform makes it."""
        if loop is not None and loop.model is not None and self.is_transformed:
            self._model = (loop.model, loop.task != "predict")

    def _check_data(self, loop: Loop) -> None:
        settle_scale(loop.model, self)
        if loop.task == "evaluate":
            check_trained_classes(loop.model, self)
            return
        remember_classes(loop.model, self)
        other = loop.validation_data
        if isinstance(other, H5Dataset) and self._compared is not other:
            check_classes(self, other)
            check_no_overlap(self, other, task="validate", cure=OWN_ROWS)
            self._compared = other

    def _check_labels(self, loop: Loop) -> None:
        from kerash5.feeds._keras_labels import check_class_weight, check_labels  # import Keras

        check_labels(loop.model, self)
        if loop.class_weight is not None:
            check_class_weight(loop.model, self)
        if isinstance(loop.validation_data, H5Dataset):
            check_labels(loop.model, loop.validation_data)

    def _check_group(self, task: str, loop: Loop | None) -> None:
        if self._is_group_checked:
            return
        self._is_group_checked = task == "fit"
        from kerash5.feeds._keras_group import check_keras_loop  # imports Keras

        check_keras_loop(self, task, None if loop is None else loop.model)

    def _read_index(self, index: int, position: Position) -> Batch:
        batches = self._batches_for(position.task)
        count = len(batches)
        if not -count <= index < count:
            raise RowError(
                f"batch {index} is outside [0, {count}), the batches of an epoch; read(step) takes "
                "any step"
            )
        return batches.read(position.epoch * count + index % count)

    def _checked(self, batch: Batch) -> Batch:
        """Return the batch; check it if it is the first that a transform makes for a model."""
        due, self._model = self._model, None
        if due is not None:
            from kerash5.feeds._keras_labels import check_batch  # import Keras
            from kerash5.feeds._keras_structure import check_batch_structure

            model, is_compared = due
            check_batch_structure(model, batch, has_y=is_compared)
            if is_compared:
                check_batch(model, batch)
        return batch

    def _serve(self, indices: Sequence[int], index: int) -> Batch:
        with self._lock:
            here = next((p for p in self._passes if p.indices is indices), None)
            if here is None:
                batches = self._batches_for(self._position.task)
                here = Pass(indices, batches, self._position)
                self._warn_of_repeats()
                self._passes = [*self._passes[1 - _MAX_PASSES :], here]
            for other in self._passes:
                if other is not here:
                    other.pause()
            batch = here.serve(index)
            if self._position.task == "predict":
                self.check_answerable(batch, index)
            if here.is_finished:
                self._passes.remove(here)
                is_first = self._position == Position("fit", 0)
                self._first_of = self._fitted if is_first else None
            return batch

    def _warn_of_repeats(self) -> None:
        """Warn, once, of repeated `fit(epochs=1)`: each call serves epoch 0, in the same order."""
        if self._position != Position("fit", 0):
            return
        model = None if self._fitted is None else self._fitted()
        first = None if self._first_of is None else self._first_of()
        is_again = model is not None and first is model and self.plan.shuffle is not False
        if is_again and not self._is_repeat_told:
            self._is_repeat_told = True
            warnings.warn(
                "fit begins at epoch 0 again, as the fit before of this model and data, which was "
                "one epoch: the rows come in the same order; for another order give fit(epochs=n), "
                "or fit(initial_epoch=e, epochs=e + 1)",
                stacklevel=4,
            )

    def _batches_for(self, task: str) -> Batches:
        if task == "fit" or (self.plan.shuffle is False and not self.plan.drop_last):
            return self._batches
        if self._ordered is None:
            self._ordered = self._batches.in_given_order()
        return self._ordered

    def _release(self, task: str) -> None:
        """Free the windows of training before evaluation, and those of evaluation before training.

        Both use the same cache budget.
        """
        for other in self._passes:
            other.pause()
        idle = self._ordered if task == "fit" else self._batches
        if idle is not None:
            idle.release()


def _warn_processes() -> None:
    warnings.warn(
        "use_multiprocessing has no effect on an H5Dataset: its own threads read, and every row "
        "comes once",
        stacklevel=3,
    )
