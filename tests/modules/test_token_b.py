"""Token mixers, second half: each against its equations written out slowly, values worked out by hand, and counts."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from support.modules import attend, build, flat, noise
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_module
from nasbench.ops.offsets import window_offsets

NAMES = (
    "pyramid_pool_attention",
    "token_dictionary",
    "dual_aggregation",
    "dual_vit",
    "deformable_attention",
    "query_attention",
    "vector_quantise",
    "multiway_ffn",
)


# --- every module ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (9, 5), (17, 33)])
def test_any_size_is_served_and_items_do_not_mix(name, size):
    module = build(name, 16)
    x = noise(2, 16, *size)
    y = module(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    torch.testing.assert_close(module(x[:1]), y[:1])


@pytest.mark.parametrize(
    ("name", "hyper", "count"),
    [
        # q, kv, proj: 4C² + 4C; four dw 3x3 with bias: 40C; layer norm: 2C
        ("pyramid_pool_attention", {}, 4 * 64**2 + 4 * 64 + 40 * 64 + 2 * 64),
        # dictionary 64C, sharpness 64, scale 1, table 15² heads, norm 2C, qkv + 3 projections 6C² + 6C, 2 ranks 10
        ("token_dictionary", {}, 64 * 64 + 64 + 1 + 225 * 4 + 128 + 6 * 64**2 + 6 * 64 + 2 * (64 * 10 + 10)),
        # qkv, proj 4C² + 4C; dw + BN 12C; channel map C -> 8 -> C; spatial map C -> 4 -> 1; two position networks of
        # width 4 for 2 heads: 2 -> 4 (12), LN 4 -> 4 (28) twice, LN 4 -> 2 heads (18)
        (
            "dual_aggregation",
            {},
            4 * 64**2 + 4 * 64 + 12 * 64 + (64 * 8 + 8 + 16 + 8 * 64 + 64) + (64 * 4 + 4 + 8 + 4 + 1) + 2 * 86,
        ),
        (
            "dual_aggregation",
            {"kind": "channel"},
            4 + 4 * 64**2 + 4 * 64 + 12 * 64 + (64 * 8 + 8 + 16 + 8 * 64 + 64) + (64 * 4 + 4 + 8 + 4 + 1),
        ),
        # q, kv, proj, q', kv': 7C² + 7C; self-attention 3C² + 3C; MLP 8C² + 5C; four norms 8C; three scales 3C
        ("dual_vit", {}, 18 * 64**2 + 26 * 64),
        # offsets 4 heads 4 points 2, weights 4 heads 4 points, value and projection
        ("deformable_attention", {}, 65 * 32 + 65 * 16 + 2 * 65 * 64),
        ("query_attention", {}, 100 * 64 + 2 * (4 * 64**2 + 4 * 64)),
        ("vector_quantise", {}, 0),
        ("multiway_ffn", {}, 2 * (8 * 64**2 + 5 * 64) + 2 * 64 + 2),
    ],
)
def test_parameter_count(name, hyper, count):
    module = create_module(name, 64, **hyper)
    assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize(
    ("name", "channels", "hyper", "message"),
    [
        ("pyramid_pool_attention", 12, {"heads": 5}, "divide the 12 channels"),
        ("pyramid_pool_attention", 12, {"ratios": ()}, "1 or more values"),
        ("pyramid_pool_attention", 12, {"ratios": (0.5, 2)}, "at least 1"),
        ("token_dictionary", 12, {"heads": 5}, "divide the 12 channels"),
        ("token_dictionary", 12, {"memory": 0}, "at least 1"),
        ("dual_aggregation", 12, {"kind": "both"}, "allowed: 'spatial' or 'channel'"),
        ("dual_aggregation", 13, {}, "even count"),
        ("dual_aggregation", 12, {"heads": 3}, "multiple of 2"),
        ("dual_aggregation", 12, {"kind": "channel", "heads": 5}, "divide the 12 channels"),
        ("dual_aggregation", 12, {"window": (0, 4)}, "2 whole numbers, at least 1"),
        ("dual_vit", 12, {"heads": 5}, "divide the 12 channels"),
        ("dual_vit", 12, {"grid": 0}, "at least 1"),
        ("deformable_attention", 12, {"heads": 5}, "divide the 12 channels"),
        ("deformable_attention", 12, {"points": 0}, "at least 1"),
        ("query_attention", 12, {"heads": 5}, "divide the 12 channels"),
        ("query_attention", 12, {"queries": 0}, "at least 1"),
        ("vector_quantise", 12, {"codes": 0}, "at least 1"),
        ("multiway_ffn", 12, {"expansion": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_built_is_said(name, channels, hyper, message):
    with pytest.raises(UnsupportedError, match=message):
        create_module(name, channels, **hyper)


# --- deformable_attention -------------------------------------------------------------------------------------------


def test_deformable_attention_samples_bilinearly():
    heads, points, height, width = 2, 3, 4, 5
    module = build("deformable_attention", 6, heads=heads, points=points)
    x = noise(1, 6, height, width)
    value = module.value(flat(x)).view(height, width, heads, 3)

    def at(row: int, column: int, head: int) -> Tensor:
        inside = 0 <= row < height and 0 <= column < width
        return value[row, column, head] if inside else torch.zeros(3, dtype=torch.float64)

    mixed = torch.zeros(height, width, heads, 3, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            query = x[0, :, i, j]
            offsets = module.offsets(query).view(heads, points, 2)
            weights = module.weights(query).view(heads, points).softmax(-1)
            for h in range(heads):
                for k in range(points):
                    column, row = j + offsets[h, k, 0].item(), i + offsets[h, k, 1].item()
                    c, r = math.floor(column), math.floor(row)
                    for dr, dc in ((0, 0), (0, 1), (1, 0), (1, 1)):
                        share = (1 - abs(row - r - dr)) * (1 - abs(column - c - dc))
                        mixed[i, j, h] += weights[h, k] * share * at(r + dr, c + dc, h)
    expected = module.proj(mixed.view(height, width, 6)).permute(2, 0, 1)
    torch.testing.assert_close(module(x)[0], expected)


def test_deformable_attention_starts_as_rings():
    module = create_module("deformable_attention", 128, heads=8, points=2)
    rings = module.offsets.bias.view(8, 2, 2)  # head, point, (x, y)
    first = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    torch.testing.assert_close(rings[:, 0], torch.tensor(first).float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(rings[:, 1], 2 * rings[:, 0])
    assert not module.offsets.weight.any()
    assert not module.weights.weight.any()
    assert not module.weights.bias.any()


def test_deformable_attention_keeps_locations_in_float32():
    module = create_module("deformable_attention", 16, heads=1, points=1)  # looks one pixel to the right
    nn.init.eye_(module.value.weight)
    nn.init.eye_(module.proj.weight)
    x = torch.zeros(1, 16, 1, 400)
    x[..., 301] = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    assert y[0, 0, 0].float().nonzero().flatten().tolist() == [300]


# --- vector_quantise ------------------------------------------------------------------------------------------------


def small_codebook() -> nn.Module:
    module = create_module("vector_quantise", 2, dims=1, codes=3)
    module.codebook.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    module.cluster_sum.copy_(module.codebook)
    module.cluster_size.fill_(1.0)
    return module


POSITIONS = torch.tensor([[[1.0, 3.0, 0.0], [1.0, 0.0, 1.0]]])  # (1, 2, 3): (1, 1), (3, 0) and (0, 1)


def test_vector_quantise_takes_the_nearest_code():
    y = small_codebook().eval()(POSITIONS)
    torch.testing.assert_close(y, torch.tensor([[[0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]]))


def test_vector_quantise_passes_gradients_straight_through():
    module = small_codebook().eval()
    x = POSITIONS.clone().requires_grad_()
    weight = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    (module(x) * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)


def test_vector_quantise_commitment_loss_by_hand():
    module = small_codebook()
    x = POSITIONS.clone().requires_grad_()
    module(x)
    # (x - e)²: 1 + 1, 1 + 0, 0 + 1; their mean over 6 values, times 0.25
    assert module.aux_loss.item() == pytest.approx(0.25 * 4 / 6)
    module.aux_loss.backward()
    torch.testing.assert_close(x.grad, 0.25 * 2 / 6 * torch.tensor([[[1.0, -1.0, 0.0], [1.0, 0.0, 1.0]]]))


def test_vector_quantise_moves_its_codebook_by_hand():
    module = small_codebook()
    module(POSITIONS)
    # Code 0 took (1, 1) and (0, 1), code 1 took (3, 0), code 2 none: counts 2, 1, 0; all begin at 1, decay 0.99.
    torch.testing.assert_close(module.cluster_size, torch.tensor([1.01, 1.0, 0.99]))
    sums = torch.tensor([[0.01, 0.02], [0.99 * 4 + 0.03, 0.0], [0.0, 0.99 * 4]])
    torch.testing.assert_close(module.cluster_sum, sums)
    smoothed = (torch.tensor([1.01, 1.0, 0.99]) + 1e-5) / (3 + 3e-5) * 3
    torch.testing.assert_close(module.codebook, sums / smoothed[:, None])


def test_vector_quantise_starts_from_the_first_batch():
    module = create_module("vector_quantise", 2, codes=8)
    x = torch.tensor([30.0, -4.0]).view(1, 2, 1, 1).expand(4, 2, 3, 3)
    torch.testing.assert_close(module(x), x)  # replaced before the codes are assigned
    torch.testing.assert_close(module.codebook, torch.tensor([[30.0, -4.0]]).expand(8, 2), rtol=1e-4, atol=0)


def test_vector_quantise_replaces_dead_codes_alone():
    module = small_codebook()
    module.cluster_size.copy_(torch.tensor([1.0, 0.11, 0.09]))  # three positions for three codes: a fair use is 1
    module.cluster_sum.copy_(module.codebook * module.cluster_size[:, None])
    x = torch.full((1, 2, 3), 50.0)
    module(x)
    # Code 2 became (50, 50) with a count of 1, and took all three positions. The others keep their places.
    torch.testing.assert_close(module.cluster_size, torch.tensor([0.99, 0.1089, 0.99 + 0.03]))
    torch.testing.assert_close(module.codebook[2], torch.tensor([50.0, 50.0]), rtol=1e-3, atol=0)
    torch.testing.assert_close(module.codebook[1], torch.tensor([4.0, 0.0]), rtol=1e-3, atol=0)


def test_vector_quantise_uses_its_codes_behind_a_relu():
    torch.manual_seed(0)
    module = create_module("vector_quantise", 64, codes=128)
    clusters = 3 * torch.randn(64, 64).relu()

    def batch() -> Tensor:
        tokens = clusters[torch.randint(64, (4, 100))] + 0.1 * torch.randn(4, 100, 64)
        return tokens.relu().transpose(1, 2).unflatten(2, (10, 10))

    for _ in range(60):
        module(batch())
    x = batch()
    y = module.eval()(x)
    used = torch.cdist(flat(x).flatten(0, 1), module.codebook).argmin(dim=1).unique()
    assert len(used) > 55  # of 64 clusters
    assert 1 - (x - y).var() / x.var() > 0.8


def test_vector_quantise_is_the_same_under_one_seed():
    def codebook() -> Tensor:
        torch.manual_seed(3)
        module = create_module("vector_quantise", 4, codes=8)
        for _ in range(3):
            module(torch.randn(2, 4, 5, 5))
        return module.codebook

    assert torch.equal(codebook(), codebook())


def test_vector_quantise_runs_before_it_was_trained_and_on_an_empty_batch():
    module = create_module("vector_quantise", 4, codes=8)
    assert module(torch.randn(0, 4, 5, 5)).shape == (0, 4, 5, 5)
    assert module.aux_loss is None
    assert not module.cluster_size.any()
    assert module.eval()(torch.randn(2, 4, 5, 5)).isfinite().all()


def test_vector_quantise_changes_nothing_in_eval():
    module = small_codebook().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module(POSITIONS)
    assert module.aux_loss is None
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_vector_quantise_loss_is_left_out_of_copies():
    module = small_codebook()
    module(POSITIONS.clone().requires_grad_())
    assert module.aux_loss.grad_fn is not None
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other.aux_loss is None
        assert torch.equal(other.codebook, module.codebook)
    assert module.aux_loss is not None
    module.eval()
    assert module.aux_loss is None


# --- multiway_ffn, query_attention ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2])
def test_multiway_ffn_mixes_two_experts_at_each_position(dims):
    module = build("multiway_ffn", 5, dims=dims, expansion=3)
    x = noise(2, 5, *(3, 4)[:dims])
    route = module.route(flat(x)).softmax(-1)
    first, second = (expert[2](F.gelu(expert[0](flat(x)))) for expert in module.experts)
    assert module.experts[0][0].out_features == 15
    torch.testing.assert_close(flat(module(x)), route[..., :1] * first + route[..., 1:] * second)


@pytest.mark.parametrize("dims", [1, 2])
def test_query_attention_reads_and_writes(dims):
    module = build("query_attention", 6, dims=dims, queries=5, heads=2)
    x = noise(2, 6, *(3, 4)[:dims])

    def mha(layer: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = zip((query, key, value), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
        return layer.out_proj(attend(*(t @ w.T + b for t, w, b in parts), heads=2))

    for item, result in zip(flat(x), flat(module(x)), strict=True):
        found = mha(module.read, module.queries, item, item)
        torch.testing.assert_close(result, mha(module.write, item, found + module.queries, found))


# --- pyramid_pool_attention -----------------------------------------------------------------------------------------


def pooled(x: Tensor, height: int, width: int) -> Tensor:
    """Adaptive average pooling of `(C, H, W)`, cell by cell."""
    H, W = x.shape[1:]
    cell = [
        x[
            :,
            i * H // height : math.ceil((i + 1) * H / height),
            j * W // width : math.ceil((j + 1) * W / width),
        ].mean((1, 2))
        for i in range(height)
        for j in range(width)
    ]
    return torch.stack(cell, dim=1).view(-1, height, width)


@pytest.mark.parametrize(
    ("ratios", "size", "levels"),
    [
        ((2, 3), (7, 5), [(4, 2), (2, 2)]),  # 3.5 -> 4 and 2.5 -> 2: Python rounds halves to even, as P2T does
        ((12, 16, 20, 24), (28, 6), [(2, 1), (2, 1), (1, 1), (1, 1)]),  # 0 rows would be 1
        (None, (28, 14), [(5, 2), (4, 2), (3, 1), (2, 1)]),  # fitted: 6, 8, 10, 12
    ],
)
def test_pyramid_pool_attention_written_out(ratios, size, levels):
    module = build("pyramid_pool_attention", 6, heads=2, ratios=ratios)
    x = noise(1, 6, *size)
    keys = []
    for level, layer in zip(levels, module.local, strict=True):
        small = pooled(x[0], *level)[None]
        keys.append(flat(small + F.conv2d(small, layer.weight, layer.bias, padding=1, groups=6))[0])
    keys = F.layer_norm(torch.cat(keys), (6,), module.norm.weight, module.norm.bias)
    k, v = module.kv(keys).split(6, dim=1)
    expected = module.proj(attend(module.q(flat(x)[0]), k, v, heads=2))
    torch.testing.assert_close(flat(module(x))[0], expected)


# --- token_dictionary -----------------------------------------------------------------------------------------------


def neighbours_in_window(size: tuple[int, int], window: tuple[int, int]) -> list[list[int]]:
    """For each position of a map, the positions of its window, row by row."""
    cells = [(i, j) for i in range(size[0]) for j in range(size[1])]
    key = [(i // window[0], j // window[1]) for i, j in cells]
    return [[n for n, other in enumerate(key) if other == mine] for mine in key]


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_token_dictionary_written_out(size):
    heads, window, group = 2, 2, 9
    module = build("token_dictionary", 8, memory=3, heads=heads, window=window, group=group, rank=4)
    x = noise(1, 8, *size)
    tokens = flat(x)[0]
    normed = F.layer_norm(tokens, (8,), module.norm.weight, module.norm.bias)
    q, k, v = module.qkv(normed).split(8, dim=1)

    cosine = F.cosine_similarity(module.query(normed)[:, None], module.key(module.dictionary)[None], dim=-1)
    similarity = (cosine * (1 + module.sharpness.clamp(0, 1) * math.log(3))).softmax(-1)
    from_dictionary = similarity @ module.value(module.dictionary)

    best = similarity.argmax(-1).tolist()
    order = [n for entry in range(3) for n, mine in enumerate(best) if mine == entry]  # stable by construction
    alike = torch.zeros_like(tokens)
    for start in range(0, len(order), group):
        members = order[start : start + group]
        keys = members + order[len(order) - (group - len(members)) :]
        alike[members] = attend(q[members], k[keys], v[keys], heads, scale=module.group_scale.exp().item())

    near = torch.zeros_like(tokens)
    for n, members in enumerate(neighbours_in_window(size, (window, window))):
        rows = [n // size[1] - m // size[1] + window - 1 for m in members]
        columns = [n % size[1] - m % size[1] + window - 1 for m in members]
        table = module.position.view(2 * window - 1, 2 * window - 1, heads)
        bias = table[rows, columns].T[:, None]
        near[n] = attend(q[n : n + 1], k[members], v[members], heads, bias)[0]

    expected = tokens + from_dictionary + module.group_proj(alike) + module.window_proj(near)
    torch.testing.assert_close(flat(module(x))[0], expected)


def test_token_dictionary_limits_its_scales():
    module = build("token_dictionary", 8, memory=3, rank=4)
    x = noise(1, 8, 4, 4)
    with torch.no_grad():
        module.sharpness.fill_(1)
        module.group_scale.fill_(math.log(100))
        at_limit = module(x)
        module.sharpness.fill_(7)
        module.group_scale.fill_(9)
        assert torch.equal(module(x), at_limit)


# --- dual_aggregation -----------------------------------------------------------------------------------------------


def sequential(layers: nn.Sequential, x: Tensor) -> Tensor:
    """1x1 conv, batch norm in eval, GELU, 1x1 conv of `(C, ...)`, by their equations."""
    squeeze, norm, _, expand = layers
    shape = (-1, *(1,) * (x.ndim - 1))
    z = torch.tensordot(squeeze.weight[:, :, 0, 0], x, 1) + squeeze.bias.view(shape)
    z = (z - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-5).sqrt()
    z = F.gelu(z * norm.weight.view(shape) + norm.bias.view(shape))
    return torch.tensordot(expand.weight[:, :, 0, 0], z, 1) + expand.bias.view(shape)


def spatial_attention(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Windows of 2 x 3 for the first half of the channels and 3 x 2 for the second, of `(H, W, C)` maps."""
    H, W, C = q.shape
    out = torch.zeros_like(q)
    zero = torch.zeros(C // 2, dtype=q.dtype)
    for half, (h, w) in enumerate(((2, 3), (3, 2))):
        part = slice(half * C // 2, (half + 1) * C // 2)
        network = module.attention.halves[half].position
        for i in range(H):
            for j in range(W):
                cells = [(i // h * h + a, j // w * w + b) for a in range(h) for b in range(w)]
                inside = [r < H and c < W for r, c in cells]
                keys = torch.stack([k[r, c, part] if ok else zero for (r, c), ok in zip(cells, inside, strict=True)])
                values = torch.stack([v[r, c, part] if ok else zero for (r, c), ok in zip(cells, inside, strict=True)])
                offsets = torch.tensor([(i - r, j - c) for r, c in cells], dtype=q.dtype)
                bias = network(offsets).T[:, None]
                out[i, j, part] = attend(q[i, j, part][None], keys, values, heads // 2, bias)[0]
    return out


def channel_attention(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    H, W, C = q.shape
    width = C // heads
    q, k, v = (t.reshape(H * W, heads, width) for t in (q, k, v))
    out = torch.zeros_like(v)
    for head in range(heads):
        for a in range(width):
            cosine = [
                F.cosine_similarity(q[:, head, a], k[:, head, b], dim=0) * module.attention.temperature[head, 0, 0]
                for b in range(width)
            ]
            out[:, head, a] = v[:, head] @ torch.stack(cosine).softmax(0)
    return out.view(H, W, C)


@pytest.mark.parametrize("size", [(6, 6), (5, 4)])
@pytest.mark.parametrize("kind", ["spatial", "channel"])
def test_dual_aggregation_written_out(kind, size):
    heads = 4
    module = build("dual_aggregation", 128, kind=kind, heads=heads, window=(2, 3))
    x = noise(1, 128, *size)
    q, k, v = module.qkv(x[0].permute(1, 2, 0)).split(128, dim=-1)
    form = spatial_attention if kind == "spatial" else channel_attention
    attended = form(module, q, k, v, heads).permute(2, 0, 1)
    depthwise, norm, _ = module.local
    local = F.conv2d(v.permute(2, 0, 1)[None], depthwise.weight, depthwise.bias, padding=1, groups=128)
    local = F.batch_norm(local, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    local = F.gelu(local)[0]

    def channel_gate(t: Tensor) -> Tensor:
        return sequential(module.channel_map, t.mean((1, 2))).sigmoid()[:, None, None]

    def spatial_gate(t: Tensor) -> Tensor:
        return sequential(module.spatial_map, t).sigmoid()

    if kind == "spatial":
        mixed = attended * channel_gate(local) + local * spatial_gate(attended)
    else:
        mixed = attended * spatial_gate(local) + local * channel_gate(attended)
    torch.testing.assert_close(module(x)[0], module.proj(mixed.permute(1, 2, 0)).permute(2, 0, 1))


def test_dual_aggregation_heads_by_default():
    def heads(channels: int, kind: str) -> int:
        module = create_module("dual_aggregation", channels, kind=kind)
        return sum(half.heads for half in module.attention.halves) if kind == "spatial" else module.attention.heads

    assert [heads(c, "spatial") for c in (2, 16, 48, 64, 180, 512)] == [2, 2, 2, 4, 6, 8]
    assert [heads(c, "channel") for c in (2, 16, 48, 64, 512)] == [1, 1, 3, 4, 8]


def test_dual_aggregation_position_network_is_never_narrower_than_four():
    def width(channels: int) -> int:
        return create_module("dual_aggregation", channels).attention.halves[0].position[0].out_features

    assert [width(c) for c in (16, 64, 96, 128, 180)] == [4, 4, 4, 4, 5]


@pytest.mark.parametrize("channels", [16, 32, 64])
def test_dual_aggregation_biases_differ_by_offset(channels):
    """With a width of two, 43 of 60 networks gave one bias to all offsets at 32 channels."""
    for seed in range(20):
        torch.manual_seed(seed)
        half = create_module("dual_aggregation", channels).attention.halves[0]
        biases = half.position(window_offsets(half.window))
        assert len(biases.unique(dim=0)) > 100  # of 15 * 31 offsets


# --- dual_vit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 5), (2, 3)])
def test_dual_vit_written_out(size):
    module = build("dual_vit", 6, heads=2, grid=3)
    x = noise(1, 6, *size)
    tokens = flat(x)[0]

    def norm(layer: nn.LayerNorm, t: Tensor) -> Tensor:
        return F.layer_norm(t, (6,), layer.weight, layer.bias)

    z = flat(pooled(x[0], 3, 3)[None])[0]
    before, projection = module.semantic_qkv
    z = z + module.gamma1 * attend(*projection(norm(before, z)).split(6, dim=1), heads=2)
    z = z + module.gamma2 * attend(
        module.semantic_q(norm(module.norm_q, z)), *module.semantic_kv(tokens).split(6, dim=1), heads=2
    )
    z = z + module.gamma3 * module.mlp[2](module.mlp[0](norm(module.norm_mlp, z)).clamp(min=0))
    y = attend(module.q(tokens), *module.kv(norm(module.norm_kv, z)).split(6, dim=1), heads=2)
    torch.testing.assert_close(flat(module(x))[0], module.proj(y))


def test_dual_vit_layer_scales_start_small():
    module = create_module("dual_vit", 8)
    for gamma in (module.gamma1, module.gamma2, module.gamma3):
        torch.testing.assert_close(gamma.detach(), torch.full((8,), 1e-6), rtol=0, atol=0)
