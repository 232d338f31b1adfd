"""PyTorch: an operation for captured steps whose scale is a tensor where PyTorch wants a number."""

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

# values -= scale * others, in place, with the kernel and so the bits of Keras' SGD, which reads the
# learning rate as a number; a tracer would keep the number of the step that it saw.
subtract_scaled_: Final[Any] = torch.ops.kerash5.subtract_scaled_.default
# What to call in place of an operation of our own: a detour through PyTorch's dispatcher less.
DIRECT: Final[dict[Any, Callable[..., Any]]] = {subtract_scaled_: _subtract_scaled}
