"""Processes that know of each other, on loopback; and what a linear model learns from some rows."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

SECONDS = 150  # for all children together, then they are killed
RATE = 0.1

# Sets the group up; the variables are sys.argv[1:] of `run_together`'s children.
CONNECT = """
import sys
backend, index, port, path, folder = sys.argv[1:]
if backend == "torch":
    import torch.distributed as group
    group.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=int(index), world_size=2
    )
elif backend == "jax":
    import jax
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(index))
"""

# A linear model that begins at zero, whose steps `train` computes, too.
LINEAR = f"""
import json, warnings
import keras, numpy as np, kerash5 as k5
def linear():
    model = keras.Sequential([
        keras.layers.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")
    ])
    model.compile(keras.optimizers.SGD({RATE}), "mse")
    return model
def weights(model):
    found = [keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights]
    return np.concatenate(found).astype(float).tolist()
def refused(name, call):
    try:
        call()
    except (ValueError, k5.KerasH5Error) as error:
        print(name, "refused:", str(error).replace(chr(10), " "), flush=True)
    else:
        print(name, "done", flush=True)
"""


def write_rows(path: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Write x and y to a file; return them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(count, 2)).astype("f4"), rng.normal(size=count).astype("f4")
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = x, y
    return x, y


def train(
    x: NDArray[np.float32], y: NDArray[np.float32], steps: Iterable[Sequence[NDArray[np.int64]]]
) -> NDArray[np.float64]:
    """Return the weights of the linear model, then its bias, after steps of SGD.

    Args:
        x: Rows, shape (n, 2).
        y: What to answer, shape (n,).
        steps: The rows of each step, by process; their gradients are averaged.
    """
    inputs = np.c_[x, np.ones(len(x))].astype(float)
    weights = np.zeros(3)
    for step in steps:
        gradients = [
            2 * inputs[rows].T @ (inputs[rows] @ weights - y[rows]) / len(rows) for rows in step
        ]
        weights = weights - RATE * np.mean(gradients, axis=0)
    return weights


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def run_together(
    code: str,
    backend: str,
    *words: Path,
    count: int = 2,
    port: int | None = None,
    variables: Sequence[Mapping[str, str]] = ({}, {}),
) -> list[tuple[str, str]]:
    """Run Python code in several processes; return what each has written to stdout and stderr.

    Args:
        code: Finds the backend, its number, a port and the words in sys.argv.
        backend: Of Keras.
        *words: Paths.
        count: The number of processes.
        port: For them to meet at; None: any free one.
        variables: Of the environment, by process.
    """
    port = free_port() if port is None else port
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, backend, str(index), str(port), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables[index]},
        )
        for index in range(count)
    ]
    try:
        return [child.communicate(timeout=SECONDS) for child in children]
    finally:
        for child in children:  # not terminate(): JAX catches that, and waits on
            child.kill()
            child.wait()
