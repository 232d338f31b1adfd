"""The commands around a training: `lr-find` and `batch-size-find` before it, `predict` after."""

# ruff: noqa: T201  what a job prints is its result

from __future__ import annotations

from pathlib import Path

from kerash5._backends import use_backend
from kerash5._options import DataOptions, ModelOptions, TrainerOptions
from kerash5._run import Run
from kerash5._run_data import read_data_options
from kerash5.cli._jobs import prepare
from kerash5.cli._recipe import with_recipe
from kerash5.h5._write import check_place
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
    """Search for a good learning rate, print it, and draw the curve if a file is given."""
    if plot is not None:
        check_place(plot, overwrite=True)
    use_backend(backend)
    data, trainer = with_recipe(data, model, trainer)
    module, network = prepare(data, model, trainer, seed)
    from kerash5.train import Trainer

    found = Trainer(**vars(trainer)).lr_find(
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
    """Search for the largest and the fastest batch size, and print the result."""
    if plot is not None:
        check_place(plot, overwrite=True)
    use_backend(backend)
    data, trainer = with_recipe(data, model, trainer)
    module, network = prepare(data, model, trainer, seed)
    from kerash5.train import Trainer

    found = Trainer(**vars(trainer)).batch_size_find(
        network, module, init_val=init_val, max_val=max_val, memory_limit=memory_limit
    )
    print(found.describe().splitlines()[-1])
    if plot is not None:
        print(f"speed: {found.plot(plot)}")
    return found


def run_predict(
    run_dir: str,
    out: str,
    *,
    data: str | None = None,
    backend: str | None = None,
    weights: str = "best",
    name: str = "prediction",
    class_ids: bool = False,
    overwrite: bool = False,
) -> str:
    """Write the predictions of a finished run's model for each row of a file, in stored order.

    Args:
        run_dir: The folder of the run.
        out: The HDF5 file to write.
        data: The file to predict; None for the run's own test file.
        backend: A backend to use instead of the run's own.
        weights: "best" or "last".
        name: Name of the column to write.
        class_ids: Also write the id of the largest output of each row.
        overwrite: Replace an existing file.

    Returns:
        The path of the file written.
    """
    run = Run.load(run_dir)
    use_backend(backend or run.backend)
    folder = Path(run_dir) if Path(run_dir).is_dir() else Path(run_dir).parent
    options = read_data_options(folder, data, flag="--data")
    from kerash5.train import H5DataModule, Trainer
    from kerash5.train._build import load_model

    path: str = Trainer(enable_progress_bar=False).predict(
        load_model(folder, weights),
        H5DataModule.from_options(options, is_training=False),
        out=out,
        name=name,
        class_ids=class_ids,
        overwrite=overwrite,
    )
    print(path)
    return path
