"""Sub-pixel convolution head (Shi et al., "Real-Time Single Image and Video Super-Resolution", CVPR 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.nd import conv
from nasbench.ops.pyramid import check_levels


@register_module(
    name="pixel_shuffle",
    kind="head",
    tasks=("super-resolution",),
    dims=2,
    paper="Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional "
    "Neural Network, CVPR 2016, arXiv:1609.05158",
    limits="needs a level of stride 1, a map as large as the image",
)
class PixelShuffleHead(nn.Module):
    """Enlarge an image bicubically, and add what the map knows about the details.

    .. math:: y = \\mathrm{bicubic}_s(x) + \\mathrm{shuffle}_s(W * h)

    W is a 3 x 3 convolution from C to 3 s² channels, of which each s² become the s x s pixels of one colour. It starts
    at zero, so that an untrained model is bicubic interpolation. That has the kernel of Pillow (a = -0.5), which torch
    uses with `antialias=True` only.

    Shapes: a list of `(B, C_i, H_i, W_i)`, of which that of stride 1 is read, to `image` `(B, 3, sH, sW)`.

    Args:
        channels: C_i of every level, fine to coarse.
        scale: The factor s.
        strides: Stride of every level in pixels.

    Raises:
        UnsupportedError: If the finest level has a stride above 1.
    """

    def __init__(self, channels: Sequence[int], *, scale: int, strides: Sequence[int]) -> None:
        super().__init__()
        if strides[0] != 1:
            raise UnsupportedError(f"the finest level has stride {strides[0]}; a level of stride 1 is needed")
        self.levels, self.scale = len(channels), scale
        self.expand = conv(2, channels[0], 3 * scale**2, 3)
        for parameter in self.expand.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `image` `(B, 3, sH, sW)`."""
        check_levels(maps, self.levels)
        size = [self.scale * side for side in inputs.shape[2:]]
        large = F.interpolate(inputs, size, mode="bicubic", align_corners=False, antialias=True)
        return {"image": large + F.pixel_shuffle(self.expand(maps[0]), self.scale)}

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the mean absolute error. `targets` are images `(B, 3, sH, sW)`, values in [0, 1]."""
        return F.l1_loss(raw["image"], targets)

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return each image without its padding, as bytes `(3, s h, s w)`. `sizes` are those of the small images."""
        pixels = (raw["image"].float() * 255).round().clamp(0, 255).to(torch.uint8)
        return [
            image[:, : self.scale * height, : self.scale * width]
            for image, (height, width) in zip(pixels, sizes, strict=True)
        ]
