"""Modules and inputs at random values in float64, for comparisons with a definition written out another way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench.library.modules import create_module


def randomise(module: nn.Module, scale: float = 0.4, *, mean_scale: float = 1.0) -> nn.Module:
    """Return a module in float64 and eval mode with every parameter and statistic random: nothing hides at 0 or 1."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, scale)
        for key, buffer in module.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, mean_scale)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return module


def build(name: str, channels: int, **hyper: object) -> nn.Module:
    """Return a module of the library at random values, the same in every call."""
    torch.manual_seed(0)
    return randomise(create_module(name, channels, **hyper))


def image(*shape: int) -> Tensor:
    """Return a normal input in float64, the same in every call."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
