"""The digest of a traced step: what it sees, and what it must not see."""

from __future__ import annotations

from typing import Any

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("graphs of TensorFlow", allow_module_level=True)

import tensorflow as tf

from kerash5.train.engines.tensorflow._tensorflow_digest import _Writer, digest_graph


def trace(rate: float = 0.5, *, counts_first: bool = True) -> Any:
    """Return the graph of a step that assigns to two variables."""
    count, total = tf.Variable(0), tf.Variable(tf.zeros(3))

    def step(x: Any) -> Any:
        changes = [lambda: count.assign_add(1), lambda: total.assign_add(rate * x)]
        for change in changes if counts_first else reversed(changes):
            change()
        return tf.cond(count > 3, lambda: total * 2.0, lambda: total + 1.0)

    return tf.function(step).get_concrete_function(tf.TensorSpec((3,))).graph


def waits_reversed(definition: Any) -> Any:
    """Return the graph with what each operation waits for listed backwards."""
    changed = type(definition)()
    changed.CopyFrom(definition)
    num_lists = 0
    nodes = [*changed.node, *(each for f in changed.library.function for each in f.node_def)]
    for node in nodes:
        data = [each for each in node.input if each[:1] != "^"]
        waits = [each for each in node.input if each[:1] == "^"]
        num_lists += len(waits) > 1
        del node.input[:]
        node.input.extend([*data, *reversed(waits)])
    assert num_lists  # or it proves nothing
    return changed


def test_two_traces_of_one_step_are_the_same() -> None:
    assert digest_graph(trace()) == digest_graph(trace())


def test_the_order_in_which_waits_are_listed_is_not_seen() -> None:
    definition = trace().as_graph_def()
    found = _Writer(definition).digest.hexdigest()
    assert _Writer(waits_reversed(definition)).digest.hexdigest() == found


def test_another_constant_and_another_order_of_changes_are_seen() -> None:
    found = digest_graph(trace())
    assert digest_graph(trace(rate=0.25)) != found
    assert digest_graph(trace(counts_first=False)) != found
