"""The options of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kerash5._errors import OptionError


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it is compiled: one of the zoo by its recipe, where an option is None.

    Args:
        name: One of `kerash5.zoo.names()`; "module:function", your own function that returns a
            `keras.Model`, called with `input_shape` and `num_classes` if it has these parameters;
            "keras:ResNet50V2", a model of `keras.applications` with random weights; or the path of
            a .keras file.
        learning_rate: Learning rate, the highest if it decays; None: the compiled model's or 0.001.
        options: Further arguments of the model, such as {hidden: [256, 64]}; on the command line
            also as --model.hidden "[256, 64]".
        optimizer: Name of a Keras optimizer; None: the optimizer of a compiled model, else Adam.
        optimizer_options: Further arguments of the optimizer, such as {weight_decay: 1e-4}; on the
            command line also as --optimizer.weight-decay 1e-4.
        lr_schedule: Name of a Keras learning rate schedule, which starts at `learning_rate`.
        lr_schedule_options: Further arguments of the schedule, such as {decay_steps: 1000}.
        loss: Name of a Keras loss; None: the loss of a compiled model, else cross-entropy for class
            labels.
        metrics: Names of Keras metrics; None: the metrics of a compiled model, else accuracy for
            class labels.
    """

    name: str = "convnet"
    learning_rate: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    lr_schedule: str | None = None
    lr_schedule_options: dict[str, Any] = field(default_factory=dict)
    loss: str | None = None
    metrics: list[str] | None = None

    def __post_init__(self) -> None:
        """Raise if options are given for an optimizer or a schedule that is not named."""
        if self.lr_schedule_options and self.lr_schedule is None:
            raise OptionError("lr_schedule_options without lr_schedule; name the schedule")
        if (self.lr_schedule or self.optimizer_options) and self.optimizer is None:
            object.__setattr__(self, "optimizer", "Adam")
