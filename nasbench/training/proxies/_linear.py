"""Run a model as a linear function.

Activations become the identity, norms only scale, and the weights of attention and of gates become constants.
"""

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
"""For each norm, the index of its scale among its arguments."""


class Linearised(TorchFunctionMode):
    """A context in which torch's functions act as in a linear network.

    Functions are recognised by their names. So it makes no difference whether a module, a function or a tensor's method
    calls them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _IDENTITY:
            return args[0] if args else kwargs["input"]
        # A detached gate multiplies signals by its current value, but no gradient flows through the gate itself.
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
    """Apply attention with constant weights.

    The weights are what torch's function returns if the values are an identity matrix. For logits as large as here, the
    backward pass of torch's function would give NaN, so it gets detached queries and keys.
    """
    steps = value.shape[-2]
    eye = torch.eye(steps, dtype=value.dtype, device=value.device).expand(*value.shape[:-2], steps, steps)
    weights = func(query.detach(), key.detach(), eye, *rest, **more).detach()
    # With grouped queries, several query heads share one head of values.
    groups = weights.shape[-3] // value.shape[-3] if more.get("enable_gqa") else 1
    return weights @ (value.repeat_interleave(groups, -3) if groups > 1 else value)


def _batch_norm(input: Tensor, running_mean: Any, running_var: Any, weight: Any = None, *rest: Any, **more: Any) -> Any:
    """Multiply by the scale, and divide by the running standard deviation.

    The mean is left out, because it only adds an offset.
    """
    eps = more.get("eps", rest[3] if len(rest) > 3 else 1e-5)
    scaled = _scaled(input, weight, last=False)
    return scaled if running_var is None else _scaled(scaled, (running_var + eps).rsqrt(), last=False)


def _scaled(x: Tensor, weight: Tensor | None, *, last: bool) -> Tensor:
    if weight is None:
        return x
    return x * (weight if last else weight.view(-1, *[1] * (x.ndim - 2)))
