"""Image files as rows of one shape and type, decoded by Pillow, and those that do not decode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from kerash5._errors import BackendError, ColumnError, FileError, OptionError

BLOCK: Final = 64  # images that are decoded and written at a time
_GRAY: Final = frozenset({"1", "L"})
_GRAY_16: Final = frozenset({"I;16", "I;16B", "I;16L"})
_NAMED: Final = 5  # bad images in a message
Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image: where it is, and what it is called in messages."""

    path: str
    name: str


@dataclass(slots=True)
class BadImages:
    """Images that do not decode: the first few by name, and how many there are."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, row: int, image: ImageFile, error: object) -> None:
        """Note one."""
        self.count += 1
        if len(self.named) < _NAMED:
            why = " ".join(str(error).replace(image.path, "").split())
            self.named.append(f"{image.name!r} (row {row}: {why})")

    def describe(self) -> str:
        """Return the names of the first few, and the number of the others."""
        more = f" and {self.count - len(self.named)} more" if self.count > len(self.named) else ""
        return f"{', '.join(self.named)}{more}"


@final
class Images:
    """Images of one size and one mode.

    Args:
        files: The images, in the order of rows.
        size: Height and width to resize them to; None: they have one size already.
        where: The folder or the table, for messages.
        step: Called after each image.

    Raises:
        ColumnError: Sizes differ, and `size` is None.
        BackendError: Pillow is not installed.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        size: tuple[int, int] | None,
        where: str,
        *,
        skip_bad: bool,
        step: Step,
    ) -> None:
        self._pillow = _import_pillow()
        self._size = size
        self._step = step
        self.bad = BadImages()
        self.rows: list[int] = []  # of `files`, those that are packed
        modes: set[str] = set()
        sizes: dict[tuple[int, int], str] = {}
        for row, each in enumerate(files):
            try:
                with self._pillow.open(each.path) as image:
                    if skip_bad:
                        image.load()
                    modes.add(image.mode)
                    sizes.setdefault(image.size[::-1], each.name)
                self.rows.append(row)
            except self._errors() as error:
                self.bad.add(row, each, error)
            step()
        self.files = [files[row] for row in self.rows]
        self._num_skipped = self.bad.count if skip_bad else 0
        self._where = where
        self._mode = _choose_mode(modes)
        if self.bad.count > self._num_skipped:
            for _ in self.blocks():  # counts those that only decoding finds, and raises
                pass
        if not self.files:
            raise FileError(f"{where} has no image that can be read; choose another")
        if size is None and len(sizes) > 1:
            (one, first), (other, second), *_ = sizes.items()
            raise ColumnError(
                f"images of {where} have {len(sizes)} sizes ({first!r} is {_format(one)}, "
                f"{second!r} {_format(other)}); rows of a column have one shape: pass "
                f"--size {one[0]} {one[1]} (size={one})"
            )

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield arrays of images and the position of the first, shape (n, height, width[, 3]).

        Raises:
            FileError: Some do not decode; all are counted first.
        """
        for start in range(0, len(self.files), BLOCK):
            images = []
            for place, each in enumerate(self.files[start : start + BLOCK], start):
                try:
                    images.append(self._decode(each.path))
                except self._errors() as error:
                    self.bad.add(self.rows[place], each, error)
                self._step()
            # After one that cannot be read, the others are only counted.
            if images and self.bad.count == self._num_skipped:
                yield start, np.stack(images)
        self._refuse_bad()

    def _refuse_bad(self) -> None:
        if self.bad.count > self._num_skipped:
            raise FileError(
                f"{self.bad.count} images of {self._where} cannot be read: {self.bad.describe()}; "
                "repair or remove them, or leave them out with --skip-bad (skip_bad=True)"
            )

    def _decode(self, path: str) -> np.ndarray:
        with self._pillow.open(path) as image:
            made = image if image.mode == self._mode else image.convert(self._mode)
            if self._size is not None and made.size != self._size[::-1]:
                made = made.resize(self._size[::-1], self._pillow.Resampling.BILINEAR)
            return np.array(made)

    def _errors(self) -> tuple[type[BaseException], ...]:
        return OSError, ValueError, SyntaxError, self._pillow.DecompressionBombError


def _choose_mode(modes: set[str]) -> str:
    """Return Pillow's mode that all images are converted to: gray only if all of them are."""
    if modes <= _GRAY:
        return "L"
    return "I;16" if modes <= _GRAY_16 else "RGB"


def parse_size(size: Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width, or raise `OptionError`."""
    if size is None:
        return None
    numbers = list(size)
    if len(numbers) != 2 or not all(isinstance(one, int) and one > 0 for one in numbers):
        raise OptionError(f"size={size!r}; it is the height and the width of images in pixels")
    return numbers[0], numbers[1]


def _format(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _import_pillow() -> Any:  # noqa: ANN401  a module
    try:
        from PIL import Image
    except ImportError as error:
        raise BackendError("images need Pillow: pip install 'kerash5[images]'") from error
    return Image


def encode_texts(texts: Sequence[str]) -> np.ndarray:
    """Return texts as UTF-8 bytes of one length, which HDF5 stores and reads fast."""
    encoded = [os.fsencode(text) for text in texts]
    return np.array(encoded, f"S{max(1, *map(len, encoded), 1)}")
