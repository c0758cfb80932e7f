"""Scenes: scikit-learn's digits scattered over canvases, with boxes and masks, as embedded data of dense tasks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

__all__ = ["CANVAS_PX", "COUNTS", "Scene", "scenes"]

CANVAS_PX = 96
"""Side of a canvas."""

COUNTS = {"train": 400, "val": 200, "test": 200}
"""Number of canvases of each split."""

_SEED = 0
_SIDES_PX = (16, 40)  # the side of a digit is drawn between these, so that some are small and some medium for COCO
_MOST = 5  # digits on a canvas
_OVERLAP = 0.1  # largest IoU of two boxes
_INK = 64  # a pixel at least this bright belongs to its digit
_TRIES = 50


@dataclass(frozen=True)
class Scene:
    """One canvas.

    Attributes:
        image: Grey levels `(96, 96)`, bytes.
        mask: Class of each pixel `(96, 96)`, bytes: 0 is the background, and digit d is d + 1.
        boxes: `(n, 4)`: x1, y1, x2, y2 in pixels, tight around the ink of each digit.
        labels: `(n,)`: the digits, 0 to 9.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@cache
def scenes() -> dict[str, tuple[Scene, ...]]:
    """Return the canvases of each split. They are the same in every process.

    No digit of the data is in two splits: each split draws from digits of its own.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # the data set stores grey levels from 0 to 16
    draw = np.random.default_rng(_SEED)
    order = draw.permutation(len(pixels))
    ends = np.cumsum([round(len(order) * count / sum(COUNTS.values())) for count in COUNTS.values()])[:-1]
    return {
        split: tuple(_scene(pixels[own], data.target[own], draw) for _ in range(count))
        for (split, count), own in zip(COUNTS.items(), np.split(order, ends), strict=True)
    }


def _scene(pixels: np.ndarray, labels: np.ndarray, draw: np.random.Generator) -> Scene:
    """Scatter 1 to 5 digits over a canvas. A digit that finds no free place is left out."""
    image, mask = (np.zeros((CANVAS_PX, CANVAS_PX), dtype=np.uint8) for _ in range(2))
    boxes: list[np.ndarray] = []
    kept: list[int] = []
    for _ in range(draw.integers(1, _MOST + 1)):
        which = int(draw.integers(len(pixels)))
        side = int(draw.integers(_SIDES_PX[0], _SIDES_PX[1] + 1))
        glyph = np.asarray(Image.fromarray(pixels[which]).resize((side, side), Image.Resampling.BILINEAR))
        rows, columns = (np.flatnonzero((glyph >= _INK).any(axis=axis)) for axis in (1, 0))
        tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        for _ in range(_TRIES):
            x, y = draw.integers(0, CANVAS_PX - side + 1, 2)
            box = tight + np.array([x, y, x, y])
            if all(_iou(box, other) <= _OVERLAP for other in boxes):
                break
        else:
            continue
        place = np.s_[y : y + side, x : x + side]
        image[place] = np.maximum(image[place], glyph)
        mask[place] = np.where(glyph >= _INK, labels[which] + 1, mask[place])
        boxes.append(box)
        kept.append(int(labels[which]))
    return Scene(image, mask, np.array(boxes, dtype=np.float32), np.array(kept, dtype=np.int64))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))
