"""Across machines and days: merging shows side by side, a baseline finds what became slower."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from kerash5._errors import FileError, FileMissingError, OptionError
from kerash5.comparison import merge_comparisons
from kerash5.comparison._machine import Machine
from kerash5.comparison._results import Comparison
from kerash5.report import Slower, slower_than_baseline
from kerash5.report._baseline import welch_ratio
from tests.comparison.simulated import NOISES, SPEEDS, Noise, make_comparison, spoil


def saved(comparison: Comparison, folder: Path) -> Path:
    folder.mkdir()
    comparison.save(folder)
    return folder


# Merging.


def test_comparisons_are_merged_in_the_order_of_their_days(tmp_path: Path) -> None:
    old = replace(make_comparison(seed=1), started="2026-01-01T00:00:00+00:00")
    new = replace(make_comparison(seed=2), started="2026-02-01T00:00:00+00:00")
    folders = [saved(new, tmp_path / "new"), saved(old, tmp_path / "old")]
    merged = merge_comparisons([folders[0] / "comparison.json", folders[1]])
    assert [comparison.to_json() for comparison in merged] == [old.to_json(), new.to_json()]


def test_one_comparison_is_not_merged_with_itself(tmp_path: Path) -> None:
    folder = saved(make_comparison(), tmp_path / "a")
    with pytest.raises(OptionError, match="contain the same comparison; name it once"):
        merge_comparisons([str(folder), str(folder)])


def test_merging_needs_something_to_merge(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nothing to merge"):
        merge_comparisons([])
    with pytest.raises(FileMissingError, match="no comparison at"):
        merge_comparisons([tmp_path / "nowhere"])


def test_a_comparison_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = saved(make_comparison(), tmp_path / "a")
    path = folder / "comparison.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99', 1))
    with pytest.raises(FileError, match="another kerash5"):
        merge_comparisons([folder])


# Baselines.


def again(seed: int, noise: Noise = "normal", **speeds: float) -> Comparison:
    """Return the usual comparison measured again, with other luck and these speeds."""
    return make_comparison({**SPEEDS, **speeds}, seed=seed, noise=noise)


@pytest.mark.parametrize("noise", NOISES)
def test_the_same_again_is_not_slower(noise: Noise) -> None:
    found = [
        slower_than_baseline(again(2 * seed, noise), again(2 * seed + 1, noise))
        for seed in range(100)
    ]
    assert sum(not slower for slower in found) >= 90


@pytest.mark.parametrize(("noise", "found"), [("normal", 80), ("heavy", 75), ("slow", 50)])
def test_one_of_three_that_became_slower_by_30_percent_is_found(noise: Noise, found: int) -> None:
    slow = {"torch": SPEEDS["torch"] / 1.3}
    told = [
        slower_than_baseline(again(2 * seed, noise, **slow), again(2 * seed + 1, noise))
        for seed in range(100)
    ]
    assert sum("torch" in {slower.contender for slower in slowers} for slowers in told) >= found


def test_what_became_half_as_fast_is_told_with_what_changed() -> None:
    old, new = again(1), again(2, torch=SPEEDS["torch"] / 2)
    versions = {**new.versions, "torch": {**new.versions["torch"], "torch": "1.3.0"}}
    (slower,) = slower_than_baseline(replace(new, versions=versions), old)
    assert (slower.contender, slower.batch_size, slower.setting) == ("torch", 50, "plain")
    assert slower.against_others.low < 2 < slower.against_others.high
    assert not slower.is_shared
    assert "PyTorch at batch size 50 with model.fit takes " in slower.sentence
    assert "times relative to the others (" in slower.sentence
    assert slower.sentence.endswith("; changed since: torch 1.2.3 to 1.3.0")


def test_what_became_faster_is_no_complaint() -> None:
    assert slower_than_baseline(again(2, torch=SPEEDS["torch"] * 2), again(1)) == []


def test_the_worst_comes_first() -> None:
    new = again(2, torch=SPEEDS["torch"] / 2, jax=SPEEDS["jax"] / 4)
    assert [slower.contender for slower in slower_than_baseline(new, again(1))] == ["jax", "torch"]


def test_a_slowdown_of_all_is_perhaps_the_machine() -> None:
    halved = {name: speed / 2 for name, speed in SPEEDS.items()}
    found = slower_than_baseline(make_comparison(halved, seed=2), again(1))
    assert len(found) == 3
    assert all(slower.is_shared for slower in found)
    assert all("the machine may have become slower" in slower.sentence for slower in found)


def test_a_machine_that_is_slower_by_10_percent_on_another_day_is_no_program_that_is() -> None:
    tenth = {name: speed / 1.1 for name, speed in SPEEDS.items()}
    assert slower_than_baseline(make_comparison(tenth, seed=2), again(1)) == []


def test_one_that_stayed_is_not_slower_because_the_other_became_faster() -> None:
    pair = {"jax": 400.0, "torch": 900.0}
    new = make_comparison({**pair, "torch": 1800.0}, seed=2)
    assert slower_than_baseline(new, make_comparison(pair, seed=1)) == []


def test_one_alone_may_be_the_machine() -> None:
    new, old = make_comparison({"jax": 200.0}, seed=2), make_comparison({"jax": 400.0}, seed=1)
    (slower,) = slower_than_baseline(new, old)
    assert not slower.against_others.has_interval
    assert slower.is_shared


def test_a_small_slowdown_is_left_alone_however_sure() -> None:
    # Exactly 4 % slower, without noise: a machine is not the same on two days.
    new, old = again(1), again(1)
    slow = tuple(
        replace(sample, epoch_seconds=tuple(1.04 * seconds for seconds in sample.epoch_seconds))
        for sample in new.samples
    )
    assert slower_than_baseline(replace(new, samples=slow), old) == []


def test_what_gave_a_result_and_gives_none_any_more_is_told() -> None:
    new = spoil(again(2), "torch", status="failed", error="out of memory")
    (slower,) = slower_than_baseline(new, again(1))
    assert math.isnan(slower.ratio.value)
    assert slower.sentence == (
        "PyTorch at batch size 50 with model.fit no longer gives a result: out of memory"
    )


def test_what_is_not_in_both_is_passed_over() -> None:
    new = make_comparison({"jax": 400.0, "jax-2": 100.0}, batch_sizes=(50, 256))
    assert slower_than_baseline(new, again(1)) == []


def test_one_process_each_is_never_beyond_noise() -> None:
    old, new = make_comparison(repeats=1), make_comparison({**SPEEDS, "jax": 10.0}, repeats=1)
    assert slower_than_baseline(new, old) == []


def test_the_interval_is_that_of_welch() -> None:
    # Variances 0.5 and 2 of two numbers each: 0.25 and 1 of their means.
    ratio = welch_ratio([0.0, 1.0], [0.0, 2.0])
    assert math.log(ratio.value) == pytest.approx(-0.5)
    # Degrees of freedom (1 + 0.25)^2 / (1 + 0.0625) = 1.47, rounded down to 1: t = 12.7062.
    assert math.log(ratio.high) == pytest.approx(-0.5 + 12.7062 * math.sqrt(1.25), rel=1e-4)


def test_numbers_without_spread_have_an_interval_of_no_width() -> None:
    ratio = welch_ratio([0.1] * 3, [0.0] * 3)
    assert ratio.low == pytest.approx(ratio.high)


@pytest.mark.parametrize(
    ("old", "words"),
    [
        pytest.param(
            replace(make_comparison(), machine=Machine(processor="Another CPU", cores=2, gpus=())),
            "processor is 'Example CPU @ 2.50GHz', but was 'Another CPU'",
            id="machine",
        ),
        pytest.param(
            replace(make_comparison(), machine=replace(make_comparison().machine, gpus=("A GPU",))),
            r"gpus is \(\), but was \('A GPU',\)",
            id="GPU",
        ),
        pytest.param(
            replace(make_comparison(), method=replace(make_comparison().method, threads=8)),
            "threads is 2, but was 8",
            id="threads",
        ),
    ],
)
def test_another_machine_or_method_is_no_baseline(old: Comparison, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        slower_than_baseline(make_comparison(), old)


def test_a_baseline_with_nothing_in_common_is_refused() -> None:
    with pytest.raises(OptionError, match="have no backend, batch size and setting"):
        slower_than_baseline(make_comparison({"jax": 1.0}), make_comparison({"torch": 1.0}))


def test_a_slower_thing_says_so_in_one_sentence() -> None:
    slower = slower_than_baseline(again(2, jax=100.0), again(1))[0]
    assert isinstance(slower, Slower)
    assert "\n" not in slower.sentence
