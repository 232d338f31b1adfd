"""The model of a run: built from its options, or read from its folder."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from kerash5._errors import FileError, FileMissingError, OptionError
from kerash5._options import ModelOptions
from kerash5._run import RUN_FILE, Run
from kerash5.feeds._class_names import recall_classes
from kerash5.feeds._module import H5DataModule
from kerash5.feeds._scale import settle_scale
from kerash5.train._models import make_model
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
    options: ModelOptions,
    data: H5DataModule,
    *,
    precision: str,
    seed: int,
    decay_steps: int | None = None,
) -> keras.Model:
    """Build and compile the model that the options describe.

    This sets Keras' random seed and its dtype policy for new layers in this process.

    Args:
        options: Name, arguments and compilation of the model.
        data: The training data, which give the shape of a row and the number of classes.
        precision: One of `POLICIES`.
        seed: Seed of the initial weights.
        decay_steps: As in `make_model`.

    Raises:
        OptionError: The model, an option or the seed is unknown or invalid, or the model does not
            fit the data.
    """
    if not 0 <= seed < 1 << 32:
        raise OptionError(f"seed={seed}; Keras takes seeds from 0 to {(1 << 32) - 1}")
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(POLICIES[precision])
    model = make_model(options, data, decay_steps=decay_steps)
    settle_scale(model, data.train)
    return model


def load_model(run_dir: str | os.PathLike[str], weights: str = "best") -> keras.Model:
    """Load the model of a run.

    Its class names are loaded too: a `Trainer` checks that other data have the same class ids.

    Args:
        run_dir: The folder of the run.
        weights: "best" for the best epoch by `monitor`, or "last" for the last step.

    Returns:
        The model. It is compiled as in the run if the compilation could be saved.

    Raises:
        OptionError: `weights` is neither "best" nor "last".
        FileError: The weights or the model are not in the folder, or cannot be loaded.
    """
    files = {"best": BEST_WEIGHTS, "last": LAST_WEIGHTS}
    if weights not in files:
        raise OptionError(f"weights={weights!r}; choose 'best' or 'last'")
    folder = Path(run_dir)
    architecture, file = folder / MODEL_FILE, folder / files[weights]
    # A killed run has no file of last weights; its newest checkpoint contains them.
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
