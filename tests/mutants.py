"""Damages HDF5 files in the ways that disks, networks and programs do; the same bytes each time.

A mutant is a function of the file's bytes, a seed and a number. Damage goes to the stored values or
to what describes them, and checksums of the latter may be put right, so that HDF5 reads on.
"""

import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_EXTREMES: Final = (
    *(0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
)
Ranges = list[tuple[int, int]]  # (first byte, number of bytes)


@dataclass(frozen=True)
class Mutant:
    """A damaged copy of a file."""

    mode: str
    content: bytes


def mutants(content: bytes, data: Ranges, count: int, seed: int) -> Iterator[Mutant]:
    """Yield `count` damaged copies, the modes in turn.

    Args:
        content: The sound file.
        data: Where its stored values lie; see `find_data`.
        count: How many.
        seed: Other damage for another seed.
    """
    ranges = {"data": _clip(data, len(content)), "meta": _rest(data, len(content))}
    digest = hashlib.sha256(content).hexdigest()
    for number in range(count):
        rng = random.Random(f"{digest}:{seed}:{number}")
        mode = MODES[number % len(MODES)]
        if mode in _CUTS:
            yield Mutant(mode, _CUTS[mode](rng, content))
            continue
        kind, place = mode.split(" in ")
        damaged = bytearray(content)
        _DAMAGES[kind](rng, damaged, ranges[place.split()[0]] or [(0, len(content))])
        if place.endswith("sums"):
            _fix_checksums(damaged)
        yield Mutant(mode, bytes(damaged))


def find_data(path: Path) -> Ranges:
    """Return where a sound file keeps its values; the rest of it describes them."""
    found: Ranges = []

    def visit(_name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if item.chunks:
            item.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
        elif item.id.get_offset() is not None:
            found.append((item.id.get_offset(), item.id.get_storage_size()))

    with h5py.File(path) as file:
        file.visititems(visit)
    return sorted({(start, size) for start, size in found if start is not None and size})


def _clip(ranges: Ranges, length: int) -> Ranges:
    return [(start, min(size, length - start)) for start, size in ranges if start < length]


def _rest(ranges: Ranges, length: int) -> Ranges:
    found, end = [], 0
    for start, size in sorted(ranges):
        if start > end:
            found.append((end, start - end))
        end = max(end, start + size)
    return _clip([*found, (end, max(0, length - end))], length)


def _pick(rng: random.Random, ranges: Ranges) -> int:
    left = rng.randrange(max(1, sum(size for _, size in ranges)))
    for start, size in ranges:
        if left < size:
            return start + left
        left -= size
    return 0


def _overwrite(content: bytearray, start: int, new: bytes) -> None:
    new = new[: max(0, len(content) - start)]
    content[start : start + len(new)] = new


def _flip(rng: random.Random, content: bytearray, ranges: Ranges) -> None:
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        content[_pick(rng, ranges)] ^= 1 << rng.randrange(8)


def _set_field(rng: random.Random, content: bytearray, ranges: Ranges) -> None:
    width = rng.choice([1, 2, 4, 8])
    value = rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
    _overwrite(content, _pick(rng, ranges) & -width, value.to_bytes(width, "little"))


def _set_address(rng: random.Random, content: bytearray, ranges: Ranges) -> None:
    size = len(content)
    value = rng.choice([rng.randrange(size + 1), size - 1, size, size + 1, rng.randrange(1 << 63)])
    _overwrite(content, _pick(rng, ranges) & -8, value.to_bytes(8, "little"))


def _zero(rng: random.Random, content: bytearray, ranges: Ranges) -> None:
    _overwrite(content, _pick(rng, ranges), bytes(rng.choice([1, 8, 64, 512, 4096])))


def _add_noise(rng: random.Random, content: bytearray, ranges: Ranges) -> None:
    _overwrite(content, _pick(rng, ranges), rng.randbytes(rng.choice([2, 16, 128, 1024])))


def _misplace(rng: random.Random, content: bytearray, ranges: Ranges) -> None:
    """Copy one block over another: a write that went astray."""
    size = min(len(content) // 2, rng.choice([16, 64, 512, 4096]))
    start = rng.randrange(len(content) - size)
    _overwrite(content, _pick(rng, ranges), bytes(content[start : start + size]))


def _tear(rng: random.Random, content: bytes) -> bytes:
    """Keep the sectors before one and zero the others: the power went."""
    kept = rng.randrange(len(content)) & -512
    return content[:kept].ljust(len(content), b"\0")


_DAMAGES: Final[dict[str, Callable[[random.Random, bytearray, Ranges], None]]] = {
    "flips": _flip,
    "fields": _set_field,
    "addresses": _set_address,
    "zeros": _zero,
    "noise": _add_noise,
    "misplaced blocks": _misplace,
}
_CUTS: Final[dict[str, Callable[[random.Random, bytes], bytes]]] = {
    "cut short": lambda rng, content: content[: rng.randrange(len(content))],
    "cut at the end": lambda rng, content: content[: -rng.choice([1, 4, 64, 512])],
    "extended": lambda rng, content: content + rng.randbytes(rng.choice([1, 512, 65536])),
    "torn": _tear,
    "all but empty": lambda rng, content: content[: rng.choice([0, 1, 7, 8, 47, 96])],
}
MODES: Final = (
    *(f"{kind} in {place}" for kind in _DAMAGES for place in ("meta", "data")),
    *(f"{kind} in meta and its sums" for kind in ("flips", "fields", "addresses")),
    *_CUTS,
)


def _fix_checksums(content: bytearray) -> None:
    """Put right the sums of the superblock and of object headers, of the newer file formats."""
    start = content.find(_SIGNATURE)
    if start >= 0 and start + 48 <= len(content) and content[start + 8] in (2, 3):
        _put_sum(content, start, start + 12 + 4 * content[start + 9])
    start = content.find(b"OHDR")
    while start >= 0:
        if start + 6 < len(content) and content[start + 4] == 2:
            flags, width = content[start + 5], 1 << (content[start + 5] & 3)
            size_at = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            size = int.from_bytes(content[size_at : size_at + width], "little")
            _put_sum(content, start, size_at + width + size)
        start = content.find(b"OHDR", start + 4)


def _put_sum(content: bytearray, start: int, end: int) -> None:
    if start < end <= len(content) - 4 and end - start < 1 << 20:
        struct.pack_into("<I", content, end, lookup3(bytes(content[start:end])))


def lookup3(data: bytes) -> int:
    """Return Bob Jenkins' hashlittle of some bytes, as H5_checksum_lookup3 does."""
    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    while len(data) > 12:
        x, y, z = struct.unpack_from("<III", data)
        a, b, c = _mix((a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF)
        data = data[12:]
    if not data:
        return c  # only of nothing at all
    x, y, z = struct.unpack("<III", data.ljust(12, b"\0"))
    words: list[int] = [(a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF]
    # Which word changes, by which other: bits it is turned by.
    for changed, other, bits in (
        *((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16)),
        *((0, 2, 4), (1, 0, 14), (2, 1, 24)),
    ):
        words[changed] = ((words[changed] ^ words[other]) - _turn(words[other], bits)) & 0xFFFFFFFF
    return words[2]


def _mix(*words: int) -> tuple[int, int, int]:
    state = list(words)
    for changed, bits in ((0, 4), (1, 6), (2, 8), (0, 16), (1, 19), (2, 4)):
        last, added = (changed + 2) % 3, (changed + 1) % 3
        mixed = (state[changed] - state[last]) & 0xFFFFFFFF
        state[changed] = mixed ^ _turn(state[last], bits)
        state[last] = (state[last] + state[added]) & 0xFFFFFFFF
    return state[0], state[1], state[2]


def _turn(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & 0xFFFFFFFF
