"""Learned two-way gate (after Srivastava et al., "Highway Networks", ICML workshop 2015, arXiv:1505.00387)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv


@register_module(
    name="gate",
    kind="fusion",
    paper="Srivastava et al., Highway Networks, ICML workshop 2015, arXiv:1505.00387",
    starts_as_identity=True,
)
class Gate(nn.Module):
    """Mix two maps by a gate for each position and channel that sees both maps.

    .. math:: g = \\sigma(W [a, b] + c), \\quad y = g \\odot a + (1 - g) \\odot b = b + g \\odot (a - b)

    The second form is the one computed, because it returns equal inputs bit for bit. A gate of branches that start as
    identities thus starts as an identity.

    Shapes: two maps `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
    """

    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__()
        self.weight = conv(dims, 2 * channels, channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, *S) -> (B, C, *S)`."""
        return b + self.weight(torch.cat([a, b], dim=1)).sigmoid() * (a - b)
