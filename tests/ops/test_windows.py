"""Windows: what is in them, that they come back, and what they do beyond the edge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasbench.ops.windows import merge_windows, pad_to_windows, real_positions, sliding_windows, split_windows

SIDE = st.integers(1, 7)


def test_windows_and_positions_are_in_row_major_order():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    windows = split_windows(x, (2, 3))
    assert windows.shape == (1, 4, 6, 1)
    assert windows[0, :, :, 0].tolist() == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10, 11],
        [12, 13, 14, 18, 19, 20],
        [15, 16, 17, 21, 22, 23],
    ]


def test_what_is_missing_of_a_window_is_zero_and_not_real():
    windows = split_windows(torch.arange(1.0, 6.0).reshape(1, 1, 5), (3,))
    assert windows[0, :, :, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert real_positions((5,), (3,)).tolist() == [[True, True, True], [True, True, False]]
    assert real_positions((1, 3), (2, 2)).tolist() == [[True, True, False, False], [True, False, False, False]]


@settings(max_examples=60, deadline=None)
@given(size=st.lists(SIDE, min_size=1, max_size=2), data=st.data())
def test_merging_undoes_splitting(size: list[int], data: st.DataObject):
    window = data.draw(st.lists(SIDE, min_size=len(size), max_size=len(size)))
    x = torch.randn(2, 3, *size)
    windows = split_windows(x, window)
    assert torch.equal(merge_windows(windows, window, size), x)
    assert windows.shape[1:3] == real_positions(size, window).shape
    assert real_positions(size, window).sum() == x[0, 0].numel()
    assert real_positions(size, window).any(dim=1).all()
    padded = pad_to_windows(x, window)
    for side, step, real in zip(padded.shape[2:], window, size, strict=True):
        assert side % step == 0
        assert real <= side < real + step
    assert padded.sum() == pytest.approx(x.sum().item(), abs=1e-4)


@pytest.mark.parametrize(("dims", "kernel", "dilation"), [(1, 3, 1), (1, 5, 2), (2, 3, 1), (2, 3, 2), (2, 5, 1)])
def test_sliding_windows_are_those_of_a_convolution(dims: int, kernel: int, dilation: int):
    layer = (nn.Conv1d, nn.Conv2d)[dims - 1](
        4, 3, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
    ).double()
    x = torch.randn(2, 4, *(6, 5)[:dims], dtype=torch.float64)
    seen = sliding_windows(x, kernel, dilation)
    assert seen.shape == (2, 4, kernel**dims, x[0, 0].numel())
    out = torch.einsum("bckn,ock->bon", seen, layer.weight.flatten(2))
    assert torch.allclose(out, layer(x).flatten(2))
