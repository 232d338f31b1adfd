"""The backends jax, tensorflow and torch: which are installed, and what a result depends on.

Nothing here imports a backend: importing takes seconds, and importing Keras fixes the backend.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from kerash5._errors import BackendError, OptionError

Backend = Literal["jax", "tensorflow", "torch"]

BACKENDS: Final[tuple[Backend, ...]] = ("jax", "tensorflow", "torch")
# Not all of TF_: settings of other programs begin with it too.
_SETTINGS: Final = (
    *("KERAS_BACKEND", "OMP_", "MKL_", "XLA_", "JAX_", "TF_CPP_", "TF_ENABLE_", "TF_NUM_"),
    *("TF_XLA_", "TF_DETERMINISTIC_", "TF_CUDNN_", "TF_GPU_"),
)
_PACKAGES: Final = (
    "kerash5",
    "keras",
    "jax",
    "tensorflow",
    "tensorflow-cpu",
    "torch",
    "h5py",
    "numpy",
    "grain",
)
_OTHER_BUILDS: Final = {"keras-nightly": "keras"}  # other distributions of the same package


def installed_backends() -> tuple[Backend, ...]:
    """Return the backends that could be imported, in alphabetical order."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def choose_backend(asked: str | None = None) -> Backend:
    """Return the backend to use: `asked`, or KERAS_BACKEND, or the first installed.

    Raises:
        OptionError: There is no backend of this name.
        BackendError: It is not installed; the message has the pip command.
    """
    found = installed_backends()
    name = asked or os.environ.get("KERAS_BACKEND") or (found[0] if found else None)
    if name is None:
        raise BackendError(
            "no backend is installed; choose one: pip install 'kerash5[jax]' (or [tensorflow], "
            "[torch])"
        )
    for backend in BACKENDS:
        if name == backend:
            if backend not in found:
                have = f"; installed: {', '.join(found)}" if found else ""
                raise BackendError(
                    f"the backend {name!r} is not installed: pip install 'kerash5[{name}]'{have}"
                )
            if importlib.util.find_spec("keras") is None:
                raise BackendError(f"Keras is not installed: pip install 'kerash5[{name}]'")
            return backend
    raise OptionError(
        f"no backend {name!r}; choose {', '.join(BACKENDS)}, and pip install 'kerash5[jax]' (or "
        f"[tensorflow], [torch]); installed: {', '.join(found) or 'none'}"
    )


def use_backend(asked: str | None = None) -> Backend:
    """Choose a backend and set KERAS_BACKEND, before Keras is imported.

    Raises:
        OptionError, BackendError: As in `choose_backend`.
        BackendError: Keras is already imported with another backend.
    """
    backend = choose_backend(asked)
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != backend:
        raise BackendError(
            f"Keras runs on {keras.backend.backend()!r} in this process and cannot change to "
            f"{backend!r}; start a new process"
        )
    os.environ["KERAS_BACKEND"] = backend
    # XLA and TensorFlow log to stderr by default; a setting of the user takes precedence.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return backend


def prepare_keras() -> bool:
    """Return whether Keras is installed; select an installed backend if none was chosen.

    By default Keras uses the backend in its keras.json, a file that it creates with "tensorflow";
    its import then fails if only another backend is installed. KERAS_BACKEND is not overridden.
    """
    if importlib.util.find_spec("keras") is None:
        return False
    found = installed_backends()
    is_open = "KERAS_BACKEND" not in os.environ and "keras" not in sys.modules
    if is_open and found and _configured_backend() not in found:
        os.environ["KERAS_BACKEND"] = found[0]
    return True


def loaded_backend() -> str | None:
    """Return the backend that Keras runs on in this process; None before Keras is imported."""
    keras = sys.modules.get("keras")
    backend = getattr(getattr(keras, "backend", None), "backend", None)
    return None if backend is None else str(backend())


def narrows_integers() -> bool:
    """Return whether the backend converts 64-bit integers to 32 bits: JAX does by default."""
    jax = sys.modules.get("jax")
    return loaded_backend() == "jax" and jax is not None and not jax.config.jax_enable_x64


def _configured_backend() -> str:
    """Return the backend in Keras' configuration file, as Keras reads it."""
    path = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def versions(*, also: Sequence[str] = ()) -> dict[str, str]:
    """Return the installed versions of the packages that affect results, by name.

    None of them is imported.

    Args:
        also: Names of further packages to look up.
    """
    found = {}
    for name in (*_OTHER_BUILDS, *_PACKAGES, *also):
        try:
            found[_OTHER_BUILDS.get(name, name)] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Return the environment of a run: Python, versions, processor, settings; JSON-ready."""
    settings = {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_SETTINGS)}
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "versions": versions(),
        "settings": settings,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line for line in text.splitlines() if line.startswith("model name"))
    return next((line.partition(":")[2].strip() for line in names), platform.machine())
