"""The options of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from kerash5._options._types import AS_TEXT, PYTHON_ONLY
from kerash5.h5.storage._file import StrPath


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The training.

    Args:
        max_epochs: Number of passes over the training rows; None: 10, or on the command line that
            of the model's recipe, or no limit where `max_steps` or `max_time` is given.
        min_epochs: Number of epochs to train even if `early_stopping` or a callback requests an
            earlier stop. `max_steps` and `max_time` still end the run.
        max_steps: Maximum number of training steps, over all epochs. A step is a batch here and in
            all other options, also with `accumulate_grad_batches`.
        min_steps: Number of training steps to train even if `early_stopping` or a callback requests
            an earlier stop; `max_epochs`, `max_steps` and `max_time` still end the run.
        max_time: Maximum duration of the whole run: seconds, "90s", "10min", "1.5h", "DD:HH:MM:SS"
            or (in Python) a timedelta; None for no limit.
        precision: "float32", "bf16-mixed" or "16-mixed". In Python the model must have been built
            with this precision, and None accepts any; on the command line the model is built with
            it, and None is "float32". With "16-mixed", steps whose gradients overflow are skipped
            without a message.
        run_dir: The folder for everything the run writes: config.yaml, env.json, metrics.csv,
            model.json, run.json, checkpoints, last and best weights, TensorBoard events. None:
            runs/MODEL. If the folder already contains a run, that run is not changed, and a number
            is added to the name.
        monitor: The metric by which the best epoch is chosen; None: "val_loss", or "loss" without
            validation. It must be one number per epoch: `F1Score(average="macro")`, not
            `F1Score()`.
        mode: "min" if a smaller `monitor` is better, "max" if a larger one is, "auto" to decide by
            its name: accuracy and similar metrics are better when larger, others when smaller.
        callbacks: Keras callbacks. A callback with a method for each batch makes the trainer run
            one step at a time, which is slower; the trainer prints a note. A callback with the
            attribute async_safe = True may be called later, for several steps at once.
        limit_train_batches: Train on only this many batches of each epoch (an int: 1 is one batch),
            or on this fraction of them (a float: 1.0 is all), rounded down, but at least one batch;
            None for all.
        limit_val_batches: Validate on only this many batches (an int) or this fraction (a float);
            0: no validation. Also in `validate`.
        limit_test_batches: Test on only this many batches (an int) or this fraction (a float).
        overfit_batches: Train on these first batches (an int) or this fraction (a float) in every
            epoch: a model that cannot overfit them has a bug.
        fast_dev_run: Run one epoch of one batch (or this many) of training, validation and test.
            Other limits are ignored; nothing is logged, there are no checkpoints and no
            `device_cache`.
        num_sanity_val_steps: Number of batches to validate on before the first training step; their
            metrics are discarded.
        val_check_interval: Validate at the end of an epoch, and within it after each n steps (an
            int: 1 is after every step) or each such fraction (a float: 1.0 is only at the end).
        check_val_every_n_epoch: Validate in every n-th epoch only. The epochs in between have no
            validation metrics: they are not candidates for the best epoch by such a metric, and
            `early_stopping` does not count them.
        logger: Where to write the metrics besides run.json: "csv", "tensorboard", "mlflow",
            "wandb", or a list of these; in Python also your own logger (an `AbstractLogger`). True
            for csv and tensorboard, False for none.
        log_every_n_steps: Also log running averages every n steps; None: only once per epoch.
        profiler: "simple" measures where the time goes and prints it at the end, with the
            bottleneck and a suggestion; run.json stores it. "trace" writes the framework's own
            trace of 10 steps or more, after the first 5 of a fit, to RUN_DIR/trace; none if the fit
            is shorter.
        accumulate_grad_batches: Number of batches whose mean gradient makes one update of the
            weights. A group that an epoch leaves incomplete is completed in the next. The optimizer
            must not be built yet.
        gradient_clip_val: Clip gradients to this value, by default by their global norm.
        gradient_clip_algorithm: "norm" clips the global norm, "value" clips each gradient element.
        ema_momentum: Momentum of an exponential moving average of the weights, such as 0.999. The
            averages are validated and tested. Callbacks see and save them in `on_epoch_end` (so
            that `EarlyStopping` restores and `ModelCheckpoint` saves the validated weights). They
            are saved as the best weights, and the model has them at the end. Training continues
            from the weights that are not averaged, which callbacks see within an epoch. Without
            this option, an optimizer with `use_ema=True` behaves as in Keras' `fit`: its averages
            replace the weights at the end.
        early_stopping: Stop when `monitor` has not improved, by however little, for this many
            epochs, at least 1; None: never. The model has the last weights then; the best are in
            the run's folder.
        deterministic: Use only operations whose results are bit-identical in every run on a GPU, in
            the rest of this process; no effect on a CPU. For JAX on a GPU,
            XLA_FLAGS=--xla_gpu_deterministic_ops=true must be set before Python starts; the command
            line sets it.
        every_n_train_steps: Write a checkpoint every n training steps.
        train_time_interval: Time between checkpoints, in the forms of `max_time`. A checkpoint is
            also written at the start and the end of a run, and at the end of an epoch that is among
            the best `save_top_k`, or if that takes at most 5 % of the time since the last one.
        save_top_k: Number of best epochs (by `monitor`) whose checkpoints are not deleted, besides
            the two newest checkpoints; 0 or more.
        enable_checkpointing: Write checkpoints. A run without checkpoints cannot be resumed.
        steps_per_dispatch: Keras' steps_per_execution: number of training steps per call of the
            compiled function; "auto" measures which is fast, up to 256. It is 1 with callbacks that
            see each batch.
        device_cache: Copy all training rows to the device once, if they take at most this many
            bytes (or "2GB"; no fraction), so that each step gathers its batch there. With a
            transform, a shard or drop_last="pad" nothing is copied. "auto" allows 32 MiB on a
            CPU, and a quarter of a GPU's free memory (and of the host's) on JAX and PyTorch; it
            copies nothing for a fit that uses fewer rows than the data set has. 0 disables it.
            Results are bit-identical with and without.
        enable_progress_bar: Show progress: a bar on a terminal, a line per epoch elsewhere.
        enable_model_summary: Print the model's layers before the first epoch.
    """

    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int | None = None
    min_steps: int | None = None
    max_time: int | float | str | timedelta | None = field(
        default=None, metadata={AS_TEXT: int | float | str | None}
    )
    precision: Literal["float32", "bf16-mixed", "16-mixed"] | None = None
    run_dir: StrPath | None = field(default=None, metadata={AS_TEXT: str | None})
    monitor: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    callbacks: Sequence[Any] = field(default=(), metadata=PYTHON_ONLY)
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    overfit_batches: int | float | None = None
    fast_dev_run: bool | int = False
    num_sanity_val_steps: int = 0
    val_check_interval: int | float = 1.0
    check_val_every_n_epoch: int = 1
    logger: bool | str | Sequence[Any] | Any = field(
        default=True, metadata={AS_TEXT: bool | str | list[str]}
    )
    log_every_n_steps: int | None = None
    profiler: Literal["simple", "trace"] | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    ema_momentum: float | None = None
    early_stopping: int | None = None
    deterministic: bool = False
    every_n_train_steps: int | None = None
    train_time_interval: int | float | str | timedelta = field(
        default="10min", metadata={AS_TEXT: int | float | str}
    )
    save_top_k: int = 1
    enable_checkpointing: bool = True
    steps_per_dispatch: int | Literal["auto"] = "auto"
    device_cache: int | float | str = "auto"
    enable_progress_bar: bool = True
    enable_model_summary: bool = True
