"""The trainer against Keras' own `fit`: the same model on the same batches, both ways.

A is `model.fit` on arrays, B is `Trainer.fit` on a file. Compared are the weights, the other state
of the model, the state of its optimizers and every metric of every epoch. B is also stopped in the
middle and resumed, which must give the bits of B that was not.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import keras
import numpy as np
from numpy.typing import NDArray

import kerash5 as k5
from tests.backend.differential.kind import Kind, Variant
from tests.backend.differential.parts import kinds_of_parts, walk
from tests.backend.differential.rows import (
    NUM_ROWS,
    TRAINING,
    VALIDATION,
    pick,
    row_file,
    scratch_folder,
)

Verdict = Literal["equal", "slower", "refused", "different", "crashed", "fit fails"]
Epochs = list[dict[str, NDArray[Any]]]

_WEIGHTS_SEED: Final = 3
_FIT_SEED: Final = 7
_QUIET: Final = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
# How an engine says that it runs Keras' step in a faster way.
_FAST: Final = re.compile(r"\b(recorded|captured|compiled) steps|steps per call of one graph")


@dataclass(frozen=True)
class Trained:
    """What training left behind.

    Args:
        state: Every variable of the model and of its optimizers, by group, number and path.
        epochs: The metrics of each epoch; the learning rate is left out.
        engine: Which engine ran, in its own words; "" for `fit`.
        parts: Paths of the classes and functions of all parts, on PyTorch.
    """

    state: dict[str, NDArray[Any]]
    epochs: Epochs
    engine: str = ""
    parts: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """What came of one kind, run in one way.

    Args:
        kind: Its name.
        subject: The module that it is in.
        backend: jax, tensorflow or torch.
        variant: How the trainer ran the steps; "resumed" is compared with the trainer itself.
        verdict: "slower" is equal by Keras' own step; "fit fails" says nothing about the trainer.
        engine: Which engine ran, and why not a faster one.
        reason: Why it was refused, crashed or failed.
        differences: The largest relative differences, by what differs.
        noise: The largest difference between `fit` and `fit`; only measured where there is one.
        seconds: Of the processor, which other work on the machine does not change.
        parts: Paths of the classes and functions of all parts, on PyTorch.
    """

    kind: str
    subject: str
    backend: str
    variant: str
    verdict: Verdict
    engine: str = ""
    reason: str = ""
    differences: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.0
    seconds: float = 0.0
    parts: Sequence[str] = ()

    def __str__(self) -> str:
        worst = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        said = " | ".join(text for text in (worst, self.reason, self.engine) if text)
        where = f"{self.subject}: {self.kind} [{self.variant}]"
        return f"{self.verdict:9} {self.seconds:5.1f}s {where}  {said}"


# Training.


def train_by_fit(kind: Kind) -> Trained:
    """Train by `model.fit` on arrays."""
    model = _build(kind)
    epochs: Epochs = []

    def fit(count: int) -> None:
        keras.utils.set_random_seed(_FIT_SEED)
        options: dict[str, Any] = {
            **kind.fit_options,
            "epochs": count,
            "callbacks": list(kind.callbacks()),
            "verbose": 0,
        }
        history = model.fit(**_arrays(kind), **options).history
        epochs.extend(_epochs_of(history))

    _drive(kind, model, fit)
    return Trained(_state(model), epochs)


def train_by_trainer(
    kind: Kind,
    variant: Variant,
    *,
    run_dir: Path | None = None,
    resume: str | None = None,
    max_steps: int | None = None,
) -> Trained:
    """Train by `Trainer.fit` on the file.

    Args:
        kind: What to train.
        variant: How to run the steps.
        run_dir: The folder for its checkpoints; None for none.
        resume: As in `Trainer.fit`.
        max_steps: As in `Trainer`.
    """
    model = _build(kind)
    runs: list[k5.Run] = []

    def fit(count: int) -> None:
        keras.utils.set_random_seed(_FIT_SEED)
        options = {**_QUIET, **variant.options, **kind.trainer_options}
        trainer = k5.Trainer(
            max_epochs=count,
            max_steps=max_steps,
            run_dir=run_dir or _new_folder(),
            enable_checkpointing=run_dir is not None,
            callbacks=list(kind.callbacks()),
            **options,
        )
        runs.append(trainer.fit(model, _data(kind), resume=resume, **kind.fit_options))

    _drive(kind, model, fit)
    epochs = [_plain(epoch.metrics) for run in runs for epoch in run.epochs]
    return Trained(_state(model), epochs, runs[-1].engine, kinds_of_parts(model))


def _build(kind: Kind) -> keras.Model:
    keras.backend.clear_session()
    keras.utils.set_random_seed(_WEIGHTS_SEED)
    return kind.build()


def _drive(kind: Kind, model: keras.Model, fit: Any) -> None:
    if kind.drive is None:
        fit(kind.epochs)
    else:
        kind.drive(model, fit)


def _arrays(kind: Kind) -> dict[str, Any]:
    rows = TRAINING if kind.is_validated else slice(None)
    names = (kind.x, kind.y, kind.sample_weight)
    x, y, weight = (pick(name, rows) for name in names)
    if kind.transform is not None:
        x, y = kind.transform(x, y)
    held: dict[str, Any] = {}
    if kind.is_validated:
        held["validation_data"] = tuple(
            pick(name, VALIDATION) for name in names if name is not None
        )
        held["validation_batch_size"] = kind.batch_size
    held |= {"batch_size": kind.batch_size, "shuffle": False}
    return {"x": x, "y": y, "sample_weight": weight, **held}


def _data(kind: Kind) -> k5.H5Dataset | k5.H5DataModule:
    columns = {"x": kind.x, "y": kind.y, "sample_weight": kind.sample_weight}
    options: dict[str, Any] = {**columns, "batch_size": kind.batch_size, "shuffle": False}
    if kind.transform is not None:
        options["transform"] = kind.transform
    if kind.is_validated:
        return k5.H5DataModule(row_file(), validation_split=VALIDATION, **options)
    return k5.H5Dataset(row_file(), **options)


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(dir=scratch_folder())) / "run"


def _state(model: keras.Model) -> dict[str, NDArray[Any]]:
    held = {"model": model.variables}
    optimizers = [part for part in walk(model) if isinstance(part, keras.optimizers.Optimizer)]
    for number, optimizer in enumerate(optimizers):
        held[f"optimizer {number}"] = optimizer.variables
    return {
        f"{group} {number} {variable.path}": _array(variable)
        for group, variables in held.items()
        for number, variable in enumerate(variables)
    }


def _array(value: Any) -> NDArray[Any]:
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.astype(np.float64) if array.dtype.kind in "fV" else array.copy()


def _epochs_of(history: Mapping[str, list[Any]]) -> Epochs:
    longest = max((len(values) for values in history.values()), default=0)
    return [
        _plain({name: values[n] for name, values in history.items() if n < len(values)})
        for n in range(longest)
    ]


def _plain(metrics: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):  # as Keras' history has it: by the inner names
            found.update(_plain(value))
        elif name != "learning_rate":
            found[name] = np.asarray(value, np.float64)
    return found


# Comparing.


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest value; infinite where none can be."""
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    if not a.size or np.array_equal(a, b, equal_nan=True):
        return 0.0
    scale = max(float(np.nanmax(np.abs(a))), 1e-3)
    found = float(np.nanmax(np.abs(a.astype(np.float64) - b)) / scale)
    return float("inf") if np.isnan(found) else found


def compare(a: Trained, b: Trained, *, above: float = 0.0) -> dict[str, float]:
    """Return the differences that are larger than `above`, largest first."""
    found: dict[str, float] = {}
    if len(a.state) != len(b.state):
        found[f"{len(a.state)} variables, {len(b.state)}"] = float("inf")
    else:  # by position: TensorFlow's scopes give some slots of Keras other paths
        for (path, mine), other in zip(a.state.items(), b.state.values(), strict=True):
            found[path] = difference(mine, other)
    if len(a.epochs) != len(b.epochs):
        found[f"{len(a.epochs)} epochs, {len(b.epochs)}"] = float("inf")
    for number, (logs, told) in enumerate(zip(a.epochs, b.epochs, strict=False)):
        for name in logs.keys() ^ told.keys():
            found[f"{name} is missing in epoch {number}"] = float("inf")
        for name in logs.keys() & told.keys():
            found[f"{name} of epoch {number}"] = difference(logs[name], told[name])
    worst = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return {name: value for name, value in worst if value > above}


# Judging.


def run_kind(
    kind: Kind, variant: Variant, *, subject: str = "", is_resumed: bool = False
) -> list[Result]:
    """Train a kind both ways and compare; optionally also stopped and resumed."""
    about: dict[str, Any] = {
        "kind": kind.name,
        "subject": subject,
        "backend": keras.backend.backend(),
    }
    began = time.process_time()
    with _quiet():
        result, whole = _judge(kind, variant, about, keeps=is_resumed)
        results = [_timed(result, began)]
        if is_resumed and whole is not None:
            began = time.process_time()
            results.append(_timed(_judge_resumed(kind, variant, about, whole), began))
    return results


def is_fast(engine: str) -> bool:
    """Say whether an engine's own words mean that it did not run Keras' step as it is."""
    return _FAST.search(engine) is not None


def _judge(
    kind: Kind, variant: Variant, about: dict[str, Any], *, keeps: bool
) -> tuple[Result, Trained | None]:
    way: dict[str, Any] = {**about, "variant": str(variant)}
    try:
        a = train_by_fit(kind)
    except Exception as error:  # noqa: BLE001  any kind may fail in any way
        return Result(**way, verdict="fit fails", reason=_words(error)), None
    try:
        b = train_by_trainer(kind, variant, run_dir=_new_folder() if keeps else None)
    except Exception as error:  # noqa: BLE001  the same
        return Result(**way, verdict=_failure(error), reason=_words(error)), None
    found, noise = compare(a, b, above=kind.tolerance), 0.0
    if found:
        noise = max(compare(a, train_by_fit(kind)).values(), default=0.0)
        found = compare(a, b, above=kind.tolerance + 10 * noise)
    told: dict[str, Any] = {
        "engine": b.engine,
        "differences": _first(found),
        "noise": noise,
        "parts": b.parts,
    }
    same: Verdict = "equal" if is_fast(b.engine) else "slower"
    return Result(**way, verdict="different" if found else same, **told), b


def _judge_resumed(kind: Kind, variant: Variant, about: dict[str, Any], whole: Trained) -> Result:
    way: dict[str, Any] = {**about, "variant": f"resumed, {variant}"}
    folder = _new_folder()
    try:
        train_by_trainer(kind, variant, run_dir=folder, max_steps=_middle(kind))
        b = train_by_trainer(kind, variant, run_dir=folder, resume="auto")
    except Exception as error:  # noqa: BLE001  any kind may fail in any way
        return Result(**way, verdict=_failure(error), reason=_words(error))
    found = compare(whole, b)
    same: Verdict = "equal" if is_fast(b.engine) else "slower"
    told: dict[str, Any] = {"engine": b.engine, "differences": _first(found)}
    return Result(**way, verdict="different" if found else same, **told)


def _middle(kind: Kind) -> int:
    rows = TRAINING.stop if kind.is_validated else NUM_ROWS
    return -(-rows // kind.batch_size) * kind.epochs // 2


def _failure(error: Exception) -> Verdict:
    return "refused" if isinstance(error, k5.KerasH5Error) else "crashed"


def _first(found: Mapping[str, float], count: int = 4) -> dict[str, float]:
    return dict(list(found.items())[:count])


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _timed(result: Result, began: float) -> Result:
    return replace(result, seconds=round(time.process_time() - began, 2))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Keras and the frameworks warn of and print out of the results."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
