"""Every metric with several arguments, with and without weights; metrics of a user's own."""

from typing import Any, Final

import keras
from keras import ops

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.losses import (
    AMOUNTS,
    BINARY,
    BINARY_LOGITS,
    CLASSES,
    NUMBERS,
    ONE_HOT,
    SIGNS,
    Task,
    build,
)
from tests.backend.differential.models import Part, layers, metrics, own, stack

SEVERAL: Final = Task("several", 3, "sigmoid")
LOSS: Final = {
    "label": "sparse_categorical_crossentropy",
    "binary": "mse",
    "one_hot": "categorical_crossentropy",
    "several": "binary_crossentropy",
    "targets": "mse",
    "amounts": "mse",
    "sign": "mse",
}
VECTOR: Final = "a metric that is no scalar ends the epoch with an error"

SCALARS: Final[tuple[tuple[Task, Part], ...]] = (
    (CLASSES, metrics.SparseCategoricalAccuracy()),
    (CLASSES, metrics.SparseTopKCategoricalAccuracy(2)),
    (CLASSES, metrics.SparseCategoricalCrossentropy()),
    (CLASSES, metrics.MeanIoU(3, sparse_y_pred=False)),
    (CLASSES, metrics.IoU(3, [0, 1], sparse_y_pred=False)),
    (BINARY, metrics.Accuracy()),
    (BINARY, metrics.BinaryAccuracy(threshold=0.4)),
    (BINARY, metrics.BinaryCrossentropy()),
    (BINARY, metrics.AUC()),
    (BINARY, metrics.AUC(num_thresholds=20, curve="PR", summation_method="minoring")),
    (BINARY, metrics.AUC(thresholds=[0.2, 0.5, 0.7])),
    (BINARY_LOGITS, metrics.AUC(from_logits=True)),
    (SEVERAL, metrics.AUC(multi_label=True, num_labels=3)),
    (BINARY, metrics.Precision()),
    (BINARY, metrics.Precision(thresholds=0.3)),
    (ONE_HOT, metrics.Precision(top_k=2, class_id=1)),
    (BINARY, metrics.Recall()),
    (ONE_HOT, metrics.Recall(top_k=1)),
    (BINARY, metrics.TruePositives()),
    (BINARY, metrics.FalsePositives()),
    (BINARY, metrics.TrueNegatives()),
    (BINARY, metrics.FalseNegatives()),
    (BINARY, metrics.SensitivityAtSpecificity(0.5)),
    (BINARY, metrics.SpecificityAtSensitivity(0.5)),
    (BINARY, metrics.PrecisionAtRecall(0.5)),
    (BINARY, metrics.RecallAtPrecision(0.5)),
    (BINARY, metrics.BinaryIoU()),
    (ONE_HOT, metrics.CategoricalAccuracy()),
    (ONE_HOT, metrics.TopKCategoricalAccuracy(2)),
    (ONE_HOT, metrics.CategoricalCrossentropy(label_smoothing=0.1)),
    (ONE_HOT, metrics.CategoricalHinge()),
    (ONE_HOT, metrics.KLDivergence()),
    (ONE_HOT, metrics.F1Score(average="macro")),
    (ONE_HOT, metrics.F1Score(average="weighted", threshold=0.4)),
    (ONE_HOT, metrics.FBetaScore(average="micro", beta=2.0)),
    (ONE_HOT, metrics.OneHotMeanIoU(3)),
    (ONE_HOT, metrics.OneHotIoU(3, [0, 2])),
    (AMOUNTS, metrics.Poisson()),
    (AMOUNTS, metrics.MeanAbsolutePercentageError()),
    (AMOUNTS, metrics.MeanSquaredLogarithmicError()),
    (NUMBERS, metrics.MeanAbsoluteError()),
    (NUMBERS, metrics.MeanSquaredError()),
    (NUMBERS, metrics.RootMeanSquaredError()),
    (NUMBERS, metrics.R2Score()),
    (NUMBERS, metrics.R2Score(class_aggregation="variance_weighted_average", num_regressors=1)),
    (NUMBERS, metrics.CosineSimilarity()),
    (NUMBERS, metrics.LogCoshError()),
    (NUMBERS, metrics.PearsonCorrelation()),
    (NUMBERS, metrics.ConcordanceCorrelation()),
    (SIGNS, metrics.Hinge()),
    (SIGNS, metrics.SquaredHinge()),
)
VECTORS: Final[tuple[tuple[Task, Part], ...]] = (
    (ONE_HOT, metrics.F1Score()),
    (ONE_HOT, metrics.FBetaScore(beta=0.5)),
    (BINARY, metrics.FalseNegatives(thresholds=[0.3, 0.6])),
    (BINARY, metrics.Precision(thresholds=[0.2, 0.5, 0.8])),
    (NUMBERS, metrics.R2Score(class_aggregation=None)),
)
# Keras averages these over the rows of a batch, whatever the rows weigh.
UNWEIGHTED: Final = ("PearsonCorrelation", "ConcordanceCorrelation")
DEFAULT: Final = ("AUC(", "F1Score(average='macro'")


class Largest(keras.metrics.Metric):
    """Remembers the largest answer, and counts batches, in variables."""

    def __init__(self, *, halves: bool = False) -> None:
        super().__init__(name="largest")
        self._halves = halves
        self.most = self.add_weight(name="most", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y: Any, answer: Any, sample_weight: Any = None) -> None:
        self.most.assign(ops.maximum(self.most, ops.max(answer)))
        self.count.assign_add(1.0)

    def result(self) -> Any:
        return self.most * self.count

    def reset_state(self) -> None:
        self.most.assign(0.0)
        self.count.assign(self.count * 0.5 if self._halves else 0.0)


class Confusion(keras.metrics.Metric):
    """A confusion matrix."""

    def __init__(self) -> None:
        super().__init__(name="confusion")
        self.matrix = self.add_weight(shape=(3, 3), name="matrix", initializer="zeros")

    def update_state(self, y: Any, answer: Any, sample_weight: Any = None) -> None:
        classes = ops.one_hot(ops.reshape(ops.cast(y, "int32"), (-1,)), 3)
        found = ops.one_hot(ops.argmax(answer, axis=-1), 3)
        self.matrix.assign_add(ops.cast(ops.matmul(ops.transpose(classes), found), "float32"))

    def result(self) -> Any:
        return self.matrix * 1.0


class Both(Confusion):
    """Two numbers by name."""

    def result(self) -> Any:
        return {"trace": ops.trace(self.matrix), "total": ops.sum(self.matrix)}


def deviation(y: Any, answer: Any) -> Any:
    """A metric of a user's own that is a function."""
    return ops.max(ops.abs(y - answer))


def distance(y: Any, answer: Any) -> Any:
    """A metric of a user's own, for each row."""
    return ops.mean(ops.abs(y - answer), axis=-1)


def of_task(task: Task, part: Part) -> Any:
    """Return a function that builds a model with this metric."""
    return build(task, LOSS[task.y], metrics=[part])


class Watched(keras.layers.Layer):
    """A layer with metrics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = keras.metrics.Mean(name="mean_input")
        self.total = keras.metrics.Sum(name="total_input")

    def call(self, x: Any) -> Any:
        self.mean.update_state(ops.mean(x))
        self.total.update_state(ops.mean(ops.abs(x)))
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def wrapped() -> keras.Model:
    """Build a model with a wrapped function as a metric."""
    mean = keras.metrics.MeanMetricWrapper(distance, name="distance")
    return build(NUMBERS, "mse", metrics=[mean])()


KINDS: Final = (
    *(
        Kind(
            f"metric {part}",
            of_task(task, part),
            y=task.y,
            is_default=str(part).startswith(DEFAULT),
        )
        for task, part in SCALARS
    ),
    *(
        Kind(
            f"weighted metric {part}",
            build(task, LOSS[task.y], weighted_metrics=[part]),
            y=task.y,
            sample_weight="weight",
        )
        for task, part in SCALARS
        if part.name not in UNWEIGHTED
    ),
    *(
        Kind(f"metric {part}", of_task(task, part), y=task.y, fault=VECTOR, is_default=number == 0)
        for number, (task, part) in enumerate(VECTORS)
    ),
    Kind("MeanMetricWrapper", wrapped, y="targets"),
    Kind("own metric that is a function", build(NUMBERS, "mse", metrics=[deviation]), y="targets"),
    Kind("own metric in variables", build(CLASSES, LOSS["label"], metrics=[own(Largest)])),
    Kind(
        "own metric that is halved at the end of an epoch",
        build(CLASSES, LOSS["label"], metrics=[own(Largest, halves=True)]),
    ),
    Kind(
        "confusion matrix",
        build(CLASSES, LOSS["label"], metrics=[own(Confusion)]),
        fault=VECTOR,
    ),
    Kind(
        "a metric of two numbers by name",
        build(CLASSES, LOSS["label"], metrics=[own(Both)]),
        fault=VECTOR,
    ),
    Kind(
        "several metrics",
        build(
            BINARY,
            "mse",
            metrics=[metrics.AUC(), metrics.Precision(), metrics.Recall(), "accuracy", "mae"],
        ),
        y="binary",
    ),
    Kind(
        "metrics and weighted metrics",
        build(
            BINARY,
            "mse",
            metrics=[metrics.AUC()],
            weighted_metrics=[metrics.Precision(), metrics.BinaryAccuracy()],
        ),
        y="binary",
        sample_weight="weight",
    ),
    Kind("metrics of a layer", stack(layers.Dense(5), Watched)),
    Kind(
        "segmentation",
        stack(
            layers.Conv2D(3, 3, padding="same", activation="softmax"),
            head=None,
            shape=(8, 8, 3),
            metrics=[metrics.MeanIoU(3, sparse_y_pred=False)],
        ),
        "image",
        "label_image",
    ),
)
