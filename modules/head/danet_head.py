"""The head of DANet (Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.dual_attention import ChannelSelfAttention, PositionSelfAttention
from nasbench.ops.nd import batch_norm, conv, reduced
from nasbench.ops.pyramid import check_levels
from nasbench.ops.segmentation import level_at, pixel_loss, to_image


@register_module(
    name="danet_head",
    kind="head",
    tasks=("segmentation",),
    dims=2,
    cost_order=2,
    paper="Fu et al., Dual Attention Network for Scene Segmentation, CVPR 2019, arXiv:1809.02983",
    ranges={"max_stride": "at least 1", "reduction": "at least 1"},
)
class DualAttentionHead(nn.Module):
    """Classify every position by attention among positions, by attention among channels, and by the sum of both.

    .. math:: p = c_2(\\mathrm{PAM}(c_1(x))),\\quad q = c_4(\\mathrm{CAM}(c_3(x))),\\quad
              y = f_1(p + q),\\; y_p = f_2(p),\\; y_q = f_3(q)

    c is conv3×3, BN, ReLU, and the inner width is max(1, C // 4). f is channel dropout of 0.1 and a 1x1 convolution.
    PAM and CAM are the modules `position_attention` and `channel_attention`, whose γ starts at 0. All three results are
    interpolated to the image and trained. y is decoded.

    Shapes: a list of `(B, C_i, H_i, W_i)`, of which one is read, to `logits position channel`, each
    `(B, num_classes, H, W)`.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes.
        strides: Stride of every level in pixels.
        max_stride: The head reads the coarsest level of at most this stride, or the finest level if there is none.
        reduction: Ratio of the inner width to the width of PAM's queries and keys.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int,
        strides: Sequence[int],
        max_stride: int = 8,
        reduction: int = 8,
    ) -> None:
        super().__init__()
        self.levels, self.level = len(channels), level_at(strides, max_stride)
        read = channels[self.level]
        width = reduced(read, 4)
        self.position = nn.Sequential(
            _conv_block(read, width), PositionSelfAttention(width, reduction=reduction), _conv_block(width, width)
        )
        self.channel = nn.Sequential(_conv_block(read, width), ChannelSelfAttention(), _conv_block(width, width))
        self.classify_sum, self.classify_position, self.classify_channel = (
            nn.Sequential(nn.Dropout2d(0.1), conv(2, width, num_classes)) for _ in range(3)
        )

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `logits position channel`."""
        check_levels(maps, self.levels)
        position, channel = self.position(maps[self.level]), self.channel(maps[self.level])
        return {
            "logits": to_image(self.classify_sum(position + channel), inputs),
            "position": to_image(self.classify_position(position), inputs),
            "channel": to_image(self.classify_channel(channel), inputs),
        }

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the sum of the mean cross-entropies of the three results. `targets` are `(B, H, W)`, 255 is void."""
        sum_loss, position_loss, channel_loss = (
            pixel_loss(raw[key], targets) for key in ("logits", "position", "channel")
        )
        return sum_loss + position_loss + channel_loss

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return the most likely class of each pixel, `(B, H, W)`."""
        return raw["logits"].argmax(1)


def _conv_block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(conv(2, channels, width, 3, bias=False), batch_norm(2, width), nn.ReLU())
