"""Figures and numbers of single runs and of searches."""
