"""`fit(H5Dataset(...))`: each row once per epoch, in the plan's order, whatever Keras does."""

import gc
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

import kerash5 as k5
from tests.backend.feeds.served import (
    BATCH_SIZE,
    NUM_ROWS,
    STEPS,
    STORES,
    Ledger,
    Recorder,
    open_rows,
    planned,
    reading_threads,
)
from tests.backend.together import run_together, write_rows

KINDS = list(STORES)
# A short last batch; two batches in an epoch, both of which TensorFlow looks at; one.
BATCH_SIZES = [BATCH_SIZE, 60, 200]


class StopAfterFour(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.model.stop_training = batch == 3


# Every default.


@pytest.mark.thinned(2)
@pytest.mark.usefixtures("earlier_data_sets_gone")
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_fit_serves_each_row_once_per_epoch_in_the_planned_order(
    kind: str, batch_size: int, tmp_path: Path
) -> None:
    ds = open_rows(tmp_path, kind, batch_size=batch_size)
    ledger = Ledger(len(ds))
    ledger.fit(ds, epochs=3)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))
    assert min(ledger.served) >= 1 + 16 + 256  # no row is missing in any epoch
    assert not reading_threads()


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("model", ["sequential", "subclassed"])
def test_peeking_to_build_the_model_shifts_nothing(
    model: str, batch_size: int, tmp_path: Path
) -> None:
    ds = open_rows(tmp_path, "windowed", batch_size=batch_size)
    ledger = Ledger(len(ds), model)
    ledger.fit(ds, epochs=3)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))


def test_epochs_differ_in_order_and_agree_in_rows(tmp_path: Path) -> None:
    first, second = (
        np.concatenate(planned(open_rows(tmp_path), epoch)).tolist() for epoch in (0, 1)
    )
    assert first != second
    assert sorted(first) == sorted(second) == list(range(NUM_ROWS))


# What users set.


def test_workers_are_reading_threads(tmp_path: Path) -> None:
    given = open_rows(tmp_path, "windowed", workers=4)
    later = open_rows(tmp_path, "windowed")
    later.workers = 4
    for ds in (given, later):
        assert ds.workers == 1  # as Keras sees it
        ledger = Ledger()
        ledger.fit(ds, epochs=3)
        assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))


def test_use_multiprocessing_warns_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="use_multiprocessing has no effect"):
        ds = open_rows(tmp_path, workers=2, use_multiprocessing=True, max_queue_size=50)
    with pytest.warns(UserWarning, match="use_multiprocessing has no effect"):
        ds.use_multiprocessing = True
    assert not ds.use_multiprocessing
    ledger = Ledger()
    ledger.fit(ds, epochs=2)
    assert ledger.served == ledger.expect(planned(ds, 0, 1))


def test_steps_per_execution(tmp_path: Path) -> None:
    if keras.backend.backend() == "torch":
        pytest.skip("Keras 3.15.1 raises for steps_per_execution > 1 on torch")
    ds = open_rows(tmp_path, "resident")
    ledger = Ledger(steps_per_execution=2)
    ledger.fit(ds, epochs=3)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))


def test_steps_per_epoch_of_a_whole_epoch(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    ledger = Ledger()
    ledger.fit(ds, epochs=3, steps_per_epoch=STEPS)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_steps_per_epoch_cuts_a_pass_and_loses_no_row(tmp_path: Path) -> None:
    # Keras goes on where it stopped, so that two of its epochs are one pass: 7 batches, then 4. A
    # pass has the order of the epoch it began in.
    ds = open_rows(tmp_path, "windowed")
    ledger = Ledger()
    ledger.fit(ds, epochs=4, steps_per_epoch=7)
    assert ledger.served == ledger.expect(planned(ds, 0, 2))


def test_fit_without_shuffling_of_batch_numbers(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    ledger = Ledger()
    ledger.fit(ds, epochs=2, shuffle=False)
    assert ledger.served == ledger.expect(planned(ds, 0, 1))


def test_a_data_set_that_does_not_shuffle_keeps_the_stored_order(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "windowed", shuffle=False)
    assert np.concatenate(planned(ds, 1)).tolist() == list(range(NUM_ROWS))
    ledger = Ledger()
    ledger.fit(ds, epochs=2)
    assert ledger.served == ledger.expect(planned(ds, 0, 1))


def test_selected_rows_without_the_short_last_batch(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "resident", rows=slice(20, 99, 2), batch_size=7, drop_last=True)
    ledger = Ledger(len(ds))
    ledger.fit(ds, epochs=2)
    assert ledger.served == ledger.expect(planned(ds, 0, 1))
    assert sum(value > 0 for value in ledger.served) <= 40


def test_shards_share_the_rows_of_an_epoch(tmp_path: Path) -> None:
    rows = []
    for index in (0, 1):
        ds = open_rows(tmp_path, "windowed", shard=(index, 2))
        ledger = Ledger(len(ds))
        ledger.fit(ds)
        assert ledger.served == ledger.expect(planned(ds, 0))
        rows += [row for row, value in enumerate(ledger.served) if value]
    assert sorted(rows) == list(range(NUM_ROWS))


# From fit to fit.


@pytest.mark.parametrize("kind", KINDS)
def test_each_fit_begins_at_epoch_0(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind)
    for _ in range(2):
        ledger = Ledger()
        ledger.fit(ds, epochs=2)
        assert ledger.served == ledger.expect(planned(ds, 0, 1))


@pytest.mark.parametrize("model", ["functional", "sequential"])
def test_initial_epoch_is_the_epoch_of_the_plan(model: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "windowed")
    ledger = Ledger(kind=model)
    ledger.fit(ds, initial_epoch=3, epochs=5)
    assert ledger.served == ledger.expect(planned(ds, 3, 4))


@pytest.mark.usefixtures("earlier_data_sets_gone")
@pytest.mark.parametrize("kind", KINDS)
def test_stopping_within_an_epoch_leaves_nothing_for_the_next_fit(
    kind: str, tmp_path: Path
) -> None:
    ds = open_rows(tmp_path, kind)
    ledger = Ledger()
    ledger.fit(ds, epochs=3, callbacks=[StopAfterFour()])
    first = planned(ds, 0)[:4]
    assert ledger.served == ledger.expect(first)
    ledger.fit(ds, epochs=2)
    assert ledger.served == ledger.expect([*first, *planned(ds, 0, 1)])
    assert not reading_threads()


@pytest.mark.usefixtures("earlier_data_sets_gone")
@pytest.mark.parametrize("how", ["release", "del"])
def test_nothing_reads_on_after_a_stop_within_an_epoch(how: str, tmp_path: Path) -> None:
    if how == "del" and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow keeps every PyDataset that was not read to its end")
    ds = open_rows(tmp_path, "windowed", threads=2)
    ledger = Ledger()
    ledger.fit(ds, callbacks=[StopAfterFour()])
    if how == "release":
        ds.release()
    else:
        del ds
        gc.collect()
    assert not reading_threads()


def test_a_released_data_set_trains_again(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "windowed")
    ds.release()
    ledger = Ledger()
    ledger.fit(ds, callbacks=[StopAfterFour()])
    ds.release()
    ledger.fit(ds)
    assert ledger.served == ledger.expect([*planned(ds, 0)[:4], *planned(ds, 0)])


def test_early_stopping(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "windowed")
    ledger = Ledger()
    stop = keras.callbacks.EarlyStopping("loss", mode="max", restore_best_weights=False)
    history = ledger.fit(ds, epochs=9, callbacks=[stop])  # the loss falls, and that is no progress
    assert len(history.epoch) == 2
    assert ledger.served == ledger.expect(planned(ds, 0, 1))
    ledger = Ledger()
    ledger.fit(ds)
    assert ledger.served == ledger.expect(planned(ds, 0))


# Seeds.


def test_one_seed_gives_the_same_batches_and_another_does_not(tmp_path: Path) -> None:
    served = []
    for seed in (0, 0, 1):
        ledger = Ledger()
        ledger.fit(open_rows(tmp_path, seed=seed), epochs=2)
        served.append(ledger.served)
    assert served[0] == served[1] != served[2]


def test_global_seeds_change_nothing(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    served = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        ledger = Ledger()
        ledger.fit(ds, epochs=2)
        served.append(ledger.served)
    assert served[0] == served[1]


@pytest.mark.parametrize(
    ("shuffle", "golden"),
    [
        ("rows", "16 6 20 18 8 13 2 11 15|1 10 21 7 12 0 5 22 17|14 23 3 4 19 9"),
        ("chunks", "6 15 7 4 20 14 8 19 9|12 23 10 13 17 21 5 1 3|0 2 18 22 11 16"),
    ],
)
def test_golden_order(shuffle: str, golden: str, tmp_path: Path) -> None:
    """The same numbers on all backends, in every version: whoever resumes a run relies on them."""
    recorder = Recorder()
    options: dict[str, Any] = {"shuffle": shuffle, "rows": slice(0, 24), "batch_size": 9}
    ds = open_rows(tmp_path, "resident", transform=recorder, threads=0, **options)
    Ledger(len(ds)).fit(ds)
    assert "|".join(" ".join(map(str, rows)) for rows in recorder.seen[-3:]) == golden


# When Keras is not as we know it.


@pytest.mark.filterwarnings("ignore:this Keras does not tell what it does")
@pytest.mark.parametrize(
    ("kind", "unknown"),
    [
        *((kind, "both") for kind in KINDS),
        *(("windowed", name) for name in ("find_position", "find_indices")),
    ],
)
def test_unknown_keras_still_gets_each_row_once_per_epoch(
    kind: str, unknown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["find_position", "find_indices"] if unknown == "both" else [unknown]
    for name in names:
        monkeypatch.setattr(f"kerash5.feeds._keras_loops.{name}", lambda *_: None)
    ds = open_rows(tmp_path, kind)
    ledger, before = Ledger(kind="sequential"), np.zeros(NUM_ROWS, np.int64)
    for epoch in range(3):
        ledger.fit(ds, initial_epoch=epoch, epochs=epoch + 1)
        after = np.array(ledger.served)
        batch_of, before = (after - before) // 16**epoch, after
        counts = np.bincount(batch_of, minlength=STEPS + 1)
        assert sorted(counts.tolist()) == [0, 3, *[BATCH_SIZE] * (STEPS - 1)]
        assert counts[0] == 0  # the batches are numbered from 1


def test_unknown_keras_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerash5.feeds._keras_loops.find_position", lambda *_: None)
    ds = open_rows(tmp_path, "windowed")
    with pytest.warns(UserWarning, match="give them shuffle=False data") as said:
        Ledger(kind="sequential").fit(ds, epochs=2)
    assert sum("this Keras does not tell" in str(one.message) for one in said) == 1


def test_a_subclass_is_served_alike(tmp_path: Path) -> None:
    class Mine(k5.H5Dataset):
        pass

    open_rows(tmp_path)
    ds = Mine(tmp_path / "contiguous.h5", x="x", y="y", batch_size=BATCH_SIZE)
    ledger = Ledger()
    ledger.fit(ds, epochs=2)
    assert ledger.served == ledger.expect(planned(ds, 0, 1))


INTERRUPTED: Final = """
import sys, keras, kerash5 as k5
class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt
data = k5.H5Dataset(sys.argv[4], x="x", y="y", batch_size=8)
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
try:
    model.fit(data, verbose=0, callbacks=[Interrupt()])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.one_backend
def test_a_program_ends_without_a_traceback_after_an_interrupted_fit(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.h5", 4000)
    path = tmp_path / "rows.h5"
    [(out, err)] = run_together(INTERRUPTED, keras.backend.backend(), path, count=1)
    assert out == "interrupted\n", err
    assert "Traceback" not in err


def compiled() -> keras.Model:
    model = keras.Sequential([keras.Input(()), keras.layers.Reshape((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_a_loop_of_single_epochs_is_warned_of_once(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    model = compiled()
    model.fit(ds, epochs=1, verbose=0)
    with pytest.warns(UserWarning, match=r"same order; .*fit\(initial_epoch=e") as noted:
        model.fit(ds, epochs=1, verbose=0)
    ours = [one for one in noted if "same order" in str(one.message)]
    assert [one.filename for one in ours] == [__file__]  # the line of the user, not one of Keras
    model.fit(ds, epochs=1, verbose=0)  # once is enough


def test_epochs_in_turn_and_other_models_are_no_loop_of_single_epochs(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    model = compiled()
    for epoch in range(3):
        model.fit(ds, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
    model.fit(ds, epochs=2, verbose=0)
    compiled().fit(ds, epochs=1, verbose=0)
    compiled().fit(ds, epochs=1, verbose=0)
    ordered = open_rows(tmp_path, shuffle=False)
    for _ in range(2):
        model.fit(ordered, epochs=1, verbose=0)
