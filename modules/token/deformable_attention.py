"""Deformable attention (Zhu et al., "Deformable DETR", ICLR 2021, arXiv:2010.04159)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench import register_module
from nasbench.ops.attention import choose_heads
from nasbench.ops.deformable import DeformableLayers
from nasbench.ops.nd import from_tokens, to_tokens


@register_module(
    name="deformable_attention",
    properties=("sparsity", "globality"),
    paper="Zhu et al., Deformable DETR: Deformable Transformers for End-to-End Object Detection, ICLR 2021, "
    "arXiv:2010.04159",
    space={"points": (4, 8)},
    ranges={"heads": "at least 1", "points": "at least 1"},
    dims=(2,),
)
class DeformableAttention(DeformableLayers):
    """Attention of every position to K places per head that it chooses itself.

    .. math:: y_p = W_o \\Big[ \\sum_{k=1}^{K} A_{hpk}\\; V_h(p + \\Delta_{hpk}) \\Big]_{h}, \\quad
        \\Delta = W_\\Delta x_p, \\; A = \\mathrm{softmax}_k (W_A x_p), \\; V = W_v X

    This is equation 2 of the paper on one level. Offsets are in pixels: the normalised location is the pixel's centre
    plus the offset divided by (W, H). V is sampled bilinearly with `align_corners=False` and is zero outside the map.
    At the start the weights of offsets and attention are zero. The bias of the offsets puts the K points of head h at
    distances 1 ... K in the direction 2 pi h / heads, where the distance is that of the larger coordinate. The heads
    thus form rings.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`. Locations are computed in at least float32, because bfloat16 would round
    them to whole pixels on larger maps.

    Args:
        channels: Channels C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        points: Sampling points K of each head.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, heads: int | None = None, points: int = 4) -> None:
        super().__init__(channels, choose_heads(channels, heads), 1, points)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        tokens = to_tokens(x)
        weights = self.weights(tokens).unflatten(-1, (self.heads, self.points)).softmax(dim=-1)
        weights = weights.transpose(1, 2).unsqueeze(2).contiguous()  # (B, heads, 1, N, K), read once per channel
        values = from_tokens(self.value(tokens), x.shape[2:]).unflatten(1, (self.heads, -1)).flatten(0, 1)
        grid = self._locations(tokens, x.shape[-2], x.shape[-1])
        sampled = F.grid_sample(values.to(grid.dtype), grid, align_corners=False)  # (B * heads, C / heads, N, K)
        sampled = sampled.to(weights.dtype).unflatten(0, (-1, self.heads))
        mixed = (sampled * weights).sum(dim=-1)  # (B, heads, C / heads, N)
        return from_tokens(self.proj(mixed.flatten(1, 2).transpose(1, 2)), x.shape[2:])

    def _locations(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the K points (x, y) at which each of N queries samples: `(B, N, C) -> (B * heads, N, K, 2)`.

        Coordinates run from -1 to 1, from edge to edge.
        """
        offsets = self.offsets(tokens)
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        offsets = offsets.unflatten(-1, (self.heads, self.points, 2)).transpose(1, 2).flatten(0, 1)  # in pixels
        y, x = ((torch.arange(side).to(offsets) * 2 + 1) / side - 1 for side in (height, width))  # centres
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 1, 2)  # (N, 1, 2), row by row
        pixel = torch.stack([x.new_full((), 2 / width), y.new_full((), 2 / height)])
        return centres + offsets * pixel
