"""The commands `lr-find` and `batch-size-find`: the trainer's searches, on the options of `fit`."""

# ruff: noqa: T201  what a job prints is its result

from __future__ import annotations

from dataclasses import asdict

from kerash5._backends import use_backend
from kerash5._jobs import prepare
from kerash5._options import DataOptions, ModelOptions, TrainerOptions
from kerash5.report import BatchSizes, LearningRates


def run_lr_find(
    data: DataOptions,
    model: ModelOptions,
    trainer: TrainerOptions,
    *,
    backend: str | None = None,
    seed: int = 0,
    min_lr: float = 1e-8,
    max_lr: float = 1.0,
    num_training: int = 100,
    plot: str | None = None,
) -> LearningRates:
    """Look for a good learning rate, print it, and draw the curve if a file is named."""
    use_backend(backend)
    module, network = prepare(data, model, trainer, seed)
    from kerash5.train import Trainer

    found = Trainer(**asdict(trainer)).lr_find(
        network, module, min_lr=min_lr, max_lr=max_lr, num_training=num_training
    )
    print(found.describe())
    if plot is not None:
        print(f"curve: {found.plot(plot)}")
    if found.suggestion is not None:
        print(f"train with it: --model.learning_rate {found.suggestion:.2e}")
    return found


def run_batch_size_find(
    data: DataOptions,
    model: ModelOptions,
    trainer: TrainerOptions,
    *,
    backend: str | None = None,
    seed: int = 0,
    init_val: int = 32,
    max_val: int | None = None,
    memory_limit: float | str | None = None,
    plot: str | None = None,
) -> BatchSizes:
    """Look for the largest and the fastest batch size, and print what was tried."""
    use_backend(backend)
    module, network = prepare(data, model, trainer, seed)
    from kerash5.train import Trainer

    found = Trainer(**asdict(trainer)).batch_size_find(
        network, module, init_val=init_val, max_val=max_val, memory_limit=memory_limit
    )
    print(found.describe().splitlines()[-1])
    if plot is not None:
        print(f"speed: {found.plot(plot)}")
    return found
