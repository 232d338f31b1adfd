"""Find out what is to be packed, and pack it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kerash5._errors import FileError, FileMissingError, OptionError
from kerash5.h5._write import check_place
from kerash5.h5.storage._file import StrPath
from kerash5.packing._arrays import pack_arrays
from kerash5.packing._folder import list_classes, pack_folder
from kerash5.packing._images import Images, Step, parse_size
from kerash5.packing._pack_table import pack_table

ShowSteps = Callable[[int], None]

_TABLES = (".csv", ".tsv", ".txt")
_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, slots=True)
class Packed:
    """What `pack` did.

    Args:
        path: The new file.
        num_bytes: Its size.
        summary: What is in it, as text.
        num_skipped: Images that were left out.
        notes: What else is worth knowing, as sentences.
    """

    path: str
    num_bytes: int
    summary: str
    num_skipped: int = 0
    notes: tuple[str, ...] = ()


def pack(
    path: StrPath,
    out: StrPath,
    *,
    size: Sequence[int] | None = None,
    image: str | None = None,
    label: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: ShowSteps | None = None,
) -> Packed:
    """Write images in folders, NumPy's arrays or a CSV table as an HDF5 file to train on.

    The file appears when it is complete, and may be larger than memory.

    Args:
        path: A folder with a folder of images for each class, read as
            `keras.utils.image_dataset_from_directory` does: columns image, label (class ids with
            the sorted names of the folders) and file. Or a .npy or .npz file: a data set for each
            array, by its name ("data" for .npy). Or a CSV table with names in its first line: its
            numeric columns become x, of shape (n, number of columns), and each column of text a
            column of class ids with names.
        out: The file to write; its folder must exist.
        size: Height and width that images are resized to; None if they have one size.
        image: Column of a table that has the paths of images, from the folder of the table on.
            They become the column image, and other columns are stored by themselves.
        label: Column of a table that becomes the column label.
        skip_bad: Leave out images that cannot be read.
        overwrite: Replace an existing file.
        progress: Called with the number of steps that are done.

    Returns:
        What was written.

    Raises:
        FileError: What is to be packed cannot be read, or `out` cannot be written; no partial file
            is left.
        ColumnError: Images differ in size, or arrays cannot be stored.
        LabelError: Rows of a table have no label.
        BackendError: Images need Pillow: pip install 'kerash5[images]'.
    """
    source, name, wanted = os.fspath(path), os.fspath(out), parse_size(size)
    kind = _find_kind(source)
    _check_options(kind, source, size=size, image=image, label=label, skip_bad=skip_bad)
    check_place(name, overwrite=overwrite)
    how = _How(wanted, skip_bad, overwrite, _Counter(progress or (lambda _: None)).step)
    if kind == "arrays":
        number = pack_arrays(source, name, overwrite=overwrite, step=how.step)
        return Packed(name, Path(name).stat().st_size, f"{number} arrays")
    if kind == "folder":
        return _pack_folder(source, name, how)
    return _pack_table(source, name, how, image=image, label=label)


class _How(NamedTuple):
    """Options that are passed on unchanged."""

    size: tuple[int, int] | None
    skip_bad: bool
    overwrite: bool
    step: Step


def _pack_folder(source: str, name: str, how: _How) -> Packed:
    classes = list_classes(Path(source))
    images = pack_folder(Path(source), classes, name, **how._asdict())
    summary = f"{len(images.files)} images of {len(classes)} classes"
    return _packed_images(name, images, summary, [])


def _pack_table(
    source: str, name: str, how: _How, *, image: str | None, label: str | None
) -> Packed:
    rows, images, notes = pack_table(source, name, image=image, label=label, **how._asdict())
    if images is not None:
        return _packed_images(name, images, f"{rows} rows with images", notes)
    return Packed(name, Path(name).stat().st_size, f"{rows} rows", 0, tuple(notes))


def _packed_images(name: str, images: Images, summary: str, notes: list[str]) -> Packed:
    bad = images.bad
    if bad.count:
        notes = [f"left out {bad.count} images that cannot be read: {bad.describe()}", *notes]
    return Packed(name, Path(name).stat().st_size, summary, bad.count, tuple(notes))


class _Counter:
    def __init__(self, progress: ShowSteps) -> None:
        self._progress = progress
        self._steps = 0

    def step(self) -> None:
        self._steps += 1
        self._progress(self._steps)


def _find_kind(source: str) -> str:
    if not os.path.exists(source):
        raise FileMissingError(
            f"there is no folder or file {source!r}; name a folder of images, a .npy, .npz or .csv "
            "file"
        )
    if os.path.isdir(source):
        return "folder"
    ending = os.path.splitext(source)[1].lower()
    if ending in _ARRAYS:
        return "arrays"
    if ending in _TABLES:
        return "table"
    raise FileError(
        f"{source!r} is not packed by its ending; there are folders of images, "
        f"{', '.join((*_ARRAYS, *_TABLES))}"
    )


def _check_options(kind: str, source: str, **options: object) -> None:
    of_kind = {"folder": ("size", "skip_bad"), "arrays": (), "table": tuple(options)}
    for option, value in options.items():
        if value not in (None, False) and option not in of_kind[kind]:
            raise OptionError(f"{option}={value!r} does not go with {source!r}; leave it out")
    if kind == "table" and options["image"] is None:
        for option in ("size", "skip_bad"):
            if options[option] not in (None, False):
                raise OptionError(
                    f"{option}= is about images; name the column of their paths with --image "
                    "(image=)"
                )
