"""scale="auto": the zoo's models multiply x by what suits the type in which it is stored."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest
import yaml
from rich.console import Console

import kerash5 as k5
from kerash5._options import DataOptions, ModelOptions, TrainerOptions
from kerash5.cli._jobs import run_fit
from kerash5.feeds._scale import scale_of

RNG: Final = np.random.default_rng(5)
LABELS: Final = np.arange(200) % 2
# Two classes, apart in the first of four values.
FLOATS: Final = (RNG.normal(0, 0.3, (200, 4)) + np.outer(LABELS * 2 - 1, [1, 0, 0, 0])).astype("f4")


def write_rows(path: Path, dtype: str) -> str:
    x = FLOATS
    if np.dtype(dtype).kind in "iu":
        x = np.clip((FLOATS + 2) / 4, 0, 1) * min(np.iinfo(dtype).max, 65535)
    return str(k5.write(path, x=x.astype(dtype), y=LABELS))


def build(**options: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    return k5.zoo.build(
        "mlp", input_shape=(4,), num_classes=2, hidden=(8,), learning_rate=0.03, **options
    )


def make_trainer(folder: Path, **options: Any) -> k5.Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    return k5.Trainer(**{"run_dir": folder, "max_epochs": 8, **quiet, **options})


def scale(model: keras.Model) -> Any:
    return model.get_layer("scale").scale


EXPECTED: Final = {
    "uint8": 1 / 255,
    "uint16": 1 / 65535,
    "int16": 1.0,
    "float16": 1.0,
    "float32": 1.0,
    "float64": 1.0,
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("dtype", "wanted"), EXPECTED.items(), ids=EXPECTED)
def test_the_scale_follows_the_stored_type(dtype: str, wanted: float, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.h5", dtype)
    model, cast = build(), build()
    model.evaluate(k5.H5Dataset(path, x="x", y="y"), verbose=0)
    as_float = k5.Column("x", dtype="float32")
    cast.evaluate(k5.H5Dataset(path, x=as_float, y="y"), verbose=0)
    assert scale(model) == scale(cast) == scale_of(dtype) == wanted


@pytest.mark.thinned(3)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("way", ["fit", "Trainer"])
def test_a_model_learns_from_any_type(way: str, dtype: str, tmp_path: Path) -> None:
    data = k5.H5DataModule(write_rows(tmp_path / "a.h5", dtype), x="x", y="y", batch_size=10)
    model = build()
    if way == "fit":
        model.fit(data.train, epochs=8, verbose=0)
    else:
        make_trainer(tmp_path / "run").fit(model, data)
    loss, accuracy = model.evaluate(data.train, verbose=0)
    assert (accuracy > 0.9, loss < 0.5) == (True, True)


def test_a_traced_model_uses_the_scale_too(tmp_path: Path) -> None:
    model = build()
    first = model.predict(FLOATS, verbose=0)  # traced while nothing is known
    model.evaluate(k5.H5Dataset(write_rows(tmp_path / "a.h5", "float32"), x="x", y="y"), verbose=0)
    assert scale(model) == 1.0
    assert np.abs(model.predict(FLOATS, verbose=0) - first).max() > 0.01


def test_the_first_data_decide_and_the_saved_model_holds_it(tmp_path: Path) -> None:
    model = build()
    model.fit(k5.H5Dataset(write_rows(tmp_path / "a.h5", "float32"), x="x", y="y"), verbose=0)
    other = k5.H5Dataset(write_rows(tmp_path / "b.h5", "uint8"), x="x", y="y")
    model.evaluate(other, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.evaluate(other, verbose=0)
    assert scale(model) == scale(loaded) == 1.0


def test_a_number_stays_as_it_is(tmp_path: Path) -> None:
    model = build(scale=1 / 255)
    model.fit(k5.H5Dataset(write_rows(tmp_path / "a.h5", "float32"), x="x", y="y"), verbose=0)
    assert scale(model) == 1 / 255


TRANSFORMS: Final[dict[str, tuple[Any, float]]] = {
    "still bytes": (lambda x, y: (x[:, ::-1].copy(), y), 1 / 255),
    "bytes as floats": (lambda x, y: (x.astype("f4"), y), 1 / 255),
    "scaled": (lambda x, y: (x.astype("f4") / 255, y), 1.0),
    "normalised": (lambda x, y: ((x.astype("f4") / 255 - 0.5) / 0.1, y), 1.0),
}


@pytest.mark.parametrize(("transform", "wanted"), TRANSFORMS.values(), ids=TRANSFORMS)
def test_behind_a_transform_its_values_decide(
    transform: Any, wanted: float, tmp_path: Path
) -> None:
    path, model = write_rows(tmp_path / "a.h5", "uint8"), build()
    model.evaluate(k5.H5Dataset(path, x="x", y="y", transform=transform), verbose=0)
    assert scale(model) == wanted


def test_the_scale_is_shown_with_the_summary(tmp_path: Path) -> None:
    data = k5.H5DataModule(write_rows(tmp_path / "a.h5", "uint8"), x="x", y="y")
    trainer = make_trainer(tmp_path / "run", enable_model_summary=True, max_epochs=1)
    said = io.StringIO()
    trainer.console = Console(file=said)
    trainer.fit(build(), data)
    assert "scale: x is multiplied by 0.00392157 (1/255)" in said.getvalue()


def test_the_command_trains_on_floats_and_keeps_the_scale_in_the_run(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.h5", "float32")
    folder = tmp_path / "run"
    run = run_fit(
        DataOptions(train=path, x="x", y="y", batch_size=10),
        ModelOptions(name="mlp", learning_rate=0.01),
        TrainerOptions(
            max_epochs=3,
            run_dir=str(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
        ),
    )
    assert run.epochs[-1].metrics["accuracy"] > 0.9
    assert run.config["model"]["options"]["scale"] == 1.0
    assert k5.Run.load(folder).config["model"]["options"]["scale"] == 1.0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert ModelOptions(**config["model"]).options["scale"] == 1.0
