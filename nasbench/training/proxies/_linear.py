"""A model run as a linear map: activations are the identity, norms scale, attention and gates are constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Linearised"]

_IDENTITY = frozenset(
    {"relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "gelu", "silu", "silu_", "hardswish"}
    | {"hardswish_", "mish", "mish_", "elu", "elu_", "selu", "selu_", "celu", "celu_", "softplus", "hardtanh"}
    | {"hardtanh_", "tanh", "tanh_", "threshold", "softsign"}
)
_CONSTANT = frozenset({"softmax", "_softmax", "log_softmax", "sigmoid", "sigmoid_", "hardsigmoid", "logsigmoid"})
_NORMS: dict[str, int] = {"layer_norm": 2, "group_norm": 2, "rms_norm": 2, "instance_norm": 3}
"""Where the scale stands among the arguments."""


class Linearised(TorchFunctionMode):
    """While it is on, torch's functions act as in a linear network; by name, so that modules and methods are alike."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _IDENTITY:
            return args[0] if args else kwargs["input"]
        if name in _CONSTANT:
            return func(*args, **kwargs).detach()
        if name == "batch_norm":
            return _batch_norm(*args, **kwargs)
        if name in _NORMS:
            place = _NORMS[name]
            weight = kwargs.get("weight", args[place] if len(args) > place else None)
            return _scaled(args[0], weight, last=name in ("layer_norm", "rms_norm"))
        if name == "scaled_dot_product_attention":
            return _attention(func, *args, **kwargs)
        return func(*args, **kwargs)


def _attention(func: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any) -> Tensor:
    """Weigh the values by the attention there is; an identity for the values gives it.

    Its own backward pass turns logits as large as they get here to NaN.
    """
    steps = value.shape[-2]
    eye = torch.eye(steps, dtype=value.dtype, device=value.device).expand(*value.shape[:-2], steps, steps)
    weights = func(query.detach(), key.detach(), eye, *rest, **more).detach()
    groups = weights.shape[-3] // value.shape[-3] if more.get("enable_gqa") else 1
    return weights @ (value.repeat_interleave(groups, -3) if groups > 1 else value)


def _batch_norm(input: Tensor, running_mean: Any, running_var: Any, weight: Any = None, *rest: Any, **more: Any) -> Any:
    """Scale by the weight over the running deviation; the mean is no part of a linear map."""
    eps = more.get("eps", rest[3] if len(rest) > 3 else 1e-5)
    scaled = _scaled(input, weight, last=False)
    return scaled if running_var is None else _scaled(scaled, (running_var + eps).rsqrt(), last=False)


def _scaled(x: Tensor, weight: Tensor | None, *, last: bool) -> Tensor:
    if weight is None:
        return x
    return x * (weight if last else weight.view(-1, *[1] * (x.ndim - 2)))
