"""References to objects and regions, translated from one file to another by the paths they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import h5py
import numpy as np

_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError)


def holds_references(dtype: np.dtype) -> bool:
    """Return whether values of a type are references, or have some in them."""
    if dtype.names is not None:
        return any(holds_references(dtype[name]) for name in dtype.names)
    if dtype.subdtype is not None:
        return holds_references(dtype.base)
    inner = h5py.check_vlen_dtype(dtype)
    if isinstance(inner, np.dtype):
        return holds_references(inner)
    return h5py.check_ref_dtype(dtype) is not None


@final
class ReferenceMap:
    """Translates references of one file to those of another with the same paths.

    Args:
        source: The file that references were read from.
        target: The other file; the objects must exist there.
        note: Called with a sentence about a reference that cannot be translated.
    """

    def __init__(self, source: h5py.File, target: h5py.File, note: Callable[[str], None]) -> None:
        self._source = source
        self._target = target
        self._note = note

    def translate(self, values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
        """Return values with their references translated.

        Args:
            values: As h5py reads them, of any shape.
            dtype: Their type in the file, as h5py describes it.
            what: What has them, for the note about those that are lost.
        """
        if dtype.subdtype is not None:
            return self.translate(values, dtype.base, what)
        made = values.copy()
        if dtype.names is not None:
            for name in dtype.names:
                if holds_references(dtype[name]):
                    made[name] = self.translate(made[name], dtype[name], what)
            return made
        inner = h5py.check_vlen_dtype(dtype)
        for place in np.ndindex(made.shape):
            value = made[place]
            if isinstance(inner, np.dtype):
                made[place] = self.translate(np.asarray(value), inner, what)
            else:
                made[place] = self._translate_one(value, what)
        return made

    def _translate_one(self, reference: Any, what: str) -> Any:  # noqa: ANN401  of h5py
        kind = type(reference)
        if not reference:
            return kind()
        try:
            path = h5py.h5r.get_name(reference, self._source.id)
            if path is not None and not isinstance(reference, h5py.RegionReference):
                return self._target[path].ref
            if path is not None:
                region = h5py.h5r.get_region(reference, self._source.id)
                return h5py.h5r.create(self._target.id, path, h5py.h5r.DATASET_REGION, region)
        except _ERRORS:
            pass
        self._note(f"a reference in {what} is not kept: what it refers to is not in the file")
        return kind()
