"""What the heads that predict a set of boxes share: layers, the matching with the objects, and losses of boxes.

Boxes here are (centre x, centre y, width, height) in units of the image, as DETR has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou

from nasbench.ops.detection import Objects

__all__ = [
    "Match",
    "Residual",
    "box_losses",
    "box_network",
    "draw_weights",
    "feed_forward",
    "layered_loss",
    "match",
    "pixel_boxes",
    "unit_boxes",
]

BOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
"""Weights of the L1 distance and of the GIoU, in the cost of the matching and in the loss."""

Match = tuple[Tensor, Tensor]
"""The queries and the objects that are matched, pair by pair: two `(n,)`, int64."""


class Residual(nn.Module):
    """Add a result, with dropout 0.1, to the tokens and normalise the sum: `(B, N, C)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dropout, self.norm = nn.Dropout(0.1), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, result: Tensor) -> Tensor:
        """Two `(B, N, C)` to one."""
        return self.norm(tokens + self.dropout(result))


def feed_forward(width: int, hidden: int) -> nn.Sequential:
    """Return the feed-forward layer of a Transformer, `(B, N, C) -> (B, N, C)`."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def box_network(width: int) -> nn.Sequential:
    """Return the three layers that compute a box from a query, `(B, N, C) -> (B, N, 4)`, before the sigmoid."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))


def draw_weights(*parts: nn.Module) -> None:
    """Draw all matrices from Xavier's uniform distribution, in place."""
    for parameter in (parameter for part in parts for parameter in part.parameters()):
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)


def unit_boxes(targets: Objects, sizes: Tensor) -> list[Tensor]:
    """Return the boxes of each image, `(n, 4)`, from pixels to units of the image.

    Args:
        targets: The true objects.
        sizes: Height and width of each image, `(B, 2)`.
    """
    scales = _scales(sizes)
    return [
        box_convert(target["boxes"].to(scale), "xyxy", "cxcywh") / scale
        for target, scale in zip(targets, scales, strict=True)
    ]


def pixel_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes `(B, n, 4)` in pixels: x1, y1, x2, y2."""
    return box_convert(boxes * _scales(sizes).to(boxes)[:, None], "cxcywh", "xyxy")


def match(class_costs: Sequence[Tensor], boxes: Tensor, wanted: Sequence[Tensor]) -> list[Match]:
    """Match each object of an image with a query of its own, at the lowest total cost.

    .. math:: \\mathrm{cost} = \\mathrm{cost}_{class} + 5\\, |b - \\hat b|_1 - 2\\, \\mathrm{GIoU}(b, \\hat b)

    Args:
        class_costs: Cost of each query and object by their classes, `(queries, n)` for each image.
        boxes: Predicted boxes `(B, queries, 4)`.
        wanted: Boxes of the objects, `(n, 4)` for each image.

    Returns:
        The pairs of each image. They have no gradient.
    """
    found = []
    with torch.no_grad():
        for class_cost, predicted, true in zip(class_costs, boxes, wanted, strict=True):
            distance = torch.cdist(predicted.double(), true.double(), p=1)
            overlap = generalized_box_iou(_corners(predicted), _corners(true))
            cost = class_cost + BOX_WEIGHT * distance - GIOU_WEIGHT * overlap
            rows, columns = linear_sum_assignment(cost.nan_to_num(1e6, 1e6, -1e6).cpu().numpy())
            found.append((torch.as_tensor(rows, device=boxes.device), torch.as_tensor(columns, device=boxes.device)))
    return found


def box_losses(boxes: Tensor, wanted: Sequence[Tensor], matches: Sequence[Match]) -> Tensor:
    """Return 5 times the L1 distance plus 2 times 1 - GIoU, summed over all pairs of a batch.

    Args:
        boxes: Predicted boxes `(B, queries, 4)`.
        wanted: Boxes of the objects, `(n, 4)` for each image.
        matches: The pairs of each image.
    """
    predicted = torch.cat([each[rows] for each, (rows, _) in zip(boxes, matches, strict=True)])
    true = torch.cat([each[columns] for each, (_, columns) in zip(wanted, matches, strict=True)]).to(predicted)
    overlap = generalized_box_iou(_corners(predicted), _corners(true)).diagonal()
    return BOX_WEIGHT * (predicted - true).abs().sum() + GIOU_WEIGHT * (1 - overlap).sum()


def _corners(boxes: Tensor) -> Tensor:
    return box_convert(boxes, "cxcywh", "xyxy")


def _scales(sizes: Tensor) -> Tensor:
    """`(B, 2)` heights and widths to `(B, 4)`: width, height, width, height, float32."""
    return sizes.flip(1).repeat(1, 2).float()


def layered_loss(
    raw: Mapping[str, Tensor],
    targets: Objects,
    layer_loss: Callable[[Tensor, Tensor, list[Tensor], list[Tensor]], Tensor],
) -> Tensor:
    """Return the loss of predictions, summed over the layers of a decoder.

    Args:
        raw: `logits` `(B, layers, queries, classes)`, `boxes` `(B, layers, queries, 4)` and `size` `(B, 2)`.
        targets: The objects of each image.
        layer_loss: The loss of one layer, from its logits, its boxes, and the labels and boxes of each image's objects.
    """
    wanted = unit_boxes(targets, raw["size"])
    labels = [target["labels"] for target in targets]
    layers = zip(raw["logits"].unbind(1), raw["boxes"].unbind(1), strict=True)
    return torch.stack([layer_loss(*each, labels, wanted) for each in layers]).sum()
