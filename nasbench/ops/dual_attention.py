"""The two halves of dual attention (Fu et al., CVPR 2019, arXiv:1809.02983). The module `danet` adds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from nasbench.ops.attention import full_precision
from nasbench.ops.nd import conv, from_tokens, reduced, to_tokens

__all__ = ["ChannelSelfAttention", "PositionSelfAttention"]


class ChannelSelfAttention(nn.Module):
    """Attention among channels, added to the input with a weight γ that starts at 0.

    Less similar channels attend to each other more.

    .. math:: E = X X^T,\\quad A = \\mathrm{softmax}(\\mathrm{rowmax}(E) - E),\\quad y = \\gamma A X + x

    E and its softmax are computed at least in float32. E sums the products of all positions without a scale, so at
    activations of 30 to 100 it reaches millions, where the gradients of the CPU's fused attention kernel were off by
    0.1 to 10 %. E has only C x C elements, so no fused kernel is needed.

    Shapes: `(B, C, *S) -> (B, C, *S)`, with any number of spatial dimensions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        rows = x.flatten(2)
        with full_precision(x):
            exact = rows.to(torch.promote_types(x.dtype, torch.float32))
            energy = exact @ exact.transpose(1, 2)
            # the maximum cancels in the softmax, so no gradient has to pass through it
            weights = (energy.detach().amax(dim=2, keepdim=True) - energy).softmax(dim=2)
        return self.gamma * (weights.to(x.dtype) @ rows).reshape_as(x) + x


class PositionSelfAttention(nn.Module):
    """Attention among positions, added to the input with a weight γ that starts at 0.

    .. math:: y = \\gamma\\, \\mathrm{softmax}(q^T k)\\, v + x

    q and k are 1x1 convolutions to C // reduction channels, and v is a 1x1 convolution to C channels. All three have a
    bias. The products of q and k are not scaled.

    Shapes: `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Number of channels C.
        dims: Number of spatial dimensions, 1 or 2.
        reduction: Ratio of C to the number of channels of q and k.
    """

    def __init__(self, channels: int, *, dims: int = 2, reduction: int = 8) -> None:
        super().__init__()
        width = reduced(channels, reduction)
        self.query = conv(dims, channels, width)
        self.key = conv(dims, channels, width)
        self.value = conv(dims, channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        q, k, v = (to_tokens(part(x)).unsqueeze(1) for part in (self.query, self.key, self.value))
        seen = scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)  # the paper has no 1 / sqrt(d)
        return torch.addcmul(x, self.gamma, from_tokens(seen, x.shape[2:]))
