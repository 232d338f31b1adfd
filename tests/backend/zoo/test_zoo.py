"""The zoo's first three models on the backend that is set: input, training, saving, and errors.

test_models.py has what every model of the zoo must do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kerash5 import zoo
from kerash5._errors import KerasH5Error, OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MNIST = (28, 28, 1)
IMAGE = (12, 12, 1)  # where the size does not matter: the ConvNet has a twelfth of the parameters
MODELS = ("convnet", "lenet5", "mlp")


def draw_rows(num_rows: int, shape: tuple[int, ...] = IMAGE) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (num_rows, *shape), dtype=np.uint8)


def build(name: str, **options: Any) -> keras.Model:
    """Build a small model, with weights that are the same in each run."""
    keras.utils.set_random_seed(5)
    return zoo.build(name, **{"input_shape": IMAGE, "num_classes": 10, **options})


def predict(model: keras.Model, x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(model.predict(x, verbose=0))


@pytest.fixture
def mixed_bfloat16() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


# What is built.


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        (
            "convnet",
            8_023_946,
        ),  # the 2020 tutorial's; moving it breaks every comparison with older runs
        ("lenet5", 61_706),
        ("mlp", 109_386),
    ],
)
def test_parameter_count_for_mnist(name: str, num_parameters: int) -> None:
    assert build(name, input_shape=MNIST).count_params() == num_parameters


@pytest.mark.parametrize("name", MODELS)
def test_model_is_plain_and_compiled_with_adam_and_a_metric_named_accuracy(name: str) -> None:
    model = build(name, learning_rate=0.005)
    assert model.name == name
    assert type(model.optimizer) is type(keras.optimizers.Adam())  # on torch a subclass
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.005)
    result = model.evaluate(draw_rows(4), np.zeros(4, np.int64), verbose=0, return_dict=True)
    assert set(result) == {"loss", "accuracy"}


@pytest.mark.parametrize("name", MODELS)
def test_layers_have_the_same_names_in_each_build(name: str) -> None:
    first, second = build(name), build(name)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@pytest.mark.parametrize("name", ["convnet", "lenet5"])
def test_layers_keep_channels_last_whatever_keras_is_configured_to(name: str) -> None:
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = build(name)
    finally:
        keras.config.set_image_data_format(before)
    assert model.count_params() == build(name).count_params()


@pytest.mark.parametrize("shape", [(20,), (28, 28), MNIST, (4, 3, 2, 2)], ids=str)
def test_mlp_takes_rows_of_any_shape(shape: tuple[int, ...]) -> None:
    model = build("mlp", input_shape=shape, num_classes=3)
    assert predict(model, draw_rows(2, shape)).shape == (2, 3)


@pytest.mark.parametrize("hidden", [(), (7,), [9, 8, 7]], ids=str)
def test_mlp_has_the_hidden_layers_asked_for(hidden: tuple[int, ...]) -> None:
    model = build("mlp", hidden=hidden)
    widths = [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert widths == [*hidden, 10]


@pytest.mark.parametrize(
    ("shape", "flat"),
    [((28, 28, 1), 400), ((32, 32, 3), 400), ((1, 1, 1), 400), ((27, 40, 1), 16 * 5 * 7)],
    ids=str,
)
def test_lenet5_pads_small_sides_to_32_and_keeps_larger_ones(
    shape: tuple[int, ...], flat: int
) -> None:
    assert build("lenet5", input_shape=shape).get_layer("flatten").output.shape == (None, flat)


@pytest.mark.parametrize("num_classes", [1, 2, 1000, np.int64(4)], ids=str)
def test_width_of_the_output_is_the_number_of_classes(num_classes: int) -> None:
    assert build("lenet5", num_classes=num_classes).output_shape == (None, num_classes)


# What goes in, what comes out.


@pytest.mark.parametrize("name", MODELS)
def test_raw_uint8_gives_the_same_as_equal_floats(name: str) -> None:
    model, x = build(name), draw_rows(16)
    assert_array_equal(predict(model, x), predict(model, x.astype(np.float32)))


@pytest.mark.parametrize("name", MODELS)
def test_scale_1_takes_data_that_are_scaled_already(name: str) -> None:
    raw, scaled = build(name), build(name, scale=1.0)
    scaled.set_weights(raw.get_weights())
    x = draw_rows(16)
    expected = predict(raw, x)
    assert_allclose(predict(scaled, x.astype(np.float32) / 255), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(predict(scaled, x) - expected).max() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_floats_keep_their_fractions_and_their_range(name: str) -> None:
    # A uint8 input would make 300.0 of one row 44 or 255, and drop all of a row between 0 and 1.
    model = build(name)
    x = draw_rows(1).astype(np.float32)
    for changed in (x * 2, x / 300):
        cast = np.clip(changed, 0, 255).astype(np.uint8)
        assert np.abs(predict(model, changed) - predict(model, cast)).max() > 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_uint8_reaches_the_training_step_as_uint8(name: str) -> None:
    seen = set()

    class Spy(keras.Model):
        def train_step(self, *arguments: Any) -> Any:
            x = arguments[-1][0]  # (data,), and on JAX (state, data)
            seen.add(keras.backend.standardize_dtype(x.dtype))
            return super().train_step(*arguments)

    model = build(name)
    spy = Spy(model.inputs, model.outputs)
    spy.compile("sgd", "sparse_categorical_crossentropy")
    spy.fit(draw_rows(8), np.arange(8), verbose=0)
    assert seen == {"uint8"}


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_are_positive_and_sum_to_1(name: str) -> None:
    y = predict(build(name), draw_rows(16))
    assert y.dtype == np.float32
    assert y.min() >= 0
    assert_allclose(y.sum(axis=1), 1, atol=1e-5)


@pytest.mark.usefixtures("mixed_bfloat16")
@pytest.mark.parametrize("name", MODELS)
def test_mixed_bfloat16_computes_in_bfloat16_and_answers_in_float32(name: str) -> None:
    model, x = build(name), draw_rows(16)
    assert model.get_layer("flatten").compute_dtype == "bfloat16"
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    y = predict(model, x)
    assert y.dtype == np.float32
    assert_allclose(y.sum(axis=1), 1, atol=1e-5)
    history = model.fit(x, np.arange(16) % 10, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


# Training and saving.


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("label_dtype", [np.int64, np.uint8])
def test_fitting_a_few_rows_lowers_the_loss(name: str, label_dtype: type[np.generic]) -> None:
    model, x, y = (
        build(name, learning_rate=0.003),
        draw_rows(16),
        np.arange(16, dtype=label_dtype) % 10,
    )
    losses = model.fit(x, y, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", MODELS)
def test_saved_model_loads_in_safe_mode_and_answers_the_same(name: str, tmp_path: Path) -> None:
    model, x = build(name), draw_rows(8)
    model.fit(x, np.arange(8), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_array_equal(predict(loaded, x), predict(model, x))
    assert loaded.evaluate(x, np.arange(8), verbose=0, return_dict=True).keys() >= {"accuracy"}


# What bad input gets.


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnett", "there is no model 'convnett'; did you mean 'convnet'"),
        ("lenet", "there is no model 'lenet'; did you mean 'lenet5'"),
        ("transformer", "there are 'autoencoder', 'conv1d', 'convnet'"),
    ],
)
def test_unknown_name_lists_the_nearest(name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        zoo.build(name, input_shape=IMAGE, num_classes=10)
    with pytest.raises(OptionError, match=words):
        zoo.describe(name)


@pytest.mark.parametrize("name", ["convnet", "lenet5"])
@pytest.mark.parametrize("shape", [(28, 28), (784,), (1, 28, 28, 1)], ids=str)
def test_missing_channel_axis_names_the_column_shape_that_fits(
    name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(
        ShapeError, match=r'height, width, channels.*Column\("image", shape=\(28, 28, 1\)\) would'
    ):
        build(name, input_shape=shape)


@pytest.mark.parametrize("shape", [(20,), (6, 28, 1), (3, 32, 32), (2, 2, 2, 2)], ids=str)
def test_rows_that_are_no_images_are_sent_to_the_mlp(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r'at least 7 pixels.*"mlp" accepts rows of any'):
        build("convnet", input_shape=shape)


def test_smallest_image_of_the_convnet_works() -> None:
    assert predict(build("convnet", input_shape=(7, 7, 1)), draw_rows(1, (7, 7, 1))).shape == (
        1,
        10,
    )


@pytest.mark.parametrize("shape", [(), (28, 0, 1), (28, -1, 1), (None, 28, 1), 28, "28"], ids=repr)
@pytest.mark.parametrize("name", MODELS)
def test_input_shape_must_be_positive_whole_numbers(name: str, shape: Any) -> None:
    with pytest.raises(ShapeError, match="pass the shape of one row"):
        build(name, input_shape=shape)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "num_classes=0; pass an integer of at least 1"),
        ({"num_classes": 2.5}, "num_classes=2.5; pass an integer"),
        ({"learning_rate": 0.0}, "learning_rate=0.0; pass a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan; pass a positive number"),
        ({"scale": 0}, "scale=0; pass a number other than 0"),
        ({"scale": float("inf")}, "scale=inf; pass a number other than 0"),
        ({"scale": "uint8"}, "scale='uint8'; pass a number other than 0"),
        ({"hidden": (8, 0)}, r"hidden=\(8, 0\); pass the widths"),
        ({"hidden": 8}, "hidden=8; pass the widths"),
        ({"hiden": (8,)}, "model 'mlp' has no option 'hiden'; did you mean 'hidden'"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        build("mlp", **options)
    assert isinstance(caught.value, KerasH5Error)
    assert isinstance(caught.value, ValueError)


def test_an_option_of_another_family_is_refused() -> None:
    with pytest.raises(
        OptionError, match="model 'convnet' has no option 'hidden'; there are 'scale'"
    ):
        build("convnet", hidden=(8,))


def test_listing_the_models_imports_no_keras() -> None:
    code = "import sys; from kerash5 import zoo; zoo.names(); sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
