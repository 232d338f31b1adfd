"""Checkpoints: arrays as HDF5 and everything else as JSON, in a folder that is complete or absent.

A checkpoint is written under a temporary name, synced to the disk (fsync), and then renamed. The
previous checkpoint is not deleted, and is used if the newest is damaged. Nothing here depends on
models.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

import h5py
import numpy as np

from kerash5._errors import DamagedFileError, FileMissingError
from kerash5._warnings import warn
from kerash5.files import replacing, sync_folder, unwritable

ARRAYS_FILE: Final = "state.weights.h5"
STATE_FILE: Final = "state.json"
_NAME: Final = re.compile(r"(\d{6,})-step-(\d+)")
_PARTIAL: Final = "partial-"
_FORMAT: Final = 1
_COPIED_BYTES: Final = 1 << 20  # per read


@final
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a fit.

    Args:
        arrays: Arrays by name, of any NumPy type.
        state: JSON values; NaN and infinities are allowed.
        files: Further files by name. They are replaced as a whole, never modified in place.
        path: The folder of the checkpoint; None before it is written.
    """

    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)
    path: Path | None = None


@final
class Checkpoints:
    """The checkpoints of one run in one folder; their names contain increasing numbers.

    Args:
        folder: The folder; it is created with the first checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Return the paths of the complete checkpoints, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else iter(())
        named = [path for path in found if _NAME.fullmatch(path.name)]
        return sorted(named, key=_number_of, reverse=True)

    def save(self, checkpoint: Checkpoint, step: int) -> Path:
        """Write a checkpoint atomically, and return its folder.

        Raises:
            OSError: It cannot be written; earlier checkpoints are unchanged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((_number_of(path) for path in self.paths()), default=0) + 1
        path = self.folder / f"{number:06}-step-{step}"
        partial = self.folder / f"{_PARTIAL}{path.name}"
        try:
            partial.mkdir()
            _write(partial / ARRAYS_FILE, _pack(checkpoint.arrays))
            _write(partial / STATE_FILE, _format_state(checkpoint).encode())
            for name, file in checkpoint.files.items():
                link(file, partial / name)
            sync_folder(partial)
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(self.folder)
        return path

    def newest(self, *, is_wanted: Callable[[Path], bool] = lambda _: True) -> Checkpoint | None:
        """Return the newest intact checkpoint; None if there is none.

        It warns of each damaged checkpoint that it skips.
        """
        for path in filter(is_wanted, self.paths()):
            try:
                return load_checkpoint(path)
            except DamagedFileError as error:
                warn(f"{error}; the one before it is used")
        return None

    def read_state(self, path: Path) -> Mapping[str, Any]:
        """Return the JSON values of a checkpoint; an empty mapping if it is damaged."""
        try:
            state: Mapping[str, Any] = _read_body(path)["state"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return state

    def keep(self, paths: Sequence[Path]) -> None:
        """Delete all checkpoints except these, and incomplete ones of killed processes."""
        wanted = set(paths)
        found = list(self.folder.iterdir()) if self.folder.is_dir() else []
        for path in found:
            if _NAME.fullmatch(path.name) and path not in wanted:
                gone = path.with_name(f"{_PARTIAL}{path.name}")
                path.rename(gone)  # a process killed here must not leave half a checkpoint
                shutil.rmtree(gone, ignore_errors=True)
            elif path.name.startswith(_PARTIAL):
                shutil.rmtree(path, ignore_errors=True)


def copy_checkpoint(path: Path, target: Path) -> Path:
    """Copy a checkpoint to a new folder atomically, and return the folder.

    Raises:
        FileError: The folder exists, or cannot be written.
    """
    partial = target.with_name(f"{_PARTIAL}{target.name}")
    try:
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        for file in path.iterdir():
            _write(partial / file.name, file.read_bytes())
        sync_folder(partial)
        partial.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FileMissingError: There is no checkpoint.
        DamagedFileError: It is incomplete, or its bytes have changed.
    """
    if not (path / STATE_FILE).exists() and not (path / ARRAYS_FILE).exists():
        raise FileMissingError(f"no checkpoint at {str(path)!r}; name one of a run's checkpoints")
    try:
        written = _read_body(path)
        arrays = _unpack((path / ARRAYS_FILE).read_bytes())
        files = dict(written.get("files", {}))
        found = {name: _digest_file(path / name) for name in files}
        damaged = [name for name, digest in files.items() if digest != found[name]]
        if _digest_arrays(arrays) != written["arrays"]:
            damaged.append(ARRAYS_FILE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"checkpoint {str(path)!r} is damaged ({error})") from error
    if damaged:
        raise DamagedFileError(
            f"checkpoint {str(path)!r} is damaged ({damaged[0]} is not what was written)"
        )
    return Checkpoint(arrays, written["state"], {name: path / name for name in files}, path)


def link(file: Path, other: Path) -> None:
    """Hard-link a file under another name; copy it if the file system has no links."""
    try:
        os.link(file, other)
    except OSError:
        copy(file, other)


def copy(file: Path, other: Path) -> None:
    """Copy a file atomically."""
    with file.open("rb") as source, replacing(other) as stream:
        shutil.copyfileobj(source, stream, _COPIED_BYTES)


def _read_body(path: Path) -> Mapping[str, Any]:
    text = (path / STATE_FILE).read_text(encoding="utf-8")
    head, _, body = text.partition("\n")
    if json.loads(head) != {"format": _FORMAT, "sha256": _digest_text(body)}:
        raise ValueError(f"{STATE_FILE} is not what was written")
    written: Mapping[str, Any] = json.loads(body)
    return written


def _format_state(checkpoint: Checkpoint) -> str:
    written = {
        "arrays": _digest_arrays(checkpoint.arrays),
        "files": {name: _digest_file(file) for name, file in checkpoint.files.items()},
        "state": dict(checkpoint.state),
    }
    body = json.dumps(written, indent=1)
    return json.dumps({"format": _FORMAT, "sha256": _digest_text(body)}) + "\n" + body


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the arrays as the bytes of an HDF5 file.

    It is built in memory, because HDF5 can fail without an error on a full disk.
    """
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            # Types that HDF5 lacks, such as bfloat16, are stored as bytes.
            is_known = array.dtype.kind in "biufc"
            plain = array if is_known else np.frombuffer(array.tobytes(), np.uint8)
            file.create_dataset(name, data=plain)
            file[name].attrs["dtype"] = array.dtype.name
            file[name].attrs["shape"] = np.array(array.shape, np.int64)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _unpack(image: bytes) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, found: h5py.Dataset | h5py.Group) -> None:
        if isinstance(found, h5py.Dataset):
            shape = tuple(int(length) for length in found.attrs["shape"])
            arrays[name] = _as_type(np.asarray(found[()]), str(found.attrs["dtype"]), shape)

    with h5py.File(io.BytesIO(image), "r") as file:
        file.visititems(visit)
    return arrays


def _as_type(stored: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if stored.dtype.name == dtype:
        return stored
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        # A dependency of JAX and Keras, which registers bfloat16 and similar types with NumPy.
        wanted = np.dtype(getattr(import_module("ml_dtypes"), dtype))
    return np.frombuffer(stored.tobytes(), wanted).reshape(shape)


def _digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _number_of(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0
