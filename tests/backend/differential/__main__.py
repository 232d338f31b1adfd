"""Run kinds on the backend that is set, and write down what came of each.

Usage: KERAS_BACKEND=torch python -m tests.backend.differential [--all] [--out FILE] [WORD ...]

Each kind runs in one way, which differs from kind to kind; with `--all` in all ways. Only kinds
whose name or subject holds one of the words are run. A line per result is printed as it comes, and
appended to FILE as JSON. The exit status is 1 where a verdict is neither good nor expected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import keras

from tests.backend.differential.catalog import kinds_here
from tests.backend.differential.expected import is_expected
from tests.backend.differential.harness import Result, run_kind
from tests.backend.differential.kind import VARIANTS, Kind, Variant
from tests.backend.differential.rows import scratch_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests.backend.differential", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--all", action="store_true", help="run each kind in all ways")
    parser.add_argument("--out", type=Path, help="append results to this file, a JSON line each")
    parser.add_argument(
        "--candidates",
        action="store_true",
        help="PyTorch: capture parts that are not proven, too; resume nothing",
    )
    parser.add_argument("--part", default="1/1", help="run one part of several: 2/4")
    parser.add_argument("--default", action="store_true", help="run what each push runs")
    asked = parser.parse_args(arguments)
    keep_programs()
    if asked.candidates:
        capture_candidates()
    results: list[Result] = []
    for subject, kind, variant, is_resumed in plan(asked.words, asked.part, is_all=asked.all):
        if asked.default and not kind.is_default:
            continue
        is_also_resumed = is_resumed and not asked.candidates
        found = run_kind(kind, variant, subject=subject, is_resumed=is_also_resumed)
        results.extend(found)
        for result in found:
            say(str(result))
        if asked.out is not None:
            with asked.out.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{json.dumps(asdict(result))}\n" for result in found)
    summarize(results)
    return int(any(not is_expected(result) for result in results))


def keep_programs() -> None:
    """Let JAX load programs that this process compiled before: a resumed fit needs the same."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(scratch_folder() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def capture_candidates() -> None:
    """Let PyTorch's engine capture whatever belongs to Keras, so that it can be proven."""
    from kerash5.train.engines.torch import _torch_captured
    from kerash5.train.engines.torch._torch_parts import is_stock

    vars(_torch_captured)["is_proven"] = is_stock


def plan(
    words: Sequence[str], part: str, *, is_all: bool
) -> Iterator[tuple[str, Kind, Variant, bool]]:
    """Yield (subject, kind, variant, whether it is also resumed) for all that is to be run."""
    index, count = (int(word) for word in part.split("/"))
    for number, (subject, kind) in enumerate(kinds_here()):
        named = f"{subject}: {kind.name}"
        if number % count != index - 1 or (words and not any(word in named for word in words)):
            continue
        variants = VARIANTS if is_all else (VARIANTS[number % len(VARIANTS)],)
        for each in variants:
            is_resumed = each is variants[0] and (is_all or number % 2 == 0)
            yield subject, kind, each, is_resumed and kind.is_resumable


def summarize(results: Sequence[Result]) -> None:
    """Print the number of results by verdict, and the reasons of the slower ones."""
    kinds = len({(result.subject, result.kind) for result in results})
    say(f"\n{keras.backend.backend()}, Keras {keras.__version__}: {kinds} kinds")
    for name in ("trainer against fit", "resumed against whole"):
        is_resumed = name.startswith("resumed")
        some = [each for each in results if each.variant.startswith("resumed") is is_resumed]
        counts = Counter(each.verdict for each in some)
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        say(f"{name}: {len(some)}: {words}")
    reasons = Counter(result.engine for result in results if result.verdict == "slower")
    for engine, count in reasons.most_common():
        say(f"{count:5} slower: {engine}")
    for result in results:
        if not is_expected(result):
            say(f"NOT EQUAL {result}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
