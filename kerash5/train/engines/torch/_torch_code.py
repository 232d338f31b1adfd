"""Write a captured graph as plain Python, with constant folding and no repeated operations.

Every operation is called by the fastest function that gave the same bits in a trial. Nothing here
depends on Keras: see `_torch_trace`.

Passes of torch.fx (`CSEPass`, folding of constants, `eliminate_dead_code`, `recompile`) were tried
in its place, on PyTorch 2.13.0. They gave the same bits in 6 steps of five models, but took 20 %
more processor time per step of a small MLP (median of 41 rounds in turns, one thread), with 46
calls instead of 41 and 8 attributes looked up in each step, and 57 % more without the trials.
The checks of the graph, the trials and the copies over the old values would have remained.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from kerash5.train.engines.common._torch_ops import DIRECT

_aten: Final = torch.ops.aten
# The same tensor under another name. Excludes `lift_fresh_copy`, which copies.
_ALIASES: Final = {_aten.detach.default, _aten.alias.default}
# Their values depend on shapes only.
_FILLED: Final = {
    *(_aten.ones_like.default, _aten.zeros_like.default, _aten.full_like.default),
    *(_aten.scalar_tensor.default, _aten.full.default, _aten.ones.default, _aten.zeros.default),
    *(_aten.arange.default, _aten.new_zeros.default, _aten.new_ones.default),
}
_LITERALS: Final = (int, float, bool, str, type(None))


def write_code(
    module: GraphModule, inputs: Sequence[torch.Tensor], num_values: int
) -> Callable[..., None]:
    """Return a function of the graph's inputs that writes the new values over the old ones.

    Args:
        module: A captured step.
        inputs: Inputs of the right shapes; a trial runs on copies of them.
        num_values: Number of inputs that are values. The outputs are as many, in the same order.

    Raises:
        ValueError: An output is another input, or the graph is not repeatable.
    """
    with torch.inference_mode():
        return _Writer(module, num_values).write([tensor.clone() for tensor in inputs])


@dataclass(frozen=True, slots=True)
class _Call:
    """One line of the function."""

    node: Node
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_kept: bool  # even if unused: it writes, or draws random numbers


@final
class _Writer:
    """Converts one graph to a function."""

    def __init__(self, module: GraphModule, num_values: int) -> None:
        self._module = module
        self._num_values = num_values
        self._nodes: list[Node] = list(module.graph.nodes)
        self._inputs = [node for node in self._nodes if node.op == "placeholder"]
        self._written = {root for node in self._nodes for root in _written_by(node)}
        self._found: dict[Node, Any] = {}  # node -> its result in the trial
        self._same: dict[Node, Node] = {}  # node -> an earlier one with the same result
        self._constant: dict[Node, Any] = {}
        self._known: dict[Any, Node] = {}
        self._calls: list[_Call] = []
        self._names: dict[str, Any] = {}  # constants and operations of the function

    def write(self, inputs: Sequence[torch.Tensor]) -> Callable[..., None]:
        """Walk through the graph, trying each operation; then write the needed lines."""
        self._found.update(zip(self._inputs, inputs, strict=True))
        for node in self._nodes:
            if node.op == "get_attr":
                self._constant[node] = self._found[node] = getattr(self._module, str(node.target))
            elif node.op == "call_function":
                self._visit(node)
        outputs = [self._resolve(node) for node in self._nodes[-1].args[0]]
        return self._emit(self._needed(outputs), outputs)

    def _visit(self, node: Node) -> None:
        target: Any = node.target
        _refuse(node)
        args, kwargs = map_arg((node.args, node.kwargs), self._resolve)
        real_args, real_kwargs = map_arg((args, kwargs), self._found.__getitem__)
        found = self._found[node] = target(*real_args, **real_kwargs)
        if target in _ALIASES:
            self._same[node] = args[0]
            return
        is_kept = _is_kept(target)
        if not is_kept and node not in self._written:
            if self._is_constant(target, args, kwargs):
                self._constant[node] = found
                return
            key = self._key(target, args, kwargs)
            if key is not None and (earlier := self._known.setdefault(key, node)) is not node:
                self._same[node] = earlier
                return
        function = (
            DIRECT.get(target, target)
            if is_kept
            else _quickest(target, real_args, real_kwargs, found)
        )
        self._calls.append(_Call(node, function, args, kwargs, is_kept))

    def _resolve(self, node: Node) -> Node:
        while node in self._same:
            node = self._same[node]
        return node

    def _is_constant(self, target: Any, args: Any, kwargs: Any) -> bool:  # noqa: ANN401  graph's
        used = _nodes_in((args, kwargs))
        return target in _FILLED or (bool(used) and all(node in self._constant for node in used))

    def _key(self, target: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401  graph's
        """Return a key that is equal for calls with the same result; None if they write."""
        if any(_root(node) in self._written for node in _nodes_in((args, kwargs))):
            return None
        return repr((str(target), args, sorted(kwargs.items())))

    def _needed(self, outputs: Sequence[Node]) -> list[_Call]:
        used, calls = set(outputs), []
        for call in reversed(self._calls):
            if call.is_kept or call.node in used:
                used.update(_nodes_in((call.args, call.kwargs)))
                calls.append(call)
        return calls[::-1]

    def _emit(self, calls: Sequence[_Call], outputs: Sequence[Node]) -> Callable[..., None]:
        lines = [f"def step({', '.join(map(str, self._inputs))}):"]
        last = {node: call for call in calls for node in _nodes_in((call.args, call.kwargs))}
        kept = {*outputs, *self._inputs}
        for call in calls:
            lines.append(f"    {call.node} = {self._spell(call)}")
            dead = [
                str(node)
                for node in dict.fromkeys(_nodes_in((call.args, call.kwargs)))
                if last[node] is call and node not in kept and node not in self._constant
            ]
            if dead:  # free memory as early as autograd would
                lines.append(f"    {' = '.join(dead)} = None")
        lines += self._copies(outputs)
        exec("\n".join(lines), self._names)  # noqa: S102  generated above
        function: Callable[..., None] = self._names["step"]
        return function

    def _copies(self, outputs: Sequence[Node]) -> list[str]:
        """Return the line that writes outputs over the values they replace."""
        pairs = [
            (value, output)
            for value, output in zip(self._inputs[: self._num_values], outputs, strict=True)
            if value is not output
        ]
        if any(output in self._inputs for _, output in pairs):
            raise ValueError("a variable is assigned another variable's value")
        if not pairs:
            return []
        self._names["copy"] = torch._foreach_copy_
        values, news = zip(*pairs, strict=True)
        return [f"    copy([{', '.join(map(str, values))}], {self._literal(list(news))})"]

    def _spell(self, call: _Call) -> str:
        if call.function is operator.getitem:
            return f"{self._literal(call.args[0])}[{call.args[1]!r}]"
        words = [self._literal(arg) for arg in call.args]
        words += [f"{name}={self._literal(arg)}" for name, arg in call.kwargs.items()]
        return f"{self._bind('f', call.function)}({', '.join(words)})"

    def _literal(self, value: Any) -> str:  # noqa: ANN401  whatever a graph holds
        if isinstance(value, Node):
            known = value in self._constant
            return self._bind("k", self._constant[value]) if known else str(value)
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self._literal, value))}]"
        if isinstance(value, _LITERALS) and repr(value) not in {"inf", "-inf", "nan"}:
            return repr(value)
        return self._bind("k", value)

    def _bind(self, letter: str, value: Any) -> str:  # noqa: ANN401  whatever a graph holds
        name = f"{letter}_{id(value)}"
        self._names[name] = value
        return name


def is_same_graph(one: GraphModule, other: GraphModule) -> bool:
    """Return whether two graphs run the same operations on the same arguments and constants."""
    return _spelled(one) == _spelled(other) and all(
        _is_same(mine, its) for mine, its in zip(_constants(one), _constants(other), strict=True)
    )


def _spelled(module: GraphModule) -> list[tuple[str, ...]]:
    return [
        (node.op, str(node.target), node.name, repr(node.args), repr(sorted(node.kwargs.items())))
        for node in module.graph.nodes
    ]


def _constants(module: GraphModule) -> list[torch.Tensor]:
    names = [str(node.target) for node in module.graph.nodes if node.op == "get_attr"]
    return [getattr(module, name) for name in names]


def _refuse(node: Node) -> None:
    """Raise if an operation's result cannot be repeated by a call with other values.

    Raises:
        ValueError: It draws from its own generator, its shape depends on values, or it writes to a
            constant.
    """
    target: Any = node.target
    words = (*node.args, *node.kwargs.values())
    if any(isinstance(word, torch.Generator) for word in words):
        raise ValueError(f"{target} draws from a random generator of its own")
    if torch.Tag.dynamic_output_shape in getattr(target, "tags", ()) and not _is_gather(node):
        raise ValueError(f"the shape of what {target} returns depends on values")
    if any(root.op == "get_attr" for root in _written_by(node)):
        raise ValueError(f"{target} writes to a constant")


def _is_gather(node: Node) -> bool:
    """Return whether a node selects elements by integers, so that its size is theirs."""
    if node.target is not _aten.index.Tensor:
        return False
    indices = [each.meta.get("val") for each in _nodes_in(node.args[1])]
    return all(
        getattr(index, "dtype", torch.bool) not in (torch.bool, torch.uint8) for index in indices
    )


def _nodes_in(tree: Any) -> list[Node]:  # noqa: ANN401  arguments of a graph
    found: list[Node] = []
    map_arg(tree, found.append)
    return found


def _root(node: Node) -> Node:
    """Return the node whose memory this one views."""
    while node.op == "call_function" and node.args:
        schema = getattr(node.target, "_schema", None)
        is_view = schema is not None and any(part.alias_info for part in schema.returns)
        if not (is_view or node.target in _ALIASES or node.target is operator.getitem):
            break
        first = _nodes_in(node.args[0])
        if not first:
            break
        node = first[0]
    return node


def _written_by(node: Node) -> list[Node]:
    """Return the nodes whose memory this one modifies."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    named = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
    named.update(node.kwargs)
    changed = [
        named.get(argument.name)
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return [_root(each) for each in _nodes_in(changed)]


def _is_kept(target: Any) -> bool:  # noqa: ANN401  an operation
    """Return whether an operation does more than return a value."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return False
    return schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags


def _quickest(
    target: Any,  # noqa: ANN401  an operation
    args: Any,  # noqa: ANN401  its arguments
    kwargs: Any,  # noqa: ANN401  the same
    wanted: Any,  # noqa: ANN401  its result
) -> Callable[..., Any]:
    """Return a function of torch with the same result, or the operation itself.

    Called from Python, `torch.mm` takes a third of the time of `torch.ops.aten.mm.default`.
    """
    packet = getattr(target, "overloadpacket", None)
    name = getattr(packet, "__name__", "")
    for home in (torch, torch.Tensor):
        candidate = getattr(home, name, None)
        if candidate is None:
            continue
        try:
            found = candidate(*args, **kwargs)
        except (TypeError, RuntimeError, ValueError, NotImplementedError):
            continue
        if _is_same(found, wanted):
            quick: Callable[..., Any] = candidate
            return quick
    operation: Callable[..., Any] = target
    return operation


def _is_same(one: Any, other: Any) -> bool:  # noqa: ANN401  tensors, or tuples of them
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.dtype == other.dtype and one.stride() == other.stride()
        return bool(alike and one.shape == other.shape and torch.equal(one, other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return False
