"""Labels that a loss cannot take are refused before the first step; what Keras takes is not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import ColumnError, KerasH5Error, LabelError, ShapeError
from kerash5.feeds._keras_labels import check_batch, check_labels
from tests.backend.feeds.labelled import (
    BINARY,
    CATEGORICAL,
    IDS,
    LOSSES,
    MASKS,
    RANDOM,
    ROWS,
    SOFT,
    SPARSE,
    Y,
    classifier,
    open_rows,
    put,
    segmenter,
    two_outputs,
)


class Doubled(keras.losses.SparseCategoricalCrossentropy):
    """A loss of a user's own, which takes labels in a way of its own."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return super().call(y_true // 2, y_pred)


def my_loss(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_pred), axis=-1) + 0 * keras.ops.mean(y_true)


my_loss.__name__ = SPARSE

Case = tuple[Callable[[], keras.Model], Y, type[KerasH5Error], str]

WRONG: Final[dict[str, Case]] = {
    "doubles from 1": (
        lambda: classifier(SPARSE),
        IDS + 1.0,
        LabelError,
        r"label 3\.0, outside the 3 classes of model 'net'.*start at 1: labels=\[1, 2, 3\]",
    ),
    "7.0 of 3 classes": (lambda: classifier(SPARSE), put(7), LabelError, r"has label 7\.0"),
    "-1.0": (
        lambda: classifier(SPARSE),
        put(-1),
        LabelError,
        r"-1\.0, but class ids.*ignore_class=-1",
    ),
    "NaN": (lambda: classifier(SPARSE), put(np.nan), LabelError, "nan in row 7.*rows="),
    "infinity": (lambda: classifier(SPARSE), put(np.inf), LabelError, "inf in row 7"),
    "0.5": (lambda: classifier(SPARSE), put(0.5), LabelError, r"0\.5 in row 7.*integers.*'mse'"),
    "a loss object": (
        lambda: classifier(LOSSES.SparseCategoricalCrossentropy(from_logits=True, name="mine")),
        put(7),
        LabelError,
        "outside the 3 classes",
    ),
    "a loss function": (
        lambda: classifier(LOSSES.sparse_categorical_crossentropy),
        put(7),
        LabelError,
        "outside the 3 classes",
    ),
    "a partial": (
        lambda: classifier(
            functools.partial(LOSSES.sparse_categorical_crossentropy, from_logits=True)
        ),
        put(0.5),
        LabelError,
        "integers from 0",
    ),
    "Keras' crossentropy": (
        lambda: classifier("crossentropy"),
        IDS + 1,
        LabelError,
        "outside the 3 classes",
    ),
    "a list of one": (lambda: classifier([SPARSE]), put(7), LabelError, "outside"),
    "-1 and +1, sparse": (
        lambda: classifier(SPARSE, 2),
        np.where(IDS > 0, 1, -1),
        LabelError,
        r"label -1.*labels=\[-1, 1\]",
    ),
    "beside an ignored class": (
        lambda: classifier(LOSSES.SparseCategoricalCrossentropy(ignore_class=255)),
        np.where(IDS == 1, 255, IDS * 2),
        LabelError,
        "label 4, outside",
    ),
    "one-hot, sparse": (
        lambda: classifier(SPARSE),
        np.eye(3)[IDS],
        LabelError,
        "one-hot.*categorical_crossentropy.*labels=.one_hot",
    ),
    "soft, sparse": (lambda: classifier(SPARSE), SOFT, ShapeError, "if they are probabilities"),
    "integers, categorical": (
        lambda: classifier(CATEGORICAL),
        IDS,
        LabelError,
        r"sparse.*Column\('y', one_hot=3\)",
    ),
    "doubles, categorical": (lambda: classifier(CATEGORICAL), IDS + 0.0, LabelError, "sparse_"),
    "integers with an axis, categorical": (
        lambda: classifier(LOSSES.CategoricalFocalCrossentropy()),
        IDS[:, None],
        LabelError,
        "one number for each of its 3 classes",
    ),
    "other width, categorical": (
        lambda: classifier(CATEGORICAL),
        np.eye(4)[IDS],
        ShapeError,
        r"\(4,\).*\(3,\)",
    ),
    "numbers, categorical": (
        lambda: classifier(CATEGORICAL),
        RANDOM.normal(size=(ROWS, 3)),
        LabelError,
        "from 0 to 1",
    ),
    "-1 and +1, binary": (
        lambda: classifier(BINARY, 1, "sigmoid"),
        np.where(IDS > 0, 1, -1),
        LabelError,
        r"-1 in row 0.*Column\('y', labels=\[-1, 1\]\)",
    ),
    "0, 1 and 2, binary": (
        lambda: classifier(LOSSES.BinaryCrossentropy(), 1, "sigmoid"),
        IDS,
        LabelError,
        "has 2 in row 2.*softmax",
    ),
    "1 and 2, binary": (
        lambda: classifier(LOSSES.binary_focal_crossentropy, 1, "sigmoid"),
        IDS % 2 + 1,
        LabelError,
        r"labels=\[1, 2\]",
    ),
    "images of bytes, binary": (
        lambda: segmenter(BINARY, 1),
        RANDOM.integers(0, 256, (ROWS, 4, 4), dtype=np.uint8),
        LabelError,
        r"y / 25\d",
    ),
    "NaN, binary": (lambda: classifier(BINARY, 1, "sigmoid"), put(np.nan), LabelError, "nan"),
    "ids, binary of three": (
        lambda: classifier(BINARY, 3, "sigmoid"),
        IDS,
        LabelError,
        "for each of its 3 classes",
    ),
    "0 to 2, hinge": (lambda: classifier("hinge", 1, "tanh"), IDS, LabelError, r"-1 and \+1"),
    "one number against three": (
        lambda: classifier("mse", 3, "linear"),
        IDS,
        ShapeError,
        "cannot compare elementwise",
    ),
    "one number with an axis against three": (
        lambda: classifier("mae", 3, "linear"),
        IDS[:, None],
        ShapeError,
        r"output of shape \(1,\)",
    ),
    "the same values in another shape": (
        lambda: segmenter("mse", 1),
        RANDOM.random((ROWS, 16)),
        ShapeError,
        r"Column\('y', shape=\(4, 4, 1\)\) would fit",
    ),
    "masks": (lambda: segmenter(SPARSE), MASKS + 1, LabelError, "label 3, outside"),
    "masks of doubles": (
        lambda: segmenter(SPARSE),
        put(1.5, 99, MASKS),
        LabelError,
        r"1\.5 in row 6",
    ),
    "masks one-hot": (lambda: segmenter(SPARSE), np.eye(3)[MASKS], LabelError, "one-hot"),
    "masks of another size": (
        lambda: segmenter(SPARSE),
        MASKS[:, :2],
        ShapeError,
        r"\(2, 4\).*ids of shape \(4, 4\)",
    ),
    "an output by name": (
        lambda: two_outputs({"kind": SPARSE, "flag": BINARY}),
        {"kind": IDS + 1, "flag": IDS > 0},
        LabelError,
        "outside the 3 classes of output 'kind' of model 'net'",
    ),
    "an output of a dict": (
        lambda: two_outputs({"kind": SPARSE, "flag": BINARY}, keyed=True),
        {"kind": IDS, "flag": IDS},
        LabelError,
        "output 'flag'",
    ),
    "an output of a list": (
        lambda: two_outputs([SPARSE, BINARY]),
        {"kind": IDS, "flag": IDS},
        LabelError,
        "'flag'",
    ),
    "no y": (lambda: classifier("mse"), None, ColumnError, "no y.*'mean_squared_error'.*y='label'"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_labels_that_the_loss_does_not_take_are_refused(case: Case, tmp_path: Path) -> None:
    make, y, kind, words = case
    with pytest.raises(kind, match=words) as caught:
        check_labels(make(), open_rows(tmp_path, y))
    assert "\n" not in str(caught.value)


RIGHT: Final[dict[str, tuple[Callable[[], keras.Model], Y]]] = {
    "ids": (lambda: classifier(SPARSE), IDS),
    "ids with an axis": (lambda: classifier(SPARSE), IDS[:, None]),
    "ids as doubles": (lambda: classifier(SPARSE), IDS + 0.0),
    "ids and an ignored class": (
        lambda: classifier(LOSSES.SparseCategoricalCrossentropy(ignore_class=-1)),
        np.where(IDS == 1, -1, IDS),
    ),
    "ids and an ignored class of a partial": (
        lambda: classifier(
            functools.partial(LOSSES.sparse_categorical_crossentropy, ignore_class=255)
        ),
        np.where(IDS == 1, 255, IDS),
    ),
    "soft": (lambda: classifier(CATEGORICAL), SOFT),
    "several classes": (lambda: classifier(CATEGORICAL), np.ones((ROWS, 3))),
    "smoothed": (
        lambda: classifier(LOSSES.CategoricalCrossentropy(label_smoothing=0.1)),
        np.eye(3)[IDS],
    ),
    "binary between 0 and 1": (lambda: segmenter(BINARY, 1), RANDOM.random((ROWS, 4, 4))),
    "booleans": (lambda: classifier(BINARY, 1, "sigmoid"), IDS > 0),
    "many labels": (lambda: classifier(BINARY, 3, "sigmoid"), RANDOM.integers(0, 2, (ROWS, 3))),
    "an axis more": (lambda: classifier("mse", 1, "linear"), RANDOM.normal(size=ROWS)),
    "an axis less": (lambda: segmenter("mse", 1), RANDOM.random((ROWS, 4, 4))),
    "integers to predict": (lambda: classifier("mse", 1, "linear"), IDS * 100 - 7),
    "numbers and a softmax": (lambda: classifier("mse"), RANDOM.normal(size=(ROWS, 3))),
    "hinge": (lambda: classifier("hinge", 1, "tanh"), np.where(IDS > 0, 1, -1)),
    "hinge of 0 and 1": (lambda: classifier("squared_hinge", 1, "tanh"), IDS > 0),
    "masks": (lambda: segmenter(SPARSE), MASKS.astype(np.uint8)),
    "masks with an axis": (lambda: segmenter(SPARSE), MASKS[..., None]),
    "masks one-hot": (lambda: segmenter("crossentropy"), np.eye(3)[MASKS]),
    "a function of one's own under a name of Keras'": (lambda: classifier(my_loss), IDS + 40),
    "a class of one's own": (lambda: classifier(Doubled()), IDS * 2),
    "an output without a loss": (
        lambda: two_outputs({"kind": SPARSE, "flag": None}),
        {"kind": IDS, "flag": IDS},
    ),
    "outputs": (lambda: two_outputs([SPARSE, BINARY]), {"flag": IDS > 0, "kind": IDS}),
    "no loss": (lambda: classifier(None), None),
}


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT)
def test_labels_that_keras_takes_are_left_alone(
    case: tuple[Callable[[], keras.Model], Y], tmp_path: Path
) -> None:
    make, y = case
    check_labels(make(), open_rows(tmp_path, y))


def test_every_loss_that_is_known_takes_what_is_left_alone(tmp_path: Path) -> None:
    data = open_rows(tmp_path, RIGHT["an axis less"][1])
    for name in ("mse", "mae", "mape", "msle", "huber", "log_cosh", "poisson", "kl_divergence"):
        model = segmenter(name, 1)
        check_labels(model, data)
        assert np.isfinite(model.evaluate(data, verbose=0))


@pytest.mark.parametrize("wrong", ["7.0 of 3 classes", "-1.0", "NaN", "0.5", "0, 1 and 2, binary"])
@pytest.mark.parametrize("task", ["fit", "evaluate", "validation", "Trainer", "test"])
def test_every_way_to_train_and_evaluate_refuses_them(
    wrong: str, task: str, tmp_path: Path
) -> None:
    make, y, kind, words = WRONG[wrong]
    (tmp_path / "right").mkdir()
    model, data, right = make(), open_rows(tmp_path, y), open_rows(tmp_path / "right", IDS % 2)
    before = [np.array(weight) for weight in model.get_weights()]
    trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / "run", enable_progress_bar=False)
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: model.fit(data, verbose=0),
        "evaluate": lambda: model.evaluate(data, verbose=0),
        "validation": lambda: model.fit(right, validation_data=data, verbose=0),
        "Trainer": lambda: trainer.fit(model, data),
        "test": lambda: trainer.test(model, data),
    }
    with pytest.raises(kind, match=words):
        calls[task]()
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_transform_makes_is_checked_in_its_first_batch(tmp_path: Path) -> None:
    data = open_rows(tmp_path, transform=lambda x, y: (x, y + 1))
    trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / "run", enable_progress_bar=False)
    words = "transform= returns it, has label 3, outside.*in the transform"
    with pytest.raises(LabelError, match=words):
        trainer.fit(classifier(SPARSE), data)
    with pytest.raises(Exception, match="outside the 3 classes"):  # TensorFlow raises its own
        classifier(SPARSE).fit(data, verbose=0)
    mended = open_rows(tmp_path, IDS + 10, transform=lambda x, y: (x, y - 10))
    check_labels(classifier(SPARSE), mended)
    check_batch(classifier(SPARSE), mended.read(0))
    assert np.isfinite(classifier(SPARSE).evaluate(mended, verbose=0))


def test_a_model_that_learns_its_shapes_is_checked_once_it_is_built(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", SPARSE)
    trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / "run", enable_progress_bar=False)
    with pytest.raises(LabelError, match="outside the 3 classes"):
        trainer.fit(model, open_rows(tmp_path, put(7)))


class Shifted(keras.Model):
    """Whose step changes labels before the loss sees them."""

    def compute_loss(self, x: Any = None, y: Any = None, *args: Any, **options: Any) -> Any:
        return super().compute_loss(x, keras.ops.maximum(y, 0) * 0, *args, **options)


def test_steps_of_the_models_own_may_take_other_labels(tmp_path: Path) -> None:
    inputs = keras.Input((5,))
    model = Shifted(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    model.compile("sgd", SPARSE)
    check_labels(model, open_rows(tmp_path, put(0.5)))


# One-hot labels are labels.


@pytest.mark.parametrize("dtype", ["int64", "float32", "uint8", "bool"])
def test_one_hot_labels_have_a_number_of_classes(dtype: str, tmp_path: Path) -> None:
    data = open_rows(tmp_path, np.eye(6)[np.arange(ROWS) % 6].astype(dtype))
    assert data.num_classes == 6
    assert data.class_names is None
    module = k5.H5DataModule(
        data.source.paths[0], x="x", y="y", validation_split=0.25, stratify=True
    )
    assert (module.num_classes, module.class_names) == (6, None)


def test_names_of_one_hot_text_are_known(tmp_path: Path) -> None:
    words = np.array([b"cat", b"dog", b"eel"])[IDS]
    path = open_rows(tmp_path, words).source.paths[0]
    data = k5.H5Dataset(path, x="x", y=k5.Column("y", one_hot=3))
    assert (data.num_classes, data.class_names) == (3, ("cat", "dog", "eel"))


@pytest.mark.parametrize(
    "y", [SOFT, RANDOM.random((ROWS, 4)), np.zeros((ROWS, 2))], ids=["soft", "any", "zeros"]
)
def test_numbers_that_are_not_one_hot_have_no_classes(y: np.ndarray, tmp_path: Path) -> None:
    assert open_rows(tmp_path, y).num_classes is None


@pytest.mark.parametrize("y", [IDS, IDS[:, None], np.eye(3)[IDS]], ids=["ids", "axis", "one-hot"])
def test_the_zoo_trains_the_same_on_ids_and_one_hot_labels(y: np.ndarray, tmp_path: Path) -> None:
    def fit(name: str, y: np.ndarray) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        data = open_rows(tmp_path / name, y)
        keras.utils.set_random_seed(1)
        assert data.num_classes is not None
        model = k5.zoo.build("mlp", input_shape=(5,), num_classes=data.num_classes)
        trainer = k5.Trainer(max_epochs=2, run_dir=tmp_path / f"run-{name}", logger=False)
        return dict(trainer.fit(model, data).epochs[-1].metrics)

    state = RANDOM.bit_generator.state
    one = fit("one", y)
    RANDOM.bit_generator.state = state  # the same x in both files
    assert one == pytest.approx(fit("other", IDS), rel=1e-4)
    assert one.keys() == {"loss", "accuracy"}
