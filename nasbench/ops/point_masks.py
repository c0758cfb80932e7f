"""Points that stand for a mask, and the losses of a mask that is predicted from a point."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from nasbench.ops.segmentation import VOID

__all__ = ["centre_point", "dice_loss", "draw_point", "focal_loss", "mask_iou"]


def draw_point(mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return the centre (x, y) of a random pixel of the object, in pixels, `(2,)`. For training.

    Args:
        mask: `(H, W)`: 1 where the object is. It must have at least one such pixel.
        generator: Source of the draw.
    """
    rows, columns = torch.where(mask == 1)
    which = int(torch.randint(len(rows), (1,), generator=generator))
    return torch.stack([columns[which], rows[which]]).float() + 0.5


def centre_point(mask: Tensor) -> Tensor:
    """Return the centre (x, y) of the pixel of the object that is farthest from its border, `(2,)`. For evaluation.

    The side of the image is a border too. Of several such pixels, the first one row by row is taken.

    Args:
        mask: `(H, W)`: 1 where the object is. It must have at least one such pixel.
    """
    inside = F.pad((mask == 1).to(torch.uint8), (1, 1, 1, 1)).cpu().numpy()
    row, column = divmod(int(distance_transform_edt(inside)[1:-1, 1:-1].argmax()), mask.shape[1])
    return torch.tensor([column + 0.5, row + 0.5])


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean focal loss (α 0.25, γ 2) over the labelled pixels of each mask.

    Args:
        logits: `(B, M, H, W)`: M masks that are predicted for each object.
        targets: `(B, H, W)`: 0, 1 or `VOID`.

    Returns:
        `(B, M)`.
    """
    wanted, labelled = _split(targets, logits)
    loss = sigmoid_focal_loss(logits, wanted.expand_as(logits), alpha=0.25, gamma=2.0)
    return (loss * labelled).sum((2, 3)) / labelled.sum((2, 3)).clamp(min=1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - (2 p·t + 1) / (Σp + Σt + 1) over the labelled pixels of each mask, `(B, M)`. As in `focal_loss`."""
    wanted, labelled = _split(targets, logits)
    p = logits.sigmoid() * labelled
    both = (p * wanted).sum((2, 3))
    return 1 - (2 * both + 1) / (p.sum((2, 3)) + wanted.sum((2, 3)) + 1)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the IoU of each mask (logits above 0) with the object, `(B, M)`. No gradient. As in `focal_loss`."""
    wanted, labelled = _split(targets, logits)
    found = (logits.detach() > 0) * labelled
    both = (found * wanted).sum((2, 3))
    return both / (found.sum((2, 3)) + wanted.sum((2, 3)) - both).clamp(min=1)


def _split(targets: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the object and the labelled pixels, `(B, 1, H, W)` each, as numbers 0 and 1."""
    return (targets == 1).to(like)[:, None], (targets != VOID).to(like)[:, None]
