"""Checkpoints, the folder of a run, and how a fit is resumed from them."""
