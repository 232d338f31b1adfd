"""A backend that computes something else is found, whichever it is; a sound one never is."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerash5.comparison._parity import BOUNDS, judge_parity

STEPS = {"losses": 5, "adam": 10, "sgd": 64}


def numbers(wrong: str = "", by: float = 0.0) -> dict[str, Any]:
    """Return what a sound backend computes, one check off by a relative amount."""
    found: dict[str, Any] = {"forward": np.linspace(0.05, 0.9, 40).reshape(4, 10)}
    found |= {name: np.linspace(2.3, 1.5, steps) for name, steps in STEPS.items()}
    return {name: values * (1 + by * (name == wrong)) for name, values in found.items()}


def means(found: dict[str, Any]) -> dict[str, Any]:
    return {name: v if name == "forward" else [np.mean(v)] for name, v in found.items()}


def failed(found: dict[str, Any], **how: Any) -> dict[str, list[str]]:
    """Return the names of the checks that each contender does not pass."""
    judged = judge_parity({name: {"plain": value} for name, value in found.items()}, **how)
    return {
        name: [check.name for check in checks if not check.is_passed]
        for (name, _), (_, checks) in judged.items()
    }


@pytest.mark.parametrize("check", BOUNDS)
@pytest.mark.parametrize("wrong", ["jax", "tensorflow", "torch"])
def test_of_three_the_one_that_is_wrong_is_found(check: str, wrong: str) -> None:
    found = {name: numbers() for name in ("jax", "tensorflow", "torch")}
    found[wrong] = numbers(check, by=3 * BOUNDS[check])  # type: ignore[index]  # a check's name
    assert failed(found) == {name: [check] if name == wrong else [] for name in found}


@given(by=st.floats(-1, 1), check=st.sampled_from(sorted(BOUNDS)))
def test_what_stays_within_the_bound_passes_and_nothing_else_does(by: float, check: Any) -> None:
    largest = 0.9 if check == "forward" else 1.0  # absolute there, relative elsewhere
    difference = abs(by) * largest
    is_near = abs(difference - BOUNDS[check]) < 1e-9
    found = failed({"jax": numbers(), "torch": numbers(check, by)})
    assert is_near or (found["torch"] == [check]) == (difference > BOUNDS[check])


def test_of_two_the_first_is_the_reference() -> None:
    judged = judge_parity(
        {"jax": {"plain": numbers()}, "torch": {"plain": numbers("adam", by=0.1)}}
    )
    assert [word for word, _ in judged.values()] == ["jax", "jax"]
    assert failed({"jax": numbers("adam", by=0.1), "torch": numbers()})["torch"] == ["adam"]


def test_with_three_the_reference_is_their_median_and_says_so() -> None:
    judged = judge_parity({name: {"plain": numbers()} for name in "abc"})
    assert {word for word, _ in judged.values()} == {"the median of a, b, c"}


def test_a_setting_that_knows_the_mean_alone_is_compared_by_the_mean() -> None:
    sound, wrong = means(numbers()), means(numbers("sgd", by=0.05))
    judged = judge_parity({"jax": {"plain": numbers(), "tuned": sound}, "torch": {"tuned": wrong}})
    passed = {key: [c.is_passed for c in checks] for key, (_, checks) in judged.items()}
    assert all(passed["jax", "tuned"])
    assert passed["torch", "tuned"] == [True, True, True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("check", BOUNDS)
def test_a_number_that_is_not_finite_fails(check: str, value: float) -> None:
    broken = numbers()
    broken[check].flat[-1] = value
    assert failed({"jax": numbers(), "torch": broken})["torch"] == [check]


@pytest.mark.parametrize(
    ("how", "word"), [({"tf32": True}, "TF32"), ({"precision": "bf16-mixed"}, "bf16-mixed")]
)
def test_a_loosened_bound_is_wider_and_says_why(how: dict[str, Any], word: str) -> None:
    pair = {"jax": numbers(), "torch": numbers("forward", by=5e-4)}
    assert failed(pair)["torch"] == ["forward"]
    assert failed(pair, **how)["torch"] == []
    judged = judge_parity({name: {"plain": value} for name, value in pair.items()}, **how)
    checks = judged["torch", "plain"][1]
    assert all(word in check.loosened for check in checks)
    assert all(check.bound <= 0.1 for check in checks)


def test_single_losses_late_in_sgd_may_differ_but_not_their_mean() -> None:
    # As found: sound backends drift apart, now above and now below each other.
    late = numbers()
    late["sgd"] = late["sgd"] * np.where(np.arange(64) < 60, 1.0, [0.97, 1.03] * 32)
    assert failed({"jax": numbers(), "torch": late})["torch"] == []


def test_a_loss_that_has_all_but_vanished_may_have_lost_its_digits() -> None:
    falling = [2.3, 1.0, 0.1, *[4e-5] * 7]
    losses = {
        "jax": falling,
        "torch": [*falling[:-1], 4e-5 + 6e-8],
        "tensorflow": [*falling[:-1], 4e-5 + 6e-5],
        "another": [2.3, 1.0, 0.1002, *falling[3:]],
        "one more": falling,
    }
    found = failed({name: numbers() | {"adam": adam} for name, adam in losses.items()})
    assert [name for name, checks in found.items() if checks] == ["tensorflow", "another"]
    assert failed({name: numbers() | {"adam": [0.0] * 10} for name in losses})["jax"] == []
