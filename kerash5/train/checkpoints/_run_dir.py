"""The folder of a run: its files, and how they are written atomically."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

import keras
import numpy as np
import yaml

from kerash5._errors import FileError, FileMissingError, RunError
from kerash5._run import RUN_FILE, Run
from kerash5.files import replace_text, replacing
from kerash5.train.checkpoints._checkpoint import Checkpoints, copy, link
from kerash5.train.checkpoints._lock import FolderLock

CONFIG_FILE: Final = "config.yaml"
ENVIRONMENT_FILE: Final = "env.json"
MODEL_FILE: Final = "model.json"
LAST_WEIGHTS: Final = "last.weights.h5"
BEST_WEIGHTS: Final = "best.weights.h5"
BEST_BEFORE_TRUNCATION: Final = "best-before-cut.weights.h5"
CHECKPOINTS_FOLDER: Final = "checkpoints"


@final
class RunDir:
    """The folder of one run. Made by `claim_run_dir` and `reopen_run_dir`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FolderLock(path)
        self.checkpoints = Checkpoints(path / CHECKPOINTS_FOLDER)

    def file(self, name: str) -> str:
        """Return the path of a file of the run."""
        return str(self.path / name)

    def begin(self, run: Run, model: keras.Model) -> None:
        """Write the files that are known before the first step."""
        replace_text(self.file(CONFIG_FILE), yaml.safe_dump(_plain(run.config), sort_keys=False))
        replace_text(self.file(ENVIRONMENT_FILE), json.dumps(_plain(run.environment), indent=2))
        run.save(self.path)
        self.save_model(model)

    def save_model(self, model: keras.Model) -> None:
        """Write the architecture of the model, without weights, if the model has a config."""
        try:
            replace_text(self.file(MODEL_FILE), model.to_json())
        except (TypeError, ValueError, NotImplementedError):
            # A subclassed model without get_config can be trained, but `kerash5 test --run` cannot
            # rebuild it.
            (self.path / MODEL_FILE).unlink(missing_ok=True)

    def save_weights(self, model: keras.Model, name: str) -> None:
        """Save the weights of a built model atomically; a failure leaves the old file unchanged.

        Raises:
            OSError: They cannot be written.
        """
        with _taken_as_built(model):
            write_weights(model, self.path / name)

    def link(self, name: str, other: str) -> None:
        """Link the current content of a file under another name, before the file is replaced."""
        self.remove(other)
        link(self.path / name, self.path / other)

    def replace(self, name: str, content: Path | None) -> None:
        """Replace a file by a copy of `content`; None deletes the file."""
        if content is None:
            self.remove(name)
            return
        copy(content, self.path / name)

    def remove(self, name: str) -> None:
        """Delete a file of the run, if it exists."""
        (self.path / name).unlink(missing_ok=True)

    def load_weights(self, model: keras.Model, name: str) -> None:
        """Load saved weights of this run into a built model.

        Raises:
            FileMissingError: The file does not exist.
            FileError: The weights do not fit the model.
        """
        if not (self.path / name).exists():
            best = self.path / BEST_WEIGHTS
            cure = f"model.load_weights({str(best)!r}) loads the best, or " if best.exists() else ""
            raise FileMissingError(
                f"the run in {str(self.path)!r} is finished, and {name!r}, the weights it ended "
                f"with, is no longer there; {cure}train again with resume=None"
            )
        try:
            with _taken_as_built(model):
                model.load_weights(self.path / name)
        except (OSError, ValueError, KeyError) as error:
            raise FileError(
                f"{self.file(name)!r} cannot be loaded ({error}); train again with resume=None"
            ) from error


def write_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of a built model to a file atomically.

    The file is built in memory, because HDF5 on a full disk crashes when the process exits.

    Args:
        model: The model.
        path: The file, which is replaced.

    Raises:
        OSError: The file cannot be written; an existing file is unchanged.
    """
    image = _Image()
    model.save_weights(image)
    with replacing(path) as stream:
        stream.write(image.getbuffer())


@final
class _Image(io.BytesIO):
    """The file in memory that Keras writes to; Keras checks the extension of its name."""

    def __str__(self) -> str:
        return "image.weights.h5"


@contextmanager
def _taken_as_built(model: keras.Model) -> Iterator[None]:
    """Let Keras save and load weights of a model without `call`, which it never marks as built."""
    was_built = model.built
    model.built = True
    try:
        yield
    finally:
        model.built = was_built


def unsaved(path: Path) -> FileError:
    """Return the error for a run none of whose weights could be saved."""
    return FileError(
        f"training has ended, but none of its weights could be saved in {str(path)!r} (the "
        "warnings say why); free space and call model.save_weights('last.weights.h5'), or train "
        "again with resume='auto', which goes on at the newest checkpoint"
    )


def wanted_path(asked: str | os.PathLike[str] | None, model_name: str) -> Path:
    """Return the requested folder of a run: `asked`, or runs/MODEL."""
    wanted = Path(asked if asked is not None else Path("runs") / model_name)
    return wanted if wanted.name else wanted.resolve()  # "." has no name to add a number to


def claim_run_dir(wanted: Path) -> RunDir:
    """Create and lock the folder of a new run.

    If the folder already contains a run, or another process trains in it, a number is added to the
    name.

    Raises:
        FileError: It cannot be made.
    """
    number, path = 1, wanted
    while True:
        run_dir = RunDir(make_folder(path))
        if run_dir.lock.try_acquire():
            if not (path / RUN_FILE).exists():
                return run_dir
            run_dir.lock.release()
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")


def make_folder(path: Path) -> Path:
    """Create a folder if it does not exist.

    Raises:
        FileError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"run_dir {str(path)!r} cannot be made ({error.strerror}); choose another folder"
        ) from error
    return path


def reopen_run_dir(path: Path) -> RunDir:
    """Open and lock the folder of a run to continue.

    Raises:
        RunError: Another process trains in it.
    """
    run_dir = RunDir(path)
    if not run_dir.lock.try_acquire():
        raise RunError(
            f"another process trains in {str(path)!r}; wait for it, or give another run_dir"
        )
    return run_dir


def _plain(value: Any) -> Any:  # noqa: ANN401  YAML and JSON, whatever they hold
    """Return a value as plain YAML and JSON values."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    # str of a str, too: YAML represents no subclass of it, such as what `describe` returns.
    return value if value is None or isinstance(value, bool | int | float) else str(value)
