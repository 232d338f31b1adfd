"""The folder of a run: what lies where, and how it gets there whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import keras
import numpy as np
import yaml

from kerash5._errors import FileError
from kerash5._run import RUN_FILE, Run, replace_text

CONFIG_FILE: Final = "config.yaml"
ENVIRONMENT_FILE: Final = "env.json"
MODEL_FILE: Final = "model.json"
LAST_WEIGHTS: Final = "last.weights.h5"
BEST_WEIGHTS: Final = "best.weights.h5"


@final
class RunDir:
    """The folder of one run. Made by `make_run_dir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> str:
        """Return the path of a file of the run."""
        return str(self.path / name)

    def begin(self, run: Run, model: keras.Model) -> None:
        """Write what is known before the first step."""
        replace_text(self.file(CONFIG_FILE), yaml.safe_dump(_plain(run.config), sort_keys=False))
        replace_text(self.file(ENVIRONMENT_FILE), json.dumps(_plain(run.environment), indent=2))
        run.save(self.path)
        self.save_model(model)

    def save_model(self, model: keras.Model) -> None:
        """Write the layers of the model, without weights, where it can tell them."""
        try:
            replace_text(self.file(MODEL_FILE), model.to_json())
        except (TypeError, ValueError, NotImplementedError):
            # A subclassed model without get_config can be trained; only `kerash5 test --run` cannot
            # make it again.
            (self.path / MODEL_FILE).unlink(missing_ok=True)

    def save_weights(self, model: keras.Model, name: str) -> None:
        """Save the weights under a temporary name and rename them: a kill leaves the old ones."""
        partial = self.path / f"partial-{name}"
        try:
            model.save_weights(partial, overwrite=True)
            partial.replace(self.path / name)
        finally:
            partial.unlink(missing_ok=True)

    def copy_weights(self, old: str, new: str) -> None:
        """Give saved weights a second name; a hard link where the file system has them."""
        source, partial = self.path / old, self.path / f"partial-{new}"
        partial.unlink(missing_ok=True)
        try:
            try:
                partial.hardlink_to(source)
            except OSError:
                shutil.copyfile(source, partial)
            partial.replace(self.path / new)
        finally:
            partial.unlink(missing_ok=True)


def make_run_dir(asked: str | os.PathLike[str] | None, model_name: str) -> RunDir:
    """Make the folder of a new run.

    One that holds a run already is left alone, and a number is added to the name.

    Args:
        asked: The folder; None for runs/MODEL.
        model_name: The model's.

    Raises:
        FileError: It cannot be made.
    """
    wanted = Path(asked if asked is not None else Path("runs") / model_name)
    if not wanted.name:  # "." has no name to add a number to
        wanted = wanted.resolve()
    number, path = 1, wanted
    while (path / RUN_FILE).exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"run_dir {str(path)!r} cannot be made ({error.strerror}); choose another folder"
        ) from error
    return RunDir(path)


def _plain(value: Any) -> Any:  # noqa: ANN401  YAML and JSON, whatever they hold
    """Return a value as YAML and JSON can hold it."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
