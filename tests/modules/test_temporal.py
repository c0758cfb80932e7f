"""Temporal modules: each against its definition written out slowly or torch's layers, values by hand, and counts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from support.modules import attend, noise, randomised
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_module
from nasbench.ops.temporal import CausalConv1d

ONE_D = (
    "gated_tcn",
    "mgtu",
    "conv_attention",
    "window_attention",
    "pyramidal_attention",
    "probsparse_attention",
    "recurrent",
    "dilated_conv_block",
)
CAUSAL = (
    ("gated_tcn", {"dilation": 2}),
    ("conv_attention", {"causal": True}),
    ("window_attention", {"window": 5}),
    ("probsparse_attention", {"causal": True, "factor": 1}),
    ("recurrent", {"causal": True}),
    ("recurrent", {"causal": True, "cell": "gru"}),
)


def build(name: str, channels: int, **hyper: object) -> nn.Module:
    dims = hyper.pop("dims", 2 if name == "two_stage_attention" else 1)
    return randomised(create_module(name, channels, dims=dims, **hyper))


def torch_attention(module: nn.Module, heads: int) -> nn.MultiheadAttention:
    """torch's layer with the weights of `query`, `key`, `value` and `proj`; kernels of width 1 are matrices."""
    parts = [module.query, module.key, module.value]
    channels = module.proj.weight.shape[0]
    mha = nn.MultiheadAttention(channels, heads, batch_first=True).double().eval()
    with torch.no_grad():
        mha.in_proj_weight.copy_(torch.cat([part.weight.reshape(channels, channels) for part in parts]))
        mha.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        mha.out_proj.load_state_dict(module.proj.state_dict())
    return mha


def lower(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


# --- every module ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_D)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 13, 96])
def test_any_length_is_served_and_items_do_not_mix(name, length):
    module = build(name, 16)
    x = noise(2, 16, length)
    y = module(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    torch.testing.assert_close(module(x[:1]), y[:1])


@pytest.mark.parametrize("name", ["two_stage_attention", "probsparse_attention"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (5, 12)])
def test_maps_of_series_and_segments_of_any_size(name, size):
    module = build(name, 16, dims=2)
    x = noise(2, 16, *size)
    y = module(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    torch.testing.assert_close(module(x[:1]), y[:1])


@pytest.mark.parametrize(("name", "hyper"), CAUSAL)
def test_causal_modules_leak_nothing_from_the_future(name, hyper):
    module = build(name, 12, **hyper)
    x = noise(1, 12, 17).requires_grad_()
    for t in (0, 4, 10, 16):
        (gradient,) = torch.autograd.grad(module(x)[:, :, t].sum(), x)
        assert gradient[:, :, t].any()
        assert not gradient[:, :, t + 1 :].any()


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("conv_attention", {"causal": False}),
        ("window_attention", {"causal": False, "window": 17}),
        ("probsparse_attention", {"causal": False}),
        ("recurrent", {"causal": False}),
    ],
)
def test_modules_that_are_not_causal_see_both_ways(name, hyper):
    module = build(name, 12, **hyper)
    x = noise(1, 12, 17).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, :, 8].sum(), x)
    assert gradient[:, :, 0].any()
    assert gradient[:, :, 16].any()


class _Largest(TorchDispatchMode):
    """The most elements that any tensor has which is made inside."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize(
    ("name", "growth"),
    [
        ("gated_tcn", 8),
        ("window_attention", 8),
        ("pyramidal_attention", 8),
        ("dilated_conv_block", 8),
        ("probsparse_attention", 8 * math.ceil(math.log(8192)) / math.ceil(math.log(1024))),  # N log N
        ("conv_attention", 64),  # the instrument sees a square where there is one
    ],
)
def test_memory_grows_as_declared(name, growth):
    elements = []
    for length in (1024, 8192):
        with torch.device("meta"):
            module = create_module(name, 16, dims=1, **({"heads": 4} if "attention" in name else {})).eval()
            with _Largest() as largest, torch.no_grad():
                module(torch.empty(1, 16, length))
        elements.append(largest.elements)
    assert elements[1] / elements[0] == pytest.approx(growth, rel=0.01)


@pytest.mark.parametrize(
    ("name", "hyper", "count"),
    [
        # two layers; 16 channels for each of the kernels 2, 3, 6 and 7, with bias
        ("gated_tcn", {}, 2 * (64 * 16 * (2 + 3 + 6 + 7) + 64)),
        # convolutions of 3, 5 and 7 to 2C; 3 * 12 - 12 steps to 12
        ("mgtu", {}, 2 * 64 * 64 * 15 + 3 * 128 + 24 * 12 + 12),
        ("mgtu", {"pool": True}, 2 * 64 * 64 * 15 + 3 * 128 + 12 * 12 + 12),
        ("conv_attention", {"kernel": 5}, 2 * (5 * 64**2 + 64) + 2 * (64**2 + 64)),
        ("window_attention", {}, 4 * 64**2 + 64),
        # down and up 64 <-> 16; a conv of 4 and a BN a level; LN; a layer: q, k, v, out, FFN, two LN
        (
            "pyramidal_attention",
            {},
            (64 * 16 + 16) + (16 * 64 + 64) + 3 * (4 * 16**2 + 16 + 32) + 128 + 3 * (6 * 64**2 + 3 * 64 + 4 * 64),
        ),
        (
            "pyramidal_attention",
            {"scales": (3,), "reduction": 8, "expansion": 4},
            (64 * 8 + 8) + (8 * 64 + 64) + (3 * 8**2 + 8 + 16) + 128 + (12 * 64**2 + 6 * 64 + 4 * 64),
        ),
        ("probsparse_attention", {}, 4 * 64**2 + 4 * 64),
        ("two_stage_attention", {}, 28 * 64**2 + 40 * 64),
        # a gate: C h + h h + 2 h, both ways; the projection
        ("recurrent", {}, 2 * 4 * (64 * 32 + 32**2 + 64) + 64**2 + 64),
        ("recurrent", {"cell": "gru", "causal": True}, 3 * (64 * 32 + 32**2 + 64) + 32 * 64 + 64),
        ("dilated_conv_block", {}, 2 * (3 * 64**2 + 64)),
    ],
)
def test_parameter_count(name, hyper, count):
    module = create_module(name, 64, **hyper)
    assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("gated_tcn", {"kernels": ()}, "1 or more values"),
        ("gated_tcn", {"kernels": (0, 3)}, "at least 1"),
        ("gated_tcn", {"dilation": 0}, "dilation is 0"),
        ("mgtu", {"kernels": ()}, "1 or more values"),
        ("mgtu", {"reference": 6}, "not be shorter than the longest kernel, 7"),
        ("conv_attention", {"kernel": 0}, "at least 1"),
        ("conv_attention", {"heads": 5}, "divide the 12 channels"),
        ("window_attention", {"window": 0}, "at least 1"),
        ("window_attention", {"heads": 5}, "divide the 12 channels"),
        ("pyramidal_attention", {"scales": ()}, "1 or more values"),
        ("pyramidal_attention", {"scales": (4, 1)}, "at least 2"),
        ("pyramidal_attention", {"window": 4}, "window is 4; allowed: a whole number, odd"),
        ("pyramidal_attention", {"heads": 5}, "divide the 12 channels"),
        ("probsparse_attention", {"factor": 0}, "at least 1"),
        ("probsparse_attention", {"heads": 5}, "divide the 12 channels"),
        ("two_stage_attention", {"factor": 0}, "at least 1"),
        ("two_stage_attention", {"heads": 5}, "divide the 12 channels"),
        ("recurrent", {"cell": "rnn"}, "allowed: 'lstm' or 'gru'"),
        ("dilated_conv_block", {"kernel": 4}, "odd"),
        ("dilated_conv_block", {"dilation": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_built_is_said(name, hyper, message):
    with pytest.raises(UnsupportedError, match=message):
        create_module(name, 12, **hyper)


# --- gated_tcn ------------------------------------------------------------------------------------------------------


def test_causal_convolution_by_hand():
    conv = CausalConv1d(1, 1, 2, dilation=2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[10.0, 1.0]]]))
        conv.bias.fill_(0.5)
    y = conv(torch.tensor([[[1.0, 2, 3, 4]]]))
    assert y.tolist() == [[[1.5, 2.5, 13.5, 24.5]]]  # x_t + 10 x_(t - 2) + 0.5


@pytest.mark.parametrize("dilation", [1, 3])
def test_gated_tcn_crops_four_kernels_to_the_shortest(dilation):
    module = build("gated_tcn", 8, dilation=dilation)
    x = noise(2, 8, 11)
    padded = F.pad(x, (6 * dilation, 0))

    def inception(layer: nn.Module) -> Tensor:
        kernels = [branch.weight.shape[2] for branch in layer.branches]
        assert kernels == [2, 3, 6, 7]
        parts = [F.conv1d(padded, b.weight, b.bias, dilation=dilation) for b in layer.branches]
        shortest = parts[-1].shape[2]
        assert shortest == 11
        return torch.cat([part[:, :, -shortest:] for part in parts], dim=1)

    torch.testing.assert_close(module(x), torch.tanh(inception(module.filter)) * torch.sigmoid(inception(module.gate)))


@pytest.mark.parametrize(
    ("channels", "shares"), [(8, [2, 2, 2, 2]), (10, [3, 3, 2, 2]), (11, [3, 3, 3, 2]), (2, [1, 1])]
)
def test_gated_tcn_gives_remainders_to_the_first_kernels(channels, shares):
    module = create_module("gated_tcn", channels)
    for layer in (module.filter, module.gate):
        assert [tuple(b.weight.shape) for b in layer.branches] == [
            (share, channels, kernel) for share, kernel in zip(shares, (2, 3, 6, 7), strict=False)
        ]


# --- mgtu -----------------------------------------------------------------------------------------------------------


def gated_units(module: nn.Module, x: Tensor) -> list[Tensor]:
    outputs = [F.conv1d(x, unit.weight, unit.bias) for unit in module.units]
    channels = x.shape[1]
    return [torch.tanh(y[:, :channels]) * torch.sigmoid(y[:, channels:]) for y in outputs]


def test_mgtu_at_the_reference_length():
    module = build("mgtu", 4)
    x = noise(2, 4, 12)
    parts = gated_units(module, x)
    assert [part.shape[2] for part in parts] == [10, 8, 6]
    torch.testing.assert_close(module(x), torch.relu(x + module.mix(torch.cat(parts, dim=2))))


def test_mgtu_pools_each_unit():
    module = build("mgtu", 4, pool=True, reference=13)
    x = noise(2, 4, 13)
    parts = [
        torch.stack([y[:, :, i : i + 2].amax(2) for i in range(0, y.shape[2], 2)], 2) for y in gated_units(module, x)
    ]
    assert [part.shape[2] for part in parts] == [6, 5, 4]  # 11, 9 and 7 steps, rounded up
    torch.testing.assert_close(module(x), torch.relu(x + module.mix(torch.cat(parts, dim=2))))


@pytest.mark.parametrize("length", [1, 4, 6])
def test_mgtu_pads_short_series_on_both_sides(length):
    module = build("mgtu", 4, reference=7)
    left = (7 - length) // 2
    x = noise(2, 4, length)
    padded = F.pad(x, (left, 7 - length - left))
    parts = gated_units(module, padded)
    assert [part.shape[2] for part in parts] == [5, 3, 1]
    # As many steps go in as at the reference length, so that only the rows of W are interpolated: at the centre of
    # each of `length` equal parts of 7 steps, linearly between the centres of the steps, held beyond the outermost.
    mixed = module.mix(torch.cat(parts, dim=2))
    place = ((torch.arange(length, dtype=torch.float64) + 0.5) * 7 / length - 0.5).clamp(0, 6)
    low = place.floor().long().clamp(max=5)
    share = place - low
    expected = mixed[:, :, low] * (1 - share) + mixed[:, :, low + 1] * share
    torch.testing.assert_close(module(x), torch.relu(x + expected))


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("length", [9, 24, 50])
def test_mgtu_weighs_the_same_at_any_length(length, pool):
    module = build("mgtu", 3, pool=pool)
    with torch.no_grad():
        for block, value in zip(module.mix.weight.split(module.steps, dim=1), (0.1, -0.2, 0.3), strict=True):
            block.fill_(value)
        module.mix.bias.fill_(0.7)
        for unit in module.units:
            unit.weight.zero_()  # every unit gives its bias, whatever the series
    x = noise(1, 3, length)
    units = [unit.bias[:3].tanh() * unit.bias[3:].sigmoid() for unit in module.units]
    summed = sum(n * w * u for n, w, u in zip(module.steps, (0.1, -0.2, 0.3), units, strict=True))
    torch.testing.assert_close(module(x), torch.relu(x + (summed + 0.7)[:, None]))


# --- conv_attention -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_conv_attention_of_width_one_is_plain_attention(causal):
    module = build("conv_attention", 12, kernel=1, heads=3, causal=causal)
    x = noise(2, 12, 9)
    tokens = x.transpose(1, 2)
    mask = ~lower(9) if causal else None
    expected, _ = torch_attention(module, 3)(tokens, tokens, tokens, attn_mask=mask)
    torch.testing.assert_close(module(x), expected.transpose(1, 2))


@pytest.mark.parametrize("causal", [False, True])
def test_conv_attention_is_astgnns(causal):
    module = build("conv_attention", 12, kernel=3, heads=2, causal=causal)
    x = noise(1, 12, 8)
    # ASTGNN pads both sides by w - 1 and cuts off what came after the end.
    q, k = (F.conv1d(x, f.weight, f.bias, padding=2)[0, :, :-2].T for f in (module.query, module.key))
    expected = module.proj(attend(q, k, module.value(x[0].T), 2, allowed=lower(8) if causal else None))
    torch.testing.assert_close(module(x)[0], expected.T)


# --- window_attention -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("length", "window"), [(6, 4), (8, 4), (7, 3), (5, 9), (6, 1)])
def test_window_attention_stays_in_its_window_and_series(length, window, causal):
    # Two series of 6 hold three windows of 4: cut from the batch as a whole, one would straddle both series.
    module = build("window_attention", 8, window=window, heads=2, causal=causal)
    x = noise(2, 8, length)
    expected = torch.empty_like(x)
    for series in range(2):
        for start in range(0, length, window):
            tokens = x[series, :, start : start + window].T
            q, k, v = (tokens @ w.T for w in module.qkv.weight.chunk(3))
            attended = attend(q, k, v, 2, allowed=lower(len(tokens)) if causal else None)
            expected[series, :, start : start + window] = module.proj(attended).T
    torch.testing.assert_close(module(x), expected)


# --- pyramidal_attention --------------------------------------------------------------------------------------------


def pyramid_mask(sizes: list[int], scales: tuple[int, ...], window: int) -> Tensor:
    """The edges between all nodes `(T, T)`, found pair by pair."""
    nodes = [(level, i) for level, size in enumerate(sizes) for i in range(size)]

    def child_of(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return b[0] == a[0] + 1 and b[1] == min(a[1] // scales[a[0]], sizes[b[0]] - 1)

    def joined(a: tuple[int, int], b: tuple[int, int]) -> bool:
        beside = a[0] == b[0] and abs(a[1] - b[1]) <= window // 2
        return beside or child_of(a, b) or child_of(b, a)

    return torch.tensor([[joined(a, b) for b in nodes] for a in nodes])


@pytest.mark.parametrize(
    ("length", "scales", "window"),
    [
        (16, (4,), 3),
        (7, (4,), 3),
        (3, (4,), 1),
        (21, (4, 2), 5),
        (43, (2, 3), 3),
        (70, (4, 4, 4), 3),
        (1, (4, 4, 4), 3),
    ],
)
def test_pyramidal_attention_is_its_masked_dense_form(length, scales, window):
    module = build("pyramidal_attention", 8, scales=scales, window=window, heads=2)
    x = noise(1, 8, length)
    pyramid = module.pyramid
    level = pyramid.down(x[0].T).T
    levels = []
    for conv, bn, scale in zip(pyramid.convs, pyramid.bns, scales, strict=True):
        if level.shape[1] < scale:
            level = F.pad(level, (0, scale - level.shape[1]))
        level = level[:, : level.shape[1] // scale * scale].unflatten(1, (-1, scale))
        level = torch.einsum("cnk,dck->dn", level, conv.weight) + conv.bias[:, None]
        scaled = (level - bn.running_mean[:, None]) / (bn.running_var[:, None] + bn.eps).sqrt()
        level = F.elu(scaled * bn.weight[:, None] + bn.bias[:, None])
        levels.append(level)
    nodes = pyramid.norm(torch.cat([x[0].T, pyramid.up(torch.cat(levels, dim=1).T)]))
    mask = pyramid_mask([length, *(level.shape[1] for level in levels)], scales, window)
    assert len(mask) == len(nodes)
    for layer in module.layers:  # all nodes in every layer: more than level 0 needs
        attended = layer.proj(attend(layer.query(nodes), layer.key(nodes), layer.value(nodes), 2, allowed=mask))
        nodes = F.layer_norm(nodes + attended, (8,), layer.norms[0].weight, layer.norms[0].bias, 1e-6)
        wide = F.gelu(layer.ffn[0](nodes))
        nodes = F.layer_norm(nodes + layer.ffn[2](wide), (8,), layer.norms[1].weight, layer.norms[1].bias, 1e-6)
    torch.testing.assert_close(module(x)[0], nodes[:length].T)


# --- probsparse_attention -------------------------------------------------------------------------------------------


def test_probsparse_attention_with_a_large_factor_is_full_attention():
    for training in (False, True):
        module = build("probsparse_attention", 12, heads=3, factor=40).train(training)
        x = noise(2, 12, 30)
        tokens = x.transpose(1, 2)
        expected, _ = torch_attention(module, 3)(tokens, tokens, tokens)
        torch.testing.assert_close(module(x), expected.transpose(1, 2))


@pytest.mark.parametrize("causal", [False, True])
def test_probsparse_attention_query_by_query(causal):
    length, heads = 40, 2
    module = build("probsparse_attention", 8, heads=heads, factor=2, causal=causal)
    count = 2 * 4  # ln 40 = 3.69, rounded up
    x = noise(1, 8, length)
    sample = module._draw(length, count, x.device)
    q, k, v = (f(x[0].T).view(length, heads, 4) for f in (module.query, module.key, module.value))
    mixed = torch.empty(length, heads, 4, dtype=torch.float64)
    for h in range(heads):
        measure = []
        for i in range(length):
            products = [torch.dot(q[i, h], k[j, h]).item() for j in sample[i].tolist()]
            measure.append(max(products) - sum(products) / length)
        top = sorted(range(length), key=lambda i: -measure[i])[:count]
        for i in range(length):
            seen = i + 1 if causal else length
            if i in top:
                mixed[i, h] = (k[:seen, h] @ q[i, h] / 2).softmax(0) @ v[:seen, h]
            else:
                mixed[i, h] = v[: i + 1, h].sum(0) if causal else v[:, h].mean(0)
    torch.testing.assert_close(module(x)[0], module.proj(mixed.flatten(1)).T)


def test_probsparse_attention_draws_anew_in_training_alone():
    module = build("probsparse_attention", 8, factor=1)
    x = noise(1, 8, 60)
    torch.manual_seed(1)
    first = module(x)
    torch.manual_seed(2)
    assert torch.equal(module(x), first)
    module.train()
    draws = {tuple(module._draw(60, 5, x.device).flatten().tolist()) for _ in range(3)}
    assert len(draws) == 3


@pytest.mark.parametrize(("length", "count"), [(7, 4), (96, 25), (1000, 35), (2**17, 12)])
def test_probsparse_attention_spreads_its_fixed_draw(length, count):
    draw = build("probsparse_attention", 4)._draw(length, count, torch.device("cpu"))
    assert draw.shape == (length, count)
    assert draw.min() >= 0
    assert draw.max() < length
    times = torch.bincount(draw.flatten(), minlength=length)
    assert (times - count).abs().max() <= 5  # every key is sampled about as often as any other
    widest = torch.cat([draw, draw[:, :1] * 0, draw[:, :1] * 0 + length], dim=1).sort(dim=1).values.diff(dim=1).max()
    assert widest <= 2.7 * length / count + 1  # and no query has a large hole in its sample


def test_probsparse_attention_reads_a_map_row_by_row():
    module = build("probsparse_attention", 8, dims=2)
    x = noise(2, 8, 3, 5)
    torch.testing.assert_close(module(x), module(x.flatten(2)).unflatten(2, (3, 5)))


# --- two_stage_attention --------------------------------------------------------------------------------------------


def test_two_stage_attention_in_time_then_across_series_through_routers():
    channels, heads = 8, 2
    module = build("two_stage_attention", channels, heads=heads, factor=3)
    x = noise(2, channels, 4, 5)  # 4 series of 5 segments

    def stage(number: int, tokens: Tensor, attended: Tensor) -> Tensor:
        before, after = module.norms[2 * number], module.norms[2 * number + 1]
        wide, _, narrow = module.ffns[number]
        tokens = before(tokens + attended)
        return after(tokens + narrow(F.gelu(wide(tokens))))

    time, gather, distribute = (torch_attention(a, heads) for a in (module.time, module.gather, module.distribute))
    z = torch.empty_like(x)
    for item in range(2):
        for series in range(4):
            tokens = x[item, :, series].T[None]
            z[item, :, series] = stage(0, tokens, time(tokens, tokens, tokens)[0])[0].T
    expected = torch.empty_like(x)
    for item in range(2):
        for segment in range(5):
            tokens = z[item, :, :, segment].T[None]
            messages, _ = gather(module.routers[None], tokens, tokens)
            received, _ = distribute(tokens, messages, messages)
            expected[item, :, :, segment] = stage(1, tokens, received)[0].T
    torch.testing.assert_close(module(x), expected)


# --- recurrent ------------------------------------------------------------------------------------------------------


def read_step_by_step(rnn: nn.Module, tokens: Tensor, cell: str, suffix: str = "") -> Tensor:
    """The hidden states `(L, h)` of one direction, one step at a time, by torch's cell of the same kind."""
    hidden = rnn.hidden_size
    step = (nn.LSTMCell if cell == "lstm" else nn.GRUCell)(tokens.shape[1], hidden).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(step, name).data.copy_(getattr(rnn, f"{name}_l0{suffix}"))
    state = (
        (torch.zeros(hidden).double(), torch.zeros(hidden).double()) if cell == "lstm" else torch.zeros(hidden).double()
    )
    states = []
    for token in tokens:
        state = step(token, state)
        states.append(state[0] if cell == "lstm" else state)
    return torch.stack(states)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("channels", "hidden"), [(8, 4), (7, 3), (1, 1)])
def test_recurrent_step_by_step(channels, hidden, cell, causal):
    module = build("recurrent", channels, cell=cell, causal=causal)
    assert module.rnn.hidden_size == hidden
    x = noise(1, channels, 6)
    tokens = x[0].T
    states = read_step_by_step(module.rnn, tokens, cell)
    if not causal:
        back = read_step_by_step(module.rnn, tokens.flip(0), cell, "_reverse").flip(0)
        states = torch.cat([states, back], dim=1)
    torch.testing.assert_close(module(x)[0], x[0] + module.proj(states).T)


# --- dilated_conv_block ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dilation", [1, 4])
def test_dilated_conv_block_is_two_convolutions_after_gelus(dilation):
    module = build("dilated_conv_block", 6, dilation=dilation)
    x = noise(2, 6, 10)
    y = x
    for f in (module.first, module.second):
        y = F.conv1d(F.gelu(y), f.weight, f.bias, dilation=dilation, padding="same")
    torch.testing.assert_close(module(x), x + y)


def test_dilated_conv_block_steps_over_neighbours():
    module = build("dilated_conv_block", 6, dilation=3)
    x = noise(1, 6, 25).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, :, 12].sum(), x)
    assert gradient[0].any(dim=0).nonzero().flatten().tolist() == [6, 9, 12, 15, 18]
