"""Channel modules: parameter counts, values worked out by hand, and each definition written out another way."""

from __future__ import annotations

import math

import pytest
import torch
from support.modules import build, count, noise
from timm.layers import EcaModule
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_module, module_spec

SIZES = {1: (9,), 2: (5, 4)}


def matrix(layer: nn.Module) -> Tensor:
    """The weight of a 1x1 convolution as a matrix."""
    return layer.weight.flatten(1)


@pytest.mark.parametrize(("channels", "reduction", "params"), [(64, 16, 512), (64, 4, 2048), (6, 4, 12), (3, 16, 6)])
def test_se_has_two_weights_and_no_bias(channels: int, reduction: int, params: int):
    assert count(create_module("se", channels, reduction=reduction)) == params


@pytest.mark.parametrize("dims", [1, 2])
def test_se_is_its_formula(dims: int):
    module, x = build("se", 6, dims=dims, reduction=2), noise(3, 6, *SIZES[dims])
    pooled = x.flatten(2).mean(2)
    gate = torch.sigmoid((pooled @ matrix(module.squeeze).T).clamp(min=0) @ matrix(module.excite).T)
    assert torch.allclose(module(x), torch.einsum("bc...,bc->bc...", x, gate))


def test_se_by_hand():
    module = build("se", 2, reduction=2)
    with torch.no_grad():
        module.squeeze.weight.copy_(torch.tensor([1.0, -2.0]).view(1, 2, 1, 1))
        module.excite.weight.copy_(torch.tensor([1.0, math.log(3)]).view(2, 1, 1, 1))
    x = torch.tensor([[5.0, -1.0], [0.5, 0.5]], dtype=torch.float64).view(1, 2, 1, 2)  # means 2 and 0.5: z = 1
    gates = 1 / (1 + math.exp(-1)), 3 / 4
    assert torch.allclose(module(x).flatten(), torch.tensor([5 * gates[0], -gates[0], 0.375, 0.375]).double())


@pytest.mark.parametrize(
    ("channels", "kernel"), [(1, 3), (8, 3), (64, 3), (127, 3), (128, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_eca_takes_its_kernel_from_the_channels(channels: int, kernel: int):
    module = create_module("eca", channels)
    assert module.conv.kernel_size == (kernel,)
    assert count(module) == kernel


@pytest.mark.parametrize("kernel", [None, 1, 5, 7])
def test_eca_is_timms(kernel: int | None):
    module, x = build("eca", 24, kernel=kernel), noise(2, 24, 5, 4)
    oracle = EcaModule(kernel_size=kernel or 3).double()  # given channels, timm decides the kernel itself
    oracle.load_state_dict(module.state_dict())
    assert torch.allclose(module(x), oracle(x))


@pytest.mark.parametrize("dims", [1, 2])
def test_eca_by_hand(dims: int):
    module = build("eca", 3, dims=dims)
    with torch.no_grad():
        module.conv.weight.copy_(torch.tensor([[[1.0, 10.0, 100.0]]]))
    x = torch.tensor([0.1, 0.02, -0.03]).double().view(1, 3, *[1] * dims)
    before = torch.tensor([10 * 0.1 + 100 * 0.02, 0.1 + 10 * 0.02 - 100 * 0.03, 0.02 - 10 * 0.03]).double()
    assert torch.allclose(module(x).flatten(), x.flatten() / (1 + torch.exp(-before)))


def test_eca_refuses_an_even_kernel():
    with pytest.raises(UnsupportedError, match="kernel is 4; allowed: None or a whole number, odd"):
        create_module("eca", 8, kernel=4)


@pytest.mark.parametrize("dims", [1, 2])
def test_channel_attention_is_its_formula(dims: int):
    module, x = build("channel_attention", 6, dims=dims), noise(2, 6, *SIZES[dims])
    rows = x.flatten(2)
    energy = rows @ rows.mT
    attention = torch.softmax(energy.amax(-1, keepdim=True) - energy, dim=-1)
    expected = module.attention.gamma * (attention @ rows).view_as(x) + x
    assert torch.allclose(module(x), expected)


def test_channel_attention_prefers_the_unlike_channel():
    module = build("channel_attention", 2, dims=1)
    module.attention.gamma.data.fill_(1)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 2, 1)  # E = [[1, 0], [0, 0]]
    own = 1 / (1 + math.e)  # channel 0 gives itself e^0 and the other e^1
    assert torch.allclose(module(x).flatten(), torch.tensor([1 + own, 0.5]).double())


def test_channel_attention_starts_as_an_identity_with_one_parameter():
    module, x = create_module("channel_attention", 7), torch.randn(2, 7, 3, 3)
    assert torch.equal(module(x), x)
    assert [(name, p.numel()) for name, p in module.named_parameters()] == [("attention.gamma", 1)]


def test_channel_attention_holds_with_large_energies():
    module, x = build("channel_attention", 4).float(), 100 * noise(1, 4, 16, 16).float()
    assert module(x).isfinite().all()


@pytest.mark.parametrize("name", ["channel_attention", "danet"])
@pytest.mark.parametrize("scale", [1, 30, 100])
def test_channel_attention_has_the_right_gradient_at_large_activations(name: str, scale: int):
    # in float32, against float64; the fused kernel was off by 0.1 to 8 % at scales of 30 and 100
    dims = {"dims": 1} if name == "channel_attention" else {}
    module, x = build(name, 32, **dims), scale * noise(2, 32, *(64,) if dims else (8, 8))
    if name == "danet":
        module.position.gamma.data.zero_()
    weight, gradients = noise(3, 32, 64)[:2].view_as(x), []
    for dtype in (torch.float64, torch.float32):
        given = x.detach().to(dtype).requires_grad_()
        (module.to(dtype)(given) * weight.to(dtype)).sum().backward()
        gradients.append(given.grad.double())
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5 * gradients[0].abs().max()


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("pool", [False, True])
def test_self_gate_is_its_formula(dims: int, pool: bool):
    module, x = build("self_gate", 5, dims=dims, pool=pool), noise(2, 5, *SIZES[dims])
    seen = x.flatten(2).mean(2, keepdim=True).expand_as(x.flatten(2)) if pool else x.flatten(2)
    gate = torch.sigmoid(matrix(module.gate) @ seen + module.gate.bias[:, None]).view_as(x)
    assert torch.allclose(module(x), x * gate)
    assert count(module) == 5 * 5 + 5


@pytest.mark.parametrize("pool", [False, True])
def test_self_gate_sees_other_positions_only_when_it_pools(pool: bool):
    module, x = build("self_gate", 3, pool=pool), noise(1, 3, 4, 4)
    other = x.clone()
    other[..., 0, 0] += 1
    assert torch.equal(module(x)[..., 2, 2], module(other)[..., 2, 2]) is not pool


@pytest.mark.parametrize("name", ["se", "eca", "channel_attention", "self_gate"])
def test_declarations(name: str):
    spec = module_spec(name)
    assert (spec.family, spec.dims, spec.cost_order) == ("channel", (1, 2), 1)
    assert spec.has("globality") is (name != "self_gate")
