"""What batches are asked for besides files and columns, and what its values mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from kerash5._checks import is_whole, parse_count
from kerash5._errors import OptionError
from kerash5.batches.cache import parse_cache
from kerash5.distributed import find_shard
from kerash5.h5.storage._file import StrPath
from kerash5.order._plan import DropLast, Shuffle
from kerash5.order._selection import RowSelection


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """The options of `H5Dataset` besides files and columns, as users give them."""

    batch_size: int = 32
    shuffle: Shuffle | Literal["auto"] = "auto"
    seed: int = 0
    rows: RowSelection = None
    transform: Callable[..., Any] | None = None
    drop_last: DropLast = False
    cache: int | float | str = "auto"
    threads: int | None = None
    shard: tuple[int, int] | Literal["auto"] | None = None
    scratch: StrPath | None = None


@dataclass(frozen=True, slots=True)
class ParsedOptions:
    """The same options, checked, with one type each. Made by `parse_options`.

    A fraction of free memory is counted once, so that all that is made of one data set agrees.
    """

    batch_size: int
    shuffle: Shuffle | Literal["auto"]
    seed: int
    rows: RowSelection
    transform: Callable[..., Any] | None
    drop_last: DropLast
    cache_bytes: int
    threads: int
    shard: tuple[int, int]
    scratch: str | None

    def with_changes(self, changes: Mapping[str, Any]) -> ParsedOptions:
        """Return other options, some of them changed as users give them."""
        named = {_PARSED_NAMES.get(name, name): value for name, value in changes.items()}
        return replace(
            self, **{name: _PARSERS.get(name, _as_it_is)(value) for name, value in named.items()}
        )


def parse_options(options: BatchOptions) -> ParsedOptions:
    """Check options, and give each the type that everything behind relies on.

    Raises:
        OptionError: One of them makes no sense; the message names it. `Plan` checks those of the
            order.
    """
    return ParsedOptions(
        options.batch_size,
        options.shuffle,
        options.seed,
        options.rows,
        parse_transform(options.transform),
        options.drop_last,
        parse_cache(options.cache),
        parse_threads(options.threads),
        parse_shard(options.shard),
        parse_scratch(options.scratch),
    )


def parse_transform(transform: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return what can be called, or None."""
    if transform is not None and not callable(transform):
        raise OptionError(f"transform={transform!r}; it is a function of x[, y[, sample_weight]]")
    return transform


def parse_threads(threads: int | None) -> int:
    """Return the number of reading threads."""
    if threads is None:
        return min(4, os.cpu_count() or 1)
    return parse_count("threads", threads, "the number of reading threads, or None", least=0)


def parse_scratch(scratch: StrPath | None) -> str | None:
    """Return the absolute path of a folder that is there, or None."""
    if scratch is None:
        return None
    if not isinstance(scratch, str | os.PathLike) or not Path(scratch).is_dir():
        raise OptionError(
            f"scratch={scratch!r} is no folder; give one with room for all decoded rows, or None"
        )
    return str(Path(scratch).absolute())


def parse_shard(shard: tuple[int, int] | Literal["auto"] | None) -> tuple[int, int]:
    """Return (index, count); `Plan` checks that they agree."""
    if shard is None:
        return 0, 1
    if shard == "auto":
        return find_shard()
    is_pair = isinstance(shard, tuple | list) and len(shard) == 2
    if not is_pair or not all(is_whole(value) for value in shard):
        raise OptionError(f"shard={shard!r}; give (index, count), 'auto' or None")
    return int(shard[0]), int(shard[1])


def _as_it_is(value: Any) -> Any:  # noqa: ANN401  whatever it is
    return value


_PARSED_NAMES: Final = {"cache": "cache_bytes"}
_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "transform": parse_transform,
    "cache_bytes": parse_cache,
    "threads": parse_threads,
    "shard": parse_shard,
    "scratch": parse_scratch,
}
