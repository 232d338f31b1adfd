"""Room 7, the report: runs become pictures, tables and pages. Never imports Keras."""

from kerash5.report._compare import compare
from kerash5.report._pictures import draw_curves, draw_predictions
from kerash5.report._results import Comparison
from kerash5.report._searches import BatchSizes, LearningRates, Trial

__all__ = [
    "BatchSizes",
    "Comparison",
    "LearningRates",
    "Trial",
    "compare",
    "draw_curves",
    "draw_predictions",
]
