"""The models that ship with kerash5: a registry, and one model family per file.

`build` returns a compiled `keras.Model`, `names` lists the models, and `describe` explains a name.
Importing this package does not import Keras; `build` does. Nothing here trains.
"""

from __future__ import annotations

from kerash5.zoo._registry import build, describe, names, suited_shape

__all__ = ["build", "describe", "names", "suited_shape"]
