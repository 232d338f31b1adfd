"""TensorFlow: many steps of the model's own `train_step` in one `tf.function`.

Stacks of any length run in one graph per shape of batch. Its loop iterates once per batch, so
results do not depend on how batches are grouped. The variables are always TensorFlow's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerash5.batches._batches import Batch
from kerash5.train.engines.common._data import as_fit_hands
from kerash5.train.engines.common._dispatch_tuner import DispatchTuner
from kerash5.train.engines.common._engine import AbstractEngine
from kerash5.train.engines.common._logs import no_number
from kerash5.train.engines.common._private import build_variables, fused_update, why_not_fused_adam
from kerash5.train.engines.common._stack import (
    MAX_STACK_BYTES,
    Shapes,
    count_bytes,
    in_groups,
    leaves_of,
    split_alike,
    stack,
)
from kerash5.train.engines.common._traces import EarlierTraces
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.engines.tensorflow._tensorflow_digest import (
    digest_graph,
    name_batch,
    name_versions,
)


@final
class TensorFlowEngine(AbstractEngine):
    """Run groups of steps in one graph."""

    def __init__(
        self,
        model: keras.Model,
        class_weight: ClassWeight | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        super().__init__(model, class_weight)
        self._dispatch_tuner = DispatchTuner(steps)
        self._graphs: dict[Shapes, _Graph] = {}
        self._step = _Step(model)
        self._earlier = EarlierTraces()

    def build(self, batch: Batch) -> None:
        """Create all variables, by tracing the step if only the step can. Runs no step."""
        self._build(self._weigh(batch))

    @property
    def captured(self) -> list[Any]:
        """The variables that the traced steps read or write, in the order of the trace."""
        return self._step.captured

    @property
    def uncaptured(self) -> list[str]:
        """The traced operations that draw random numbers from TensorFlow's internal state."""
        return [
            f"the random state of {name} in train_step (keras.random with a SeedGenerator is saved)"
            for name in self._step.random_operations
        ]

    def traced(self) -> dict[str, Any]:
        """Return the digest of each trace of `train_step` in this fit, by the shapes of batches."""
        return self._earlier.to_json(name_versions(), self._step.digests())

    def expect_traced(self, traced: Mapping[str, Any], report: Callable[[str], None]) -> None:
        """Compare traces from now on with those of an earlier process with the same versions."""
        self._earlier.expect(traced, name_versions(), report)

    @property
    def steps_per_dispatch(self) -> int:
        """Number of batches that `train` should get at once."""
        return self._dispatch_tuner.steps

    def begin(self) -> None:
        """Do nothing: each graph reads the current variables."""

    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch."""
        self._train([self._weigh(batch) for batch in batches])

    def put_rows_on_device(self, rows: Batch) -> None:
        """Copy rows to the device."""
        self._device_rows = keras.tree.map_structure(tf.convert_to_tensor, self._weigh(rows))

    def release(self) -> None:
        """Free the rows, and the graphs that refer to them."""
        super().release()
        self._graphs = {key: graph for key, graph in self._graphs.items() if not key[0]}

    def free_device_bytes(self) -> int | None:
        """Return 0 with a GPU, whose free memory TensorFlow does not report; None without one."""
        return 0 if tf.config.list_physical_devices("GPU") else None

    def train_on_device_rows(self, positions: Sequence[NDArray[np.int32]]) -> None:
        """Run steps like `train` on rows that are on the device."""
        self._train([(one,) for one in positions], self._device_rows)

    def _train(self, batches: list[Batch], device_rows: Batch | None = None) -> None:
        for shapes, alike in split_alike(batches):
            key = (device_rows is not None, *shapes)
            for group in self._groups(key, alike, device_rows):
                self._dispatch(key, group)

    def sync(self) -> None:
        """Do nothing: reading a variable waits for pending writes."""

    def describe(self) -> str:
        """Return the number of steps per dispatch."""
        adam = self._step.why_not_fused
        update = "a fused Adam" if adam is None else f"Keras' update, because {adam}"
        return (
            f"TensorFlow, {self._dispatch_tuner.steps} steps per call of one graph, with {update}"
        )

    def _groups(
        self, shapes: Shapes, batches: list[Batch], device_rows: Batch | None
    ) -> list[list[Batch]]:
        """Group batches of the same shapes into dispatches."""
        if shapes not in self._graphs:
            rows = _pick(device_rows, batches[0])
            self._build(rows)
            for count in self.row_counts or (None,):  # as in `fit`, which traces one step for all
                self._step.trace(rows, count)
            if self._earlier.is_expected:  # a digest takes time
                for known, digest in self._step.digests().items():
                    self._earlier.compare(known, digest)
            self._graphs[shapes] = _Graph(self.model, self._step, device_rows, batches[0])
            self._dispatch_tuner.limit(MAX_STACK_BYTES // (count_bytes(batches[0]) + 1))
        return in_groups(batches, self._dispatch_tuner.steps)

    def _build(self, batch: Batch) -> None:
        is_built = build_variables(self.model, batch)
        if not is_built or type(self.model).train_step is not keras.Model.train_step:
            self._step.trace(batch)  # a custom step may create further variables

    def _dispatch(self, shapes: Shapes, batches: list[Batch]) -> None:
        graph = self._graphs[shapes]
        began, is_traced = time.perf_counter(), graph.is_traced
        self._logs = graph(stack(batches, len(batches)))
        if is_traced:
            self._dispatch_tuner.note(len(batches), time.perf_counter() - began)


@final
class _Step:
    """The model's `train_step` as a `tf.function`, traced once per shape of batch.

    Tracing it separately creates the variables without a step. The loops then call the trace, so
    Python code in it runs once per shape, as in `fit`.

    Args:
        model: A compiled model.

    Attributes:
        why_not_fused: Why Keras' update is used; None if it is fused.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._function = tf.function(
            lambda *batch: model.train_step(as_fit_hands(batch)),
            jit_compile=bool(model.jit_compile) or None,
            autograph=False,
        )
        self._is_decided = False
        self._graphs: list[Any] = []
        self._shapes: dict[str, Any] = {}  # latest graph for batches of these shapes
        self._digests: dict[int, str] = {}  # by number of the graph
        self.why_not_fused = why_not_fused_adam(model.optimizer)

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Add a step to the graph that is being traced."""
        logs: dict[str, Any] = self._function(*batch)
        return logs

    def trace(self, batch: Batch, num_rows: int | None = None) -> None:
        """Trace the step for batches of this shape, if not done yet.

        Args:
            batch: A batch of this shape.
            num_rows: Number of rows, instead of that of `batch`.
        """
        count = len(leaves_of(batch)[0]) if num_rows is None else num_rows
        specs = keras.tree.map_structure(
            lambda array: tf.TensorSpec((count, *array.shape[1:]), array.dtype), batch
        )
        with self.fused():
            graph = self._function.get_concrete_function(*specs).graph
        if all(graph is not known for known in self._graphs):
            self._graphs.append(graph)
        self._shapes[name_batch(specs)] = graph

    def digests(self) -> dict[str, str]:
        """Return the digest of the step for each shape of batch."""
        for graph in self._shapes.values():
            if id(graph) not in self._digests:
                self._digests[id(graph)] = digest_graph(graph)
        return {shapes: self._digests[id(graph)] for shapes, graph in self._shapes.items()}

    @contextmanager
    def fused(self) -> Iterator[None]:
        """Fuse the update, if that was possible when the first step was traced."""
        if not self._is_decided:
            self.why_not_fused = why_not_fused_adam(self._model.optimizer)
            self._is_decided = True
        if self.why_not_fused is not None:
            yield
            return
        with fused_update(self._model.optimizer):
            yield

    @property
    def captured(self) -> list[Any]:
        """The outside variables that the graphs use, in the order of the trace."""
        found: dict[int, Any] = {}
        for graph in self._graphs:
            by_handle = {id(variable.handle): variable for variable in graph.variables}
            for outer, _ in graph.captures:
                if (variable := by_handle.get(id(outer))) is not None:
                    found.setdefault(id(variable), variable)
        return list(found.values())

    @property
    def random_operations(self) -> list[str]:
        """The kinds of operations with an internal random state in their kernels."""
        nodes = [
            node
            for graph in self._graphs
            for part in (graph.as_graph_def(), *graph.as_graph_def().library.function)
            for node in (part.node if hasattr(part, "node") else part.node_def)
        ]
        drawing = [node.op for node in nodes if {"seed", "seed2"} <= set(node.attr)]
        return list(dict.fromkeys(drawing))


@final
class _Graph:
    """The graph for batches of one shape: one step for each batch of a stack.

    Args:
        model: A built model.
        step: Step of the model.
        device_rows: Rows on the device, from which batches select by position; None if batches have
            the rows.
        batch: A batch of this shape.
    """

    def __init__(
        self, model: keras.Model, step: _Step, device_rows: Batch | None, batch: Batch
    ) -> None:
        self._device_rows = device_rows
        self.is_traced = False
        self._step = step
        self._names = set(model.get_metrics_result())
        self._logs: dict[str, Any] = {}  # variables for the steps' logs besides the metrics
        specs = keras.tree.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape), array.dtype), batch
        )
        self._run = tf.function(self._turn_all, input_signature=[specs], autograph=False)

    def __call__(self, stacked: Batch) -> dict[str, Any]:
        """Run one step per batch of the stack; return the last one's logs besides the metrics."""
        if self.is_traced:
            self._run(stacked)
        else:
            with self._step.fused():
                self._run(stacked)
        self.is_traced = True
        return dict(self._logs)

    def _turn_all(self, stacked: Batch) -> tf.Tensor:
        count = tf.shape(leaves_of(stacked)[0])[0]

        def turn(index: tf.Tensor) -> tuple[tf.Tensor]:
            batch = keras.tree.map_structure(lambda array: array[index], stacked)
            self._keep(self._step(_pick(self._device_rows, batch)))
            return (index + 1,)

        # One iteration at a time: steps are sequential, and the default of 10 is twice as slow.
        return tf.while_loop(
            lambda index: index < count, turn, [tf.constant(0)], parallel_iterations=1
        )

    def _keep(self, logs: dict[str, Any]) -> None:
        """Store the logs of a custom step; Keras' averages are in the metrics."""
        if set(logs) == self._names:
            return
        values = keras.tree.map_structure(_to_tensor, dict(logs))
        if not self._logs:
            self._logs = keras.tree.map_structure(_variable_for, values)
        keras.tree.map_structure(lambda kept, value: kept.assign(value), self._logs, values)


def _to_tensor(value: Any) -> tf.Tensor:  # noqa: ANN401  result of a step
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise no_number(value) from error


def _variable_for(value: tf.Tensor) -> tf.Variable:
    """Return a variable for tensors like this one, whose shapes may vary from step to step."""
    with tf.init_scope():
        lengths = value.shape if value.shape.rank is not None else ()
        zeros = tf.zeros([length or 0 for length in lengths], value.dtype)
        return tf.Variable(zeros, trainable=False, shape=value.shape)


def _pick(device_rows: Batch | None, batch: Batch) -> Batch:
    """Return the batch, with row positions replaced by the rows on the device."""
    if device_rows is None:
        return batch
    (positions,) = batch
    picked: Batch = keras.tree.map_structure(lambda rows: tf.gather(rows, positions), device_rows)
    return picked
