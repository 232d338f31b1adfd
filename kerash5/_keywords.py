"""Keyword arguments from an options dataclass, and errors for unknown keywords.

`takes` gives a constructor the fields of a dataclass as its keywords, so that an option is declared
once. `names_keywords` raises an `OptionError` for an unknown keyword. Its message names the right
one: the new name of a renamed option, the name of another library's option in kerash5, or the
nearest name.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from kerash5._errors import OptionError

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
C = TypeVar("C")

_NAMED_KINDS: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

_ONE_DEVICE: Final = "a Trainer trains in one process, on the devices that Keras uses there"
# Keywords of Lightning, Keras and earlier versions, and their equivalents.
TRAINER_WORDS: Final[Mapping[str, str]] = {
    # renamed
    "ema": "it is now ema_momentum=",
    "profile": "it is now profiler=",
    "checkpoint_every_steps": "it is now every_n_train_steps=",
    "checkpoint_every": "it is now train_time_interval=",
    # Lightning
    "accelerator": f"{_ONE_DEVICE}; choose it in the environment, as with CUDA_VISIBLE_DEVICES",
    "devices": _ONE_DEVICE,
    "gpus": _ONE_DEVICE,
    "num_nodes": _ONE_DEVICE,
    "strategy": _ONE_DEVICE,
    "sync_batchnorm": _ONE_DEVICE,
    "default_root_dir": "the folder of a run is run_dir=",
    "checkpoint_callback": "checkpoints are enable_checkpointing=, save_top_k= and "
    "every_n_train_steps=",
    "limit_predict_batches": "give predict an H5Dataset(..., rows=slice(0, n))",
    "detect_anomaly": "a loss that becomes NaN or infinite ends the run with the step and its rows",
    "benchmark": "kerash5.compare measures backends, and steps_per_dispatch='auto' the steps",
    "reload_dataloaders_every_n_epochs": "each epoch is shuffled anew already",
    "inference_mode": "validate, test and predict compute no gradients",
    "use_distributed_sampler": f"{_ONE_DEVICE}; H5Dataset(shard=) reads one process's share",
    "barebones": "enable_checkpointing=, enable_progress_bar=, enable_model_summary= and logger= "
    "switch parts off",
    "plugins": "the precision is precision=, other plugins have no equivalent",
    "enable_autolog_hparams": "the options of a run are written to its config.yaml",
    "model_registry": "the model of a run is loaded by kerash5.load_model(run_dir)",
    "ckpt_path": "it is an argument of fit: resume=",
    # Keras
    "epochs": "it is max_epochs=",
    "patience": "it is early_stopping=, a number of epochs",
    "verbose": "it is enable_progress_bar=",
    "validation_freq": "it is check_val_every_n_epoch=",
    "steps_per_epoch": "it is limit_train_batches=",
    "validation_steps": "it is limit_val_batches=",
    "class_weight": "it is an argument of fit: Trainer.fit(..., class_weight=)",
    "batch_size": "it is an option of the data: H5DataModule(..., batch_size=)",
    "validation_split": "it is an option of the data: H5DataModule(..., validation_split=)",
    "seed": "the order's is H5DataModule(..., seed=), and the weights' keras.utils.set_random_seed",
}
FIT_WORDS: Final[Mapping[str, str]] = {
    "datamodule": "the data module is the second argument: fit(model, data)",
    "train_dataloaders": "the data set is the second argument: fit(model, train, validation)",
    "train_dataloader": "the data set is the second argument: fit(model, train, validation)",
    "val_dataloaders": "the data to validate on is the third argument: fit(model, train, "
    "validation)",
    "validation_data": "the data to validate on is the third argument: fit(model, train, "
    "validation)",
    "ckpt_path": "it is resume=",
    "epochs": "it is an option of the trainer: Trainer(max_epochs=)",
    "callbacks": "it is an option of the trainer: Trainer(callbacks=)",
    "verbose": "it is an option of the trainer: Trainer(enable_progress_bar=)",
    "batch_size": "it is an option of the data: H5DataModule(..., batch_size=)",
    "validation_split": "it is an option of the data: H5DataModule(..., validation_split=)",
    "initial_epoch": "resume= goes on with a run where it was stopped",
    "steps_per_epoch": "it is an option of the trainer: Trainer(limit_train_batches=)",
    "shuffle": "it is an option of the data: H5DataModule(..., shuffle=)",
}
DATA_WORDS: Final[Mapping[str, str]] = {
    "validation": "rows of the training file are validation_split=, other data validation_data=",
    "val": "rows of the training file are validation_split=, other data validation_data=",
    "val_split": "it is validation_split=",
    "num_workers": "it is threads=, the number of reading threads",
    "workers": "it is threads=, the number of reading threads",
    "pin_memory": "batches are NumPy arrays; device_cache= of the Trainer keeps rows on the device",
    "collate_fn": "it is transform=, which gets whole batches",
    "label": "it is y=",
    "target": "it is y=",
    "classes_of": "validation and test rows get the classes of the training rows by themselves",
}
DATASET_WORDS: Final[Mapping[str, str]] = {
    "validation_split": "split the data set: train, held_out = H5Dataset(...).split(0.2)",
    "num_workers": "it is threads=, the number of reading threads",
    "pin_memory": "batches are NumPy arrays",
    "collate_fn": "it is transform=, which gets whole batches",
    "label": "it is y=",
    "target": "it is y=",
}


def names_keywords(
    owner: str, cures: Mapping[str, str] | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that raises `OptionError` for keywords which a function does not take.

    Args:
        owner: Name of the function in messages.
        cures: Keywords of other libraries (or of earlier versions), and what to write instead.

    Raises:
        OptionError: Raised by the decorated function instead of Python's `TypeError`.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        parameters = inspect.signature(function).parameters.values()
        known = [each.name for each in parameters if each.kind in _NAMED_KINDS]

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            check_keywords(owner, kwargs, known, cures or {})
            return function(*args, **kwargs)

        return checked

    return decorate


def takes(
    options: Callable[P, T], owner: str, cures: Mapping[str, str] | None = None
) -> Callable[[Callable[[S, T], None]], Callable[Concatenate[S, P], None]]:
    """Return a decorator for a constructor whose arguments are the fields of a dataclass.

    The constructor receives the dataclass; callers, editors and `help()` see its fields.

    Args:
        options: The dataclass.
        owner: Name of the class in messages.
        cures: As in `names_keywords`.
    """
    fields = list(inspect.signature(options).parameters.values())
    known = [each.name for each in fields]

    def decorate(init: Callable[[S, T], None]) -> Callable[Concatenate[S, P], None]:
        @functools.wraps(init)
        def constructor(self: S, *args: P.args, **kwargs: P.kwargs) -> None:
            check_keywords(owner, kwargs, known, cures or {})
            init(self, options(*args, **kwargs))

        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        vars(constructor)["__signature__"] = inspect.Signature([own, *fields])
        return cast("Callable[Concatenate[S, P], None]", constructor)

    return decorate


def documents(options: type) -> Callable[[type[C]], type[C]]:
    """Return a class decorator that puts the "Args" of a dataclass into the docstring of a class.

    They are inserted before its first section: attributes, errors, examples.

    Args:
        options: The dataclass whose docstring has the "Args" section.
    """
    arguments = re.search(r"^Args:\n.*\Z", inspect.getdoc(options) or "", re.DOTALL | re.MULTILINE)

    def decorate(cls: type[C]) -> type[C]:
        text = inspect.getdoc(cls) or ""
        section = re.search(r"^[A-Z][a-z]+:\n", text, re.MULTILINE)
        place = section.start() if section else len(text)
        found = arguments.group() if arguments else ""
        cls.__doc__ = f"{text[:place].rstrip()}\n\n{found}\n\n{text[place:]}"
        return cls

    return decorate


def check_keywords(
    owner: str, given: Mapping[str, Any], known: list[str], cures: Mapping[str, str]
) -> None:
    """Raise `OptionError` for the first unknown keyword.

    Args:
        owner: Name of the function or class in messages.
        given: The keywords and their values.
        known: All valid keywords.
        cures: Some invalid keywords, and what to write instead.
    """
    for name in given:
        if name in known:
            continue
        if name in cures:
            raise OptionError(f"{owner} has no option {name!r}: {cures[name]}")
        raise OptionError(f"{owner} has no option {name!r}{suggest(name, known)}")


def suggest(name: str, known: list[str]) -> str:
    """Return the end of a sentence that names the nearest options, or else all of them."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; it takes {', '.join(known)}"
