"""Decode images, such as JPEG and PNG, to arrays with Pillow, which is optional."""

from __future__ import annotations

import io
from typing import Any, Final, final

import h5py
import numpy as np

from kerash5._errors import BackendError, ColumnError
from kerash5.h5.reading._derived import RowFunction, UnfitRowError
from kerash5.h5.reading._readers import AbstractReader

# Modes of Pillow whose arrays are the pixel values. Others (palette, CMYK, YCbCr) are converted to
# RGB first.
_PLAIN: Final = ("L", "LA", "RGB", "RGBA", "I", "I;16", "F")
_LOSSLESS: Final = {("L", "RGB"), ("L", "RGBA"), ("RGB", "RGBA")}  # conversions of modes


def _import_pillow() -> Any:  # noqa: ANN401  a module
    try:
        from PIL import Image
    except ImportError as error:
        raise BackendError("decode='image' needs Pillow: pip install 'kerash5[images]'") from error
    return Image


@final
class ImageFunction(RowFunction):
    """Decodes one image a row.

    Args:
        base: The reader of encoded rows: arrays of bytes of any length, or bytes of one length.
        resize: Height and width to resize images to; None: all have the same size.
        where: The column and its file, for messages.

    Raises:
        ColumnError: Rows are not bytes, or the first is not an image.
        BackendError: Pillow is not installed.
    """

    def __init__(self, base: AbstractReader, resize: tuple[int, int] | None, where: str) -> None:
        _import_pillow()
        self._resize = resize
        self._where = where
        if (reason := _why_no_bytes(base)) is not None:
            raise ColumnError(f"decode='image' of {where}: {reason}; leave decode= out")
        self._mode = ""
        self.row_shape = ()
        self.dtype = np.dtype(np.uint8)
        if not base.num_rows:
            return
        first = np.empty((1, *base.row_shape), base.dtype)
        base.read_range(0, 1, first)
        try:
            image = self._open(first[0], 0)
        except UnfitRowError as error:
            raise ColumnError(f"row 0 of {where} {error}") from error
        self._mode = image.mode
        array = np.asarray(image)
        self.row_shape, self.dtype = array.shape, array.dtype

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the decoded images, shape (n, *row_shape)."""
        out = np.empty((len(rows), *self.row_shape), self.dtype)
        for place, row in enumerate(rows):
            image = self._open(row, place)
            if (image.mode, self._mode) in _LOSSLESS:
                image = image.convert(self._mode)
            array = np.asarray(image)
            if array.shape != self.row_shape or array.dtype != self.dtype:
                raise UnfitRowError(
                    place,
                    f"is an image of shape {array.shape} {array.dtype}, and the first is one of "
                    f"{self.row_shape} {self.dtype}; pass resize=(height, width), or leave the row "
                    "out",
                )
            out[place] = array
        return out

    def _open(self, row: Any, place: int) -> Any:  # noqa: ANN401  bytes in some form; an image of Pillow
        image_module = _import_pillow()
        data = row if isinstance(row, bytes) else np.ascontiguousarray(row).tobytes()
        try:
            image = image_module.open(io.BytesIO(data))
            image.load()
        except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
            raise UnfitRowError(
                place, f"does not decode as an image ({error}); write it again, or leave it out"
            ) from error
        if image.mode not in _PLAIN:
            image = image.convert("RGB")
        if self._resize is not None and image.size != self._resize[::-1]:
            image = image.resize(self._resize[::-1], image_module.Resampling.BILINEAR)
        return image

    def describe(self) -> str:
        """Describe the decoding of a row."""
        resized = "" if self._resize is None else f", resized to {self._resize}"
        return f"decoded as images{resized}"


def _why_no_bytes(base: AbstractReader) -> str | None:
    """Return why rows cannot be encoded images; None if they can."""
    inner = h5py.check_vlen_dtype(base.dtype)
    if inner is not None:
        is_bytes = inner.kind in "iu" and inner.itemsize == 1 and not base.row_shape
        return None if is_bytes else f"its rows are arrays of {inner}, not of bytes"
    if base.dtype.kind in "SVO" and not base.dtype.names:
        return None if not base.row_shape else f"each row is {base.row_shape} values, not one"
    is_bytes = base.dtype.kind in "iu" and base.dtype.itemsize == 1 and len(base.row_shape) == 1
    return None if is_bytes else f"its rows are {base.dtype} of shape {base.row_shape}, not bytes"
