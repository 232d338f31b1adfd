"""Stores of rows: read batches from the file, or from memory within a byte budget.

All stores return the same batches. `DirectRows` reads each batch from the file. `ResidentRows`
reads each row once and caches all of them. `WindowRows` caches the window being served and the next
one. The plan determines which rows are needed next, so nothing is guessed.
"""

from kerash5.batches.cache._budget import AUTO_CACHE_BYTES, parse_cache, parse_size
from kerash5.batches.cache._resident import ResidentBlocks, ResidentRows
from kerash5.batches.cache._store import AbstractRows, Arrays
from kerash5.batches.cache._uncached import DirectRows
from kerash5.batches.cache._windowed import INDEX_BYTES, WindowRows

__all__ = [
    "AUTO_CACHE_BYTES",
    "INDEX_BYTES",
    "AbstractRows",
    "Arrays",
    "DirectRows",
    "ResidentBlocks",
    "ResidentRows",
    "WindowRows",
    "parse_cache",
    "parse_size",
]
