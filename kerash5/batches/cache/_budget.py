"""Parse `cache=`: the maximum number of bytes of decoded data in memory."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import psutil

from kerash5._checks import is_number
from kerash5._errors import OptionError

# CIFAR-10 fits, and a fit stays within 300 MB of its model's own memory.
AUTO_CACHE_BYTES: Final = 160 << 20
_AUTO_FREE_SHARE: Final = 0.25
_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)(b?)\s*", re.IGNORECASE)


def parse_cache(cache: float | str) -> int:
    """Return the bytes that `cache` allows.

    Args:
        cache: Bytes, a size such as "2GB" or "512 MiB", a fraction of free memory such as 0.5, or
            "auto": 160 MiB, or a quarter of free memory if that is less.

    Raises:
        OptionError: `cache` is none of these.
    """
    free = psutil.virtual_memory().available
    if cache == "auto":
        return min(AUTO_CACHE_BYTES, int(free * _AUTO_FREE_SHARE))
    number = _parse_text(cache) if isinstance(cache, str) else cache
    if isinstance(number, float | np.floating) and 0 <= number <= 1:
        return int(free * float(number))
    found = _parse_bytes(number)
    if found is None:
        raise OptionError(
            f"cache={cache!r}; give bytes, a size such as '2GB', a fraction of free memory such as "
            "0.5, or 'auto'"
        )
    return found


def parse_size(size: float | str) -> int:
    """Return the bytes of a number or of a text such as "2GB" or "512 MiB".

    Raises:
        OptionError: `size` is neither.
    """
    found = _parse_bytes(_parse_text(size) if isinstance(size, str) else size)
    if found is None:
        raise OptionError(f"{size!r} is no size; give bytes, or a text such as '2GB'")
    return found


def _parse_bytes(number: object) -> int | None:
    if not is_number(number):
        return None
    return int(number) if number >= 0 and number % 1 == 0 else None


def _parse_text(text: str) -> float | None:
    """Return bytes for a text with a unit, its number for one without, None for any other."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        return None
    if not match[2] and not match[3]:
        return float(match[1]) if "." in match[1] else int(match[1])
    return int(float(match[1]) * _UNITS[match[2].lower()])
