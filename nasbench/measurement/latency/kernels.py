"""Count the kernels of a forward pass. A good predictor of latency must be better than this number."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["count_kernels"]


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A view launches no kernel. It only makes new sizes and strides.
        self.kernels += not func.is_view
        return func(*args, **(kwargs or {}))


def count_kernels(model: nn.Module, input_size: tuple[int, ...]) -> int:
    """Return the number of operators that a forward pass runs, without views.

    This is about the number of kernels that a GPU launches in eager mode.

    Args:
        model: A model on the CPU. It runs in evaluation mode, and then returns to its former mode.
        input_size: Shape of one input, without the batch dimension.
    """
    training, x = model.training, torch.zeros(1, *input_size)
    with torch.no_grad(), _Counter() as counter:
        model.eval()(x)
    model.train(training)
    return counter.kernels
