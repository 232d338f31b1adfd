"""The objects of the new file: groups, links, attributes, and data sets whose rows come later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import h5py
import numpy as np

from kerash5.h5.storage._find import find_dataset
from kerash5.repacking._options import Options
from kerash5.repacking._references import ReferenceMap, holds_references
from kerash5.repacking._rows import RowSet

_SMALL_BYTES: Final = 4096  # a chunk and its index would take more than the values
_SCALES: Final = ("DIMENSION_LIST", "REFERENCE_LIST")  # made anew by `attach_scale`
_ERRORS: Final = (OSError, RuntimeError, ValueError, TypeError, LookupError)


def is_row_set(dataset: h5py.Dataset) -> bool:
    """Return whether the rows of a data set are written again."""
    if not dataset.shape or 0 in dataset.shape or _is_unwritten(dataset):
        return False
    dtype = _dtype_of(dataset)
    if dtype is None:  # a type that h5py does not know: its bytes are copied
        return True
    return not holds_references(dtype) and not _is_nested(dtype)


def describe_rows(dataset: h5py.Dataset, path: str, *, is_shuffled: bool) -> RowSet:
    """Return what is known about a data set whose rows are written again."""
    return RowSet(
        path,
        tuple(dataset.shape),
        dataset.id.get_type().get_size(),
        not _has_objects(dataset),
        is_shuffled,
        dataset.chunks[0] if dataset.chunks else 1,
    )


@final
class ObjectCopier:
    """Copies all objects of a file to a new one; rows are left out.

    Args:
        source: The open source.
        target: The new file, open for writing.
        options: How rows are stored.
        check: Raises if the new file can no longer be written.
    """

    def __init__(
        self, source: h5py.File, target: h5py.File, options: Options, check: Callable[[], None]
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._check = check
        self._places: dict[tuple[int, Any], str] = {}  # of objects with several links
        self._later: list[Callable[[], None]] = []  # what needs all objects to exist
        self._map = ReferenceMap(source, target, self._note)
        self.notes: list[str] = []

    def copy(self) -> list[str]:
        """Copy everything; return sentences about what is not kept."""
        if self._source.userblock_size:
            self._note("the user block before the HDF5 part is not kept")
        self._remember(self._source, "/")
        self._copy_attributes(self._source, self._target)
        self._copy_members(self._source, self._target)
        for step in self._later:
            step()
        return self.notes

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _remember(self, found: h5py.HLObject, path: str) -> str | None:
        """Return the path of an object that was copied before; note that of a new one."""
        info = h5py.h5o.get_info(found.id)
        if info.rc < 2 and path != "/":
            return None
        key = (info.fileno, info.addr)
        known = self._places.get(key)
        self._places.setdefault(key, path)
        return known

    def _copy_members(self, source: h5py.Group, target: h5py.Group) -> None:
        for name in source:
            self._check()
            path = f"{source.name.rstrip('/')}/{name}"
            try:
                link = source.get(name, getlink=True)
            except TypeError:  # a kind of link that somebody has defined
                self._note(f"the link {path.strip('/')!r}, of a kind of its own, is not kept")
                continue
            if not isinstance(link, h5py.HardLink):
                target[name] = link
                continue
            found = source[name]
            known = self._remember(found, path)
            if known is not None:
                target[name] = self._target[known]
            elif isinstance(found, h5py.Group):
                self._copy_members(found, self._copy_group(found, target, name))
            elif isinstance(found, h5py.Dataset):
                self._copy_dataset(found, target, name)
            else:  # a named type
                h5py.h5o.copy(source.id, name.encode(), target.id, name.encode())

    def _copy_group(self, found: h5py.Group, target: h5py.Group, name: str) -> h5py.Group:
        creation = found.id.get_create_plist()
        made = h5py.Group(h5py.h5g.create(target.id, name.encode(), gcpl=creation))
        self._copy_attributes(found, made)
        return made

    def _copy_dataset(self, found: h5py.Dataset, target: h5py.Group, name: str) -> None:
        path = found.name.strip("/")
        find_dataset(self._source, path)  # raises if its data are missing, or outside the folder
        if is_row_set(found):
            made = self._create_rows(found, target, name)
        elif _has_references(found) and found.size:
            made = self._copy_references(found, target, name)
        else:
            flags = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
            flags.set_copy_object(h5py.h5o.COPY_WITHOUT_ATTR_FLAG)
            parent = found.parent.id
            h5py.h5o.copy(
                parent, found.name.rpartition("/")[2].encode(), target.id, name.encode(), flags
            )
            made = target[name]
        self._copy_attributes(found, made)
        self._later.append(lambda: self._attach_scales(found, made))

    def _create_rows(self, found: h5py.Dataset, target: h5py.Group, name: str) -> h5py.Dataset:
        """Create a data set for rows, with the type of the source to the bit."""
        kind, path = found.id.get_type().copy(), found.name.strip("/")
        chunks = self._options.chunk_shape(tuple(found.shape), kind.get_size())
        if self._options.chunk_rows is None and _is_small(found):
            chunks = None
        old, new = found.id.get_create_plist(), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        new.set_obj_track_times(False)
        new.set_attr_creation_order(old.get_attr_creation_order())
        self._copy_fill(found, old, new)
        space = h5py.h5s.create_simple(found.shape)
        if chunks is not None:
            space = h5py.h5s.create_simple(
                found.shape, found.id.get_space().get_simple_extent_dims(True)
            )
            new.set_chunk(chunks)
            if not _has_objects(found):  # compression of the places of text gains nothing
                self._options.add_filters(new, _dtype_of(found))
        elif found.maxshape != found.shape:
            self._note(f"{path!r} can no longer be extended, because it is stored contiguously")
        return h5py.Dataset(h5py.h5d.create(target.id, name.encode(), kind, space, new))

    def _copy_fill(self, found: h5py.Dataset, old: Any, new: Any) -> None:  # noqa: ANN401  of h5py
        try:
            if old.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
                value = np.zeros((), found.dtype)
                if found.dtype.hasobject:  # text, which the next call cannot read
                    value[()] = found.fillvalue
                else:
                    old.get_fill_value(value)
                new.set_fill_value(value)
        except _ERRORS:
            self._note(f"the fill value of {found.name.strip('/')!r} is not kept")

    def _copy_references(self, found: h5py.Dataset, target: h5py.Group, name: str) -> h5py.Dataset:
        """Create a data set with references, whose values are set once all objects exist."""
        made = target.create_dataset(name, found.shape, found.dtype, track_times=False)

        def set_values() -> None:
            what = repr(found.name.strip("/"))
            made[...] = self._map.translate(np.asarray(found[()]), found.dtype, what)

        self._later.append(set_values)
        return made

    def _copy_attributes(self, found: h5py.HLObject, made: h5py.HLObject) -> None:
        for name in found.attrs:
            try:
                self._copy_attribute(found, made, name)
            except _ERRORS as error:
                where = f"{found.name}@{name}".lstrip("/")
                self._note(f"the attribute {where!r} is not kept ({' '.join(str(error).split())})")

    def _copy_attribute(self, found: h5py.HLObject, made: h5py.HLObject, name: str) -> None:
        old = h5py.h5a.open(found.id, name.encode())
        try:
            dtype: np.dtype | None = old.dtype
        except TypeError:
            dtype = None
        if name in _SCALES and isinstance(found, h5py.Dataset):
            return
        if dtype is not None and holds_references(dtype):
            self._later.append(lambda: self._set_references(found, made, name, old))
            return
        if dtype is not None and dtype.hasobject:
            made.attrs.create(name, found.attrs[name], shape=old.shape, dtype=dtype)
            return
        kind = old.get_type().copy()
        new = h5py.h5a.create(made.id, name.encode(), kind, old.get_space())
        if old.get_space().get_simple_extent_type() != h5py.h5s.NULL:
            values = np.empty(old.shape, f"V{kind.get_size()}")
            old.read(values, mtype=kind)
            new.write(values, mtype=kind)

    def _set_references(
        self, found: h5py.HLObject, made: h5py.HLObject, name: str, old: h5py.h5a.AttrID
    ) -> None:
        what = repr(f"{found.name}@{name}".lstrip("/"))
        values = np.asarray(found.attrs[name], None if old.dtype.names else object)
        kept = self._map.translate(values.reshape(old.shape), old.dtype, what)
        made.attrs.create(name, kept if old.shape else kept[()], shape=old.shape, dtype=old.dtype)

    def _attach_scales(self, found: h5py.Dataset, made: h5py.Dataset) -> None:
        """Attach the dimension scales of a data set again."""
        if "DIMENSION_LIST" not in found.attrs:
            return
        for axis, dimension in enumerate(found.dims):
            for scale in dimension.values():
                try:
                    made.dims[axis].attach_scale(self._target[scale.name])
                except _ERRORS:
                    self._note(f"a dimension scale of {found.name.strip('/')!r} is not kept")


def _dtype_of(dataset: h5py.Dataset) -> np.dtype | None:
    try:
        dtype: np.dtype = dataset.dtype
    except TypeError:
        return None
    return dtype


def _has_objects(dataset: h5py.Dataset) -> bool:
    dtype = _dtype_of(dataset)
    return dtype is not None and dtype.hasobject


def _has_references(dataset: h5py.Dataset) -> bool:
    dtype = _dtype_of(dataset)
    return dtype is not None and holds_references(dtype)


def _is_nested(dtype: np.dtype) -> bool:
    """Return whether rows of any length have values of any length, which h5py cannot write."""
    if dtype.names is not None:
        return any(_is_nested(dtype[name]) for name in dtype.names)
    inner = h5py.check_vlen_dtype(dtype.base)
    return isinstance(inner, np.dtype) and inner.hasobject


def _is_unwritten(dataset: h5py.Dataset) -> bool:
    """Return whether there are no values in the file, and none elsewhere."""
    creation = dataset.id.get_create_plist()
    is_elsewhere = creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count() > 0
    return not is_elsewhere and dataset.id.get_storage_size() == 0


def _is_small(dataset: h5py.Dataset) -> bool:
    is_fixed = dataset.maxshape == dataset.shape
    num_bytes = int(dataset.size) * int(dataset.id.get_type().get_size())
    return is_fixed and num_bytes < _SMALL_BYTES
