"""Images in a folder for each class, in the order of `keras.utils.image_dataset_from_directory`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from kerash5._errors import FileError
from kerash5.h5 import open_writer
from kerash5.packing._images import ImageFile, Images, Step, encode_texts
from kerash5.packing._labels import MAX_CLASSES, class_dtype

FORMATS: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # those that Keras looks for


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class, by its name: sorted classes, then sorted paths.

    Raises:
        FileError: There is no folder with images in it.
    """
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."
    )
    found = {name: list(_list_images(folder / name)) for name in names}
    if not any(found.values()):
        loose = sum(path.suffix.lower() in FORMATS for path in folder.iterdir())
        has = f"{loose} images, but no folders" if loose else "no folders with images"
        raise FileError(
            f"{str(folder)!r} has {has}; it must have a folder for each class, with "
            f"{', '.join(FORMATS)} files in it"
        )
    if len(found) > MAX_CLASSES:
        raise FileError(
            f"{str(folder)!r} has {len(found)} folders; more than {MAX_CLASSES} classes cannot be "
            "named in one file"
        )
    return found


def _list_images(folder: Path) -> Iterator[Path]:
    for root, _, names in sorted(os.walk(folder, followlinks=True), key=lambda found: found[0]):
        for name in sorted(names):
            if name.lower().endswith(FORMATS):
                yield Path(root, name)


def pack_folder(
    folder: Path,
    classes: dict[str, list[Path]],
    out: str,
    *,
    size: tuple[int, int] | None,
    skip_bad: bool,
    overwrite: bool,
    step: Step,
) -> Images:
    """Write the columns image, label and file; return what was packed."""
    dtype = class_dtype(list(classes))
    files = [ImageFile(str(p), str(p.relative_to(folder))) for ps in classes.values() for p in ps]
    labels = np.repeat(np.arange(len(classes)), list(map(len, classes.values())))
    images = Images(files, size, repr(str(folder)), skip_bad=skip_bad, step=step)
    kept = labels[images.rows].astype(dtype)
    names = encode_texts([each.name for each in images.files])
    with open_writer(out, len(images.files), overwrite=overwrite) as writer:
        for start, block in images.blocks():
            rows = slice(start, start + len(block))
            writer.append(image=block, label=kept[rows], file=names[rows])
    return images
