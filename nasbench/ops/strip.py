"""The anchor gate of PKINet (Cai et al., CVPR 2024, arXiv:2403.06258), for the modules `caa` and `poly_kernel`."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench.ops.nd import avg_pool, batch_norm, conv

__all__ = ["StripGate", "conv_block"]

_BN_EPS = 1e-3  # PKINet's value, while torch's default is 1e-5


def conv_block(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution without bias, BN with PKINet's epsilon, and SiLU: `(B, C, H, W) -> (B, C, H, W)`."""
    return nn.Sequential(conv(2, channels, channels, bias=False), batch_norm(2, channels, eps=_BN_EPS), nn.SiLU())


class StripGate(nn.Module):
    """A gate in (0, 1) from two depthwise strip convolutions, one along each axis.

    The two strips together need 2k multiply-adds per position and channel, where k is the length of a strip.

    .. math:: a = \\sigma(f_2(\\mathrm{dw}_{k \\times 1}(\\mathrm{dw}_{1 \\times k}(f_1(\\mathrm{avg}_7(x))))))

    Shapes: `(B, C, H, W) -> (B, C, H, W)`. The result is the gate itself. x is not multiplied by it. The average
    includes the zeros beyond the border. The strip convolutions have a bias.

    Args:
        channels: Number of channels C.
        kernel: Length k of the strips. It must be odd.
        norm: Whether f is a 1x1 convolution without bias, BN and SiLU (as in `caa`) or only a 1x1 convolution with bias
            (as in `poly_kernel`).
    """

    def __init__(self, channels: int, *, kernel: int = 11, norm: bool = True) -> None:
        super().__init__()
        self.pool = avg_pool(2, 7)
        self.before = conv_block(channels) if norm else conv(2, channels, channels)
        self.horizontal = nn.Conv2d(channels, channels, (1, kernel), padding=(0, kernel // 2), groups=channels)
        self.vertical = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0), groups=channels)
        self.after = conv_block(channels) if norm else conv(2, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`, every value in (0, 1)."""
        return self.after(self.vertical(self.horizontal(self.before(self.pool(x))))).sigmoid()
