"""JAX: many steps of the model's `train_step` in one compiled loop, with state on the device.

The number of iterations is an argument, so one program runs every group of batches with the same
rounding; this is why it is not a `lax.scan`. `engines/common/_dispatch_tuner` measures how many
steps to group. All programs for batches of one shape are compiled from one trace of the step, so
results do not depend on which of them runs, or when it is compiled.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import RunError
from kerash5._run import Metrics
from kerash5.batches._batches import Batch
from kerash5.train.engines.common._dispatch_tuner import DispatchTuner
from kerash5.train.engines.common._engine import AbstractEngine
from kerash5.train.engines.common._private import build_variables
from kerash5.train.engines.common._stack import (
    MAX_STACK_BYTES,
    Shapes,
    count_bytes,
    in_groups,
    split_alike,
    stack,
)
from kerash5.train.engines.common._traces import EarlierTraces
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.engines.jax._jax_trace import Trace, name_shapes, name_versions
from kerash5.train.state._walk import walk

_MAX_NAMED: Final = 3

State = tuple[list[Any], list[Any], list[Any], list[Any]]

_CONVOLUTION: Final = "conv_general_dilated"
_IN_FLIGHT: Final = 2  # dispatches: one runs, one waits with its batches on the device


@final
class JaxEngine(AbstractEngine):
    """Run groups of steps in one compiled loop; each donates its state to the next."""

    def __init__(
        self,
        model: keras.Model,
        class_weight: ClassWeight | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        super().__init__(model, class_weight)
        self._dispatch_tuner = DispatchTuner(steps)
        self._state: State | None = None
        self._programs: dict[Shapes, _Programs] = {}
        self._traces: dict[str, Trace] = {}  # by the shapes of a batch
        self._earlier = EarlierTraces()
        self._in_flight: deque[jax.Array] = deque()

    @property
    def steps_per_dispatch(self) -> int:
        """Number of batches that `train` should get at once."""
        return self._dispatch_tuner.steps

    def begin(self) -> None:
        """Read the current variables; discard the engine's own values."""
        self._state = None

    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch; return while the device still works."""
        self._train([self._weigh(batch) for batch in batches])

    def put_rows_on_device(self, rows: Batch) -> None:
        """Copy rows to the device."""
        self._device_rows = jax.tree.map(jax.numpy.asarray, self._weigh(rows))

    def free_device_bytes(self) -> int | None:
        """Return the free memory of the first GPU in bytes; None without one."""
        known = jax.local_devices()[0].memory_stats() or {}
        if "bytes_limit" not in known:
            return None
        return int(known["bytes_limit"]) - int(known.get("bytes_in_use", 0))

    def train_on_device_rows(self, positions: Sequence[NDArray[np.int32]]) -> None:
        """Run steps like `train` on rows that are on the device."""
        self._train([(one,) for one in positions], self._device_rows)

    def _train(self, batches: list[Batch], device_rows: Batch | None = None) -> None:
        for shapes, alike in split_alike(batches):
            key = (device_rows is not None, *shapes)
            for group in self._groups(key, alike, device_rows):
                self._dispatch(key, group, device_rows)

    def traced(self) -> dict[str, Any]:
        """Return the digest of each trace of `train_step` in this fit, by the shapes of batches."""
        digests = {shapes: trace.digest for shapes, trace in self._traces.items()}
        return self._earlier.to_json(name_versions(), digests)

    def expect_traced(self, traced: Mapping[str, Any], report: Callable[[str], None]) -> None:
        """Compare traces from now on with those of an earlier process with the same versions."""
        self._earlier.expect(traced, name_versions(), report)

    def metrics(self) -> Metrics:
        """Return the running averages; synchronizes with the device."""
        if self._state is not None:
            _assign(self.model.metrics_variables, self._state[3])
        return super().metrics()

    def reset_metrics(self) -> None:
        """Reset the running averages."""
        super().reset_metrics()
        if self._state is not None:
            self._state = (*self._state[:3], _values(self.model.metrics_variables))

    def sync(self) -> None:
        """Write the current values to the variables, which the next `train` reads again."""
        if self._state is None:
            return
        for variables, values in zip(_variables(self.model), self._state, strict=True):
            _assign(variables, jax.block_until_ready(values))
        self._state = None
        self._in_flight.clear()

    def describe(self) -> str:
        """Return the number of steps per dispatch, and why not more."""
        single = any(programs.is_single for programs in self._programs.values())
        why = (
            ": XLA runs convolutions in a loop on the CPU far slower (jax#12868)" if single else ""
        )
        return f"JAX, {self._dispatch_tuner.steps} compiled steps per dispatch{why}"

    def _groups(
        self, shapes: Shapes, batches: list[Batch], device_rows: Batch | None
    ) -> list[list[Batch]]:
        """Group batches of the same shapes into dispatches; compile new programs."""
        if shapes not in self._programs:
            self.sync()  # Keras may read the variables
            trace = self._trace(_pick(device_rows, batches[0]))
            found = self._programs[shapes] = _Programs(self.model, trace)
            bytes_each = count_bytes(batches[0]) + 1
            self._dispatch_tuner.limit(1 if found.is_single else MAX_STACK_BYTES // bytes_each)
        return in_groups(batches, self._dispatch_tuner.steps)

    def _trace(self, batch: Batch) -> Trace:
        """Return the trace for batches of these shapes, tracing if needed."""
        shapes = name_shapes(batch)
        if shapes not in self._traces:
            build_variables(self.model, batch)
            with refused_leaks(self.model):
                found = Trace(self.model, _take(self.model), batch)
            self._earlier.compare(shapes, found.digest)
            self._traces[shapes] = found
        return self._traces[shapes]

    def _dispatch(self, shapes: Shapes, batches: list[Batch], device_rows: Batch | None) -> None:
        programs = self._programs[shapes]
        if self._state is None:
            self._state = _take(self.model)
        began, is_compiled = time.perf_counter(), programs.is_compiled(len(batches))
        self._state, self._logs, token = programs.run(self._state, device_rows, batches)
        self._in_flight.append(token)
        if not self._dispatch_tuner.is_settled:
            token.block_until_ready()
            if is_compiled:
                self._dispatch_tuner.note(len(batches), time.perf_counter() - began)
        while len(self._in_flight) > _IN_FLIGHT:
            self._in_flight.popleft().block_until_ready()


@final
class _Programs:
    """The compiled steps for batches of one shape: a single step, and loops over stacks.

    Args:
        model: A built model, whose variables have values.
        trace: Its step for these shapes.
    """

    def __init__(self, model: keras.Model, trace: Trace) -> None:
        self._trace = trace
        # Averages are read from the metrics' variables; other logs of a step are loop variables.
        self._logs = {} if set(trace.logs) == set(model.get_metrics_result()) else trace.logs
        self.is_single = jax.default_backend() == "cpu" and _CONVOLUTION in trace.primitives
        self._sizes: list[int] = []  # of the stacks with a compiled program, ascending
        self._one = jax.jit(self._run_one, donate_argnums=0)
        self._many = jax.jit(self._run_many, donate_argnums=0)

    def is_compiled(self, count: int) -> bool:
        """Return whether `run` with `count` batches compiles nothing."""
        return any(count <= size for size in self._sizes)

    def run(
        self, state: State, device_rows: Batch | None, batches: list[Batch]
    ) -> tuple[State, dict[str, Any], jax.Array]:
        """Run one step per batch.

        Returns:
            The new state, the last step's logs besides the metrics, and an array that is ready when
            all steps are done.
        """
        size = self._size_for(len(batches))
        if size == 1:
            found = self._one(state, device_rows, batches[0])
        else:
            found = self._many(state, device_rows, stack(batches, size), len(batches))
        state, logs, token = found
        return state, logs, token

    def _size_for(self, count: int) -> int:
        """Return the smallest stack size for `count` batches, preferably one that is compiled."""
        for size in self._sizes:
            if count <= size:
                return size
        size = 1 << (count - 1).bit_length()
        self._sizes = sorted([*self._sizes, size])
        return size

    def _run_one(
        self, state: State, device_rows: Batch | None, batch: Batch
    ) -> tuple[State, dict[str, Any], jax.Array]:
        return (*self._step(state, device_rows, batch), jax.numpy.ones(()))

    def _run_many(
        self, state: State, device_rows: Batch | None, stacked: Batch, count: jax.Array
    ) -> tuple[State, dict[str, Any], jax.Array]:
        def turn(index: jax.Array, carry: tuple[State, Any]) -> tuple[State, Any]:
            return self._step(
                carry[0], device_rows, jax.tree.map(lambda array: array[index], stacked)
            )

        logs = jax.tree.map(lambda log: jax.numpy.zeros(log.shape, log.dtype), self._logs)
        found = jax.lax.fori_loop(0, count, turn, (state, logs))
        return (*found, count + 1)

    def _step(
        self, state: State, device_rows: Batch | None, batch: Batch
    ) -> tuple[State, dict[str, Any]]:
        # If fused with the step, selecting the batch could change the order of its summations.
        batch = jax.lax.optimization_barrier(_pick(device_rows, batch))
        logs, new = self._trace(state, batch)
        wanted = {name: logs[name] for name in self._logs}
        # A Python number becomes an array in plain `fit`, too.
        arrays = jax.tree.map(
            lambda log, known: jax.numpy.asarray(log, known.dtype), wanted, self._logs
        )
        return _like(new, state), arrays


def _pick(device_rows: Batch | None, batch: Batch) -> Batch:
    """Return the batch, with row positions replaced by the rows on the device."""
    if device_rows is None:
        return batch
    (positions,) = batch
    picked: Batch = jax.tree.map(
        lambda rows: rows.at[positions].get(mode="promise_in_bounds"), device_rows
    )
    return picked


def _like(new: Sequence[Any], old: State) -> State:
    """Return the new values with the old dtypes, because a loop variable cannot change its type."""
    trainable, other, optimizer, metrics = (
        [jax.numpy.asarray(one, before.dtype) for one, before in zip(values, known, strict=True)]
        for values, known in zip(new, old, strict=True)
    )
    return trainable, other, optimizer, metrics


def _variables(model: keras.Model) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Return the variables in the order of the state of `train_step`."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def _take(model: keras.Model) -> State:
    trainable, other, optimizer, metrics = map(_values, _variables(model))
    return trainable, other, optimizer, metrics


def _values(variables: Sequence[Any]) -> list[Any]:
    return [variable.value for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def refused_leaks(model: keras.Model) -> Iterator[None]:
    """Raise `RunError` if code traced inside writes variables that are not in the model's state.

    Such a variable would keep a tracer; its old value is restored.
    """
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    known = {id(each) for each in (*model.variables, *optimizer, *model.metrics_variables)}
    others = {
        place.name: (place.value, place.value.value)
        for place in walk(model)
        if isinstance(place.value, keras.Variable) and id(place.value) not in known
    }
    yield
    leaked = []
    for name, (variable, value) in others.items():
        if isinstance(variable.value, jax.core.Tracer):
            variable.assign(value)
            leaked.append(name)
    if leaked:
        named = ", ".join(leaked[:_MAX_NAMED]) + (", ..." if len(leaked) > _MAX_NAMED else "")
        raise RunError(
            f"train_step of model {model.name!r} writes {named}, which is not in the state that "
            "it receives and returns on JAX, so the written value is lost; make it a variable of "
            "the model, optimizer or metrics and return it, or compile with run_eagerly=True"
        )
