"""One trace of a model's `train_step`, which all compiled programs run, and a digest of it.

A trace has what Python held when it was made, such as attributes, closures and variables outside
the model, as constants. Plain `fit` traces once for each shape of batch. Programs that were traced
one by one, each when it is compiled, would hold values of different moments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, final

import jax
import keras
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from kerash5.batches._batches import Batch
from kerash5.train.engines.common import _traces
from kerash5.train.engines.common._data import as_fit_hands

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


_VERSION: Final = 2  # of what is fed to the digest


@final
class Trace:
    """`train_step` as JAX traced it, for batches of one shape.

    Args:
        model: Built; its step may read anything from Python, now and never again.
        state: What `train_step` takes.
        batch: Of this shape.

    Attributes:
        logs: Shapes and dtypes of what the step returns besides the state.
        digest: Of the operations and constants; the same in another process that traces the same.
        primitives: The names of all operations.
    """

    def __init__(self, model: keras.Model, state: Any, batch: Batch) -> None:  # noqa: ANN401  a tree
        def step(state: Any, batch: Batch) -> Any:  # noqa: ANN401  trees
            # A new function: JAX would return an earlier trace of the bound method itself.
            return model.train_step(state, as_fit_hands(batch))

        traced, shapes = jax.make_jaxpr(step, return_shape=True)(state, batch)
        self.logs = shapes[0]
        self._tree = jax.tree.structure(shapes)
        self._run = jaxpr_as_fun(_without_state(traced, jax.tree.leaves(state)))
        writer = _Writer()
        writer.write(traced)
        self.digest = writer.digest.hexdigest()[:16]
        self.primitives = frozenset(writer.primitives)

    def __call__(self, state: Any, batch: Batch) -> Any:  # noqa: ANN401  trees
        """Return logs and new state, as `train_step` does."""
        return jax.tree.unflatten(self._tree, self._run(*jax.tree.leaves((state, batch))))


def name_shapes(batch: Batch) -> str:
    """Return the shapes of a batch as JAX sees them: "('float32[8, 4]', 'int32[8]')"."""
    shapes = jax.eval_shape(lambda one: one, batch)
    named = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", shapes)
    return str(named)


def name_versions() -> str:
    """Return between which traces can be compared."""
    return _traces.name_versions(jax, _VERSION, jax.default_backend())


def _without_state(traced: ClosedJaxpr, state: list[Any]) -> ClosedJaxpr:
    """Copy the constants that are arrays of the state, which the first program takes for itself."""
    taken = set(map(id, state))
    consts = [jax.numpy.copy(one) if id(one) in taken else one for one in traced.consts]
    return ClosedJaxpr(traced.jaxpr, consts)


@final
class _Writer:
    """Feeds a traced function to a digest: operations, types, parameters, constants.

    Not by its text, in which JAX leaves out the values of large constants and writes addresses.
    """

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.primitives: set[str] = set()
        self._numbers: dict[int, int] = {}  # of variables, and of functions that were written
        self._types: dict[int, str] = {}

    def write(self, value: Any) -> None:  # noqa: ANN401  whatever a parameter is
        """Feed a parameter of an operation, or a whole function."""
        if value is None or isinstance(value, str | int | float):
            self._note(str(value))
        elif isinstance(value, ClosedJaxpr):
            self.write(value.jaxpr)
            self.write(value.consts)
        elif isinstance(value, Jaxpr):
            self._write_function(value)
        elif isinstance(value, Mapping):
            self.write(sorted(value.items(), key=str))
        elif isinstance(value, set | frozenset):
            self.write(sorted(value, key=str))
        elif isinstance(value, tuple | list):
            self._note(f"{len(value)}(")
            for item in value:
                self.write(item)
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            self._write_array(value)
        elif callable(value):  # a rule, which the operations already went through
            self._note(getattr(value, "__qualname__", type(value).__qualname__))
        else:
            self._note(_ADDRESS.sub("", str(value)))

    def _write_function(self, function: Jaxpr) -> None:
        if self._number(function):
            return
        self._write_variables([*function.constvars, *function.invars])
        for operation in function.eqns:
            self.primitives.add(operation.primitive.name)
            self._note(operation.primitive.name)
            self._write_variables([*operation.invars, *operation.outvars])
            self.write(operation.params)
        self._write_variables(function.outvars)

    def _write_variables(self, variables: list[Any]) -> None:
        for variable in variables:
            if isinstance(variable, Literal):
                self.write(variable.val)
                self._note(str(variable.aval))
            elif not self._number(variable):
                self._note(self._name_type(variable.aval))

    def _write_array(self, array: Any) -> None:  # noqa: ANN401  of NumPy or JAX
        if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        values = np.asarray(array)
        self._note(f"{values.dtype}{values.shape}")
        self.digest.update(values.tobytes())

    def _number(self, one: object) -> bool:
        """Feed the number of a variable or function; say whether it had one."""
        count = len(self._numbers)
        number = self._numbers.setdefault(id(one), count)  # the trace keeps it alive
        self._note(f"#{number}")
        return number < count

    def _name_type(self, aval: object) -> str:
        if id(aval) not in self._types:
            # "~int32[]" is a weak type: what it changes, such as the type of a sum, is seen there,
            # and a variable that was made of a Python number loses it in a checkpoint.
            self._types[id(aval)] = str(aval).removeprefix("~")
        return self._types[id(aval)]

    def _note(self, text: str) -> None:
        self.digest.update(f"{text}\n".encode())
