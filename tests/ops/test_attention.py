"""Heads and the self-attention layer that several modules share."""

from __future__ import annotations

import pytest
import torch

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import MultiHeadSelfAttention, choose_heads, full_precision, merge_heads, split_heads


def test_heads_are_runs_of_channels():
    tokens = torch.arange(12.0).reshape(1, 2, 6)
    heads = split_heads(tokens, 3)
    assert heads.shape == (1, 3, 2, 2)
    assert heads[0, 1].tolist() == [[2, 3], [8, 9]]
    assert torch.equal(merge_heads(heads), tokens)


def test_heads_of_windows_have_one_more_leading_dimension():
    windows = torch.randn(2, 5, 4, 6)
    heads = split_heads(windows, 2)
    assert heads.shape == (2, 5, 2, 4, 3)
    assert torch.equal(merge_heads(heads), windows)


@pytest.mark.parametrize(
    ("channels", "multiple", "expected"),
    [
        (1, 1, 1),
        (24, 1, 1),
        (32, 1, 2),
        (48, 1, 3),
        (96, 1, 6),
        (256, 1, 8),
        (17, 1, 1),
        (96, 2, 6),
        (6, 2, 2),
        (48, 2, 2),
    ],
)
def test_default_heads(channels: int, multiple: int, expected: int):
    assert choose_heads(channels, multiple=multiple) == expected


@pytest.mark.parametrize(("heads", "multiple"), [(5, 1), (0, 1), (-2, 1), (4, 3)])
def test_heads_that_cannot_be_served_are_refused(heads: int, multiple: int):
    with pytest.raises(UnsupportedError, match=f"heads is {heads}; it must divide the 12 channels"):
        choose_heads(12, heads, multiple=multiple)


def test_full_precision_switches_autocast_off_and_takes_meta_tensors():
    x = torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32
    with full_precision(torch.empty(1, device="meta")):
        pass


def test_unknown_position_is_refused():
    with pytest.raises(UnsupportedError, match="position is 'rope'; allowed: none, sinusoidal, relative"):
        MultiHeadSelfAttention(8, position="rope")
