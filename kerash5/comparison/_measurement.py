"""What a process that measures is asked to do, as JSON both ways.

`comparison/_compare` writes it and starts the process, `measure/_measure` reads it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from kerash5._json import read_values, write_values

Job = Literal["weights", "parity", "sample"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One job for one process. Made by the runner, which has checked what can be checked.

    Args:
        job: "weights" writes the initial weights, "parity" computes what is compared, "sample"
            times epochs.
        backend: jax, tensorflow or torch.
        model: A name of the zoo.
        batch_size: Rows in a batch.
        settings: Of "plain" (`model.fit`) and "tuned" (our Trainer), those wanted; one in a sample.
        train: The files to train on, absolute.
        test: The files to evaluate on, absolute; empty: a share of those to train on is.
        x: The column the model takes.
        y: The column of labels.
        weights: The file of initial weights, absolute.
        scratch: A folder for what nobody keeps.
        num_steps: Steps in an epoch.
        num_epochs: Timed epochs, beside the warm-up.
        seed: Of the order of rows, and of the initial weights where they are made.
        threads: Threads the backend may compute with.
        reading_threads: Threads that read; None chooses, 0 reads in the thread that trains.
        precision: float32, bf16-mixed or 16-mixed.
        tf32: Whether matrix products may be rounded to TF32.
        began: `time.time()` when the process was started; the import is measured from here.
        parent: The process that waits for the result; without it the job ends. 0: nobody does.
        sleep_seconds: A fault to plant: so long does each batch sleep in the input.
        weight_factor: A fault to plant: the initial weights are multiplied by it.
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
        """Return it as JSON text."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """Return what `to_json` wrote, in the same version."""
        return read_values(cls, text, "a measurement")
