"""What the checks share: inputs, a small host network that starts as an identity, losses and comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasbench.testing._candidate import Candidate

__all__ = [
    "SIZES",
    "Host",
    "close",
    "difference",
    "equal",
    "evaluate",
    "finite_fault",
    "in_float64",
    "loss_of",
    "maps_of",
    "redraw",
    "shape_fault",
    "trained",
]

# Odd, tiny and long maps. Checks that need a single size use the first.
SIZES: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((7,), (1,), (2,), (48,)),
    2: ((5, 7), (1, 1), (2, 2), (1, 9), (12, 16)),
}


class Host(nn.Module):
    """A network that contains a module f and starts as an identity: `x + g (f(x) - x)`, where g starts at 0.

    If f starts as an identity itself, or is a neck, the network is f alone.
    """

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        self.inner = candidate.build()
        bare = candidate.spec.starts_as_identity or candidate.spec.kind == "neck"
        self.gate = None if bare else nn.Parameter(torch.zeros(()))

    def forward(self, *maps: Tensor) -> Tensor:
        """Compute one output from the input maps `(B, C, *S)`."""
        y = self.inner(*maps)
        return y if self.gate is None else maps[0] + self.gate * (y - maps[0])


def maps_of(candidate: Candidate, batch: int = 2, seed: int = 0) -> list[Tensor]:
    """Return input maps with standard normal values, in the first of `SIZES`."""
    return candidate.maps(SIZES[candidate.dims][0], batch, seed)


def in_float64(candidate: Candidate) -> nn.Module:
    """Return a new instance of the module in float64."""
    return candidate.build().double()


def evaluate(candidate: Candidate, module: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the module's output for `maps` in eval mode, without gradients."""
    with torch.no_grad():
        return candidate.run(module.eval(), maps)


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that an optimiser would train, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def redraw(module: nn.Module, seed: int = 0) -> None:
    """Draw every parameter from a small normal distribution, in place.

    Afterwards no γ is zero and no weight is symmetric.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))


def loss_of(candidate: Candidate, module: nn.Module, maps: Sequence[Tensor], seed: int) -> Tensor:
    """Return the squared distance to a random target, plus the module's `aux_loss` as in the training loop."""
    generator = torch.Generator().manual_seed(seed + 100)
    loss = torch.zeros(())
    for y in candidate.run(module, maps):
        loss = loss + (y - torch.randn(y.shape, generator=generator)).square().mean()
    for part in module.modules():
        loss = loss + getattr(part, "aux_loss", 0.0)
    return loss


def shape_fault(candidate: Candidate, module: nn.Module, size: tuple[int, ...], batch: int = 2) -> str:
    """Run one forward. Return the fault if the output has the wrong shape or is not finite, otherwise ""."""
    maps = candidate.maps(size, batch)
    with torch.no_grad():
        out = candidate.run(module, maps)
    neck = candidate.spec.kind == "neck"
    wanted = [tuple(x.shape) for x in (maps if neck else maps[:1])]
    got = [tuple(y.shape) for y in out]
    if neck:  # a neck can give all levels the same number of channels, so channels are not compared
        wanted, got = ([(s[0], *s[2:]) for s in shapes] for shapes in (wanted, got))
    return f"input {wanted} gives output {got}" if got != wanted else finite_fault(out)


def finite_fault(maps: Sequence[Tensor]) -> str:
    """Return the fault if an output is not finite, otherwise ""."""
    return "" if all(y.isfinite().all() for y in maps) else "the output is not finite"


def difference(candidate: Candidate, first: nn.Module, second: nn.Module, when: str) -> str:
    """Return the fault if two modules compute different results, otherwise ""."""
    maps = maps_of(candidate)
    same = equal(evaluate(candidate, first, maps), evaluate(candidate, second, maps))
    return "" if same else f"computes a different result {when}"


def equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Return whether the maps are equal bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Return whether the maps, which are in float64, are equal except for rounding errors."""
    return all(torch.allclose(x, y, rtol=1e-6, atol=1e-9) for x, y in zip(a, b, strict=True))
