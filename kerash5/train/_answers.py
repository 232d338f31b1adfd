"""What the model of a run predicts for labelled rows, beside their labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import OptionError, RunError
from kerash5._run import Run
from kerash5._run_data import read_data_options
from kerash5.feeds._held_out import as_class_ids
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._module import H5DataModule
from kerash5.feeds._served import served_by
from kerash5.report.runs._pictures import draw_confusion, draw_predictions
from kerash5.report.runs._scores import ClassScores, count_confusion, score_classes
from kerash5.train._build import load_model
from kerash5.train._trainer import Trainer

Data = H5DataModule | H5Dataset


@final
@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The predictions of a classifier for the rows of a data set, in its stored order.

    Args:
        dataset: The data set.
        labels: Class ids, shape (n,).
        probabilities: Predictions, shape (n, num_classes).
        names: Names of the classes, by id.
    """

    dataset: H5Dataset
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]

    @property
    def guesses(self) -> NDArray[np.int64]:
        """The predicted class ids, shape (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How often each class was predicted as each, shape (true class, predicted class)."""
        return count_confusion(self.labels, self.guesses, len(self.names))

    def scores(self) -> ClassScores:
        """Return precision, recall and F1 of each class."""
        return score_classes(self.confusion, self.names)

    def plot_confusion(self, path: str | os.PathLike[str] | None = None) -> Any:  # noqa: ANN401  a figure or a path
        """Draw the confusion matrix; see `Run.plot_confusion`."""
        return draw_confusion(self.confusion, self.names, path)

    def plot_predictions(self, path: str | os.PathLike[str] | None = None, count: int = 30) -> Any:  # noqa: ANN401
        """Draw rows with their predictions; see `Run.plot_predictions`."""
        is_wrong = self.guesses != self.labels
        # Wrong predictions first, because they tell most, but not only these.
        mistakes = np.flatnonzero(is_wrong)[: -(-count // 2)]
        shown = np.concatenate([mistakes, np.flatnonzero(~is_wrong)])[:count]
        rows = served_by(self.dataset).rows_in_order()[shown]
        tree = served_by(self.dataset).columns_of("x")
        if not isinstance(tree, str):
            raise OptionError(
                "plot_predictions draws models with one input; plot_confusion draws any classifier"
            )
        return draw_predictions(
            self.dataset.source.read(rows)[tree],
            self.labels[shown],
            self.probabilities[shown],
            path,
            class_names=self.names,
            title=(
                f"{is_wrong.sum():,} of {len(self.labels):,} rows are wrong; {len(mistakes)} of "
                "them, then right ones"
            ),
        )


def answers_of_run(run: Run, data: Data | None = None, weights: str = "best") -> Answers:
    """Return what the model of a run predicts.

    Args:
        run: A run with a folder.
        data: The data: a module, of which the test data are taken, or a data set; None: the test
            file of the run.
        weights: "best" or "last".

    Raises:
        RunError: The run has no folder, or no test file that can be opened again from there.
        OptionError: The model is no classifier, or the data have no labels.
    """
    if not run.run_dir:
        raise RunError("this run has no folder, and so no model; give its Trainer a run_dir=")
    if data is None:
        options = read_data_options(Path(run.run_dir), None, flag="data=")
        data = H5DataModule.from_options(options, is_training=False)
    return find_answers(load_model(run.run_dir, weights), data)


def find_answers(model: keras.Model, data: Data) -> Answers:
    """Return what a model predicts for the test data of a module, or for a data set.

    Raises:
        OptionError: The model is no classifier, or the data have no labels.
    """
    dataset = data.test if isinstance(data, H5DataModule) else data
    if dataset is None:
        raise OptionError(
            "the data module has no test data; pass the data set, such as data.validation"
        )
    served = served_by(dataset)
    if not served.has_labels:
        raise OptionError("the data have no labels to compare predictions with; name y=")
    if served.is_transformed:
        raise OptionError(
            "a transform= changes the rows, so that their labels are not those in the file; pass "
            "data without one"
        )
    found = Trainer(enable_progress_bar=False).predict(model, dataset)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or dataset.num_classes is None:
        raise OptionError(
            "this model is no classifier of one output, whose predictions have shape (rows, "
            "classes) and whose y holds class labels"
        )
    probabilities = _of_two_classes(model, found) if found.shape[1] == 1 else found
    labels, count = _read_labels(dataset), probabilities.shape[1]
    names = dataset.class_names or tuple(map(str, range(count)))
    if len(names) != count or labels.min() < 0 or labels.max() >= count:
        raise OptionError(
            f"the model answers {count} classes, and y has {len(names)} names and ids from "
            f"{labels.min()} to {labels.max()}; pass data with the classes of the model"
        )
    return Answers(dataset, labels, probabilities, names)


def _read_labels(dataset: H5Dataset) -> NDArray[np.int64]:
    """Read the class ids of the rows that `predict` answers, in its order."""
    served = served_by(dataset)
    tree = served.columns_of("y")
    labels = dataset.source.select(y=str(tree)).read(served.rows_in_order())["y"]
    return as_class_ids(labels).astype(np.int64)


def _of_two_classes(model: keras.Model, found: np.ndarray) -> np.ndarray:
    """Return a column for each of two classes, where the model has one output for both."""
    if getattr(model.loss, "from_logits", False):
        found = 1 / (1 + np.exp(-found.astype(np.float64)))
    return np.concatenate([1 - found, found], axis=1)
