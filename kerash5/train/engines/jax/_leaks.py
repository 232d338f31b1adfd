"""What a step writes that is no part of its state: on JAX that is lost without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import jax
import keras

from kerash5._errors import RunError
from kerash5.train.state._walk import walk

_MAX_NAMED: Final = 3


@contextmanager
def refused_leaks(model: keras.Model) -> Iterator[None]:
    """Raise `RunError` if what is traced here writes variables that are not in the model's state.

    Such a variable would hold a tracer afterwards; it gets its value back.
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
            f"train_step of model {model.name!r} writes {named}, which is not in the state that it "
            "takes and returns on JAX, so what it writes is lost; make it a variable of the model, "
            "its optimizer or its metrics and return it, or compile with run_eagerly=True"
        )
