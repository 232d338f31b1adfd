"""The model of a run: made from its options, or read back from its folder."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from kerash5 import zoo
from kerash5._errors import FileError, FileMissingError, OptionError
from kerash5._options import ModelOptions
from kerash5._run import RUN_FILE, Run
from kerash5.feeds._class_names import recall_classes
from kerash5.feeds._module import H5DataModule
from kerash5.feeds._scale import settle_scale
from kerash5.train.checkpoints._checkpoint import Checkpoints
from kerash5.train.checkpoints._run_dir import (
    BEST_WEIGHTS,
    CHECKPOINTS_FOLDER,
    LAST_WEIGHTS,
    MODEL_FILE,
)
from kerash5.train.loop._model_checks import POLICIES
from kerash5.train.state._state import restore_weights

Model = keras.Model


def build_model(
    options: ModelOptions, data: H5DataModule, *, precision: str, seed: int
) -> keras.Model:
    """Build the zoo's model of these options for this data.

    Sets Keras' seed and its policy for new layers, for this process.

    Args:
        options: The model's name and what its family takes.
        data: What it shall be trained on: gives the shape of its rows and the number of classes.
        precision: One of `POLICIES`.
        seed: Of the initial weights.

    Raises:
        OptionError: The data have no classes, or there is no such model, option or seed.
    """
    if data.num_classes is None:
        raise OptionError(
            "y holds no class labels, which the zoo's models need; name an integer, text or "
            "one-hot column"
        )
    if not 0 <= seed < 1 << 32:
        raise OptionError(f"seed={seed}; Keras takes seeds from 0 to {(1 << 32) - 1}")
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(POLICIES[precision])
    model = zoo.build(
        options.name,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        learning_rate=options.learning_rate,
        **options.options,
    )
    settle_scale(model, data.train)
    return model


def load_model(run_dir: str | os.PathLike[str], weights: str = "best") -> keras.Model:
    """Read the model of a run.

    The meaning of its class ids is read too: data given to it are compared with that.

    Args:
        run_dir: The folder of the run.
        weights: "best", of the best epoch by `monitor`, or "last", of the last step.

    Returns:
        The model, compiled as it was if that could be saved.

    Raises:
        OptionError: There are no such weights.
        FileError: They, or the model, are not in the folder, or cannot be loaded.
    """
    files = {"best": BEST_WEIGHTS, "last": LAST_WEIGHTS}
    if weights not in files:
        raise OptionError(f"weights={weights!r}; choose 'best' or 'last'")
    folder = Path(run_dir)
    architecture, file = folder / MODEL_FILE, folder / files[weights]
    # A run that was killed has written no last weights; its newest checkpoint holds them.
    is_killed = weights == "last" and not file.exists()
    checkpoint = Checkpoints(folder / CHECKPOINTS_FOLDER).newest() if is_killed else None
    for path in (architecture, *([] if checkpoint else [file])):
        if not path.exists():
            raise FileMissingError(
                f"no {str(path)!r}; the run was stopped before its first epoch ended, or its model "
                "cannot be saved"
            )
    try:
        model = keras.models.model_from_json(architecture.read_text(encoding="utf-8"))
        if checkpoint is None:
            model.load_weights(file)
        else:
            restore_weights(model, checkpoint.arrays)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FileError(
            f"the model in {str(folder)!r} cannot be loaded ({error}); train it again"
        ) from error
    if (folder / RUN_FILE).exists():
        recall_classes(model, Run.load(folder))
    return model
