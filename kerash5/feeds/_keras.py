"""H5Dataset: the batches as Keras looks at them.

`fit`, `evaluate` and `predict` take it as they take any `keras.utils.PyDataset`. What differs is
that nothing Keras does to a PyDataset changes what is served: the order is the plan's.
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

# An epoch in training, one in validation, and what was given up before its end.
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
    `evaluate` and `predict` always get the stored order. Give the same object to several fits and
    each begins at epoch 0 again, unless `initial_epoch` says otherwise.

    Outside Keras, `for x, y in ds` and `DataLoader(ds, batch_size=None)` of PyTorch, with or
    without workers, read epoch 0 the first time and the next epoch each further time; `set_epoch`
    says which one comes next.

    Args:
        path: One file, a glob pattern, a list of either (read as one, in sorted order), or a
            `Source`. None, the default, where the columns are open data sets.
        x: What the model takes: a data set's path in the file, an open `h5py.Dataset`, a `Column`,
            or a tuple or dict of them. May be left out for a `Source`, which brings its columns
            named x, y and sample_weight along. Text and complex values need a `transform` that
            encodes them.
        y: What it should answer, likewise.
        sample_weight: One weight a row, likewise.
        batch_size: Rows in a batch.
        shuffle: "rows", a uniform permutation of all rows; "chunks", whole chunks in random order
            with rows mixed within a window of them, each chunk read once per epoch; False, the
            given order; "auto", "rows" where single rows are cheap to reach or the data fit the
            cache, else "chunks". `plan.describe()` says which, and why.
        seed: Of the order.
        rows: The rows to serve: a slice, row numbers, a boolean mask, or one side of a split; or
            what the file says: the path of a data set of row numbers or of a mask, or a column and
            a value, such as ("split", "train"). None: all.
        transform: Called as transform(x, y[, sample_weight]) with whole NumPy batches, on the
            reading threads; returns the same: arrays with a row for each row, or tuples or dicts
            of them, the same in every batch. All may have fewer rows or more, but for `predict`,
            which answers each row. Arrays that it also keeps, such as a buffer that it
            fills anew for each batch, are copied, and it is then called on one thread at a time.
            Casting and scaling are better left to the model's first layer, on the device.
        drop_last: Drop the short last batch of an epoch (of `fit`; evaluation sees every row).
        cache: How much decoded data to hold: bytes, "2GB", a fraction of free memory, or "auto"
            (160 MiB).
        threads: Reading threads; 0 reads in the calling thread, None chooses.
        shard: (index, count), or "auto" to ask the backend which process of a group this is. A
            `keras.distribution` of several processes takes `auto_shard_dataset=False` with it.
        scratch: A folder for a file of decoded rows, where they fit no memory and single rows are
            asked for all the same (shuffle="rows" of compressed data larger than the cache). The
            file has no name and is gone with the process. The order of rows does not depend on it.
        classes_of: The data set, data module or `Run` whose class ids text columns shall have, such
            as the training data; else each finds its own classes, sorted. A value that is no class
            there is a `LabelError` when it is read.
        reader: "auto", or "h5py" to read everything through h5py.
        allow_external: Let links and virtual data sets point outside the folder of a file.
            Files are trusted; for others give a `Source(..., untrusted=True)`.
        workers: As Keras has it, and taken as `threads`: the reading threads are ours, so every row
            still comes once.
        use_multiprocessing, max_queue_size: As Keras has them; they have no meaning here.

    Raises:
        KerasH5Error: A file, a column or an option is not as it should be; one sentence says which,
            and the cure.

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
        classes_of: Any = None,  # noqa: ANN401  a data module stands above this one
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
        if self._batches.roles == ("x", "sample_weight"):  # Keras takes the second of two for y
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
        self._compared: H5Dataset | None = None  # the validation data that this was compared with
        self._is_group_checked = False  # whether a fit in several processes was looked at
        # Looked up once: what labels are, by column and by the class that a loss leaves out.
        self._facts: dict[tuple[str, int | None], LabelFacts] = {}
        self._are_one_hot: dict[str, bool] = {}
        # That gets its first batch next, which a transform makes; and whether y is compared.
        self._model: tuple[Any, bool] | None = None
        self._fitted: ref[Any] | None = None  # the model of the last fit
        self._first_of: ref[Any] | None = None  # that model, if the last epoch was its first
        self._is_repeat_told = False
        self.error: BaseException | None = None
        self.wait_seconds = 0.0  # that Keras' loops have waited for batches so far

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {name: value for name, value in self.__dict__.items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin without any pass under way."""
        self.__dict__.update(state)
        self._setup()

    def __repr__(self) -> str:
        """Return the source and the batches in one line."""
        batches = f"{len(self)} batches of {self.batch_size}"
        return f"H5Dataset({self.source!r}, {batches}, shuffle={self.plan.shuffle!r})"

    # What is served.

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
        """Rows in a batch."""
        return self.plan.batch_size

    @property
    def num_rows(self) -> int:
        """Rows served in an epoch (over all shards)."""
        return self.plan.num_served

    @property
    def input_shape(self) -> Any:  # noqa: ANN401  nearly always one tuple, and used as one
        """The shape of one row of x, or a tuple or dict of shapes where x is one."""
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
        """The number of classes of y; None where y is no label.

        Where there are names, their number; else one more than the largest label, or the width of
        labels that are one-hot in the file, or by `one_hot=`.
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
        """Return the names of the source's columns behind a role: one, or a tuple or dict of them.

        None where there is none.
        """
        return self._batches.tree(role) if role in self._batches.roles else None

    def label_facts(self, name: str, ignored: int | None = None) -> LabelFacts:
        """Return the range of the labels in a column of the source; read once.

        Args:
            name: The column.
            ignored: A class that is left out.
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
        """Return what reads rows of a column, the rows served, and the bytes of one."""
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

        They are read ahead on threads. Needs no Keras.

        Args:
            epoch: From 0.
            start: The index of the first batch wanted.
        """
        return self._batches.epoch(epoch, start)

    def warn(self) -> None:
        """Warn, once, of an order that mixes classes badly, as asking for its batches does."""
        self._batches.warn()

    def batches_in_order(self) -> Iterator[Batch]:
        """Yield every row once, in the given order, whatever the shuffle; read ahead on threads."""
        return self._batches_for("predict").epoch(0)

    def check_answerable(self, batch: Batch, index: int) -> None:
        """Check that a batch of `batches_in_order` has a row for each row it was made of.

        Args:
            batch: The batch.
            index: Which of them, from 0.

        Raises:
            OptionError: A transform has returned fewer or more.
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
        """The rows that `batches_in_order` yields: all of this shard, a short last batch too."""
        start, stop = self._batches_for("predict").plan.shard_bounds
        return stop - start

    def read_column(self, role: str) -> np.ndarray:
        """Read all served rows of y (or of another single column), in the order of `rows`.

        For labels, which are small.

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
            role: Which of them; for one that is not there, the answer is empty.
        """
        tree = self.columns_of(role)
        return () if tree is None else tuple(names_in(tree))

    def column_path(self, role: str) -> str:
        """Return the path of the data set behind x, y or sample_weight.

        Where there are several, its name.
        """
        tree = self._batches.tree(role)
        return self.source.columns[tree].column.path if isinstance(tree, str) else role

    def select_rows(self, rows: RowSelection, **changes: Any) -> H5Dataset:  # noqa: ANN401  they differ
        """Return a data set of the same columns over other rows (numbers of the source's rows).

        What is held in memory here is shared where it includes those rows.

        Args:
            rows: As in the constructor.
            **changes: Other options of the constructor, such as shuffle=False, that shall differ.
        """
        batches = self._batches.with_rows(rows, **changes)
        other = self.__class__.__new__(self.__class__)
        state = {"_batches": batches, "epochs_outside_keras": Epochs()}
        other.__setstate__({**self.__getstate__(), **state})
        return other

    @property
    def is_transformed(self) -> bool:
        """Whether a transform changes batches, so that columns do not tell what a model gets."""
        return self._batches.is_transformed

    def offer_scratch(self, folder: StrPath) -> None:
        """Let decoded rows that fit no memory lie in a file in this folder, if none was given.

        It changes no batch, and nothing at all where such a file is of no use.
        """
        self._batches = self._batches.offer_scratch(folder)
        self._ordered = None

    @property
    def fits_memory(self) -> bool:
        """Whether everything read stays in memory, within the cache."""
        return self._batches.fits_memory

    def release(self) -> None:
        """Stop reading ahead and let go of memory that the next epoch can do without.

        For when training was stopped within an epoch and the data set is kept, be it by TensorFlow,
        which keeps every data set it has seen. Who still asks for batches of that epoch gets them
        one by one; the next epoch is read ahead again.
        """
        with self._lock:
            for under_way in self._passes:
                under_way.release()
            for batches in (self._batches, self._ordered):
                if batches is not None:
                    batches.release()

    def close(self) -> None:
        """Stop reading ahead, and close the HDF5 handles of the files in this process.

        They open again when batches are asked for.
        """
        self.release()
        self.source.close()

    def __enter__(self) -> Self:
        """Return the data set; `with` closes its files at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def describe(self) -> str:
        """Say in words what is read, in which order, and where rows come from."""
        return self._batches.describe()

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal for two data sets to serve the same batches. JSON-ready."""
        return {"source": self.source.fingerprint(), "plan": self.plan.fingerprint()}

    # What Keras sees.

    @property
    def workers(self) -> int:
        """Always 1 to Keras, whose own workers repeat and lose batches.

        Setting it sets the number of reading threads.
        """
        return 1

    @workers.setter
    def workers(self, value: int) -> None:
        self._batches = self._batches.with_threads(value)
        self._ordered = None

    @property
    def use_multiprocessing(self) -> bool:
        """Always False: threads read without Python's lock; processes would copy every batch."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        if value:
            _warn_processes()

    @property
    def num_batches(self) -> int:
        """As len(self), but evaluation, which sees every row, may have one more for `drop_last`."""
        if not is_keras_frame(calling_frame()):
            return len(self)
        return len(self._batches_for((find_position(find_loop()) or self._position).task))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch: the first loop reads epoch 0, the second epoch 1.

        What Keras does itself (`fit`, `evaluate`, `predict`) neither counts nor is changed by it.
        """
        is_keras = is_keras_frame(calling_frame())  # adapt(ds): a look at the data, no epoch
        return self.batches(0 if is_keras else self.epochs_outside_keras.begin())

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop over the data set, and indexing, read this epoch.

        For loops outside Keras, as the samplers of PyTorch have it. Persistent workers of a
        DataLoader that run already go on counting for themselves.

        Args:
            epoch: From 0.

        Raises:
            OptionError: It is no whole number from 0.
        """
        self.epochs_outside_keras.set(epoch)

    def __getitem__(self, index: int) -> Batch:
        """Return a batch: to Keras' loops the next of the order they are due.

        To a torch DataLoader, batch `index` of the epoch its pass has begun; to everyone else, of
        epoch 0 or the one given to `set_epoch`.

        Raises:
            OptionError: A DataLoader stacks batches; it takes batch_size=None.
            RowError: `index` is outside [0, len(self)).
        """
        caller = calling_frame()
        if not is_keras_frame(caller):
            epoch = self.epochs_outside_keras.of_caller(caller, self.batch_size)
            return self._read_index(index, Position("fit", epoch))
        began = time.perf_counter()
        try:
            indices = find_indices(caller)
            if indices is None:  # a look ahead: TensorFlow builds the step on it alone
                loop = find_loop()
                self._note_model(loop)
                batch = self._read_index(index, find_position(loop) or self._position)
            else:
                batch = self._serve(indices, index)
            return with_text_as_tensors(self._checked(batch))
        except BaseException as error:
            # TensorFlow reports its own error in place of ours; the trainer looks here.
            self.error = error
            raise
        finally:
            self.wait_seconds += time.perf_counter() - began

    def on_epoch_begin(self) -> None:
        """Note what Keras is about to do. Called by Keras, also before it only looks at a batch."""
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
        """Refuse what does not go with the model, or with validation data, of Keras' loop."""
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
        """Have the next batch checked against the model, if a transform makes it."""
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
        from kerash5.feeds._keras_group import check_keras_loop  # imports Keras, which runs here

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
        """Return the batch; the first that a transform makes for a model is checked."""
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
        """Warn, once, of a loop of `fit(epochs=1)`: each call begins at epoch 0, in its order."""
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
        """Let go of the windows of training before evaluation, and the other way round.

        One budget serves both.
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
