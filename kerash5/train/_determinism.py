"""Makes a backend bit-for-bit deterministic. On a CPU all three are deterministic by default."""

from __future__ import annotations

import os
from typing import Final

import keras

from kerash5._errors import RunError

_XLA_FLAG: Final = "--xla_gpu_deterministic_ops=true"


def make_deterministic() -> None:
    """Allow the backend only deterministic operations, in this process.

    Raises:
        RunError: JAX runs on a GPU and was started without the XLA flag for this.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        _make_torch_deterministic()
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "jax":
        import jax

        flags = os.environ.get("XLA_FLAGS", "")
        if jax.default_backend() == "gpu" and _XLA_FLAG not in flags:
            raise RunError(
                "deterministic=True on JAX and a GPU takes a flag before Python starts: "
                f"export XLA_FLAGS={_XLA_FLAG}"
            )


def prepare_deterministic_jax() -> None:
    """Set the XLA flag; it takes effect only before JAX initializes its devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _XLA_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_XLA_FLAG}".strip()


def _make_torch_deterministic() -> None:
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS raises without it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
