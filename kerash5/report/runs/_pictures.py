"""Figures of a run: its metric curves, and predictions on images."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import BackendError, FileError, OptionError, ShapeError
from kerash5._run import MetricValue, Run, to_scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN, VALIDATION, WRONG, RIGHT = "#1f5fa8", "#d9822b", "#c0392b", "#444444"
BEST: Final = "#cfe0d3"
_COLUMNS: Final = 10
_MOST_NAMED: Final = 20  # classes of a confusion matrix that are named and counted
_SHORT_NAME: Final = 3  # characters of a class name that stands upright
_DARK: Final = 0.55  # the fraction from which a field is so dark that its number is white
_SHOWN_DPI: Final = 90  # of a figure in a notebook


def draw_curves(run: Run, path: str | os.PathLike[str] | None = None) -> Any:  # noqa: ANN401  see `finish_figure`
    """Draw the loss and other metrics over the epochs, training and validation together.

    A metric that is an array has one line per element, later elements paler. The best epoch is
    marked.

    Returns:
        The path of the image; without a path, the figure.

    Raises:
        BackendError: matplotlib is not installed.
    """
    history = run.history
    names = [name for name in history if not name.startswith("val_")]
    names.sort(key=lambda name: name != "loss")
    figure = new_figure(4.6 * max(1, len(names)), 3.4)
    figure.suptitle(f"{run.model} on {run.backend}, {len(run.epochs)} epochs", fontsize=11)
    for position, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), position + 1)
        for key, label, color in (
            (name, "training", TRAIN),
            (f"val_{name}", "validation", VALIDATION),
        ):
            if key in history:
                _draw_lines(axes, history[key], label, color)
        if name in run.test:
            _draw_levels(axes, run.test[name])
        if run.best_epoch is not None:
            axes.axvline(run.best_epoch + 1, color=BEST, linewidth=6, zorder=0, label="best epoch")
        axes.set(title=name, xlabel="epoch", xticks=_whole_ticks(len(run.epochs)))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    return finish_figure(figure, path)


def _draw_lines(axes: Any, values: list[MetricValue], label: str, color: str) -> None:  # noqa: ANN401  of matplotlib
    epochs = [to_scalars({"": value}) for value in values]
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    if len(names) > 1 and "" in names:  # NaN in epochs without the array
        names.remove("")
    for position, name in enumerate(names):
        axes.plot(
            range(1, len(epochs) + 1),
            [epoch.get(name, math.nan) for epoch in epochs],
            marker="o",
            color=color,
            alpha=1 - 0.7 * position / len(names),
            label=label if position == 0 else None,
        )


def _draw_levels(axes: Any, value: MetricValue) -> None:  # noqa: ANN401  of matplotlib
    for position, level in enumerate(to_scalars({"": value}).values()):
        label = None if position else "test" if isinstance(value, list) else f"test {value:.4f}"
        axes.axhline(level, color=RIGHT, linestyle=":", label=label)


def draw_predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    path: str | os.PathLike[str] | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    title: str | None = None,
) -> Any:  # noqa: ANN401  see `finish_figure`
    """Draw a grid of images, each titled with the predicted class.

    Wrong predictions are red and also name the true class.

    Args:
        images: Images, shape (n, height, width), or with a last axis of 1 or 3 channels.
        labels: True class ids, shape (n,).
        probabilities: Predicted probabilities, shape (n, num_classes).
        path: Path of the PNG to write; None writes none.
        class_names: Names of the classes, by id.
        title: Title above the grid; None shows the number of wrong predictions.

    Returns:
        The path; without one, the figure.

    Raises:
        ShapeError: The shapes do not fit.
        BackendError: matplotlib is not installed.
    """
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[-1] == 3):
        raise ShapeError(
            f"images has shape {images.shape}; pass shape (n, height, width), with 1 or 3 "
            "channels as an optional last axis"
        )
    if probabilities.ndim != 2 or not len(images) == len(labels) == len(probabilities):
        raise ShapeError(
            f"{len(images)} images, labels of shape {labels.shape} and probabilities of shape "
            f"{probabilities.shape} do not fit; pass one label and one row of probabilities "
            "per image"
        )
    labels = labels.reshape(len(labels))
    guesses = probabilities.argmax(axis=1)
    wrong = int((guesses != labels).sum())
    rows = -(-len(images) // _COLUMNS)
    figure = new_figure(_COLUMNS * 0.85, rows * 1.08 + 0.5)
    above = title or f"{len(images)} images, {wrong} wrong"
    figure.suptitle(f"{above} (red: predicted, and what it is)", fontsize=10)
    names = class_names or tuple(str(number) for number in range(probabilities.shape[1]))
    for position, (image, label, guess) in enumerate(zip(images, labels, guesses, strict=True)):
        axes = figure.add_subplot(rows, _COLUMNS, position + 1)
        axes.imshow(image, cmap="gray_r")
        is_right = guess == label
        text = names[guess] if is_right else f"{names[guess]}, is {names[int(label)]}"
        axes.set_title(
            text,
            fontsize=9,
            pad=2,
            color=RIGHT if is_right else WRONG,
            weight="normal" if is_right else "bold",
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="#dddddd" if is_right else WRONG, linewidth=0.6 if is_right else 2.0)
    return finish_figure(figure, path)


def draw_confusion(
    confusion: NDArray[np.int64],
    names: Sequence[str],
    path: str | os.PathLike[str] | None = None,
) -> Any:  # noqa: ANN401  see `finish_figure`
    """Draw how often each class was predicted as each: rows are true classes.

    Colours are fractions of a row; the numbers are rows, and stand there for up to 20 classes.

    Args:
        confusion: Counts, shape (true class, predicted class).
        names: Names of the classes, by id.
        path: The image file; None writes none.

    Returns:
        The path; without one, the figure.

    Raises:
        BackendError: matplotlib is not installed.
    """
    count = len(names)
    side = min(12.0, max(3.6, 0.42 * count + 1.6))
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    right, rows = int(np.trace(confusion)), int(confusion.sum())
    axes.set(
        title=f"{right:,} of {rows:,} right ({right / max(1, rows):.1%})",
        xlabel="predicted class",
        ylabel="true class",
    )
    shown = range(0, count, max(1, -(-count // _MOST_NAMED)))
    is_long = max(map(len, names), default=0) > _SHORT_NAME
    axes.set_xticks(shown, [names[each] for each in shown], rotation=90 if is_long else 0)
    axes.set_yticks(shown, [names[each] for each in shown])
    if count <= _MOST_NAMED:
        for (row, column), number in np.ndenumerate(confusion):
            if number:
                color = "white" if shares[row, column] > _DARK else "#222222"
                axes.text(column, row, f"{number}", ha="center", va="center", color=color, size=8)
    return finish_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches; raise BackendError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendError("figures need matplotlib: pip install 'kerash5[report]'") from error

    class ShownFigure(Figure):
        """A figure that notebooks show, whatever display they have chosen."""

        def _repr_png_(self) -> bytes:
            image = io.BytesIO()
            self.savefig(image, dpi=_SHOWN_DPI, format="png")
            return image.getvalue()

    # Figure itself, not pyplot: pyplot has global state, opens windows and selects a display.
    return ShownFigure(figsize=(width, height), layout="constrained")


def _whole_ticks(count: int) -> list[int]:
    step = max(1, -(-count // 10))
    return list(range(1, count + 1, step))


def finish_figure(figure: Figure, path: str | os.PathLike[str] | None) -> Figure | str:
    """Write a figure to a file, if there is a path.

    Returns:
        The path; without one, the figure.

    Raises:
        FileError: The file cannot be written.
        OptionError: The extension of the path is no image format that matplotlib writes.
    """
    if path is None:
        return figure
    known = figure.canvas.get_supported_filetypes()
    extension = Path(path).suffix.lower().removeprefix(".")
    if extension and extension not in known:
        raise OptionError(
            f"{os.fspath(path)!r}: .{extension} is no image; end it with .png or .svg"
        )
    try:
        figure.savefig(path, dpi=140, format=extension or "png")
    except OSError as error:
        raise FileError(
            f"{os.fspath(path)!r} cannot be written ({error.strerror}); choose another path"
        ) from error
    return os.fspath(path)
