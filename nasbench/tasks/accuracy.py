"""Accuracy, balanced accuracy and cross-entropy of classifiers, batch by batch."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AccuracyMeter", "balanced_accuracy"]


class AccuracyMeter:
    """Computes accuracy and cross-entropy. It stores three numbers for each item.

    Args:
        balanced: Whether to compute the balanced accuracy too.
    """

    def __init__(self, *, balanced: bool = False) -> None:
        self._balanced = balanced
        self._correct: list[float] = []
        self._losses: list[float] = []
        self._targets: list[int] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take the logits `(B, K)` and class numbers `(B,)` of a batch."""
        losses = F.cross_entropy(outputs.double(), targets, reduction="none")
        self._correct += (outputs.argmax(dim=1) == targets).double().tolist()
        self._losses += losses.tolist()
        self._targets += targets.tolist()

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics of all items, and 1.0 (right) or 0.0 (wrong) for each."""
        correct, losses = np.array(self._correct), np.array(self._losses)
        more = {"balanced_accuracy": balanced_accuracy(correct, np.array(self._targets))} if self._balanced else {}
        return {"accuracy": float(correct.mean()), **more, "loss": float(losses.mean())}, correct


def balanced_accuracy(correct: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean over classes of the share of their items that are right. Only classes with items count.

    Args:
        correct: 1.0 (right) or 0.0 (wrong) for each of N items.
        targets: Class number of each item.

    Example:
        >>> balanced_accuracy(np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 0, 1]))
        0.8333333333333333
    """
    return float(np.mean([correct[targets == each].mean() for each in np.unique(targets)]))
