"""The job of a measuring process, as JSON in both directions.

`comparison/_compare` writes it and starts the process; `measure/_measure` reads it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from kerash5._json import read_values, write_values

Job = Literal["weights", "parity", "sample"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One job for one process, made by the runner from options that are already validated.

    Args:
        job: "weights" writes the initial weights, "parity" computes the numbers of the parity
            check, "sample" times epochs.
        backend: "jax", "tensorflow" or "torch".
        model: Name of a model of the zoo.
        batch_size: Rows in a batch.
        settings: Settings to run: "plain" (`model.fit`), "tuned" (`Trainer`), or both; one for
            "sample".
        train: Absolute paths of the files to train on.
        test: Absolute paths of the files to evaluate on; if empty, a part of the training rows is
            used.
        x: Name of the input column.
        y: Name of the label column.
        weights: Absolute path of the file of initial weights.
        scratch: Folder for temporary files.
        num_steps: Steps in an epoch.
        num_epochs: Timed epochs, without the warm-up.
        seed: Seed of the order of rows, and of the initial weights when they are made.
        threads: Threads the backend may compute with.
        reading_threads: Threads that read. None chooses; 0 reads in the training thread.
        precision: "float32", "bf16-mixed" or "16-mixed".
        tf32: Whether matrix products may be rounded to TF32.
        began: `time.time()` when the process was started; import time is measured from it.
        parent: ID of the process that waits for the result; the job stops if that process ends. 0:
            none.
        sleep_seconds: Planted fault: seconds the input sleeps for each batch.
        weight_factor: Planted fault: factor on the initial weights.
    """

    job: Job
    backend: str
    model: str
    batch_size: int
    settings: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    x: str
    y: str
    weights: str
    scratch: str
    num_steps: int
    num_epochs: int
    seed: int
    threads: int
    reading_threads: int | None = None
    precision: str = "float32"
    tf32: bool = False
    began: float = 0.0
    parent: int = 0
    sleep_seconds: float = 0.0
    weight_factor: float = 1.0

    def to_json(self) -> str:
        """Return the job as JSON text."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """Return the job that `to_json` of the same version wrote."""
        return read_values(cls, text, "a measurement")
