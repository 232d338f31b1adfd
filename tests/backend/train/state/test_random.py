"""What dropout draws on each backend repeats once the random state is set back."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from numpy.testing import assert_array_equal

from kerash5.train.state._random import kept_random_state, random_state, set_random_state


def draw(layer: keras.Layer) -> np.ndarray:
    return np.asarray(
        keras.ops.convert_to_numpy(layer(np.ones((4, 64), np.float32), training=True))
    )


def test_dropout_repeats_from_seeds_and_random_state() -> None:
    layer = layers.Dropout(0.5)
    draw(layer)
    seeds = [keras.ops.convert_to_numpy(each.value).copy() for each in layer.variables]
    state = random_state()
    first, second = draw(layer), draw(layer)
    assert not np.array_equal(first, second)
    for variable, value in zip(layer.variables, seeds, strict=True):
        variable.assign(value)
    set_random_state(state)
    assert_array_equal(draw(layer), first)
    assert_array_equal(draw(layer), second)


def test_what_is_drawn_inside_changes_nothing_outside() -> None:
    before = random_state()
    with kept_random_state():
        draw(layers.Dropout(0.5))
        if keras.backend.backend() == "torch":
            assert any((random_state()[key] != before[key]).any() for key in before)
    for device, state in random_state().items():
        assert_array_equal(state, before[device])


def test_only_pytorch_has_a_state_of_its_own() -> None:
    assert bool(random_state()) == (keras.backend.backend() == "torch")


def test_a_device_that_is_gone_is_left_out() -> None:
    set_random_state({**random_state(), "cuda:99": np.zeros(16, np.uint8)})
