"""The process that measures one backend, `python -m kerash5.measure`: job in, result out.

Reads a `Measurement` as JSON from stdin and writes one JSON object to stdout; output of libraries
goes to stderr. One process runs one job, so no job warms up another. `comparison/_compare` starts
the processes, and `comparison/_parity` compares their results.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import keras
import numpy as np

from kerash5 import zoo
from kerash5._errors import KerasH5Error, OptionError
from kerash5.comparison._measurement import Measurement
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._scale import settle_scale
from kerash5.h5 import Column, write
from kerash5.measure._policy import apply_policy, describe_policy, peak_device, peak_host
from kerash5.train._trainer import Trainer
from kerash5.train.checkpoints._run_dir import write_weights

PARITY_STEPS: Final = {"losses": 5, "adam": 10, "sgd": 64}
SGD_RATE: Final = 0.01
# In the first epoch Trainer chooses the number of steps per dispatch; in the second it compiles
# them.
WARM_UP_EPOCHS: Final = 2
KERAS_FIT: Final = "Keras' own fit"  # the engine of the plain setting
_PARENT_SECONDS: Final = 2.0


@final
class Clock(keras.callbacks.Callback):
    """Time epochs between their hooks, including the device. No batch hooks: they cost time."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[float] = []
        self.ended: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start."""
        self.began.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop the clock when the last step is done on the device."""
        keras.ops.convert_to_numpy(self.model.trainable_variables[-1])
        self.ended.append(time.perf_counter())


@dataclass(frozen=True, slots=True)
class Fitted:
    """Result of a fit: seconds until the first epoch, seconds and loss of each epoch, engine."""

    setup_seconds: float
    epoch_seconds: list[float]
    losses: list[float]
    engine: str


@final
class MeasurementContext:
    """Data and models of one job."""

    def __init__(self, job: Measurement) -> None:
        self.job = job
        if zoo.info(job.model).task != "classification":
            raise OptionError(
                f"the model {job.model!r} is no classifier, and only those are compared; choose "
                "another, such as 'convnet'"
            )
        first = H5Dataset(list(job.train), x=job.x, y=job.y, batch_size=job.batch_size)
        if not isinstance(first.input_shape, tuple) or first.num_classes is None:
            raise OptionError(
                f"column {job.y!r} has no class labels; name one that has, as the models need them"
            )
        self.row_shape = zoo.suited_shape(job.model, first.input_shape)
        self.num_classes = first.num_classes
        self._scratch = Path(tempfile.mkdtemp(dir=job.scratch))
        self._numbers = itertools.count()

    def open(self, paths: tuple[str, ...], **options: Any) -> H5Dataset:  # noqa: ANN401  theirs
        """Open files, with x in the shape that the model expects."""
        x = Column(self.job.x, shape=self.row_shape)
        common = {"batch_size": self.job.batch_size, "threads": self.job.reading_threads}
        return H5Dataset(list(paths), x=x, y=self.job.y, **{**common, **options})

    def train(self) -> H5Dataset:
        """Return the training data: full batches, in the order given by the seed."""
        rows = slice(0, self.job.num_steps * self.job.batch_size)
        seconds = self.job.sleep_seconds
        return self.open(
            self.job.train,
            rows=rows,
            seed=self.job.seed,
            drop_last=True,
            transform=_sleeper(seconds) if seconds else None,
        )

    def test(self) -> H5Dataset:
        """Return the data to evaluate on: the test files, or else the training rows."""
        if self.job.test:
            return self.open(self.job.test, shuffle=False)
        return self.open(self.job.train, rows=self.train().plan.rows_to_serve, shuffle=False)

    def repeated(self, batches: list[tuple[np.ndarray, np.ndarray]], steps: int) -> H5Dataset:
        """Return an epoch of `steps` steps that repeats these batches, cached in memory."""
        x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
        path = self._scratch / f"batches-{next(self._numbers)}.h5"
        write(path, x=x, y=y, compression=None)
        rows = np.tile(np.arange(len(x)), -(-steps // len(batches)))[: steps * self.job.batch_size]
        size = self.job.batch_size
        return H5Dataset(path, x="x", y="y", batch_size=size, rows=rows, shuffle=False, threads=0)

    def build(self, *, load: bool = True) -> keras.Model:
        """Build the model, with the common weights."""
        model = zoo.build(self.job.model, input_shape=self.row_shape, num_classes=self.num_classes)
        settle_scale(model, self.open(self.job.train, shuffle=False))
        if load:
            model.load_weights(self.job.weights)
        if self.job.weight_factor != 1:
            model.set_weights([weight * self.job.weight_factor for weight in model.get_weights()])
        return model

    def fit(self, setting: str, model: keras.Model, data: H5Dataset, epochs: int) -> Fitted:
        """Train with one of the two settings."""
        clock, called = Clock(), time.perf_counter()
        if setting == "plain":
            history = model.fit(data, epochs=epochs, verbose=0, callbacks=[clock]).history["loss"]
            pairs = zip(clock.began, clock.ended, strict=True)
            seconds, engine = [ended - began for began, ended in pairs], KERAS_FIT
        else:
            trainer = self._trainer(epochs, clock)
            run = trainer.fit(model, data)
            history, seconds = run.history["loss"], [epoch.seconds for epoch in run.epochs]
            engine = run.engine
        losses = [float(loss) for loss in history]
        return Fitted(clock.began[0] - called, seconds, losses, engine)

    def predict(self, setting: str, model: keras.Model, data: H5Dataset) -> np.ndarray:
        """Return the model's predictions for the first batch of `data`."""
        if setting == "plain":
            answers = model.predict_on_batch(data.read(0)[0])
        else:
            answers = self._trainer(1).predict(model, data)
        return np.asarray(answers, dtype=np.float64)[: self.job.batch_size]

    def _trainer(self, epochs: int, *callbacks: keras.callbacks.Callback) -> Trainer:
        return Trainer(
            max_epochs=epochs,
            run_dir=self._scratch / "run",
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def measure_sample(context: MeasurementContext) -> dict[str, Any]:
    """Time epochs from the file, and the same epochs on one batch in memory.

    Returns:
        The measured fields of `comparison._results.Sample`.
    """
    job = context.job
    (setting,) = job.settings
    train, test = context.train(), context.test()
    began = time.perf_counter()
    model = context.build()
    build_seconds = time.perf_counter() - began
    one = context.repeated([train.read(0)], 1)
    first = context.fit(setting, model, one, 1)
    load_before = _load()
    fitted = context.fit(setting, model, train, WARM_UP_EPOCHS + job.num_epochs)
    load_after = _load()
    host, device = peak_host(), peak_device()
    final = model.evaluate(test, verbose=0, return_dict=True)
    # Last, because it changes the weights; with its own warm-up, because it may be traced again.
    repeated = context.repeated([train.read(0)], job.num_steps)
    cached = context.fit(setting, model, repeated, WARM_UP_EPOCHS + 2)
    return {
        "num_steps": len(train),
        "num_rows": len(train) * job.batch_size,
        "epoch_seconds": fitted.epoch_seconds,
        "warm_up_epochs": WARM_UP_EPOCHS,
        "cached_epoch_seconds": cached.epoch_seconds[WARM_UP_EPOCHS:],
        "build_seconds": build_seconds,
        "first_step_seconds": first.setup_seconds + first.epoch_seconds[0],
        "peak_host_bytes": host[0],
        "peak_host_counter": host[1],
        "peak_device_bytes": device[0],
        "peak_device_counter": device[1],
        "epoch_losses": fitted.losses,
        "final_loss": float(final["loss"]),
        "final_accuracy": float(final["accuracy"]),
        "evaluated_on": "test" if job.test else "train",
        "engine": fitted.engine,
        "load_before": load_before,
        "load_after": load_after,
    }


def measure_parity(context: MeasurementContext) -> dict[str, Any]:
    """Compute the numbers of the parity check: outputs, and losses of the first steps.

    Returns:
        Maps each setting to `forward` (rows, classes) and, by name of the check, to losses: one per
        step with model.fit, their mean with Trainer, which reports only that.
    """
    train = context.train()
    batches = [train.read(step) for step in range(max(PARITY_STEPS.values()))]
    found: dict[str, Any] = {}
    for setting in context.job.settings:
        data = context.repeated(batches[:1], 1)
        answers = context.predict(setting, context.build(), data)
        losses = {
            name: _losses(context, setting, name, batches[:steps])
            for name, steps in PARITY_STEPS.items()
        }
        found[setting] = {"forward": answers.tolist(), **losses}
    return found


def make_weights(context: MeasurementContext) -> dict[str, Any]:
    """Write initial weights that no backend draws: Glorot uniform kernels, drawn by NumPy."""
    model = context.build(load=False)
    random = np.random.default_rng(context.job.seed)
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(_glorot(random, tuple(variable.shape)))
    write_weights(model, Path(context.job.weights))  # atomic, because later runs reuse it
    return {"num_parameters": model.count_params()}


def _glorot(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    field = int(np.prod(shape[:-2]))  # pixels of a convolution; 1 for a dense layer
    limit = np.sqrt(6 / (field * (shape[-2] + shape[-1])))
    return random.uniform(-limit, limit, shape).astype(np.float32)


def _losses(
    context: MeasurementContext,
    setting: str,
    name: str,
    batches: list[tuple[np.ndarray, np.ndarray]],
) -> list[float]:
    model = context.build()
    if name == "sgd":
        model.compile(optimizer=keras.optimizers.SGD(SGD_RATE), loss=model.loss)
    if setting == "plain":
        return [_step(model, x, y) for x, y in batches]
    return context.fit(setting, model, context.repeated(batches, len(batches)), 1).losses


def _step(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Train on a batch; return its loss."""
    model.reset_metrics()  # newer versions of Keras do this on every backend
    return float(model.train_on_batch(x, y, return_dict=True)["loss"])


def _sleeper(seconds: float) -> Callable[..., Any]:
    def sleep(x: Any, y: Any) -> tuple[Any, Any]:  # noqa: ANN401  a batch
        time.sleep(seconds)
        return x, y

    return sleep


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


_JOBS: Final[dict[str, Callable[[MeasurementContext], dict[str, Any]]]] = {
    "weights": make_weights,
    "parity": measure_parity,
    "sample": measure_sample,
}


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, because its result is then useless.

    A runner that is killed cannot end its children itself.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


def main() -> None:
    """Run the job on stdin."""
    job = Measurement.from_json(sys.stdin.read())
    import_seconds = time.time() - job.began
    if job.parent:
        threading.Thread(target=_end_with, args=(job.parent,), daemon=True).start()
    result_file = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    apply_policy(threads=job.threads, tf32=job.tf32, precision=job.precision)
    try:
        result = _JOBS[job.job](MeasurementContext(job))
    except KerasH5Error as error:  # the runner shows its message; other errors show a traceback
        result = {"error": str(error), "kind": type(error).__name__}
    with result_file:
        json.dump(
            {"import_seconds": import_seconds, "environment": describe_policy(), **result},
            result_file,
        )
