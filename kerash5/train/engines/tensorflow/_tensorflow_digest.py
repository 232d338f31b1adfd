"""A digest of a traced step, which shows whether another process traces the same.

A trace has the Python values of the time it was made, such as attributes and closures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

import keras
import numpy as np
import tensorflow as tf

from kerash5.train.engines.common import _traces

# Names that differ between processes, and seeds of operations whose state is not in checkpoints.
_SKIPPED: Final = frozenset(
    {"config", "config_proto", "container", "seed", "seed2", "shared_name", "token"}
)

_VERSION: Final = 2  # version of the digest's input


def digest_graph(graph: Any) -> str:  # noqa: ANN401  a FuncGraph
    """Return a digest of operations and constants; equal in processes that trace the same."""
    writer = _Writer(graph.as_graph_def())
    for outer, _ in graph.captures:
        if outer.dtype not in (tf.resource, tf.variant):  # variables are read at each step
            writer.note(repr(outer.dtype), repr(outer.shape), np.asarray(outer).tobytes())
    return writer.digest.hexdigest()[:16]


def name_batch(specs: Iterable[Any]) -> str:
    """Return dtypes and shapes of batches as text: "('float32[8, 4]', 'int32[8]')"."""
    named = keras.tree.map_structure(
        lambda spec: f"{np.dtype(spec.dtype.as_numpy_dtype)}{spec.shape.as_list()}", specs
    )
    return str(named)


def name_versions() -> str:
    """Return the versions under which traces can be compared."""
    kinds = sorted({device.device_type for device in tf.config.list_physical_devices()})
    return _traces.name_versions(tf, _VERSION, ", ".join(kinds))


@final
class _Writer:
    """Write a graph to a digest: operations, inputs, attributes; nodes by number, not by name."""

    def __init__(self, definition: Any) -> None:  # noqa: ANN401  a GraphDef
        self.digest = hashlib.sha256()
        self._functions = {each.signature.name: each for each in definition.library.function}
        self._written: dict[str, int] = {}  # functions, by name
        self._write_nodes(definition.node, {})

    def note(self, *parts: str | bytes | int) -> None:
        """Write parts, each with its length."""
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            self.digest.update(b"%d:" % len(data) + data)

    def _write_nodes(self, nodes: Iterable[Any], numbers: dict[str, int]) -> None:
        nodes = list(nodes)
        for node in nodes:
            numbers[node.name] = len(numbers)
        for node in nodes:
            self.note(node.op, len(node.input))
            waits = sorted(numbers[each[1:]] for each in node.input if each[:1] == "^")
            for each in node.input:
                if each[:1] != "^":
                    self._write_end(each, numbers)
            self.note(*waits)  # a set, whose order in TensorFlow varies
            self._write_attributes(node.attr)

    def _write_end(self, text: str, numbers: Mapping[str, int]) -> None:
        """Write one end of an edge: "node" or "node:output:0"."""
        name, _, output = text.partition(":")
        self.note(numbers[name], output)

    def _write_attributes(self, attributes: Any) -> None:  # noqa: ANN401  a map of a message
        for key in sorted(attributes):
            if not key.startswith("_") and key not in _SKIPPED:
                self.note(key)
                self._write_attribute(attributes[key])

    def _write_attribute(self, value: Any) -> None:  # noqa: ANN401  an AttrValue
        functions = [value.func] if value.HasField("func") else list(value.list.func)
        if not functions:
            self.note(value.SerializeToString(deterministic=True))
        for each in functions:
            self._write_function(each.name)
            self._write_attributes(each.attr)

    def _write_function(self, name: str) -> None:
        is_new = name not in self._written
        self.note(self._written.setdefault(name, len(self._written)))
        if not is_new or name not in self._functions:
            return
        function = self._functions[name]
        numbers: dict[str, int] = {}
        for each in function.signature.input_arg:
            numbers[each.name] = len(numbers)
            self.note(each.type)
        self._write_nodes(function.node_def, numbers)
        for each in function.signature.output_arg:
            self._write_end(function.ret[each.name], numbers)
