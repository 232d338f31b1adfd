"""The command `kerash5 compare`: its options and its job. Keras is not imported.

It measures, or reads earlier measurements, and reports: tables in the terminal, a page and Markdown
in the folder.
"""

# ruff: noqa: T201 a job prints its result

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
    """Add the options of `kerash5 compare` to its parser."""
    add = parser.add_argument
    add(
        "--backends",
        type=str,
        default=",".join(BACKENDS),
        help="comma-separated, such as jax,torch; jax,jax shows by how much two equal measurements "
        "differ",
    )
    add(
        "--model",
        type=str,
        default="convnet",
        help="a classifier of the zoo, as listed by kerash5 fit --help",
    )
    add(
        "--data",
        type=str,
        nargs="+",
        default=None,
        help="training files; default: the digits shipped",
    )
    add(
        "--test",
        type=str,
        nargs="+",
        default=None,
        help="test files; default: the digits shipped, or the training rows if --data is given",
    )
    add("--x", type=str, default="image", help="column of the model's input")
    add("--y", type=str, default="label", help="column of the class labels")
    add("--batch-sizes", type=str, default="50", help="comma-separated, such as 50,256")
    add("--settings", type=str, default="plain,tuned", help="plain: model.fit; tuned: Trainer")
    add("--repeats", type=int, default=5, help="processes per backend and setting")
    add("--steps", type=int, default=100, help="steps per epoch")
    add("--epochs", type=int, default=3, help="timed epochs per process, after two of warm-up")
    add("--threads", type=int | None, default=None, help="compute threads; default: one per core")
    precisions = Literal["float32", "bf16-mixed", "16-mixed"]
    add("--precision", type=precisions, default="float32", help="precision of the layers")
    add("--tf32", action="store_true", help="allow TF32 on GPUs")
    add("--seed", type=int, default=0, help="seed of weights, row order and process order")
    add(
        "--python",
        type=str,
        action="append",
        default=[],
        help="BACKEND=PATH, such as jax=envs/jax/bin/python; may be repeated",
    )
    add("--timeout", type=float, default=1800.0, help="time limit of one process, in seconds")
    add(
        "--out",
        type=str,
        default=DEFAULT_FOLDER,
        help="output folder; measurements already in it are not repeated",
    )
    add(
        "--merge",
        type=str,
        nargs="+",
        default=None,
        help="report these earlier files or folders on one page, without measuring",
    )
    add(
        "--baseline",
        type=str | None,
        default=None,
        help="an earlier file or folder; exit with 1 if something became slower",
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
    **options: Any,  # noqa: ANN401  as in `compare`
) -> None:
    """Measure, or read earlier measurements; report them; compare them with a baseline.

    Raises:
        RunError: Something became slower than in the baseline.
        KerasH5Error: As in `compare`, `merge_comparisons` and `slower_than_baseline`.
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
    except BackendError as error:  # the numbers are already in the folder
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
