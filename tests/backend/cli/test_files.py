"""What `pack` writes is trained on by the command that `describe` suggests."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerash5.cli._main import main

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)


def make_photos(folder: Path) -> None:
    for number in range(24):
        name = folder / ("dark", "light")[number % 2] / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 100, (9, 9, 3)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(name)


def make_table(path: Path) -> None:
    lines = [f"{a:.3f},{b:.3f},{'no' if a < b else 'yes'}" for a, b in RNG.random((40, 2))]
    path.write_text("\n".join(["a,b,answer", *lines]) + "\n")


def make_table_of_photos(path: Path) -> None:
    make_photos(path.parent / "photos")
    found = sorted((path.parent / "photos").rglob("*.png"))
    lines = [f"{name.relative_to(path.parent)},{name.parent.name}" for name in found]
    path.write_text("\n".join(["file,kind", *lines]) + "\n")


def make_arrays(path: Path) -> None:
    x, y = RNG.random((30, 8, 8)).astype("f4"), RNG.integers(0, 3, 30)
    np.savez(path, x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        pytest.param(make_photos, "photos", [], id="folder"),
        pytest.param(make_photos, "photos", ["--size", "12", "10"], id="folder, resized"),
        pytest.param(make_table, "t.csv", ["--label", "answer"], id="table"),
        pytest.param(
            make_table_of_photos, "t.csv", ["--image", "file", "--label", "kind"], id="image table"
        ),
        pytest.param(make_arrays, "a.npz", [], id="npz"),
    ],
)
def test_a_packed_file_is_trained_on_as_describe_suggests(
    make: object,
    name: str,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert callable(make)
    make(tmp_path / name)
    out = str(tmp_path / "out.h5")
    assert main(["pack", str(tmp_path / name), out, *options]) == 0
    capsys.readouterr()
    assert main(["describe", out, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    command = shlex.split(found["can_be_trained_on"]["command"])
    assert command[:3] == ["kerash5", "fit", out]
    run = ["--trainer.max-epochs", "1", "--trainer.run-dir", str(tmp_path / "run")]
    assert main([*command[1:], *run, "--data.batch-size", "10"]) == 0, capsys.readouterr().err
    assert "everything is in" in capsys.readouterr().out
