"""Every module computes on a GPU what it computes on a CPU, forwards and backwards. `scripts/gpu_check` runs it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nasbench.library.modules import module_specs
from nasbench.testing import Candidate, candidates

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def passes(candidate: Candidate, module: nn.Module, device: str) -> list[Tensor]:
    """Outputs and gradients in eval mode, of inputs and weights that are the same on every device."""
    torch.manual_seed(0)  # of modules that draw in their forward
    size = (16, 16) if candidate.dims == 2 else (64,)
    maps = [x.to(device).requires_grad_() for x in candidate.maps(size)]
    module = copy.deepcopy(module).to(device).eval()
    outputs = candidate.run(module, maps)
    generator = torch.Generator().manual_seed(1)
    # Random cotangents, because the gradient of a sum through a last norm is zero but for rounding.
    torch.autograd.backward(outputs, [torch.randn(y.shape, generator=generator).to(device) for y in outputs])
    return [t.detach().cpu() for t in [*outputs, *(x.grad for x in maps if x.grad is not None)]]


@pytest.mark.parametrize("candidate", [c for spec in module_specs() for c in candidates(spec)], ids=str)
def test_the_same_on_both(candidate: Candidate):
    torch.manual_seed(0)
    module = candidate.build()
    with torch.backends.cudnn.flags(allow_tf32=False):
        here, there = passes(candidate, module, "cpu"), passes(candidate, module, "cuda")
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("candidate", [candidates(spec)[0] for spec in module_specs()], ids=str)
def test_autocast(candidate: Candidate, dtype: torch.dtype):
    torch.manual_seed(0)
    module = candidate.build().cuda()
    size = (16, 16) if candidate.dims == 2 else (64,)
    with torch.autocast("cuda", dtype):
        maps = [x.cuda().requires_grad_() for x in candidate.maps(size)]
        outputs = candidate.run(module, maps)
    sum(y.float().square().mean() for y in outputs).backward()
    gradients = [t.grad for t in [*module.parameters(), *maps] if t.grad is not None]
    assert all(bool(torch.isfinite(t).all()) for t in [*outputs, *gradients])
