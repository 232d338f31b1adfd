"""How a comparison is made and read, for the end of every report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from kerash5.comparison._results import Method
from kerash5.report._findings import MINIMAL_EFFECT
from kerash5.report._rows import UNSTABLE_LOAD, UNSTABLE_VARIATION
from kerash5.report._wording import listed

_PARAGRAPHS: Final = (
    (
        "What is measured",
        "Every number comes from a process of its own. In each of {repeats} rounds every backend "
        "runs once in each setting, in random order; all start from the same weights, read the "
        "same batches in the same order, and may use {threads} threads. A process trains "
        "two epochs to warm up and {epochs} that are timed, {steps} steps each, with no callback "
        "that acts on batches; its speed is the median of those. \u201cAs users get it\u201d is "
        "model.fit with Keras' defaults, \u201ctuned\u201d is kerash5's Trainer.",
    ),
    (
        "One backend",
        "The median over processes, and the interval between two of them that holds the true "
        "median: with five processes the lowest and the highest, which is right 94 times in 100 "
        "whatever the distribution (75 with three, 97 with six). A machine that drifts from round "
        "to round makes it wider.",
    ),
    (
        "Two backends",
        "The ratio is the geometric mean over rounds of what the two did in the same round, "
        "because what the machine does to a round it does to both. The interval is Student's, on "
        "logarithms, at a level at which all pairs of one table hold at once with 95 % "
        "(Bonferroni), because whoever looks for the fastest has looked at all pairs. A bootstrap "
        "of five pairs claims 95 % and holds 82 to 84; this one holds 94 to 98 in simulations "
        "with drift and heavy tails. Tables are not corrected for each other.",
    ),
    (
        "No difference",
        "Said where the interval covers 1, or the difference is below {effect}: how code and data "
        "happen to lie in memory moves a program by that much, the same way in every process. It "
        "does not mean equal: the interval says how large a difference may have been missed.",
    ),
    (
        "Parity",
        "Before any speed: from the same weights and batches each backend must give the same "
        "outputs, the same first losses, and nearly the same after 10 steps of Adam and 64 of "
        "SGD; later steps diverge on any backend, so the end is judged by accuracy. What fails is "
        "shown grey and not ranked.",
    ),
    (
        "Input",
        "The share of an epoch that would be saved if input cost nothing: the same epoch on one "
        "batch in memory against the file.",
    ),
    (
        "Unstable",
        "A row is marked where its processes differ by more than {variation} (coefficient of "
        "variation), or more than {load} processes per core were running before it. It stays in "
        "the ranking: rounds are paired, and the interval knows.",
    ),
)


def describe_method(methods: Sequence[Method]) -> tuple[tuple[str, str], ...]:
    """Return the method of comparisons in paragraphs, each with its head."""
    values = {
        "repeats": _either(method.repeats for method in methods),
        "threads": _either(method.threads for method in methods),
        "epochs": _either(method.num_epochs for method in methods),
        "steps": _either(method.num_steps for method in methods),
        "effect": f"{MINIMAL_EFFECT * 100:.0f} %",
        "variation": f"{UNSTABLE_VARIATION * 100:.0f} %",
        "load": UNSTABLE_LOAD,
    }
    return tuple((head, text.format(**values)) for head, text in _PARAGRAPHS)


def _either(values: Iterable[int]) -> str:
    return listed([f"{value:,}" for value in dict.fromkeys(values)], last="or")
