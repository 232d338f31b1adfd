"""How well and how fast does each model of the zoo learn the digits by its recipe?

    python benchmarks/zoo.py --python torch=PATH [--python jax=PATH] [--data FOLDER]
        [--models mlp lstm:5 resnet20:3:2000]

The rows are the digits shipped, or train.hdf5 and test.hdf5 of FOLDER in the same layout
(`kerash5 pack mnist FOLDER`). Each model gets them in the form it is for: conv1d and lstm the 28
lines of pixels as steps, deepsets the pixels with ink as points (row, column, ink), unet_small a
mask with the digit's class where there is ink, and autoencoder the image as y. All rows are
trained on by the model's recipe; lstm:5 does only 5 epochs, resnet20:3:2000 only 3 of the first
2000 rows. Accuracy is that on the test file after the last epoch, rows/s
those of the last epoch. Each model runs in a process of its own, on --threads threads; each
--python names the Python of an environment with that backend.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from _harness import Outcome, ResultFile, installed_versions, set_threads

PACKAGES: Final = ("kerash5", "keras", "numpy", "jax", "tensorflow-cpu", "torch", "h5py")
NUM_POINTS: Final = 160  # no digit has more pixels with so much ink
INK: Final = 64
SERIES: Final = ("conv1d", "lstm")


def main() -> None:
    """Measure each model on each backend, and write the results."""
    options = parse()
    if options.child:
        backend, model, folder = options.child
        set_threads(backend, options.threads)
        for line in measure(backend, model, Path(folder)):
            print(json.dumps(line), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        pack(options.data, Path(folder))
        data = "the digits shipped" if options.data is None else "files of --data"
        settings = {"threads": options.threads, "data": data}
        file = ResultFile.begin("zoo", settings=settings, out=options.out)
        for each in options.python:
            backend, _, python = each.partition("=")
            for model in options.models or names():
                child = ["--child", backend, model, folder, "--threads", str(options.threads)]
                run_child(file, [python, __file__, *child], backend, str(options.threads))


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", default=[], metavar="BACKEND=PATH")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME[:EPOCHS[:ROWS]]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a folder with train.hdf5 and test.hdf5")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def names() -> Sequence[str]:
    """Return the models that ship."""
    from kerash5 import zoo

    return zoo.names()


def run_child(file: ResultFile, command: Sequence[str], backend: str, threads: str) -> None:
    """Measure a model in a process of its own, and write what it says: versions, then outcomes."""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env |= dict.fromkeys((*variables, "TF_NUM_INTEROP_THREADS"), threads)
    found = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        sys.exit(f"the process of {' '.join(command[3:5])} failed")
    for line in map(json.loads, filter(lambda text: text[:1] == "{", found.stdout.splitlines())):
        if "versions" in line:
            file.about["versions"].update(line["versions"])
            continue
        outcome = Outcome(**line)
        file.add(outcome)
        print(f"{outcome.case}, {outcome.way}: {outcome.values[0]:.6g}", flush=True)
    _, *lines = file.path.read_text(encoding="utf-8").splitlines()
    file.path.write_text("\n".join([json.dumps(file.about), *lines]) + "\n", encoding="utf-8")


def pack(data: Path | None, folder: Path) -> None:
    """Write the rows in the forms of all models."""
    import kerash5 as k5

    paths = {
        "train": data / "train.hdf5" if data else k5.assets.digits_train(),
        "test": data / "test.hdf5" if data else k5.assets.digits_test(),
    }
    for role, path in paths.items():
        with h5py.File(path, "r") as file:
            image, label = file["image"][:], file["label"][:]
        mask = np.where(image >= INK, label[:, None, None] + 1, 0).astype(np.uint8)
        columns = {"image": image, "label": label, "mask": mask, "points": points_of(image)}
        k5.write(folder / f"{role}.h5", **columns)


def points_of(images: Any) -> Any:
    """Return (row, column, ink) from 0 to 1 of the pixels with most ink, padded with zeros."""
    found = np.zeros((len(images), NUM_POINTS, 3), np.float32)
    for out, image in zip(found, images, strict=True):
        row, column = np.nonzero(image >= INK)
        points = np.stack([row / 27, column / 27, image[row, column] / 255], axis=1)
        out[: len(points)] = points[np.argsort(-points[:, 2], kind="stable")][:NUM_POINTS]
    return found


# In the process of a model


def measure(backend: str, what: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Train NAME, NAME:EPOCHS or NAME:EPOCHS:ROWS, and yield the versions and the outcomes."""
    import kerash5 as k5

    name, *limits = what.split(":")
    info = k5.zoo.info(name)
    epochs = int(limits[0]) if limits else info.recipe.epochs
    data = k5.H5DataModule(
        folder / "train.h5",
        folder / "test.h5",
        **columns_of(name, info.task),
        batch_size=info.recipe.batch_size,
        rows=int(limits[1]) if len(limits) > 1 else None,
    )
    model = k5.zoo.build(
        name,
        input_shape=data.input_shape,
        num_classes=11 if info.task == "segmentation" else 10,
        decay_steps=epochs * len(data.train),
        seed=0,
    )
    trainer = k5.Trainer(
        max_epochs=epochs,
        run_dir=folder / f"{backend}-{name}",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run = trainer.fit(model, data)
    metrics = trainer.test(model, data)
    yield {"versions": installed_versions(PACKAGES)}
    case = f"{name}, {epochs} epochs of {data.train.num_rows:,} rows"
    yield asdict(Outcome(case=case, way="parameters", values=[model.count_params()]))
    if "accuracy" in metrics:
        way, value = "accuracy, %", 100 * metrics["accuracy"]
    else:
        way, value = "mean absolute error, of 255", metrics["mae"]
    yield asdict(Outcome(case=case, way=way, values=[value]))
    speed = run.epochs[-1].num_rows / run.epochs[-1].seconds
    yield asdict(Outcome(case=case, way=f"{backend}, rows/s", values=[speed]))


def columns_of(name: str, task: str) -> dict[str, Any]:
    """Return x and y of a model."""
    from kerash5 import Column

    if task == "reconstruction":
        return {"x": "image", "y": "image"}
    if name == "deepsets":
        return {"x": "points", "y": "label"}
    x = "image" if name in SERIES else Column("image", shape=(28, 28, 1))
    return {"x": x, "y": "mask" if task == "segmentation" else "label"}


if __name__ == "__main__":
    main()
