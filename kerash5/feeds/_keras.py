"""H5Dataset: the batches as a `keras.utils.PyDataset`.

`fit`, `evaluate` and `predict` accept it like any `PyDataset`. One thing differs: Keras' own
shuffling and workers do not change the order, which is the plan's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Self

from kerash5._display import Described, Text
from kerash5._errors import ColumnError
from kerash5._keywords import DATASET_WORDS, names_keywords
from kerash5.batches._batches import (
    Batch,
    Batches,
    BatchOptions,
    ColumnSpec,
    RowSelection,
    open_batches,
)
from kerash5.batches._roles import map_tree
from kerash5.feeds._class_names import adopt_classes
from kerash5.feeds._held_out import split_dataset
from kerash5.feeds._keras_interface import ThreadedPyDataset, warn_of_processes
from kerash5.feeds._keras_loops import KerasLoops
from kerash5.feeds._served import ServedData
from kerash5.feeds.outside._loops import OutsideLoops
from kerash5.feeds.passes._epochs import Epochs
from kerash5.feeds.passes._keras_position import Position, calling_frame, is_keras_frame
from kerash5.feeds.passes._task_batches import TaskBatches
from kerash5.h5 import Source
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import StrPath
from kerash5.order._plan import DropLast, Plan, Shuffle

# Attributes of one process; a copy gets new ones.
_MADE_ANEW: Final = ("_served", "_loops")


class H5Dataset(OutsideLoops, Described, ThreadedPyDataset):
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
        rows: The rows to serve: a slice such as slice(0, n), row numbers, a boolean mask, or one
            side of a split; or rows that the file names: the path of a data set of row numbers or
            of a mask, or a column and a value, such as ("split", "train"). None: all rows. A
            repeated number is served repeatedly; a single or a negative number is an error.
        transform: Called as transform(x, y[, sample_weight]) with whole NumPy batches, on the
            reading threads; returns one value for each: an array whose first axis is the rows, or a
            tuple or dict of such arrays, with the same structure in every batch. The number of rows
            may change, except for `predict`, which needs one result per row. If the function
            returns a buffer that it reuses for every batch, the arrays are copied and the function
            is called on one thread at a time. Cast and scale in the model's first layer instead:
            that runs on the device.
        drop_last: What becomes of the last batch if it is short. False: it is used as it is. True:
            it is dropped in `fit`; evaluation sees every row. "all": it is dropped in evaluation as
            well, with a warning. "pad": it is filled up with repeated rows, and every batch has
            sample weights, which are 0 for these: the loss, its gradients and `weighted_metrics`
            are those of the short batch (of a loss that averages over the batch).
        cache: Memory for decoded data: bytes, "2GB", a fraction of free memory (1.0 is all, 1 one
            byte), or "auto": 160 MiB, but at most a quarter of free memory. 0 caches nothing.
        threads: Number of reading threads, 0 for none; None: one per CPU, at most 4.
        shard: (index, count): serve only shard `index`, from 0, of `count` shards of the rows, for
            training in several processes. Every shard has the same number of steps, and
            `batch_size` rows per step; `num_rows` counts the rows of all shards. "auto" asks the
            backend for the index of this process. With a `keras.distribution` of several processes,
            also set its `auto_shard_dataset=False`.
        scratch: A folder for a temporary file of decoded rows. It is used if single rows are read
            from compressed data larger than the cache (shuffle="rows"). The file is unlinked, so
            that its space is freed when the process ends. It needs space for all decoded rows. The
            order of rows does not depend on it. None: in `Trainer.fit`, the folder of the run.
        classes_of: A data set, data module or `Run`, such as the training data: text columns get
            its class ids. Without it, each text column numbers its own values, sorted. A value that
            is not among the given classes raises a `LabelError` when it is read.
        reader: "auto"; "h5py" reads everything through h5py; "direct" reads chunks through h5py
            without using file offsets, for diagnosis.
        allow_external: Let links and virtual data sets point outside the folder of a file.
            Files are trusted; for files from elsewhere pass a `Source(..., untrusted=True)`.
        workers: Keras' name for the number of reading threads; the same as `threads`. Each row is
            still served once per epoch.
        use_multiprocessing: Accepted because `PyDataset` has it; no effect.
        max_queue_size: The same.

    Raises:
        KerasH5Error: A file, a column or an option is wrong; the message names it and the cure.

    Examples:
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
        drop_last: DropLast = False,
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
            warn_of_processes()
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
        batches = open_batches(
            path, x, y, sample_weight, options, reader=reader, allow_external=allow_external
        )
        if batches.roles == ("x", "sample_weight"):  # Keras would use the second of two as y
            raise ColumnError(
                "sample_weight without y; name y too (an autoencoder's y is the data set of its x)"
            )
        self._epochs = Epochs()
        self._serve(batches)

    def _serve(self, batches: Batches) -> None:
        both = TaskBatches(batches)
        self._served = ServedData(both)
        self._loops = KerasLoops(both)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without what belongs to this process."""
        kept = {name: value for name, value in self.__dict__.items() if name not in _MADE_ANEW}
        return {**kept, "_batches": self._served.batches.training}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, without a pass in progress."""
        kept = dict(state)
        batches = kept.pop("_batches")
        self.__dict__.update(kept)
        self._serve(batches)

    def __repr__(self) -> str:
        """Return the source and the batches in one line."""
        batches = f"{len(self)} batches of {self.batch_size}"
        return f"H5Dataset({self.source!r}, {batches}, shuffle={self.plan.shuffle!r})"

    # The batches.

    @property
    def source(self) -> Source:
        """The columns read."""
        return self._served.source

    @property
    def plan(self) -> Plan:
        """The order served in training: step to row numbers."""
        return self._served.plan

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
        """The shape of one row of x; a tuple or dict of shapes if x is a tuple or dict.

        Of a `transform` it is the shape of what comes out: it is called once, on the first batch.
        """
        if self._served.is_transformed:
            return self._served.made.input_shape
        return map_tree(self._served.columns_of("x"), lambda name: self.source.columns[name].shape)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names behind the class ids of y, where the file has names."""
        tree = self._served.columns_of("y")
        return self.source.columns[tree].class_names if isinstance(tree, str) else None

    @property
    def num_classes(self) -> int | None:
        """The number of classes of y; None if y holds no class labels.

        It is the number of class names if there are names. Else it is the width of one-hot labels
        (stored so, or made by `one_hot=`), or the largest label + 1. A `transform` is called once:
        one-hot labels that come out of it count by their width, class ids as the stored labels do.
        """
        return self._served.num_classes

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._served.batches.training)

    def read(self, step: int) -> Batch:
        """Return the batch of a global step as NumPy arrays: (x,), (x, y) or (x, y, sample_weight).

        Args:
            step: The global batch number; the epoch is step // len(self).
        """
        return self._served.batches.training.read(step)

    def batches(self, epoch: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch as NumPy arrays, in the plan's order.

        Threads read ahead. Keras is not needed.

        Args:
            epoch: Number of the epoch, from 0.
            start: Index of the first batch, within the epoch.
        """
        return self._served.batches.training.epoch(epoch, start)

    def select_rows(self, rows: RowSelection, **changes: Any) -> H5Dataset:  # noqa: ANN401  they differ
        """Return a data set of the same columns over other rows (numbers of the source's rows).

        It shares decoded rows in memory with this one if they include the selected rows.

        Args:
            rows: As in the constructor.
            **changes: Options of the constructor that differ from this data set's, such as
                shuffle=False.
        """
        batches = self._served.batches.training.with_rows(rows, **changes)
        other = self.__class__.__new__(self.__class__)
        other.__setstate__({**self.__getstate__(), "_batches": batches, "_epochs": Epochs()})
        return other

    def split(
        self,
        validation: float = 0.2,
        *,
        stratify: bool = False,
        groups: str | None = None,
        seed: int | None = None,
    ) -> tuple[H5Dataset, H5Dataset]:
        """Return two data sets of disjoint rows, drawn at random: for training and for validation.

        Args:
            validation: Fraction of the rows to validate on, between 0 and 1, or their number.
            stratify: Keep each class' fraction of the rows on both sides, by the labels of y.
            groups: The path of a column; rows with equal values stay on one side.
            seed: Seed of the split; None for that of the shuffle order.

        Returns:
            The training rows, in the order of this data set; the validation rows, unshuffled.
        """
        return split_dataset(self, validation, stratify=stratify, groups=groups, seed=seed)

    def release(self) -> None:
        """Stop reading ahead, and free memory that the next epoch does not need.

        Call it if training stopped within an epoch and the data set stays referenced: TensorFlow
        references every data set it has seen. Further batches of that epoch are read one by one;
        the next epoch is read ahead again.
        """
        self._loops.release()

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
        return Text(self._served.batches.training.describe())

    # The interface of PyDataset.

    def _training_batches(self) -> Batches:
        return self._served.batches.training

    def _set_threads(self, count: int) -> None:
        batches = self._served.batches
        batches.training = batches.training.with_threads(count)

    @property
    def num_batches(self) -> int:
        """Number of batches: len(self); in evaluation also the batch that `drop_last` drops."""
        if not is_keras_frame(calling_frame()):
            return len(self)
        return self._loops.num_batches

    @property
    def wait_seconds(self) -> float:
        """Seconds that `fit`, `evaluate` and `predict` of Keras have waited for batches."""
        return self._loops.wait_seconds

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch: the first loop reads epoch 0, the second epoch 1.

        `fit`, `evaluate` and `predict` of Keras do not count as such loops, and are not affected.
        """
        is_keras = is_keras_frame(calling_frame())  # adapt(ds) reads data, but is no epoch
        return self.batches(0 if is_keras else self._epochs.begin())

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next loop over the data set, and indexing, will read.

        For loops outside Keras, like `set_epoch` of PyTorch's samplers. Persistent workers of a
        DataLoader that already run are not affected: they count their own epochs.

        Args:
            epoch: From 0.

        Raises:
            OptionError: `epoch` is not a whole number of at least 0.
        """
        self._epochs.set(epoch)

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
            epoch = self._epochs.of_caller(caller, self.batch_size)
            return self._served.batches.read(Position("fit", epoch), index)
        return self._loops.serve(self, caller, index)

    def on_epoch_begin(self) -> None:
        """Note what Keras is about to do; Keras also calls this before it only inspects a batch."""
        self._loops.begin_epoch(self)
