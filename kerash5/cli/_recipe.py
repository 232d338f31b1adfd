"""The recipe of a model of the zoo, where the command line says nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kerash5 import zoo
from kerash5._options import DataOptions, ModelOptions, TrainerOptions

if TYPE_CHECKING:
    from kerash5.feeds._module import H5DataModule

LABELS: Final = "label"  # y of the command line where none is named


def with_recipe(
    data: DataOptions, model: ModelOptions, trainer: TrainerOptions
) -> tuple[DataOptions, TrainerOptions]:
    """Return the options with those of the model's recipe where they are None.

    Models that reconstruct x get x as y where no other column is named. A backend must have been
    chosen: this imports Keras.

    Raises:
        OptionError: There is no such model.
    """
    from kerash5.train._models import is_of_zoo

    if not is_of_zoo(model.name):
        return data, trainer
    info = zoo.info(model.name)
    if data.batch_size is None:
        data = replace(data, batch_size=info.recipe.batch_size)
    if info.task == "reconstruction" and data.y == LABELS:
        data = replace(data, y=data.x)
    limits = (trainer.max_epochs, trainer.max_steps, trainer.max_time)
    if limits == (None, None, None):
        trainer = replace(trainer, max_epochs=info.recipe.epochs)
    return data, trainer


def count_decay_steps(name: str, module: H5DataModule, trainer: TrainerOptions) -> int:
    """Return the number of steps of a training with these options.

    If only its time is limited, it is assumed to have the epochs of the recipe.

    Args:
        name: Name of a model of the zoo.
        module: The data.
        trainer: The options, with those of the recipe.

    Raises:
        OptionError: A limit is invalid.
    """
    from kerash5.train.loop._limits import parse_limits

    limits, available = parse_limits(trainer), len(module.train)
    epochs = limits.num_epochs(available)
    if epochs is None:
        epochs = zoo.info(name).recipe.epochs
    steps = epochs * limits.steps_per_epoch(available)
    return steps if limits.max_steps is None else min(steps, limits.max_steps)
