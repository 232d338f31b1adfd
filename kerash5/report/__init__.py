"""Room 7, the report: runs become pictures, tables and pages. Never imports Keras."""

from kerash5.report._pictures import draw_curves, draw_predictions

__all__ = ["draw_curves", "draw_predictions"]
