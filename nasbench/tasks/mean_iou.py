"""Mean IoU of segmentation, and what each image contributes to it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nasbench.ops.segmentation import VOID

__all__ = ["MeanIoU"]


class MeanIoU:
    """Counts pixels of a split image by image: for each class its intersection and its union of prediction and truth.

    It stores two numbers for each image and class, and no mask.

    Args:
        classes: Number of classes K.
        void: The class number in the truth that marks pixels without a label. They are not counted.
    """

    def __init__(self, classes: int, void: int = VOID) -> None:
        self.classes, self.void = classes, void
        self._intersections: list[np.ndarray] = []
        self._unions: list[np.ndarray] = []
        self._predicted_right: list[int] = []
        self._labelled: list[int] = []

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Take the predicted and the true class numbers `(H, W)` of one image, both integers."""
        labelled = targets != self.void
        found, truth = predictions[labelled].long().flatten(), targets[labelled].long().flatten()
        right = torch.bincount(truth[found == truth], minlength=self.classes).numpy()
        predicted = torch.bincount(found, minlength=self.classes).numpy()
        self._intersections.append(right)
        self._unions.append(predicted + torch.bincount(truth, minlength=self.classes).numpy() - right)
        self._predicted_right.append(int(right.sum()))
        self._labelled.append(int(labelled.sum()))

    def mean(self, weights: np.ndarray | None = None) -> float:
        """Return mean IoU in [0, 1] over all classes that occur in a prediction or in the truth.

        The counts of all images are added up before the division. NaN if no pixel has a label.

        Args:
            weights: A weight for each image, `(N,)`, at least 0. An image of weight 2 counts as two images.
        """
        iou, _ = self._iou(np.ones(len(self._unions)) if weights is None else weights)
        return float(iou.mean()) if len(iou) else float("nan")

    def pixel_accuracy(self) -> float:
        """Return the share of labelled pixels whose class was predicted. NaN if no pixel has a label."""
        labelled = sum(self._labelled)
        return sum(self._predicted_right) / labelled if labelled else float("nan")

    def influence(self) -> np.ndarray:
        """Return one value for each image, `(N,)`. Their mean is mean IoU.

        They are the infinitesimal jackknife: mean IoU plus N times its derivative with respect to the weight of the
        image, at equal weights (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982). So the
        statistics of a mean over images holds for mean IoU, which is no such mean.
        """
        count = len(self._unions)
        iou, counted = self._iou(np.ones(count))
        unions = np.stack(self._unions)[:, counted]
        slopes = (np.stack(self._intersections)[:, counted] - iou * unions) / unions.sum(0)
        return iou.mean() + count * slopes.mean(1)

    def _iou(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the IoU of each class that occurs, and which classes these are."""
        unions = weights @ np.stack(self._unions)
        counted = unions > 0
        return (weights @ np.stack(self._intersections))[counted] / unions[counted], counted
