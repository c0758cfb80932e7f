"""The output of a network: whether it is the tensor that a task without a head asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from nasbench.backbones.discovery import traced

__all__ = ["output_fault", "output_of", "wanted_output"]


def wanted_output(
    input_size: Sequence[int], *, num_classes: int | None = None, horizon: int | None = None
) -> tuple[int | None, ...]:
    """Return the shape of the output for one input: `(num_classes,)`, or `(horizon, series)` of a forecast.

    None stands for a number that is not known.
    """
    # A forecast has as many series as the input window.
    return (num_classes,) if horizon is None else (horizon, input_size[1])


def output_of(model: nn.Module, input_size: Sequence[int]) -> Any:
    """Return the output of a network for a batch of two zeros. Its tensors can be without data.

    Raises:
        BackboneError: If the network does not accept the input size.
    """
    return traced(model, tuple(input_size)).output


def output_fault(output: Any, wanted: Sequence[int | None]) -> str:
    """Return how the output of a network for one batch differs from what is wanted. "" if it does not.

    Args:
        output: What the network returned.
        wanted: The shape for one input, as `wanted_output` returns it.

    Example:
        >>> import torch
        >>> output_fault(torch.zeros(2, 7), (10,))
        'the output is (B, 7), expected (B, 10)'
        >>> output_fault({"logits": torch.zeros(2, 10)}, (10,))
        'forward returns dict; return a tensor (B, 10), here its `logits`'
    """
    if not isinstance(output, Tensor):
        logits = "logits" in output if isinstance(output, Mapping) else hasattr(output, "logits")
        return f"forward returns {type(output).__name__}; return a tensor {_text(wanted)}" + (
            ", here its `logits`" if logits else ""
        )
    got = tuple(output.shape[1:])
    fits = len(got) == len(wanted) and all(size is None or size == one for one, size in zip(got, wanted, strict=True))
    return "" if fits else f"the output is {_text(got)}, expected {_text(wanted)}"


def _text(shape: Sequence[int | None]) -> str:
    return f"(B, {', '.join('num_classes' if size is None else str(size) for size in shape)})"
