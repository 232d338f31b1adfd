"""Where the rows of batches come from: straight from the file, or from memory within a budget.

Three stores, one answer. `DirectRows` reads each batch. `ResidentRows` keeps what was read, where
all of it fits. `WindowRows` holds the window being served and the next one. What to keep and what
to drop follows from the plan: nothing is guessed.
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
