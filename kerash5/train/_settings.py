"""The options of a trainer, checked and parsed once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import keras

from kerash5._checks import parse_count
from kerash5._errors import OptionError
from kerash5._options import TrainerOptions
from kerash5.train.checkpoints._manager import CheckpointSettings
from kerash5.train.engines import Steps
from kerash5.train.engines.common._engine import parse_steps
from kerash5.train.loop._best import MODES, Mode
from kerash5.train.loop._device_cache import parse_device_cache
from kerash5.train.loop._limits import Limits, check_count, parse_duration, parse_limits
from kerash5.train.loop._model_checks import POLICIES
from kerash5.train.loop._optimizer import OptimizerSettings, parse_optimizer
from kerash5.train.monitors._loggers import AbstractLogger
from kerash5.train.monitors._logging import describe_loggers, parse_loggers
from kerash5.train.monitors._profile import ProfileOption


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a trainer. Made by `parse_settings`; names as in `Trainer`.

    `asked` holds the options as they were given, for config.yaml.
    """

    limits: Limits
    precision: str | None
    run_dir: str | os.PathLike[str] | None
    monitor: str | None
    mode: Mode
    callbacks: tuple[keras.callbacks.Callback, ...]
    loggers: tuple[AbstractLogger, ...]
    log_every_n_steps: int | None
    profiler: ProfileOption | None
    steps_per_dispatch: Steps
    checkpoints: CheckpointSettings | None
    optimizer: OptimizerSettings
    early_stopping: int | None
    deterministic: bool
    device_cache: int | None
    is_dev_run: bool
    enable_progress_bar: bool
    enable_model_summary: bool
    asked: Mapping[str, Any]


def parse_settings(options: TrainerOptions) -> Settings:
    """Check the options of a trainer.

    Raises:
        OptionError: An option is invalid; the message names it.
    """
    precision, callbacks = options.precision, options.callbacks
    if precision is not None and precision not in POLICIES:
        raise OptionError(f"precision={precision!r}; choose {', '.join(map(repr, POLICIES))}")
    parse_steps(options.steps_per_dispatch)
    device_cache = parse_device_cache(options.device_cache)
    check_count("early_stopping", options.early_stopping, "the number of epochs to wait")
    return Settings(
        limits=parse_limits(options),
        precision=precision,
        run_dir=options.run_dir,
        monitor=options.monitor,
        mode=_parse_mode(options.mode),
        callbacks=_parse_callbacks(callbacks, is_averaged=options.ema_momentum is not None),
        loggers=() if options.fast_dev_run else parse_loggers(options.logger),
        log_every_n_steps=_parse_every(options.log_every_n_steps),
        profiler=_parse_profiler(options.profiler),
        steps_per_dispatch=options.steps_per_dispatch,
        checkpoints=_parse_checkpoints(options),
        optimizer=parse_optimizer(
            options.accumulate_grad_batches,
            options.gradient_clip_val,
            options.gradient_clip_algorithm,
            options.ema_momentum,
        ),
        early_stopping=options.early_stopping,
        deterministic=bool(options.deterministic),
        device_cache=0 if options.fast_dev_run else device_cache,
        is_dev_run=bool(options.fast_dev_run),
        enable_progress_bar=options.enable_progress_bar,
        enable_model_summary=options.enable_model_summary,
        asked=_plain_options(options),
    )


def _parse_mode(mode: Mode) -> Mode:
    if mode not in MODES:
        raise OptionError(f"mode={mode!r}; choose {', '.join(map(repr, MODES))}")
    return mode


def _parse_every(steps: object) -> int | None:
    if steps is None:
        return None
    return parse_count("log_every_n_steps", steps, "a number of steps, or None")


def _parse_profiler(profiler: ProfileOption | None) -> ProfileOption | None:
    if profiler not in ("simple", "trace", None):
        raise OptionError(f"profiler={profiler!r}; choose 'simple', 'trace' or None")
    return profiler


def _plain_options(options: TrainerOptions) -> dict[str, Any]:
    asked = {name: _plain(value) for name, value in vars(options).items() if name != "callbacks"}
    return {**asked, "logger": describe_loggers(options.logger)}


def _parse_checkpoints(options: TrainerOptions) -> CheckpointSettings | None:
    every_steps = options.every_n_train_steps
    check_count("every_n_train_steps", every_steps, "the number of steps between checkpoints")
    top_k = parse_count("save_top_k", options.save_top_k, "a number of checkpoints", least=0)
    every = parse_duration("train_time_interval", options.train_time_interval)
    if not options.enable_checkpointing or options.fast_dev_run:
        return None
    return CheckpointSettings(every_steps, every, top_k)


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _parse_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], *, is_averaged: bool
) -> tuple[keras.callbacks.Callback, ...]:
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise OptionError(f"callbacks={callbacks!r}; give a list of Keras callbacks")
    given = tuple(callbacks)
    for callback in given:
        if not isinstance(callback, keras.callbacks.Callback):
            raise OptionError(
                f"callbacks holds {callback!r}; each is an instance of keras.callbacks.Callback"
            )
        if is_averaged and (reason := _why_not_averaged(callback)) is not None:
            kind = type(callback).__name__
            raise OptionError(f"ema_momentum= cannot be combined with {kind}: {reason}")
    return given


def _why_not_averaged(callback: keras.callbacks.Callback) -> str | None:
    """Return why a callback cannot be used with averaged weights; None if it can."""
    if isinstance(callback, keras.callbacks.SwapEMAWeights):
        return "both put the averaged weights into the model; leave that callback out"
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        return (
            "it saves the averaged weights and would go on training from them; leave it out, and "
            "go on with Trainer.fit(..., resume='auto'), whose checkpoints hold both"
        )
    return None
