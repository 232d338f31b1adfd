"""Public classes of Keras that no kind trains, each with the reason."""

from typing import Final

import keras

NAMESPACES: Final = (
    keras.layers,
    keras.losses,
    keras.metrics,
    keras.optimizers,
    keras.optimizers.schedules,
    keras.regularizers,
    keras.constraints,
    keras.initializers,
)
_BASE = "a base class: what is trained are its subclasses"
_TEXT = "takes text, which is no tensor on JAX and PyTorch"
_ELSEWHERE = "is for one backend alone; its own kind runs there"
_STFT = "makes the fixed kernel of STFTSpectrogram, which is in a kind"
EXCLUDED: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("Layer", "Wrapper", "Loss", "Metric", "Optimizer", "LearningRateSchedule"), _BASE
    ),
    **dict.fromkeys(("Regularizer", "Constraint", "Initializer"), _BASE),
    **dict.fromkeys(("StringLookup", "TextVectorization"), _TEXT),
    **dict.fromkeys(("TorchModuleWrapper", "JaxLayer"), _ELSEWHERE),
    "FlaxLayer": "wraps a module of Flax, which is not installed for the tests",
    "TFSMLayer": "runs a SavedModel, which is not trained",
    **dict.fromkeys(("STFTInitializer", "STFT", "stft"), _STFT),
    "InputSpec": "describes inputs; it computes nothing",
    "OptimizerMap": "maps names to optimizers for MultiOptimizer, which is in a kind",
    "MaxNumBoundingBoxes": "works on bounding boxes, before a model is trained",
}
