"""Deformable DETR (Zhu et al., "Deformable DETR: Deformable Transformers for ...", ICLR 2021, arXiv:2010.04159)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from nasbench import register_module
from nasbench.ops.attention import CrossAttention
from nasbench.ops.deformable import PyramidDeformableAttention
from nasbench.ops.detection import Detections, Objects, best_detections, image_sizes
from nasbench.ops.nd import at_least_float32, conv, groups_32, to_tokens
from nasbench.ops.position import unit_sinusoidal
from nasbench.ops.pyramid import check_levels
from nasbench.ops.set_prediction import (
    Residual,
    box_losses,
    box_network,
    draw_weights,
    feed_forward,
    layered_loss,
    match,
    pixel_boxes,
)

_CLASS_WEIGHT, _ALPHA, _GAMMA = 2.0, 0.25, 2.0
_LOG_ODDS = -math.log(99)  # of a class before training: one in a hundred


@register_module(
    name="deformable_detr",
    kind="head",
    tasks=("detection",),
    dims=2,
    paper="Zhu et al., Deformable DETR: Deformable Transformers for End-to-End Object Detection, ICLR 2021, "
    "arXiv:2010.04159",
    ranges={
        "width": "at least 2",
        "heads": "at least 1",
        "queries": "at least 1",
        "layers": "at least 1",
        "hidden": "at least 1",
        "points": "at least 1",
    },
)
class DeformableDetrHead(nn.Module):
    """Let n learned queries read a few places of every level through a Transformer, and each predict one object.

    Every level passes through a 1x1 convolution and a group norm. In the encoder each position attends to 4 places of
    each level around itself. In the decoder each query attends to the other queries, and to 4 places of each level
    around its reference. Half of a query is its position and half its first content. The reference is
    σ(linear(position)), and the centre of a box is σ(offset + σ⁻¹(reference)). Positions are sinusoidal, with a learned
    vector for each level. Layers are post-norm, with ReLU and dropout 0.1, and all layers of the decoder predict by the
    same networks. There is no mask: padding is attended to.

    Every class has its own sigmoid. Objects and queries are matched one to one at the lowest total cost, in each layer.
    With p the probability of the object's class:

    .. math:: \\mathrm{cost} = 2\\,(-0.25\\, (1 - p)^2 \\log p + 0.75\\, p^2 \\log(1 - p))
              + 5\\, |b - \\hat b|_1 - 2\\, \\mathrm{GIoU},\\quad
              L = \\frac{1}{\\max(1, n)} \\sum (2\\, \\mathrm{focal} + 5\\, |b - \\hat b|_1 + 2\\, (1 - \\mathrm{GIoU}))

    n is the number of objects in the batch. The losses of all layers are added.

    Shapes: a list of `(B, C_i, H_i, W_i)` to `logits` `(B, layers, queries, num_classes)`, `boxes`
    `(B, layers, queries, 4)` (centre, width and height in units of the image) and `size` `(B, 2)`, height and width of
    the images.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes.
        width: Channels of the Transformer.
        heads: Attention heads. They must divide `width`.
        queries: Number of queries.
        layers: Layers of the encoder, and of the decoder.
        hidden: Width of the feed-forward layers.
        points: Places of each level and head that a query attends to.

    Raises:
        UnsupportedError: If `heads` does not divide `width`.
    """

    gradient_clip: ClassVar[float] = 0.1
    """Largest norm of the gradients in the paper's training."""

    slow_parameters: ClassVar[tuple[str, ...]] = ("offsets", "reference")
    """A parameter with one of these layers in its name has a tenth of the learning rate in the paper's training."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int,
        width: int = 256,
        heads: int = 8,
        queries: int = 300,
        layers: int = 6,
        hidden: int = 1024,
        points: int = 4,
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(conv(2, c, width), nn.GroupNorm(groups_32(width), width)) for c in channels
        )
        self.level_places = nn.Parameter(torch.empty(len(channels), width))
        self.queries = nn.Parameter(torch.empty(queries, 2 * width))
        shape = (width, heads, len(channels), points, hidden)
        self.encoder = nn.ModuleList(_EncoderLayer(*shape) for _ in range(layers))
        self.decoder = nn.ModuleList(_DecoderLayer(*shape) for _ in range(layers))
        self.reference = nn.Linear(width, 2)
        self.classify = nn.Linear(width, num_classes)
        self.locate = box_network(width)
        self._reset()

    def _reset(self) -> None:
        draw_weights(self.project, self.encoder, self.decoder, self.reference)
        for part in self.modules():
            if isinstance(part, PyramidDeformableAttention):
                part.reset()
        nn.init.normal_(self.level_places)
        nn.init.normal_(self.queries)
        nn.init.zeros_(self.reference.bias)
        nn.init.constant_(self.classify.bias, _LOG_ODDS)
        last = self.locate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        with torch.no_grad():  # the first boxes lie at their references and are small
            last.bias.copy_(torch.tensor([0.0, 0, -2, -2]))

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `logits`, `boxes` and `size`."""
        check_levels(maps, len(self.project))
        levels = [project(x) for project, x in zip(self.project, maps, strict=True)]
        sizes = [x.shape[2:] for x in levels]
        memory = torch.cat([to_tokens(x) for x in levels], dim=1)
        places = torch.cat([self._places(size, place) for size, place in zip(sizes, self.level_places, strict=True)])
        centres = torch.cat([_centres(size, at_least_float32(memory)) for size in sizes])
        centres = centres.expand(memory.shape[0], -1, -1)
        for layer in self.encoder:
            memory = layer(memory, places, centres, sizes)
        position, content = (half.expand(memory.shape[0], -1, -1) for half in self.queries.chunk(2, dim=1))
        reference = at_least_float32(self.reference(position)).sigmoid()
        decoded = []
        for layer in self.decoder:
            content = layer(content, position, reference, memory, sizes)
            decoded.append(content)
        y = torch.stack(decoded, dim=1)
        centre, sides = at_least_float32(self.locate(y)).split(2, dim=-1)
        boxes = torch.cat([centre + reference.logit(1e-5)[:, None], sides], dim=-1).sigmoid()
        return {"logits": at_least_float32(self.classify(y)), "boxes": boxes, "size": image_sizes(inputs)}

    def loss(self, raw: dict[str, Tensor], targets: Objects) -> Tensor:
        """Return the loss of the definition, summed over the layers of the decoder."""
        return layered_loss(raw, targets, _layer_loss)

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Detections:
        """Return boxes, scores and labels of each image: the 100 best of all queries and classes."""
        scores = raw["logits"][:, -1].sigmoid()
        boxes = pixel_boxes(raw["boxes"][:, -1], raw["size"])
        return [best_detections(*each) for each in zip(boxes, scores, sizes, strict=True)]

    def _places(self, size: Sequence[int], level: Tensor) -> Tensor:
        return unit_sinusoidal(size, len(level), shift=0.5, device=level.device).to(level.dtype) + level


class _EncoderLayer(nn.Module):
    """Attention of each position to places of all levels, then a feed-forward layer: `(B, M, C)`."""

    def __init__(self, width: int, heads: int, levels: int, points: int, hidden: int) -> None:
        super().__init__()
        self.attend, self.attended = PyramidDeformableAttention(width, heads, levels, points), Residual(width)
        self.mix, self.mixed = feed_forward(width, hidden), Residual(width)

    def forward(self, tokens: Tensor, places: Tensor, centres: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
        tokens = self.attended(tokens, self.attend(tokens + places, centres, tokens, sizes))
        return self.mixed(tokens, self.mix(tokens))


class _DecoderLayer(nn.Module):
    """Attention among the queries, to places of all levels, then a feed-forward layer: `(B, queries, C)`."""

    def __init__(self, width: int, heads: int, levels: int, points: int, hidden: int) -> None:
        super().__init__()
        self.attend, self.attended = CrossAttention(width, heads), Residual(width)
        self.read, self.seen = PyramidDeformableAttention(width, heads, levels, points), Residual(width)
        self.mix, self.mixed = feed_forward(width, hidden), Residual(width)

    def forward(
        self, content: Tensor, position: Tensor, reference: Tensor, memory: Tensor, sizes: Sequence[Sequence[int]]
    ) -> Tensor:
        placed = content + position
        content = self.attended(content, self.attend(placed, placed, content))
        content = self.seen(content, self.read(content + position, reference, memory, sizes))
        return self.mixed(content, self.mix(content))


def _centres(size: Sequence[int], like: Tensor) -> Tensor:
    """Return the centre (x, y) of each position of a map in units of the map, `(N, 2)`, row by row."""
    y, x = ((torch.arange(side).to(like) + 0.5) / side for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)


def _layer_loss(logits: Tensor, boxes: Tensor, labels: list[Tensor], wanted: list[Tensor]) -> Tensor:
    matches = match(
        [_class_cost(p[:, label]) for p, label in zip(logits.sigmoid(), labels, strict=True)], boxes, wanted
    )
    classes = torch.zeros_like(logits)
    for image, label, (queries, objects) in zip(classes, labels, matches, strict=True):
        image[queries, label[objects]] = 1
    focal = sigmoid_focal_loss(logits, classes, alpha=_ALPHA, gamma=_GAMMA, reduction="sum")
    return (_CLASS_WEIGHT * focal + box_losses(boxes, wanted, matches)) / max(1, sum(len(label) for label in labels))


def _class_cost(p: Tensor) -> Tensor:
    """Return how much the focal loss of a class grows if the query has no object of this class: the cost, negated."""
    found = _ALPHA * (1 - p) ** _GAMMA * -(p + 1e-8).log()
    missed = (1 - _ALPHA) * p**_GAMMA * -(1 - p + 1e-8).log()
    return _CLASS_WEIGHT * (found - missed)
