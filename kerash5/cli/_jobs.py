"""The jobs of the command line, each a few calls of the public API.

Keras is imported after a backend is chosen. A job prints its result to stdout; progress goes to
stderr.
"""

# ruff: noqa: T201 a job prints its result

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import yaml
from rich.console import Console

from kerash5._backends import (
    choose_backend,
    environment,
    installed_backends,
    use_backend,
    versions,
)
from kerash5._errors import (
    DamagedFileError,
    OptionError,
    escape_controls,
)
from kerash5._options import (
    ColumnOption,
    DataOptions,
    ModelOptions,
    TrainerOptions,
)
from kerash5._run import Metrics, Run, describe_metrics
from kerash5._run_data import read_data_options
from kerash5.assets import digits_test, digits_train
from kerash5.benchmark import bench, reading_table, reading_verdict
from kerash5.cli._recipe import count_decay_steps, with_recipe
from kerash5.comparison._machine import find_machine
from kerash5.feeds._served import served_by
from kerash5.h5 import Column, describe
from kerash5.h5._look import look_at
from kerash5.h5._verify import verify_each
from kerash5.h5.storage._file import find_files

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset
    from kerash5.train import H5DataModule
    from kerash5.train._build import Model

_GRID: Final = 50  # test images in the demo's picture
# Packages that decode chunks or belong to a backend: a bug may be theirs, but env.json lacks them.
_ALSO_REPORTED: Final = ("jaxlib", "imagecodecs", "hdf5plugin")
_REPORT_ORDER: Final = (
    *("backends", "python", "platform", "processor", "cores", "memory", "gpus", "hdf5"),
    *("commit", "versions", "settings"),
)


def run_fit(
    data: DataOptions,
    model: ModelOptions,
    trainer: TrainerOptions,
    *,
    backend: str | None = None,
    seed: int = 0,
    resume: str | None = None,
) -> Run:
    """Train, test if there is a test file, and print the results.

    Args:
        data: The data options.
        model: The model options.
        trainer: The trainer options.
        backend: The backend; None uses the environment's, as in `choose_backend`.
        seed: Seed of the initial weights.
        resume: As in `Trainer.fit`.

    Raises:
        KerasH5Error: An option, a file or the model is wrong; the message is one sentence.
    """
    chosen = use_backend(backend)
    if trainer.deterministic and chosen == "jax":
        from kerash5.train._determinism import prepare_deterministic_jax

        prepare_deterministic_jax()
    data, trainer = with_recipe(data, model, trainer)
    module, network = prepare(data, model, trainer, seed, is_training=True)
    return _fit_and_test(module, network, model, trainer, seed=seed, resume=resume)


def run_demo(
    *, backend: str | None = None, run_dir: str = "runs/demo", rows: int = 2000, max_epochs: int = 3
) -> Run:
    """Train the tutorial's ConvNet on the shipped digits, test it, and draw two pictures."""
    chosen = use_backend(backend)
    print(f"kerash5 demo: real digits, from HDF5 files of this package, on {chosen}")
    data = DataOptions(
        train=str(digits_train()),
        test=str(digits_test()),
        x="image",
        y="label",
        batch_size=50,
        validation_split=0.1,
        stratify=True,
        rows=rows,
    )
    model, trainer = ModelOptions(), TrainerOptions(max_epochs=max_epochs, run_dir=run_dir)
    module, network = prepare(data, model, trainer, seed=0)
    run = _fit_and_test(module, network, model, trainer, seed=0)
    if module.test is not None:
        _draw(run, module.test, network)
    return run


def run_test(
    run_dir: str, *, test: str | None = None, backend: str | None = None, weights: str = "best"
) -> Run:
    """Test the model of a finished run, with its best (or last) weights.

    With the best weights and the run's own test file, the metrics replace those in run.json.

    Args:
        run_dir: The folder of the run.
        test: A test file to use instead of the run's own.
        backend: A backend to use instead of the run's own.
        weights: "best" or "last".
    """
    run = Run.load(run_dir)
    use_backend(backend or run.backend)
    folder = Path(run_dir) if Path(run_dir).is_dir() else Path(run_dir).parent
    options = read_data_options(folder, test)
    from kerash5.train import H5DataModule, Trainer
    from kerash5.train._build import load_model

    network = load_model(folder, weights)
    module = H5DataModule.from_options(options, is_training=False)
    metrics = Trainer(enable_progress_bar=False).test(network, module)
    tested = replace(run, test=metrics)
    if test is None and weights == "best":
        tested.save(folder)
    print(_test_line(metrics))
    return tested


def run_describe(path: str, *, json: bool = False) -> None:
    """Print a description of a file, as text or as JSON."""
    print(describe(path, as_json=json))


def run_verify(path: str, *, allow_external: bool = False) -> None:
    """Read all of a file in a child process, and print which data sets are intact.

    Raises:
        DamagedFileError: Some data sets are damaged.
    """
    verdicts = []
    for verdict in verify_each(path, allow_external=allow_external):
        verdicts.append(verdict)
        reason = f": {verdict.reason}" if verdict.reason else ""
        print(escape_controls(f"{verdict.path or path}: {verdict.state}{reason}"))
    damaged = [verdict.path or path for verdict in verdicts if verdict.state == "damaged"]
    if damaged:
        raise DamagedFileError(
            f"{len(damaged)} of {len(verdicts)} are damaged in {path!r}: {', '.join(damaged[:5])}"
            f"{' and more' if len(damaged) > 5 else ''}; copy or download it again"
        )


def run_bench(path: str, *, json: str | None = None, **options: Any) -> None:  # noqa: ANN401
    """Measure how fast a file is read, and print a table and a verdict.

    Args:
        path: The file.
        json: A file for all measurements.
        **options: As in `bench`.
    """
    names = [name for name in (options.get("x"), options.get("y")) if name is not None]
    # A column that is not there is enough for the file to be opened.
    columns = [Column(name) for name in names or ["x"]]
    look_at(find_files(path), columns, allow_external=False)
    reading = bench(path, **options)
    Console().print(reading_table(reading))
    print(reading_verdict(reading))
    if json is not None:
        reading.save(json)


def run_environment() -> None:
    """Print the environment as YAML: backends, machine, versions, settings.

    It imports neither Keras nor a backend, so that it works even if their import fails.
    """
    found, machine = environment(), find_machine()
    cure = "none; pip install 'kerash5[jax]' (or [tensorflow], [torch])"
    found["backends"] = ", ".join(installed_backends()) or cure
    found["memory"] = f"{(machine.memory_bytes or 0) / 1e9:.0f} GB"
    found["gpus"] = list(machine.gpus or ()) or "none that nvidia-smi lists"
    found["hdf5"] = h5py.version.hdf5_version  # a library inside h5py's wheel
    found["versions"] = versions(also=_ALSO_REPORTED)
    if machine.commit:
        found["commit"] = machine.commit
    order = [name for name in _REPORT_ORDER if name in found]
    print(yaml.safe_dump({name: found[name] for name in order}, sort_keys=False).rstrip())


def prepare(
    data: DataOptions,
    model: ModelOptions,
    trainer: TrainerOptions,
    seed: int,
    *,
    is_training: bool = False,
) -> tuple[H5DataModule, Model]:
    """Open the data and build the model of these options.

    Args:
        data: The data options.
        model: The model options.
        trainer: The trainer options.
        seed: Seed of the initial weights.
        is_training: Whether the learning rate decays over the training, if the model's recipe says
            so.
    """
    from kerash5 import zoo
    from kerash5.train import H5DataModule
    from kerash5.train._build import build_model
    from kerash5.train._models import is_of_zoo

    module, precision = H5DataModule.from_options(data), trainer.precision or "float32"
    if not is_of_zoo(model.name):
        return module, build_model(model, module, precision=precision, seed=seed)
    shape = module.input_shape
    if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
        raise OptionError(
            "the zoo's models take one input; name a model of your own that takes several: "
            "--model module:function"
        )
    suited = zoo.suited_shape(model.name, shape)
    if suited != shape:
        module = H5DataModule.from_options(replace(data, x=_with_shape(data.x, suited)))
    steps = count_decay_steps(model.name, module, trainer) if is_training else None
    return module, build_model(model, module, precision=precision, seed=seed, decay_steps=steps)


def _with_shape(x: ColumnOption, shape: tuple[int, ...]) -> dict[str, Any]:
    return {**(x if isinstance(x, dict) else {"path": x}), "shape": list(shape)}


def _fit_and_test(
    module: H5DataModule,
    network: Model,
    model: ModelOptions,
    options: TrainerOptions,
    *,
    seed: int,
    resume: str | None = None,
) -> Run:
    from kerash5.feeds._scale import scale_in
    from kerash5.train import Trainer
    from kerash5.train._models import is_of_zoo

    trainer = Trainer(**vars(options))
    # With these, `kerash5 fit --config RUN/config.yaml` is the same run again.
    told = asdict(model)
    scale = scale_in(network) if is_of_zoo(model.name) else None
    if scale is not None:
        told["options"] = {**model.options, "scale": scale}
    trainer.notes = {"backend": choose_backend(), "seed": seed, "model": told}
    run = trainer.fit(network, module, resume=resume)
    is_labelled = served_by(module.train).has_labels
    if module.test is not None and is_labelled and not served_by(module.test).has_labels:
        print(
            f"not tested: {module.test.source.paths[0]} has no labels; kerash5 predict answers it"
        )
    elif module.test is not None:
        print(_test_line(trainer.test(network, module)))
        run = trainer.run or run
    print(f"{run.rows_per_second:,.0f} rows/s on {run.backend}; everything is in {run.run_dir}")
    return run


def _test_line(metrics: Metrics) -> str:
    return f"test: {describe_metrics(metrics)}"


def _draw(run: Run, test: H5Dataset, network: Model) -> None:
    """Draw curves, confusion matrix and predictions to the folder of a run."""
    from kerash5.train._answers import find_answers

    answers, folder = find_answers(network, test), Path(run.run_dir)
    wrong = int((answers.guesses != answers.labels).sum())
    print(f"{wrong} of {len(answers.labels)} test rows are wrong")
    print(f"curves: {run.plot(folder / 'curves.png')}")
    print(f"confusion matrix: {answers.plot_confusion(folder / 'confusion.png')}")
    print(f"predictions: {answers.plot_predictions(folder / 'predictions.png', _GRID)}")
