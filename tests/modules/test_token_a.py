"""Token mixers, first half: against trusted layers with the same weights, and against their equations, slowly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from nasbench.builtin.modules.token.relu_linear_attention import _attend as relu_attend
from support.modules import attend, build, flat, noise
from timm.models.efficientvit_mit import LiteMLA
from timm.models.swiftformer import EfficientAdditiveAttention
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_module
from nasbench.ops.position import sinusoidal

SIZES = {1: (9,), 2: (4, 5)}


def unflat(tokens: Tensor, x: Tensor) -> Tensor:
    return tokens.transpose(1, 2).reshape(x.shape)


def copy_weights(target: nn.Module, source: nn.Module) -> nn.Module:
    """Copy parameter by parameter in the order of registration."""
    target = target.double().eval()
    for mine, theirs in zip(target.state_dict().values(), source.state_dict().values(), strict=True):
        mine.copy_(theirs)
    return target


def stretch(length: int, side: int) -> Tensor:
    """Matrix `(side, length)` of linear interpolation with pixels as cells (half-pixel centres, clamped)."""
    matrix = torch.zeros(side, length, dtype=torch.float64)
    for i in range(side):
        at = min(max((i + 0.5) * length / side - 0.5, 0), length - 1)
        low = math.floor(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, length - 1)] += at - low
    return matrix


@pytest.mark.parametrize(
    ("name", "channels", "hyper", "expected"),
    [
        ("self_attention", 32, {}, 4 * 32**2 + 6 * 32),
        ("self_attention", 32, {"heads": 4, "position": "relative"}, 4 * 32**2 + 6 * 32 + 4 * 13**2),
        ("self_attention", 32, {"heads": 4, "position": "relative", "dims": 1}, 4 * 32**2 + 6 * 32 + 4 * 13),
        ("transformer_block", 32, {}, 12 * 32**2 + 13 * 32),
        ("external_attention", 32, {}, 2 * 32**2 + 3 * 32 + 2 * 32 * 64),
        ("muse", 32, {"dims": 1, "heads": 4}, 13 * 32**2 + 9 * 32 + 32 * 4 * (3 + 15) + 2),
        ("muse", 32, {"dims": 2, "heads": 4}, 13 * 32**2 + 9 * 32 + 32 * 4 * (9 + 25) + 2),
        ("agent_attention", 32, {"agents": 16, "heads": 2}, 4 * 32**2 + 14 * 32 + 2 * 16 * (98 + 4 * 14)),
        ("agent_attention", 32, {"agents": 5, "heads": 2, "dims": 1}, 4 * 32**2 + 8 * 32 + 2 * 5 * (14 + 2 * 14)),
        ("relu_linear_attention", 32, {"heads": 2}, 4 * 32**2 + 2 * 32 + 32**2 + 3 * 32 * 25 + 3 * 32**2 // 2),
        ("relu_linear_attention", 32, {"scales": ()}, 4 * 32**2 + 2 * 32),
        ("additive_attention", 32, {}, 4 * 32**2 + 5 * 32),
        ("dilated_attention", 32, {}, 4 * 32**2 + 4 * 32),
        ("hilo_attention", 32, {"heads": 4, "alpha": 0.25}, 3 * 32**2 + 24**2 + 8**2 + 4 * 32),
        ("hilo_attention", 32, {"window": 1}, 4 * 32**2 + 4 * 32),
    ],
)
def test_parameter_counts(name: str, channels: int, hyper: dict, expected: int):
    assert sum(p.numel() for p in create_module(name, channels, **hyper).parameters()) == expected


@pytest.mark.parametrize(
    ("name", "channels", "hyper", "message"),
    [
        ("self_attention", 32, {"heads": 5}, "heads is 5; it must divide the 32 channels"),
        ("self_attention", 32, {"position": "learned"}, "allowed: 'none' or 'sinusoidal' or 'relative'"),
        ("transformer_block", 32, {"norm": "batch"}, "norm is 'batch'; allowed: 'pre' or 'post'"),
        ("external_attention", 8, {"memory": 0}, "memory is 0"),
        ("muse", 8, {"kernels": (3, 4)}, "odd"),
        ("muse", 8, {"kernels": ()}, "1 or more values"),
        ("agent_attention", 8, {"agents": 0}, "agents is 0"),
        ("agent_attention", 8, {"window": 0}, "window is 0"),
        ("relu_linear_attention", 8, {"scales": (3, 2)}, "odd"),
        ("dilated_attention", 5, {}, "5 channels cannot be shared evenly by the dilations"),
        ("dilated_attention", 8, {"dilations": ()}, "1 or more values"),
        ("dilated_attention", 8, {"dilations": (0, 1)}, "at least 1"),
        ("dilated_attention", 8, {"kernel": 2}, "odd"),
        ("dilated_attention", 12, {"heads": 4}, "be a multiple of 3"),
        ("hilo_attention", 8, {"alpha": 1.5}, "at least 0, at most 1"),
        ("hilo_attention", 8, {"window": 0}, "at least 1"),
        ("hilo_attention", 8, {"heads": 3}, "heads is 3; it must divide the 8 channels"),
    ],
)
def test_what_cannot_be_served_is_refused(name: str, channels: int, hyper: dict, message: str):
    with pytest.raises(UnsupportedError, match=message):
        create_module(name, channels, **hyper)


# self_attention and transformer_block


def torch_attention(module: nn.Module, channels: int, heads: int) -> nn.MultiheadAttention:
    trusted = nn.MultiheadAttention(channels, heads, batch_first=True).double().eval()
    with torch.no_grad():
        trusted.in_proj_weight.copy_(module.qkv.weight)
        trusted.in_proj_bias.copy_(module.qkv.bias)
        trusted.out_proj.load_state_dict(module.proj.state_dict())
    return trusted


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("position", ["none", "sinusoidal"])
def test_self_attention_is_torchs(dims: int, causal: bool, position: str):
    module = build("self_attention", 12, dims=dims, heads=3, causal=causal, position=position)
    x = noise(2, 12, *SIZES[dims])
    tokens = flat(x)
    normed = module.norm(tokens)
    if position == "sinusoidal":
        normed = normed + sinusoidal(SIZES[dims], 12).double()
    mask = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool() if causal else None
    attended, _ = torch_attention(module.attention, 12, 3)(normed, normed, normed, attn_mask=mask)
    assert torch.allclose(module(x), unflat(tokens + attended, x))


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_adds_the_relative_bias_to_the_logits(causal: bool):
    module = build("self_attention", 8, dims=1, heads=2, position="relative", causal=causal)
    x = noise(1, 8, 7)
    q, k, v = module.attention.qkv(module.norm(flat(x)))[0].chunk(3, dim=-1)
    bias = torch.empty(2, 7, 7, dtype=torch.float64)
    for i in range(7):
        for j in range(7):
            bias[:, i, j] = -math.inf if causal and j > i else module.attention.bias.table[:, i - j + 6]
    attended = module.attention.proj(attend(q, k, v, 2, bias))
    assert torch.allclose(module(x), x + unflat(attended[None], x))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [False, True])
def test_transformer_block_is_torchs(norm: str, causal: bool):
    module = build("transformer_block", 12, heads=3, norm=norm, causal=causal)
    eps = 1e-12 if norm == "post" else 1e-5 if causal else 1e-6
    trusted = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0, activation="gelu", layer_norm_eps=eps, batch_first=True, norm_first=norm == "pre"
    ).double()  # left in training mode: evaluation takes a fused kernel
    trusted.self_attn = torch_attention(module.attention, 12, 3)
    trusted.linear1, trusted.linear2 = module.ffn[0], module.ffn[2]
    trusted.norm1.load_state_dict(module.norm1.state_dict())
    trusted.norm2.load_state_dict(module.norm2.state_dict())
    x = 1e-3 * noise(2, 12, 4, 5)  # small enough for eps to show
    mask = nn.Transformer.generate_square_subsequent_mask(20, dtype=torch.float64) if causal else None
    assert torch.allclose(module(x), unflat(trusted(flat(x), src_mask=mask), x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("self_attention", {}),
        ("self_attention", {"position": "sinusoidal"}),
        ("self_attention", {"position": "relative"}),
        ("transformer_block", {"norm": "pre"}),
        ("transformer_block", {"norm": "post"}),
    ],
)
@pytest.mark.parametrize("dims", [1, 2])
def test_causal_attention_sees_nothing_of_the_future(name: str, hyper: dict, dims: int):
    if name == "self_attention":
        hyper = {**hyper, "dims": dims}
    module = build(name, 8, heads=2, causal=True, **hyper)
    x = noise(1, 8, *SIZES[dims]).requires_grad_()
    out = module(x).flatten(2)
    for i in range(out.shape[-1]):
        (gradient,) = torch.autograd.grad(out[0, :, i].sin().sum(), x, retain_graph=True)
        reach = gradient.flatten(2).abs().sum(dim=(0, 1))
        assert not reach[i + 1 :].any()
        assert (reach[: i + 1] > 0).all()


# agent_attention


@pytest.mark.parametrize(
    ("size", "agents", "grid"), [((14, 14), 4, (2, 2)), ((5, 9), 6, (2, 3)), ((1, 1), 4, (2, 2)), ((9,), 5, (5,))]
)
def test_agent_attention_is_two_plain_attentions_with_biases(size: tuple[int, ...], agents: int, grid: tuple[int, ...]):
    dims, heads = len(size), 2
    module = build("agent_attention", 8, dims=dims, agents=agents, heads=heads)
    x = noise(1, 8, *size)
    q, k, v = module.qkv(flat(x))[0].chunk(3, dim=-1)
    field = q.T.reshape(8, *size)
    for axis, (side, cells) in enumerate(zip(size, grid, strict=True), start=1):
        # A cell of an adaptive pool goes from floor(i S / n) to ceil((i + 1) S / n).
        bins = [range(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)]
        field = torch.stack([field.index_select(axis, torch.tensor(b)).mean(axis) for b in bins], dim=axis)
    a = field.flatten(1).T

    def whole(table: Tensor, lines: list[Tensor]) -> Tensor:
        """The grid `(heads, n, *7)` and one line `(heads, n, 14)` an axis, stretched and added: `(heads, n, N)`."""
        grown = [stretch(7, side) for side in size]
        if dims == 1:
            bias = table @ grown[0].T
            return bias + lines[0] @ stretch(14, size[0]).T
        bias = grown[0] @ table @ grown[1].T
        rows, columns = (line @ stretch(14, side).T for line, side in zip(lines, size, strict=True))
        return (bias + rows[..., :, None] + columns[..., None, :]).flatten(2)

    names = ("h", "w")[:dims]
    into = [getattr(module, f"a{n}_bias").reshape(heads, agents, 14) for n in names]
    out_of = [getattr(module, f"{n}a_bias").reshape(heads, 14, agents).transpose(1, 2) for n in names]
    found = attend(a, k, v, heads, whole(module.an_bias, into))
    read = attend(q, a, found, heads, whole(module.na_bias, out_of).transpose(1, 2))
    local = module.dwc(v.T.reshape(1, 8, *size))
    assert torch.allclose(module(x), unflat(module.proj(read[None] + flat(local)), x))


def test_agents_that_make_no_square_are_pooled_from_an_oblong():
    assert [create_module("agent_attention", 16, agents=n).grid for n in (1, 7, 12, 49)] == [
        (1, 1),
        (1, 7),
        (3, 4),
        (7, 7),
    ]


# external_attention


@pytest.mark.parametrize("dims", [1, 2])
def test_external_attention_normalises_over_positions_then_over_memory(dims: int):
    module = build("external_attention", 6, dims=dims, memory=5)
    x = noise(2, 6, *SIZES[dims])
    scores = torch.einsum("sc,bcn->bsn", module.key_memory.weight[..., 0], module.conv1(x).flatten(2))
    attention = torch.empty_like(scores)
    for b in range(2):
        for s in range(5):
            attention[b, s] = scores[b, s].exp() / scores[b, s].exp().sum()
        for n in range(scores.shape[-1]):
            attention[b, :, n] /= 1e-9 + attention[b, :, n].abs().sum()
    read = torch.einsum("cs,bsn->bcn", module.value_memory.weight[..., 0], attention).reshape(x.shape)
    assert torch.allclose(module(x), F.relu(x + module.conv2[1](module.conv2[0](read))))


def test_external_memories_are_two_tensors():
    module = create_module("external_attention", 6, memory=5)
    keys, values = module.key_memory.weight, module.value_memory.weight
    before = values.clone()
    with torch.no_grad():
        keys.add_(1)
    assert torch.equal(values, before)


# muse


def slow_dynamic(module: nn.Module, v: Tensor, size: tuple[int, ...]) -> Tensor:
    """The gated dynamic convolutions of `(N, C)` values, position by position and head by head."""
    gates = module.gates.exp() / module.gates.exp().sum()
    width = v.shape[1] // module.heads
    positions = list(torch.cartesian_prod(*map(torch.arange, size)).reshape(-1, len(size)).tolist())
    where = {tuple(p): i for i, p in enumerate(positions)}
    out = torch.zeros_like(v)
    for gate, kernel, layer in zip(gates, module.kernels, module.weights, strict=True):
        reach = torch.arange(-(kernel // 2), kernel // 2 + 1)
        offsets = torch.cartesian_prod(*[reach] * len(size)).reshape(-1, len(size)).tolist()
        for n, position in enumerate(positions):
            logits = layer(v[n]).reshape(module.heads, len(offsets))
            weights = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
            for j, offset in enumerate(offsets):
                m = where.get(tuple(p + o for p, o in zip(position, offset, strict=True)))
                if m is not None:
                    out[n] += gate * weights[:, j].repeat_interleave(width) * v[m]
    return out


@pytest.mark.parametrize(("dims", "kernels"), [(1, (3, 15)), (2, (3, 5))])
def test_muse_is_attention_beside_dynamic_convolutions(dims: int, kernels: tuple[int, ...]):
    module = build("muse", 8, dims=dims, heads=2)
    assert module.kernels == kernels
    x = noise(1, 8, *SIZES[dims])
    tokens = flat(x)[0]
    q, k, v = module.qkv(tokens).chunk(3, dim=-1)
    both = torch.cat([attend(q, k, v, 2), slow_dynamic(module, v, SIZES[dims])], dim=1)
    out = module.proj(both) + module.ffn[2](F.relu(module.ffn[0](tokens)))
    assert torch.allclose(module(x), unflat(out[None], x))


def test_muse_gates_are_parameters_that_stay():
    module = create_module("muse", 8).train()
    gates, before = module.gates, module.gates.detach().clone()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for mode in (True, False):
        module.train(mode)(torch.randn(2, 8, 4, 4))
        assert module.gates is gates
        assert torch.equal(gates, before)
    module(torch.randn(2, 8, 4, 4)).square().sum().backward()
    optimiser.step()
    assert not torch.equal(module.gates, before)


# relu_linear_attention


@pytest.mark.parametrize("scales", [(5,), (3, 5)])
@pytest.mark.parametrize("size", [(4, 5), (1, 1)])
def test_relu_linear_attention_is_timms_with_the_papers_eps(scales: tuple[int, ...], size: tuple[int, int]):
    module = build("relu_linear_attention", 12, heads=3, scales=scales)
    trusted = LiteMLA(12, 12, heads=3, dim=4, scales=scales, eps=1e-15)
    trusted = copy_weights(trusted, module)
    x = noise(2, 12, *size)
    assert torch.allclose(module(x), trusted(x), rtol=1e-5, atol=1e-5)  # timm sums in float32


def test_relu_linear_attention_is_its_quadratic_form():
    module = build("relu_linear_attention", 6, heads=2, scales=())
    x = noise(1, 6, 3, 4)
    heads = module.qkv(x).reshape(2, 3, 3, 12)  # head, which of q, k and v, channel, position
    out = []
    for q, k, v in heads:
        similar = F.relu(q).T @ F.relu(k)
        out.append(v @ (similar / (similar.sum(dim=1, keepdim=True) + 1e-15)).T)
    assert torch.allclose(module(x), module.proj(torch.cat(out).reshape(1, 6, 3, 4)))


def test_relu_linear_attention_sums_in_float32_under_autocast():
    qkv = torch.randn(1, 2, 12, 300).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = relu_attend(qkv)
    assert out.dtype == torch.float32
    assert torch.equal(out, relu_attend(qkv.float()))


# additive_attention


def test_additive_attention_is_timms():
    module = build("additive_attention", 12)
    trusted = copy_weights(EfficientAdditiveAttention(12, 12), module)
    x = noise(2, 12, 4, 5)
    assert torch.allclose(module(x), trusted(x))


def test_additive_attention_position_by_position():
    module = build("additive_attention", 6)
    x = noise(1, 6, 9)
    q = [t / t.norm() for t in module.to_query(flat(x)[0])]
    k = [t / t.norm() for t in module.to_key(flat(x)[0])]
    scores = [(t @ module.w_g).item() / math.sqrt(6) for t in q]
    length = math.sqrt(sum(a**2 for a in scores))
    everything = sum(a / length * t for a, t in zip(scores, q, strict=True))
    out = [module.final(module.proj(everything * key) + query) for query, key in zip(q, k, strict=True)]
    assert torch.allclose(module(x), torch.stack(out, dim=1)[None])


# dilated_attention


@pytest.mark.parametrize(
    ("channels", "hyper", "dilations", "heads"),
    [
        (8, {}, (1, 2), 2),
        (12, {"heads": 6}, (1, 2, 3), 6),
        (8, {"dilations": (1,), "heads": 2, "kernel": 5}, (1,), 2),
    ],
)
def test_dilated_attention_loops_over_zero_padded_windows(
    channels: int, hyper: dict, dilations: tuple[int, ...], heads: int
):
    module = build("dilated_attention", channels, **hyper)
    assert module.dilations == dilations
    x = noise(1, channels, 4, 5)
    q, k, v = module.qkv(x)[0].chunk(3)
    reach = hyper.get("kernel", 3) // 2
    width = channels // heads
    out = torch.zeros_like(q)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        step = dilations[head // (heads // len(dilations))]
        for row in range(4):
            for column in range(5):
                logits, values = [], []
                for i in range(-reach, reach + 1):
                    for j in range(-reach, reach + 1):
                        r, c = row + i * step, column + j * step
                        inside = 0 <= r < 4 and 0 <= c < 5
                        zero = torch.zeros(width, dtype=torch.float64)
                        key, value = (k[part, r, c], v[part, r, c]) if inside else (zero, zero)
                        logits.append(q[part, row, column] @ key / math.sqrt(width))
                        values.append(value)
                weights = torch.stack(logits).softmax(dim=0)
                out[part, row, column] = weights @ torch.stack(values)
    assert torch.allclose(module(x), unflat(module.proj(flat(out[None])), x))


def test_dilated_attention_has_three_dilations_where_three_divides_the_channels():
    heads = {c: c // create_module("dilated_attention", c).head_dim for c in (8, 9, 48, 96, 192, 64)}
    assert heads == {8: 2, 9: 3, 48: 3, 96: 6, 192: 6, 64: 4}


# hilo_attention


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1), (3, 4)])
@pytest.mark.parametrize(("window", "alpha", "low"), [(2, 0.5, 2), (3, 0.25, 1), (2, 0.0, 0), (2, 1.0, 4)])
def test_hilo_attention_window_by_window(size: tuple[int, int], window: int, alpha: float, low: int):
    module = build("hilo_attention", 8, heads=4, window=window, alpha=alpha)
    x = noise(1, 8, *size)
    height, width = (-(-side // window) * window for side in size)
    padded = torch.zeros(height, width, 8, dtype=torch.float64)
    padded[: size[0], : size[1]] = x[0].permute(1, 2, 0)
    parts = []
    windows = [
        (slice(i, i + window), slice(j, j + window)) for i in range(0, height, window) for j in range(0, width, window)
    ]
    if low < 4:
        high = torch.zeros(height, width, 2 * (4 - low), dtype=torch.float64)
        for place in windows:
            q, k, v = module.h_qkv(padded[place].reshape(-1, 8)).chunk(3, dim=-1)
            high[place] = module.h_proj(attend(q, k, v, 4 - low)).reshape(window, window, -1)
        parts.append(high[: size[0], : size[1]])
    if low:
        means = torch.stack([padded[place].reshape(-1, 8).mean(dim=0) for place in windows])
        k, v = module.l_kv(means).chunk(2, dim=-1)
        q = module.l_q(flat(x)[0])
        parts.append(module.l_proj(attend(q, k, v, low)).reshape(*size, -1))
    assert torch.allclose(module(x)[0], torch.cat(parts, dim=-1).permute(2, 0, 1))


def test_hilo_attention_with_windows_of_one_is_ordinary_attention():
    module = build("hilo_attention", 8, heads=2, window=1, alpha=0.0)
    x = noise(1, 8, 3, 5)
    tokens = flat(x)[0]
    k, v = module.l_kv(tokens).chunk(2, dim=-1)
    out = module.l_proj(attend(module.l_q(tokens), k, v, 2))
    assert torch.allclose(module(x), unflat(out[None], x))


def test_hilo_attention_has_both_kinds_of_heads_wherever_the_channels_allow_it():
    modules = {c: create_module("hilo_attention", c) for c in (1, 2, 3, 11, 64, 96)}
    assert {c: (m.high_heads, m.low_heads) for c, m in modules.items()} == {
        1: (1, 0),
        2: (1, 1),
        3: (2, 1),
        11: (1, 0),
        64: (2, 2),
        96: (3, 3),
    }
