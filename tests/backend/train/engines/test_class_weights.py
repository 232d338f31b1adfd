"""Class weights weigh the classes that the loss sees, whatever the rank of y and the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import OptionError
from kerash5.train.engines.common._weights import ClassWeights
from tests.backend.feeds.labelled import (
    BINARY,
    CATEGORICAL,
    IDS,
    MASKS,
    RANDOM,
    ROWS,
    SPARSE,
    open_rows,
    segmenter,
    two_outputs,
)

WEIGHTS: Final = {0: 0.1, 1: 1.0, 2: 3.0}


def weigh(labels: np.ndarray) -> np.ndarray:
    table: np.ndarray = np.array([0.1, 1.0, 3.0], np.float32)
    return np.asarray(table[labels])


def first_loss(model: keras.Model, data: k5.H5Dataset, run_dir: Path, weights: Any) -> float:
    trainer = k5.Trainer(max_epochs=1, run_dir=run_dir, enable_progress_bar=False, logger=False)
    run = trainer.fit(model, data, class_weight=weights)
    return float(run.epochs[0].metrics["loss"])


@pytest.mark.parametrize("num_rows", [4, ROWS], ids=["as high as long", "longer"])
@pytest.mark.parametrize(
    ("loss", "y"),
    [(SPARSE, MASKS), (SPARSE, MASKS[..., None]), (CATEGORICAL, np.eye(3)[MASKS])],
    ids=["ids", "ids with an axis", "one-hot"],
)
def test_class_weights_weigh_each_element_of_a_mask(
    loss: str, y: np.ndarray, num_rows: int
) -> None:
    model, x = segmenter(loss), RANDOM.random((num_rows, 5), dtype=np.float32)
    _, _, found = ClassWeights(WEIGHTS, model).apply((x, y[:num_rows]))
    np.testing.assert_array_equal(found, weigh(MASKS[:num_rows]))
    values = np.asarray(model.predict(x, verbose=0))
    picked = np.take_along_axis(values, MASKS[:num_rows, ..., None], axis=-1)[..., 0]
    loss_of_all = model.evaluate(x, y[:num_rows], sample_weight=found, batch_size=64, verbose=0)
    assert loss_of_all == pytest.approx(np.mean(found * -np.log(picked)), rel=1e-4)


def test_class_weights_weigh_the_ids_of_a_sequence() -> None:
    x = keras.Input((4, 2))
    model = keras.Model(x, keras.layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", SPARSE)
    y = MASKS[:, 0]
    _, _, found = ClassWeights(WEIGHTS, model).apply((y, y))
    np.testing.assert_array_equal(found, weigh(y))


def test_a_fit_on_masks_weighs_their_classes(tmp_path: Path) -> None:
    data = open_rows(tmp_path, np.eye(3)[MASKS], batch_size=ROWS, shuffle=False)
    model, (x, y) = segmenter(CATEGORICAL), data.read(0)
    expected = model.evaluate(x, y, sample_weight=weigh(MASKS), batch_size=ROWS, verbose=0)
    assert first_loss(model, data, tmp_path / "run", WEIGHTS) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("keyed", [False, True], ids=["list", "dict"])
def test_class_weights_per_output_weigh_its_classes(keyed: bool, tmp_path: Path) -> None:
    flags = (IDS > 0).astype(np.float32)
    y = {"kind": IDS, "flag": flags}
    data = open_rows(tmp_path, y, batch_size=ROWS, shuffle=False)
    model = two_outputs({"kind": SPARSE, "flag": BINARY}, keyed=keyed)
    ones = np.ones(ROWS, np.float32)
    given = {"kind": weigh(IDS), "flag": ones} if keyed else [weigh(IDS), ones]
    truth = y if keyed else [IDS, flags]
    expected = model.evaluate(
        data.read(0)[0], truth, sample_weight=given, batch_size=ROWS, verbose=0, return_dict=True
    )["loss"]
    found = first_loss(model, data, tmp_path / "run", {"kind": WEIGHTS})
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "words"),
    [(WEIGHTS, "dict per output.*'kind', 'flag'"), ({"sort": WEIGHTS}, "names 'sort'.*'kind'")],
    ids=["one for all", "another name"],
)
def test_class_weights_that_fit_no_output_are_refused(
    weights: Any, words: str, tmp_path: Path
) -> None:
    data = open_rows(tmp_path, {"kind": IDS, "flag": IDS > 0})
    with pytest.raises(OptionError, match=words):
        first_loss(two_outputs([SPARSE, BINARY]), data, tmp_path / "run", weights)


def test_class_weights_of_masks_whose_classes_are_not_known_are_refused(tmp_path: Path) -> None:
    data = open_rows(tmp_path, (MASKS > 0).astype(np.float32))
    with pytest.raises(OptionError, match=r"rows of y of shape \(4, 4\).*shape=\(4, 4, 1\)"):
        first_loss(segmenter(BINARY, 1), data, tmp_path / "run", WEIGHTS)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="Keras itself fails there, before any step"
)
def test_class_weights_of_masks_are_refused_where_keras_would_take_them_for_one_hot(
    tmp_path: Path,
) -> None:
    data = open_rows(tmp_path, MASKS)
    with pytest.raises(OptionError, match=r"one-hot.*Trainer\.fit\(class_weight=\)"):
        segmenter(SPARSE).fit(data, class_weight=WEIGHTS, verbose=0)
