"""Shows what stands around a training: a learning rate before it, a profile and answers after it.

With `--batch-sizes` it also looks for the largest batch size, each tried in a process of its own.
"""

import argparse

import h5py
import keras

import kerash5 as k5
from kerash5.assets import digits_test, digits_train


def main() -> None:
    """Search, train, answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="of the training digits")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-sizes", action="store_true", help="look for one, too")
    args = parser.parse_args()

    data = k5.H5DataModule(
        digits_train(), digits_test(), x="image", y="label", batch_size=50, rows=args.rows
    )
    keras.utils.set_random_seed(0)
    model = k5.zoo.build("mlp", input_shape=data.input_shape, num_classes=10)
    trainer = k5.Trainer(
        max_epochs=args.epochs,
        run_dir="runs/before_and_after",
        logger="csv",
        log_every_n_steps=10,  # steps.csv, beside metrics.csv
        profiler="simple",  # where the time went, at the end
        callbacks=[keras.callbacks.ReduceLROnPlateau("loss", patience=1)],
    )

    rates = trainer.lr_find(model, data)  # the model stays as it was
    print(f"{rates.describe()}; see {rates.plot('learning_rates.png')}")
    if rates.suggestion is not None:
        model.optimizer.learning_rate = rates.suggestion
    if args.batch_sizes:
        print(trainer.batch_size_find(model, data).describe())

    run = trainer.fit(model, data)
    print(f"held up by: {run.profile['bottleneck']}")

    path = trainer.predict(model, data, out="answers.h5", class_ids=True, overwrite=True)
    with h5py.File(path) as answers, h5py.File(digits_test()) as digits:
        share = (answers["prediction_class"][:] == digits["label"][:]).mean()
    print(f"{path}: test accuracy {share:.4f}")


if __name__ == "__main__":  # batch_size_find starts processes
    main()
