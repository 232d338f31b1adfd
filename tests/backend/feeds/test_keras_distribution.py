"""Several processes or devices under Keras itself: each row counts once, or is refused."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

import kerash5 as k5
from tests.backend.together import CONNECT, LINEAR, free_port, run_together, train, write_rows

BACKEND: Final = keras.backend.backend()
VERSION: Final = tuple(map(int, keras.__version__.split(".")[:2]))
BATCH: Final = 8

jax_alone = pytest.mark.skipif(BACKEND != "jax", reason="JAX makes several devices of one CPU")
tensorflow_alone = pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
exchanges = pytest.mark.skipif(
    BACKEND == "tensorflow" or (BACKEND == "torch" and VERSION < (3, 16)),
    reason="here Keras adds up the gradients of processes on JAX, and on PyTorch from 3.16 on",
)


def shards(path: Path, count: int, **options: Any) -> Iterator[Sequence[NDArray[np.int64]]]:
    """Yield the rows of two epochs of steps, by process."""
    plans = [
        k5.H5Dataset(path, x="x", y="y", batch_size=BATCH, shard=(index, count), **options).plan
        for index in range(count)
    ]
    for step in range(2 * plans[0].steps_per_epoch):
        yield [plan.rows(step) for plan in plans]


def read(out: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a child has printed: why something was refused, and what was found, by name."""
    refused: dict[str, str] = {}
    found: dict[str, str] = {}
    for line in out.splitlines():
        name, is_refused, reason = line.partition(" refused: ")
        if is_refused:
            refused[name] = reason
        else:
            name, _, text = line.partition(" ")
            found[name] = text
    return refused, found


TWO_PROCESSES: Final = f"""{CONNECT}{LINEAR}
def data(**options):
    return k5.H5Dataset(path, x="x", y="y", batch_size={BATCH}, drop_last=True, **options)
def fit(*arguments, **options):
    linear().fit(*arguments, epochs=1, verbose=0, **options)
def distribute(**options):
    keras.distribution.set_distribution(keras.distribution.DataParallel(**options))
mine, others = (int(index), 2), (1 - int(index), 2)
distribute()
refused("default", lambda: fit(data(shard="auto")))
refused("default without shard", lambda: fit(data()))
distribute(auto_shard_dataset=False)
refused("other shard", lambda: fit(data(shard=others)))
refused("trainer", lambda: k5.Trainer(max_epochs=1, run_dir=folder).fit(linear(), data(shard=mine)))
refused("lr_find", lambda: k5.Trainer(run_dir=folder).lr_find(linear(), data(shard=mine)))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = linear()
    model.fit(data(), epochs=1, verbose=0)
print("warned", sum("shard='auto', unless" in str(w.message) for w in caught))
print("whole", json.dumps(weights(model)))
model = linear()
history = model.fit(data(shard="auto"), epochs=2, verbose=0).history
print("sharded", json.dumps(weights(model)))
print("loss", json.dumps(history["loss"]), flush=True)
if backend == "jax":  # one model on the devices of both processes
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], devices)
    layout = keras.distribution.LayoutMap(mesh)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False)
    )
    refused("one model", lambda: fit(data(shard="auto")))
    model = linear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(data(), epochs=1, verbose=0)
    print("same", json.dumps(weights(model)), flush=True)
if backend == "torch":
    group.destroy_process_group()
"""


@exchanges
def test_two_processes_under_data_parallel_train_on_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    x, y = write_rows(path, 43)
    gloo = {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    said = run_together(TWO_PROCESSES, BACKEND, path, tmp_path / "run", variables=(gloo, gloo))
    wanted = train(x, y, shards(path, 2, drop_last=True))
    once = [step[0] for step in shards(path, 1, drop_last=True)]
    whole = train(x, y, [[rows] for rows in once[: len(once) // 2]])
    losses = []
    for index, (out, err) in enumerate(said):
        lines, found = read(out)
        assert "loss" in found, out + err
        # Before 3.16 it is Keras that refuses, and names the same argument.
        assert "auto_shard_dataset" in lines["default"]
        assert "auto_shard_dataset" in lines["default without shard"]
        assert f"reads shard {index} of 2" in lines["other shard"]
        assert "trains in one process alone; use model.fit" in lines["trainer"]
        assert "Trainer.lr_find: this is process" in lines["lr_find"]
        assert found["warned"] == "1", err
        assert_allclose(json.loads(found["whole"]), whole, rtol=1e-4, atol=1e-6)
        assert_allclose(json.loads(found["sharded"]), wanted, rtol=1e-4, atol=1e-6)
        losses.append(json.loads(found["loss"]))
        if BACKEND == "jax":
            assert "reads shard 0 of 1" in lines["one model"]
            assert_allclose(json.loads(found["same"]), whole, rtol=1e-4, atol=1e-6)
    assert losses[0] == losses[1]
    assert not (tmp_path / "run").exists()


TWO_DEVICES: Final = f"""
import sys
_, _, _, path, folder = sys.argv[1:]
{LINEAR}
keras.distribution.set_distribution(keras.distribution.DataParallel())
assert len(keras.distribution.list_devices()) == 2
def data(**options):
    return k5.H5Dataset(path, x="x", y="y", **dict(batch_size={BATCH}) | options)
def fit(dataset):
    linear().fit(dataset, verbose=0)
quiet = dict(run_dir=folder, enable_progress_bar=False, enable_model_summary=False)
trainer = k5.Trainer(max_epochs=2, **quiet)
refused("odd batch", lambda: fit(data(batch_size=5)))
refused("odd rest", lambda: fit(data()))
refused("odd rest, trainer", lambda: trainer.fit(linear(), data()))
refused("odd rest, evaluated", lambda: linear().evaluate(data(drop_last=True), verbose=0))
for name, options in dict(dropped=dict(drop_last=True), even=dict(rows=slice(42))).items():
    model = linear()
    model.fit(data(**options), epochs=2, verbose=0)
    print(name, json.dumps(weights(model)))
model = linear()
run = trainer.fit(model, data(drop_last=True))
print("trainer", json.dumps(weights(model)))
model.evaluate(data(rows=slice(42)), verbose=0)
print("predicted", model.predict(data(rows=slice(42)), verbose=0).shape)
"""


@jax_alone
def test_two_devices_of_one_process_train_on_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    x, y = write_rows(path, 43)
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    words = (path, tmp_path / "run")
    [(out, err)] = run_together(TWO_DEVICES, "jax", *words, count=1, variables=[devices])
    lines, found = read(out)
    assert "pass batch_size= a multiple of 2" in lines["odd batch"], err
    for name in ("odd rest", "odd rest, trainer"):
        assert "a batch of 3 rows does not divide; pass drop_last=True, or rows=" in lines[name]
    assert lines["odd rest, evaluated"].endswith("pass rows= whose number divides by 2")
    dropped = train(x, y, shards(path, 1, drop_last=True))
    assert_allclose(json.loads(found["dropped"]), dropped, rtol=1e-4, atol=1e-6)
    assert_allclose(json.loads(found["trainer"]), dropped, rtol=1e-4, atol=1e-6)
    even = train(x, y, shards(path, 1, rows=slice(42)))
    assert_allclose(json.loads(found["even"]), even, rtol=1e-4, atol=1e-6)
    assert found["predicted"] == "(42, 1)"


ALONE: Final = f"""
import sys
_, _, port, path, folder = sys.argv[1:]
import torch.distributed as group
group.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{{port}}", rank=0, world_size=1)
{LINEAR}
data = k5.H5Dataset(path, x="x", y="y", batch_size={BATCH}, shard="auto")
model = linear()
model.fit(data, epochs=2, verbose=0)
print("fit", json.dumps(weights(model)))
model = linear()
quiet = dict(run_dir=folder, enable_progress_bar=False, enable_model_summary=False)
run = k5.Trainer(max_epochs=2, **quiet).fit(model, data)
print("trainer", json.dumps(weights(model)))
group.destroy_process_group()
"""


@pytest.mark.skipif(BACKEND != "torch", reason="a group of torch.distributed")
def test_a_group_of_one_process_trains_as_no_group_does(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    x, y = write_rows(path, 43)
    [(out, err)] = run_together(ALONE, "torch", path, tmp_path / "run", count=1)
    _, found = read(out)
    wanted = train(x, y, shards(path, 1))
    assert_allclose(json.loads(found["fit"]), wanted, rtol=1e-4, atol=1e-6, err_msg=err)
    assert_allclose(json.loads(found["trainer"]), wanted, rtol=1e-4, atol=1e-6)


MIRRORED: Final = f"""
import sys
_, _, _, path, folder = sys.argv[1:]
import tensorflow as tf
device = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [device, device]
)
{LINEAR}
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
def mirrored():
    with strategy.scope():
        return linear()
def data(**options):
    return k5.H5Dataset(path, x="x", y="y", batch_size={BATCH}, **options)
model = mirrored()
model.fit(data(), epochs=2, verbose=0)
print("fit", json.dumps(weights(model)))
print("predicted", model.predict(data(), verbose=0).shape)
model = mirrored()
quiet = dict(run_dir=folder, enable_progress_bar=False, enable_model_summary=False)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    k5.Trainer(max_epochs=2, **quiet).fit(model, data())
print("trainer", json.dumps(weights(model)))
print("warned", sum("each of its 2 replicas computes" in str(w.message) for w in caught))
"""


@tensorflow_alone
def test_two_replicas_of_a_strategy_train_on_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    x, y = write_rows(path, 43)
    words = (path, tmp_path / "run")
    [(out, err)] = run_together(MIRRORED, "tensorflow", *words, count=1)
    _, found = read(out)
    whole = list(shards(path, 1))
    # As for arrays, Keras averages what each replica has averaged, of a rest of 3 rows 2 and 1.
    split = train(x, y, [np.array_split(step[0], 2) for step in whole])
    assert_allclose(json.loads(found["fit"]), split, rtol=1e-4, atol=1e-6, err_msg=err)
    assert_allclose(json.loads(found["trainer"]), train(x, y, whole), rtol=1e-4, atol=1e-6)
    assert found["warned"] == "1"
    assert found["predicted"] == "(43, 1)"


WORKERS: Final = f"""
import sys
_, index, _, path, folder = sys.argv[1:]
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
{LINEAR}
data = k5.H5Dataset(path, x="x", y="y", batch_size={BATCH}, shard="auto")
print("shard", data.plan.shard, flush=True)
with strategy.scope():
    model = linear()
refused("trainer", lambda: k5.Trainer(max_epochs=1, run_dir=folder).fit(model, data))
refused("fit", lambda: model.fit(data, epochs=1, verbose=0))
"""


@tensorflow_alone
def test_workers_of_tf_config_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.h5"
    write_rows(path, 43)
    workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    variables = [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            )
        }
        for index in range(2)
    ]
    said = run_together(WORKERS, "tensorflow", path, tmp_path / "run", variables=variables)
    for index, (out, err) in enumerate(said):
        assert f"shard ({index}, 2)" in out, err
        for what in ("trainer refused: Trainer.fit", "fit refused: fit"):
            assert f"{what} under MultiWorkerMirroredStrategy: Keras does not train on" in out, err
    assert not (tmp_path / "run").exists()
