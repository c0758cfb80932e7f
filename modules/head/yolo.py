"""The head of YOLO (Redmon et al., "You Only Look Once", CVPR 2016, arXiv:1506.02640)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.detection import Detections, Objects, best_detections, image_sizes
from nasbench.ops.nd import at_least_float32, batch_norm, conv
from nasbench.ops.pyramid import check_levels
from nasbench.ops.segmentation import level_at

_COORDINATES, _NO_OBJECT = 5.0, 0.5  # weights of the loss, λ_coord and λ_noobj
_COARSEST = 16  # stride in pixels. Coarser cells would hold more than one object
_MIN_SCORE, _MAX_IOU = 0.001, 0.5


@register_module(
    name="yolo",
    kind="head",
    tasks=("detection",),
    dims=2,
    paper="Redmon et al., You Only Look Once: Unified, Real-Time Object Detection, CVPR 2016, arXiv:1506.02640",
    ranges={"boxes": "at least 1", "convs": "at least 0", "width": "at least 1"},
    limits="a level of stride at most 16",
)
class YoloHead(nn.Module):
    """Let each cell of a grid predict B boxes with their confidence, and the class of its object once.

    The cells are the positions of the coarsest level of stride at most 16. For each box a cell gives x and y of the
    centre in units of the cell, √w and √h in units of the image, and a confidence. The outputs are linear, and the
    loss of an image is a sum of squared errors.

    .. math:: L = 5 \\sum_{\\mathrm{resp}} (\\Delta x^2 + \\Delta y^2 + \\Delta\\sqrt{w}^2 + \\Delta\\sqrt{h}^2)
              + \\sum_{\\mathrm{resp}} (c - \\mathrm{IoU})^2 + 0.5 \\sum_{\\mathrm{others}} c^2
              + \\sum_{\\mathrm{cells}} \\sum_k (p_k - t_k)^2

    An object belongs to the cell with its centre. Of the boxes of this cell, the one of largest IoU with the object is
    responsible. No gradient passes through the IoU. If a cell has several objects, the smallest is learned. A detection
    has the score class times confidence. Detections of one class with an IoU of more than 0.5 suppress each other.

    Shapes: a list of `(B, C_i, H_i, W_i)`, of which one is read, to `cells` `(B, rows, columns, 5 boxes + num_classes)`
    and `size` `(B, 2)`, height and width of the images.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes.
        strides: Stride of every level in pixels.
        boxes: Boxes B of a cell.
        convs: 3x3 convolutions with BN and LeakyReLU(0.1) before the last layer.
        width: Channels of these convolutions.

    Raises:
        UnsupportedError: If no level has a stride of at most 16.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int,
        strides: Sequence[int],
        boxes: int = 2,
        convs: int = 2,
        width: int = 256,
    ) -> None:
        super().__init__()
        if strides[0] > _COARSEST:
            raise UnsupportedError(f"needs a level of stride at most {_COARSEST}; the strides are {list(strides)}")
        self.levels, self.level, self.boxes = len(channels), level_at(strides, _COARSEST), boxes
        widths = [channels[self.level], *[width] * convs]
        self.layers = nn.Sequential(
            *(_conv_block(before, after) for before, after in pairwise(widths)),
            conv(2, widths[-1], 5 * boxes + num_classes),
        )

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `cells` and `size`."""
        check_levels(maps, self.levels)
        return {"cells": self.layers(maps[self.level]).permute(0, 2, 3, 1), "size": image_sizes(inputs)}

    def loss(self, raw: dict[str, Tensor], targets: Objects) -> Tensor:
        """Return the loss of the definition, summed over cells, averaged over images."""
        cells = at_least_float32(raw["cells"])
        losses = [self._image_loss(*each) for each in zip(cells, raw["size"], targets, strict=True)]
        return torch.stack(losses).mean()

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Detections:
        """Return boxes, scores and labels of each image."""
        cells = at_least_float32(raw["cells"])
        return [self._detections(*each) for each in zip(cells, raw["size"], sizes, strict=True)]

    def _image_loss(self, cells: Tensor, size: Tensor, target: dict[str, Tensor]) -> Tensor:
        predicted, classes = self._split(cells)
        confidence = predicted[..., 4]
        boxes, labels = target["boxes"].to(cells), target["labels"]
        order = _area(boxes).argsort(
            descending=True, stable=True
        )  # of one cell's objects, the smallest is written last
        owners = self._cell_of(boxes, cells.shape[:2], size).tolist()
        owned = {owners[index]: index for index in order.tolist()}
        if not owned:
            return _NO_OBJECT * confidence.square().sum()
        cell, which = torch.tensor(list(owned.items()), device=cells.device).T
        boxes, labels = boxes[which], labels[which]
        pixels = self._in_pixels(predicted.detach(), cells.shape[:2], size)[cell]
        ious = torch.stack([box_iou(pixels[:, b], boxes).diagonal() for b in range(self.boxes)], dim=1)
        iou, best = ious.max(1)
        responsible = predicted[cell, best]
        errors = (responsible[:, :4] - self._wanted(boxes, cell, cells.shape[:2], size)).square()
        wanted = nn.functional.one_hot(labels, classes.shape[-1])
        return (
            _COORDINATES * errors.sum()
            + (responsible[:, 4] - iou).square().sum()
            + _NO_OBJECT * (confidence.square().sum() - responsible[:, 4].square().sum())
            + (classes[cell] - wanted).square().sum()
        )

    def _detections(self, cells: Tensor, padded: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        predicted, classes = self._split(cells)
        boxes = self._in_pixels(predicted, cells.shape[:2], padded)
        scores = predicted[..., 4:] * classes[:, None]
        return best_detections(boxes.flatten(0, 1), scores.flatten(0, 1), size, min_score=_MIN_SCORE, max_iou=_MAX_IOU)

    def _split(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """`(rows, columns, 5 B + K)` to boxes `(cells, B, 5)` and classes `(cells, K)`."""
        flat = cells.flatten(0, 1)
        return flat[:, : 5 * self.boxes].unflatten(1, (self.boxes, 5)), flat[:, 5 * self.boxes :]

    def _in_pixels(self, predicted: Tensor, grid: Sequence[int], size: Tensor) -> Tensor:
        """`(cells, B, 5)` to x1, y1, x2, y2, `(cells, B, 4)`."""
        cell = torch.arange(len(predicted), device=predicted.device)
        corner = torch.stack([cell % grid[1], cell // grid[1]], dim=1)[:, None]
        whole = size.flip(0).to(predicted)  # width, height
        centre = (predicted[..., :2] + corner) * (whole / whole.new_tensor([grid[1], grid[0]]))
        half = predicted[..., 2:4].square() * whole / 2
        return torch.cat([centre - half, centre + half], dim=-1)

    def _wanted(self, boxes: Tensor, cell: Tensor, grid: Sequence[int], size: Tensor) -> Tensor:
        """Return what the responsible boxes should be, `(n, 4)`: x, y, √w, √h. The inverse of `_in_pixels`."""
        whole = size.flip(0).to(boxes)
        corner = torch.stack([cell % grid[1], cell // grid[1]], dim=1)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 * whole.new_tensor([grid[1], grid[0]]) / whole
        return torch.cat([centre - corner, ((boxes[:, 2:] - boxes[:, :2]) / whole).sqrt()], dim=1)

    def _cell_of(self, boxes: Tensor, grid: Sequence[int], size: Tensor) -> Tensor:
        """Return the number of the cell with the centre of each box, row by row, `(n,)`."""
        sides = boxes.new_tensor([grid[1], grid[0]])
        place = ((boxes[:, :2] + boxes[:, 2:]) / 2 * sides / size.flip(0)).floor()
        column, row = place.clamp(min=boxes.new_zeros(2), max=sides - 1).long().unbind(1)
        return row * grid[1] + column


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _conv_block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(conv(2, channels, width, 3, bias=False), batch_norm(2, width), nn.LeakyReLU(0.1))
