"""What a comparison shows: who is ranked, who is slower, and what is only noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kerash5.comparison._results import Comparison
from kerash5.report._findings import Table, find_tables, tuning_gain, wait_fraction_of_difference
from kerash5.report._rows import ContenderStats
from tests.comparison.simulated import NOISES, Noise, make_comparison, make_parity, spoil


def only_table(comparison: Comparison) -> Table:
    (table,) = find_tables(comparison)
    return table


def row_of(comparison: Comparison, contender: str) -> ContenderStats:
    row = only_table(comparison).row(contender)
    assert row is not None
    return row


# Ranking.


def test_contenders_stand_in_the_order_of_their_speed() -> None:
    table = only_table(make_comparison())
    assert [row.contender for row in table.rows] == ["tensorflow", "torch", "jax"]
    assert [row.standing for row in table.rows] == ["fastest", "slower", "slower"]
    relative = [row.relative.value for row in table.rows]
    assert relative == pytest.approx([1.0, 950 / 1350, 400 / 1350], rel=0.1)


@pytest.mark.parametrize("noise", NOISES)
def test_one_backend_against_itself_is_no_difference(noise: Noise) -> None:
    runs = [
        only_table(make_comparison({"jax": 400.0, "jax-2": 400.0}, seed=seed, noise=noise))
        for seed in range(100)
    ]
    level = sum(table.rows[0].standing == "level" for table in runs)
    assert level >= 90


@pytest.mark.parametrize("noise", NOISES)
def test_three_equal_backends_are_no_difference_although_the_luckiest_is_looked_for(
    noise: Noise,
) -> None:
    speeds = {"jax": 400.0, "jax-2": 400.0, "jax-3": 400.0}
    runs = [only_table(make_comparison(speeds, seed=seed, noise=noise)) for seed in range(100)]
    assert sum(all(row.standing == "level" for row in table.rows) for table in runs) >= 90


@pytest.mark.parametrize(("noise", "found"), [("normal", 99), ("heavy", 90), ("slow", 70)])
def test_a_slowdown_by_30_percent_is_found(noise: Noise, found: int) -> None:
    speeds = {"jax": 400.0, "jax-2": 400.0 / 1.3}
    runs = [only_table(make_comparison(speeds, seed=seed, noise=noise)) for seed in range(100)]
    assert sum(table.rows[0].standing == "fastest" for table in runs) >= found
    assert not any(
        table.rows[0].standing == "fastest" and table.rows[0].contender == "jax-2" for table in runs
    )


def test_a_difference_too_small_to_matter_is_none_however_sure() -> None:
    comparison = make_comparison({"jax": 100.0, "jax-2": 98.5})
    exact = replace(
        comparison,
        samples=tuple(
            replace(
                sample,
                epoch_seconds=(
                    1.0,
                    (50.0 if sample.contender == "jax" else 50.8) + 0.01 * sample.repeat,
                ),
            )
            for sample in comparison.samples
        ),
    )
    slower = row_of(exact, "jax-2")
    assert slower.relative.high < 1.0
    assert slower.standing == "level"


def test_batch_sizes_and_settings_have_a_table_each() -> None:
    tables = find_tables(make_comparison(settings=("plain", "tuned"), batch_sizes=(50, 256)))
    assert [(table.batch_size, table.setting) for table in tables] == [
        (50, "plain"),
        (50, "tuned"),
        (256, "plain"),
        (256, "tuned"),
    ]
    assert tuning_gain(tables, 50, "jax").value == pytest.approx(1.3, rel=0.1)
    assert math.isnan(tuning_gain(tables, 51, "jax").value)


# Wrong, failed, missing, few.


def test_fast_and_wrong_is_not_ranked_and_says_why() -> None:
    comparison = make_comparison()
    wrong = make_parity("tensorflow", forward=2e-3)
    found = replace(
        comparison,
        parities=tuple(wrong if p.contender == "tensorflow" else p for p in comparison.parities),
    )
    table = only_table(found)
    assert [row.contender for row in table.rows] == ["torch", "jax", "tensorflow"]
    assert table.rows[0].standing == "fastest"
    assert "it failed the parity check: forward differs" in table.rows[-1].reason
    assert table.rows[-1].speed.value > 1000  # shown, but greyed


def test_without_parity_nothing_is_ranked() -> None:
    rows = only_table(replace(make_comparison(), parities=())).rows
    assert {row.reason for row in rows} == {"parity was not measured"}


def test_a_backend_that_is_missing_is_a_row_with_its_reason() -> None:
    row = row_of(
        spoil(make_comparison(), "torch", status="missing", error="no torch here"), "torch"
    )
    assert (row.standing, row.reason, row.samples) == ("unranked", "no torch here", ())
    assert math.isnan(row.speed.value)


def test_processes_that_failed_are_left_out_and_told() -> None:
    comparison = make_comparison()
    samples = tuple(
        replace(sample, status="failed", error="out of memory", epoch_seconds=())
        if sample.contender == "torch" and sample.repeat < 2
        else sample
        for sample in comparison.samples
    )
    row = row_of(replace(comparison, samples=samples), "torch")
    assert (len(row.samples), row.num_asked, row.failures) == (3, 5, ("out of memory",))
    assert row.relative.count == 3  # pairs of the rounds that both finished
    assert row.standing == "slower"


def test_a_loss_that_is_no_number_is_no_result() -> None:
    row = row_of(spoil(make_comparison(), "jax", epoch_losses=(1.0, math.nan)), "jax")
    assert row.reason == "its loss became NaN or infinite"


def test_one_round_gives_no_interval_and_no_claim() -> None:
    rows = only_table(make_comparison(repeats=1)).rows
    assert {row.standing for row in rows} == {"unknown"}
    assert not any(row.speed.has_interval for row in rows)


def test_a_comparison_that_was_stopped_shows_what_there_is() -> None:
    comparison = make_comparison()
    begun = replace(comparison, samples=comparison.samples[:1], is_complete=False)
    rows = only_table(begun).rows
    assert len(rows) == 3
    assert [row.reason for row in rows[1:]] == ["none of its processes has run yet"] * 2


# Rounds that are missing must not turn the order round: pairs decide, not means of other rounds.
def test_pairs_decide_who_is_fastest_where_rounds_are_missing() -> None:
    comparison = make_comparison({"jax": 100.0, "torch": 120.0})
    slow_round = {0: 1.0, 1: 1.0, 2: 1.0, 3: 10.0, 4: 10.0}  # the machine, by round
    samples = tuple(
        replace(
            sample,
            epoch_seconds=(
                1.0,
                50.0 * slow_round[sample.repeat] / (1.2 if sample.contender == "torch" else 1.0)
                + 0.01 * sample.repeat,
            ),
        )
        for sample in comparison.samples
        if not (sample.contender == "jax" and sample.repeat > 2)
    )
    table = only_table(replace(comparison, samples=samples))
    assert [row.contender for row in table.rows] == ["torch", "jax"]
    assert table.rows[0].standing == "fastest"


# What else is told.


def test_a_spread_between_processes_marks_a_row_unstable() -> None:
    assert row_of(make_comparison(noise="normal"), "jax").instabilities == ()
    comparison = make_comparison()
    samples = tuple(
        replace(sample, epoch_seconds=tuple(s * (1 + sample.repeat) for s in sample.epoch_seconds))
        for sample in comparison.samples
    )
    (reason,) = row_of(replace(comparison, samples=samples), "jax").instabilities
    assert reason.startswith("its processes differ by 7")


def test_a_busy_machine_marks_a_row_unstable() -> None:
    (reason,) = row_of(spoil(make_comparison(), "jax", load_before=7.2), "jax").instabilities
    assert reason == "7.2 processes were running on 2 cores"


def test_a_slow_input_is_blamed_for_what_it_costs() -> None:
    speeds = {"jax": 800.0, "jax-2": 800.0}  # 62.5 ms a step; 18.75 ms more is a slowdown by 30 %
    table = only_table(make_comparison(speeds, waits={"jax-2": 0.01875}))
    fastest, slower = table.rows
    assert (fastest.standing, slower.contender) == ("fastest", "jax-2")
    share = wait_fraction_of_difference(slower, fastest)
    assert share is not None
    assert share > 0.8
    assert wait_fraction_of_difference(fastest, slower) is None


def test_of_two_that_do_little_but_wait_the_longer_wait_is_blamed() -> None:
    speeds = {"jax": 800.0, "jax-2": 800.0}
    comparison = make_comparison(speeds, waits={"jax": 6.0, "jax-2": 8.0})
    samples = tuple(
        replace(
            s, cached_epoch_seconds=tuple(c * (1 + s.repeat / 2) for c in s.cached_epoch_seconds)
        )
        for s in comparison.samples
    )
    table = only_table(replace(comparison, samples=samples))
    fastest, slower = (row.input_wait for row in table.rows)
    assert min(fastest.value, slower.value) > 0.95
    assert slower.low < fastest.high
    share = wait_fraction_of_difference(table.rows[1], table.rows[0])
    assert share == pytest.approx(1, abs=0.1)


def test_a_slow_computation_is_not_blamed_on_the_input() -> None:
    table = only_table(make_comparison({"jax": 800.0, "jax-2": 600.0}))
    share = wait_fraction_of_difference(table.rows[1], table.rows[0])
    assert share is None or share < 0.1


def test_a_late_start_is_caught_up_after_some_steps() -> None:
    table = only_table(make_comparison())
    evens = {even.earlier: even for even in table.break_evens}
    assert set(evens) == {"torch"}  # JAX starts earlier than PyTorch, later than nobody it beats
    lost = table.rows[1].step_seconds.value - table.rows[0].step_seconds.value
    assert evens["torch"].steps == pytest.approx(evens["torch"].lead_seconds / lost)


def test_cold_and_warm_starts_are_told_apart() -> None:
    row = row_of(make_comparison(), "jax")
    assert set(row.first_step) == {"cold", "warm"}
    assert row.first_step["cold"].value > row.first_step["warm"].value
    assert row.first_step["cold"].count == 1
