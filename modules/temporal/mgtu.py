"""Multi-scale gated tanh units (Lan et al., DSTAGNN, ICML 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.nd import conv, rectified
from nasbench.ops.position import resize


@register_module(
    name="mgtu",
    properties=("locality", "multiscale", "globality"),
    paper="Lan et al., DSTAGNN: Dynamic Spatial-Temporal Aware Graph Neural Network for Traffic Flow Forecasting, "
    "ICML 2022",
    space={"pool": (False, True)},
    ranges={"kernels": "1 or more values, at least 1", "reference": "at least 1"},
    dims=(1,),
    cost_order=2,
)
class MultiScaleGatedTanhUnit(nn.Module):
    """Gated convolutions of several lengths, whose results a linear map over time mixes back to one series.

    .. math:: \\mathrm{GTU}_k(x) = \\tanh(a) \\odot \\sigma(b),\\ [a, b] = f_k \\star x, \\qquad
              y = \\mathrm{relu}(x + W [\\mathrm{GTU}_3(x), \\mathrm{GTU}_5(x), \\mathrm{GTU}_7(x)] + c)

    The convolutions are not padded and give L - 2, L - 4 and L - 6 steps. W maps these 3 L - 12 steps to L and is the
    same for every channel. W and c are stored for `reference` steps. For another length the three blocks of columns
    and the bias are interpolated. Each block is scaled by (its steps at `reference`) / (its steps at this length), so
    that W stays the same weighted mean over time. A series shorter than the longest kernel is padded with zeros on
    both sides.

    Shapes: `(B, C, L) -> (B, C, L)`.

    Args:
        channels: Channels C.
        kernels: Length of each convolution.
        pool: Whether to max-pool the output of each unit by 2, as in the paper's figure. It halves W.
        reference: Number of steps for which W is stored. DSTAGNN reads 12.

    Raises:
        UnsupportedError: If `reference` is shorter than the longest kernel.
    """

    def __init__(
        self, channels: int, *, kernels: Sequence[int] = (3, 5, 7), pool: bool = False, reference: int = 12
    ) -> None:
        super().__init__()
        if reference < max(kernels):
            raise UnsupportedError(
                f"reference is {reference}; it must not be shorter than the longest kernel, {max(kernels)}"
            )
        self.kernels, self.pool = tuple(kernels), pool
        self.units = nn.ModuleList(conv(1, channels, 2 * channels, kernel, padding=0) for kernel in kernels)
        self.steps = [self._steps(reference, kernel) for kernel in kernels]
        self.mix = nn.Linear(sum(self.steps), reference)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        length = x.shape[2]
        missing = max(max(self.kernels) - length, 0)
        padded = F.pad(x, (missing // 2, missing - missing // 2))
        parts = [self._unit(unit(padded)) for unit in self.units]
        weights = self._weights(length, [part.shape[2] for part in parts])
        bias = resize(self.mix.bias[None, None], (length,))[0, 0]
        # One product per block avoids copying the maps and the large weights into one tensor each.
        mixed = sum((F.linear(part, weight) for part, weight in zip(parts, weights, strict=True)), bias)
        return rectified(x + mixed)

    def _steps(self, length: int, kernel: int) -> int:
        """Return the number of steps that a unit makes of `length`, rounded up if it pools."""
        steps = length - kernel + 1
        return -(-steps // 2) if self.pool else steps

    def _unit(self, both: Tensor) -> Tensor:
        """`(B, 2C, L) -> (B, C, L)`: the gate for L steps. If `pool` is set, pooling leaves ⌈L / 2⌉ of them."""
        a, b = both.chunk(2, dim=1)
        y = a.tanh() * b.sigmoid()
        return F.max_pool1d(y, 2, ceil_mode=True) if self.pool else y

    def _weights(self, length: int, steps: Sequence[int]) -> list[Tensor]:
        """Return the blocks of W for `length` steps made of blocks of `steps`: `(length, steps[i])` each."""
        blocks = self.mix.weight.split(self.steps, dim=1)
        # Bilinear interpolation is linear along one axis, then along the other. In two steps it is half the work.
        across = [
            resize(b[None] * (there / here), (here,)) for b, there, here in zip(blocks, self.steps, steps, strict=True)
        ]
        return [resize(block.transpose(1, 2), (length,))[0].T for block in across]
