"""DETR (Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, arXiv:2005.12872)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import CrossAttention, choose_heads
from nasbench.ops.detection import Detections, Objects, best_detections, image_sizes
from nasbench.ops.nd import at_least_float32, conv, to_tokens
from nasbench.ops.position import unit_sinusoidal
from nasbench.ops.pyramid import check_levels
from nasbench.ops.segmentation import level_at
from nasbench.ops.set_prediction import (
    Match,
    Residual,
    box_losses,
    box_network,
    draw_weights,
    feed_forward,
    layered_loss,
    match,
    pixel_boxes,
)

_NO_OBJECT = 0.1  # weight of "no object" in the cross-entropy, because most queries find none


@register_module(
    name="detr",
    kind="head",
    tasks=("detection",),
    dims=2,
    cost_order=2,
    paper="Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv:2005.12872",
    ranges={
        "width": "at least 1",
        "heads": "at least 1",
        "queries": "at least 1",
        "layers": "at least 1",
        "hidden": "at least 1",
        "max_stride": "at least 1",
    },
)
class DetrHead(nn.Module):
    """Let n learned queries read one level through a Transformer, and each predict one object or none.

    The encoder attends among the positions of the level, the decoder among the queries and from the queries to the
    positions. Positions are added to queries and keys of an attention and never to values: sinusoidal ones for the map,
    learned ones for the queries, whose content starts at zero. There is no mask: padding is attended to. Layers are
    post-norm, with ReLU and dropout 0.1. Every layer of the decoder predicts by the same classifier and the same
    three-layer network for boxes.

    Objects and queries are matched one to one at the lowest total cost, separately in each layer.

    .. math:: \\mathrm{cost} = -p(c) + 5\\, |b - \\hat b|_1 - 2\\, \\mathrm{GIoU},\\quad
              L = \\mathrm{CE} + \\frac{1}{\\max(1, n)} \\sum (5\\, |b - \\hat b|_1 + 2\\, (1 - \\mathrm{GIoU}))

    The class of an unmatched query is "no object", whose weight is 0.1. CE is divided by the sum of the weights. n is
    the number of objects in the batch. The losses of all layers are added.

    Shapes: a list of `(B, C_i, H_i, W_i)`, of which one is read, to `logits` `(B, layers, queries, num_classes + 1)`,
    `boxes` `(B, layers, queries, 4)` (centre, width and height in units of the image) and `size` `(B, 2)`, height and
    width of the images.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes, without "no object".
        strides: Stride of every level in pixels.
        width: Channels of the Transformer.
        heads: Attention heads. They must divide `width`.
        queries: Number of queries, which is the most objects that can be found in an image.
        layers: Layers of the encoder, and of the decoder.
        hidden: Width of the feed-forward layers.
        max_stride: The head reads the coarsest level of at most this stride, or the finest level if there is none.

    Raises:
        UnsupportedError: If `heads` does not divide `width`.
    """

    gradient_clip: ClassVar[float] = 0.1
    """Largest norm of the gradients in the paper's training."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int,
        strides: Sequence[int],
        width: int = 256,
        heads: int = 8,
        queries: int = 100,
        layers: int = 6,
        hidden: int = 2048,
        max_stride: int = 32,
    ) -> None:
        super().__init__()
        choose_heads(width, heads)
        self.levels, self.level = len(channels), level_at(strides, max_stride)
        self.project = conv(2, channels[self.level], width)
        self.queries = nn.Parameter(torch.empty(queries, width))
        self.encoder = nn.ModuleList(_EncoderLayer(width, heads, hidden) for _ in range(layers))
        self.decoder = nn.ModuleList(_DecoderLayer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, num_classes + 1)
        self.locate = box_network(width)
        draw_weights(self.encoder, self.decoder)
        nn.init.normal_(self.queries)

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `logits`, `boxes` and `size`."""
        check_levels(maps, self.levels)
        x = self.project(maps[self.level])
        places = unit_sinusoidal(x.shape[2:], x.shape[1], shift=1, device=x.device).to(x.dtype)
        memory = to_tokens(x)
        for layer in self.encoder:
            memory = layer(memory, places)
        queries = self.queries.expand(x.shape[0], -1, -1)
        content, decoded = torch.zeros_like(queries), []
        for layer in self.decoder:
            content = layer(content, queries, memory, places)
            decoded.append(self.norm(content))
        y = torch.stack(decoded, dim=1)
        return {
            "logits": at_least_float32(self.classify(y)),
            "boxes": at_least_float32(self.locate(y)).sigmoid(),
            "size": image_sizes(inputs),
        }

    def loss(self, raw: dict[str, Tensor], targets: Objects) -> Tensor:
        """Return the loss of the definition, summed over the layers of the decoder."""
        return layered_loss(raw, targets, self._layer_loss)

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Detections:
        """Return boxes, scores and labels of each image: of each query its most likely class other than "no object"."""
        scores = raw["logits"][:, -1].softmax(-1)[..., :-1]
        best, label = scores.max(-1, keepdim=True)
        scores = torch.zeros_like(scores).scatter(-1, label, best)
        boxes = pixel_boxes(raw["boxes"][:, -1], raw["size"])
        return [best_detections(*each) for each in zip(boxes, scores, sizes, strict=True)]

    def _layer_loss(self, logits: Tensor, boxes: Tensor, labels: list[Tensor], wanted: list[Tensor]) -> Tensor:
        costs = [-p[:, label] for p, label in zip(logits.softmax(-1), labels, strict=True)]
        matches = match(costs, boxes, wanted)
        objects = max(1, sum(len(label) for label in labels))
        return self._class_loss(logits, labels, matches) + box_losses(boxes, wanted, matches) / objects

    def _class_loss(self, logits: Tensor, labels: list[Tensor], matches: list[Match]) -> Tensor:
        nothing = logits.shape[-1] - 1
        classes = torch.full(logits.shape[:2], nothing, device=logits.device)
        for row, label, (queries, objects) in zip(classes, labels, matches, strict=True):
            row[queries] = label[objects]
        weight = logits.new_ones(nothing + 1)
        weight[nothing] = _NO_OBJECT
        return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight)


class _EncoderLayer(nn.Module):
    """Attention among the positions of the map, then a feed-forward layer: `(B, N, C)`."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attend, self.attended = CrossAttention(width, heads), Residual(width)
        self.mix, self.mixed = feed_forward(width, hidden), Residual(width)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        placed = tokens + places
        tokens = self.attended(tokens, self.attend(placed, placed, tokens))
        return self.mixed(tokens, self.mix(tokens))


class _DecoderLayer(nn.Module):
    """Attention among the queries, from the queries to the map, then a feed-forward layer: `(B, queries, C)`."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attend, self.attended = CrossAttention(width, heads), Residual(width)
        self.read, self.seen = CrossAttention(width, heads), Residual(width)
        self.mix, self.mixed = feed_forward(width, hidden), Residual(width)

    def forward(self, content: Tensor, queries: Tensor, memory: Tensor, places: Tensor) -> Tensor:
        placed = content + queries
        content = self.attended(content, self.attend(placed, placed, content))
        content = self.seen(content, self.read(content + queries, memory + places, memory))
        return self.mixed(content, self.mix(content))
