"""The mask decoder of SAM (Kirillov et al., "Segment Anything", ICCV 2023, arXiv:2304.02643)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.attention import CrossAttention, choose_heads
from nasbench.ops.nd import at_least_float32, conv, from_tokens, to_tokens
from nasbench.ops.point_masks import dice_loss, focal_loss, mask_iou
from nasbench.ops.pyramid import check_levels
from nasbench.ops.segmentation import level_at, to_image

_MASKS = 4  # mask tokens. The first is for more than one prompt, so a point uses the other three
_FOCAL = 20.0  # weight of the focal loss, where the dice loss has 1


@register_module(
    name="mask_decoder",
    kind="head",
    tasks=("point_segmentation",),
    dims=2,
    paper="Kirillov et al., Segment Anything, ICCV 2023, arXiv:2304.02643",
    ranges={
        "width": "at least 8",
        "heads": "at least 1",
        "layers": "at least 1",
        "hidden": "at least 1",
        "max_stride": "at least 1",
    },
    limits="widths that are multiples of 8, and of twice the heads",
)
class MaskDecoderHead(nn.Module):
    """Predict three masks of the object at a point, and how good each of them is.

    The tokens are one for the IoU, four for masks, and the point: random Fourier features of its place plus a learned
    label. In each of two layers the tokens attend to each other, then to the image, pass through an MLP, and the image
    attends to the tokens. At last the tokens attend to the image again. Places and first tokens are added to queries
    and keys, but not to values, and not in the first attention among the tokens, which has no residual either.
    Attentions between tokens and image have half the width. Two transposed convolutions enlarge the image four times.

    .. math:: m_i = \\mathrm{MLP}_i(\\mathrm{token}_i) · \\mathrm{up}(\\mathrm{image}),\\quad
              L = \\min_i (20\\, \\mathrm{focal}_i + \\mathrm{dice}_i)
              + \\frac{1}{3} \\sum_i (\\hat u_i - \\mathrm{IoU}_i)^2

    i runs over the masks 1 to 3. Mask 0, which SAM uses for several prompts, is computed and not trained. The mask of
    the largest predicted IoU û is decoded. SAM's prompts of boxes and masks are left out.

    Shapes: a list of `(B, C_i, H_i, W_i)`, of which one is read, and inputs with `image` `(B, 3, H, W)` and `point`
    `(B, 2)`, x and y in pixels, to `masks` `(B, 4, H, W)` and `iou` `(B, 4)`.

    Args:
        channels: C_i of every level, fine to coarse.
        strides: Stride of every level in pixels.
        width: Channels of tokens and image.
        heads: Attention heads.
        layers: Two-way layers.
        hidden: Width of the MLPs inside the layers.
        max_stride: The head reads the coarsest level of at most this stride, or the finest level if there is none.

    Raises:
        UnsupportedError: If `width` is no multiple of 8, or `heads` does not divide half of it.
    """

    features: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        width: int = 256,
        heads: int = 8,
        layers: int = 2,
        hidden: int = 2048,
        max_stride: int = 16,
    ) -> None:
        super().__init__()
        if width % 8:
            raise UnsupportedError(f"width is {width}; allowed: multiples of 8")
        choose_heads(width // 2, heads)
        self.levels, self.level = len(channels), level_at(strides, max_stride)
        self.project = conv(2, channels[self.level], width)
        self.register_buffer("features", torch.randn(2, width // 2))
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(_MASKS, width)
        self.point_label = nn.Embedding(1, width)
        self.layers = nn.ModuleList(_TwoWayLayer(width, heads, hidden, index == 0) for index in range(layers))
        self.last, self.last_norm = CrossAttention(width, heads, width // 2), nn.LayerNorm(width)
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            _ChannelNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.weigh = nn.ModuleList(_mlp(width, width // 8) for _ in range(_MASKS))
        self.rate = _mlp(width, _MASKS)

    def forward(self, maps: Sequence[Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and inputs with `image` and `point` to `masks` and `iou`."""
        check_levels(maps, self.levels)
        x = self.project(maps[self.level])
        size, images = x.shape[2:], to_tokens(x)
        places = self._fourier(_centres(size, images)).to(images.dtype)
        sides = inputs["point"].new_tensor([inputs["image"].shape[3], inputs["image"].shape[2]])
        point = self._fourier(inputs["point"] / sides).to(images.dtype) + self.point_label.weight
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(x.shape[0], -1, -1)
        first = torch.cat([learned, point[:, None]], dim=1)
        tokens = first
        for layer in self.layers:
            tokens, images = layer(tokens, images, first, places)
        tokens = self.last_norm(tokens + self.last(tokens + first, images + places, images))
        fine = self.enlarge(from_tokens(images, size))
        weights = torch.stack([weigh(tokens[:, 1 + i]) for i, weigh in enumerate(self.weigh)], dim=1)
        masks = torch.einsum("bmc,bchw->bmhw", weights, fine)
        return {
            "masks": at_least_float32(to_image(masks, inputs["image"])),
            "iou": at_least_float32(self.rate(tokens[:, 0])),
        }

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the loss of the definition, averaged over items. `targets` are `(B, H, W)`: 0, 1, or 255 for void."""
        masks, iou = raw["masks"][:, 1:], raw["iou"][:, 1:]
        costs = _FOCAL * focal_loss(masks, targets) + dice_loss(masks, targets)
        return (costs.amin(1) + (iou - mask_iou(masks, targets)).square().mean(1)).mean()

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return 1 where the object is and 0 elsewhere, `(B, H, W)`: the mask of the largest predicted IoU."""
        best = 1 + raw["iou"][:, 1:].argmax(1)
        return (raw["masks"][torch.arange(len(best), device=best.device), best] > 0).long()

    def _fourier(self, places: Tensor) -> Tensor:
        """Places (x, y) from 0 to 1, `(..., 2)`, to random Fourier features, `(..., C)`."""
        angles = 2 * math.pi * (2 * places.to(self.features) - 1) @ self.features
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens: `(B, T, C)` and `(B, N, C)`."""

    def __init__(self, width: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.attend, self.norm_attend = CrossAttention(width, heads), nn.LayerNorm(width)
        self.read, self.norm_read = CrossAttention(width, heads, width // 2), nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norm_mix = nn.LayerNorm(width)
        self.write, self.norm_write = CrossAttention(width, heads, width // 2), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, images: Tensor, first: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:  # here the tokens are their own places, and adding them would double both
            tokens = self.attend(tokens, tokens)
        else:
            tokens = tokens + self.attend(tokens + first, tokens + first, tokens)
        tokens = self.norm_attend(tokens)
        tokens = self.norm_read(tokens + self.read(tokens + first, images + places, images))
        tokens = self.norm_mix(tokens + self.mix(tokens))
        images = self.norm_write(images + self.write(images + places, tokens + first, tokens))
        return tokens, images


class _ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of each position: `(B, C, H, W)`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _centres(size: Sequence[int], like: Tensor) -> Tensor:
    """Return the centre (x, y) of each position of a map in units of the map, `(N, 2)`, row by row."""
    y, x = ((torch.arange(side, device=like.device) + 0.5) / side for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)
