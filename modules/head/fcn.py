"""Fully convolutional head (Long et al., "Fully Convolutional Networks", CVPR 2015, arXiv:1411.4038)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv, reduced
from nasbench.ops.pyramid import check_levels
from nasbench.ops.segmentation import level_at, pixel_loss, to_image


@register_module(
    name="fcn",
    kind="head",
    tasks=("segmentation",),
    dims=2,
    paper="Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, arXiv:1411.4038",
    ranges={"max_stride": "at least 1"},
)
class FullyConvolutionalHead(nn.Module):
    """Classify every position of one level and interpolate the result to the image.

    .. math:: h = \\mathrm{ReLU}(\\mathrm{BN}(\\mathrm{conv}_{3 \\times 3}(x))),\\quad
              y = \\mathrm{bilinear}(W\\, \\mathrm{dropout}(h) + b)

    h has max(1, C // 4) channels, and the dropout is 0.1. These are the layers of torchvision's FCNHead.

    Shapes: a list of `(B, C_i, H_i, W_i)`, of which one is read, to `logits` `(B, num_classes, H, W)`.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes.
        strides: Stride of every level in pixels.
        max_stride: The head reads the coarsest level of at most this stride, or the finest level if there is none.
    """

    def __init__(
        self, channels: Sequence[int], *, num_classes: int, strides: Sequence[int], max_stride: int = 8
    ) -> None:
        super().__init__()
        self.levels, self.level = len(channels), level_at(strides, max_stride)
        read = channels[self.level]
        width = reduced(read, 4)
        self.layers = nn.Sequential(
            conv(2, read, width, 3, bias=False),
            batch_norm(2, width),
            nn.ReLU(),
            nn.Dropout(0.1),
            conv(2, width, num_classes),
        )

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `logits`."""
        check_levels(maps, self.levels)
        return {"logits": to_image(self.layers(maps[self.level]), inputs)}

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of labelled pixels. `targets` are class numbers `(B, H, W)`, 255 is void."""
        return pixel_loss(raw["logits"], targets)

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return the most likely class of each pixel, `(B, H, W)`."""
        return raw["logits"].argmax(1)
