"""The fast engines: the same numbers as the plain one, however the steps are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kerash5._run import Metrics, to_scalars
from kerash5.batches._batches import Batch
from kerash5.train.engines import AbstractEngine, make_engine, why_not_fused
from kerash5.train.engines.common._stack import fill, leaves_of
from tests.backend.train.engines.cases import CASES, TRACED, Case, dense

NUM_STEPS: Final = 10
# Groups in which the same ten batches are handed over.
NAMES: Final = CASES if keras.backend.backend() == "torch" else TRACED
GROUPS: Final = {"one by one": [1] * 10, "some": [5, 1, 2, 2], "all": [10]}


def state(model: keras.Model) -> dict[str, np.ndarray]:
    """Return every value a run depends on."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return {
        f"{index} {variable.shape}": keras.ops.convert_to_numpy(variable)
        for index, variable in enumerate(variables)
    }


def hand_over(engine: AbstractEngine, batches: Sequence[Batch], groups: Sequence[int]) -> None:
    start = 0
    for count in groups:
        engine.train(batches[start : start + count])
        start += count


def trained(
    case: Case, groups: Sequence[int] = (NUM_STEPS,), **options: Any
) -> tuple[dict[str, np.ndarray], Metrics]:
    """Return state and averages after the case's batches."""
    model = case.build()
    engine = make_engine(model, **{"steps_per_dispatch": 8, **case.options, **options})
    engine.begin()
    hand_over(engine, case.batches(NUM_STEPS), groups)
    engine.sync()
    return state(model), engine.metrics()


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", NAMES)
def test_a_fast_engine_gives_what_the_plain_one_gives(name: str) -> None:
    case = CASES[name]
    if (reason := why_not_fused(case.build())) is not None:
        pytest.skip(reason)
    plain, averages = trained(case, is_plain=True)
    found, found_averages = trained(case)
    assert list(found) == list(plain)
    # bfloat16 has 8 bits; its sums depend on what the compiler fuses.
    tolerance = 2e-2 if name in {"bf16", "fp16 with loss scaling"} else 2e-5
    for path, value in plain.items():
        assert_allclose(found[path], value, rtol=tolerance, atol=tolerance / 10, err_msg=path)
    assert list(found_averages) == list(averages)
    numbers, expected = to_scalars(found_averages), to_scalars(averages)
    assert list(numbers) == list(expected)
    assert_allclose(list(numbers.values()), list(expected.values()), rtol=tolerance)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", NAMES)
def test_rows_on_the_device_give_what_batches_from_the_host_give(name: str) -> None:
    case = CASES[name]
    model = case.build()
    engine = make_engine(model, steps_per_dispatch=8, **case.options)
    if (reason := engine.why_not_on_device()) is not None:
        pytest.skip(reason)
    batches = case.batches(NUM_STEPS)
    engine.build(batches[0])
    # The rows lie there in another order.
    columns = [np.concatenate(parts) for parts in zip(*map(leaves_of, batches), strict=True)]
    order = np.random.default_rng(5).permutation(len(columns[0]))
    engine.put_rows_on_device(fill(batches[0], [column[order] for column in columns]))
    ends = np.cumsum([len(leaves_of(batch)[0]) for batch in batches])[:-1]
    positions = np.split(np.argsort(order).astype(np.int32), ends)
    engine.begin()
    for start, count in ((0, 3), (3, 7)):
        engine.train_on_device_rows(positions[start : start + count])
    engine.sync()
    expected, averages = trained(case, [3, 7])
    assert_same(state(model), expected)
    assert engine.metrics() == averages


@pytest.mark.parametrize("name", ["short last batch", "convolution", "own step", "nested logs"])
def test_how_steps_are_grouped_does_not_change_a_bit(name: str) -> None:
    found = {label: trained(CASES[name], groups) for label, groups in GROUPS.items()}
    first, first_averages = found.pop("all")
    for values, averages in found.values():
        assert_same(values, first)
        assert averages == first_averages


def test_a_run_that_is_saved_and_taken_up_again_does_not_change_a_bit() -> None:
    case = CASES["dropout"]
    whole, whole_averages = trained(case, [5, 5])
    batches = case.batches(NUM_STEPS)
    first, second = case.build(), case.build()
    engine = make_engine(first)
    engine.train(batches[:5])
    engine.sync()
    resumed = make_engine(second)
    resumed.build(batches[0])
    for kind in ("variables", "optimizer.variables", "metrics_variables"):
        for one, other in zip(listed(first, kind), listed(second, kind), strict=True):
            other.assign(keras.ops.convert_to_numpy(one))
    resumed.begin()
    hand_over(resumed, batches[5:], [2, 3])
    resumed.sync()
    assert_same(state(second), whole)
    assert resumed.metrics() == whole_averages


def listed(model: keras.Model, kind: str) -> list[Any]:
    """Return `model.optimizer.variables` for "optimizer.variables"."""
    found: Any = model
    for name in kind.split("."):
        found = getattr(found, name)
    return list(found)


def test_what_is_changed_after_a_sync_is_seen_by_the_next_step() -> None:
    case = CASES["sgd"]
    model, twin = case.build(), case.build()
    batches = case.batches(3)
    for each, plain in ((model, False), (twin, True)):
        engine = make_engine(each, is_plain=plain)
        engine.train(batches[:2])
        engine.sync()
        each.optimizer.learning_rate = 0.0
        before = [keras.ops.convert_to_numpy(weight) for weight in each.weights]
        for momentum in each.optimizer.variables[2:]:
            momentum.assign(np.zeros(momentum.shape))
        engine.train(batches[2:])
        engine.sync()
        for weight, value in zip(each.weights, before, strict=True):
            assert_array_equal(keras.ops.convert_to_numpy(weight), value)


def test_averages_can_be_read_and_reset_in_mid_training() -> None:
    case = CASES["plain"]
    model, twin = case.build(), case.build()
    batches = case.batches(6)
    seen = []
    for each, plain in ((model, False), (twin, True)):
        engine = make_engine(each, is_plain=plain)
        engine.train(batches[:2])
        first = engine.metrics()
        engine.reset_metrics()
        engine.train(batches[2:])
        engine.sync()
        seen.append([first, engine.metrics()])
    for found, wanted in zip(*seen, strict=True):
        assert found == pytest.approx(wanted, rel=1e-5)


def test_auto_settles_on_a_number_of_steps() -> None:
    engine = make_engine(dense()())
    batches = CASES["plain"].batches(2)[:1] * 16
    for _ in range(24):
        engine.train(batches[: engine.steps_per_dispatch])
    settled = engine.steps_per_dispatch
    for _ in range(3):
        engine.train(batches)
        assert engine.steps_per_dispatch == settled
    engine.sync()
    assert settled >= 1
