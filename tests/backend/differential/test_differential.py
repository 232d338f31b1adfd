"""The trainer trains as `fit` does: a few dozen kinds for each push, all of them in `deep`."""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

from tests.backend.differential.catalog import all_kinds, kinds_here
from tests.backend.differential.excluded import EXCLUDED, NAMESPACES
from tests.backend.differential.expected import EXPECTED, is_expected
from tests.backend.differential.harness import Trained, compare, run_kind
from tests.backend.differential.kind import VARIANTS, Kind, Variant
from tests.backend.differential.parts import walk
from tests.backend.differential.proven import TARGET, find_doubtful, find_proven, write_list
from tests.backend.differential.rows import pick

IS_DEEP: Final = os.environ.get("KERASH5_HYPOTHESIS_PROFILE") == "deep"
BACKEND: Final = keras.backend.backend()


def cases(*, is_default: bool) -> list[Any]:
    """Return the cases of a push, of which every fourth is resumed, or all others, resumed."""
    found = []
    chosen = chosen_kinds()
    others = [pair for pair in kinds_here() if pair not in chosen]
    for number, (subject, kind) in enumerate(chosen if is_default else others):
        variant = VARIANTS[number % len(VARIANTS)]
        is_resumed = kind.is_resumable and (number % 4 == 0 or not is_default)
        name = f"{subject}: {kind.name} [{variant}{', resumed' * is_resumed}]"
        found.append(pytest.param(subject, kind, variant, is_resumed, id=name))
    return found


def chosen_kinds() -> list[tuple[str, Kind]]:
    """Return the default kinds; every second of each subject, fewer where each is compiled."""
    step = {"torch": 2, "tensorflow": 6}.get(BACKEND, 8)
    defaults = [pair for pair in kinds_here() if pair[1].is_default]
    groups = [list(group) for _, group in itertools.groupby(defaults, key=itemgetter(0))]
    return [pair for group in groups for pair in group[::step]]


def check(subject: str, kind: Kind, variant: Variant, *, is_resumed: bool) -> None:
    """Run a kind; fail with what differed."""
    results = run_kind(kind, variant, subject=subject, is_resumed=is_resumed)
    bad = [str(result) for result in results if not is_expected(result)]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(("subject", "kind", "variant", "is_resumed"), cases(is_default=True))
def test_the_trainer_trains_as_fit_does(
    subject: str, kind: Kind, variant: Variant, is_resumed: bool
) -> None:
    check(subject, kind, variant, is_resumed=is_resumed)


@pytest.mark.deep
@pytest.mark.skipif(not IS_DEEP, reason="takes an hour; run by nox -s differential")
@pytest.mark.parametrize(("subject", "kind", "variant", "is_resumed"), cases(is_default=False))
def test_all_other_kinds_are_trained_as_by_fit_too(
    subject: str, kind: Kind, variant: Variant, is_resumed: bool
) -> None:
    check(subject, kind, variant, is_resumed=is_resumed)


# The suite itself.


def test_there_are_more_than_five_hundred_kinds_for_each_backend() -> None:
    for backend in ("jax", "tensorflow", "torch"):
        kinds = [kind for group in all_kinds().values() for kind in group]
        assert sum(backend in kind.backends for kind in kinds) >= 500


def test_no_two_kinds_share_a_name() -> None:
    names = [kind.name for group in all_kinds().values() for kind in group]
    assert len(set(names)) == len(names)


def test_every_expected_verdict_is_of_a_kind() -> None:
    names = {kind.name for group in all_kinds().values() for kind in group}
    assert {name for _, name in EXPECTED} <= names


def test_every_public_class_of_keras_is_named_in_a_kind_or_left_out_for_a_reason() -> None:
    named = _names_in_kinds()
    known = [vars(namespace).items() for namespace in NAMESPACES]
    classes = {value for items in known for name, value in items if name in named}
    missing = _missing(classes.__contains__)
    assert not missing, missing


@pytest.mark.deep
@pytest.mark.skipif(not IS_DEEP, reason="builds every model; run by nox -s differential")
def test_every_public_class_of_keras_is_a_part_of_a_model_that_is_trained() -> None:
    with _no_warnings():
        seen = {type(part) for kind in _kinds() for part in walk(kind.build())}
    missing = _missing(seen.__contains__)
    assert not missing, missing


def test_a_difference_in_any_number_is_found() -> None:
    base = Trained({"w": np.ones(3)}, [{"loss": np.array(1.0), "f1": np.ones(2)}])
    off = np.array([1.0, 1.0, 1.001])
    others: Mapping[str, Trained] = {
        "w": Trained({"w": off}, base.epochs),
        "1 variables, 2": Trained({**base.state, "v": off}, base.epochs),
        "f1 of epoch 0": Trained(base.state, [{**base.epochs[0], "f1": off[1:]}]),
        "f1 is missing in epoch 0": Trained(base.state, [{"loss": np.array(1.0)}]),
        "1 epochs, 2": Trained(base.state, base.epochs * 2),
        "loss of epoch 0": Trained(base.state, [{**base.epochs[0], "loss": np.array(np.nan)}]),
    }
    assert compare(base, base) == {}
    for name, other in others.items():
        assert list(compare(base, other, above=1e-5)) == [name]


def test_a_model_that_is_trained_otherwise_is_told() -> None:
    def build() -> keras.Model:
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        return model

    def drive(model: keras.Model, fit: Any) -> None:
        if (drive.__dict__.setdefault("calls", 0)) % 2:  # by the trainer
            model.optimizer.learning_rate = 0.06
        drive.__dict__["calls"] += 1
        fit(1)

    (result,) = run_kind(Kind("planted", build, drive=drive), VARIANTS[0])
    assert result.verdict == "different"


def test_the_parts_of_a_model_are_found_where_they_hide() -> None:
    cells = [keras.layers.LSTMCell(3, kernel_regularizer="l2"), keras.layers.GRUCell(4)]
    rows = keras.Input((5, 3))
    hidden = keras.layers.Bidirectional(keras.layers.RNN(cells))(rows)
    model = keras.Model(rows, keras.layers.Dense(3, kernel_constraint="non_neg")(hidden))
    rate = keras.optimizers.schedules.CosineDecay(0.1, 5)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate))
    model.compile(optimizer, keras.losses.Huber(), metrics=[keras.metrics.R2Score()])
    found = {type(part).__name__ for part in walk(model)}
    named = {"Bidirectional", "RNN", "StackedRNNCells", "LSTMCell", "GRUCell", "L2", "NonNeg"}
    assert named <= found
    assert {"CosineDecay", "LossScaleOptimizer", "SGD", "Huber", "R2Score"} <= found


# The list of proven parts.

ROW: Final[dict[str, Any]] = {
    "kind": "a",
    "subject": "s",
    "backend": "torch",
    "variant": "steps=1, cache=0",
    "verdict": "equal",
    "engine": "PyTorch, captured steps with a fused Adam",
    "parts": ["keras.src.layers.core.dense.Dense", "tests.kinds.Scaled"],
}


@pytest.mark.parametrize(
    ("changes", "is_proven"),
    [
        ({}, True),
        ({"verdict": "different"}, False),
        ({"engine": "PyTorch, Keras' train_step with Keras' update"}, False),
        ({"backend": "jax"}, False),
    ],
    ids=["captured and equal", "different", "not captured", "another backend"],
)
def test_only_what_was_captured_and_equal_is_proven(
    changes: dict[str, str], is_proven: bool
) -> None:
    found = find_proven([{**ROW, **changes}])
    assert found == (["keras.src.layers.core.dense.Dense"] if is_proven else [])


def test_a_kind_that_differed_in_one_way_proves_nothing() -> None:
    assert not find_proven([ROW, {**ROW, "verdict": "different", "variant": "x"}])


def test_a_stock_kind_that_was_captured_and_differed_is_named() -> None:
    stock = {**ROW, "verdict": "different", "parts": ["keras.src.layers.Dense"]}
    assert find_doubtful([ROW, stock, {**ROW, "verdict": "different"}]) == ["s: a"]


@pytest.mark.skipif(not TARGET.exists(), reason="no list has been written")
def test_the_list_is_as_written() -> None:
    listed: dict[str, Any] = {}
    source = TARGET.read_text(encoding="utf-8")
    exec(compile(source, TARGET.name, "exec"), listed)
    assert write_list(sorted(listed["PROVEN"])) == source


def _missing(is_there: Callable[[type], bool]) -> list[str]:
    return sorted(
        f"{namespace.__name__.rpartition('.')[2]}.{name}"
        for namespace in NAMESPACES
        for name, value in vars(namespace).items()
        if inspect.isclass(value) and name not in EXCLUDED and not is_there(value)
    )


def _names_in_kinds() -> set[str]:
    """Return every attribute and every string that the sources of the kinds hold."""
    named: set[str] = set()
    for path in Path(__file__).with_name("kinds").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                named.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    return named


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Build what Keras warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _kinds() -> Iterator[Kind]:
    for _, kind in kinds_here():
        keras.backend.clear_session()
        yield kind


def test_rows_of_every_structure_can_be_picked() -> None:
    assert pick(None) is None
    assert [len(part) for part in pick(("vector", "label"), slice(0, 3))] == [3, 3]
    assert set(pick({"a": "vector"})) == {"a"}
