"""NASWOT (Mellor et al., "Neural Architecture Search without Training", ICML 2021, arXiv:2006.04647)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasbench.errors import EvaluationError
from nasbench.tasks import apply, item_count, part_of
from nasbench.training.proxies._model import device_of, working_copy

__all__ = ["naswot"]

_ACTIVATIONS = frozenset(
    f"aten::{name}{suffix}"
    for name in (
        *("relu", "relu6", "hardtanh", "leaky_relu", "_prelu_kernel", "threshold", "rrelu_with_noise"),
        *("gelu", "silu", "hardswish", "mish", "elu", "celu", "selu", "softplus"),
    )
    for suffix in ("", "_")
)
"""Activation operators: the ReLU family and similar ones. The sign of their input is the code of a unit."""

_CHUNK = 1 << 20  # Number of units that are counted at once. A float32 counts exactly only up to 2^24.


def naswot(
    model: nn.Module, batches: Sequence[tuple[Any, Tensor]], loss: Callable[[Tensor, Tensor], Tensor] | None = None
) -> float:
    """Return the log-determinant of the similarity between the activation codes of a batch's items.

    .. math:: s = \\log |K|,\\quad K_{ij} = \\sum_{layers} \\#\\{units: c_i = c_j\\}

    The code of an item contains, for each unit of each activation, whether its pre-activation is above 0. The code says
    in which linear region of the network the item is. The more the codes differ, the higher the score is. Activations
    are found among the operators that run, so they need not be modules. A gate (sigmoid, softmax) does not count as an
    activation.

    Limits: the sign of the pre-activation is also used for GELU, SiLU, Hardswish, Mish, ELU and softplus. But networks
    with these activations have no linear regions, so the paper's justification does not hold for them. A model without
    any activation has no score. A module without an activation influences the score only through the next activation.
    Operators inside `nn.LSTM` or `nn.GRU` are not seen. The batch is cut to a prime number of items. So an activation
    that does not depend on the batch (the MLP of a position bias) is recognised by its size and left out.

    Args:
        model: A model whose input is a batch. Batch norms use the statistics of the batch.
        batches: The batches. Only the first is used.
        loss: Not used.

    Raises:
        EvaluationError: If there is no activation, or if two items have the same code (kind "nan").
    """
    inputs, _ = batches[0]
    count = _prime(item_count(inputs))
    items = part_of(inputs, slice(count))
    codes = _Codes(count, device_of(inputs))
    with torch.no_grad(), _no_fused_layers(), codes:
        apply(working_copy(model, device_of(inputs)), items)
    if not codes.units:
        raise EvaluationError("naswot has no value: the model has no activation to read codes from", kind="nan")
    return codes.log_determinant()


class _Codes(TorchDispatchMode):
    """For each pair of items, count the units of all activations for which both items have the same code."""

    def __init__(self, count: int, device: torch.device) -> None:
        super().__init__()
        self.count, self.units = count, 0
        self.alike = torch.zeros(count, count, dtype=torch.float64, device=device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in _ACTIVATIONS:
            self._add(args[0])
        return func(*args, **(kwargs or {}))

    def _add(self, x: Tensor) -> None:
        # The batch is the first or the second axis. If windows or heads are folded into it, its size is a multiple.
        axis = next((axis for axis in (0, 1) if x.ndim > axis and x.shape[axis] % self.count == 0), None)
        if axis is None:  # no axis is a multiple of the batch size, so this activation does not depend on the batch
            return
        codes = (x.movedim(axis, 0) > 0).reshape(self.count, -1)
        for part in codes.split(_CHUNK, dim=1):
            on = part.float()
            # Units agree if they are on in both items or off in both: n - |a| - |b| + 2 |a and b|.
            both, either = on @ on.T, on.sum(dim=1)
            self.alike += part.shape[1] - either[:, None] - either[None, :] + 2 * both
        self.units += codes.shape[1]

    def log_determinant(self) -> float:
        same = (self.alike == self.units).sum() > self.count  # an item always has the same code as itself
        sign, value = torch.linalg.slogdet(self.alike)
        if bool(same) or float(sign) <= 0:
            raise EvaluationError("naswot has no value: two items have the same code", kind="nan")
        return float(value)


@contextmanager
def _no_fused_layers() -> Iterator[None]:
    """Make torch run its transformer layers operator by operator. A fused layer hides its activation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _prime(most: int) -> int:
    """Return the largest prime up to `most`, or 1 if there is none."""
    return next((n for n in range(most, 1, -1) if all(n % d for d in range(2, int(n**0.5) + 1))), 1)
