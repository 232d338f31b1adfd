"""One trace of a model's `train_step`, from which all programs are compiled, and its digest.

A trace has the Python values of the time it was made, such as attributes, closures and variables
outside the model, as constants. Plain `fit` traces once per shape of batch. Tracing each program
separately, when it is compiled, would mix values of different times.
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


_VERSION: Final = 2  # version of the digest's input


@final
class Trace:
    """`train_step` as traced by JAX, for batches of one shape.

    Args:
        model: A built model; Python values that its step reads are constants from now on.
        state: State argument of `train_step`.
        batch: A batch of this shape.

    Attributes:
        logs: Shapes and dtypes of the step's results besides the state.
        digest: Digest of operations and constants; equal in processes that trace the same.
        primitives: Names of all operations.
    """

    def __init__(self, model: keras.Model, state: Any, batch: Batch) -> None:  # noqa: ANN401  a tree
        def step(state: Any, batch: Batch) -> Any:  # noqa: ANN401  trees
            # A new function: for the bound method JAX would return an earlier trace.
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
    """Return the versions under which traces can be compared."""
    return _traces.name_versions(jax, _VERSION, jax.default_backend())


def _without_state(traced: ClosedJaxpr, state: list[Any]) -> ClosedJaxpr:
    """Copy constants that are arrays of the state, because the first program donates these."""
    taken = set(map(id, state))
    consts = [jax.numpy.copy(one) if id(one) in taken else one for one in traced.consts]
    return ClosedJaxpr(traced.jaxpr, consts)


@final
class _Writer:
    """Write a traced function to a digest: operations, types, parameters, constants.

    Its text is not used, because JAX omits values of large constants there and prints addresses.
    """

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.primitives: set[str] = set()
        self._numbers: dict[int, int] = {}  # of variables, and of written functions
        self._types: dict[int, str] = {}

    def write(self, value: Any) -> None:  # noqa: ANN401  whatever a parameter is
        """Write a parameter of an operation, or a whole function."""
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
        elif callable(value):  # a rule, which tracing has already applied
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
        """Write the number of a variable or function; return whether it had one."""
        count = len(self._numbers)
        number = self._numbers.setdefault(id(one), count)  # the trace keeps it alive
        self._note(f"#{number}")
        return number < count

    def _name_type(self, aval: object) -> str:
        if id(aval) not in self._types:
            # "~int32[]" is a weak type. Its effects, such as the type of a sum, are visible
            # elsewhere, and a variable created from a Python number loses it in a checkpoint.
            self._types[id(aval)] = str(aval).removeprefix("~")
        return self._types[id(aval)]

    def _note(self, text: str) -> None:
        self.digest.update(f"{text}\n".encode())
