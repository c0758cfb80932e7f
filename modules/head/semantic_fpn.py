"""Semantic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, arXiv:1901.02446)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.nd import conv, groups_32
from nasbench.ops.pyramid import check_levels
from nasbench.ops.segmentation import pixel_loss, to_image

_STRIDE = 4  # at which the levels are summed


@register_module(
    name="semantic_fpn",
    kind="head",
    tasks=("segmentation",),
    dims=2,
    paper="Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019, arXiv:1901.02446",
    ranges={"width": "at least 1"},
    limits="strides of 4, 8, 16, 32, ...",
)
class SemanticFpnHead(nn.Module):
    """Bring every level of a pyramid to stride 4, sum the levels, and classify every position.

    .. math:: y = \\mathrm{bilinear}(W \\textstyle\\sum_i U_i(x_i) + b),\\quad
              U_i = (\\mathrm{up}_2 ∘ \\mathrm{ReLU} ∘ \\mathrm{GN} ∘ \\mathrm{conv}_{3 \\times 3})^{k_i}

    A level of stride 4 * 2^k is convolved and doubled k times, and a level of stride 4 is convolved once. Doubling is
    bilinear. GN has 32 groups, and the convolutions before it have no bias. Where sizes are odd, the doubled maps are
    interpolated to the size that the finest level gives. The head is made for the maps of a neck.

    Shapes: a list of `(B, C_i, H_i, W_i)` to `logits` `(B, num_classes, H, W)`.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes.
        strides: Stride of every level in pixels.
        width: Channels of the sum.

    Raises:
        UnsupportedError: If a stride is not 4 times a power of two.
    """

    def __init__(self, channels: Sequence[int], *, num_classes: int, strides: Sequence[int], width: int = 128) -> None:
        super().__init__()
        doublings = [(stride // _STRIDE).bit_length() - 1 for stride in strides]
        if list(strides) != [_STRIDE << k if k >= 0 else 0 for k in doublings]:
            raise UnsupportedError(f"strides are {list(strides)}; allowed: 4, 8, 16, 32, ...")
        self.finest = 2 ** doublings[0]
        self.branches = nn.ModuleList(_branch(c, width, k) for c, k in zip(channels, doublings, strict=True))
        self.classify = conv(2, width, num_classes)

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `logits`."""
        check_levels(maps, len(self.branches))
        size = [side * self.finest for side in maps[0].shape[2:]]
        first, *others = [_resized(branch(x), size) for branch, x in zip(self.branches, maps, strict=True)]
        for other in others:
            first = first + other
        return {"logits": to_image(self.classify(first), inputs)}

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of labelled pixels. `targets` are class numbers `(B, H, W)`, 255 is void."""
        return pixel_loss(raw["logits"], targets)

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return the most likely class of each pixel, `(B, H, W)`."""
        return raw["logits"].argmax(1)


def _branch(channels: int, width: int, doublings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(max(1, doublings)):
        layers += [
            conv(2, channels if index == 0 else width, width, 3, bias=False),
            nn.GroupNorm(groups_32(width), width),
            nn.ReLU(),
        ]
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


def _resized(x: Tensor, size: list[int]) -> Tensor:
    return x if list(x.shape[2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
