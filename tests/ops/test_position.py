"""Encodings and biases of positions against their formulas, worked out one position after the other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nasbench.ops.position import RelativeBias, resize, sinusoidal, unit_sinusoidal


def test_line_has_sines_and_cosines_of_falling_rates():
    encoding = sinusoidal((3,), 5)
    assert encoding.shape == (3, 5)
    for p in range(3):
        rates = [10000 ** (-2 * i / 5) for i in range(3)]
        expected = [f(p * rate) for rate in rates for f in (math.sin, math.cos)][:5]
        assert encoding[p].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 7, 8])
def test_map_has_the_row_in_the_first_half_and_the_column_in_the_second(channels: int):
    encoding = sinusoidal((2, 3), channels)
    row, column = sinusoidal((2,), channels - channels // 2), sinusoidal((3,), channels // 2)
    for h in range(2):
        for w in range(3):
            assert torch.equal(encoding[3 * h + w], torch.cat([row[h], column[w]]))


def test_resize_by_hand():
    table = torch.tensor([[[0.0, 1.0]]])
    assert resize(table, [4])[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    assert resize(table, [1])[0, 0].tolist() == pytest.approx([0.5])
    assert torch.equal(resize(table, [2]), table)


def table_entry(bias: RelativeBias, offset: tuple[int, ...]) -> Tensor:
    return bias.table[(slice(None), *(o + 6 for o in offset))]


def test_relative_bias_of_the_reference_line_is_the_table():
    bias = RelativeBias(2, 1)
    out = bias((7,))
    for i in range(7):
        for j in range(7):
            assert torch.equal(out[:, i, j], table_entry(bias, (i - j,)))


def test_relative_bias_of_the_reference_map_is_the_table():
    bias = RelativeBias(2, 2)
    out = bias((7, 7)).reshape(2, 7, 7, 7, 7)
    for h, w, g, v in torch.cartesian_prod(*[torch.tensor([0, 1, 4, 6])] * 4).tolist():
        assert torch.equal(out[:, h, w, g, v], table_entry(bias, (h - g, w - v)))


def test_relative_bias_of_another_size_depends_on_the_offset_alone_and_keeps_the_centre():
    bias = RelativeBias(3, 2)
    out = bias((4, 3)).reshape(3, 4, 3, 4, 3)
    assert torch.equal(out[:, 1, 1, 0, 2], out[:, 3, 0, 2, 1])
    assert not torch.allclose(out[:, 1, 1, 0, 2], out[:, 1, 1, 1, 2])
    for h in range(4):
        assert torch.allclose(out[:, h, 2, h, 2], table_entry(bias, (0, 0)))
    assert torch.allclose(bias((1, 1))[:, 0, 0], table_entry(bias, (0, 0)))


@pytest.mark.parametrize("shift", [0.5, 1])
def test_units_of_the_map_end_at_one_turn(shift: float):
    encoding = unit_sinusoidal((2, 3), 4, shift=shift)
    for h in range(2):
        for w in range(3):
            y, x = 2 * math.pi * (h + shift) / 2, 2 * math.pi * (w + shift) / 3
            assert encoding[3 * h + w].tolist() == pytest.approx(
                [math.sin(y), math.cos(y), math.sin(x), math.cos(x)], abs=1e-6
            )
