"""Necks: against torchvision's pyramid, torch's functions step by step, and values worked out by hand."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from support.random_modules import randomise
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from nasbench.errors import ExpressionError, InputError, UnsupportedError
from nasbench.library.expression import parse
from nasbench.library.modules import create_module

CHANNELS = [4, 6, 10]
SIZES = {
    "halved": [(16, 12), (8, 6), (4, 3)],
    "odd, rounded up": [(13, 7), (7, 4), (4, 2)],
    "odd, rounded down": [(13, 7), (6, 3), (3, 1)],
    "one position": [(1, 1), (1, 1), (1, 1)],
    "other ratios": [(9, 9), (8, 5), (2, 7)],
}


def build(name: str, channels: list[int] = CHANNELS, **hyper: object) -> nn.Module:
    torch.manual_seed(0)
    return randomise(create_module(name, channels, **hyper), 0.3)


def pyramid(sizes: list[tuple[int, int]], channels: list[int] = CHANNELS) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, c, *s, dtype=torch.float64) for c, s in zip(channels, sizes, strict=True)]


def torchvisions(neck: nn.Module, width: int) -> FeaturePyramidNetwork:
    oracle = FeaturePyramidNetwork(CHANNELS, width).double()
    for layers, blocks in ((neck.top_down.lateral, oracle.inner_blocks), (neck.top_down.smooth, oracle.layer_blocks)):
        for layer, block in zip(layers, blocks, strict=True):
            block[0].load_state_dict(layer.state_dict())
    return oracle


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_fpn_is_torchvisions(sizes: list[tuple[int, int]]):
    neck, maps = build("fpn", width=5), pyramid(sizes)
    expected = torchvisions(neck, 5)(OrderedDict((str(i), x) for i, x in enumerate(maps)))
    out = neck(maps)
    assert [y.shape for y in out] == [(2, 5, *s) for s in sizes]
    assert all(torch.allclose(y, e) for y, e in zip(out, expected.values(), strict=True))


@pytest.mark.parametrize("name", ["fpn", "pan"])
def test_the_width_is_256_in_the_papers(name: str):
    with torch.device("meta"):
        out = create_module(name, CHANNELS)(
            [torch.empty(1, c, *s) for c, s in zip(CHANNELS, SIZES["halved"], strict=True)]
        )
    assert [y.shape[1] for y in out] == [256, 256, 256]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_pan_adds_a_path_from_fine_to_coarse(sizes: list[tuple[int, int]]):
    neck, maps = build("pan", width=5), pyramid(sizes)
    p = list(torchvisions(neck, 5)(OrderedDict((str(i), x) for i, x in enumerate(maps))).values())
    expected = [p[0]]
    for i in (1, 2):
        down = F.conv2d(expected[-1], neck.halve[i - 1].weight, neck.halve[i - 1].bias, stride=2, padding=1)
        down = F.interpolate(down, p[i].shape[2:], mode="nearest")  # changes nothing where the sizes agree
        expected.append(F.conv2d(down + p[i], neck.smooth[i - 1].weight, neck.smooth[i - 1].bias, padding=1))
    out = neck(maps)
    assert [y.shape for y in out] == [(2, 5, *s) for s in sizes]
    assert all(torch.allclose(y, e) for y, e in zip(out, expected, strict=True))


def test_pan_has_the_parameters_of_its_definition():
    neck = create_module("pan", CHANNELS, width=5)
    lateral, conv3 = sum(5 * c + 5 for c in CHANNELS), 9 * 25 + 5
    assert sum(p.numel() for p in neck.parameters()) == lateral + 3 * conv3 + 2 * 2 * conv3


def block(layers: nn.Sequential, x: Tensor, kernel: int, stride: int = 1) -> Tensor:
    conv, norm, _ = layers
    assert conv.bias is None
    y = F.conv2d(x, conv.weight, stride=stride, padding=kernel // 2)
    y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return torch.where(y > 0, y, 0.1 * y)


def resized(layers: nn.Module, x: Tensor, steps: int, size: tuple[int, int]) -> Tensor:
    """Level j at level i = j + steps: halved where steps is positive, enlarged otherwise."""
    if steps > 0:
        for _ in range(steps - 1):
            x = F.max_pool2d(x, 3, 2, 1)
        x = block(layers[-1], x, 3, 2)
    elif not isinstance(layers, nn.Identity):
        x = block(layers, x, 1)
    return F.interpolate(x, size, mode="nearest")


@pytest.mark.parametrize(
    ("channels", "sizes"),
    [
        *[(CHANNELS, s) for s in SIZES.values()],
        ([3, 5], [(6, 6), (3, 3)]),
        ([2, 4, 4, 3], [(16, 9), (8, 5), (4, 3), (2, 2)]),
    ],
)
def test_asff_is_its_formula(channels: list[int], sizes: list[tuple[int, int]]):
    neck, maps = build("asff", channels), pyramid(sizes, channels)
    out = neck(maps)
    assert [y.shape for y in out] == [x.shape for x in maps]
    for i, (level, y) in enumerate(zip(neck.levels, out, strict=True)):
        xs = [resized(level.resize[j], x, i - j, sizes[i]) for j, x in enumerate(maps)]
        ratings = torch.cat([block(level.rate[j], x, 1) for j, x in enumerate(xs)], 1)
        logits = F.conv2d(ratings, level.weigh.weight, level.weigh.bias)
        alpha = logits.exp() / logits.exp().sum(1, keepdim=True)
        total = sum(alpha[:, j : j + 1] * x for j, x in enumerate(xs))
        assert torch.allclose(y, block(level.expand, total, 3))


def test_asff_compresses_only_where_the_channels_differ():
    neck = create_module("asff", [4, 4, 8])
    finest = neck.levels[0].resize
    assert [type(layer) for layer in finest] == [nn.Identity, nn.Identity, nn.Sequential]
    # level 0 of it: 8 -> 4, three ratings of 16, bare weights with a bias, 3x3
    rating, weights, expand = 4 * 16 + 32, 48 * 3 + 3, 9 * 16 + 8
    assert sum(p.numel() for p in neck.levels[0].parameters()) == 8 * 4 + 8 + 3 * rating + weights + expand


def test_asff_weights_choose_a_level_at_each_position():
    neck, maps = build("asff"), pyramid(SIZES["halved"])
    level = neck.levels[1]
    nn.init.zeros_(level.weigh.weight)
    level.weigh.bias.data.copy_(torch.tensor([-80.0, 80.0, -80.0]))  # its own level alone
    assert torch.allclose(neck(maps)[1], block(level.expand, maps[1], 3))


@pytest.mark.parametrize("name", ["fpn", "pan", "asff"])
def test_a_neck_says_what_it_needs(name: str):
    neck = create_module(name, CHANNELS)
    with pytest.raises(InputError, match="3 levels, fine to coarse; got 2"):
        neck([torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)])
    with pytest.raises(UnsupportedError, match="list of channel counts"):
        create_module(name, 64)
    with pytest.raises(ExpressionError, match="neck"):
        parse(f"se >> {name}")
