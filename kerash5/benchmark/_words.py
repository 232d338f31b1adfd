"""Format measured reading speeds: a table for the terminal, and one sentence."""

from __future__ import annotations

import math
from typing import Final

from rich.table import Table

from kerash5.benchmark._reading import Reading
from kerash5.benchmark._ways import CACHED, FIRST, H5PY, LATER, MEMORY, REWRITTEN, SAMPLE
from kerash5.report._wording import NOTHING, number

_AS_FAST: Final = 0.8  # of arrays in memory; above it, no change is advised
_GAIN: Final = 1.2  # smallest speedup for which a change is advised
_WAYS: Final = (MEMORY, LATER, FIRST, CACHED, H5PY, SAMPLE, REWRITTEN)


def reading_table(reading: Reading) -> Table:
    """Return a line for each way: rows per second, their spread, and the ratio to memory."""
    table = Table(title=f"{reading.path}: shuffled batches of {reading.batch_size} rows")
    for heading in ("", "rows/s", "smallest", "largest", "/ memory"):
        table.add_column(heading, justify="right" if heading else "left")
    for way in _WAYS:
        if way in reading.skipped:
            table.add_row(way, NOTHING, NOTHING, NOTHING, reading.skipped[way])
        if way in reading.speeds:
            speeds = reading.speeds[way]
            ratio = reading.ratio(way, MEMORY)
            middle = reading.median(way) or 0
            cells = [number(value) for value in (middle, min(speeds), max(speeds))]
            table.add_row(way, *cells, NOTHING if ratio is None else number(ratio, digits=2))
    return table


def reading_verdict(reading: Reading) -> str:
    """Return one sentence: how fast the file is read, and what to change."""
    found = [f"kerash5 reads this file at {number(reading.median(LATER) or 0)} rows/s"]
    ratio, times = reading.ratio(LATER, MEMORY), reading.ratio(LATER, H5PY)
    if ratio is not None:
        found.append(f"{number(ratio, digits=2)} times that of arrays in memory")
    if times is not None:
        found.append(f"{number(times, digits=2)} times that of h5py")
    return f"{', '.join(found)}: {_advice(reading, ratio)}."


def _advice(reading: Reading, ratio: float | None) -> str:
    if ratio is not None and ratio >= _AS_FAST:
        return "no change is needed"
    cached = reading.ratio(CACHED, LATER)
    if cached is not None and cached >= _GAIN:
        megabytes = math.ceil(reading.num_bytes * 1.05 / 1e6)
        return (
            f"set cache='{megabytes}MB', which caches all rows and reads "
            f"{number(cached, digits=2)} times as fast"
        )
    gain = reading.ratio(REWRITTEN, SAMPLE)
    if gain is None:
        return "no other setting helped; --rewrite measures whether rewriting the file helps"
    if gain >= _GAIN:
        return (
            f"rewrite it with kerash5.write: its first {reading.num_sampled} rows are read "
            f"{number(gain, digits=2)} times as fast in the first epoch"
        )
    return "neither other settings nor rewriting the file helped"
