"""Batch and instance norm in plain arithmetic. Their derivatives are correct for a batch of one.

torch's CPU kernel behind `batch_norm` and `instance_norm` (seen in 2.15) gives wrong derivatives for a batch of one if
the incoming gradient is in the channels-last layout. It is in this layout if the map was flattened to tokens. Influence
is measured on a batch of one, so the measurement uses these functions instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["PlainNorms"]


class PlainNorms(TorchFunctionMode):
    """Replace batch and instance norm by plain arithmetic while this mode is active."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _PLAIN.get(func, func)(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `F.batch_norm` without updating the running statistics."""
    if training or running_mean is None or running_var is None:
        over = [0, *range(2, input.ndim)]
        var, mean = torch.var_mean(input, over, correction=0)
    else:
        var, mean = running_var, running_mean
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    shape = (1, -1, *[1] * (input.ndim - 2))
    centred = (input - mean.view(shape)) * scale.view(shape)
    return centred if bias is None else centred + bias.view(shape)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `F.instance_norm` without updating the running statistics."""
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    var, mean = torch.var_mean(input, list(range(2, input.ndim)), correction=0, keepdim=True)
    normal = (input - mean) * (var + eps).rsqrt()
    shape = (1, -1, *[1] * (input.ndim - 2))
    scaled = normal if weight is None else normal * weight.view(shape)
    return scaled if bias is None else scaled + bias.view(shape)


_PLAIN: dict[Any, Callable[..., Tensor]] = {F.batch_norm: _batch_norm, F.instance_norm: _instance_norm}
