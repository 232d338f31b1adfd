"""Write reports of runs and comparisons: figures, tables and pages. Never imports Keras."""

from kerash5.report._baseline import Slower, slower_than_baseline
from kerash5.report._page import write_report
from kerash5.report._text import render_terminal
from kerash5.report.runs._pictures import draw_curves, draw_predictions
from kerash5.report.runs._searches import BatchSizes, LearningRates, Trial

__all__ = [
    "BatchSizes",
    "LearningRates",
    "Slower",
    "Trial",
    "draw_curves",
    "draw_predictions",
    "render_terminal",
    "slower_than_baseline",
    "write_report",
]
