"""Run the optimizer steps: one fast engine per backend, and a plain one for every model.

An engine knows nothing of files, epochs or callbacks; it receives batches, in order.
"""

from kerash5.train.engines._select import make_engine, why_not_fused
from kerash5.train.engines.common._engine import AbstractEngine, Steps

__all__ = ["AbstractEngine", "Steps", "make_engine", "why_not_fused"]
