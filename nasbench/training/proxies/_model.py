"""The copy of a model that a proxy works on."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["device_of", "working_copy"]


def device_of(inputs: Any) -> torch.device:
    """Return the device of the inputs of a batch, a tensor or a tuple of tensors."""
    return inputs.device if isinstance(inputs, Tensor) else inputs[0].device


def working_copy(model: nn.Module, device: torch.device, *, batch_statistics: bool = True) -> nn.Module:
    """Return a copy on `device` in eval mode. With `batch_statistics`, batch norms use the statistics of the batch.

    Eval mode switches off dropout and stochastic depth. But in an untrained model the running statistics still are mean
    0 and variance 1. They would not normalise its signals, so the batch norms are put into training mode.
    """
    twin = copy.deepcopy(model).to(device).eval()
    for module in twin.modules():
        if batch_statistics and isinstance(module, _BatchNorm):
            module.train()
    twin.zero_grad(set_to_none=True)
    return twin
