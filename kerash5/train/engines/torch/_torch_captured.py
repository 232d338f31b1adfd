"""PyTorch: the captured steps of a model, one per shape of batch, while they are valid.

`why_not_captured` says which models are supported. All values that a captured step read from Python
are compared before each dispatch (`_torch_parts`), and its results periodically (`_torch_watch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import keras
import torch

from kerash5.batches._batches import Batch
from kerash5.train.engines.common._stack import Shapes, fill, leaves_of
from kerash5.train.engines.torch._proven import PROVEN
from kerash5.train.engines.torch._torch_code import is_same_graph, write_code
from kerash5.train.engines.torch._torch_parts import Parts
from kerash5.train.engines.torch._torch_trace import (
    Values,
    capture_step,
    flatten,
    unchanged_random_state,
    values_of,
    variables_of,
)
from kerash5.train.engines.torch._torch_watch import Watch

# A capture takes as long as about 100 steps. If settings change before a captured step has run this
# often, several times, capturing costs more than it saves.
_MIN_STEPS: Final = 32
MAX_SHORT_LIVED: Final = 3


class CaptureError(Exception):
    """A step cannot be captured, or its capture differs from Keras' step."""


def why_not_captured(model: keras.Model, parts: Parts) -> str | None:
    """Return why no step of this model is captured; None if it can be tried.

    Args:
        model: A compiled model.
        parts: Result of `read_parts`.
    """
    if type(model).train_step is not keras.Model.train_step:
        return "the model overrides train_step"
    if model.optimizer is None:
        return "the model has no optimizer"
    if not model.trainable_variables:
        return "the model has no trainable variables"
    for kind, where in parts.kinds.items():
        if not is_proven(kind):
            name = kind.rpartition(".")[2]
            return f"{where} is {name}, which is not known to train the same when captured"
    return parts.obstacle


def is_proven(kind: str) -> bool:
    """Return whether a class or function was tested to train the same when captured."""
    return kind in PROVEN


@final
class CapturedSteps:
    """Captured steps of a model with its current parts.

    Args:
        model: A built model that `why_not_captured` accepts.
        parts: Parts of the model.
    """

    def __init__(self, model: keras.Model, parts: Parts) -> None:
        self._model = model
        self._codes: dict[Shapes, Callable[..., None]] = {}
        self._num_steps = 0
        self._point_to(parts)

    def _point_to(self, parts: Parts) -> None:
        """Make steps change the variables of these parts."""
        self._parts = parts
        self._variables = variables_of(self._model, parts.variables)
        self._grouped: Values = values_of(self._variables)
        self._values = flatten(self._grouped)
        self._watch = Watch(self._variables, self._values)

    @property
    def is_short_lived(self) -> bool:
        """Whether too few steps were run to be worth the capture."""
        return bool(self._codes) and self._num_steps < _MIN_STEPS

    def is_current(self) -> bool:
        """Return whether the model still has the same objects as when it was last checked."""
        return self._parts.is_current()

    def adopt(self, parts: Parts) -> bool:
        """Use newly read parts; return False if a captured step depends on a change in them."""
        if parts.tokens != self._parts.tokens:
            return False
        self._point_to(parts)
        return True

    def run(
        self, shapes: Shapes, batch: Batch, step: int, keras_step: Callable[[Batch], None]
    ) -> None:
        """Run one step.

        Args:
            shapes: Shapes that batches must have in common to use one captured step.
            batch: Tensors; a step may write to them, as Keras does with sample weights.
            step: Number of the optimizer's step, from 0.
            keras_step: Runs Keras' own step on a batch.

        Raises:
            CaptureError: The step cannot be captured; no step was run.
            DifferenceError: It differs from Keras' step, which was run instead.
        """
        code = self._codes.get(shapes)
        is_new = code is None
        if code is None:
            code = self._codes[shapes] = self._capture(batch)
        tensors = leaves_of(batch)

        def captured() -> None:
            with torch.inference_mode():
                code(*self._values, *tensors)

        self._num_steps += 1
        if not (is_new or Watch.is_due(step)):
            captured()
            return
        unwritten = _copied(batch)
        difference = self._watch.compare(captured, lambda: keras_step(_copied(unwritten)))
        if difference is not None:
            raise DifferenceError(difference, is_new=is_new)

    def _capture(self, batch: Batch) -> Callable[..., None]:
        try:
            graph = capture_step(self._model, self._variables, self._grouped, batch)
            inputs = [*self._values, *leaves_of(batch)]
            with unchanged_random_state(self._values):
                code = write_code(graph, inputs, len(self._values))
                later = [value.clone() for value in self._values]
                with torch.inference_mode():
                    code(*later, *leaves_of(_copied(batch)))
                other = capture_step(
                    self._model, self._variables, self._regroup(later), _shifted(batch)
                )
        except Exception as error:  # a tracer can raise any exception
            raise CaptureError(f"capturing failed ({_in_a_line(error)})") from error
        if not is_same_graph(graph, other):
            raise CaptureError("a step on other values traces other operations")
        return code

    def _regroup(self, flat: Sequence[torch.Tensor]) -> Values:
        rest = iter(flat)
        return [[next(rest) for _ in some] for some in self._grouped]


@final
class DifferenceError(CaptureError):
    """A captured step differed from Keras' step, which was run instead."""

    def __init__(self, difference: str, *, is_new: bool) -> None:
        super().__init__(f"captured, {difference}")
        self.is_new = is_new  # whether it was the first run of this capture


def _in_a_line(error: Exception) -> str:
    """Return the first line of an error; for one that Keras wraps, with the inner error."""
    if "_local_scalar_dense" in str(error):
        return "a part of the step reads a value with item(), int() or bool()"
    lines = [line.strip("\x1b[01m ") for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling "):
        return f"{lines[0].split()[4].partition('.')[0]}: {lines[1]}"
    return lines[0] if lines else type(error).__name__


def _copied(batch: Batch) -> Batch:
    return fill(batch, [leaf.clone() for leaf in leaves_of(batch)])


def _shifted(batch: Batch) -> Batch:
    """Return the batch with its rows in another order."""
    return fill(batch, [torch.roll(leaf, 1, 0) if leaf.ndim else leaf for leaf in leaves_of(batch)])
