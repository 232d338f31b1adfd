"""How fast could mixed batches of a file be read whose rows do not fit into memory?

    pip install -e '.[fast,filters]'
    python benchmarks/mixing_limit.py --mnist DIR [--rows 60000] [--rounds 9]

The files, batches and cache of `read_rows` (`a tenth fits`), where chunks hold whole rows. Rows
that come out of chunks in one order and are served in another are copied at least once after they
have been decoded, so nobody could reach `decoding alone`. What could be reached is `decoding and
mixing alone`: see `_decode_limit`. All three are measured once a round, in turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from _decode_limit import DecodeLimit
from _harness import Outcome, take_turns
from read_rows import LIMIT, TENTH, Data, layouts, measure_limit, open_ours, seconds_of

MIXING = "decoding and mixing alone"


def main() -> None:
    """Measure every layout whose chunks hold whole rows, and write the results."""
    measure_limit("mixing_limit", __doc__, measure_all)


def measure_all(data: Data, rounds: int) -> Iterator[Outcome]:
    """Measure layout after layout."""
    for layout in layouts():
        yield from measure(layout, data, rounds)


def measure(layout: str, data: Data, rounds: int) -> Iterator[Outcome]:
    """Measure one layout; nothing where chunks hold no whole rows."""
    if "chunks" not in layouts()[layout]:
        return
    path, epochs, num_rows = data.write(layout), count(), len(data.rows)
    tenth = open_ours(path, data.rows.nbytes // 10)
    limit = DecodeLimit(path, "image", data.rows.nbytes // 10)
    ways = {
        LIMIT: lambda: num_rows / limit.seconds(),
        MIXING: lambda: num_rows / limit.mixing_seconds(),
        TENTH: lambda: num_rows / seconds_of(tenth.epoch(next(epochs))),
    }
    turns = list(take_turns(ways, rounds=rounds))
    path.unlink()
    decoding, mixing, ours = (
        Outcome(case=layout, way=way, unit="rows/s", values=[turn[way] for turn in turns])
        for way in ways
    )
    yield decoding
    yield mixing.compared(decoding)
    yield ours.compared(decoding)
    yield replace(ours.compared(mixing), way=f"{TENTH} / {MIXING}", unit="")


if __name__ == "__main__":
    main()
