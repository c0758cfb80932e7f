"""Pyramidal attention (Liu et al., Pyraformer, ICLR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads
from nasbench.ops.nd import from_tokens, reduced, to_tokens
from nasbench.ops.time_pyramid import PyramidLayer, TimePyramid, edges


@register_module(
    name="pyramidal_attention",
    properties=("locality", "multiscale", "sparsity"),
    paper="Liu et al., Pyraformer: Low-Complexity Pyramidal Attention for Long-Range Time Series Modeling and "
    "Forecasting, ICLR 2022",
    space={"scales": ((4,), (4, 4), (4, 4, 4))},
    ranges={
        "scales": "1 or more values, at least 2",
        "window": "odd, at least 1",
        "reduction": "at least 1",
        "expansion": "at least 1",
        "heads": "at least 1",
    },
    dims=(1,),
)
class PyramidalAttention(nn.Module):
    """Attention on a pyramid over time, in which every node attends to its neighbours, its children and its parent.

    Level 0 is the series. Each coarser level summarises c nodes of the one below by a convolution of stride c, inside a
    bottleneck of C / reduction channels (the paper's coarser-scale construction):

    .. math:: p_0 = W_d x,\\quad p_l = \\mathrm{elu}(\\mathrm{BN}(f_l \\star_{c_l} p_{l-1})),\\qquad
              T = \\mathrm{LN}([x, W_u [p_1, p_2, \\dots]])

    Post-norm encoder layers follow, whose attention is limited to the edges of the pyramid:

    .. math:: T' = \\mathrm{LN}(T + W_o\\, \\mathrm{MHA}_{\\mathrm{edges}}(T)),\\qquad
              T'' = \\mathrm{LN}(T' + \\mathrm{FFN}(T'))

    Level 0 is the result. Information moves down by one level in each layer, so there are as many layers as coarse
    levels (`scales=(4,)` is one encoder layer). Each layer computes only the nodes that later layers still read. Keys
    and values of the edges are gathered, so memory is linear in L. Above a level of n nodes stands one of ⌊n / c⌋
    nodes, whose last node takes the children that are left over. A level of fewer than c nodes is padded with zeros, so
    that it has one parent.

    Shapes: `(B, C, L) -> (B, C, L)`.

    Args:
        channels: Channels C.
        scales: Number of children c of a node in each coarse level, fine to coarse.
        window: Number of nodes of its own level that a node attends to, odd, with itself in the middle.
        reduction: C / (channels of the bottleneck).
        expansion: (Width of the FFN) / C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(
        self,
        channels: int,
        *,
        scales: Sequence[int] = (4, 4, 4),
        window: int = 3,
        reduction: int = 4,
        expansion: int = 1,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        heads = choose_heads(channels, heads)
        self.scales, self.window = tuple(scales), window
        self.pyramid = TimePyramid(channels, reduced(channels, reduction), scales)
        self.layers = nn.ModuleList(PyramidLayer(channels, heads, expansion * channels) for _ in scales)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        nodes, sizes = self.pyramid(to_tokens(x))
        fine, (keys, exists) = edges(sizes, self.scales, self.window, x.device)
        for layer in self.layers:
            sizes = sizes[:-1]
            coarse = sum(sizes[1:])
            nodes = layer(nodes, [fine, (keys[:coarse], exists[:coarse])])
        return from_tokens(nodes, x.shape[2:])
