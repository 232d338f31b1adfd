"""Compare two files object by object with plain h5py: what repacking must not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

SCALES = {"DIMENSION_LIST", "REFERENCE_LIST"}


def find_differences(
    one: h5py.File, other: h5py.File, order: np.ndarray | None = None, *, added: str = ""
) -> Iterator[str]:
    """Yield how two files differ, chunks and filters aside.

    Args:
        one: The source.
        other: The new file.
        order: The row of the source for each row of data sets of that length.
        added: The name of an object that only the new file has.
    """
    yield from _compare_groups(one, other, order, added)
    # Not of named types: data sets that use one count as links to it, and are given their own.
    for path in _walk(one):
        if not isinstance(one[path], h5py.Datatype):
            links = [h5py.h5o.get_info(file[path].id).rc for file in (one, other)]
            if links[0] != links[1]:
                yield f"{path}: hard links {links}"


def _walk(group: h5py.Group) -> Iterator[str]:
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            path = f"{group.name.rstrip('/')}/{name}"
            yield path
            if isinstance(group[name], h5py.Group) and path.count("/") < 20:
                yield from _walk(group[name])


def _compare_groups(
    one: h5py.Group, other: h5py.Group, order: np.ndarray | None, added: str
) -> Iterator[str]:
    yield from _compare_attributes(one, other)
    if sorted(one) != sorted(set(other) - {added}):
        yield f"{one.name}: names {sorted(one)[:5]} and {sorted(other)[:5]}"
        return
    for name in one:
        links = [group.get(name, getlink=True) for group in (one, other)]
        path = f"{one.name.rstrip('/')}/{name}"
        if type(links[0]) is not type(links[1]):
            yield f"{path}: {links}"
        elif not isinstance(links[0], h5py.HardLink):
            if vars(links[0]) != vars(links[1]):
                yield f"{path}: {vars(links[0])} and {vars(links[1])}"
        elif isinstance(one[name], h5py.Group):
            if path.count("/") < 20:
                yield from _compare_groups(one[name], other[name], order, "")
        elif isinstance(one[name], h5py.Dataset):
            yield from _compare_datasets(one[name], other[name], order)
        elif one[name].id.get_size() != other[name].id.get_size():
            yield f"{path}: types"


def _compare_datasets(
    one: h5py.Dataset, other: h5py.Dataset, order: np.ndarray | None
) -> Iterator[str]:
    yield from _compare_attributes(one, other)
    if one.shape != other.shape or not _same_type(one.id.get_type(), other.id.get_type()):
        yield f"{one.name}: {one} and {other}"
        return
    if one.shape is None or one.size == 0:
        return
    if one.id.get_storage_size() == 0 and not one.is_virtual and not one.external:
        return  # never written, and perhaps larger than any memory
    values = [_read(each) for each in (one, other)]
    if order is not None and one.shape and len(one) == len(order):
        values[0] = values[0][order]
    if not _are_same(values[0], values[1], one, other):
        yield f"{one.name}: values"
    for axis in range(len(one.shape)):
        scales = [[scale.name for scale in each.dims[axis].values()] for each in (one, other)]
        if scales[0] != scales[1]:
            yield f"{one.name}: scales {scales}"


def _read(dataset: h5py.Dataset) -> Any:
    kind = dataset.id.get_type()
    if _is_plain(dataset):
        values = np.empty(dataset.shape, f"V{kind.get_size()}")
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=kind)
        return values
    return np.asarray(dataset[()], None if dataset.dtype.names else object)


def _is_plain(found: Any) -> bool:
    try:
        return not bool(found.dtype.hasobject)
    except TypeError:
        return True


def _same_type(one: Any, other: Any) -> bool:
    return bool(one.equal(other)) or one.get_class() == h5py.h5t.REFERENCE


def _are_same(a: Any, b: Any, one: h5py.HLObject, other: h5py.HLObject) -> bool:
    if isinstance(a, h5py.Reference):
        return bool(a) == bool(b) and (not a or one.file[a].name == other.file[b].name)
    if isinstance(a, np.void) and a.dtype.names:
        return all(_are_same(a[name], b[name], one, other) for name in a.dtype.names)
    if isinstance(a, np.ndarray) and (a.dtype.hasobject or a.dtype.names):
        pairs = zip(a.reshape(-1), b.reshape(-1), strict=True)
        return all(_are_same(x, y, one, other) for x, y in pairs)
    if isinstance(a, np.ndarray | np.generic):
        return bool(a.dtype == b.dtype) and a.tobytes() == b.tobytes()
    return bool(a == b)


def _compare_attributes(one: h5py.HLObject, other: h5py.HLObject) -> Iterator[str]:
    names = set(one.attrs) - SCALES
    if names != set(other.attrs) - SCALES:
        yield f"{one.name}: attributes {names} and {set(other.attrs)}"
        return
    for name in names:
        ids = [h5py.h5a.open(each.id, name.encode()) for each in (one, other)]
        if ids[0].shape != ids[1].shape or not _same_type(ids[0].get_type(), ids[1].get_type()):
            yield f"{one.name}@{name}: type"
            continue
        if ids[0].get_space().get_simple_extent_type() == h5py.h5s.NULL:
            continue
        if not _is_plain(ids[0]):
            kind = None if ids[0].dtype.names else object
            values = [np.asarray(each.attrs[name], kind) for each in (one, other)]
            if not _are_same(values[0], values[1], one, other):
                yield f"{one.name}@{name}: values"
            continue
        raw = [np.empty(each.shape, f"V{each.get_type().get_size()}") for each in ids]
        for each, buffer in zip(ids, raw, strict=True):
            each.read(buffer, mtype=each.get_type())
        if raw[0].tobytes() != raw[1].tobytes():
            yield f"{one.name}@{name}: values"
