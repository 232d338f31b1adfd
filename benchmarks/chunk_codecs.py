"""Which codec library decodes the chunks of an HDF5 file fastest, into place and without the GIL?

    pip install 'kerash5[fast,filters]' numcodecs isal deflate zlib-ng cramjam
    python benchmarks/chunk_codecs.py --mnist train.hdf5 --out benchmarks/results/codecs

Chunks are made from MNIST, as stored and scaled to 56 x 56 x 3, packed by h5py and hdf5plugin.
All codecs take turns, round by round, on the same chunks, and each ends with the array in the same
place: what returns bytes is copied. Time is the processor's, of the one thread, so that a busy
machine blurs less. Whether the GIL is let go is seen by a second thread: does it run while one
large chunk is decoded? What is not installed is left out. Next to OUT.md, the table, OUT.jsonl
keeps every figure with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerash5.h5.storage import _decoders
from kerash5.h5.storage._filters import Filter, Pipeline

NUM_CHUNKS = 32  # different ones; they are decoded again and again until a round is long enough
ROUND_BYTES = 16 << 20
MAX_CALLS = 4096  # in a round
LARGE_BYTES = 64 << 20
PACKAGES = ("imagecodecs", "numcodecs", "isal", "deflate", "zlib-ng", "cramjam", "h5py", "numpy")

Decode = Callable[[bytes, np.ndarray], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """Chunks of one data set, packed in one way."""

    name: str
    filters: tuple[Filter, ...]
    chunks: list[bytes]
    dataset: h5py.Dataset
    num_bytes: int  # of one decoded chunk

    @property
    def num_calls(self) -> int:
        """How many chunks are decoded in a round."""
        return min(MAX_CALLS, max(NUM_CHUNKS, ROUND_BYTES // self.num_bytes))


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mnist", type=Path, required=True, help="train.hdf5 of the full MNIST")
    parser.add_argument("--out", type=Path, required=True, help="results, without a suffix")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with h5py.File(options.mnist) as file:
        images = file["image"][: 64 * NUM_CHUNKS]
    found = [
        {"case": name, "codec": codec, **figures}
        for name, rows, per_chunk, packing in make_cases(images)
        for codec, figures in measure(name, rows, per_chunk, packing, options.rounds).items()
    ]
    about = {"machine": machine(), "versions": versions(), "rounds": options.rounds}
    lines = [json.dumps({**line, **about}) + "\n" for line in found]
    options.out.with_suffix(".jsonl").write_text("".join(lines))
    table = write_table(found, about)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def make_cases(images: np.ndarray) -> Iterator[tuple[str, np.ndarray, int, Mapping[str, Any]]]:
    """Give name, rows, rows in a chunk, and how they are packed."""
    large = images.repeat(2, axis=1).repeat(2, axis=2)[..., None].repeat(3, axis=3)
    floats = images.astype("<f4") / np.float32(255)
    gzip = {"compression": "gzip", "compression_opts": 4}
    yield "gzip-4, 28x28, 64 rows", images, 64, gzip
    yield "gzip-4, 28x28, 1 row", images, 1, gzip
    yield "gzip-4, 56x56x3, 64 rows", large, 64, gzip
    yield "gzip-4, 56x56x3, 1 row", large, 1, gzip
    yield "gzip-4 + shuffle, float32 28x28, 64 rows", floats, 64, {**gzip, "shuffle": True}
    yield "shuffle, float32 28x28, 64 rows", floats, 64, {"shuffle": True}
    yield "fletcher32, 56x56x3, 64 rows", large, 64, {"fletcher32": True}
    yield "lzf, 28x28, 64 rows", images, 64, {"compression": "lzf"}
    with suppress(ImportError):
        plugin = import_module("hdf5plugin")
        yield "lz4, 28x28, 64 rows", images, 64, plugin.LZ4()
        yield "zstd, 28x28, 64 rows", images, 64, plugin.Zstd()
        yield "blosc lz4, 28x28, 64 rows", images, 64, plugin.Blosc(cname="lz4")
        yield "bitshuffle lz4, 56x56x3, 64 rows", large, 64, plugin.Bitshuffle()


def make_case(
    name: str, rows: np.ndarray, per_chunk: int, packing: Mapping[str, Any], *, num_chunks: int
) -> Case:
    """Write some chunks into a file in memory, and take their stored bytes."""
    file = h5py.File.in_memory(rdcc_nbytes=0)  # h5py would decode nothing in the second round
    rows = rows[: num_chunks * per_chunk]
    dataset = file.create_dataset("x", data=rows, chunks=(per_chunk, *rows.shape[1:]), **packing)
    creation = dataset.id.get_create_plist()
    entries = [creation.get_filter(position) for position in range(creation.get_nfilters())]
    corner = (0,) * (rows.ndim - 1)
    starts = range(0, len(rows), per_chunk)
    return Case(
        name,
        tuple(Filter(code, flags, values, text.decode()) for code, flags, values, text in entries),
        [dataset.id.read_direct_chunk((start, *corner))[1] for start in starts],
        dataset,
        rows[:per_chunk].nbytes,
    )


def codecs_of(case: Case) -> dict[str, Decode]:
    """Return what can decode a case here: kerash5 in its two ways, and everyone else."""
    pipeline = Pipeline(case.filters, case.num_bytes, case.dataset.dtype.itemsize)
    found: dict[str, Decode] = {"kerash5": lambda stored, out: pipeline.decode(stored, 0, out)}
    if case.name.startswith("gzip") and "shuffle" not in case.name:
        found |= {"kerash5 without imagecodecs": decode_slowly} | dict(
            peers_of_gzip(case.num_bytes)
        )
    with suppress(ImportError):
        found |= dict(peers_of(case))
    return found


def decode_slowly(stored: bytes, out: np.ndarray) -> None:
    """Decode gzip as kerash5 does where the codec library is missing."""
    _decoders.decode_gzip_slowly((), np.frombuffer(stored, np.uint8), out)


def peers_of_gzip(num_bytes: int) -> Iterator[tuple[str, Decode]]:
    """Give the codec libraries for gzip that are installed."""
    yield "zlib", lambda stored, out: copy(zlib.decompress(stored, bufsize=num_bytes), out)
    with suppress(ImportError):
        images = import_module("imagecodecs")
        yield "imagecodecs, libdeflate", lambda s, out: images.deflate_decode(s, out=out)
        yield "imagecodecs, zlib-ng", lambda s, out: images.zlibng_decode(s, out=out)
    with suppress(ImportError):
        isal = import_module("isal.isal_zlib")
        yield "isal", lambda s, out: copy(isal.decompress(s, bufsize=num_bytes), out)
    with suppress(ImportError):
        zlib_ng = import_module("zlib_ng.zlib_ng")
        yield "zlib-ng", lambda s, out: copy(zlib_ng.decompress(s, bufsize=num_bytes), out)
    with suppress(ImportError):
        deflate = import_module("deflate")
        yield "deflate", lambda s, out: copy(deflate.zlib_decompress(s, num_bytes), out)
    with suppress(ImportError):
        cramjam = import_module("cramjam")
        yield "cramjam", cramjam.zlib.decompress_into


def peers_of(case: Case) -> Iterator[tuple[str, Decode]]:
    """Give what numcodecs has for the other filters."""
    numcodecs = import_module("numcodecs")
    if case.name.startswith("zstd"):
        yield "numcodecs", numcodecs.Zstd().decode
    if case.name.startswith("blosc"):
        yield "numcodecs", numcodecs.Blosc().decode
    if case.name.startswith("shuffle"):
        yield "numcodecs", numcodecs.Shuffle(4).decode
    if case.name.startswith("fletcher32"):
        yield "numcodecs", numcodecs.Fletcher32().decode


def copy(found: bytes, out: np.ndarray) -> None:
    """Put what a codec returned where the array is wanted."""
    out[...] = np.frombuffer(found, np.uint8)


def measure(
    name: str, rows: np.ndarray, per_chunk: int, packing: Mapping[str, Any], num_rounds: int
) -> dict[str, dict[str, Any]]:
    """Let all codecs of a case take turns."""
    case = make_case(name, rows, per_chunk, packing, num_chunks=NUM_CHUNKS)
    num_rows = LARGE_BYTES // rows[:1].nbytes
    rows = np.tile(rows, (num_rows // len(rows) + 1, *[1] * (rows.ndim - 1)))
    large = make_case(name, rows, num_rows, packing, num_chunks=1)
    codecs, on_large = codecs_of(case), codecs_of(large)
    seconds: dict[str, list[float]] = {codec: [] for codec in [*codecs, "h5py"]}
    for _ in range(num_rounds + 1):
        for codec, decode in codecs.items():
            seconds[codec].append(timed(case, decode))
        seconds["h5py"].append(timed_h5py(case))
    megabytes = case.num_calls * case.num_bytes / 1e6
    found: dict[str, dict[str, Any]] = {}
    for codec, taken in seconds.items():
        rates = [megabytes / each for each in taken[1:]]  # the first round warms up
        low, middle, high = statistics.quantiles(rates, n=4)
        found[codec] = {"mb_per_s": round(middle), "quartiles": [round(low), round(high)]}
        found[codec]["lets_go"] = codec in codecs and lets_go(large, on_large[codec])
    return found


def timed(case: Case, decode: Decode) -> float:
    """Decode all chunks, and return the processor's seconds: waiting for others is not counted."""
    out = np.empty(case.num_bytes, np.uint8)
    start = time.thread_time()
    for stored in islice(cycle(case.chunks), case.num_calls):
        decode(stored, out)
    return time.thread_time() - start


def timed_h5py(case: Case) -> float:
    """Read all chunks through HDF5's own filters."""
    per_chunk = case.dataset.chunks[0]
    out = np.empty(case.dataset.chunks, case.dataset.dtype)
    starts = range(0, len(case.dataset), per_chunk)
    start = time.thread_time()
    for low in islice(cycle(starts), case.num_calls):
        case.dataset.read_direct(out, np.s_[low : low + per_chunk])
    return time.thread_time() - start


def lets_go(case: Case, decode: Decode) -> bool:
    """Whether another thread runs while this codec decodes one large chunk."""
    out = np.empty(case.num_bytes, np.uint8)
    ticks, stop = [0.0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.0005):
            ticks.append(time.perf_counter())

    before = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        sys.setswitchinterval(1.0)  # who has the GIL keeps it, unless it is let go on purpose
        start = time.perf_counter()
        decode(case.chunks[0], out)
        stop_time = time.perf_counter()
        return sum(start < at < stop_time for at in ticks) > 3
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)


def machine() -> str:
    """Return the processor and the number of cores that are ours."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return f"{names[0]}, {os.cpu_count()} cores" if names else platform.machine()
    return platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of what took part."""
    found = {"python": platform.python_version(), "hdf5": h5py.version.hdf5_version}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_table(found: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return the page."""
    names = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [
        "# Which codec library decodes chunks fastest, into place and without the GIL?",
        "",
        f"`benchmarks/chunk_codecs.py`, {about['rounds']} rounds, all codecs in turn.",
        f"{about['machine']}; read figures as ratios within one table.",
        "",
        f"{names}.",
        "",
        "MB of output per second of one processor: median (quartiles). h5py has a lock of its own.",
    ]
    for case in dict.fromkeys(line["case"] for line in found):
        lines += ["", f"| {case} | MB/s | lets the GIL go |", "|---|---|---|"]
        rows = [line for line in found if line["case"] == case]
        for line in sorted(rows, key=lambda line: -line["mb_per_s"]):
            low, high = line["quartiles"]
            speed = f"{line['mb_per_s']:,} ({low:,} to {high:,})"
            lines.append(f"| {line['codec']} | {speed} | {'yes' if line['lets_go'] else 'no'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
