"""SynFlow (Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020, arXiv:2006.05467), summed over a model's parameters (Abdelfattah et al., ICLR 2021, arXiv:2101.08134).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import EvaluationError
from nasbench.ops.series import InstanceNorm
from nasbench.tasks import apply
from nasbench.training.proxies._linear import Linearised
from nasbench.training.proxies._model import device_of, working_copy

__all__ = ["synflow"]


def synflow(
    model: nn.Module, batches: Sequence[tuple[Any, Tensor]], loss: Callable[[Tensor, Tensor], Tensor] | None = None
) -> float:
    """Return the logarithm of the summed saliency of all parameters of a positive, linear version of the model.

    .. math:: s = \\log \\sum_\\theta \\left| \\theta\\, \\frac{\\partial R}{\\partial \\theta} \\right|,\\quad
              R = \\sum f_{|\\theta|}(\\mathbf 1)

    The input is a single item of ones, in float64. Every parameter is replaced by its absolute value and every bias by
    0. Activations become the identity. Norms keep only their scale. Attention weights and sigmoid gates depend on the
    input, and they become constants at their current values. The result is a logarithm, because sums of different
    models differ by hundreds of orders of magnitude. The values of the data are not used. Frozen parameters do not
    count.

    Limits: on a constant input, two equal signals cancel if one is subtracted from the other (so DLinear's seasonal
    part gets no flow). Recurrent layers are not made linear. If a module starts as an identity because its scale is
    zero, neither the scale nor the module's parameters add to the sum.

    Args:
        model: The model, with its current weights. It does not change.
        batches: Batches of inputs and targets. Only the shape and the device of the first input are used.
        loss: Not used.

    Raises:
        EvaluationError: If there is no flow, or more than a float64 can hold (kind "nan").
    """
    inputs, _ = batches[0]
    twin = working_copy(model, device_of(inputs), batch_statistics=False).double()
    _prepare_for_flow(twin)
    parts = (inputs,) if isinstance(inputs, Tensor) else inputs
    ones = [torch.ones_like(part[:1], dtype=torch.float64) for part in parts]
    with Linearised():
        output = apply(twin, ones[0] if isinstance(inputs, Tensor) else (ones[0], ones[1]))
    if not isinstance(output, Tensor):
        raise EvaluationError(
            "synflow has no value: the model returns several tensors, so there is no one flow", kind="nan"
        )
    flow = output.sum()
    trainable = [p for p in twin.parameters() if p.requires_grad]
    # Some parameters have no gradient, for example those that only compute a detached gate.
    gradients = torch.autograd.grad(flow, trainable, allow_unused=True)
    total = float(sum((p.detach() * g).abs().sum() for p, g in zip(trainable, gradients, strict=True) if g is not None))
    if not (math.isfinite(total) and total > 0):
        what = "the flow is zero" if total == 0 else "the flow is too large for float64"
        raise EvaluationError(f"synflow has no value: {what}", kind="nan")
    return math.log(total)


def _prepare_for_flow(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.abs_()
            if "bias" in name.rpartition(".")[2]:
                parameter.zero_()
    for module in model.modules():
        # This norm would turn the constant input into 0. It is not a function of torch, so `Linearised` does not see
        # it.
        if isinstance(module, InstanceNorm):
            module.forward = _scale_alone(module)  # type: ignore[assignment,method-assign]


def _scale_alone(norm: InstanceNorm) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = torch.ones_like(x[:, :1])
        return (x if norm.weight is None else x * norm.weight), torch.zeros_like(one), one

    return forward
