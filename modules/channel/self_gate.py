"""Self-gating (Xie et al., "Rethinking Spatiotemporal Feature Learning", S3D-G, ECCV 2018, arXiv:1712.04851)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv, global_avg_pool


@register_module(
    name="self_gate",
    properties=(),
    paper="Xie et al., Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification, "
    "ECCV 2018, arXiv:1712.04851",
    space={"pool": (False, True)},
    dims=(1, 2),
)
class SelfGate(nn.Module):
    """Scale each channel by a gate that one linear layer computes, at each position or once for all positions.

    .. math:: y = x \\odot \\sigma(W x + b), \\quad\\text{with pool}\\quad
        y = x \\odot \\sigma(W\\, \\mathrm{GAP}(x) + b)

    C² + C parameters. Without pooling the gate is pointwise, which is none of the spatial properties. The module
    therefore declares none. With pooling, which is S3D-G's form, every position sees all others.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        pool: Compute one gate from the average over all positions.
    """

    def __init__(self, channels: int, *, dims: int = 2, pool: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.gate = conv(dims, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return x * self.gate(global_avg_pool(x) if self.pool else x).sigmoid()
