"""Decode an image to bytes in red, green and blue, whatever its file stores, and say what was special about it."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

__all__ = ["NOT_BYTES", "ImageFaultError", "Marks", "decode", "faulty", "marks_of", "open_image", "read_file", "to_rgb"]

NOT_BYTES = {"I;16": "v >> 8", "I": "v >> 8", "F": "255 v"}
"""Modes of Pillow with more than 8 bits a pixel, and how a value v becomes a byte."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""


_EXIF_IN_INFO = frozenset({"JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"})
_ORIENTED = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
"""The entries of `Image.info` in which these formats store an orientation."""


_PAGED = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF"})
"""Formats with several pages or frames of equal rank. An MPO has previews of its only photograph instead."""


class Marks(NamedTuple):
    """What was special about an image.

    Attributes:
        mode: Its mode in Pillow, without its byte order.
        orientation: Its EXIF orientation, from 1 (upright) to 8.
        alpha: Whether it has an alpha channel, which is dropped.
        paged: Whether it has more pages or frames than the one that is read.
        peak: Its largest byte, if a grey value of more than 8 bits became a byte. None if its pixels are not decoded.
    """

    mode: str
    orientation: int
    alpha: bool = False
    paged: bool = False
    peak: int | None = None


class ImageFaultError(Exception):
    """An image cannot be read. The message is a short reason without the name of the image."""


def read_file(path: str, start: int = 0, length: int = -1) -> bytes:
    """Return the contents of a regular file. A pipe or a device is refused, because reading it could wait forever.

    Args:
        path: The file.
        start: Position of the first byte.
        length: Largest number of bytes. -1 means all.

    Raises:
        ImageFaultError: If it is not a regular file, or if it cannot be read.
    """
    try:
        # Opening a pipe would wait for a writer without O_NONBLOCK, which does nothing for a regular file.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageFaultError("not a regular file")
            file.seek(start)
            return file.read(length)
    except FileNotFoundError:
        raise ImageFaultError("broken link" if os.path.islink(path) else "no such file") from None
    except OSError as error:
        raise ImageFaultError(error.strerror or type(error).__name__) from None


def faulty(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that reads an image, and turn every exception of Pillow into an `ImageFaultError`.

    Pillow's decoders raise exceptions of many classes for a broken file, for instance struct.error, SyntaxError,
    IndexError and DecompressionBombError.
    """
    try:
        return work(*arguments)
    except ImageFaultError:
        raise
    except UnidentifiedImageError:
        raise ImageFaultError("not an image that Pillow can read") from None
    except Exception as error:
        raise ImageFaultError(str(error).split(" <")[0] or type(error).__name__) from None


def open_image(item: bytes | Image.Image) -> Image.Image:
    """Return an image whose header is read, but whose pixels may not be decoded yet.

    Raises:
        ImageFaultError: If the file is empty, is no image, or has so many pixels that it could be a bomb.
    """
    if isinstance(item, Image.Image):
        return item
    if not item:
        raise ImageFaultError("empty file")
    return faulty(Image.open, io.BytesIO(item))


def marks_of(image: Image.Image) -> Marks:
    """Return what is special about an image whose header is read. Pixels that are not decoded have no peak."""
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    alpha = "A" in mode.upper().replace("LAB", "") or isinstance(image.info.get("transparency"), bytes)
    return Marks(mode, _orientation(image), alpha, _is_paged(image))


def _orientation(image: Image.Image) -> int:
    if image.format in _EXIF_IN_INFO and not _ORIENTED & image.info.keys():
        return 1  # Pillow would decode a whole PNG to look for EXIF behind the pixels
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF that cannot be read says nothing about the pixels
        orientation = 1
    return orientation if orientation in _TURNS else 1


def _is_paged(image: Image.Image) -> bool:
    try:
        return image.format in _PAGED and bool(getattr(image, "is_animated", False))
    except Exception:  # a second page that cannot be read, or of which only the first bytes are there
        return False


def to_rgb(image: Image.Image) -> tuple[Image.Image, Marks]:
    """Return an image of bytes in red, green and blue, without an alpha channel and upright, and its `marks_of`.

    Grey values of 16 bits lose their lower byte (`v >> 8`), also if they are stored as 32-bit integers. Floats from 0
    to 1 are multiplied by 255.

    Raises:
        ImageFaultError: If the pixels cannot be decoded, or if integers are not within 0 to 65,535 or floats not within
            0 to 1. Without that, every image would need a scale of its own.
    """
    return faulty(_to_rgb, image)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, Marks]:
    image.load()  # before the marks, because the EXIF of a PNG can follow its pixels
    marks = marks_of(image)
    mode = marks.mode
    if mode in NOT_BYTES:
        pixels = _to_bytes(np.asarray(image), mode)
        image, marks = Image.fromarray(pixels), marks._replace(peak=int(pixels.max()))
    elif mode in ("La", "RGBa"):  # Pillow converts colours that were multiplied by alpha in two steps only
        image = image.convert(mode.upper())
    elif mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns if such a palette becomes RGB in one step
    if image.mode != "RGB":
        image = image.convert("RGB")
    if marks.orientation != 1:
        image = image.transpose(_TURNS[marks.orientation])
    return image, marks


def _to_bytes(values: np.ndarray, mode: str) -> np.ndarray:
    if mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageFaultError(f"floats from {values.min():g} to {values.max():g}, allowed are 0 to 1")
        return np.rint(values * 255).astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise ImageFaultError(f"32-bit integers from {values.min()} to {values.max()}, allowed are 0 to 65535")
    return (values >> 8).astype(np.uint8)


def decode(item: bytes | Image.Image, size: int) -> tuple[np.ndarray, Marks]:
    """Return the bytes `(size, size, 3)` of an image, and what was special about it.

    The image is scaled bilinearly until its shorter side fits, and its centre is cropped.

    Raises:
        ImageFaultError: If the image cannot be read.
    """
    image, marks = to_rgb(open_image(item))
    fitted = faulty(ImageOps.fit, image, (size, size), Image.Resampling.BILINEAR)
    return np.array(fitted), marks
