"""PyTorch: an operation for captured steps with a tensor as scale, where PyTorch needs a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

_LIBRARY: Final = torch.library.Library("kerash5", "FRAGMENT")
_LIBRARY.define("subtract_scaled_(Tensor(a!)[] values, Tensor[] others, Tensor scale) -> ()")


def _subtract_scaled(
    values: Sequence[torch.Tensor], others: Sequence[torch.Tensor], scale: torch.Tensor
) -> None:
    torch._foreach_add_(values, others, alpha=-scale.item())


_LIBRARY.impl("subtract_scaled_", _subtract_scaled, "CompositeExplicitAutograd")

# values -= scale * others, in place, with the kernel and therefore the bits of Keras' SGD. Keras
# reads the learning rate as a number, and a tracer would fix it at the traced step's value.
subtract_scaled_: Final[Any] = torch.ops.kerash5.subtract_scaled_.default
# Function to call instead of the custom operation, which bypasses PyTorch's dispatcher.
DIRECT: Final[dict[Any, Callable[..., Any]]] = {subtract_scaled_: _subtract_scaled}
