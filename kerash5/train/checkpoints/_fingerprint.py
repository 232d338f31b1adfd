"""Fingerprints of fits: equal ones allow an exact resume; else the differences are named."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._served import served_by
from kerash5.h5 import Source
from kerash5.h5._source import modified_ns
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.loop._limits import Limits
from kerash5.train.state._outside import GROUP as OTHER
from kerash5.train.state._outside import find_optimizers
from kerash5.train.state._state import ModelState, variables_of

_SAMPLE_ROWS: Final = 16
# Limits of a sample, at every resume and if file times differ: rows, and decoded bytes.
_FEW: Final = (1_024, 32 << 20)
_MORE: Final = (16_384, 128 << 20)
_LABEL_BYTES: Final = 64  # of one row; larger values are not labels
_PIECE_BYTES: Final = 8 << 20  # in memory at once
_MAX_NAMED: Final = 3  # differences in a message
# Training changes these, so they do not belong to the fingerprint.
_PLAIN: Final = (int, float, str, type(None))
_OPTIMIZER_STATE: Final = frozenset({"name", "learning_rate"})


def fingerprint(
    current: ModelState,
    train: H5Dataset,
    limits: Limits,
    class_weight: ClassWeight | None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the fingerprint of a fit, JSON-ready.

    Training rows are read: up to 32 MB of decoded data, or up to 128 MB if there is no earlier
    fingerprint or file times have changed. All labels are read, up to 128 MB.

    Args:
        current: The model, compiled and built.
        train: The training data.
        limits: The limits; those that determine the batches are included.
        class_weight: As in `fit`.
        known: The earlier fingerprint to compare with; None for a new run.
    """
    found = {
        "backend": keras.backend.backend(),
        "data": {**served_by(train).fingerprint(), "rows": _sample(train)},
        "content": _describe_content(train, (known or {}).get("content")),
        "steps_per_epoch": limits.steps_per_epoch(len(train)),
        "is_overfitting": limits.overfit_batches is not None,
        "class_weight": [[str(label), weight] for label, weight in (class_weight or {}).items()],
        "model": _describe_model(current),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401  JSON
    """Yield a description of each difference of two fingerprints."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from differences(was, now, f"{name}[{number}]")
    elif old != new:
        yield f"{name} was {reprlib.repr(old)} and is {reprlib.repr(new)}"


def compare_fits(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return descriptions of how two fits differ; file times are compared by `note_times`.

    Older checkpoints have no digest of the content; it is then not compared.
    """
    found = differences(_without_content(old), _without_content(new))
    return [*found, *changes_of_content(old, new)]


def changes_of_content(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return descriptions of changes in the content of the training files."""
    was, now = old.get("content"), new.get("content")
    if was is None or now is None:
        return []
    found = []
    if was["labels"] != now["labels"]:
        found.append("labels in the training files were changed")
    if any(was[sample] != now[sample] for sample in ("few", "more")):
        found.append("rows of the training files were changed")
    return found


def note_times(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return a note that file times have changed and what was compared; None if they have not."""
    was, now = old.get("content"), new.get("content")
    if was is None or now is None or was["modified_ns"] == now["modified_ns"]:
        return None
    count, total = now["more"][0], now["num_rows"]
    labels = " and all labels" if now["labels"] is not None else ""
    compared = "all rows" if count == total else f"{count:,} of {total:,} rows"
    return (
        f"the training files have other modification times than when the checkpoint was saved; "
        f"{compared}{labels} were compared"
    )


def name_differences(found: list[str]) -> str:
    """Return a phrase with the first few differences."""
    more = len(found) - _MAX_NAMED
    return "; ".join(found[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _sample(train: H5Dataset) -> str:
    """Return a digest of a few rows: a file written again may have the same size."""
    rows_read = np.linspace(0, len(train.source) - 1, _SAMPLE_ROWS).astype(np.int64)
    digest = hashlib.sha256()
    for name, rows in sorted(train.source.read(np.unique(rows_read)).items()):
        digest.update(f"{name} {rows.dtype} {rows.shape}".encode())
        digest.update(_bytes_of(np.asarray(rows, order="C")))
    return digest.hexdigest()[:16]


def _without_content(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "content"}


def _describe_content(train: H5Dataset, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the times of files, and digests of labels and of a sample of rows.

    If all served rows take at most 32 MB (128 MB), every row is in the sample. Else the rows are
    divided into 1,024 (16,384) equal ranges, and one row is drawn from each. If a fraction s of all
    rows was changed, a sample of n rows misses the change with probability (1 - s) ** n at most:
    1,024 rows find 0.45 % changed rows with a probability of 99 % and 0.1 % with 64 %; 16,384 rows
    find 0.03 % with 99 %. If rows are large, or each costs reading a large chunk, the sample is
    smaller: as many rows as fit in 32 MB (128 MB), but at least 16.
    """
    times = modified_ns(train.source)
    few = _digest_sample(train, *_FEW)
    is_known = known is not None and known["modified_ns"] == times and known["few"] == few
    return {
        "modified_ns": times,
        "num_rows": train.plan.num_served,
        "few": few,
        "more": known["more"] if known is not None and is_known else _digest_sample(train, *_MORE),
        "labels": _digest_labels(train),
    }


def _digest_sample(train: H5Dataset, most_rows: int, most_bytes: int) -> list[Any]:
    """Return the number of rows in the sample, and their digest."""
    source = train.source
    count = total = train.plan.num_served
    if total * source.row_bytes > most_bytes:
        cost = source.row_bytes * (1 if source.is_direct else source.block_rows)
        count = min(total, max(_SAMPLE_ROWS, min(most_rows, most_bytes // max(cost, 1))))
    return [count, _digest_rows(source, train.plan.rows_at(_draw_positions(total, count)))]


def _draw_positions(total: int, count: int) -> NDArray[np.int64]:
    """Return one position from each of `count` equal ranges of [0, total); sorted, always the same.

    NumPy's generators are not used, because their numbers may change between versions.
    """
    number = np.arange(count, dtype=np.uint64)
    # splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    mixed = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    starts = np.arange(count + 1, dtype=np.int64) * total // count
    lengths = np.diff(starts)
    return starts[:-1] + (mixed % lengths.astype(np.uint64)).astype(np.int64)


def _digest_labels(train: H5Dataset) -> str | None:
    """Return a digest of all served labels; None if y holds no labels or there are too many."""
    names = served_by(train).column_names("y")
    if not names:
        return None
    source = train.source.select(**{name: name for name in names})
    num_bytes = train.plan.num_served * source.row_bytes
    if source.row_bytes > _LABEL_BYTES or num_bytes > _MORE[1]:
        return None
    return _digest_rows(source, train.plan.served_rows)


def _digest_rows(source: Source, rows: NDArray[np.int64]) -> str:
    """Return a digest of some rows as they are stored."""
    digest = hashlib.blake2b(digest_size=8)
    step = max(1, _PIECE_BYTES // max(source.row_bytes, 1))
    for start in range(0, len(rows), step):
        loaded = source.load_rows(rows[start : start + step])
        for name, values in sorted(loaded.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(_bytes_of(np.ascontiguousarray(values)))
    return digest.hexdigest()


def _bytes_of(rows: np.ndarray) -> bytes:
    """Return the bytes of rows; for text, which is an array of objects, the encoded text."""
    return repr(rows.tolist()).encode() if rows.dtype.hasobject else rows.tobytes()


def _describe_model(current: ModelState) -> dict[str, Any]:
    model = current.model
    found = {
        "layers": _describe_layers(model),
        "variables": {
            group: [
                [_kind(variable), list(variable.shape), str(variable.dtype)] for variable in them
            ]
            for group, them in variables_of(model).items()
        },
        "optimizer": _describe_optimizer(model.optimizer),
        "loss": _name_loss(model.loss),
    }
    # A further optimizer may create its variables with its first step.
    slots = {id(slot) for each in find_optimizers(model).values() for slot in each.variables}
    others = {
        name: [list(variable.shape), str(variable.dtype)]
        for name, variable in current.variables().items()
        if name.startswith(f"{OTHER}/") and id(variable) not in slots
    }
    optimizers = {
        name: _describe_optimizer(each)
        for name, each in find_optimizers(model).items()
        if name.partition(".")[0] != "optimizer"  # and the inner optimizer of a LossScaleOptimizer
    }
    # Only if there are any, so that older checkpoints still fit models without them.
    return (
        found
        | ({"others": others} if others else {})
        | ({"optimizers": optimizers} if optimizers else {})
    )


def _describe_optimizer(optimizer: Any) -> Any:  # noqa: ANN401  Keras', or None
    if optimizer is None:
        return None
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    try:
        config = inner.get_config()
    except (TypeError, NotImplementedError):  # the optimizer or its schedule has no get_config
        settings = {key: value for key, value in vars(inner).items() if not key.startswith("_")}
        config = {key: value for key, value in settings.items() if isinstance(value, _PLAIN)}
    kept = {
        key: value
        for key, value in config.items()
        if key not in _OPTIMIZER_STATE or isinstance(value, Mapping)  # a schedule is not state
    }
    return {"kind": type(optimizer).__name__, **kept}


def _kind(variable: Any) -> str:  # noqa: ANN401  Keras'
    """Return a short name such as "kernel": full names contain layer names, which Keras numbers."""
    return str(variable.name).rpartition("_")[2]


def _describe_layers(model: keras.Model) -> Any:  # noqa: ANN401  JSON
    """Return the model's configuration without Keras' numbered names; else the kinds of layers."""
    try:
        config = json.loads(model.to_json())["config"]
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return [type(layer).__name__ for layer in model.layers]
    names: dict[str, str] = {}
    _number_names(config, names)
    return _replace_names(config, names)


def _number_names(config: Any, names: dict[str, str]) -> None:  # noqa: ANN401  JSON
    if isinstance(config, Mapping):
        name = config.get("name")
        if isinstance(name, str):
            names.setdefault(name, f"#{len(names)}")
        for value in config.values():
            _number_names(value, names)
    elif isinstance(config, list):
        for value in config:
            _number_names(value, names)


def _replace_names(config: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401  JSON
    if isinstance(config, Mapping):
        return {key: _replace_names(value, names) for key, value in config.items()}
    if isinstance(config, list):
        return [_replace_names(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def _name_loss(loss: Any) -> Any:  # noqa: ANN401  as in `compile`
    if isinstance(loss, Mapping):
        return {key: _name_loss(part) for key, part in loss.items()}
    if isinstance(loss, list | tuple):
        return [_name_loss(part) for part in loss]
    return (
        loss
        if loss is None or isinstance(loss, str)
        else getattr(loss, "name", None) or str(getattr(loss, "__name__", type(loss).__name__))
    )
