"""What is known about a model besides its layers: `ModelInfo`, and its `Recipe`. Numbers and text.

A recipe says how a model is trained where the user says nothing. Nothing here imports Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from kerash5._checks import is_number, parse_count
from kerash5._errors import OptionError

Task: TypeAlias = Literal["classification", "segmentation", "reconstruction"]

TASKS: Final = ("classification", "segmentation", "reconstruction")
# Loss and metrics of each task, where the recipe names none.
LOSSES: Final[Mapping[str, str]] = {
    "classification": "crossentropy",
    "segmentation": "sparse_categorical_crossentropy",
    "reconstruction": "mse",
}
METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "classification": ("accuracy",),
    "segmentation": ("accuracy",),
    "reconstruction": ("mae",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a model is trained where nothing else is said.

    Args:
        optimizer: Name of a Keras optimizer.
        learning_rate: Learning rate, or where it decays the highest one.
        optimizer_options: Further arguments of the optimizer.
        decay: "cosine" lowers the learning rate to 0 over the training; None keeps it.
        epochs: Number of passes over the training rows.
        batch_size: Number of rows in a batch.
        loss: Name of a Keras loss; None: that of the model's task.
        metrics: Names of Keras metrics; None: those of the model's task.

    Raises:
        OptionError: A number is outside its range.
    """

    optimizer: str = "Adam"
    learning_rate: float = 1e-3
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    decay: Literal["cosine"] | None = None
    epochs: int = 10
    batch_size: int = 32
    loss: str | None = None
    metrics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise if a number is outside its range."""
        if not is_number(self.learning_rate) or not self.learning_rate > 0:
            raise OptionError(f"learning_rate={self.learning_rate!r}; pass a positive number")
        if self.decay not in ("cosine", None):
            raise OptionError(f"decay={self.decay!r}; choose 'cosine' or None")
        parse_count("epochs", self.epochs, "the number of passes over the training rows")
        parse_count("batch_size", self.batch_size, "the number of rows in a batch")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ModelInfo:
    """What a model of the zoo is, and how it is trained by default.

    Args:
        name: Name of the model.
        purpose: What it is for, in one line.
        paper: Author and title; None if there is none.
        year: Year of the paper.
        task: "classification": one class per row; "segmentation": one class per pixel;
            "reconstruction": y = x.
        smallest_input: The smallest `input_shape` that it accepts; None if unknown.
        options: Options of the model, with their defaults.
        recipe: How it is trained where nothing else is said.
    """

    name: str
    purpose: str
    paper: str | None = None
    year: int | None = None
    task: Task = "classification"
    smallest_input: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)

    def __repr__(self) -> str:
        """Return name, year and purpose."""
        year = "" if self.year is None else f" {self.year}"
        return f"<ModelInfo {self.name}{year}: {self.purpose}>"

    @property
    def loss(self) -> str:
        """Name of the loss it is compiled with."""
        return LOSSES[self.task] if self.recipe.loss is None else self.recipe.loss

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it is compiled with."""
        return METRICS[self.task] if self.recipe.metrics is None else self.recipe.metrics
