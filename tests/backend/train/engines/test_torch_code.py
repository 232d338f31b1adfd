"""Captured graphs as Python: nothing is folded, merged or left out that must not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("PyTorch alone captures steps", allow_module_level=True)

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from kerash5.train.engines.torch._torch_code import write_code


def written(run: Callable[..., Any], *inputs: torch.Tensor, num_values: int = 1) -> Any:
    module = make_fx(run)(*[tensor.clone() for tensor in inputs])
    return write_code(module, inputs, num_values)


def names_called(function: Any) -> set[str]:
    """Return the names of what the code calls."""
    found = (function.__globals__[name] for name in function.__code__.co_names)
    return {getattr(each, "__name__", str(each)) for each in found}


def test_the_new_value_is_written_over_the_old_one() -> None:
    value, other = torch.ones(3), torch.arange(3.0)
    step = written(lambda value, other: [value + other * 2], value, other)
    step(value, other)
    assert value.tolist() == [1.0, 3.0, 5.0]
    assert other.tolist() == [0.0, 1.0, 2.0]


def test_what_is_constant_is_computed_once() -> None:
    step = written(lambda value: [value * (torch.ones(2) * 3).sqrt().sum()], torch.ones(2))
    assert "sqrt" not in names_called(step)
    value = torch.ones(2)
    step(value)
    torch.testing.assert_close(value, torch.full((2,), 2 * 3**0.5))


def test_what_is_done_twice_is_done_once() -> None:
    step = written(lambda value: [value.exp() + value.exp()], torch.ones(2))
    assert step.__code__.co_names.count("exp") <= 1
    calls = [name for name in step.__code__.co_names if name.startswith("f_")]
    assert len(calls) == 2


def test_a_value_read_before_and_after_it_is_changed_is_read_twice() -> None:
    def run(value: torch.Tensor, sums: torch.Tensor) -> list[torch.Tensor]:
        before = value.exp()
        value.add_(1)
        return [value, sums + value.exp() - before]

    value, sums = torch.zeros(1), torch.zeros(1)
    step = written(run, value, sums, num_values=2)
    step(value, sums)
    torch.testing.assert_close(sums, torch.tensor([torch.e - 1]))
    assert value.item() == 1


def test_a_view_of_a_value_that_changes_is_read_anew() -> None:
    def run(value: torch.Tensor, sums: torch.Tensor) -> list[torch.Tensor]:
        before = value.view(4).sum()
        value.mul_(2)
        return [value, sums + value.view(4).sum() - before]

    value, sums = torch.ones(2, 2), torch.zeros(())
    step = written(run, value, sums, num_values=2)
    step(value, sums)
    assert sums.item() == 4


def test_random_numbers_are_drawn_anew_and_in_the_same_order() -> None:
    value = torch.zeros(4)
    step = written(lambda value: [value + torch.rand(4) - torch.rand(4)], value)
    torch.manual_seed(1)
    wanted = torch.rand(4) - torch.rand(4)
    torch.manual_seed(1)
    step(value)
    torch.testing.assert_close(value, wanted)


def test_values_that_change_places_are_refused() -> None:
    with pytest.raises(ValueError, match="is assigned another variable's value"):
        written(lambda one, two: [two, one], torch.ones(1), torch.zeros(1), num_values=2)


def test_a_trial_leaves_the_inputs_alone() -> None:
    value = torch.ones(2)
    written(lambda value: [value.add_(1)], value)
    assert value.tolist() == [1.0, 1.0]
