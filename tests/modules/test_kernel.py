"""Kernel modules: against timm's layers with the weights copied, explicit formulas, and values worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import random_modules
from support.random_modules import image
from timm.layers import MixedConv2d, SelectiveKernel, SeparableConv2d
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_module
from nasbench.ops.strip import StripGate


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return random_modules.randomise(module, 0.5)


def build(name: str, channels: int, **hyper: object) -> nn.Module:
    return randomise(create_module(name, channels, **hyper))


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and statistics, which both hold in the same order."""
    values = [v for v in source.state_dict().values() if v.ndim]
    places = [v for v in target.state_dict().values() if v.ndim]
    assert [v.shape for v in values] == [v.shape for v in places]
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_depthwise_separable_is_timms(kernel: int):
    module = build("depthwise_separable", 6, kernel=kernel)
    oracle = SeparableConv2d(6, 6, kernel, bias=False).double()
    copy_in_order(module, oracle)
    x = image(2, 6, 5, 9)
    assert torch.allclose(module(x), oracle(x))
    assert sum(p.numel() for p in module.parameters()) == 6 * kernel**2 + 36


def test_depthwise_separable_of_kernel_1_keeps_its_depthwise_stage():
    module, x = build("depthwise_separable", 3, dims=1, kernel=1), image(1, 3, 4)
    scaled = x * module.depthwise.weight.view(3, 1)
    assert torch.allclose(module(x), module.pointwise.weight[..., 0] @ scaled)


@pytest.mark.parametrize(("channels", "kernels"), [(12, (3, 5, 7)), (14, (3, 5, 7)), (7, (3, 5)), (10, (3, 5, 7, 9))])
def test_mixconv_is_timms(channels: int, kernels: tuple[int, ...]):
    module = build("mixconv", channels, kernels=kernels)
    oracle = MixedConv2d(channels, channels, list(kernels), depthwise=True).double()
    copy_in_order(module, oracle)
    x = image(2, channels, 6, 11)
    assert torch.allclose(module(x), oracle(x))


def test_mixconv_gives_the_remainder_to_the_first_group():
    assert create_module("mixconv", 14).widths == [6, 4, 4]
    assert [b.kernel_size for b in create_module("mixconv", 14, dims=1).branches] == [(3,), (5,), (7,)]
    few = create_module("mixconv", 2)
    assert few.widths == [2]
    assert [b.kernel_size for b in few.branches] == [(3, 3)]


@pytest.mark.parametrize(("channels", "kernels", "groups"), [(64, (3, 5), 32), (48, (3, 5, 7), 16), (6, (5, 3), 2)])
def test_sk_is_timms_without_its_split(channels: int, kernels: tuple[int, ...], groups: int):
    module = build("sk", channels, kernels=kernels)
    oracle = SelectiveKernel(channels, kernel_size=list(kernels), groups=groups, rd_channels=32, split_input=False)
    oracle = oracle.double().eval()
    for branch, path in zip(module.branches, oracle.paths, strict=True):
        copy_in_order(branch, path)
    with torch.no_grad():
        oracle.attn.fc_reduce.weight.copy_(module.weights.reduce.weight)
        oracle.attn.bn.load_state_dict(module.weights.norm.state_dict())
        oracle.attn.fc_select.weight.copy_(torch.cat([layer.weight for layer in module.weights.expand]))
    x = image(3, channels, 6, 9)
    assert torch.allclose(module(x), oracle(x))
    module.train(), oracle.train()
    assert torch.allclose(module(x), oracle(x))
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in oracle.parameters())


def test_sk_in_one_dimension_is_sk_on_one_row():
    line, plane = build("sk", 8, dims=1), build("sk", 8)
    state = line.state_dict()
    for key, value in plane.state_dict().items():
        if key.endswith("0.weight") and "branches" in key:
            value.zero_()
            value[:, :, 1] = state[key]  # a row sees the middle row of a 3x3 kernel alone
        else:
            value.copy_(state[key].reshape(value.shape))
    x = image(2, 8, 13)
    assert torch.allclose(line(x), plane(x[:, :, None])[:, :, 0])


def test_sk_reaches_as_far_as_its_largest_kernel():
    module, x = build("sk", 4, kernels=(3, 7)), image(1, 4, 15, 15).requires_grad_()
    module.weights.reduce.weight.data.zero_()  # without the pooled path, which sees everything
    module(x)[0, :, 7, 7].square().sum().backward()
    rows = (x.grad.abs().sum((0, 1)) > 0).nonzero()
    assert (rows.min().item(), rows.max().item()) == (4, 10)


def strip_factor(gate: StripGate, p: Tensor) -> Tensor:
    """The factor, its pooling and its strips written out with convolutions."""
    c = p.shape[1]
    pooled = F.conv2d(p, torch.full((c, 1, 7, 7), 1 / 49, dtype=p.dtype), padding=3, groups=c)
    flat = F.conv2d(gate.before(pooled), gate.horizontal.weight, gate.horizontal.bias, padding=(0, 5), groups=c)
    tall = F.conv2d(flat, gate.vertical.weight, gate.vertical.bias, padding=(5, 0), groups=c)
    return 1 / (1 + (-gate.after(tall)).exp())


@pytest.mark.parametrize("norm", [True, False])
def test_the_strip_gate_is_its_formula(norm: bool):
    gate, p = randomise(StripGate(5, norm=norm)), image(2, 5, 9, 14)
    assert gate.horizontal.weight.shape == (5, 1, 1, 11)
    assert gate.vertical.weight.shape == (5, 1, 11, 1)
    assert torch.allclose(gate(p), strip_factor(gate, p))
    assert [isinstance(f, nn.Sequential) for f in (gate.before, gate.after)] == [norm, norm]
    # two 1x1 convolutions, with BN's pair or a bias, and two strips of 11 weights and a bias
    assert sum(p.numel() for p in gate.parameters()) == 2 * (25 + (10 if norm else 5)) + 2 * 5 * 12


def conv_bn_silu(block: nn.Sequential, x: Tensor) -> Tensor:
    conv, norm, _ = block
    y = torch.einsum("oc,bchw->bohw", conv.weight[..., 0, 0], x)
    mean, var, weight, bias = (v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    y = (y - mean) / (var + 1e-3).sqrt() * weight + bias
    return y * y.sigmoid()


def depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    k = conv.weight.shape[-1]
    return F.conv2d(x, conv.weight, conv.bias, padding=k // 2, groups=x.shape[1])


@pytest.mark.parametrize("kernels", [(3, 5, 7, 9, 11), (3, 5, 7)])
def test_poly_kernel_is_its_formula(kernels: tuple[int, ...]):
    module, x = build("poly_kernel", 6, kernels=kernels), image(2, 6, 13, 10)
    assert [c.weight.shape[-1] for c in (module.first, *module.others)] == list(kernels)
    p = conv_bn_silu(module.before, x)
    d = depthwise(module.first, p)
    z = conv_bn_silu(module.mix, d + sum(depthwise(c, d) for c in module.others))
    expected = x + conv_bn_silu(module.after, z + z * strip_factor(module.gate, p))
    assert torch.allclose(module(x), expected)


def test_poly_kernel_has_the_parameters_of_its_definition():
    c = 8
    blocks = 3 * (c * c + 2 * c)
    kernels = sum(c * k * k + c for k in (3, 5, 7, 9, 11))
    factor = 2 * (c * c + c) + 2 * (11 * c + c)
    module = create_module("poly_kernel", c)
    assert sum(p.numel() for p in module.parameters()) == blocks + kernels + factor


@pytest.mark.parametrize("kernel", [3, 5])
def test_dual_pool_is_a_gate_from_shifted_copies(kernel: int):
    module, x = build("dual_pool", 4, dims=1, kernel=kernel), image(2, 4, 9)
    r = kernel // 2
    low = torch.full((2, 4, r), -torch.inf, dtype=x.dtype)
    shifted = torch.stack([torch.cat([low, x, low], 2)[..., i : i + 9] for i in range(kernel)])
    strongest, mean = shifted.amax(0), shifted.nan_to_num(neginf=0).sum(0) / kernel
    weight, bias = module.gate.weight[..., 0], module.gate.bias[:, None]
    assert torch.allclose(module(x), x * (weight[:, :4] @ strongest + weight[:, 4:] @ mean + bias).sigmoid())


def test_dual_pool_by_hand():
    module = create_module("dual_pool", 1, dims=1).double()
    with torch.no_grad():
        module.gate.weight.copy_(torch.tensor([1.0, 3.0]).view(1, 2, 1))
        module.gate.bias.fill_(-0.5)
    x = torch.tensor([[[1.0, -2.0, 3.0]]], dtype=torch.float64)
    logits = torch.tensor([1 - 1 - 0.5, 3 + 2 - 0.5, 3 + 1 - 0.5], dtype=torch.float64)  # max + 3 * mean - 0.5
    assert torch.allclose(module(x)[0, 0], x[0, 0] * logits.sigmoid())


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("depthwise_separable", {"kernel": 4}),
        ("dual_pool", {"kernel": 2}),
        ("mixconv", {"kernels": (3, 4)}),
        ("mixconv", {"kernels": ()}),
        ("sk", {"kernels": (3,)}),
        ("sk", {"kernels": (1, 3)}),
        ("poly_kernel", {"kernels": (3, 6)}),
    ],
)
def test_kernels_that_would_change_the_size_are_refused(name: str, hyper: dict):
    with pytest.raises(UnsupportedError, match="odd"):
        create_module(name, 8, **hyper)
