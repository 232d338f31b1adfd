"""The commands from the first word to the exit code, on the backend that is set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
import yaml

import kerash5 as k5
from kerash5 import zoo
from kerash5._options import DataOptions, ModelOptions, TrainerOptions
from kerash5.assets import digits_test, digits_train
from kerash5.cli._jobs import prepare
from kerash5.cli._main import main

TRAIN, TEST = str(digits_train()), str(digits_test())
MLP: Final = ("--model.name", "mlp", "--model.options", "{hidden: [16]}")
Console = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True, scope="module")
def same_backend() -> Iterator[None]:
    """Let commands choose the backend that these tests run on, and leave Keras as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", keras.backend.backend())
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"))
        policy = keras.config.dtype_policy()
        yield
        keras.config.set_dtype_policy(policy)


def fit_words(run_dir: Path, *words: str, train: str = TRAIN, test: str | None = TEST) -> list[str]:
    """Return a quick `fit` on a few digits; later words win."""
    return [
        *("fit", "--data.train", train, *(["--data.test", test] if test else [])),
        *("--data.rows", "300", "--data.batch_size", "50", *MLP),
        *("--trainer.max_epochs", "2", "--trainer.run_dir", str(run_dir), *words),
    ]


def run_quietly(*words: str) -> str:
    """Run a command that must succeed; return its output."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    assert code == 0, err.getvalue()
    return out.getvalue()


def write_rows(path: Path, **columns: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return str(path)


def write_few(path: Path) -> str:
    """Write the first seven test digits."""
    with h5py.File(TEST) as file:
        return write_rows(path, image=file["image"][:7], label=file["label"][:7])


def failing_line(words: list[str], console: Console) -> str:
    """Run a command that must fail; return the one line it says."""
    assert main(words) == 1
    out, err = console.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("kerash5: ")
    return err


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run, and what its command printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "mlp"
    return run_dir, run_quietly(*fit_words(run_dir, "--data.validation-split", "50"))


# fit, and test of its run.


def test_fit_trains_tests_and_prints_two_lines(fitted: tuple[Path, str]) -> None:
    run_dir, out = fitted
    run = k5.Run.load(run_dir)
    assert (run.status, len(run.epochs), run.epochs[0].num_rows) == ("done", 2, 250)
    assert set(run.test) == {"loss", "accuracy"}
    tested, everything = out.splitlines()
    assert tested.startswith("test: accuracy ")
    assert f"loss {run.test['loss']:.4f}" in tested
    assert everything.endswith(f"on {keras.backend.backend()}; everything is in {run_dir}")


def test_test_gets_the_metrics_that_the_best_weights_had(
    fitted: tuple[Path, str], capsys: Console
) -> None:
    run_dir, _ = fitted
    run = k5.Run.load(run_dir)
    assert run.best_epoch == 1  # so that the model which fit tested is the best
    assert main(["test", "--run", str(run_dir)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"accuracy {run.test['accuracy']:.4f}" in out
    assert k5.Run.load(run_dir).test == pytest.approx(run.test)


@pytest.mark.one_backend
def test_testing_on_another_file_leaves_the_run_as_it_was(
    fitted: tuple[Path, str], tmp_path: Path, capsys: Console
) -> None:
    run_dir, _ = fitted
    before = (run_dir / "run.json").read_bytes()
    other = write_few(tmp_path / "few.h5")
    assert main(["test", "--run", str(run_dir), "--test", other]) == 0
    assert main(["test", "--run", str(run_dir / "run.json"), "--weights", "last"]) == 0
    assert capsys.readouterr().out.count("test: ") == 2
    assert (run_dir / "run.json").read_bytes() == before


@pytest.mark.one_backend
@pytest.mark.parametrize("source", ["print_config", "config.yaml of the run"])
def test_a_config_makes_the_same_run_again(
    fitted: tuple[Path, str], tmp_path: Path, source: str
) -> None:
    run_dir, _ = fitted
    path = run_dir / "config.yaml"
    if source == "print_config":
        path = tmp_path / "run.yaml"
        words = fit_words(run_dir, "--data.validation-split", "50")
        path.write_text(run_quietly(*words, "--print_config"))
    again = tmp_path / "again"
    run_quietly("fit", "--config", str(path), "--trainer.run_dir", str(again))
    one, other = k5.Run.load(run_dir), k5.Run.load(again)
    assert other.model == "mlp"
    assert other.num_parameters == one.num_parameters
    assert other.history["val_loss"] == pytest.approx(one.history["val_loss"], rel=1e-4)


@pytest.mark.one_backend
def test_another_seed_draws_other_weights(fitted: tuple[Path, str], tmp_path: Path) -> None:
    words = ("--data.validation-split", "50", "--trainer.max_epochs", "1", "--seed", "1")
    run_quietly(*fit_words(tmp_path / "run", *words, test=None))
    losses = [k5.Run.load(folder).history["loss"][0] for folder in (fitted[0], tmp_path / "run")]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_mixed_precision_goes_from_the_flag_to_the_loaded_model(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_quietly(*fit_words(run_dir, "--trainer.precision", "bf16-mixed"))
    assert "mixed_bfloat16" in (run_dir / "model.json").read_text()
    run = k5.Run.load(run_dir)
    assert run.config["trainer"]["precision"] == "bf16-mixed"
    assert run.history["loss"][1] < run.history["loss"][0]
    out = run_quietly("test", "--run", str(run_dir))
    assert f"accuracy {run.test['accuracy']:.4f}" in out


@pytest.mark.one_backend
def test_text_labels_keep_their_ids_where_the_test_file_lacks_some(tmp_path: Path) -> None:
    images = np.zeros((30, 4, 4), np.uint8)
    for number in range(3):
        images[number::3, number] = 255
    names = ["ape", "bee", "cat"] * 10
    train = write_rows(tmp_path / "train.h5", image=images, label=names)
    test = write_rows(tmp_path / "test.h5", image=images[2::3], label=names[2::3])
    words = ("--data.rows", "30", "--trainer.max_epochs", "30", "--data.batch_size", "30")
    rate = ("--model.learning_rate", "0.05")
    run_quietly(*fit_words(tmp_path / "run", *words, *rate, train=train, test=test))
    assert k5.Run.load(tmp_path / "run").test["accuracy"] == 1.0
    assert "accuracy 1.0000" in run_quietly("test", "--run", str(tmp_path / "run"))


AS_FLOAT: Final = {"path": "image", "dtype": "float32"}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "x"),
    [("convnet", "image"), ("lenet5", "image"), ("mlp", "image"), ("lenet5", AS_FLOAT)],
    ids=["convnet", "lenet5", "mlp", "lenet5 and a column"],
)
def test_images_get_the_channel_axis_that_a_model_needs(name: str, x: Any, tmp_path: Path) -> None:
    train = write_rows(
        tmp_path / "train.h5", image=np.zeros((4, 12, 12), np.uint8), label=[0, 1, 0, 1]
    )
    data = DataOptions(train=train, x=x, y="label")
    module, model = prepare(data, ModelOptions(name=name), TrainerOptions(), 0)
    wanted = zoo.suited_shape(name, (12, 12))
    assert len(wanted) == (2 if name == "mlp" else 3)
    assert module.input_shape == wanted
    assert model.input_shape == (None, *wanted)
    assert module.train.read(0)[0].dtype == ("uint8" if x == "image" else "float32")


# demo.


@pytest.mark.one_backend
def test_demo_trains_tests_and_draws_two_pictures(tmp_path: Path, capsys: Console) -> None:
    run_dir = tmp_path / "demo"
    words = ["demo", "--rows", "100", "--max_epochs", "1", "--run_dir", str(run_dir)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    for name in ("curves.png", "confusion.png", "predictions.png"):
        assert (run_dir / name).read_bytes().startswith(b"\x89PNG")
        assert str(run_dir / name) in out
    run = k5.Run.load(run_dir)
    assert (run.model, run.num_parameters, run.epochs[0].num_rows) == ("convnet", 8_023_946, 90)
    wrong = round((1 - run.test["accuracy"]) * 1000)
    assert f"{wrong} of 1000 test rows are wrong" in out
    assert keras.backend.backend() in out
    assert "epoch 1/1" in err
    assert "epoch" not in out


# What is wrong is one line, exit code 1, and nothing written.

DIGITS: Final[dict[str, Any]] = {"image": np.zeros((6, 4, 4), np.uint8), "label": np.arange(6) % 3}
BAD_TRAINING: Final[dict[str, tuple[dict[str, Any], list[str], str]]] = {
    "negative label": ({"label": np.arange(6) - 1}, [], "has label -1"),
    "no labels": ({"label": np.linspace(0, 1, 6)}, [], "holds no class labels"),
    "rows too small": (
        {},
        ["--model.name", "convnet", "--model.options", "{}"],
        "needs images of shape (height, width, channels)",
    ),
    "unknown column": ({}, ["--data.x", "imagee"], "'image'"),
    "columns that differ in length": ({"label": np.arange(5)}, [], "differ in length"),
    "no rows": ({"image": DIGITS["image"][:0], "label": DIGITS["label"][:0]}, [], "no rows"),
    "batch size": ({}, ["--data.batch_size", "0"], "batch_size=0"),
    "too many rows": ({}, ["--data.rows", "7"], "has only 6"),
    "no such model": ({}, ["--model.name", "mpl"], "did you mean 'mlp'?"),
    "no such model option": ({}, ["--model.options", "{hiden: [3]}"], "'hiden'"),
    "learning rate": ({}, ["--model.learning_rate", "-1"], "learning_rate"),
    "several inputs": ({}, ["--data.x", "{a: image, b: image}"], "take one input"),
    "a column setting": ({}, ["--data.x", "{path: image, shap: [16]}"], "'shap'"),
    "a shape that does not fit": ({}, ["--data.x", "{path: image, shape: [5]}"], "(4, 4)"),
    "seed": ({}, ["--seed", "-1"], "seed=-1"),
    "no epochs": ({}, ["--trainer.max_epochs", "0"], "max_epochs=0"),
    "monitor": ({}, ["--trainer.monitor", "val_loss"], "needs validation data"),
    "validation": ({}, ["--data.validation-split", "1.5"], "validation_split=1.5"),
    "shuffle": ({}, ["--data.shuffle", "true"], "choose rows, chunks, false or auto"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize(("columns", "words", "said"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_what_is_wrong_with_training_is_one_line_and_nothing_written(
    columns: dict[str, Any], words: list[str], said: str, tmp_path: Path, capsys: Console
) -> None:
    train = write_rows(tmp_path / "train.h5", **{**DIGITS, **columns})
    rows = [] if "--data.rows" in words else ["--data.rows", "null"]
    assert said in failing_line(
        fit_words(tmp_path / "run", *rows, *words, train=train, test=None), capsys
    )
    assert [path.name for path in tmp_path.iterdir()] == ["train.h5"]


BAD_TEST: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "label outside the classes": (
        {"label": np.arange(6)},
        "test.h5' has label 5, outside the 3 classes",
    ),
    "other shape, same values": (
        {"image": np.zeros((6, 2, 8), np.uint8)},
        "Column('image', shape=(4, 4)) would fit",
    ),
    "other shape": ({"image": np.zeros((6, 5, 5), np.uint8)}, "(4, 4) and the data have rows of"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize(("columns", "said"), BAD_TEST.values(), ids=BAD_TEST)
@pytest.mark.parametrize("role", ["test", "validation-data"])
def test_what_is_wrong_with_a_second_file_is_said_before_training(
    role: str, columns: dict[str, Any], said: str, tmp_path: Path, capsys: Console
) -> None:
    train = write_rows(tmp_path / "train.h5", **DIGITS)
    second = write_rows(tmp_path / "test.h5", **{**DIGITS, **columns})
    words = ["--data.rows", "6", f"--data.{role}", second]
    line = failing_line(fit_words(tmp_path / "run", *words, train=train, test=None), capsys)
    assert said in line
    assert not (tmp_path / "run").exists()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"<!DOCTYPE html><html></html>", "a web page", id="a web page"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", id="a Git LFS pointer"
        ),
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "damaged", id="a torso"),
    ],
)
def test_what_is_no_hdf5_file_is_called_what_it_is(
    content: bytes, said: str, tmp_path: Path, capsys: Console
) -> None:
    path = tmp_path / "train.h5"
    path.write_bytes(content)
    assert said in failing_line(fit_words(tmp_path / "run", train=str(path), test=None), capsys)
    assert not (tmp_path / "run").exists()


def test_another_backend_than_the_one_imported_needs_a_new_process(
    tmp_path: Path, capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "jax" if keras.backend.backend() != "jax" else "torch"
    monkeypatch.setattr("kerash5._backends.installed_backends", lambda: ("jax", "torch"))
    words = fit_words(tmp_path / "run", "--backend", other, test=None)
    assert "start a new process" in failing_line(words, capsys)


# What is wrong with a run.


@pytest.fixture
def copied(fitted: tuple[Path, str], tmp_path: Path) -> Path:
    """A finished run that may be spoiled."""
    for path in fitted[0].iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change_data(run_dir: Path, **changes: Any) -> None:
    """Change what config.yaml says about the data."""
    path = run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "data": {**config["data"], **changes}}))


@pytest.mark.one_backend
def test_a_run_without_a_test_file_asks_for_one(copied: Path, capsys: Console) -> None:
    change_data(copied, test=None)
    words = ["test", "--run", str(copied)]
    assert "give one with --test FILE" in failing_line(words, capsys)
    assert main([*words, "--test", TEST]) == 0


def fit_in_python(run_dir: Path, **options: Any) -> None:
    """Train in one step, on digits."""
    test = write_few(run_dir.parent / "few.h5")
    columns = {"x": "image", "y": "label", "batch_size": 60}
    data = k5.H5DataModule(TRAIN, test, **{**columns, "rows": 60, **options})
    model = zoo.build("mlp", input_shape=(28, 28), num_classes=10, hidden=(4,))
    model.run_eagerly = True  # compiling would take longer than the training
    trainer = k5.Trainer(
        max_epochs=1, run_dir=run_dir, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(model, data)


@pytest.mark.one_backend
def test_a_run_made_in_python_can_be_tested_where_its_files_tell_everything(
    tmp_path: Path,
) -> None:
    fit_in_python(tmp_path / "run", rows=slice(0, 60), validation_split=[1, 2, 3])
    assert "test: accuracy" in run_quietly("test", "--run", str(tmp_path / "run"))


@pytest.mark.one_backend
def test_a_run_with_a_transform_is_not_tested_without_it(tmp_path: Path, capsys: Console) -> None:
    fit_in_python(tmp_path / "run", transform=lambda x, y: (255 - x, y))
    capsys.readouterr()  # what the fit has said
    line = failing_line(["test", "--run", str(tmp_path / "run")], capsys)
    assert "were made in Python" in line
    assert "Trainer.test" in line


DAMAGES: Final[dict[str, tuple[str, bytes | None, str]]] = {
    "no weights": ("best.weights.h5", None, "no '"),
    "half of the weights": ("best.weights.h5", b"\x89HDF\r\n\x1a\n\0\0", "cannot be loaded"),
    "no model": ("model.json", None, "its model cannot be saved"),
    "no JSON": ("model.json", b"{", "cannot be loaded"),
    "a model with code in it": (
        "model.json",
        b'{"module": "builtins", "class_name": "eval", "config": {}, "registered_name": null}',
        "cannot be loaded",
    ),
    "no config": ("config.yaml", None, "no '"),
    "no YAML": ("config.yaml", b"{", "is no config.yaml of a run"),
    "a config of something else": ("config.yaml", b"[1, 2]", "is no config.yaml of a run"),
    "no run": ("run.json", b"{}", "is no run"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize(("name", "content", "said"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_wrong_with_the_folder_of_a_run_is_one_line(
    copied: Path, capsys: Console, name: str, content: bytes | None, said: str
) -> None:
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content)
    assert said in failing_line(["test", "--run", str(copied)], capsys)


@pytest.mark.one_backend
def test_a_training_file_that_is_gone_is_named(copied: Path, capsys: Console) -> None:
    change_data(copied, train=str(copied / "gone.h5"))
    assert "gone.h5" in failing_line(["test", "--run", str(copied)], capsys)


# A signal in the middle of training.


def test_sigterm_ends_a_run_that_says_it_was_stopped(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    words = fit_words(run_dir, "--trainer.max_epochs", "1000000", test=None)
    with subprocess.Popen(
        [sys.executable, "-m", "kerash5", *words, "--trainer.enable_progress_bar", "false"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + 120
        while not (run_dir / "best.weights.h5").exists() and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 143, err
    assert out == ""
    assert err.splitlines()[-1].startswith("kerash5: stopped by SIGTERM")
    assert "Traceback" not in err
    run = k5.Run.load(run_dir)
    assert run.status == "stopped"
    assert not list(run_dir.glob("*partial*"))


# Searches and answers.


@pytest.mark.one_backend
def test_lr_find_prints_a_rate_and_draws_the_curve(tmp_path: Path) -> None:
    curve = tmp_path / "curve.png"
    words = fit_words(tmp_path / "run", "--max_lr", "0.1", "--num_training", "20")[1:]
    out = run_quietly("lr-find", *words, "--plot", str(curve))
    assert "steps from 1.0e-08 to 1.0e-01" in out
    assert curve.stat().st_size > 1000
    assert not (tmp_path / "run").exists()


def test_predict_writes_the_answers_of_a_run(tmp_path: Path, capsys: Console) -> None:
    run, out = tmp_path / "run", str(tmp_path / "answers.h5")
    few = write_few(tmp_path / "few.h5")
    run_quietly(*fit_words(run, "--trainer.max_epochs", "1", test=few))
    run_quietly("predict", "--run", str(run), "--out", out, "--class_ids")
    with h5py.File(out) as answers:
        assert answers["prediction"].shape == (7, 10)
        assert answers["prediction_class"].shape == (7,)
    assert main(["predict", "--run", str(run), "--out", out]) == 1
    assert "pass overwrite=True to replace it" in capsys.readouterr().err
