"""What reading a file was measured to be: a table for the terminal, and one sentence."""

from __future__ import annotations

import math
from typing import Final

from rich.table import Table

from kerash5.benchmark._reading import Reading
from kerash5.benchmark._ways import FIRST, H5PY, HELD, LATER, MEMORY, REWRITTEN, SAMPLE
from kerash5.report._wording import NOTHING, number

_AS_FAST: Final = 0.8  # of arrays in memory: what is left is not worth a change
_GAIN: Final = 1.2  # times as fast, at least, before a change is advised
_WAYS: Final = (MEMORY, LATER, FIRST, HELD, H5PY, SAMPLE, REWRITTEN)


def reading_table(reading: Reading) -> Table:
    """Return a line for each way: rows per second, their spread, and the share of memory."""
    table = Table(title=f"{reading.path}: shuffled batches of {reading.batch_size} rows")
    for heading in ("", "rows/s", "smallest", "largest", "of memory"):
        table.add_column(heading, justify="right" if heading else "left")
    for way in _WAYS:
        if way in reading.skipped:
            table.add_row(way, NOTHING, NOTHING, NOTHING, reading.skipped[way])
        if way in reading.speeds:
            speeds = reading.speeds[way]
            share = reading.share(way, MEMORY)
            middle = reading.median(way) or 0
            cells = [number(value) for value in (middle, min(speeds), max(speeds))]
            table.add_row(way, *cells, NOTHING if share is None else number(share, digits=2))
    return table


def reading_verdict(reading: Reading) -> str:
    """Return one sentence: how fast it is, and what to do."""
    found = [f"kerash5 reads this file at {number(reading.median(LATER) or 0)} rows/s"]
    share, times = reading.share(LATER, MEMORY), reading.share(LATER, H5PY)
    if share is not None:
        found.append(f"{number(share, digits=2)} of the speed of arrays in memory")
    if times is not None:
        found.append(f"{number(times, digits=2)} times that of h5py")
    return f"{', '.join(found)}: {_advice(reading, share)}."


def _advice(reading: Reading, share: float | None) -> str:
    if share is not None and share >= _AS_FAST:
        return "there is nothing to do"
    held = reading.share(HELD, LATER)
    if held is not None and held >= _GAIN:
        megabytes = math.ceil(reading.num_bytes * 1.05 / 1e6)
        return (
            f"set cache='{megabytes}MB', which holds all rows and reads {number(held, digits=2)} "
            "times as fast"
        )
    gain = reading.share(REWRITTEN, SAMPLE)
    if gain is None:
        return "no other setting was seen to help; --rewrite measures whether rewriting it would"
    if gain >= _GAIN:
        return (
            f"rewrite it with kerash5.write, for its first {reading.num_sampled} rows then come "
            f"{number(gain, digits=2)} times as fast in the first epoch"
        )
    return "no other setting was seen to help, and rewriting it would not"
