"""The command `kerash5 compare`: its words, and what becomes of them. Never imports Keras.

Measures, or takes what was measured, then reports: tables in the terminal, a page and Markdown in
the folder. What is measured, and how, is for `report` to say.
"""

# ruff: noqa: T201  what a job prints is its result

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from kerash5._backends import BACKENDS
from kerash5._errors import BackendError, OptionError, RunError
from kerash5.comparison import Comparison, compare, merge_comparisons
from kerash5.comparison._compare import DEFAULT_FOLDER
from kerash5.report import render_terminal, slower_than_baseline, write_report

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the words of `kerash5 compare` to its parser."""
    add = parser.add_argument
    add(
        "--backends",
        type=str,
        default=",".join(BACKENDS),
        help="jax,torch; one twice runs against itself",
    )
    add("--model", type=str, default="convnet", help="a name of the zoo")
    add("--data", type=str, nargs="+", default=None, help="files to train on; else shipped digits")
    add("--test", type=str, nargs="+", default=None, help="to evaluate on; else rows trained on")
    add("--x", type=str, default="image", help="the column the model takes")
    add("--y", type=str, default="label", help="the column of class labels")
    add("--batch-sizes", type=str, default="50", help="rows in a batch: 50,256")
    add("--settings", type=str, default="plain,tuned", help="plain: model.fit; tuned: our Trainer")
    add("--repeats", type=int, default=5, help="processes for each backend and setting")
    add("--steps", type=int, default=100, help="steps in an epoch")
    add("--epochs", type=int, default=3, help="timed epochs in a process, after a warm-up")
    add("--threads", type=int | None, default=None, help="to compute with; else one per core")
    precisions = Literal["float32", "bf16-mixed", "16-mixed"]
    add("--precision", type=precisions, default="float32", help="of layers")
    add("--tf32", action="store_true", help="allow TF32 on GPUs")
    add("--seed", type=int, default=0, help="of the order of processes, and of all that is random")
    add(
        "--python",
        type=str,
        action="append",
        default=[],
        help="jax=envs/jax/bin/python; once for each",
    )
    add("--timeout", type=float, default=1800.0, help="seconds that one process may take")
    add("--out", type=str, default=DEFAULT_FOLDER, help="the folder; goes on with what is in it")
    add(
        "--merge",
        type=str,
        nargs="+",
        default=None,
        help="files or folders for one page; measures nothing",
    )
    add(
        "--baseline",
        type=str | None,
        default=None,
        help="an earlier file or folder; exit 1 where slower",
    )


def run_compare(
    *,
    backends: str,
    batch_sizes: str,
    settings: str,
    python: Sequence[str],
    timeout: float,
    merge: Sequence[str] | None,
    baseline: str | None,
    out: str,
    **options: Any,  # noqa: ANN401  as `compare` takes them
) -> None:
    """Measure, or read what was measured; report it; say what became slower.

    Raises:
        RunError: Something became slower than in the baseline.
        KerasH5Error: As `compare`, `merge_comparisons` and `slower_than_baseline`.
    """
    earlier = None if baseline is None else Comparison.load(baseline)
    if merge is not None:
        comparisons = merge_comparisons(merge)
    else:
        found = compare(
            _split(backends),
            batch_sizes=[_parse_number(word) for word in _split(batch_sizes)],
            settings=_split(settings),  # type: ignore[arg-type]  # `compare` checks the words
            pythons=dict(_parse_python(word) for word in python),
            timeout_seconds=timeout,
            out=out,
            **options,
        )
        comparisons = (found,)
    _report(comparisons, out)
    if earlier is not None:
        _check_baseline(comparisons, earlier, str(baseline))


def _report(comparisons: Sequence[Comparison], out: str) -> None:
    console = Console()
    for comparison in comparisons:
        render_terminal(comparison, console)
    try:
        written = write_report(comparisons, out)
    except BackendError as error:  # the numbers are in the folder all the same
        print(f"no page: {error}")
    else:
        print(f"report: {written[0]}")


def _check_baseline(comparisons: Sequence[Comparison], earlier: Comparison, name: str) -> None:
    if len(comparisons) > 1:
        raise OptionError(f"--baseline takes one comparison, and --merge names {len(comparisons)}")
    slower = slower_than_baseline(comparisons[0], earlier)
    for found in slower:
        print(found.sentence)
    if slower:
        raise RunError(f"{len(slower)} became slower than in {name!r}; the lines above say which")
    print(f"nothing became slower than in {name!r}")


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _parse_number(word: str) -> int:
    if not word.isdecimal():
        raise OptionError(f"--batch-sizes {word!r}; give whole numbers with commas: 50,256")
    return int(word)


def _parse_python(word: str) -> tuple[str, str]:
    backend, sign, path = word.partition("=")
    if not sign or not path:
        raise OptionError(f"--python {word!r}; give the backend too: --python jax=/env/bin/python")
    return backend, path
