"""ZiCo (Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR 2023, 2301.11300)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import EvaluationError
from nasbench.tasks import apply, item_count, map_tensors, part_of
from nasbench.training.optimisation import as_float
from nasbench.training.proxies._model import device_of, working_copy

__all__ = ["zico"]


def zico(model: nn.Module, batches: Sequence[tuple[Any, Any]], loss: Callable[[Any, Any], Tensor]) -> float:
    """Return a score that is higher if the gradients of the model's weights vary less between batches.

    .. math:: s = \\sum_{l} \\log \\sum_{\\omega \\in \\theta_l}
              \\frac{E[|\\nabla_\\omega L|]}{\\sqrt{\\mathrm{Var}[|\\nabla_\\omega L|]}}

    Mean E and variance are taken over the batches. A layer l is a trainable weight with two or more dimensions. Biases,
    norms and gates are left out. Entries whose gradient does not vary, and layers without a gradient, are left out too.
    As in the paper, the variance is the variance of the absolute gradient. The authors' code uses the variance of the
    signed gradient.

    Args:
        model: The model. Its batch norms use the statistics of the batch.
        batches: Two or more batches. A single batch is cut into two.
        loss: Function from outputs and targets to a scalar loss.

    Raises:
        EvaluationError: If no weight has a gradient that varies (kind "nan").
    """
    if len(batches) == 1:
        batches = _halves(batches[0])
    twin = working_copy(model, device_of(batches[0][0]))
    weights = [p for p in twin.parameters() if p.requires_grad and p.ndim >= 2]
    gradients = [_gradients(twin, weights, batch, loss) for batch in batches]
    layers = [_layer(torch.stack(of_layer)) for of_layer in zip(*gradients, strict=True)]
    values = [layer for layer in layers if layer is not None]
    if not values:
        raise EvaluationError("zico has no value: no weight has a gradient that varies between batches", kind="nan")
    return float(sum(values))


def _gradients(
    model: nn.Module, weights: Sequence[Tensor], batch: tuple[Any, Any], loss: Callable[[Any, Any], Tensor]
) -> list[Tensor]:
    inputs, targets = batch
    value = loss(map_tensors(as_float, apply(model, inputs)), targets)
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    # The gradient of a weight without influence on the loss never varies, so its layer is left out.
    return [torch.zeros_like(w) if g is None else g.abs() for w, g in zip(weights, gradients, strict=True)]


def _layer(gradients: Tensor) -> float | None:
    """Return the logarithm of a layer's summed ratios, or None if no gradient varies.

    Args:
        gradients: Absolute gradients `(batches, ...)`.
    """
    deviation, mean = torch.std_mean(gradients.double(), dim=0, correction=0)
    # If the standard deviation is 0, the ratio is infinite and would dominate the score.
    varies = deviation > 0
    total = (mean[varies] / deviation[varies]).sum()
    return None if not bool(varies.any()) else float(total.log())


def _halves(batch: tuple[Any, Any]) -> list[tuple[Any, Any]]:
    inputs, targets = batch
    middle = item_count(inputs) // 2
    return [(part_of(inputs, part), part_of(targets, part)) for part in (slice(0, middle), slice(middle, None))]
