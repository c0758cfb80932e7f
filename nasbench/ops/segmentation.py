"""What the heads of segmentation share: the choice of a level, the way back to the image, and the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from nasbench.ops.nd import at_least_float32

__all__ = ["VOID", "level_at", "pixel_loss", "to_image"]

VOID = 255
"""The class number of a pixel without a label."""


def level_at(strides: Sequence[int], stride: int) -> int:
    """Return the index of the coarsest level with at most this stride, or of the finest level if there is none."""
    return max(0, sum(each <= stride for each in strides) - 1)


def to_image(x: Tensor, inputs: Tensor) -> Tensor:
    """Interpolate `(B, K, h, w)` bilinearly to the size of the images: `(B, K, H, W)`."""
    return F.interpolate(x, size=inputs.shape[2:], mode="bilinear", align_corners=False)


def pixel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of all pixels of a batch that have a label, or 0 if none has one.

    Args:
        logits: `(B, K, H, W)`.
        targets: Class numbers `(B, H, W)`. Pixels of the class `VOID` do not count.
    """
    total = F.cross_entropy(at_least_float32(logits), targets, ignore_index=VOID, reduction="sum")
    # torch's mean over no pixel is NaN
    return total / (targets != VOID).sum().clamp(min=1)
