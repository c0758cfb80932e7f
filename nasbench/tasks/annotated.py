"""Images with a mask or with boxes, as files give them: what all dense data have in common."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from nasbench.errors import DataError
from nasbench.tasks._base import SPLITS

__all__ = ["AnnotatedImages", "decoded", "drawn_splits", "refuse"]

_SHOWN = 5  # faults that an error names


@dataclass(frozen=True)
class AnnotatedImages:
    """Images that are not decoded yet, and what is true of each.

    Attributes:
        names: Name of each image. Messages and the hash of the data use it.
        image: Function that takes the number of an image and returns it, in RGB.
        truth: For each image its truth: a mask `(H, W)` of class numbers, or a dict of `boxes` `(n, 4)` (x1, y1, x2,
            y2 in pixels), `labels` `(n,)` from 0, `crowd` and `ignored` `(n,)`, and `areas` `(n,)`.
        classes: Class names.
        given: For each split the numbers of its images.
        void: Class number of pixels without a label.
        read: What was recognised, by name.
    """

    names: list[str]
    image: Callable[[int], Image.Image]
    truth: Callable[[int], Any]
    classes: tuple[str, ...]
    given: Mapping[str, np.ndarray]
    void: int = 255
    read: Mapping[str, str] = field(default_factory=dict)


def decoded(data: bytes, name: str) -> Image.Image:
    """Return an image in RGB, with the orientation that its EXIF data gives.

    Raises:
        DataError: If the image cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {str(error).split(' <')[0]}") from None


def drawn_splits(given: Mapping[str, np.ndarray], count: int, seed: int) -> dict[str, np.ndarray]:
    """Return all three splits. A split that the data do not give is a fifth of the training images, drawn by seed.

    Raises:
        DataError: If a split has no images.
    """
    splits = dict(given)
    rest = splits.get("train", np.arange(count))
    draw, size = np.random.default_rng(seed), max(1, round(len(rest) / 5))
    for split in ("test", "val"):
        if split not in splits:
            rest = draw.permutation(rest)
            splits[split], rest = rest[:size], rest[size:]
    splits["train"] = rest
    empty = [split for split in SPLITS if not len(splits[split])]
    if empty:
        raise DataError(f"no images are left for {' and '.join(empty)}; there are {count} in all")
    return {split: np.sort(splits[split]) for split in SPLITS}


def refuse(what: str, faults: Sequence[str], remedy: str) -> None:
    """Raise one error for all faults of a kind, if there are any.

    Raises:
        DataError: It says what is wrong, how often, names the first five, and what to do.
    """
    if faults:
        shown = "; ".join(faults[:_SHOWN]) + ("; ..." if len(faults) > _SHOWN else "")
        raise DataError(f"{what} ({len(faults)}): {shown}; {remedy}")
