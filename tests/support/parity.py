"""Figures of every module's output on weights filled by order, and the record `tests/modules/parity.json` of them.

    .venv/bin/python -m tests.support.parity            writes the record anew
    .venv/bin/python -m tests.support.parity --check    only tells whether it is stale

A module whose figures change no longer computes what it computed, and weights that users trained with it lose their
value. So write the record anew only for a change that is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.library.modules import module_specs
from nasbench.testing import Candidate, candidates
from scripts.record import keep

__all__ = ["FILE", "every_candidate", "figures"]

FILE = Path(__file__).parents[1] / "modules" / "parity.json"
_SIZE = {1: (13,), 2: (10, 13)}  # no window, stride or reference divides both sides
_BATCH = 3


def every_candidate() -> list[Candidate]:
    """Every variant of every module, in the order of the record."""
    return [candidate for spec in module_specs() for candidate in candidates(spec)]


def figures(candidate: Candidate) -> dict[str, list[float]]:
    """Return the figures of the output in evaluation and in training, and those of the gradient of the inputs.

    A figure is the sum of a tensor's values, each multiplied by a different number, so that it depends on every value
    and on the order. It is divided by the number of values. Everything is computed in float64.
    """
    torch.manual_seed(0)  # for ProbSparse, which samples keys in training
    module = candidate.build().double()
    _fill(module)
    maps = [
        _filled(shape, 0.7 + i).requires_grad_()
        for i, shape in enumerate(candidate.shapes(_SIZE[candidate.dims], _BATCH))
    ]
    evaluated = candidate.run(module.eval(), maps)
    gradients = torch.autograd.grad(sum((y * _filled(y.shape, 0.3)).sum() for y in evaluated), maps)
    trained = candidate.run(module.train(), maps)
    return {"eval": _sums(evaluated), "gradient": _sums(gradients), "train": _sums(trained)}


def _fill(module: nn.Module) -> None:
    """Give every parameter and running statistic values that follow from its place alone."""
    state = [*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
    names = [name for name, _ in module.named_parameters()] + [
        n for n, b in module.named_buffers() if b.is_floating_point()
    ]
    with torch.no_grad():
        for place, (name, tensor) in enumerate(zip(names, state, strict=True)):
            values = _filled(tensor.shape, place + 1.0)
            tensor.copy_(values.abs() + 0.5 if name.endswith(("running_var", "cluster_size")) else 0.4 * values)


def _filled(shape: Sequence[int], phase: float) -> Tensor:
    """Return a float64 tensor of distinct-looking values from -1 to 1: sin(phase + k²/φ) at place k."""
    k = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(phase + k.square() * 0.6180339887498949).reshape(tuple(shape))


def _sums(tensors: Sequence[Tensor]) -> list[float]:
    return [float((t.detach() * _filled(t.shape, 0.9)).sum() / t.numel()) for t in tensors]


def _record() -> dict[str, Any]:
    return {str(candidate): figures(candidate) for candidate in every_candidate()}


if __name__ == "__main__":
    keep(__doc__, FILE, _record)
