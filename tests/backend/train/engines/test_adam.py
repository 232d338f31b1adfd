"""The backends' Adam is Keras' Adam to rounding, at every beta; XLA fuses Keras' own."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kerash5.train.engines.common._private import fused_update, why_not_fused_adam

pytestmark = pytest.mark.skipif(
    keras.backend.backend() not in {"tensorflow", "torch"}, reason="XLA fuses by itself"
)
BETAS: Final = (0.0, 0.5, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9995, 0.9999, 0.99999, 0.999999)
SIZE: Final = 16
ROUNDING: Final = 1e-6  # of some float32 operations one after another


def apply(optimizer: Any, weights: Any, gradients: np.ndarray) -> None:
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weights])


def updated(*, is_fused: bool, num_steps: int, **options: Any) -> dict[str, np.ndarray]:
    """Return slots and weights after some steps, the weights as what each step has added."""
    weights = keras.Variable(np.zeros(SIZE, np.float32))
    optimizer = keras.optimizers.Adam(1e-2, **options)
    optimizer.build([weights])
    assert why_not_fused_adam(optimizer) is None
    # No element changes its sign, so that none is the small difference of large ones.
    gradients = np.random.default_rng(3).uniform(0.5, 2.0, (num_steps, SIZE)).astype(np.float32)
    with fused_update(optimizer) if is_fused else nullcontext():
        if keras.backend.backend() == "torch":
            import torch

            with torch.no_grad():
                apply(optimizer, weights, gradients)
        else:
            apply(optimizer, weights, gradients)
    slots = [each for each in optimizer.variables if each.shape == (SIZE,)]
    return {
        name: np.array(keras.ops.convert_to_numpy(each))
        for name, each in zip(("mean", "square", "weights"), (*slots, weights), strict=True)
    }


@pytest.mark.parametrize("num_steps", [1, 40])
@pytest.mark.parametrize("beta_2", BETAS)
@pytest.mark.parametrize("beta_1", [0.0, 0.9, 0.99, 0.9999])
def test_the_fused_update_is_that_of_keras_at_every_beta(
    beta_1: float, beta_2: float, num_steps: int
) -> None:
    options: dict[str, Any] = {"num_steps": num_steps, "beta_1": beta_1, "beta_2": beta_2}
    expected = updated(is_fused=False, **options)
    found = updated(is_fused=True, **options)
    assert list(found) == ["mean", "square", "weights"]
    for name, values in found.items():
        assert_allclose(values, expected[name], rtol=num_steps**0.5 * ROUNDING, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(beta=st.floats(0.0, 1.0, exclude_max=True).filter(lambda beta: 1 - beta > 1e-7))
def test_moments_of_any_beta_have_the_weight_that_keras_gives_them(beta: float) -> None:
    options: dict[str, Any] = {"num_steps": 1, "beta_1": beta, "beta_2": beta}
    expected, found = (updated(is_fused=is_fused, **options) for is_fused in (False, True))
    for name in ("mean", "square"):
        assert_allclose(found[name], expected[name], rtol=ROUNDING, atol=1e-37, err_msg=name)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's kernel")
@pytest.mark.parametrize("beta", [beta for beta in BETAS if beta >= 0.98])
def test_what_the_kernel_would_round_is_formed_as_keras_forms_it(beta: float) -> None:
    options: dict[str, Any] = {"num_steps": 20, "beta_2": beta}
    expected, found = (updated(is_fused=is_fused, **options) for is_fused in (False, True))
    assert_array_equal(found["square"], expected["square"])
