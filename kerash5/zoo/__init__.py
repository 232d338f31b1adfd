"""The models that ship with kerash5, and those of other packages: names, recipes, and `build`.

`build` returns a compiled `keras.Model`; `names` lists the models, `describe` and `info` explain
one; `register` adds a function of one's own. Importing this package does not import Keras; `build`
does. Nothing here trains.
"""

from __future__ import annotations

from kerash5.zoo._build import build
from kerash5.zoo._info import ModelInfo, Recipe
from kerash5.zoo._registry import describe, info, names, register, suited_shape

__all__ = [
    "ModelInfo",
    "Recipe",
    "build",
    "describe",
    "info",
    "names",
    "register",
    "suited_shape",
]
