"""Set threads, TF32 and precision alike for every measured backend, and report what applies.

Threads are set twice: by environment variables before the process starts (`child_settings` of the
runner), because thread pools are created on import, and here if a backend has a call for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import keras

from kerash5._backends import environment
from kerash5.train.loop._model_checks import POLICIES

_STATUS: Final = Path("/proc/self/status")


def apply_policy(*, threads: int, tf32: bool, precision: str) -> None:
    """Set the backend's number of threads, TF32, and Keras' dtype policy."""
    keras.config.set_dtype_policy(POLICIES[precision])
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    else:
        import jax

        # JAX reads the number of threads from NPROC when its client is created. A CPU has no TF32.
        if jax.default_backend() != "cpu":
            jax.config.update(
                "jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest"
            )


def describe_policy() -> dict[str, Any]:
    """Return the settings of the process, as the backend itself reports them. JSON-ready."""
    has_affinity = hasattr(os, "sched_getaffinity")
    found = environment()
    # Without folders, because results are published.
    settings = {name: value for name, value in found["settings"].items() if os.sep not in value}
    return {
        **found,
        "settings": settings,
        "affinity": sorted(os.sched_getaffinity(0)) if has_affinity else None,
        "process_threads": _status_number("Threads"),
        "precision": keras.config.dtype_policy().name,
        "layout": "channels_last",  # every model of the zoo sets it
        **_resolved(),
    }


def peak_host() -> tuple[int | None, str]:
    """Return the peak memory of this process in bytes, and the name of the counter.

    `ru_maxrss` is the last resort: on Linux it includes the memory of the parent before `exec`.
    """
    kib = _status_number("VmHWM")
    if kib is not None:
        return kib << 10, "VmHWM"
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset), "peak_wset"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "ru_maxrss"


def peak_device() -> tuple[int | None, str]:
    """Return the peak memory of the first device in bytes, and its counter; None if it has none."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated()), "torch.cuda.max_memory_allocated"
    elif backend == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
            return int(peak), "tf.config.experimental.get_memory_info"
    else:
        import jax

        found = jax.local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in found:
            return int(found["peak_bytes_in_use"]), "jax.Device.memory_stats"
    return None, ""


def _resolved() -> dict[str, Any]:
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
        return {
            "device": name,
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "tf32": torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32,
        }
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
        return {
            "device": details.get("device_name", "gpu") if gpus else "cpu",
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "interop_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        }
    import jax

    asked = os.environ.get("NPROC", "")
    return {
        "device": jax.local_devices()[0].device_kind,
        "threads": int(asked) if asked.isdigit() else None,
        "interop_threads": None,
        "tf32": jax.config.jax_default_matmul_precision == "tensorfloat32",
    }


def _status_number(name: str) -> int | None:
    """Return a number of /proc/self/status; None if it is not there."""
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((int(value) for value in found), None)
