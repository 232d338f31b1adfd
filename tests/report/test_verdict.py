"""The answer in words: what it says, and that it does not say more."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kerash5.comparison._results import Comparison
from kerash5.report._findings import find_tables
from kerash5.report._verdict import Verdict, find_verdict
from kerash5.report._wording import listed, memory, name_of, number, percent, seconds
from tests.comparison.simulated import make_comparison, make_parity, spoil


def verdict(comparison: Comparison) -> Verdict:
    return find_verdict(comparison, find_tables(comparison))


def test_the_fastest_is_named_with_its_lead_and_interval() -> None:
    headline = verdict(make_comparison()).headline
    assert re.fullmatch(
        r"Training convnet on this machine, at batch size 50 with model.fit: TensorFlow is "
        r"fastest: 1\.\d+ times as fast as PyTorch \(1\.\d+ to 1\.\d+\) and 3\.\d+ times as fast "
        r"as JAX \(\d\.\d+ to \d\.\d+\)\.",
        headline,
    )


def test_no_difference_is_said_with_how_large_it_may_be() -> None:
    headline = verdict(make_comparison({"jax": 400.0, "jax-2": 400.0})).headline
    assert re.search(
        r"no difference beyond noise was found between JAX \(2\) and JAX "
        r"\(1\.0\d times, 0\.\d+ to 1\.\d+\)",
        headline,
    )
    assert "fastest" not in headline


def test_a_sure_difference_that_is_too_small_to_matter_is_not_called_noise() -> None:
    comparison = make_comparison({"jax": 100.0, "jax-2": 98.5})
    exact = tuple(
        replace(s, epoch_seconds=(1.0, (50.0 if s.contender == "jax" else 50.8) + 0.01 * s.repeat))
        for s in comparison.samples
    )
    headline = verdict(replace(comparison, samples=exact)).headline
    assert (
        "a difference below 3 %, which counts as none, was found between JAX and JAX (2)"
        in headline
    )
    assert "noise" not in headline


def test_two_that_are_level_and_one_that_is_slower_are_told_apart() -> None:
    headline = verdict(
        make_comparison({"jax": 400.0, "tensorflow": 800.0, "torch": 800.0})
    ).headline
    assert "no difference beyond noise was found between TensorFlow and PyTorch (1.0" in headline
    assert re.search(r"TensorFlow is [12]\.\d+ times as fast as JAX", headline)
    assert "fastest" not in headline


def test_one_process_each_claims_nothing() -> None:
    found = verdict(make_comparison(repeats=1))
    assert "in too few rounds to exclude chance" in found.headline
    assert "no interval" in " ".join(found.caveats)


def test_few_rounds_are_a_caveat() -> None:
    assert "With 3 rounds intervals are wide" in " ".join(
        verdict(make_comparison(repeats=3)).caveats
    )


def test_a_backend_alone_is_compared_with_nothing() -> None:
    assert "only JAX gave a result" in verdict(make_comparison({"jax": 400.0})).headline


def test_a_winner_of_all_tables_is_named_once_with_its_smallest_lead() -> None:
    found = verdict(make_comparison(settings=("plain", "tuned"), batch_sizes=(50, 256)))
    assert found.headline.startswith("TensorFlow trains convnet fastest on this machine, in all 4 ")
    assert re.search(
        r"its smallest lead is at batch size \d+ with .*: 1\.\d+ times", found.headline
    )
    assert len(found.details) == 4


def test_an_answer_that_depends_says_on_what() -> None:
    comparison = make_comparison(settings=("plain", "tuned"))
    turned = replace(
        comparison,
        samples=tuple(
            replace(sample, epoch_seconds=tuple(s / 5 for s in sample.epoch_seconds))
            if (sample.contender, sample.setting) == ("jax", "tuned")
            else sample
            for sample in comparison.samples
        ),
    )
    headline = verdict(turned).headline
    assert (
        "depends: TensorFlow at batch size 50 with model.fit; JAX at batch size 50 with Trainer"
        in (headline)
    )


def test_no_winner_anywhere_is_said_in_one_sentence() -> None:
    comparison = make_comparison({"jax": 400.0, "jax-2": 400.0}, batch_sizes=(50, 256))
    assert "no backend is significantly faster in any of 2 tables" in verdict(comparison).headline
    stopped = replace(comparison, samples=(), is_complete=False)
    assert "do not show" in verdict(stopped).headline
    assert "interrupted before every process had run" in " ".join(verdict(stopped).caveats)


def test_what_weakens_the_answer_stands_beside_it() -> None:
    comparison = spoil(make_comparison(), "jax", load_before=9.0)
    wrong = make_parity("torch", forward=1e-3)
    caveats = verdict(
        replace(
            comparison,
            parities=tuple(wrong if p.contender == "torch" else p for p in comparison.parities),
        )
    ).caveats
    assert caveats[0].startswith(
        "PyTorch is not ranked: it failed the parity check: forward differs"
    )
    assert caveats[1] == (
        "Unstable measurements: JAX at batch size 50 with model.fit (9.0 processes "
        "were running on 2 cores)."
    )
    assert "The two cores were shared with other work." in caveats
    assert "Example CPU @ 2.50GHz, 2 cores, no GPU" in caveats[-1]


def test_a_reason_shared_by_all_tables_is_told_once() -> None:
    comparison = make_comparison(settings=("plain", "tuned"))
    caveats = verdict(spoil(comparison, "torch", status="missing", error="no torch here.")).caveats
    assert [text for text in caveats if "PyTorch" in text] == [
        "PyTorch is not ranked: no torch here."
    ]


def test_failed_processes_are_counted() -> None:
    comparison = make_comparison()
    samples = tuple(
        replace(s, status="failed", error="out of memory") if s.key == "jax-plain-b50-r1" else s
        for s in comparison.samples
    )
    caveats = verdict(replace(comparison, samples=samples)).caveats
    assert (
        "1 of 5 processes of JAX failed at batch size 50 with model.fit: out of memory." in caveats
    )


def test_waiting_for_input_is_blamed_in_words() -> None:
    found = verdict(make_comparison({"jax": 800.0, "jax-2": 800.0}, waits={"jax-2": 0.01875}))
    assert any("of JAX (2) over JAX is waiting for input" in text for text in found.remarks)


# Names and numbers.


@pytest.mark.parametrize(
    ("contender", "name"),
    [("jax", "JAX"), ("torch", "PyTorch"), ("jax-2", "JAX (2)"), ("mine", "mine"), ("a b", "a b")],
)
def test_names_are_written_as_people_write_them(contender: str, name: str) -> None:
    assert name_of(contender) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,230"),
        (0.012345, "0.0123"),
        (9.999, "10.0"),
        (0.0, "0"),
        (1e6, "1,000,000"),
        (float("nan"), "—"),
    ],
)
def test_numbers_have_three_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_units_suit_the_size() -> None:
    assert [seconds(v) for v in (0.00841, 12.34, 600.0)] == ["8.41 ms", "12.3 s", "10.0 min"]
    assert [memory(v) for v in (812 * 2**20, 3 * 2**30)] == ["812 MiB", "3.00 GiB"]
    assert [percent(v) for v in (0.041, 0.12)] == ["4.1 %", "12.0 %"]


def test_a_list_reads_as_a_sentence() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
