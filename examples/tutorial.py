"""Shows a 2020 tutorial's job: a ConvNet trained and tested on digits out of HDF5 files.

The tutorial read both files whole into memory and copied them; here `fit` and `evaluate` take them
as they are. Model, optimizer, loss, batch size, epochs and validation rows are the tutorial's.
"""

import argparse

import keras
from keras import layers

import kerash5 as k5
from kerash5.assets import digits_test, digits_train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--train", default=digits_train(), help="a file with `image` and `label`")
parser.add_argument("--test", default=digits_test(), help="another")
parser.add_argument("--rows", type=int, default=5000, help="of the training file (MNIST: 60000)")
parser.add_argument("--epochs", type=int, default=25)
args = parser.parse_args()

image = k5.Column("image", shape=(28, 28, 1))  # the stored (28, 28), with a channel axis
cut = args.rows * 4 // 5  # Keras' validation_split=0.2 takes the last fifth, too
train = k5.H5Dataset(args.train, image, "label", batch_size=50, rows=slice(0, cut))
held = k5.H5Dataset(args.train, image, "label", batch_size=50, rows=slice(cut, args.rows))
test = k5.H5Dataset(args.test, image, "label", batch_size=50)

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((28, 28, 1)), layers.Rescaling(1 / 255)])
for filters in (32, 64, 128):
    model.add(layers.Conv2D(filters, 3, activation="relu"))
model.add(layers.Flatten())
model.add(layers.Dense(128, activation="relu"))
model.add(layers.Dense(10, activation="softmax"))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, validation_data=held, epochs=args.epochs, verbose=2)

loss, accuracy = model.evaluate(test, verbose=0)
print(f"{model.count_params():,} parameters; test loss {loss:.4f}, test accuracy {accuracy:.4f}")
