"""Average precision of detection as COCO defines it, and what each image contributes to it.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312; the rules are those of its
evaluation code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["AREAS", "IOU_THRESHOLDS", "AveragePrecision", "Objects"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""A detection is right if its IoU with an object is at least this. AP is the mean over all ten."""

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of the area of an object, in pixels of the original image."""

_RECALLS = np.linspace(0, 1, 101)
_LARGEST_COUNT = 100  # detections of a class in an image that are looked at, those of highest score


@dataclass(frozen=True)
class Objects:
    """The true objects of one image.

    Attributes:
        boxes: `(n, 4)`: x1, y1, x2, y2 in pixels of the original image.
        labels: `(n,)`: class numbers from 0.
        ignored: `(n,)`: objects that are neither missed nor found, as COCO's crowds and VOC's difficult objects.
        crowd: `(n,)`: groups of objects. Any number of detections can lie in one. A crowd is ignored too.
        areas: `(n,)`: area of each object in pixels. The area of the box if the data has none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, target: dict[str, Any]) -> Objects:
        """Return the objects of a target of a detection task: `boxes` and `labels`, perhaps `ignored crowd areas`."""
        boxes = np.asarray(target["boxes"], dtype=float).reshape(-1, 4)
        nothing = np.zeros(len(boxes), dtype=bool)
        crowd = np.asarray(target.get("crowd", nothing), dtype=bool)
        sides = boxes[:, 2:] - boxes[:, :2]
        return cls(
            boxes,
            np.asarray(target["labels"], dtype=int),
            np.asarray(target.get("ignored", nothing), dtype=bool) | crowd,
            crowd,
            np.asarray(target.get("areas", sides.prod(1)), dtype=float),
        )


@dataclass(frozen=True)
class _Matched:
    """The detections of one class in one image, sorted by score, for one range of areas."""

    scores: np.ndarray  # (d,)
    right: np.ndarray  # (d, thresholds)
    ignored: np.ndarray  # (d, thresholds): matched to an ignored object, or unmatched and outside the range
    objects: int  # objects that are not ignored


class AveragePrecision:
    """Matches the detections of each image with its objects once, and computes AP of the split from the matches.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._images = 0
        self._matched: dict[tuple[str, int], dict[int, _Matched]] = {
            (area, label): {} for area in AREAS for label in range(classes)
        }
        self._rankings: dict[tuple[str, int], _Ranked] = {}

    def update(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth: Objects) -> None:
        """Take the detections of one image.

        Args:
            boxes: `(m, 4)`: x1, y1, x2, y2 in pixels of the original image.
            scores: `(m,)`: higher is surer.
            labels: `(m,)`: class numbers from 0.
            truth: The objects of the image.
        """
        for label in np.union1d(labels, truth.labels).astype(int).tolist():
            of_class = np.flatnonzero(labels == label)
            order = of_class[np.argsort(-scores[of_class], kind="stable")][:_LARGEST_COUNT]
            objects = np.flatnonzero(truth.labels == label)
            overlaps = _iou(boxes[order], truth.boxes[objects], truth.crowd[objects])
            areas = (boxes[order, 2:] - boxes[order, :2]).prod(1)
            for area, (low, high) in AREAS.items():
                outside = (truth.areas[objects] < low) | (truth.areas[objects] > high)
                ignored = truth.ignored[objects] | outside
                right, skipped = _match(overlaps, ignored, truth.crowd[objects])
                skipped |= ~right & ((areas < low) | (areas > high))[:, None]
                matched = _Matched(scores[order], right & ~skipped, skipped, int((~ignored).sum()))
                self._matched[area, label][self._images] = matched
        self._images += 1

    def sizes(self) -> list[str]:
        """Return the ranges of area in which there is at least one object."""
        return [
            area
            for area in AREAS
            if any(m.objects for label in range(self.classes) for m in self._matched[area, label].values())
        ]

    def mean(self, *, area: str = "all", thresholds: slice = slice(None), weights: np.ndarray | None = None) -> float:
        """Return AP in [0, 1]: the mean over classes that have objects and over IoU thresholds. NaN without objects.

        Args:
            area: A key of `AREAS`.
            thresholds: Which of `IOU_THRESHOLDS`. `slice(0, 1)` gives AP50.
            weights: A weight for each image, `(N,)`, at least 0. An image of weight 2 counts as two images.
        """
        weights = np.ones(self._images) if weights is None else weights
        each = [self._of_class(area, label, thresholds, weights) for label in range(self.classes)]
        found = [value for value in each if value is not None]
        return float(np.mean(found)) if found else float("nan")

    def influence(self) -> np.ndarray:
        """Return one value for each image, `(N,)`. Their mean is AP.

        They are pseudo-values of the jackknife, centred on AP (Efron, "The Jackknife, the Bootstrap and Other
        Resampling Plans", 1982): AP plus N - 1 times how far AP without the image is below the mean of AP without an
        image. So the statistics of a mean over images holds for AP, which is no such mean. A class keeps its AP where
        its only objects are in the image that is left out.
        """
        count, weights = self._images, np.ones(self._images)
        whole = [self._of_class("all", label, slice(None), weights) for label in range(self.classes)]
        known = [label for label, value in enumerate(whole) if value is not None]
        if not known:
            return np.full(count, np.nan)
        without = np.tile(np.array([whole[label] for label in known], dtype=float), (count, 1))
        for column, label in enumerate(known):
            for image in self._matched["all", label]:
                weights[image] = 0
                left = self._of_class("all", label, slice(None), weights)
                weights[image] = 1
                if left is not None:
                    without[image, column] = left
        left_out = without.mean(1)
        return float(np.mean([whole[label] for label in known])) + (count - 1) * (left_out.mean() - left_out)

    def _of_class(self, area: str, label: int, thresholds: slice, weights: np.ndarray) -> float | None:
        """Return AP of a class, or None if it has no objects."""
        ranked = self._ranked(area, label)
        objects = weights[ranked.images] @ ranked.objects
        if objects == 0:
            return None
        weight = weights[ranked.of_image][:, None]
        right = np.cumsum(weight * ranked.right[:, thresholds], axis=0)
        wrong = np.cumsum(weight * ranked.wrong[:, thresholds], axis=0)
        return float(np.mean([_interpolated(*counts, objects) for counts in zip(right.T, wrong.T, strict=True)]))

    def _ranked(self, area: str, label: int) -> _Ranked:
        """Return the detections of a class in all images by falling score."""
        matched = self._matched[area, label]
        known = self._rankings.get((area, label))
        if known is None or len(known.images) != len(matched):
            known = self._rankings[area, label] = _Ranked.of(matched)
        return known


@dataclass(frozen=True)
class _Ranked:
    """The detections of one class in all images by falling score, for one range of areas."""

    images: np.ndarray  # (n,): the images that have detections or objects of the class
    objects: np.ndarray  # (n,): their objects that are not ignored
    of_image: np.ndarray  # (d,): the image of each detection
    right: np.ndarray  # (d, thresholds)
    wrong: np.ndarray  # (d, thresholds): neither right nor ignored

    @classmethod
    def of(cls, matched: dict[int, _Matched]) -> _Ranked:
        """Join the images."""
        every = list(matched.values())
        if not every:
            nothing = np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool)
            return cls(np.zeros(0, int), np.zeros(0), np.zeros(0, int), nothing, nothing)
        order = np.argsort(-np.concatenate([one.scores for one in every]), kind="stable")
        right = np.concatenate([one.right for one in every])[order]
        ignored = np.concatenate([one.ignored for one in every])[order]
        images = np.array(list(matched))
        of_image = np.repeat(images, [len(one.scores) for one in every])[order]
        return cls(images, np.array([float(one.objects) for one in every]), of_image, right, ~right & ~ignored)


def _iou(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU `(m, n)` of detections and objects. For a crowd: the share of the detection that lies in it."""
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    own, true = ((part[:, 2:] - part[:, :2]).prod(1) for part in (boxes, objects))
    whole = np.where(crowd[None], own[:, None], own[:, None] + true[None] - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _match(overlaps: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection, by falling score, the free object of largest IoU that reaches the threshold.

    An object that counts is preferred to an ignored one, whatever their IoU. A crowd is never used up.

    Returns:
        Two arrays `(m, thresholds)`: whether a detection has an object, and whether that object is ignored.
    """
    count, objects = overlaps.shape
    found = np.zeros((count, len(IOU_THRESHOLDS)), dtype=bool)
    skipped = found.copy()
    for column, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(objects, dtype=bool)
        for row in range(count):
            for wanted in (free & ~ignored, (free | crowd) & ignored):
                candidates = np.flatnonzero(wanted & (overlaps[row] >= min(threshold, 1 - 1e-10)))
                if len(candidates):
                    # Among equal overlaps the last object is taken, as COCO's code does.
                    best = candidates[::-1][overlaps[row, candidates[::-1]].argmax()]
                    free[best] = False
                    found[row, column], skipped[row, column] = True, ignored[best]
                    break
    return found, skipped


def _interpolated(right: np.ndarray, wrong: np.ndarray, objects: float) -> float:
    """Return the mean, over 101 recalls, of the highest precision that is reached at that recall or a higher one.

    Args:
        right: `(d,)`: how many of the first detections are right.
        wrong: `(d,)`: how many are wrong.
        objects: Number of objects to be found.
    """
    if not len(right):
        return 0.0
    precision = right / np.maximum(right + wrong, np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / objects, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())
