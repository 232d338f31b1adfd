"""How fast do shuffled batches come out of an HDF5 file, as a share of gathering them from memory?

    pip install -e '.[fast,filters]'
    python benchmarks/read_rows.py --mnist DIR [--rows 60000] [--rounds 5] [--python torch=PATH ...]

56x56x3 uint8 rows, made of MNIST digits (of the shipped ones without --mnist), in batches of 256,
one epoch a measurement, in several layouts. Everything is measured once a round, in turns; what
counts is the share of the NumPy gather of the same round. `all fits` has room for all rows decoded,
and its first epoch, which decodes, is shown apart; `a tenth fits` has room for a tenth of them, and
its limit is `decoding alone`: see `_decode_limit`. Other loaders run in processes of their own, in
the Python that --python names for their environment (h5py, keras, torch, grain, tensorflow,
datasets, litdata), for --seconds at the most in each round; those that cannot run are in the
results with the reason.
"""

from __future__ import annotations

import argparse
import fcntl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from _decode_limit import DecodeLimit
from _harness import Outcome, ResultFile, take_turns
from _peer_group import Peers
from _peer_process import PEERS
from _peers import BATCH

from kerash5.assets import digits_train
from kerash5.batches._batches import Batches, BatchOptions, open_batches

SHAPE: Final = (56, 56, 3)
PACKAGES: Final = ("kerash5", "numpy", "h5py", "hdf5plugin", "imagecodecs")
NUMPY, ALL, FIRST, TENTH, LIMIT, OF_LIMIT = (
    "NumPy",
    "all fits",
    "first epoch",
    "a tenth fits",
    "decoding alone",
    "a tenth fits / decoding alone",
)


def main() -> None:
    """Measure every layout, write the results, and say which targets are met."""
    options = parse()
    settings = {"rows": options.rows, "batch": BATCH, "rounds": options.rounds}
    file = ResultFile.begin(
        "read_rows", packages=PACKAGES, settings=settings, out=options.out, add=options.add
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data = Data(*make_rows(options.mnist, options.rows), Path(folder))
        data.save()
        peers = Peers(data.folder, dict(options.python), options.peers, options.seconds)
        try:
            for outcome in peers.convert():
                file.add(outcome)
            for layout in options.layouts:
                for outcome in measure(layout, data, peers, options.rounds, options.lock):
                    file.add(outcome)
        finally:
            peers.close()
    _, outcomes = ResultFile.read(file.path)
    print("\n".join(judge(outcomes)))


def parse() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a peer in a round")
    parser.add_argument("--mnist", type=Path, help="the folder with the full train.hdf5")
    parser.add_argument("--layouts", nargs="*", default=list(layouts()), choices=list(layouts()))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument(
        "--python", action="append", default=[], type=lambda text: text.split("=", 1)
    )
    parser.add_argument("--folder", type=Path, help="for files of some 10 GB while it runs")
    parser.add_argument("--lock", type=Path, help="held in the rounds: others measure here, too")
    parser.add_argument("--add", action="store_true", help="more layouts to the results of today")
    parser.add_argument("--out", type=Path, help="another place for the results")
    return parser.parse_args()


def layouts() -> dict[str, dict[str, Any]]:
    """Return what `create_dataset` is told, by layout."""
    whole = {"chunks": (64, *SHAPE)}
    plugin = import_module("hdf5plugin")
    return {
        "contiguous": {},
        "gzip-64": {**whole, "compression": "gzip"},
        "lzf-64": {**whole, "compression": "lzf"},
        "zstd-64": {**whole, **plugin.Zstd()},
        "blosc-64": {**whole, **plugin.Blosc()},
        "auto-chunked gzip": {"compression": "gzip"},
        "one row per gzip chunk": {"chunks": (1, *SHAPE), "compression": "gzip"},
    }


def make_rows(mnist: Path | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return digits of twice the size in three channels, one of them inverted, and their labels."""
    with h5py.File(mnist / "train.hdf5" if mnist else digits_train()) as file:
        images, labels = file["image"][()], file["label"][()]
    chosen = np.arange(count) % len(images)
    large = images.repeat(2, axis=1).repeat(2, axis=2)[chosen]
    return np.stack([large, 255 - large, large], axis=-1), labels[chosen]


@dataclass(frozen=True, slots=True)
class Data:
    """The rows, in memory, and where files of them go."""

    rows: np.ndarray
    labels: np.ndarray
    folder: Path

    def save(self) -> None:
        """Write what peers convert."""
        np.save(self.folder / "rows.npy", self.rows)
        np.save(self.folder / "labels.npy", self.labels)

    def write(self, layout: str) -> Path:
        """Write the file in one layout; return its path."""
        path = self.folder / f"{layout}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=self.rows, **layouts()[layout])
            file["label"] = self.labels
        return path


def measure(
    layout: str, data: Data, peers: Peers, rounds: int, lock: Path | None
) -> Iterator[Outcome]:
    """Measure one layout in turns; with the contiguous one, the own formats of peers too."""
    path = data.write(layout)
    ways = {**our_ways(path, data), **peers.open(path, own_formats=False)}
    own = peers.open(path, own_formats=True) if layout == "contiguous" else {}
    with lock.open("w") if lock else nullcontext() as held:
        if held:
            fcntl.flock(held, fcntl.LOCK_EX)
        turns = list(take_turns({**ways, **own}, rounds=rounds))
    path.unlink()
    values = {way: [turn[way] for turn in turns] for way in turns[0]}
    print(f"{layout}: { ({way: round(statistics.median(v)) for way, v in values.items()}) }")
    yield from as_outcomes(layout, values, peers, own)


def our_ways(path: Path, data: Data) -> dict[str, Callable[[], float]]:
    """Return how to measure the gather in memory, ours, and its limit."""
    num_bytes = data.rows.nbytes
    fits, tenth = open_ours(path, 2 * num_bytes), open_ours(path, num_bytes // 10)
    seconds_of(fits.epoch(0))

    def in_training(seconds: Callable[[int], float]) -> Callable[[], float]:
        # As between the epochs of a training: the one before has just been, and its end has read
        # ahead. What has lain idle while other loaders ran comes back slowly on a virtual machine.
        epochs = count(1)

        def speed() -> float:
            seconds(next(epochs))
            return len(data.rows) / seconds(next(epochs))

        return speed

    ways = {
        NUMPY: in_training(lambda epoch: seconds_of(gather(data, epoch))),
        ALL: in_training(lambda epoch: seconds_of(fits.epoch(epoch))),
        TENTH: in_training(lambda epoch: seconds_of(tenth.epoch(epoch))),
        FIRST: lambda: len(data.rows) / seconds_of(open_ours(path, 2 * num_bytes).epoch(0)),
    }
    if layouts()[path.stem]:
        limit = DecodeLimit(path, "image", num_bytes // 10)
        print(f"{path.stem}: {limit.codec}, {limit.at_a_time} chunks at a time", file=sys.stderr)
        ways[LIMIT] = in_training(lambda _: limit.seconds())
    return ways


def measure_limit(
    name: str, doc: str | None, measure: Callable[[Data, int], Iterator[Outcome]]
) -> None:
    """Do what a benchmark of a limit does: parse its arguments, measure, write the results.

    Args:
        name: Of the benchmark.
        doc: What it says about itself.
        measure: Takes the rows and the number of rounds.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mnist", type=Path, help="the folder with the full train.hdf5")
    parser.add_argument("--folder", type=Path, help="for files of some GB while it runs")
    parser.add_argument("--out", type=Path, help="another place for the results")
    options = parser.parse_args()
    settings = {"rows": options.rows, "batch": BATCH, "rounds": options.rounds}
    file = ResultFile.begin(name, packages=PACKAGES, settings=settings, out=options.out, add=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data = Data(*make_rows(options.mnist, options.rows), Path(folder))
        for outcome in measure(data, options.rounds):
            print(outcome.case, outcome.way, outcome.shares or outcome.values)
            file.add(outcome)


def open_ours(path: Path, cache: int) -> Batches:
    """Return our batches of the file, with a cache of so many bytes."""
    return open_batches(path, "image", "label", None, BatchOptions(batch_size=BATCH, cache=cache))


def gather(data: Data, epoch: int) -> Iterator[Any]:
    """Yield shuffled batches out of arrays in memory."""
    order = np.random.default_rng(epoch).permutation(len(data.rows))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield data.rows[chosen], data.labels[chosen]


def seconds_of(batches: Iterator[Any]) -> float:
    """Return the seconds it takes to run through all batches."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def as_outcomes(
    layout: str, values: dict[str, list[float]], peers: Peers, own: dict[str, Any]
) -> Iterator[Outcome]:
    """Yield what is written: the table of ours, and that of everyone."""
    found = {
        way: Outcome(case=layout, way=way, unit="rows/s", values=each)
        for way, each in values.items()
    }
    yield found[NUMPY]
    for way in (ALL, FIRST, TENTH, LIMIT):
        if way in found:
            yield found[way].compared(found[NUMPY])
    if LIMIT in found:
        yield replace(found[TENTH].compared(found[LIMIT]), way=OF_LIMIT, unit="")
    for way, outcome in found.items():
        if way in (FIRST, LIMIT):
            continue
        name = way if way in (NUMPY, *PEERS) else f"kerash5, {way}"
        column = "own format" if way in own else layout
        everyone = replace(outcome, case=name, way=column, unit="", part="peers")
        note = PEERS[way].note if way in PEERS else ""
        if way in peers.skipped:
            yield replace(everyone, values=(), skipped=peers.skipped[way])
        else:
            yield replace(everyone, note=note).compared(replace(found[NUMPY], way=NUMPY))
    for way in sorted(peers.skipped.keys() - found.keys()):
        if PEERS[way].reads_hdf5:
            yield Outcome(case=way, way=layout, skipped=peers.skipped[way], part="peers")
        elif layout == "contiguous":
            yield Outcome(case=way, way="own format", skipped=peers.skipped[way], part="peers")


def judge(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield each target with what was measured."""
    for outcome in outcomes:
        wanted = wanted_share(outcome)
        if wanted and outcome.shares:
            found = statistics.median(outcome.shares)
            verdict = "met" if found >= wanted else "MISSED"
            yield f"{verdict}: {outcome.case}, {outcome.way}: {found:.3f}, wanted {wanted}"


def wanted_share(outcome: Outcome) -> float | None:
    """Return the target, where there is one."""
    single = outcome.case.startswith("one row")
    if outcome.part or outcome.case not in layouts():
        return None
    if outcome.way == ALL:
        return 0.7 if single else 0.9
    if outcome.way == TENTH and outcome.case == "contiguous":
        return 0.9
    return 0.8 if outcome.way == OF_LIMIT and not single else None


if __name__ == "__main__":
    main()
