"""Is training through kerash5 as fast as a loop written by hand in JAX, TensorFlow or PyTorch?

    python benchmarks/training_loop.py --python jax=PATH --python torch=PATH [--rounds 5]

Three models: a tiny MLP (20-32-32-10, batch 32), where all is overhead, an MLP (784-128-64-10,
batch 32), and the tutorial's ConvNet (batch 50). Ways, done in turns within one process per
backend: the loop by hand, one dispatch per step (`_native_loops`), also with the framework's fused
Adam where it has one; `model.fit` from NumPy arrays in memory; the engine alone, on the batches the
loop by hand gets; and `Trainer.fit` from HDF5. Of `fit` the
last of two epochs counts, of `Trainer.fit` the last of three, so that neither compiling nor
starting does. Each --python names the Python of an environment with that backend. All ways run on
--threads threads, one unless told otherwise: with more, those of PyTorch wait for each other where
a core is busy, and nothing else is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from _harness import Outcome, ResultFile, installed_versions, set_threads, spread, take_turns
from _native_loops import jax_loop, shapes_of, tensorflow_loop, torch_loop, values_of

PACKAGES: Final = ("kerash5", "keras", "numpy", "jax", "tensorflow-cpu", "torch", "h5py")
BY_HAND, FUSED, FIT, ENGINE, TRAINER = (
    "by hand",
    "by hand, fused Adam",
    "model.fit, NumPy",
    "engine, NumPy",
    "Trainer.fit, HDF5",
)
TARGETS: Final = {  # of the engine, as a share of the loop by hand
    "tiny MLP": {"jax": 1.5, "tensorflow": 1.2, "torch": 0.8},
    "MLP": {"jax": 1.0, "tensorflow": 1.0, "torch": 0.9},
    "ConvNet": {"jax": 1.0, "tensorflow": 1.0, "torch": 1.0},
}


@dataclass(frozen=True)
class Job:
    """A model and how much of it is trained in a round."""

    name: str
    shape: tuple[int, ...]  # of a row, uint8
    batch_size: int
    num_steps: int
    hidden: tuple[int, ...] = ()  # of an MLP


JOBS: Final = (
    Job("tiny MLP", (20,), 32, 2000, (32, 32)),
    Job("MLP", (784,), 32, 1000, (128, 64)),
    Job("ConvNet", (28, 28, 1), 50, 20),
)


def main() -> None:
    """Measure each backend in a process of its own, write the results, and judge."""
    options = parse()
    if options.child:
        measure(options.child, options.rounds, options.threads, options.models)
        return
    settings = {"rounds": options.rounds, "threads": options.threads}
    pythons = dict(each.split("=", 1) for each in options.python)
    file = None
    for backend, python in pythons.items():
        for line in run_child(backend, python, options):
            if "versions" in line:
                versions = {**(file.about["versions"] if file else {}), **line["versions"]}
                file = file or ResultFile.begin(
                    "training_loop", settings={**settings, "versions": versions}, out=options.out
                )
                dict.update(file.about["versions"], versions)
                continue
            assert file is not None  # noqa: S101  the first line is that of the versions
            outcome = Outcome(**line)
            file.add(outcome)
            print(say(outcome), flush=True)
    if file is not None:
        rewrite_head(file)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", default=[], metavar="BACKEND=PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", default=[job.name for job in JOBS])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_child(backend: str, python: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what the process of a backend says: first its versions, then outcomes."""
    threads = str(options.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env |= dict.fromkeys((*names, "TF_NUM_INTEROP_THREADS"), threads)
    command = [python, __file__, "--child", backend, "--rounds", str(options.rounds)]
    command += ["--threads", threads, "--models", *options.models]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
    if child.returncode:
        sys.exit(f"the process of {backend} failed")


def rewrite_head(file: ResultFile) -> None:
    """Write the first line anew, with the versions of all processes."""
    _, *lines = file.path.read_text(encoding="utf-8").splitlines()
    file.path.write_text("\n".join([json.dumps(file.about), *lines]) + "\n", encoding="utf-8")


def say(outcome: Outcome) -> str:
    """Return an outcome as a line, with its target."""
    backend, _, model = outcome.case.partition(", ")
    shares = spread(outcome.shares or [1.0])
    text = f"{outcome.case}, {outcome.way}: {shares.median:.2f} of by hand"
    text += f" ({shares.low:.2f} to {shares.high:.2f}), {spread(outcome.values).median:.0f} rows/s"
    wanted = TARGETS.get(model, {}).get(backend)
    if outcome.way != ENGINE or wanted is None:
        return text
    return f"{text}; {'met' if shares.median >= wanted else 'MISSED'}, wanted {wanted}"


# In the process of a backend


def measure(backend: str, rounds: int, threads: int, models: Sequence[str]) -> None:
    """Measure all models on this backend, and print each outcome as JSON."""
    set_threads(backend, threads)
    print(json.dumps({"versions": installed_versions(PACKAGES)}), flush=True)
    for job in JOBS:
        if job.name in models:
            for outcome in measure_job(backend, job, rounds):
                print(json.dumps(asdict(outcome)), flush=True)


def measure_job(backend: str, job: Job, rounds: int) -> Iterator[Outcome]:
    """Yield the outcomes of all ways, as shares of the loop by hand."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (job.num_steps * job.batch_size, *job.shape), dtype=np.uint8)
    labels = rng.integers(0, 10, len(rows))
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(backend, job, rows, labels, Path(folder))
        for found in take_turns(ways, rounds=rounds, warm_up=1):
            for way, each in found.items():
                seconds.setdefault(way, []).append(each)
    case = f"{backend}, {job.name}"
    outcomes = {
        way: Outcome(case=case, way=way, unit="rows/s", values=[len(rows) / s for s in each])
        for way, each in seconds.items()
    }
    yield outcomes[BY_HAND]
    for way, outcome in outcomes.items():
        if way != BY_HAND:
            yield outcome.compared(outcomes[BY_HAND])


def ways_of(
    backend: str, job: Job, rows: Any, labels: Any, folder: Path
) -> dict[str, Callable[[], float]]:
    """Return the ways, each a function that trains one epoch and returns its seconds."""
    size = job.batch_size
    starts = range(0, len(rows), size)
    batches = [(rows[start : start + size], labels[start : start + size]) for start in starts]
    is_convnet = not job.hidden
    values = values_of(shapes_of((*job.shape, *job.hidden, 10), is_convnet=is_convnet))

    def timed(run: Callable[[Any], None]) -> Callable[[], float]:
        def once() -> float:
            began = time.perf_counter()
            run(batches)
            return time.perf_counter() - began

        return once

    ways: dict[str, Callable[[], float]] = {}
    if backend == "jax":
        ways[BY_HAND] = timed(jax_loop(values, is_convnet=is_convnet))
    else:
        make = tensorflow_loop if backend == "tensorflow" else torch_loop
        ways[BY_HAND] = timed(make(values, is_fused=False))
        ways[FUSED] = timed(make(values, is_fused=True))
    ways[FIT] = fit_way(job, rows, labels)
    ways[ENGINE] = timed(engine_run(job))
    ways[TRAINER] = trainer_way(job, rows, labels, folder)
    return ways


def build(job: Job) -> Any:
    """Return the compiled model of a job."""
    from kerash5 import zoo

    options: dict[str, Any] = {"hidden": job.hidden} if job.hidden else {}
    name = "mlp" if job.hidden else "convnet"
    return zoo.build(name, input_shape=job.shape, num_classes=10, **options)


def engine_run(job: Job) -> Callable[[Any], None]:
    """Return a function that trains on batches through the engine."""
    from kerash5.train.engines import make_engine

    engine = make_engine(build(job))
    engine.begin()

    def run(batches: Any) -> None:
        start = 0
        while start < len(batches):
            group = batches[start : start + engine.steps_per_dispatch]
            engine.train(group)
            start += len(group)
        engine.metrics()
        engine.reset_metrics()

    return run


def fit_way(job: Job, rows: Any, labels: Any) -> Callable[[], float]:
    """Return a function that fits NumPy arrays for two epochs and returns the second's seconds."""
    import keras

    times: list[float] = []

    def note(*_: object) -> None:
        times.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(on_epoch_begin=note, on_epoch_end=note)
    model = build(job)

    def once() -> float:
        model.fit(rows, labels, batch_size=job.batch_size, epochs=2, verbose=0, callbacks=[clock])
        return times[-1] - times[-2]

    return once


def trainer_way(job: Job, rows: Any, labels: Any, folder: Path) -> Callable[[], float]:
    """Return a function that fits a file for three epochs and returns the last one's seconds."""
    import kerash5 as k5

    path = folder / "rows.h5"
    k5.write(path, x=rows, y=labels)
    data = k5.H5Dataset(path, x="x", y="y", batch_size=job.batch_size)
    model = build(job)

    def once() -> float:
        trainer = k5.Trainer(
            max_epochs=3,
            run_dir=folder / "run",
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return float(trainer.fit(model, data).epochs[-1].seconds)

    return once


if __name__ == "__main__":
    main()
