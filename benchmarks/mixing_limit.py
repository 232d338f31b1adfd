"""How fast could mixed batches of a file be read whose rows do not fit into memory?

    pip install -e '.[fast,filters]'
    python benchmarks/mixing_limit.py --mnist DIR [--rows 60000] [--rounds 9]

The files, batches and cache of `read_rows` (`a tenth fits`), where chunks hold whole rows. Rows
that come out of chunks in one order and are served in another are copied at least once after they
have been decoded, so nobody could reach `decoding alone`. What could be reached is `decoding and
mixing alone`: see `_decode_limit`. All three are measured once a round, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from _decode_limit import DecodeLimit
from _harness import Outcome, ResultFile, take_turns
from _peers import BATCH
from read_rows import LIMIT, PACKAGES, TENTH, Data, layouts, make_rows, open_ours, seconds_of

MIXING = "decoding and mixing alone"


def main() -> None:
    """Measure every layout whose chunks hold whole rows, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mnist", type=Path, help="the folder with the full train.hdf5")
    parser.add_argument("--folder", type=Path, help="for files of some GB while it runs")
    parser.add_argument("--out", type=Path, help="another place for the results")
    options = parser.parse_args()
    settings = {"rows": options.rows, "batch": BATCH, "rounds": options.rounds}
    file = ResultFile.begin(
        "mixing_limit", packages=PACKAGES, settings=settings, out=options.out, add=False
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data = Data(*make_rows(options.mnist, options.rows), Path(folder))
        for layout in layouts():
            for outcome in measure(layout, data, options.rounds):
                print(outcome.case, outcome.way, outcome.shares or outcome.values)
                file.add(outcome)


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
