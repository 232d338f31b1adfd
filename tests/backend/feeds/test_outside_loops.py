"""Several epochs, PyTorch's and TensorFlow's own forms: the batches of `ds.batches`, each time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kerash5 as k5

BACKEND = keras.backend.backend()
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's own form")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own form")
ROWS, SIZE = 30, 4


@pytest.fixture
def ds(tmp_path: Path) -> k5.H5Dataset:
    path = tmp_path / "rows.h5"
    k5.write(path, x=np.arange(ROWS * 2, dtype="f4").reshape(ROWS, 2), y=np.arange(ROWS))
    return k5.H5Dataset(path, x="x", y="y", batch_size=SIZE, seed=2)


def order(batches: Iterable[Any]) -> list[list[int]]:
    return [np.asarray(batch[1]).tolist() for batch in batches]


def planned(ds: k5.H5Dataset, *epochs: int) -> list[list[int]]:
    return order(chain.from_iterable(ds.batches(epoch) for epoch in epochs))


def test_epochs_follow_one_another(ds: k5.H5Dataset) -> None:
    assert order(ds.epochs(3)) == planned(ds, 0, 1, 2)
    assert order(ds.epochs(2, start=5)) == planned(ds, 5, 6)
    assert order(ds) == planned(ds, 0)  # they count as no loop


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 1.5}, {"count": 1, "start": -1}])
def test_a_number_of_epochs_that_makes_no_sense_is_refused_at_once(
    ds: k5.H5Dataset, options: Any
) -> None:
    with pytest.raises(k5.OptionError, match="number of"):
        ds.epochs(**options)


LOADERS: dict[str, dict[str, Any]] = {
    "in the process": {},
    "forked": {"num_workers": 2, "multiprocessing_context": "fork"},
    "spawned": {"num_workers": 2, "multiprocessing_context": "spawn"},
    "persistent": {
        "num_workers": 2,
        "multiprocessing_context": "fork",
        "persistent_workers": True,
    },
}


@on_torch
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("options", LOADERS.values(), ids=LOADERS)
def test_a_data_loader_has_the_plans_order_whatever_its_workers(
    ds: k5.H5Dataset, options: dict[str, Any]
) -> None:
    import torch

    loader = torch.utils.data.DataLoader(ds.to_torch(), batch_size=None, **options)
    assert len(loader) == len(ds)
    for epoch in range(3):
        batches = list(loader)
        assert order(batches) == planned(ds, epoch)
        assert all(isinstance(each, torch.Tensor) for batch in batches for each in batch)


@on_torch
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_goes_on_where_another_was_left(ds: k5.H5Dataset, workers: int) -> None:
    import torch

    data = ds.to_torch()
    assert order(data) == planned(ds, 0)
    begun = iter(data)
    assert order(islice(begun, 3)) == planned(ds, 1)[:3]
    state = data.state_dict()
    other = ds.to_torch()
    other.load_state_dict(state)
    context = {"multiprocessing_context": "fork"} if workers else {}
    loader = torch.utils.data.DataLoader(other, batch_size=None, num_workers=workers, **context)
    assert order(loader) == planned(ds, 1)[3:]
    if not workers:
        assert order(loader) == planned(ds, 2)
    data.set_epoch(7)
    assert order(data) == planned(ds, 7)


@on_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_goes_on_within_an_epoch(ds: k5.H5Dataset, workers: int) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")

    def open_loader() -> Any:
        return torchdata.StatefulDataLoader(ds.to_torch(), batch_size=None, num_workers=workers)

    loader = open_loader()
    assert order(loader) == planned(ds, 0)
    begun = iter(loader)
    assert order(islice(begun, 3)) == planned(ds, 1)[:3]
    resumed = open_loader()
    resumed.load_state_dict(loader.state_dict())
    assert order(resumed) == planned(ds, 1)[3:]


@on_torch
def test_what_makes_no_sense_is_refused_on_torch(ds: k5.H5Dataset) -> None:
    import torch

    with pytest.raises(k5.OptionError, match=r"write DataLoader\(ds, batch_size=None\)"):
        next(iter(torch.utils.data.DataLoader(ds.to_torch())))
    for state in ({}, {"epoch": 0, "step": 99, "first": 0}, {"epoch": -1, "step": 0, "first": 0}):
        with pytest.raises(k5.OptionError):
            ds.to_torch().load_state_dict(state)


@on_tensorflow
@pytest.mark.parametrize(("rows", "static"), [(ROWS, None), (28, SIZE)])
def test_tf_data_has_types_shapes_and_number(ds: k5.H5Dataset, rows: int, static: Any) -> None:
    some = ds.select_rows(slice(0, rows))
    found = some.to_tf()
    x, y = found.element_spec
    assert (x.shape.as_list(), x.dtype.name) == ([static, 2], "float32")
    assert (y.shape.as_list(), y.dtype.name) == ([static], "int64")
    assert int(found.cardinality()) == len(some)
    for epoch in range(2):
        assert order(found.as_numpy_iterator()) == planned(some, epoch)


@on_tensorflow
def test_tf_data_keeps_names_and_text(tmp_path: Path) -> None:
    k5.write(tmp_path / "a.h5", a=np.arange(6), b=np.array([b"x", b"yy"] * 3), y=np.arange(6))
    x: dict[str, Any] = {"a": "a", "b": k5.Column("b", dtype=str)}
    ds = k5.H5Dataset(tmp_path / "a.h5", x=x, y="y", batch_size=4, shuffle=False)
    (inputs, y) = next(ds.to_tf().as_numpy_iterator())
    assert inputs["a"].tolist() == y.tolist() == [0, 1, 2, 3]
    assert inputs["b"].tolist() == [b"x", b"yy", b"x", b"yy"]


def test_a_framework_that_is_not_there_is_named(
    ds: k5.H5Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in (("to_torch", "_torch"), ("to_tf", "_tensorflow")):
        monkeypatch.setitem(__import__("sys").modules, f"kerash5.feeds.outside.{module}", None)
        with pytest.raises(k5.BackendError, match=r"needs .*: pip install"):
            getattr(ds, name)()
