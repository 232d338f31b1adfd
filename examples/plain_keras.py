"""Shows that `model.fit` takes an `H5Dataset` in place of arrays, and nothing else changes.

Five short walks: train; evaluate and predict; weigh classes; a file with a group for each class; a
file in several parts. The files are made of the shipped digits, in a temporary folder.
"""

import argparse
import tempfile
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

import kerash5 as k5
from kerash5.assets import digits_test, digits_train


def main() -> None:
    """Write the files, then walk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="of the training digits")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, args.rows)
        model = train(folder, args.epochs)
        evaluate_and_predict(model, folder)
        weigh_classes(folder, args.epochs)
        train_on_groups(folder, args.epochs)
        train_on_parts(folder, args.epochs)


def train(folder: Path, epochs: int) -> keras.Model:
    """Train with every default: each row once per epoch, in a new order each epoch."""
    model = new_model()
    model.fit(k5.H5Dataset(folder / "train.h5", x="image", y="label"), epochs=epochs, verbose=2)
    return model


def evaluate_and_predict(model: keras.Model, folder: Path) -> None:
    """Evaluate, and find the same accuracy by hand: `predict` answers in the stored order."""
    test = k5.H5Dataset(folder / "test.h5", x="image", y="label")
    _, accuracy = model.evaluate(test, verbose=0)
    with h5py.File(folder / "test.h5") as file:
        by_hand = np.mean(model.predict(test, verbose=0).argmax(axis=1) == file["label"][:])
    print(f"test accuracy {accuracy:.4f}, by hand {by_hand:.4f}")


def weigh_classes(folder: Path, epochs: int) -> None:
    """Train on the digit 7 alone, by a class weight of 0 for all others."""
    model = new_model()
    weights = {digit: float(digit == 7) for digit in range(10)}
    train = k5.H5Dataset(folder / "train.h5", x="image", y="label")
    model.fit(train, class_weight=weights, epochs=epochs, verbose=0)
    test = k5.H5Dataset(folder / "test.h5", x="image", y="label")
    share = np.mean(model.predict(test, verbose=0).argmax(axis=1) == 7)
    print(f"trained on 7 alone: {share:.4f} of the answers are 7")


def train_on_groups(folder: Path, epochs: int) -> None:
    """Train from a file without labels: the name of the group is the label."""
    source = k5.classes_from_groups(folder / "groups.h5", data="image")
    model = new_model()
    history = model.fit(k5.H5Dataset(source), epochs=epochs, verbose=0)
    accuracy = history.history["accuracy"][-1]
    print(f"classes {', '.join(source.class_names or ())}: training accuracy {accuracy:.4f}")


def train_on_parts(folder: Path, epochs: int) -> None:
    """Train from several files as if they were one."""
    parts = k5.H5Dataset(str(folder / "part-*.h5"), x="image", y="label")
    history = new_model().fit(parts, epochs=epochs, verbose=0)
    accuracy = history.history["accuracy"][-1]
    print(
        f"{len(parts.source.paths)} parts, {parts.num_rows} rows: training accuracy {accuracy:.4f}"
    )


def new_model() -> keras.Model:
    """Stack a small model of layers everyone knows. It takes the stored bytes, and scales them."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def write_files(folder: Path, rows: int) -> None:
    """Write the digits as two files, as a file with a group for each class, and as three parts."""
    digits = k5.Source(digits_train(), image="image", label="label").read(np.arange(rows))
    image, label = digits["image"], digits["label"]
    k5.write(folder / "train.h5", image=image, label=label)
    test = k5.Source(digits_test(), image="image", label="label").read(np.arange(1000))
    k5.write(folder / "test.h5", image=test["image"], label=test["label"])
    with h5py.File(folder / "groups.h5", "w") as file:
        for digit in range(10):
            file[f"digit {digit}/image"] = image[label == digit]
    for number, part in enumerate(np.array_split(np.arange(rows), 3)):
        k5.write(folder / f"part-{number}.h5", image=image[part], label=label[part])


if __name__ == "__main__":
    main()
