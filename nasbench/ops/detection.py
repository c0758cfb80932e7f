"""What the heads of detection share: the size of the images, and the choice of the best boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

__all__ = ["MOST_DETECTIONS", "Detections", "Objects", "best_detections", "image_sizes"]

MOST_DETECTIONS = 100
"""The most detections that a head gives for an image. COCO's metric looks at no more."""

Objects = Sequence[dict[str, Tensor]]
"""The true objects of each image: `boxes` `(n, 4)`, x1, y1, x2, y2 in pixels of the input, and `labels` `(n,)` from 0.

n can be 0.
"""

Detections = list[dict[str, Tensor]]
"""The detections of each image: `boxes` `(m, 4)` in pixels, `scores` `(m,)` and `labels` `(m,)`, by falling score."""

_CANDIDATES = 1000  # boxes of highest score that enter the suppression, as in torchvision's detectors


def image_sizes(inputs: Tensor) -> Tensor:
    """Return height and width of each image of a batch in pixels, `(B, 2)`, whole numbers."""
    return torch.tensor(tuple(inputs.shape[2:]), device=inputs.device).expand(inputs.shape[0], 2)


def best_detections(
    boxes: Tensor, scores: Tensor, size: tuple[int, int], *, min_score: float = 0.0, max_iou: float | None = None
) -> dict[str, Tensor]:
    """Choose the detections of one image from the scores of every box for every class.

    Args:
        boxes: `(n, 4)`: x1, y1, x2, y2 in pixels.
        scores: `(n, K)`: the score of each box for each class.
        size: Height and width of the image, to which boxes are clipped.
        min_score: Only scores above this are considered.
        max_iou: If given, a box is dropped if its IoU with a better box of the same class is larger.
    """
    flat = scores.flatten()
    kept = torch.where(flat > min_score)[0]
    kept = kept[flat[kept].argsort(descending=True, stable=True)][: MOST_DETECTIONS if max_iou is None else _CANDIDATES]
    boxes = clip_boxes_to_image(boxes[kept // scores.shape[1]], size)
    labels, flat = kept % scores.shape[1], flat[kept]
    if max_iou is not None:
        survivors = batched_nms(boxes, flat, labels, max_iou)[:MOST_DETECTIONS]
        boxes, labels, flat = boxes[survivors], labels[survivors], flat[survivors]
    return {"boxes": boxes, "scores": flat, "labels": labels}
