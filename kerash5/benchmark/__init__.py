"""Measure how fast a user's file is read, compared with h5py and memory: `kerash5 bench`."""

from kerash5.benchmark._reading import Reading, bench
from kerash5.benchmark._words import reading_table, reading_verdict

__all__ = ["Reading", "bench", "reading_table", "reading_verdict"]
