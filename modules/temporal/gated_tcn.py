"""Gated temporal convolution with dilated inception layers (Wu et al., MTGNN, KDD 2020, arXiv:2005.11650)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.temporal import DilatedInception


@register_module(
    name="gated_tcn",
    properties=("locality", "sparsity", "multiscale"),
    paper="Wu et al., Connecting the Dots: Multivariate Time Series Forecasting with Graph Neural Networks, "
    "KDD 2020, arXiv:2005.11650",
    space={"dilation": (1, 2, 4)},
    ranges={"kernels": "1 or more values, at least 1", "dilation": "at least 1"},
    dims=(1,),
)
class GatedTCN(nn.Module):
    """A filter times a gate, each a dilated inception layer of causal convolutions of several lengths.

    .. math:: y = \\tanh(\\mathrm{DIL}_1(x)) \\odot \\sigma(\\mathrm{DIL}_2(x)),\\quad
              \\mathrm{DIL}(x) = [f_{1 \\times 2} \\star_d x, f_{1 \\times 3} \\star_d x,
              f_{1 \\times 6} \\star_d x, f_{1 \\times 7} \\star_d x]

    The paper crops the four results to the shortest, so that all of them end at the same time step. Here the input is
    first padded with zeros on the left. This keeps the length and the order of time: the output at t depends only on
    t, t - d, ..., t - 6d. The two layers have separate weights, with bias.

    Shapes: `(B, C, L) -> (B, C, L)` for L time steps.

    Args:
        channels: Channels C. The kernels share them evenly, and any remainder goes to the first ones.
        kernels: Length of each kernel.
        dilation: Distance d between two taps. It is 1 in the first layer of MTGNN and grows from layer to layer.
    """

    def __init__(self, channels: int, *, kernels: Sequence[int] = (2, 3, 6, 7), dilation: int = 1) -> None:
        super().__init__()
        self.past = (max(kernels) - 1) * dilation
        self.filter = DilatedInception(channels, channels, kernels, dilation)
        self.gate = DilatedInception(channels, channels, kernels, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        padded = F.pad(x, (self.past, 0))
        return self.filter(padded).tanh() * self.gate(padded).sigmoid()
