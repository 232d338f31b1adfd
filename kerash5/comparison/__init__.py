"""Measure backends against each other: processes, parity, statistics. Never imports Keras."""

from kerash5.comparison._compare import compare
from kerash5.comparison._merge import merge_comparisons
from kerash5.comparison._results import Comparison

__all__ = ["Comparison", "compare", "merge_comparisons"]
