"""The loaders of other people over formats of their own, made of the same rows.

Each is written as its own guide writes it, with what helps it most. What a peer is: see `_peers`.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _peers import BATCH, WORKERS, Batch, GrainOverH5py, Peer


class GrainOverArrayRecord(GrainOverH5py):
    """Grain's own format: ArrayRecord, one row a group, as its guide wants it for random access."""

    packages = ("grain", "array_record")
    reads_hdf5 = False
    note = "exact shuffle; `group_size:1`; Grain's own reading threads"

    def convert(self) -> None:
        """Write one record per row: the label's byte, then the row's."""
        from array_record.python.array_record_module import ArrayRecordWriter

        rows, labels = self.rows()
        writer = ArrayRecordWriter(str(self.folder / "rows.array_record"), "group_size:1")
        for row, label in zip(rows, labels, strict=True):
            writer.write(bytes([int(label)]) + row.tobytes())
        writer.close()

    def open(self, path: Path) -> None:
        """Make the source."""
        import grain

        self._shape = self.rows()[0].shape[1:]
        self._source = grain.sources.ArrayRecordDataSource(str(self.folder / "rows.array_record"))

    def _parse(self, dataset: Any) -> Any:
        return dataset.map(self._parse_record)

    def _parse_record(self, record: bytes) -> Batch:
        return np.frombuffer(record, np.uint8, offset=1).reshape(self._shape), record[0]


class TFRecord(Peer):
    """tf.data over TFRecord: parallel and vectorised parsing, prefetching."""

    runs_in = "tensorflow"
    packages = ("tensorflow-cpu", "tensorflow")
    note = "shuffles within a buffer of 10,000 rows; batches are parsed whole, in parallel"

    def convert(self) -> None:
        """Write one Example per row."""
        import tensorflow as tf

        rows, labels = self.rows()
        with tf.io.TFRecordWriter(str(self.folder / "rows.tfrecord")) as writer:
            for row, label in zip(rows, labels, strict=True):
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[row.tobytes()]))
                number = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)]))
                features = tf.train.Features(feature={"image": image, "label": number})
                writer.write(tf.train.Example(features=features).SerializeToString())

    def open(self, path: Path) -> None:
        """Make the pipeline."""
        import tensorflow as tf

        shape = self.rows()[0].shape[1:]
        wanted = {
            "image": tf.io.FixedLenFeature([], tf.string),
            "label": tf.io.FixedLenFeature([], tf.int64),
        }

        def parse(records: Any) -> Batch:
            found = tf.io.parse_example(records, wanted)
            images = tf.io.decode_raw(found["image"], tf.uint8)
            return tf.reshape(images, [-1, *shape]), found["label"]

        self._dataset = (
            tf.data.TFRecordDataset(str(self.folder / "rows.tfrecord"))
            .shuffle(10_000)
            .batch(BATCH)
            .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches."""
        yield from self._dataset


class HuggingFace(Peer):
    """HF datasets: an Arrow file, memory mapped, in NumPy format."""

    runs_in = "datasets"
    packages = ("datasets", "pyarrow")
    note = "exact shuffle by an index; Arrow, memory mapped, NumPy format; one process"

    def convert(self) -> None:
        """Write the Arrow files."""
        from datasets import Array3D, Dataset, Features, Value

        rows, labels = self.rows()
        features = Features({"x": Array3D(rows.shape[1:], "uint8"), "y": Value("uint8")})

        def pieces() -> Iterator[dict[str, Any]]:
            for row, label in zip(rows, labels, strict=True):
                yield {"x": row, "y": int(label)}

        dataset = Dataset.from_generator(
            pieces, features=features, cache_dir=str(self.folder / "hf-cache")
        )
        dataset.save_to_disk(str(self.folder / "hf"))
        del dataset
        shutil.rmtree(self.folder / "hf-cache")

    def open(self, path: Path) -> None:
        """Map the files."""
        from datasets import load_from_disk

        self._dataset = load_from_disk(str(self.folder / "hf")).with_format(
            "numpy",
            dtype=np.uint8,  # or every batch becomes int64
        )

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches."""
        for batch in self._dataset.shuffle(seed=number).iter(BATCH):
            yield batch["x"], batch["y"]


class LitData(Peer):
    """litdata: its own chunks, streamed from the local disk."""

    runs_in = "litdata"
    packages = ("litdata", "torch")
    note = f"shuffles its chunks of 64 MB, and rows inside each; {WORKERS} workers that stay"

    def convert(self) -> None:
        """Write the chunks."""
        from litdata import optimize

        optimize(
            RowAt(self.folder),
            list(range(len(self.rows()[1]))),
            str(self.folder / "litdata"),
            chunk_bytes="64MB",
            num_workers=1,
            verbose=False,
        )

    def open(self, path: Path) -> None:
        """Make the loader."""
        from litdata import StreamingDataLoader, StreamingDataset

        dataset = StreamingDataset(str(self.folder / "litdata"), shuffle=True)
        self._loader = StreamingDataLoader(
            dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True
        )

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches."""
        yield from self._loader


class RowAt:
    """The rows of the folder by number, for litdata's own processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, row: int) -> Batch:
        if self._rows is None:
            labels = np.load(self._folder / "labels.npy")
            self._rows = np.load(self._folder / "rows.npy", mmap_mode="r"), labels
        return np.array(self._rows[0][row]), int(self._rows[1][row])
