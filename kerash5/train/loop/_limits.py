"""The limits of a fit: its length, the batches it uses, and how often it validates.

Arithmetic only: the options of the trainer are converted to whole numbers of steps.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, final

from kerash5._checks import is_number, is_whole, parse_count
from kerash5._errors import OptionError
from kerash5._options import TrainerOptions

Share = int | float  # a number of batches, or a fraction of all
Duration = str | float | timedelta

DEFAULT_EPOCHS: Final = 10
_UNITS: Final = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_CLOCK_PARTS: Final = (86400.0, 3600.0, 60.0, 1.0)  # Lightning's DD:HH:MM:SS


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a fit. Made by `parse_limits`.

    Args:
        max_epochs: Number of epochs of the whole run; None for no limit.
        max_steps: Number of steps of the whole run; None for no limit.
        max_seconds: Duration of the whole run, including all resumed parts; None for no limit.
        train_batches: Batches of each epoch to train on: a number, a fraction, or None for all.
        validation_batches: Batches to validate on, in the same forms; 0 for no validation.
        test_batches: Batches to test on, in the same forms.
        overfit_batches: In every epoch, train on only these batches of epoch 0; None disables it.
        check_interval: Validate after this many steps, or this fraction of an epoch; and at its
            end.
        sanity_steps: Number of batches to validate on before the first step.
        min_epochs: Number of epochs before which no callback can stop the fit.
        min_steps: Number of steps before which no callback can stop the fit.
        epochs_per_check: Validate in every `epochs_per_check`-th epoch only.
    """

    max_epochs: int | None = DEFAULT_EPOCHS
    max_steps: int | None = None
    max_seconds: float | None = None
    train_batches: Share | None = None
    validation_batches: Share | None = None
    test_batches: Share | None = None
    overfit_batches: Share | None = None
    check_interval: Share = 1.0
    sanity_steps: int = 0
    min_epochs: int = 0
    min_steps: int = 0
    epochs_per_check: int = 1

    def steps_per_epoch(self, available: int) -> int:
        """Return the number of batches of an epoch that are trained on."""
        share = self.overfit_batches if self.overfit_batches is not None else self.train_batches
        return _count(share, available)

    def num_epochs(self, available: int) -> int | None:
        """Return the number of epochs, including a partial one; None if only time limits it."""
        known = [] if self.max_epochs is None else [self.max_epochs]
        if self.max_steps is not None:
            known.append(math.ceil(self.max_steps / self.steps_per_epoch(available)))
        return min(known, default=None)

    def validation_steps(self, available: int) -> int:
        """Return the number of validation batches used."""
        share = self.validation_batches
        return _count(self.overfit_batches if share is None else share, available)

    def test_steps(self, available: int) -> int:
        """Return the number of test batches used."""
        return _count(self.test_batches, available)

    def is_validated(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is validated, as in Keras' `fit`."""
        return (epoch + 1) % self.epochs_per_check == 0

    def check_steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps between validations within an epoch.

        Raises:
            OptionError: No validation would be due in an epoch.
        """
        steps = _count(self.check_interval, steps_per_epoch, is_capped=False)
        if steps > steps_per_epoch:
            raise OptionError(
                f"val_check_interval={self.check_interval} is more than the {steps_per_epoch} "
                "steps of an epoch; give at most those, or a fraction"
            )
        return steps


def parse_limits(options: TrainerOptions) -> Limits:
    """Return the checked limits of the trainer.

    Raises:
        OptionError: A limit is invalid; the message names it.
    """
    check_count("max_epochs", options.max_epochs, "the number of passes over the data")
    check_count("min_epochs", options.min_epochs, "a number of passes over the data")
    check_count("max_steps", options.max_steps, "the number of training steps, one per batch")
    check_count("min_steps", options.min_steps, "a number of training steps, one per batch")
    _check_min_steps(options.min_steps, options.max_steps)
    _check_share("limit_train_batches", options.limit_train_batches, least=1)
    _check_share("limit_val_batches", options.limit_val_batches, least=0)
    _check_share("limit_test_batches", options.limit_test_batches, least=1)
    _check_share("overfit_batches", options.overfit_batches, least=1)
    _check_share("val_check_interval", options.val_check_interval, least=1)
    parse_count("check_val_every_n_epoch", options.check_val_every_n_epoch, "a number of epochs")
    parse_count(
        "num_sanity_val_steps", options.num_sanity_val_steps, "a number of batches", least=0
    )
    if not isinstance(options.fast_dev_run, bool):
        parse_count("fast_dev_run", options.fast_dev_run, "True, or a number of batches", least=0)
    if options.overfit_batches is not None and options.limit_train_batches is not None:
        raise OptionError(
            "overfit_batches and limit_train_batches both say how much to train on; give one"
        )
    if options.fast_dev_run:
        few = int(options.fast_dev_run)
        return Limits(max_epochs=1, train_batches=few, validation_batches=few, test_batches=few)
    return Limits(
        max_epochs=_parse_max_epochs(options),
        max_steps=options.max_steps,
        max_seconds=_parse_max_time(options.max_time),
        train_batches=options.limit_train_batches,
        validation_batches=options.limit_val_batches,
        test_batches=options.limit_test_batches,
        overfit_batches=options.overfit_batches,
        check_interval=options.val_check_interval,
        sanity_steps=options.num_sanity_val_steps,
        min_epochs=options.min_epochs or 0,
        min_steps=options.min_steps or 0,
        epochs_per_check=options.check_val_every_n_epoch,
    )


def _check_min_steps(least: int | None, most: int | None) -> None:
    if least is not None and most is not None and least > most:
        raise OptionError(
            f"min_steps={least} is more than max_steps={most}; give at most max_steps"
        )


def _parse_max_time(max_time: Duration | None) -> float | None:
    return None if max_time is None else parse_duration("max_time", max_time)


def _parse_max_epochs(options: TrainerOptions) -> int | None:
    """Return the number of epochs: 10 by default if nothing else limits the fit."""
    most, least = options.max_epochs, options.min_epochs or 0
    if most is None and options.max_steps is None and options.max_time is None:
        most = max(DEFAULT_EPOCHS, least)
    if most is not None and least > most:
        raise OptionError(
            f"min_epochs={least} is more than max_epochs={most}; give at most max_epochs"
        )
    if most is not None and options.check_val_every_n_epoch > most:
        raise OptionError(
            f"check_val_every_n_epoch={options.check_val_every_n_epoch} is more than the {most} "
            "epochs of max_epochs, so nothing would be validated; give at most those"
        )
    return most


def parse_duration(name: str, value: Duration) -> float:
    """Return seconds from a number of them, "90s", "10min", "1.5h", "DD:HH:MM:SS" or a timedelta.

    Raises:
        OptionError: The value has none of these forms, or is not positive.
    """
    seconds = _parse_seconds(value)
    if seconds is None or not 0 < seconds < math.inf:
        raise OptionError(
            f"{name}={value!r}; give seconds, or a text such as '90s', '10min', '1.5h' or "
            "'00:12:00:00' (days, hours, minutes, seconds)"
        )
    return seconds


def _parse_seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_number(value):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch(r"\d+:\d+:\d+:\d+", text):
        parts = zip(text.split(":"), _CLOCK_PARTS, strict=True)
        return sum(int(part) * seconds for part, seconds in parts)
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([a-z]*)", text)
    unit = _UNITS.get((found[2] or "s") if found else "")
    return float(found[1]) * unit if found and unit else None


def _count(share: Share | None, available: int, *, is_capped: bool = True) -> int:
    if share is None:
        return available
    if isinstance(share, float):
        return max(1, int(available * share))
    return min(share, available) if is_capped else share


def check_count(name: str, value: object, meaning: str) -> None:
    """Raise `OptionError` if a value is neither None nor a whole number of at least 1."""
    if value is not None:
        parse_count(name, value, meaning)


def _check_share(name: str, value: object, *, least: int) -> None:
    if value is None:
        return
    is_count = is_whole(value) and value >= least
    is_fraction = isinstance(value, float) and 0 < value <= 1
    if not is_count and not is_fraction:
        raise OptionError(
            f"{name}={value!r}; give a number of batches from {least}, or a fraction up to 1.0"
        )
