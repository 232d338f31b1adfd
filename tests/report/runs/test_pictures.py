"""The pictures: what is drawn is looked up in the figure, that it is written in the PNG."""

from __future__ import annotations

import builtins
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from kerash5._errors import BackendError, ShapeError
from kerash5._run import Epoch, Run
from kerash5.report import draw_curves, draw_predictions
from kerash5.report.runs import _pictures

pytest.importorskip("matplotlib")

RED: Final = "#c0392b"
RUN: Final = Run(
    model="mlp",
    backend="jax",
    num_parameters=1,
    run_dir="",
    epochs=tuple(
        Epoch(n, 1.0, 10, {"accuracy": 0.5, "loss": 1.0 / (n + 1), "val_loss": 0.5})
        for n in range(3)
    ),
    test={"loss": 0.25},
)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the figures that are drawn."""
    made: list[Any] = []
    make = _pictures.new_figure

    def keep(width: float, height: float) -> Any:
        made.append(make(width, height))
        return made[-1]

    monkeypatch.setattr(_pictures, "new_figure", keep)
    return made


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every import of matplotlib fail."""
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    yield
    monkeypatch.undo()


def png_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels, which stand at a fixed place of every PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def answers(*guesses: int, num_classes: int = 3) -> np.ndarray:
    """Return probabilities with the largest at these classes."""
    return np.eye(num_classes, dtype=np.float32)[list(guesses)] * 0.5 + 0.1


def images(count: int, *shape: int) -> np.ndarray:
    return np.zeros((count, *(shape or (4, 4))), np.uint8)


# Curves.


def test_curves_are_written_as_a_png_with_room_for_every_metric(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    assert draw_curves(RUN, path) == str(path)
    width, height = png_size(path)
    assert (width, height) == (2 * 644, 476)  # 4.6 x 3.4 inches each, at 140 dots an inch


def test_loss_comes_first_and_training_validation_and_test_share_its_axes(
    tmp_path: Path, figures: list[Any]
) -> None:
    draw_curves(RUN, tmp_path / "a.png")
    loss, accuracy = figures[0].axes
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")
    lines = {line.get_label(): list(line.get_ydata()) for line in loss.get_lines()}
    assert lines == {
        "training": [1.0, 1 / 2, 1 / 3],
        "validation": [0.5] * 3,
        "test 0.2500": [0.25] * 2,
    }
    assert [line.get_label() for line in accuracy.get_lines()] == ["training"]
    assert list(loss.get_lines()[0].get_xdata()) == [1, 2, 3]


def test_epochs_are_whole_and_ticks_are_few(tmp_path: Path, figures: list[Any]) -> None:
    long = Run("m", "jax", 1, "", epochs=tuple(Epoch(n, 1.0, 1, {"loss": 1.0}) for n in range(95)))
    draw_curves(long, tmp_path / "a.png")
    ticks = figures[0].axes[0].get_xticks()
    assert all(tick == int(tick) for tick in ticks)
    assert 5 <= len(ticks) <= 11


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param((), id="none yet"),
        pytest.param((Epoch(0, 1.0, 1, {"loss": math.nan}),), id="NaN only"),
        pytest.param((Epoch(0, 1.0, 1, {"a": 1.0}), Epoch(1, 1.0, 1, {"b": 1.0})), id="gaps"),
    ],
)
def test_curves_of_a_run_that_did_not_go_well_are_drawn_all_the_same(
    tmp_path: Path, epochs: tuple[Epoch, ...]
) -> None:
    draw_curves(Run("m", "jax", 1, "", epochs=epochs), tmp_path / "a.png")
    assert png_size(tmp_path / "a.png")[1] == 476


# Predictions.


def test_predictions_are_written_as_a_png_that_grows_by_the_row(tmp_path: Path) -> None:
    heights = []
    for count in (10, 11):
        path = tmp_path / f"{count}.png"
        right = np.zeros(count, np.int64)
        assert draw_predictions(images(count), right, answers(*right), path) == str(path)
        width, height = png_size(path)
        assert width == 1190  # ten images of 0.85 inches at 140 dots an inch
        heights.append(height)
    assert heights[0] < heights[1]


def test_wrong_ones_are_red_and_say_what_is_right(tmp_path: Path, figures: list[Any]) -> None:
    draw_predictions(images(3), np.array([0, 1, 2]), answers(0, 2, 2), tmp_path / "a.png")
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == ["0", "2, is 1", "2"]
    assert [axes.title.get_color() == RED for axes in figure.axes] == [False, True, False]
    frames = [axes.spines["left"].get_linewidth() for axes in figure.axes]
    assert frames[1] > frames[0] == frames[2]
    assert figure.get_suptitle().startswith("3 images, 1 wrong (red:")


def test_names_stand_for_ids_and_a_title_for_the_count(tmp_path: Path, figures: list[Any]) -> None:
    draw_predictions(
        images(2),
        np.array([0, 1]),
        answers(0, 0, num_classes=2),
        tmp_path / "a.png",
        class_names=("cat", "dog"),
        title="two pets",
    )
    assert [axes.get_title() for axes in figures[0].axes] == ["cat", "cat, is dog"]
    assert figures[0].get_suptitle().startswith("two pets (red:")


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 3)], ids=str)
def test_images_may_have_no_one_or_three_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    draw_predictions(images(2, *shape), np.array([0, 1]), answers(0, 1), tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_labels_may_stand_in_a_column(tmp_path: Path, figures: list[Any]) -> None:
    draw_predictions(images(2), np.array([[0], [1]]), answers(0, 0), tmp_path / "a.png")
    assert figures[0].get_suptitle().startswith("2 images, 1 wrong")


@pytest.mark.parametrize("shape", [(16,), (4, 4, 2), (4, 4, 4, 1)], ids=str)
def test_rows_that_are_no_images_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ShapeError, match=r"images has shape \(2, .*pass shape \(n, height, width\)"
    ):
        draw_predictions(images(2, *shape), np.array([0, 1]), answers(0, 1), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_images_labels_and_answers_of_different_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"2 images, labels of shape \(3,\).*\(2, 3\)"):
        draw_predictions(images(2), np.zeros(3, np.int64), answers(0, 1), tmp_path / "a.png")


# Without matplotlib.


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"pip install 'kerash5\[report\]'"):
        draw_curves(RUN, tmp_path / "a.png")
    with pytest.raises(BackendError, match=r"pip install 'kerash5\[report\]'"):
        draw_predictions(images(1), np.array([0]), answers(0), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
