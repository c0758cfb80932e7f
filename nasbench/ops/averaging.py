"""Copies of a network that follow it: an exponential moving average, and the mean of all steps."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

__all__ = ["MeanCopy", "MomentumCopy", "base_momentum", "cosine_momentum"]

_STEPS = 313.0
"""Number of steps over which an average should reach. With it, `base_momentum` gives BYOL's values."""


class _Copy(nn.Module):
    """A copy of a network that no gradient reaches."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(source)
        self.module.requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: Tensor, **given: Tensor) -> Tensor:
        """Run the copy, without gradients."""
        return self.module(*args, **given)


class MomentumCopy(_Copy):
    """A copy whose parameters are an exponential moving average: `θ' ← m θ' + (1 − m) θ`.

    Buffers, such as the running statistics of batch norms, are not averaged: the copy updates its own when it runs.

    Args:
        source: The network that is copied.
    """

    @torch.no_grad()
    def update(self, source: nn.Module, momentum: float) -> None:
        """Move the parameters towards those of the source, by the share 1 − momentum."""
        for own, other in zip(self.module.parameters(), source.parameters(), strict=True):
            own.lerp_(other.detach(), 1.0 - momentum)


class MeanCopy(_Copy):
    """A copy whose parameters are the mean over all updates. Buffers are those of the source.

    Args:
        source: The network that is copied.
    """

    count: Tensor

    def __init__(self, source: nn.Module) -> None:
        super().__init__(source)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """Add the current parameters of the source to the mean."""
        self.count += 1
        share = 1.0 / int(self.count)
        for own, other in zip(self.module.parameters(), source.parameters(), strict=True):
            own.lerp_(other.detach(), share)
        for kept, now in zip(self.module.buffers(), source.buffers(), strict=True):
            kept.copy_(now)


def base_momentum(steps: int, *, least: float = 0.9, most: float = 0.996) -> float:
    """Return the momentum of a teacher for a training of this number of steps.

    The momentum of a paper belongs to its long training. In a short one, such a teacher would stay at its random start.
    BYOL's own values are .97 for 40 epochs of 313 steps, .99 for 100 and .996 for 1,000 (Grill et al., NeurIPS 2020).

    Example:
        >>> [round(base_momentum(313 * epochs), 3) for epochs in (1, 40, 100, 1000)]
        [0.9, 0.975, 0.99, 0.996]
    """
    return min(most, max(least, 1.0 - _STEPS / max(1, steps)))


def cosine_momentum(base: float, share: float) -> float:
    """Return BYOL's momentum, which rises from `base` to 1 along a cosine over the training.

    Example:
        >>> cosine_momentum(0.9, 0.0), round(cosine_momentum(0.9, 0.5), 3), cosine_momentum(0.9, 1.0)
        (0.9, 0.95, 1.0)
    """
    return 1.0 - (1.0 - base) * (math.cos(math.pi * share) + 1.0) / 2.0
