"""Spatial modules: parameter counts, values worked out by hand, and each definition written out another way."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from support.modules import build, count, noise
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_module, module_spec


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution as a matrix product."""
    y = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], x)
    return y if layer.bias is None else y + layer.bias[:, None, None]


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """A batch normalisation in evaluation."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


# --- cbam


@pytest.mark.parametrize("kernel", [3, 7])
def test_cbam_is_its_formula(kernel: int):
    module, x = build("cbam", 6, reduction=2, kernel=kernel), noise(2, 6, 5, 4)
    first, _, second = module.mlp
    mlp = lambda v: pointwise(second, pointwise(first, v).clamp(min=0))  # noqa: E731
    mean, top = (reduce(x.flatten(2))[..., None, None] for reduce in (lambda v: v.mean(2), lambda v: v.max(2).values))
    scaled = x * torch.sigmoid(mlp(mean) + mlp(top))
    conv, norm, _ = module.spatial
    pooled = torch.stack([scaled.max(1).values, scaled.mean(1)], dim=1)
    expected = scaled * torch.sigmoid(normed(norm, F.conv2d(pooled, conv.weight, padding=kernel // 2)))
    assert torch.allclose(module(x), expected)


def test_cbam_has_biases_in_its_mlp_alone():
    # MLP 64 -> 4 -> 64 with biases, a 7x7 convolution of 2 maps without, BN of one
    assert count(create_module("cbam", 64)) == 2 * 64 * 4 + 4 + 64 + 2 * 49 + 2


# --- coord_attention


def test_coord_attention_is_its_formula():
    module, x = build("coord_attention", 12), noise(2, 12, 5, 3)
    conv, norm, _ = module.reduce

    def inner(pooled: Tensor) -> Tensor:
        y = normed(norm, pointwise(conv, pooled))
        return y * (y + 3).clamp(0, 6) / 6

    rows = torch.sigmoid(pointwise(module.rows, inner(x.mean(3, keepdim=True))))
    columns = torch.sigmoid(pointwise(module.columns, inner(x.mean(2, keepdim=True))))
    assert torch.allclose(module(x), x * rows * columns)


@pytest.mark.parametrize(("channels", "reduction", "width"), [(64, 32, 8), (512, 32, 16), (512, 16, 32), (3, 32, 8)])
def test_coord_attention_is_at_least_8_wide(channels: int, reduction: int, width: int):
    expected = channels * width + width + 2 * width + 2 * (width * channels + channels)
    assert count(create_module("coord_attention", channels, reduction=reduction)) == expected


def test_coord_attention_normalises_rows_and_columns_together():
    """In training one set of statistics covers H + W pooled values a channel."""
    module, x = build("coord_attention", 4).train(), noise(2, 4, 5, 3)
    module.reduce[1].momentum = 1.0
    module(x)
    pooled = torch.cat([x.mean(3), x.mean(2)], dim=2)[..., None]
    expected = pointwise(module.reduce[0], pooled).mean(dim=(0, 2, 3))
    assert torch.allclose(module.reduce[1].running_mean, expected)


# --- triplet_attention


@pytest.mark.parametrize("channels", [1, 64, 250])
def test_triplet_attention_has_300_parameters_whatever_c(channels: int):
    assert count(create_module("triplet_attention", channels)) == 300


@pytest.mark.parametrize("kernel", [3, 7])
def test_triplet_attention_is_its_formula(kernel: int):
    module, x = build("triplet_attention", 6, kernel=kernel), noise(2, 6, 5, 4)
    branches = [
        (module.across_height, "bchw->bhcw", "bhcw->bchw"),
        (module.across_width, "bchw->bwhc", "bwhc->bchw"),
        (module.across_channels, "bchw->bchw", "bchw->bchw"),
    ]
    total = torch.zeros_like(x)
    for branch, there, back in branches:
        turned = torch.einsum(there, x)
        conv, norm, _ = branch.gate
        pooled = torch.stack([turned.max(1).values, turned.mean(1)], dim=1)
        gate = torch.sigmoid(normed(norm, F.conv2d(pooled, conv.weight, padding=kernel // 2)))
        total += torch.einsum(back, turned * gate)
    assert torch.allclose(module(x), total / 3)


# --- position_attention, danet


def explicit_position_attention(layer: nn.Module, x: Tensor) -> Tensor:
    q, k, v = (pointwise(part, x).flatten(2) for part in (layer.query, layer.key, layer.value))
    attention = torch.softmax(torch.einsum("bdn,bdm->bnm", q, k), dim=-1)
    return layer.gamma * torch.einsum("bnm,bcm->bcn", attention, v).view_as(x) + x


@pytest.mark.parametrize("reduction", [4, 8])
def test_position_attention_is_an_unscaled_softmax(reduction: int):
    module, x = build("position_attention", 16, reduction=reduction), noise(2, 16, 4, 3)
    assert torch.allclose(module(x), explicit_position_attention(module.attention, x))
    width = 16 // reduction
    assert count(module) == 2 * (16 * width + width) + 16 * 16 + 16 + 1


def test_position_attention_by_hand():
    module = build("position_attention", 1)
    values = {"query": (0.0, 1.0), "key": (1.0, 0.0), "value": (1.0, 0.0)}  # q = 1, k = x, v = x
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            getattr(module.attention, name).weight.fill_(weight)
            getattr(module.attention, name).bias.fill_(bias)
        module.attention.gamma.fill_(2)
    x = torch.tensor([0.0, math.log(3)], dtype=torch.float64).view(1, 1, 1, 2)
    mean = 0.75 * math.log(3)  # weights 1 : 3
    assert torch.allclose(module(x).flatten(), x.flatten() + 2 * mean)


def test_position_attention_starts_as_an_identity():
    module, x = create_module("position_attention", 16), torch.randn(2, 16, 4, 4)
    assert torch.equal(module(x), x)


def test_danet_adds_its_two_attentions():
    module, x = build("danet", 16), noise(2, 16, 4, 3)
    rows = x.flatten(2)
    energy = rows @ rows.mT
    mixed = (torch.softmax(energy.amax(-1, keepdim=True) - energy, dim=-1) @ rows).view_as(x)
    channel = module.channel.gamma * mixed + x
    assert torch.allclose(module(x), explicit_position_attention(module.position, x) + channel)


def test_danet_starts_as_twice_its_input():
    module, x = create_module("danet", 16), torch.randn(2, 16, 4, 4)
    assert torch.equal(module(x), 2 * x)


# --- cot


def test_cot_has_the_published_number_of_parameters():
    assert count(create_module("cot", 64)) == 26_744


def loop_aggregation(value: Tensor, weights: Tensor, planes: int) -> Tensor:
    """Local convolution tap by tap; `weights` is (B, planes * 9, H, W), plane by plane."""
    _, channels, height, width = value.shape
    out = torch.zeros_like(value)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                for tap in range(9):
                    y, x = i + tap // 3 - 1, j + tap % 3 - 1
                    if 0 <= y < height and 0 <= x < width:
                        out[:, c, i, j] += weights[:, (c % planes) * 9 + tap, i, j] * value[:, c, y, x]
    return out


def test_cot_is_its_loop_form():
    module, x = build("cot", 16), noise(2, 16, 4, 3)
    conv, norm, _ = module.static
    groups = [F.conv2d(part, w, padding=1) for part, w in zip(x.chunk(4, 1), conv.weight.chunk(4), strict=True)]
    static = normed(norm, torch.cat(groups, dim=1)).clamp(min=0)

    first, norm, _, second, _ = module.weigh
    logits = pointwise(second, normed(norm, pointwise(first, torch.cat([x, static], dim=1))).clamp(min=0))
    planes = []
    for plane, weight, bias in zip(
        logits.split(9, dim=1), module.weigh[4].weight.split(9), module.weigh[4].bias.split(9), strict=True
    ):
        mean, var = plane.mean(dim=(1, 2, 3), keepdim=True), plane.var(dim=(1, 2, 3), keepdim=True, correction=0)
        planes.append((plane - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None])
    value = normed(module.value[1], pointwise(module.value[0], x))
    dynamic = silu(normed(module.after[0], loop_aggregation(value, torch.cat(planes, dim=1), 2)))

    down, norm, _, up = module.select
    pooled = (dynamic + static).mean(dim=(2, 3), keepdim=True)
    logits = pointwise(up, normed(norm, pointwise(down, pooled)).clamp(min=0))
    share = torch.sigmoid(logits[:, 0::2] - logits[:, 1::2])  # softmax of two, channel by channel
    assert torch.allclose(module(x), share * dynamic + (1 - share) * static)


@pytest.mark.parametrize("channels", [4, 12, 60])
def test_cot_says_which_channels_it_serves(channels: int):
    with pytest.raises(UnsupportedError, match=f"multiple of 8, got {channels}"):
        create_module("cot", channels)
    assert module_spec("cot").limits


# --- caa


@pytest.mark.parametrize("kernel", [7, 11])
def test_caa_is_its_formula(kernel: int):
    module, x = build("caa", 5, kernel=kernel), noise(2, 5, 6, 9)
    gate, half = module.gate, kernel // 2
    padded = F.pad(x, (3, 3, 3, 3))
    pooled = sum(padded[..., i : i + 6, j : j + 9] for i in range(7) for j in range(7)) / 49
    y = silu(normed(gate.before[1], pointwise(gate.before[0], pooled)))
    for layer, pad, axis in ((gate.horizontal, (half, half, 0, 0), 3), (gate.vertical, (0, 0, half, half), 2)):
        wide, weight = F.pad(y, pad), layer.weight.view(5, kernel)
        taps = (weight[:, t, None, None] * wide.narrow(axis, t, y.shape[axis]) for t in range(kernel))
        y = sum(taps) + layer.bias[:, None, None]
    factor = torch.sigmoid(silu(normed(gate.after[1], pointwise(gate.after[0], y))))
    assert torch.allclose(module(x), x * factor)
    assert count(module) == 2 * (25 + 10) + 2 * (5 * kernel + 5)


def test_caa_averages_the_padding_too():
    pooled = create_module("caa", 1).gate.pool(torch.ones(1, 1, 9, 9))
    assert torch.allclose(pooled[0, 0, [0, 0, 4], [0, 4, 4]], torch.tensor([16 / 49, 28 / 49, 1.0]))


def test_caa_normalises_with_the_epsilon_of_pkinet():
    assert [m.eps for m in create_module("caa", 4).modules() if isinstance(m, nn.BatchNorm2d)] == [1e-3, 1e-3]


# --- all


@pytest.mark.parametrize("name", ["cbam", "triplet_attention", "caa"])
def test_an_even_kernel_is_refused(name: str):
    with pytest.raises(UnsupportedError, match="kernel is 4; allowed: a whole number, odd"):
        create_module(name, 8, kernel=4)


@pytest.mark.parametrize(
    ("name", "properties", "order"),
    [
        ("cbam", {"globality", "locality"}, 1),
        ("coord_attention", {"globality"}, 1),
        ("triplet_attention", {"globality", "locality"}, 1),
        ("position_attention", {"globality"}, 2),
        ("danet", {"globality"}, 2),
        ("cot", {"locality"}, 1),
        ("caa", {"globality"}, 1),
    ],
)
def test_declarations(name: str, properties: set[str], order: int):
    spec = module_spec(name)
    assert (spec.family, spec.dims, set(spec.properties), spec.cost_order) == ("spatial", (2,), properties, order)
