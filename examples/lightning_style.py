"""Shows the three nouns of Lightning, for Keras: a data module, a model, a trainer.

Everything about the run (its settings, curves, weights) is in one folder afterwards.
"""

import argparse

import keras

import kerash5 as k5
from kerash5.assets import digits_test, digits_train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", choices=k5.zoo.names(), default="lenet5")
parser.add_argument("--rows", type=int, default=5000, help="of the training digits")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--run-dir", default="runs/lightning_style", help="the folder to write to")
args = parser.parse_args()

data = k5.H5DataModule(
    train=digits_train(),
    test=digits_test(),
    x=k5.Column("image", shape=(28, 28, 1)),
    y="label",
    batch_size=50,
    validation_split=0.2,  # a fifth of the rows, drawn by the seed,
    stratify=True,  # a fifth of each class
    rows=args.rows,
    seed=0,
)
keras.utils.set_random_seed(0)
model = k5.zoo.build(args.model, input_shape=data.input_shape, num_classes=10)

trainer = k5.Trainer(max_epochs=args.epochs, run_dir=args.run_dir)
run = trainer.fit(model, data)
metrics = trainer.test(model, data)
digits = trainer.predict(model, data).argmax(axis=1)  # of the test file, in the stored order

print(f"the first test digits look like {digits[:10]}")
print(f"{run.rows_per_second:,.0f} rows/s on {run.backend}; everything is in {run.run_dir}")
print(f"test loss {metrics['loss']:.4f}, test accuracy {metrics['accuracy']:.4f}")
