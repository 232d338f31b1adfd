"""Permutations that are a pure function of their length and a key.

NumPy's generators may change their streams between versions (NEP 19). An order must not change,
because a resumed run would get other batches. The randomness is therefore a hash of (key, index),
in 64-bit integer arithmetic that is the same on every machine.

Up to `SORT_MAX` elements the hashes are sorted, which gives every permutation with equal
probability. Beyond, a Feistel network over the index gives a bijection without an array of that
length.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5._checks import is_whole
from kerash5._errors import OptionError

# Sorting a million hashes takes 0.1 s and 8 MB; once per epoch, both are negligible.
SORT_MAX: Final = 1 << 20
_ROUNDS: Final = 8
_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def parse_seed(seed: object) -> int:
    """Return the seed as an int.

    Raises:
        OptionError: It is not an integer.
    """
    if not is_whole(seed):
        raise OptionError(
            f"seed={seed!r}; it must be a whole number, so that an order can be made again"
        )
    return int(seed)


def make_key(*parts: int) -> int:
    """Fold integers (seed, epoch, window) into a 64-bit key; values and positions matter."""
    key = 0
    for part in parts:
        # int: a NumPy integer does not accept a 64-bit mask.
        key = _mix_int(((key + _GOLDEN) ^ (int(part) & _MASK)) & _MASK)
    return key


def permutation(length: int, key: int) -> NDArray[np.int64]:
    """Return a permutation of range(length), shape (length,).

    Examples:
        >>> sorted(permutation(5, key=1).tolist())
        [0, 1, 2, 3, 4]
    """
    if length > SORT_MAX:
        return permute(np.arange(length), length, key)
    return _argsort(_hash(np.arange(length, dtype=np.uint64), key))


def _argsort(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the argsort of hashes, which are distinct: each step of `_hash` is a bijection.

    Sorts by the upper 32 bits, 16 at a time, because NumPy sorts 16-bit integers by counting: 1.6
    times as fast as 64 bits at once. Then the few numbers that agree in all 32 bits are sorted.
    """
    tops = hashes >> np.uint64(32)
    order = np.argsort(tops.astype(np.uint16), kind="stable")
    highs = (hashes >> np.uint64(48)).astype(np.uint16)
    order = order[np.argsort(highs[order], kind="stable")]
    sorted_tops = tops[order]
    agree = sorted_tops[1:] == sorted_tops[:-1]
    if agree.any():
        is_unsure = np.concatenate([[False], agree]) | np.concatenate([agree, [False]])
        positions = np.flatnonzero(is_unsure)
        # Sorting only these cannot move any past another number, because the upper bits are in
        # order already.
        order[positions] = order[positions][np.argsort(hashes[order[positions]])]
    return order


def permute(indices: NDArray[np.int64], length: int, key: int) -> NDArray[np.int64]:
    """Return the images of indices in [0, length) under a bijection of that range, not built.

    A balanced Feistel network over the smallest even number of bits that covers `length`, walked
    until it lands inside the range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
    2002). At most four walks on average.
    """
    half = max(1, (max(length - 1, 1).bit_length() + 1) // 2)
    found = _feistel(indices.astype(np.uint64), half, key)
    outside = np.flatnonzero(found >= length)
    while len(outside):
        found[outside] = _feistel(found[outside], half, key)
        outside = outside[found[outside] >= length]
    return found.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: int, key: int) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> shift, values & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (_hash(right, make_key(key, number)) & mask)
    return (left << shift) | right


def _hash(values: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """Mix values with the key: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014), twice."""
    mixed = values * np.uint64(_GOLDEN) + np.uint64(key)
    for _ in range(2):
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _mix_int(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
