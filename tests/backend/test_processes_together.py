"""Two real processes on loopback: nothing trains a model per process without a word."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5

CHILD: Final = """
import sys, warnings
backend, index, port, path, folder = sys.argv[1:]
if backend == "torch":
    import torch.distributed as group
    group.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=int(index), world_size=2
    )
elif backend == "jax":
    import jax
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(index))
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


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.zeros((40, 2), "f4")
        file["y"] = np.zeros(40, "f4")
    return tmp_path / "rows.h5"


def test_two_connected_processes_are_refused_or_warned(path: Path, tmp_path: Path) -> None:
    backend = keras.backend.backend()
    port = free_port()
    environment = dict(os.environ)
    if backend == "tensorflow":
        workers = f'"127.0.0.1:{port}", "127.0.0.1:{port + 1}"'
    children = []
    for index in range(2):
        if backend == "tensorflow":
            environment["TF_CONFIG"] = (
                f'{{"cluster": {{"worker": [{workers}]}}, '
                f'"task": {{"type": "worker", "index": {index}}}}}'
            )
        command = [sys.executable, "-c", CHILD, backend, str(index), str(port), str(path)]
        children.append(
            subprocess.Popen(
                [*command, str(tmp_path / "run")],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
    try:
        said = [child.communicate(timeout=150) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    for index, (out, err) in enumerate(said):
        assert f"shard ({index}, 2)" in out, err
        assert f"fit refused: Trainer.fit: this is process {index} of 2" in out
        assert "lr_find refused:" in out
        assert "predict refused:" in out
    assert "fit of Keras warned 1" in said[0][0]
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
