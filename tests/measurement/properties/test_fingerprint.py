"""The five properties on cases whose influence is known by hand."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError, UnknownNameError, UnsupportedError
from nasbench.library.modules import module_spec, module_specs
from nasbench.measurement.properties.fingerprint import fingerprint, fingerprint_plan
from nasbench.measurement.properties.influence import cells
from nasbench.measurement.properties.plain_norms import PlainNorms
from nasbench.measurement.properties.record import has
from nasbench.measurement.properties.rings import row_figures
from nasbench.measurement.properties.subject import open_gates, run, subject_of
from nasbench.report import fingerprints as pictures
from nasbench.report.plotting import save_figure

C = 8
SPATIAL = ("locality", "globality", "sparsity", "multiscale")


class Mix(nn.Module):
    """`y_u = Σ_v W_uv A x_v`: the influence of v on u is |W_uv| times a constant."""

    def __init__(self, weights, channels=C):
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.mixing = nn.Parameter(torch.randn(channels, channels))

    def forward(self, x):
        return torch.einsum("uv,dc,bcv->bdu", self.weights, self.mixing, x.flatten(2)).reshape(x.shape)


class Windows(nn.Module):
    """Uniform attention in windows."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, x):
        mean = nn.functional.avg_pool2d(x, self.side, ceil_mode=True)
        return mean.repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)[..., : x.shape[2], : x.shape[3]]


class Fourier(nn.Module):
    """A global filter: complex, one a channel, drawn in the frequency domain for any size."""

    def forward(self, x):
        spectrum = torch.fft.rfft2(x)
        generator = torch.Generator().manual_seed(0)
        filter = torch.randn(spectrum.shape[1:], generator=generator, dtype=torch.complex64).to(x.device)
        return torch.fft.irfft2(spectrum * filter, s=x.shape[2:])


def uniform(channels):
    """Attention with equal weights."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample((16, 16)))


def depthwise(kernel, dims=2, dilation=1):
    conv = {1: nn.Conv1d, 2: nn.Conv2d}[dims]
    made = conv(C, C, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=C)
    nn.init.ones_(made.weight)
    return made


def slow_figures(influence, size):
    """The definition, position by position, in plain Python: what every vectorised form is held against."""
    places = list(itertools.product(*map(range, size)))
    found = {name: [] for name in SPATIAL}
    for u, row in zip(places, influence, strict=True):
        distance = [max(abs(a - b) for a, b in zip(u, v, strict=True)) for v in places]
        off = [value if d else 0.0 for value, d in zip(row, distance, strict=True)]
        total = sum(off)
        if total < 0.01 * sum(row):
            continue
        others = [d for d in distance if d]
        found["locality"].append(sum(o for o, d in zip(off, distance, strict=True) if d == 1) / total)
        mean = sum(o * d for o, d in zip(off, distance, strict=True)) / total
        found["globality"].append(mean / (sum(others) / len(others)))
        kept = [v for v, o in zip(places, off, strict=True) if o >= 0.01 * max(off)] + [u]
        low, high = ([f(p[a] for p in kept) for a in range(len(size))] for f in (min, max))
        box = [k for k, v in enumerate(places) if v != u and all(low[a] <= v[a] <= high[a] for a in range(len(size)))]
        found["sparsity"].append(sum(off[k] < 0.01 * max(off) for k in box) / len(box))
        rings, even = {}, {}
        for k in box:
            ring = int(math.log2(distance[k]))
            rings[ring], even[ring] = rings.get(ring, 0) + off[k], even.get(ring, 0) + 1
        room = math.log(len(rings)) - entropy(even.values())
        if len(rings) > 1 and room > 1e-9:
            found["multiscale"].append(max(0, (entropy(rings.values()) - entropy(even.values())) / room))
    return {name: sum(v) / len(v) if v else None for name, v in found.items()}


def entropy(weights):
    shares = [w / sum(weights) for w in weights]
    return -sum(s * math.log(s) for s in shares if s)


@pytest.mark.parametrize("size", [(5, 7), (17,)])
def test_the_definition_position_by_position(size):
    count = math.prod(size)
    torch.manual_seed(1)
    weights = torch.rand(count, count).pow(6) * (torch.rand(count, count) < 0.3)
    weights[3] = torch.eye(count)[3]  # a position that mixes nothing
    found = fingerprint(Mix(weights), size=size, inputs=1)
    truth = slow_figures(weights.double().tolist(), size)
    assert {name: getattr(found, name) for name in SPATIAL} == pytest.approx(truth, abs=1e-5)
    shares = weights / weights.sum(1, keepdim=True)
    assert found.self_influence == pytest.approx(float(shares.diagonal().mean()), abs=1e-5)
    centre = size[0] // 2 if len(size) == 1 else size[0] // 2 * size[1] + size[1] // 2
    assert found.influence.flatten() == pytest.approx(shares[centre].numpy(), abs=1e-5)
    assert found.exact


def test_a_pointwise_module_has_no_spatial_figures():
    found = fingerprint(nn.Conv2d(C, C, 1))
    assert found.globality == 0
    assert [found.locality, found.sparsity, found.multiscale] == [None] * 3
    assert found.pointwise
    assert (found.self_influence, found.complexity) == (1, pytest.approx(1, abs=0.01))
    assert (found.macs, found.macs_per_position, found.params) == (C * C * 256, C * C, C * C + C)
    assert fingerprint("none").complexity == 0


def test_a_3x3_kernel_is_local_and_dense():
    found = fingerprint(nn.Conv2d(C, C, 3, padding=1))
    assert found.locality == pytest.approx(1)
    assert found.sparsity == 0
    assert found.multiscale is None  # its reach is one ring
    assert [point.positions for point in found.cost_curve] == [64, 256, 1024, 4096]
    assert found.cost_curve[1].macs == 9 * C * C * 256


def test_a_7_tap_kernel_by_hand():
    found = fingerprint(depthwise(7, dims=1), size=(64,))
    near, distances = [], []
    for u in range(64):
        taps = [abs(u - v) for v in range(64) if 0 < abs(u - v) <= 3]
        near.append(taps.count(1) / len(taps))
        mean = sum(abs(u - v) for v in range(64)) / 63
        distances.append(sum(taps) / len(taps) / mean)
    assert found.locality == pytest.approx(sum(near) / 64)
    assert found.globality == pytest.approx(sum(distances) / 64)
    assert (found.sparsity, found.multiscale) == (0, pytest.approx(0))


def test_a_7x7_kernel_by_hand():
    found = fingerprint(depthwise(7), size=(16, 16))
    near, distances = [], []
    for u in itertools.product(range(16), repeat=2):
        d = [max(abs(u[0] - v), abs(u[1] - w)) for v in range(16) for w in range(16)]
        taps = [each for each in d if 0 < each <= 3]
        near.append(taps.count(1) / len(taps))  # inside: 8 of 48
        distances.append(sum(taps) / len(taps) / (sum(d) / 255))
    assert found.locality == pytest.approx(sum(near) / 256)
    assert found.globality == pytest.approx(sum(distances) / 256)
    assert (found.sparsity, found.multiscale) == (0, pytest.approx(0))
    assert (found.macs, found.params) == (49 * C * 256, 50 * C)


def test_attention_in_windows_by_hand():
    found = fingerprint(Windows(4), size=(8, 8), inputs=1)
    assert found.locality == pytest.approx((4 * 3 + 8 * 5 + 4 * 8) / 16 / 15)  # corners, edges, middle of a window
    assert (found.sparsity, found.multiscale) == (0, pytest.approx(0))
    assert found.self_influence == pytest.approx(1 / 16)
    assert found.globality < 0.6
    assert fingerprint(Windows(4), size=(16, 16), inputs=1).globality < found.globality


def test_an_fft_filter_by_hand():
    found = fingerprint(Fourier(), inputs=1)
    assert found.globality == pytest.approx(1, abs=0.03)
    assert found.locality == pytest.approx(0.0275, abs=0.01)  # as of a uniform map
    assert found.sparsity < 0.05
    assert found.macs == 0  # an FFT is no contraction


def test_a_dilated_kernel_is_sparse_and_not_local():
    found = fingerprint(depthwise(3, dims=1, dilation=2), size=(64,))
    assert (found.locality, found.sparsity) == (0, 0.5)  # of the 4 positions around u in its reach, 2 are not read
    assert found.multiscale is None  # as many positions at distance 1 as at distance 2: a uniform map is even already
    plane = fingerprint(depthwise(3, dilation=2))
    assert plane.locality == 0
    assert plane.sparsity == pytest.approx(2 / 3, abs=0.02)  # 16 of 24, other shares at the border


def test_uniform_attention_is_as_global_as_can_be():
    found = fingerprint(uniform(C))
    neighbours = (4 * 3 + 56 * 5 + 196 * 8) / 256
    assert found.locality == pytest.approx(neighbours / 255)
    assert found.globality == pytest.approx(1)
    assert (found.sparsity, found.multiscale) == (0, pytest.approx(0, abs=1e-6))
    assert found.self_influence == pytest.approx(1 / 256)
    assert found.profile == pytest.approx(found.uniform_profile)
    assert sum(found.profile) == pytest.approx(1)
    assert found.influence.sum() == pytest.approx(1)


def test_a_gate_is_global_and_mostly_itself():
    found = fingerprint("se", inputs=8)
    assert found.globality == pytest.approx(1, abs=0.01)
    assert found.locality == pytest.approx(0.0285, abs=0.001)
    assert found.self_influence > 0.8
    assert found.complexity == pytest.approx(1, abs=0.02)  # of MACs alone it would be 0
    assert found.cost_curve[0].macs == found.cost_curve[-1].macs


def test_an_even_spread_over_octaves_is_multiscale():
    row = torch.zeros(1, 33, dtype=torch.float64)
    for v in range(33):
        d = abs(v - 16)
        if 0 < d <= 7:
            row[0, v] = 2.0 ** -int(math.log2(d))  # rings of 2, 4 and 8 positions share alike
    figures = row_figures(row, [16], (33,)).figures[0].tolist()
    assert figures[3] == pytest.approx(1)
    assert figures[0] == pytest.approx(1 / 3)
    assert figures[2] == 0
    assert row_figures((row > 0).double(), [16], (33,)).figures[0, 3] == pytest.approx(0)


def test_the_reach_need_not_be_centred_and_leaves_out_what_is_negligible():
    row = torch.zeros(1, 25, dtype=torch.float64)
    row[0, 12], row[0, 13], row[0, 24], row[0, 0] = 5.0, 1.0, 1.0, 0.0099  # u, a neighbour, a corner, too little
    figures = row_figures(row, [12], (5, 5)).figures[0].tolist()
    assert figures[0] == pytest.approx(1 / 2.0099)
    assert figures[2] == pytest.approx(6 / 8)  # the 3x3 box from u to the corner, u left out
    row[0, 0] = 0.0101
    assert row_figures(row, [12], (5, 5)).figures[0, 2] == pytest.approx(21 / 24)


def test_the_pointwise_limit_is_one_per_cent():
    weights = torch.eye(16) + 0.02 / 15 * (1 - torch.eye(16))
    assert not fingerprint(Mix(weights), size=(4, 4)).pointwise
    weights = torch.eye(16) + 0.009 / 15 * (1 - torch.eye(16))
    assert fingerprint(Mix(weights), size=(4, 4)).pointwise


def test_globality_has_the_expected_order():
    conv1, conv3 = nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 3, padding=1)
    order = [conv1, conv3, depthwise(7), Windows(8), depthwise(21), "self_attention"]
    found = [fingerprint(module, inputs=1, exact=False).globality for module in order]
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    ends = [fingerprint(module, inputs=1, exact=False).globality for module in ("relu_linear_attention", Fourier())]
    assert all(value == pytest.approx(1, abs=0.05) for value in [*ends, found[-1]])


def test_what_counts_as_a_property_is_settled_by_the_known_cases():
    cases = {
        "conv3": (nn.Conv2d(C, C, 3, padding=1), {"locality", "complexity"}),
        "depthwise7": (depthwise(7), {"locality", "complexity"}),
        "dilated": (depthwise(3, dilation=2), {"sparsity", "complexity"}),
        "windows": (Windows(4), {"locality", "complexity"}),
        "uniform": (uniform(C), {"globality", "complexity"}),
        "fourier": (Fourier(), {"globality", "complexity"}),
        "attention": ("self_attention", {"globality"}),
        "conv1": (nn.Conv2d(C, C, 1), {"complexity"}),
    }
    for name, (module, expected) in cases.items():
        found = fingerprint(module, inputs=1, exact=False)
        assert {p for p in (*SPATIAL, "complexity") if has(found, p)} - {"complexity"} == expected - {"complexity"}, (
            name
        )
        if found.complexity is not None:
            assert has(found, "complexity") == ("complexity" in expected), name


def test_exponents():
    assert fingerprint("self_attention", inputs=1, exact=False).complexity > 1.8
    fourier = fingerprint(Fourier(), inputs=1, exact=False)
    assert 1 < fourier.complexity < 1.25  # N log N
    assert fingerprint("eca", inputs=1, exact=False).complexity == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("channels", [8, 16])
def test_an_estimate_is_near_and_knows_how_near(channels):
    torch.manual_seed(0)
    weights = torch.rand(100, 100).pow(4)
    module = Mix(weights, channels)
    truth = fingerprint(module, size=(10, 10), channels=channels, exact=True, inputs=1)
    found = fingerprint(module, size=(10, 10), channels=channels, exact=False, inputs=2)
    assert not found.exact
    for name in ("locality", "globality", "sparsity", "self_influence"):
        off = abs(getattr(found, name) - getattr(truth, name))
        assert off <= 4 * found.error[name] + 0.01
        assert 0 < found.error[name] < 0.1
    assert truth.error == {}


def test_large_maps_are_estimated_by_default():
    found = fingerprint(nn.Conv2d(64, 64, 3, padding=1), size=(32, 32), channels=64, inputs=1)
    assert not found.exact
    assert found.locality == pytest.approx(1)


def test_draws_are_new_initialisations_and_repeat_with_the_seed():
    first, again, other = (fingerprint("cbam", size=(6, 6), seed=seed, inputs=2) for seed in (0, 0, 1))
    assert first == again
    assert first.locality != other.locality
    assert set(first.error) == {*SPATIAL, "self_influence"}


def test_gates_that_start_at_zero_are_opened_where_the_module_is_built_here():
    built = fingerprint("position_attention", size=(6, 6), inputs=1)
    assert built.globality == pytest.approx(1, abs=0.1)
    assert "gates that start at zero" in built.notes[0]
    closed = fingerprint(nb.create_module("position_attention", C), size=(6, 6), inputs=1)
    assert closed.pointwise
    assert closed.notes == ()


def test_an_expression_a_fusion_a_neck_a_class_and_one_dimension():
    assert fingerprint("eca >> se", size=(6, 6), inputs=1).name == "eca >> se"
    joined = fingerprint("cross_attention", size=(6, 6), inputs=1)
    assert joined.globality == pytest.approx(1, abs=0.1)
    assert "two independent maps" in joined.notes[0]
    neck = fingerprint("fpn", size=(8, 8), inputs=1)
    assert neck.locality > 0.4
    assert "pooled copies" in neck.notes[0]
    assert fingerprint(nn.BatchNorm2d, size=(4, 4)).pointwise

    class Mine(nn.Conv1d):
        def __init__(self, channels, *, dims=2):
            assert dims == 1
            super().__init__(channels, channels, 3, padding=1)

    assert fingerprint(Mine, dims=1).size == (64,)
    assert fingerprint("recurrent", inputs=1, exact=False).size == (64,)


@pytest.mark.parametrize("name", [spec.name for spec in module_specs() if spec.name != "vector_quantise"])
def test_derivatives_are_those_of_the_forward_pass(name):
    """Held against differences; `vector_quantise` alone has another on purpose, straight through its codes."""
    subject = _smallest(name)
    torch.manual_seed(0)
    module = subject.make()
    open_gates(module)
    module = module.eval().requires_grad_(False).double()
    x = torch.randn(1, subject.maps * subject.channels, *subject.size, dtype=torch.float64, requires_grad=True)
    y = run(module, x, subject)
    cotangent = torch.randn_like(y.transpose(1, -1).contiguous()).transpose(1, -1)  # channels last, as behind tokens
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    direction, step = torch.randn_like(x), 1e-6
    with torch.no_grad():
        ahead, behind = (run(module, x + sign * step * direction, subject) for sign in (1, -1))
    found, truth = (gradient * direction).sum(), ((ahead - behind) * cotangent).sum() / (2 * step)
    assert found.item() == pytest.approx(truth.item(), abs=1e-5 * (1 + gradient.norm().item()))


def _smallest(name):
    """The module at few positions and the first channels it serves."""
    size = (8, 8) if 2 in module_spec(name).dims else (32,)
    for channels in (8, 16, 32, 64):
        try:
            subject = subject_of(name, size, channels, None)
            subject.make()
        except InputError:
            continue
        return subject
    raise AssertionError(name)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.InstanceNorm2d(3, affine=True),
                                  nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3)])  # fmt: skip
def test_plain_norms_are_torchs(norm):
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    norm(torch.randn(4, 3, 5, 6) + 2)
    x = torch.randn(2, 3, 5, 6)
    truth = norm.eval()(x)
    with PlainNorms():
        assert torch.allclose(norm(x), truth, atol=1e-6)


def test_a_batch_norm_before_tokens():
    """At a batch of one torch's own derivative of a batch norm is wrong behind a flattening to tokens."""
    module = nn.Sequential(nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), ToTokens(), nn.LayerNorm(C))
    module = nn.Sequential(module, ToMap())
    assert fingerprint(module, size=(4, 4), inputs=1).pointwise


class ToTokens(nn.Module):
    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


class ToMap(nn.Module):
    def forward(self, x):
        side = math.isqrt(x.shape[1])
        return x.transpose(1, 2).unflatten(2, (side, side))


class Twice(torch.autograd.Function):
    """Has no rule for batches of gradients."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        assert float(gradient.detach().flatten()[0]) == float(gradient.flatten()[0])  # a number: refuses a batch
        return 2 * gradient


class Unbatched(nn.Conv2d):
    def forward(self, x):
        return super().forward(Twice.apply(x))


def test_an_operator_that_cannot_be_batched_is_taken_row_by_row():
    found = fingerprint(Unbatched(C, C, 3, padding=1), size=(4, 4), inputs=1)
    assert found.locality == pytest.approx(1)


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    torch.manual_seed(5)
    fingerprint(module, size=(4, 4), inputs=1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert not any(m._forward_hooks for m in module.modules())


class Branching(nn.Module):
    def forward(self, x):
        return x.roll(1, -1) if x.sum() > 1e9 else x.roll(2, -1)


def test_control_flow_that_depends_on_data_is_flagged():
    found = fingerprint(Branching(), size=(8,), channels=2)
    assert any("control flow depends on data" in note for note in found.notes)
    assert found.locality == pytest.approx(0)  # the branch taken; in a ring of 8 each u reads at distance 2 or 6


class Blind(nn.Module):
    def forward(self, x):
        return x.detach() + 1


def test_no_derivative_is_no_number():
    found = fingerprint(Blind(), size=(4, 4))
    assert [getattr(found, name) for name in (*SPATIAL, "self_influence")] == [None] * 5
    assert found.notes == ("no derivative of its output reaches its input",)


class Rooted(nn.Module):
    def forward(self, x):
        return x.sqrt()


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("module", "options", "kind", "words"),
    [
        (nn.Conv2d, {}, UnsupportedError, "class Conv2d cannot be built from `channels` alone"),
        (nn.MaxPool2d(2), {}, InputError, "changes the shape: 8x16x16 to 8x8x8"),
        (nn.Conv2d(8, 4, 1), {}, InputError, "changes the shape: 8x16x16 to 4x16x16"),
        (nn.Conv2d(3, 3, 1), {}, InputError, "`channels` and `size`"),
        (Pair(), {}, InputError, "returns tuple, not one tensor"),
        (Rooted(), {}, InputError, "NaN or infinite"),
        (int, {}, InputError, "cannot fingerprint int"),
        (3, {}, InputError, "cannot fingerprint int"),
        ("sse", {}, UnknownNameError, "did you mean 'se'"),
        ("cbam", {"size": (64,)}, UnsupportedError, "2-D"),
        ("se", {"size": (1, 1)}, InputError, "at least 2 positions"),
        ("se", {"size": (4, 4, 4)}, InputError, "(L,) or (H, W)"),
        ("se", {"size": (4, 4), "dims": 1}, InputError, "contradict"),
        ("se", {"dims": 3}, InputError, "dims is 1 or 2"),
        ("se", {"channels": 0}, InputError, "positive whole number"),
        ("se", {"inputs": 0}, InputError, "at least one random input"),
        (nn.Conv2d(8, 8, 1, device="meta"), {}, InputError, "meta device"),
    ],
)
def test_bad_input_is_said(module, options, kind, words):
    with pytest.raises(kind) as caught:
        fingerprint(module, **options)
    assert words in str(caught.value)


def test_what_a_plan_put_into_a_model():
    model = nb.insert("test_resnet", {"stage1": "eca", "stage2": "cbam"}, input_size=(3, 32, 32))
    found = fingerprint_plan(model, inputs=1)
    slots = {slot.name: slot for slot in nb.slots("test_resnet", (3, 32, 32))}
    assert {name: (f.size, f.channels) for name, f in found.items()} == {
        name: (slots[name].size, slots[name].channels) for name in ("stage1", "stage2")
    }
    assert found["stage1"].globality == pytest.approx(1, abs=0.01)
    assert [f.name for f in found.values()] == ["eca", "cbam"]
    with pytest.raises(InputError, match="no plan"):
        fingerprint_plan(nb.insert("test_resnet", None))


def test_cells_of_a_coarser_grid():
    assert cells((4, 2), (2, 2)).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert cells((5,), (2,)).tolist() == [0, 0, 0, 1, 1]


def test_the_figure_is_data_first(tmp_path):
    found = fingerprint(depthwise(7), inputs=1)
    data = pictures.fingerprint_data(found)
    assert data.influence[8, 8] == pytest.approx(1 / 49)
    assert data.influence[0, 0] == 0
    assert list(data.profile["distances"]) == ["1", "2-3", "4-7", "8-15"]
    assert data.profile["measured"].tolist() == pytest.approx(found.profile)
    assert data.curve["cost"].tolist() == pytest.approx(data.curve["fitted"].tolist(), rel=1e-3)  # linear: on the line
    figure = pictures.draw_fingerprint(data)
    save_figure(figure, tmp_path / "f.svg")
    assert (tmp_path / "f.svg").stat().st_size > 1000
    with pytest.raises(InputError, match=r"\.svg, \.png or \.pdf"):
        save_figure(figure, tmp_path / "f.doc")


def test_figures_of_what_has_no_curve_and_one_dimension(tmp_path):
    for module, size in (("none", (6, 6)), (nn.Conv1d(C, C, 3, padding=1), (12,))):
        figure = pictures.draw_fingerprint(pictures.fingerprint_data(fingerprint(module, size=size, inputs=1)))
        save_figure(figure, tmp_path / "g.png")


def test_the_command(capsys, tmp_path):
    code = cli.main(["fingerprint", "cbam", "--size", "6x6", "--inputs", "1", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["kind"], document["data"]["size"]) == (0, "fingerprint", [6, 6])
    assert {*SPATIAL, "complexity", "macs_per_position", "error", "influence"} <= set(document["data"])
    picture = tmp_path / "f.svg"
    code = cli.main(["fingerprint", "se", "--size", "6x6", "--inputs", "2", "--estimate", "--figure", str(picture)])
    out, err = capsys.readouterr()
    assert code == 0
    assert "estimated from random positions" in out
    assert all(name in out for name in (*SPATIAL, "complexity"))
    assert picture.exists()
    assert str(picture) in err


@pytest.mark.parametrize("size", ["0x4", "axb", "4x4x4", "-4"])
def test_the_command_says_how_a_size_is_written(capsys, size):
    assert cli.main(["fingerprint", "se", f"--size={size}"]) == 4
    assert "16x16" in capsys.readouterr().err
