"""What the tests of modules and stems share: layers with nothing left at 0 or 1, fixed inputs, slow attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nasbench.library.modules import create_module


def randomised(module: nn.Module, spread: float = 0.4) -> nn.Module:
    """The module in float64 and eval mode with every parameter and statistic random, so that nothing hides at 0 or 1.

    Args:
        module: Changed in place.
        spread: Standard deviation of the parameters.
    """
    torch.manual_seed(0)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, spread)
    randomise_statistics(module)
    return module


def randomise_statistics(module: nn.Module) -> None:
    """Draw the running statistics of every normalisation."""
    with torch.no_grad():
        for key, buffer in module.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_()
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2)


def build(name: str, channels: int | list[int], *, spread: float = 0.4, **hyper: object) -> nn.Module:
    """A module of the library, randomised."""
    return randomised(create_module(name, channels, **hyper), spread)


def noise(*shape: int) -> Tensor:
    """The same float64 noise for the same shape."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def flat(x: Tensor) -> Tensor:
    """`(B, C, *S) -> (B, N, C)`."""
    return x.flatten(2).transpose(1, 2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    bias: Tensor | None = None,
    *,
    allowed: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Multi-head attention of `(N, C)` to `(M, C)` matrices, one head after the other.

    Args:
        q: Queries `(N, C)`.
        k: Keys `(M, C)`.
        v: Values `(M, C)`.
        heads: Attention heads.
        bias: Added to the logits, `(heads, N, M)`.
        allowed: Which keys a query sees, `(N, M)`.
        scale: Of the logits; one over the root of a head's width by default.
    """
    width = q.shape[1] // heads
    out = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        logits = q[:, part] @ k[:, part].T * (1 / math.sqrt(width) if scale is None else scale)
        logits = logits if bias is None else logits + bias[h]
        weights = (logits if allowed is None else logits.where(allowed, -math.inf)).exp()
        out.append(weights / weights.sum(dim=1, keepdim=True) @ v[:, part])
    return torch.cat(out, dim=1)
