"""How many steps a dispatch runs, from made-up clocks."""

from __future__ import annotations

import pytest

from kerash5.train.engines.common._dispatch_tuner import MAX_STEPS, DispatchTuner


def settle(pace: DispatchTuner, *, dispatch: float, step: float) -> int:
    """Tell the pace of dispatches that take so many seconds, until it asks for no more."""
    for _ in range(100):
        pace.note(pace.steps, dispatch + step * pace.steps)
    assert pace.is_settled
    return pace.steps


@pytest.mark.parametrize(
    ("dispatch", "step", "steps"),
    [(50e-6, 25e-6, 128), (50e-6, 300e-6, 16), (50e-6, 10e-3, 1), (1.0, 1e-6, MAX_STEPS)],
    ids=["a tiny step", "a small step", "a step that dwarfs its dispatch", "a slow dispatch"],
)
def test_a_dispatch_costs_less_than_a_fiftieth_of_its_steps(
    dispatch: float, step: float, steps: int
) -> None:
    found = settle(DispatchTuner(None), dispatch=dispatch, step=step)
    assert found == steps
    assert dispatch / (found * step) < 0.02 or found == MAX_STEPS


def test_it_never_wants_more_than_it_may() -> None:
    pace = DispatchTuner(None)
    pace.limit(20)
    assert settle(pace, dispatch=1.0, step=1e-6) == 16
    pace.limit(3)
    assert pace.steps == 3


def test_batches_of_which_few_fit_are_measured_too() -> None:
    pace = DispatchTuner(None)
    pace.limit(4)
    assert settle(pace, dispatch=50e-6, step=10e-3) == 1


def test_a_number_that_was_given_stays() -> None:
    pace = DispatchTuner(5)
    assert settle(pace, dispatch=1.0, step=1e-6) == 5


def test_other_lengths_teach_nothing() -> None:
    pace = DispatchTuner(None)
    for _ in range(50):
        pace.note(3, 1.0)
    assert (pace.steps, pace.is_settled) == (1, False)
