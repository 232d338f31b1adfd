"""Select the loggers of a trainer, and call them from the training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final

from kerash5._errors import BackendError, OptionError
from kerash5._run import Epoch, Run
from kerash5._warnings import warn
from kerash5.train.loop._events import EventHandler, Progress
from kerash5.train.monitors._loggers import (
    AbstractLogger,
    CSVLogger,
    MLflowLogger,
    TensorBoardLogger,
    WandbLogger,
)

Logger = str | AbstractLogger
LoggerOption = bool | Logger | Sequence[Logger] | None

_NAMED: Final[dict[str, Callable[[], AbstractLogger]]] = {
    "csv": CSVLogger,
    "tensorboard": TensorBoardLogger,
    "mlflow": MLflowLogger,
    "wandb": WandbLogger,
}


def parse_loggers(logger: LoggerOption) -> tuple[AbstractLogger, ...]:
    """Return the loggers that the option selects.

    Args:
        logger: True for CSV, and TensorBoard if tensorboardX is installed; False for none; a name,
            a logger, or a list of these.

    Raises:
        OptionError: The option is none of these.
        BackendError: A package that a logger needs is not installed.
    """
    if logger is None or logger is False:
        return ()
    if logger is True:
        try:
            return CSVLogger(), TensorBoardLogger()
        except BackendError:
            return (CSVLogger(),)
    given = [logger] if isinstance(logger, str | AbstractLogger) else logger
    if not isinstance(given, Sequence):
        raise _unknown(logger)
    return tuple(_parse_logger(each) for each in given)


def describe_loggers(logger: LoggerOption) -> Any:  # noqa: ANN401  YAML
    """Return the option as stored in config.yaml; a custom logger as its class name."""
    if logger is None or isinstance(logger, bool | str):
        return logger
    if isinstance(logger, AbstractLogger):
        return {"described": type(logger).__name__}
    return [describe_loggers(each) for each in logger]


def _parse_logger(each: object) -> AbstractLogger:
    if isinstance(each, AbstractLogger):
        return each
    if not isinstance(each, str) or each not in _NAMED:
        raise _unknown(each)
    return _NAMED[each]()


def _unknown(logger: object) -> OptionError:
    return OptionError(
        f"logger={logger!r}; choose {', '.join(map(repr, _NAMED))}, a list of them, or a custom "
        "logger (a subclass of kerash5.train.AbstractLogger)"
    )


@final
class Logging(EventHandler):
    """Pass events of the training loop to the loggers.

    Args:
        loggers: The loggers.
        every_steps: Log the running averages every this many steps; None logs epochs only.
        get_run: Returns the current run.
    """

    def __init__(
        self,
        loggers: Sequence[AbstractLogger],
        every_steps: int | None,
        get_run: Callable[[], Run],
    ) -> None:
        self.every_steps = every_steps if loggers else None
        self._idle = tuple(loggers)
        self._loggers: list[AbstractLogger] = []
        self._get_run = get_run
        self._step = 0
        self._steps_per_epoch = 1

    def begin_epoch(self, progress: Progress) -> None:
        """Open the loggers before the first epoch of this process."""
        self._steps_per_epoch = progress.steps_per_epoch
        waiting, self._idle = self._idle, ()
        for logger in waiting:
            self._loggers.append(logger)
            self._call(logger, lambda each: each.begin(self._get_run(), progress.step))

    def after_steps(self, progress: Progress) -> None:
        """Log the averages if due."""
        if self.every_steps is None or progress.step % self.every_steps:
            return
        rate = progress.learning_rate()
        metrics = {**progress.metrics(), **({} if rate is None else {"learning_rate": rate})}
        step, epoch = progress.step, progress.epoch
        for logger in list(self._loggers):
            self._call(logger, lambda each: each.log_steps(metrics, step=step, epoch=epoch))

    def record_epoch(self, epoch: Epoch) -> None:
        """Log the results of the epoch."""
        run, step = self._get_run(), (epoch.epoch + 1) * self._steps_per_epoch
        for logger in list(self._loggers):
            self._call(logger, lambda each: each.log_epoch(epoch, run, step=step))

    def close(self) -> None:
        """Close the loggers."""
        while self._loggers:
            self._call(self._loggers.pop(), lambda each: each.finish(self._get_run()))

    def _call(self, logger: AbstractLogger, action: Callable[[AbstractLogger], None]) -> None:
        """Call a logger; a full disk ends the logging, not the training."""
        try:
            action(logger)
        except OSError as error:
            if logger in self._loggers:
                self._loggers.remove(logger)
            warn(f"{type(logger).__name__} cannot write ({error}); training continues without it")
