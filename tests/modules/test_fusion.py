"""Fusions: each against its equation written out, weights that sum to one, and the identity they must keep."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.building import build
from nasbench.library.expression import parse
from nasbench.library.modules import create_module, list_modules, module_spec
from nasbench.ops.select import convex_sum

CONVEX = [("gate", 2), ("two_stream", 2), ("select", 2), ("select", 4), ("interact", 2), ("interact", 4)]


def maps(count: int, *shape: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(*shape, dtype=torch.float64) for _ in range(count)]


def fusion(name: str, channels: int, inputs: int | None = None, scale: float = 1.0, **hyper: object) -> nn.Module:
    """A fusion in float64 and eval mode, with every parameter and statistic drawn anew."""
    torch.manual_seed(0)
    module = create_module(name, channels, inputs=inputs, **hyper).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, scale)
        for key, buffer in module.named_buffers():
            if key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return module


def vector(x: Tensor) -> Tensor:
    """The pooled map as `(B, C)`."""
    return x.flatten(2).mean(2)


def matrix(conv: nn.Module) -> Tensor:
    return conv.weight.flatten(1)


def test_which_fusions_commute_and_which_keep_equal_inputs():
    specs = {name: module_spec(name) for name in list_modules(kind="fusion")}
    commuting = {name for name, spec in specs.items() if spec.commutative}
    assert commuting == {"add", "select", "interact", "two_stream"}
    assert {name for name, spec in specs.items() if spec.starts_as_identity} == {name for name, _ in CONVEX}
    assert {name for name, spec in specs.items() if "inputs" not in spec.socket} == {
        "gate",
        "two_stream",
        "cross_attention",
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "inputs"), CONVEX)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_inputs_come_back_bit_for_bit(name: str, inputs: int, training: bool, dtype: torch.dtype):
    module = fusion(name, 6, inputs).to(dtype).train(training)
    x = (1e3 * maps(1, 3, 6, 5, 4)[0]).to(dtype)
    assert torch.equal(module(*[x] * inputs), x)


def test_a_gate_of_identities_is_an_identity_and_a_sum_is_not():
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(build("gate(none, timm/nl)", channels=8, dims=2)(x), x)
    assert parse("gate(none, timm/nl)").starts_as_identity
    assert not parse("timm/nl + none").starts_as_identity


def test_add_sums_and_concat_mixes():
    a, b, c = maps(3, 2, 4, 3, 5)
    assert torch.equal(fusion("add", 4, 3)(a, b, c), a + b + c)
    concat = fusion("concat", 4, 3)
    expected = torch.einsum("oc,bchw->bohw", matrix(concat.mix), torch.cat([a, b, c], 1))
    assert torch.allclose(concat(a, b, c), expected + concat.mix.bias[:, None, None])


def test_gate_is_the_convex_mix_of_its_equation():
    a, b = maps(2, 2, 4, 3, 5)
    gate = fusion("gate", 4)
    g = torch.einsum("oc,bchw->bohw", matrix(gate.weight), torch.cat([a, b], 1)) + gate.weight.bias[:, None, None]
    g = g.sigmoid()
    assert torch.allclose(gate(a, b), g * a + (1 - g) * b)
    assert sum(p.numel() for p in gate.parameters()) == 4 * 8 + 4


def test_gate_opens_and_shuts():
    a, b = maps(2, 2, 4, 3, 5)
    gate = fusion("gate", 4)
    nn.init.zeros_(gate.weight.weight)
    for bias, expected in ((50.0, a), (-50.0, b), (0.0, (a + b) / 2)):
        nn.init.constant_(gate.weight.bias, bias)
        assert torch.allclose(gate(a, b), expected)


@pytest.mark.parametrize("inputs", [2, 3])
def test_select_is_selective_kernel_weighting(inputs: int):
    xs = maps(inputs, 3, 5, 4, 7)
    module = fusion("select", 5, inputs)
    weigh = module.weights
    z = F.batch_norm(
        vector(sum(xs)) @ matrix(weigh.reduce).T,
        weigh.norm.running_mean,
        weigh.norm.running_var,
        weigh.norm.weight,
        weigh.norm.bias,
    ).relu()
    logits = torch.stack([z @ matrix(expand).T for expand in weigh.expand])
    w = logits.exp() / logits.exp().sum(0)
    assert torch.allclose(module(*xs), sum(w[i][..., None, None] * x for i, x in enumerate(xs)))


@pytest.mark.parametrize(("channels", "reduction", "width"), [(64, 16, 32), (1024, 16, 64), (1024, 8, 128)])
def test_select_has_a_bottleneck_of_at_least_32(channels: int, reduction: int, width: int):
    with torch.device("meta"):
        module = create_module("select", channels, inputs=3, reduction=reduction)
    assert sum(p.numel() for p in module.parameters()) == 4 * channels * width + 2 * width


@pytest.mark.parametrize("inputs", [2, 4])
def test_interact_is_a_softmax_of_self_ratings(inputs: int):
    xs = maps(inputs, 3, 5, 4, 7)
    module = fusion("interact", 5, inputs)
    ratings = torch.stack([(vector(x) @ matrix(r).T + r.bias).sigmoid() for x, r in zip(xs, module.rate, strict=True)])
    w = ratings.exp() / ratings.exp().sum(0)
    assert torch.allclose(module(*xs), sum(w[i][..., None, None] * x for i, x in enumerate(xs)))


@pytest.mark.parametrize("inputs", [2, 3, 4, 7])
def test_interact_weights_stay_within_their_bounds_and_reach_them(inputs: int):
    low, high = 1 / (1 + (inputs - 1) * math.e), math.e / (math.e + inputs - 1)
    wild = fusion("interact", 5, inputs, scale=100.0).weights(*maps(inputs, 8, 5, 4, 7))
    assert low - 1e-12 <= wild.min() <= wild.max() <= high + 1e-12
    assert torch.allclose(wild.sum(0), torch.ones(8, 5, 1, 1, dtype=torch.float64))
    extreme = fusion("interact", 1, inputs)
    for sign in (1.0, -1.0):
        for i, rate in enumerate(extreme.rate):
            nn.init.zeros_(rate.weight)
            nn.init.constant_(rate.bias, sign * (60.0 if i == 0 else -60.0))
        weight = extreme.weights(*maps(inputs, 1, 1, 2, 2))[0].item()
        assert weight == pytest.approx(high if sign > 0 else low, abs=1e-9)


def test_interact_says_what_four_branches_can_reach():
    assert "[0.109, 0.475]" in module_spec("interact").cls.__doc__
    assert 1 / (1 + 3 * math.e) == pytest.approx(0.109, abs=5e-4)
    assert math.e / (math.e + 3) == pytest.approx(0.475, abs=5e-4)


def test_two_stream_averages_maps_and_logits():
    module = create_module("two_stream", 4)
    for shape in ((2, 4, 3, 3), (2, 10)):
        a, b = maps(2, *shape)
        assert torch.allclose(module(a, b), 0.5 * a + 0.5 * b)


def test_convex_sum_is_the_weighted_sum():
    xs, w = maps(3, 2, 4, 5), torch.softmax(torch.randn(3, 2, 4, 1, dtype=torch.float64), 0)
    assert torch.allclose(convex_sum(xs, w), sum(weight * x for weight, x in zip(w, xs, strict=True)))


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("dims", [1, 2])
def test_cross_attention_is_torchs_with_the_weights_copied(norm: str, dims: int):
    torch.manual_seed(0)
    module = create_module("cross_attention", 12, dims=dims, heads=3, norm=norm).double().eval()
    oracle = nn.MultiheadAttention(12, 3, batch_first=True).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        oracle.in_proj_weight.copy_(torch.cat([module.query.weight, module.key.weight, module.value.weight]))
        oracle.in_proj_bias.copy_(torch.cat([module.query.bias, module.key.bias, module.value.bias]))
        oracle.out_proj.load_state_dict(module.project.state_dict())
    size, other = ((5, 4), (3, 7)) if dims == 2 else ((9,), (6,))
    a, b = maps(1, 2, 12, *size)[0], torch.randn(2, 12, *other, dtype=torch.float64)
    q, kv = a.flatten(2).transpose(1, 2), b.flatten(2).transpose(1, 2)
    if norm == "pre":
        expected = q + oracle(module.norm_a(q), module.norm_b(kv), module.norm_b(kv), need_weights=False)[0]
    else:
        expected = module.norm(q + oracle(q, kv, kv, need_weights=False)[0])
    assert torch.allclose(module(a, b), expected.transpose(1, 2).reshape(a.shape))


def test_cross_attention_has_berts_norm_after_the_residual():
    module = create_module("cross_attention", 32)
    assert module.norm.eps == 1e-12
    assert module.heads == 2
    assert sum(p.numel() for p in module.parameters()) == 4 * (32 * 32 + 32) + 64
    assert isinstance(create_module("cross_attention", 32, norm="pre").norm, nn.Identity)


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("cross_attention", {"heads": 5}, "must divide the 12 channels"),
        ("cross_attention", {"norm": "mid"}, "allowed: 'post' or 'pre'"),
        ("gate", {"inputs": 3}, "exactly 2"),
        ("two_stream", {"inputs": 3}, "exactly 2"),
        *[(name, {"inputs": 1}, "at least 2") for name in ("add", "concat", "select", "interact")],
    ],
)
def test_what_a_fusion_cannot_serve_is_said(name: str, hyper: dict, message: str):
    with pytest.raises(UnsupportedError, match=message):
        create_module(name, 12, **hyper)


@pytest.mark.parametrize("name", ["select", "interact", "concat"])
def test_the_number_of_maps_must_be_the_one_it_was_built_for(name: str):
    with pytest.raises((ValueError, RuntimeError)):
        fusion(name, 4, 2)(*maps(3, 2, 4, 3, 3))


def test_expressions_use_fusions_with_more_than_two_branches():
    module = build("select(se, none, timm/eca)", channels=8, dims=2).eval()
    x = torch.randn(2, 8, 6, 6)
    assert module(x).shape == x.shape
    assert parse("interact(timm/eca, se, none)") == parse("interact(none, se, timm/eca)")
    assert parse("gate(timm/eca, se)") != parse("gate(se, timm/eca)")
