"""What the tests of forecasting stems share."""

from __future__ import annotations

import torch
from torch import nn

import nasbench as nb


def assert_two_dimensional_modules_fit(bare: nn.Module, plan: dict[str, str], input_size: tuple[int, int]) -> None:
    """Check that two-dimensional modules go into a stem: an identity at first, an effect without gate, exact costs."""
    x = torch.randn(2, *input_size)
    inserted = nb.insert(bare, plan, input_size=input_size)
    with torch.no_grad():
        assert torch.equal(inserted(x), bare(x))
        changed = nb.insert(bare, plan, input_size=input_size, identity_init=False)(x)
        assert (changed - bare(x)).abs().max() > 1e-4
    assert nb.measure(inserted, input_size=input_size).exact
