"""Find a data set in a file, and reject data outside the folder of the file.

HDF5 follows links, virtual data sets and raw files to any path, and reads missing files as fill
values. Here each step is checked before HDF5 takes it. `_layout` reads how the data set is stored.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

import h5py

from kerash5._errors import (
    ColumnError,
    DamagedFileError,
    ExternalDataError,
    FileMissingError,
    UnknownColumnError,
    explain_system_error,
)
from kerash5.h5.storage._file import FileIdentity, H5File, open_once
from kerash5.h5.storage._opening import HDF5_ERRORS

# Depth of nested links and virtual data sets; HDF5 itself stops at 16 soft links.
_MAX_DEPTH: Final = 16
_KINDS: Final[dict[int, type]] = {h5py.h5i.GROUP: h5py.Group, h5py.h5i.DATASET: h5py.Dataset}
_NUMBER: Final = r"%\d*b"
_MAX_LISTED: Final = 12


@dataclass(frozen=True, slots=True)
class FoundDataset:
    """A data set, and the other files that its rows come from."""

    dataset: h5py.Dataset
    other_files: tuple[H5File, ...]  # targets of links, virtual data sets and raw files


def find_dataset(file: h5py.File, path: str, *, allow_external: bool = False) -> FoundDataset:
    """Return a data set, checking each link on the way.

    Args:
        file: An open file.
        path: Path of the data set, such as "image" or "train/images".
        allow_external: Follow links, virtual data sets and external raw files out of the file's
            folder.

    Raises:
        UnknownColumnError: There is no such object; the nearest names are listed.
        ColumnError: The object is not a data set, or links are nested too deeply.
        ExternalDataError: The data are outside the folder of the file.
        FileMissingError: The data are in other files, one of which is missing.
    """
    border = _Border(file, allow_external)
    found = _walk(file, path, border, _MAX_DEPTH)
    if isinstance(found, h5py.Group):
        inside = ", ".join(repr(f"{path.strip('/')}/{name}") for name in list(found)[:5])
        raise ColumnError(
            f"{path!r} in {file.filename!r} is a group, not a data set; name a data set in it"
            + (f": {inside}" if inside else "")
        )
    if not isinstance(found, h5py.Dataset):
        raise ColumnError(f"{path!r} in {file.filename!r} is a named data type, not a data set")
    _check_parts(found, border, _MAX_DEPTH)
    return FoundDataset(found, tuple(border.passed.values()))


def find_object(file: h5py.File, path: str, *, allow_external: bool = False) -> h5py.HLObject:
    """Return a group or a data set, checking each link on the way as `find_dataset` does.

    Raises:
        UnknownColumnError: There is no such object.
        ExternalDataError: The object is outside the folder of the file.
    """
    return _walk(file, path, _Border(file, allow_external), _MAX_DEPTH)


def list_datasets(file: h5py.File, *, limit: int = 10_000) -> list[str]:
    """Return the paths of the data sets reachable by hard links, in the file's order.

    Args:
        file: An open file.
        limit: Maximum number of paths.

    Raises:
        DamagedFileError: HDF5 cannot list the objects of the file.
    """
    names: list[str] = []

    def visit(name: bytes, info: h5py.h5o.ObjInfo) -> bool | None:
        if info.type == h5py.h5o.TYPE_DATASET:
            names.append(name.decode("utf-8", "surrogateescape"))
        return True if len(names) >= limit else None  # any value ends the iteration

    try:
        # Not File.visititems: it opens each object, and stops at one that HDF5 refuses to open.
        h5py.h5o.visit(file.id, visit, info=True)
    except (KeyError, *HDF5_ERRORS) as error:
        raise explain_system_error(error, repr(file.filename)) or DamagedFileError(
            f"{file.filename!r} is damaged: its data sets cannot be listed ({error}); copy or "
            "download it again"
        ) from error
    return names


def what_is_in(file: H5File) -> str:
    """Return a sentence that lists the data sets of a file, for messages."""
    with file.open() as handle:
        names = list_datasets(handle, limit=1000)
    if not names:
        return f"{file.path!r} has no data sets"
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{file.path!r} has {', '.join(map(repr, names[:_MAX_LISTED]))}{more}"


@dataclass(frozen=True, slots=True)
class _Border:
    """The folder that must contain all data, and the files found so far."""

    file: h5py.File  # the folder of this one
    allow_external: bool  # data may be anywhere
    passed: dict[str, H5File] = field(default_factory=dict)  # by real path

    def check(self, place: str, what: str) -> str:
        """Return the real path of a file that `what` points to; raise if it is not allowed."""
        real = os.path.realpath(place)
        if not self.allow_external and not self._is_inside(real):
            raise ExternalDataError(
                f"{what} to {place!r}, outside the folder of the file; pass allow_external=True "
                "if you trust it"
            )
        if not os.path.exists(real):
            raise FileMissingError(
                f"{what} to another file, and {real!r} is missing; HDF5 would read it as fill "
                "values, or look for it elsewhere: put it back"
            )
        if real not in self.passed:
            self.passed[real] = H5File(place, real, FileIdentity.of(real))
        return real

    def _is_inside(self, real: str) -> bool:
        folder = os.path.realpath(os.path.dirname(self.file.filename))
        return bool(os.path.commonpath([folder, real]) == folder)


def _walk(file: h5py.File, path: str, border: _Border, depth: int) -> h5py.HLObject:
    here: h5py.HLObject = file  # is its own root group
    for name in [part for part in path.split("/") if part not in ("", ".")]:
        if (hard := _find_hard_link(here, name)) is not None:
            here = _follow(file, path, here, name, hard)
            continue
        link = here.get(name, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            raise _unknown(file, path)
        if not isinstance(link, h5py.HardLink) and depth == 0:
            raise _too_deep(path, file)
        if isinstance(link, h5py.SoftLink):
            target = link.path if link.path.startswith("/") else f"{here.name}/{link.path}"
            here = _walk(here.file, target, border, depth - 1)
            continue
        if isinstance(link, h5py.ExternalLink):
            # The target is checked before HDF5 follows the link, because it may be a link, too.
            what = f"{path!r} in {file.filename!r} is a link: it points"
            place = _place_beside(here.file, link.filename, "HDF5_EXT_PREFIX")
            with open_once(border.check(place, what)) as other:
                _walk(other, link.path, border, depth - 1)
        here = _follow(file, path, here, name, None)
    return here


@dataclass(frozen=True, slots=True)
class _HardLink:
    """A name of an object in the same file."""

    group: h5py.h5g.GroupID
    name: bytes

    def open(self) -> h5py.HLObject:
        """Return the object. Not by group[name], which first finds out how the file is open."""
        found = h5py.h5o.open(self.group, self.name)
        return _KINDS.get(h5py.h5i.get_type(found), h5py.Datatype)(found)


def _find_hard_link(group: h5py.HLObject, name: str) -> _HardLink | None:
    """Return a hard link; None if there is none of that name, or it is another link."""
    if not isinstance(group, h5py.Group):
        return None
    encoded = name.encode("utf-8", "surrogateescape")
    try:
        kind = group.id.links.get_info(encoded).type
    except (KeyError, *HDF5_ERRORS):  # told by the caller, who looks again
        return None
    return _HardLink(group.id, encoded) if kind == h5py.h5l.TYPE_HARD else None


def _follow(
    file: h5py.File, path: str, group: h5py.HLObject, name: str, link: _HardLink | None
) -> h5py.HLObject:
    try:
        return group[name] if link is None else link.open()
    except (KeyError, *HDF5_ERRORS) as error:
        what = f"{path!r} in {file.filename!r}"
        raise explain_system_error(error, what) or DamagedFileError(
            f"{what} cannot be opened ({error}); copy or download the file again"
        ) from error


def _unknown(file: h5py.File, path: str) -> UnknownColumnError:
    names = list_datasets(file, limit=1000)
    near = difflib.get_close_matches(path.strip("/"), names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    elif names:
        hint = f"it has {', '.join(map(repr, names[:8]))}" + (" ..." if len(names) > 8 else "")
    else:
        hint = "it has no data sets at all"
    return UnknownColumnError(f"no data set {path!r} in {file.filename!r}; {hint}")


def _too_deep(path: str | None, file: h5py.File) -> ColumnError:
    return ColumnError(
        f"{path!r} in {file.filename!r} leads through links or virtual data sets nested more than "
        f"{_MAX_DEPTH} deep, perhaps in a circle; name the data set itself"
    )


def _place_beside(file: h5py.File, target: str, variable: str) -> str:
    """Return the path that HDF5 opens for `target`: below a prefix in `variable`, or beside it."""
    prefixes = [prefix for prefix in os.environ.get(variable, "").split(":") if prefix]
    for prefix in prefixes:
        place = os.path.join(prefix, target)
        if os.path.exists(place):
            return place
    return os.path.join(os.path.dirname(file.filename), target)


def _check_parts(dataset: h5py.Dataset, border: _Border, depth: int) -> None:
    """Check the other files of a data set: raw files, and the sources of a virtual data set.

    HDF5 reads missing ones as fill values or zeros, without an error; here they raise one.
    """
    creation = dataset.id.get_create_plist()
    if creation.get_external_count():
        _check_raw_files(dataset, creation, border)
    if creation.get_layout() != h5py.h5d.VIRTUAL:
        return
    if depth == 0:
        raise _too_deep(dataset.name, dataset.file)
    for source in dataset.virtual_sources():
        _check_blocks(dataset, source.file_name, source.dset_name, border, depth)


def _check_blocks(
    dataset: h5py.Dataset, target: str, name: str, border: _Border, depth: int
) -> None:
    # "%b" stands for a block's number: counted from 0, up to the first gap (H5Pset_virtual).
    is_numbered = re.search(_NUMBER, target + name) is not None
    what = f"{dataset.name!r} in {dataset.file.filename!r} is virtual: it points"
    for number in itertools.count() if is_numbered else [0]:
        block, part = (re.sub(_NUMBER, str(number), text) for text in (target, name))
        place = _place_beside(dataset.file, block, "HDF5_VDS_PREFIX")
        if number > 0 and target != "." and not os.path.exists(place):
            return
        with (
            nullcontext(dataset.file)
            if target == "."
            else open_once(border.check(place, what)) as file
        ):
            if number > 0 and part not in file:
                return
            _check_source(file, part, border, depth)


def _check_source(file: h5py.File, name: str, border: _Border, depth: int) -> None:
    part = _walk(file, name, border, depth - 1)
    if isinstance(part, h5py.Dataset):
        _check_parts(part, border, depth - 1)


def _check_raw_files(dataset: h5py.Dataset, creation: h5py.h5p.PropDCID, border: _Border) -> None:
    what = f"{dataset.name!r} in {dataset.file.filename!r} keeps its bytes in a raw file: it points"
    # HDF5 searches the working directory, not the folder of the file, unless this variable is set.
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "")
    prefix = prefix.replace("${ORIGIN}", os.path.dirname(os.path.abspath(dataset.file.filename)))
    left = dataset.size * dataset.id.get_type().get_size() if dataset.shape is not None else 0
    for position in range(creation.get_external_count()):
        name, offset, size = creation.get_external(position)
        place = border.check(os.path.join(prefix or os.getcwd(), os.fsdecode(name)), what)
        wanted, has = offset + min(size, left), os.path.getsize(place)
        if has < wanted:
            raise DamagedFileError(
                f"{what} to {place!r}, which has {has} bytes instead of {wanted}; copy it again"
            )
        left -= min(size, left)


def has_object(file: H5File, path: str) -> bool:
    """Return whether a file has an object at this path, inside it or behind a link."""
    with file.open() as handle:
        try:
            find_object(handle, path, allow_external=True)
        except UnknownColumnError:
            return False
    return True
