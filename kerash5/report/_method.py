"""The text on how a comparison is made and read, for the end of every report."""

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
        "Each number comes from a process of its own. In each of {repeats} rounds every backend "
        "runs once with each setting, in random order. All start from the same weights, read the "
        "same batches in the same order, and may use {threads} threads. A process trains two "
        "warm-up epochs and {epochs} timed epochs of {steps} steps each, without callbacks on "
        "batches; its speed is the median of the timed epochs. \u201cmodel.fit\u201d is Keras' "
        "model.fit with its defaults, \u201cTrainer\u201d is kerash5's Trainer.",
    ),
    (
        "One backend",
        "The median over processes, with the interval between two of them that contains the true "
        "median. With five processes it spans the lowest and the highest and has a level of 94 %, "
        "for any distribution (75 % with three, 97 % with six). Drift of the machine from round to "
        "round makes it wider.",
    ),
    (
        "Two backends",
        "The ratio is the geometric mean over rounds of the ratio within a round, because the "
        "machine affects all processes of a round alike. The interval is Student's, on logarithms, "
        "at a level at which the intervals of all pairs of a table hold jointly with 95 % "
        "(Bonferroni), because finding the fastest compares all pairs. A bootstrap of five pairs "
        "claims 95 % and covers 82 to 84 %; this interval covers 94 to 98 % in simulations with "
        "drift and heavy tails. Tables are not corrected for each other.",
    ),
    (
        "No difference",
        "Reported if the interval contains 1, or the difference is below {effect}: the layout of "
        "code and data in memory changes a program's speed by that much, equally in every process. "
        "It does not mean equal: the interval shows how large a missed difference may be.",
    ),
    (
        "Parity",
        "Checked before speed: from the same weights and batches each backend must compute the "
        "same outputs, the same first losses, and nearly the same after 10 steps of Adam and 64 of "
        "SGD. Later steps diverge on any backend, so the end of training is judged by "
        "accuracy. A backend that fails the parity check is greyed out and not ranked.",
    ),
    (
        "Input",
        "Input wait is the fraction of an epoch that would be saved if input cost nothing: the "
        "same epoch on one batch in memory, compared with the file.",
    ),
    (
        "Unstable",
        "A row is marked if its processes differ by more than {variation} (coefficient of "
        "variation), or if more than {load} processes per core were running before it. It stays in "
        "the ranking: rounds are paired, and the interval includes the extra variation.",
    ),
)


def describe_method(methods: Sequence[Method]) -> tuple[tuple[str, str], ...]:
    """Return the description of the method in paragraphs, each with a heading."""
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
