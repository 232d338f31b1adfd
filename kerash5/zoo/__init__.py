"""The models that ship with kerash5: a registry, and one family per file.

`build` gives a plain compiled `keras.Model`; `names` lists what it can build, and `describe` says
what a name means. Importing this package imports no Keras: `build` does. Nothing here trains.
"""

from __future__ import annotations

from kerash5.zoo._registry import build, describe, names, suited_shape

__all__ = ["build", "describe", "names", "suited_shape"]
