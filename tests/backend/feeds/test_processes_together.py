"""Two real processes on loopback: nothing trains a model per process without a word."""

import json
from pathlib import Path
from typing import Final

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from tests.backend.together import CONNECT, free_port, run_together

CHILD: Final = (
    CONNECT
    + """
import warnings
import keras, kerash5 as k5
data = k5.H5Dataset(path, x="x", y="y", shard="auto", batch_size=8)
print("shard", data.plan.shard)
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
quiet = dict(run_dir=folder, enable_progress_bar=False, enable_model_summary=False)
trainer = k5.Trainer(max_epochs=1, **quiet)
for name, call in {
    "fit": lambda: trainer.fit(model, data),
    "lr_find": lambda: trainer.lr_find(model, data),
    "predict": lambda: trainer.predict(model, k5.H5Dataset(path, x="x"), out=folder + ".h5"),
}.items():
    try:
        call()
    except k5.OptionError as error:
        print(name, "refused:", error)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    if backend != "jax" or index == "0":  # Keras' fit meets no other process
        model.fit(data, epochs=2, verbose=0)
print("fit of Keras warned", sum("model of its own" in str(w.message) for w in caught), flush=True)
if backend == "torch":
    group.destroy_process_group()
"""
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.zeros((40, 2), "f4")
        file["y"] = np.zeros(40, "f4")
    return tmp_path / "rows.h5"


def test_two_connected_processes_are_refused_or_warned(path: Path, tmp_path: Path) -> None:
    backend = keras.backend.backend()
    workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    configs = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
    variables = [{"TF_CONFIG": config} if backend == "tensorflow" else {} for config in configs]
    said = run_together(CHILD, backend, path, tmp_path / "run", variables=variables)
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    is_exchanged = backend == "torch" and version >= (3, 16)  # by the fit of Keras
    for index, (out, err) in enumerate(said):
        assert f"shard ({index}, 2)" in out, err
        assert f"fit refused: Trainer.fit: this is process {index} of 2" in out
        assert "lr_find refused:" in out
        assert "predict refused:" in out
    assert f"fit of Keras warned {0 if is_exchanged else 1}" in said[0][0]
    assert not (tmp_path / "run").exists()


def small_model() -> keras.Model:
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_torchrun_without_a_group_is_warned_of_once_by_fit_and_refused_by_the_trainer(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8)
    with pytest.warns(UserWarning, match=r"process 1 of 2 \(torchrun\)") as caught:
        small_model().fit(data, epochs=3, verbose=0)
    assert sum("a model of its own" in str(found.message) for found in caught) == 1
    with pytest.raises(k5.OptionError, match="shard='auto': this is process 1 of 2"):
        k5.H5Dataset(path, x="x", y="y", shard="auto")
    with pytest.raises(k5.OptionError, match=r"Trainer\.fit: this is process 1 of 2"):
        k5.Trainer(run_dir=tmp_path / "run").fit(small_model(), data)
    assert not (tmp_path / "run").exists()
