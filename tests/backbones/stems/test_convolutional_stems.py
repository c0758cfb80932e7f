"""Oracles of unet_tsf, mtgnn and ts2vec: shapes and counts worked by hand, the equations written out, known truths."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from support.modules import count
from support.stems import assert_two_dimensional_modules_fit
from torch.nn import functional as F

import nasbench as nb
from nasbench.backbones import STEMS, create_backbone
from nasbench.errors import BackboneError
from nasbench.ops.graph import LearnedGraph, MixHop
from nasbench.ops.temporal import DilatedInception, side_by_side
from nasbench.tasks import ForecastingTask, naive_baselines
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import train

NAMES = ["unet_tsf", "mtgnn", "ts2vec"]


def stem(name, lookback=48, horizon=8, series=3, seed=0, **hyper):
    create_backbone("dlinear")  # loads the stems
    torch.manual_seed(seed)
    return STEMS.get(name)(lookback=lookback, horizon=horizon, series=series, **hyper)


def places(name, lookback=96, series=7, **hyper):
    model = stem(name, lookback, 24, series, **hyper)
    return {s.name: (s.channels, s.size) for s in nb.slots(model, input_size=(lookback, series))}


def moved(name, **hyper):
    """A stem whose normalisations are not the identity any more."""
    model = stem(name, **hyper).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1 or len(p) == 0 or bool((p == 1).all()):
                p.add_(torch.randn_like(p) * 0.3)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("lookback", "series", "horizon"), [(7, 1, 1), (1, 2, 3), (96, 7, 720), (720, 2, 1), (8, 321, 4)]
)
def test_any_lookback_horizon_and_number_of_series(name, lookback, series, horizon):
    model = stem(name, lookback, horizon, series)
    out = model(torch.randn(2, lookback, series))
    assert out.shape == (2, horizon, series)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_with_instance_normalisation_level_and_scale_come_back(name):
    model = stem(name, instance_norm=True).eval()
    x = torch.randn(2, 48, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(3 * x + 10), 3 * model(x) + 10, rtol=1e-3, atol=1e-3)
        without = stem(name, instance_norm=False).eval()
        assert (without(3 * x + 10) - (3 * without(x) + 10)).abs().max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_noiseless_sine_is_learned(name):
    """Two sines of period 24: ten times better on unseen windows than the last value, which is a poor forecast."""
    t = np.arange(500)
    values = np.stack([np.sin(2 * np.pi * t / 24), 3 * np.cos(2 * np.pi * t / 24) + 5], axis=1)
    data = pd.DataFrame(values, index=pd.date_range("2020", periods=500, freq="h"), columns=["a", "b"])
    spans = {"train": (0, 380), "val": (380, 440), "test": (440, 500)}
    task = ForecastingTask("sine", data, spans, lookback=32, horizon=8)
    model = stem(name, 32, 8, 2, **({} if name == "unet_tsf" else {"dropout": 0.0}))
    result = train(model, task, Recipe(epochs=6, batch_size=16, learning_rate=5e-3), seed=0)
    assert result.metrics["mse"] < 0.1 * naive_baselines(task, "val")["last value"]["mse"]


class TestUnetTSF:
    def test_levels_by_hand(self):
        """⌊(n - 3) / 2⌋ + 1: 96, 47, 23, 11; of a lookback of 7: 7, 3, 1; of 2: no pooling."""
        assert places("unet_tsf") == {f"stage{k + 1}": (7, (n,)) for k, n in enumerate((96, 47, 23, 11))}
        assert [size for _, size in places("unet_tsf", lookback=7).values()] == [(7,), (3,), (1,)]
        assert [size for _, size in places("unet_tsf", lookback=2).values()] == [(2,)]
        assert len(places("unet_tsf", levels=2)) == 2

    def test_parameters_by_hand(self):
        """Forecasts of 24, 11, 5 and 2 steps; merges of neighbours to the finer; a scale and shift for 7 series."""
        down = (96 * 24 + 24) + (47 * 11 + 11) + (23 * 5 + 5) + (11 * 2 + 2)
        up = ((24 + 11) * 24 + 24) + ((11 + 5) * 11 + 11) + ((5 + 2) * 5 + 5)
        assert count(stem("unet_tsf", 96, 24, 7)) == down + up + 2 * 7
        assert count(stem("unet_tsf", 96, 24, 7, instance_norm=False)) == down + up
        assert count(stem("unet_tsf", 96, 24, 7, individual=True)) == 7 * (down + up) + 2 * 7
        cost = nb.measure(stem("unet_tsf", 96, 24, 7, instance_norm=False), input_size=(96, 7))
        assert cost.exact
        weights = 96 * 24 + 47 * 11 + 23 * 5 + 11 * 2 + 35 * 24 + 16 * 11 + 7 * 5
        assert cost.macs == 7 * weights  # averages are no multiply-adds

    @pytest.mark.parametrize("individual", [False, True])
    def test_the_equations_written_out(self, individual):
        """Two levels: 7 steps and the means of (0, 1, 2), (2, 3, 4), (4, 5, 6); 5 steps ahead and 2."""
        model = stem("unet_tsf", 7, 5, 2, levels=2, individual=individual, instance_norm=False).eval()
        x = torch.randn(3, 7, 2)
        w = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}
        expected = np.zeros((3, 5, 2))
        for b in range(3):
            for d in range(2):

                def linear(name, v, d=d):
                    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
                    return (weight[d] @ v + bias[d]) if individual else weight @ v + bias

                window = x[b, :, d].double().numpy()
                pooled = np.array([window[0:3].mean(), window[2:5].mean(), window[4:7].mean()])
                fine, coarse = linear("forecasts.0", window), linear("forecasts.1", pooled)
                expected[b, :, d] = linear("merges.0", np.concatenate([fine, coarse]))
        assert coarse.shape == (2,)
        np.testing.assert_allclose(model(x).detach().numpy(), expected, atol=1e-5)

    def test_a_slot_feeds_its_forecast_and_all_coarser_levels(self):
        """The window's slot set to zero leaves nothing of the window; the coarsest leaves the other levels."""
        model = stem("unet_tsf", instance_norm=False).eval()
        x, y = torch.randn(2, 48, 3), torch.randn(2, 48, 3)
        for level in range(4):
            hook = model.pools[level].register_forward_hook(lambda m, a, out: torch.zeros_like(out))
            with torch.no_grad():
                assert torch.equal(model(x), model(y)) == (level == 0)
            hook.remove()

    def test_series_are_forecast_alone(self):
        model = stem("unet_tsf", series=4).eval()
        x = torch.randn(2, 48, 4)
        order = [3, 1, 0, 2]
        changed = x.clone()
        changed[..., 0] += torch.randn(2, 48)
        with torch.no_grad():
            torch.testing.assert_close(model(x[..., order]), model(x)[..., order])
            torch.testing.assert_close(model(changed)[..., 1:], model(x)[..., 1:])
            assert (model(changed)[..., 0] - model(x)[..., 0]).abs().max() > 0.01
            own = stem("unet_tsf", series=4, individual=True).eval()
            assert (own(x[..., order]) - own(x)[..., order]).abs().max() > 0.01  # weights of its own for each series

    def test_what_it_refuses(self):
        with pytest.raises(BackboneError, match=r"must be 1 or more, got \(0, 3, 2\)"):
            stem("unet_tsf", levels=0)


class TestMTGNN:
    def test_stages_by_hand(self):
        """Kernel 7, dilations 1, 2, 4: 6, 12 and 24 steps are used up, the series axis stays."""
        steps = {"embed": 96, "stage1": 90, "stage2": 78, "stage3": 54}
        found = places("mtgnn")
        assert {k: v for k, v in found.items() if "block" not in k} == {k: (16, (7, n)) for k, n in steps.items()}
        assert found["stage2.block1"] == found["stage2"]
        padded = places("mtgnn", lookback=7)  # to the receptive field 1 + 6 (1 + 2 + 4)
        assert [padded[k][1] for k in steps] == [(7, 43), (7, 37), (7, 25), (7, 1)]

    def test_parameters_by_hand(self):
        def inception(c):
            return c * (c // 4) * (2 + 3 + 6 + 7) + c

        layers = sum(2 * inception(16) + (16 * 16 + 16) + (16 * 32 * t + 32) + 2 * 16 * 7 * t for t in (90, 78, 54))
        ends = (16 + 16) + (96 * 32 + 32) + (16 * 32 * 54 + 32) + (32 * 64 + 64) + (64 * 24 + 24)
        assert count(stem("mtgnn", 96, 24, 7)) == layers + ends
        norms = sum(2 * 16 * 7 * t for t in (90, 78, 54))
        assert count(stem("mtgnn", 96, 24, 7, norm_affine=False)) == layers + ends - norms
        graph = 2 * 7 * 40 + 2 * (40 * 40 + 40) + 3 * (2 * (3 * 16 * 16 + 16) - (16 * 16 + 16))
        assert count(stem("mtgnn", 96, 24, 7, graph=True)) == layers + ends + graph

    @pytest.mark.parametrize("graph", [False, True])
    @pytest.mark.parametrize("lookback", [9, 30])
    def test_the_equations_written_out(self, graph, lookback):
        """The forward of the paper, with plain convolutions over the whole of time for the skips."""
        model = moved("mtgnn", lookback=lookback, horizon=5, series=4, dilations=(1, 2), width=6, graph=graph)
        w = model.state_dict()
        x = torch.randn(2, lookback, 4)
        z = F.pad(x.transpose(1, 2)[:, None], (max(0, 19 - lookback), 0))  # (B, 1, D, T)

        def whole(name, h):
            weight = w[f"{name}.weight"]
            return F.conv2d(h, weight.view(len(weight), h.shape[1], 1, h.shape[3]), w[f"{name}.bias"])

        def inception(name, h, dilation):
            parts = [
                F.conv2d(h, w[f"{name}.branches.{i}.weight"], w[f"{name}.branches.{i}.bias"], dilation=(1, dilation))
                for i in range(4)
            ]
            assert [p.shape[1] for p in parts] == [2, 2, 1, 1]  # 6 channels for 4 kernels
            return torch.cat([p[..., -parts[-1].shape[3] :] for p in parts], 1)

        skips = whole("skip_input", z)
        z = F.conv2d(z, w["embed.weight"], w["embed.bias"])
        for k, dilation in enumerate((1, 2)):
            at = f"layers.{k}"
            h = torch.tanh(inception(f"{at}.filter", z, dilation)) * inception(f"{at}.gate", z, dilation).sigmoid()
            skips = skips + whole(f"{at}.skip", h)
            if graph:
                adjacency = model.graph().detach()
                mixed = propagated(h, adjacency, w, f"{at}.mixes.0.mix") + propagated(
                    h, adjacency.T, w, f"{at}.mixes.1.mix"
                )
            else:
                mixed = F.conv2d(h, w[f"{at}.mix.weight"], w[f"{at}.mix.bias"])
            z = mixed + z[..., 6 * dilation :]
            mean, variance = z.mean((1, 2, 3), keepdim=True), z.var((1, 2, 3), keepdim=True, correction=0)
            z = (z - mean) / (variance + 1e-5).sqrt() * w[f"{at}.norm.weight"] + w[f"{at}.norm.bias"]
        skips = (skips + whole("skip_output", z)).relu()[..., 0].transpose(1, 2)
        hidden = F.linear(skips, w["head.1.weight"], w["head.1.bias"]).relu()
        expected = F.linear(hidden, w["head.3.weight"], w["head.3.bias"]).transpose(1, 2)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)

    def test_series_meet_in_the_graph_and_the_norm_alone(self):
        """With a graph that is empty and no normalisation, changing one series changes no other's forecast."""
        x = torch.randn(1, 48, 3)
        changed = x.clone()
        changed[..., 0] += torch.randn(48)

        def others(graph, norms):
            model = stem("mtgnn", graph=graph).eval()
            for layer in model.layers:
                layer.norm = layer.norm if norms else torch.nn.Identity()
            with torch.no_grad():
                return (model(changed) - model(x))[..., 1:].abs().max().item()

        assert others(graph=False, norms=False) < 1e-6
        assert others(graph=False, norms=True) > 1e-5
        assert others(graph=True, norms=False) > 1e-5

    def test_the_two_dimensional_library_fits(self):
        plan = {"embed": "cbam", "stage1": "coord_attention", "stage3": "two_stage_attention"}
        assert_two_dimensional_modules_fit(stem("mtgnn", 24, 6, 5).eval(), plan, (24, 5))

    def test_what_it_refuses(self):
        for hyper in ({"dilations": ()}, {"dilations": (0, 1)}, {"kernels": ()}):
            with pytest.raises(BackboneError, match="one or more numbers of at least 1"):
                stem("mtgnn", **hyper)


def propagated(h, adjacency, w, name, depth=2, beta=0.05):
    """Mix-hop propagation by loops over series: each hears the weighted mean of its neighbours and itself."""
    count = len(adjacency)
    hops = [h]
    for _ in range(depth):
        hop = torch.zeros_like(h)
        for i in range(count):
            total = sum(float(adjacency[i, j]) for j in range(count)) + 1
            for j in range(count):
                share = (float(adjacency[i, j]) + (i == j)) / total
                hop[:, :, i] += share * hops[-1][:, :, j]
        hops.append(beta * h + (1 - beta) * hop)
    return F.conv2d(torch.cat(hops, 1), w[f"{name}.weight"], w[f"{name}.bias"])


class TestGraph:
    @pytest.mark.parametrize("depth", [1, 3])
    def test_mix_hop_against_loops(self, depth):
        torch.manual_seed(0)
        layer = MixHop(2, 3, depth=depth, beta=0.2)
        x, adjacency = torch.randn(2, 2, 5, 4), torch.rand(5, 5) * (torch.rand(5, 5) > 0.5)
        state = {f"m.{k.removeprefix('mix.')}": v for k, v in layer.state_dict().items()}
        torch.testing.assert_close(layer(x, adjacency), propagated(x, adjacency, state, "m", depth, 0.2))

    def test_mix_hop_by_hand(self):
        """Series 0 hears series 1 as loudly as itself, 1 itself alone: hop 1 of (2, 6) is (4, 6), kept at beta = ½."""
        layer = MixHop(1, 1, depth=1, beta=0.5)
        with torch.no_grad():
            layer.mix.weight.copy_(torch.tensor([[[[0.0]], [[1.0]]]]))
            layer.mix.bias.zero_()
        y = layer(torch.tensor([[[[2.0], [6.0]]]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        assert y.flatten().tolist() == [0.5 * 2 + 0.5 * 4, 0.5 * 6 + 0.5 * 6]

    def test_adjacency_against_loops(self):
        torch.manual_seed(1)
        graph = LearnedGraph(6, width=4, neighbours=2, alpha=0.7).double()
        w = {k: v.numpy() for k, v in graph.state_dict().items()}
        m1, m2 = (
            np.tanh(0.7 * (w[f"{n}.weight"] @ w[f"theta_{n}.weight"].T + w[f"theta_{n}.bias"]))
            for n in ("first", "second")
        )
        full = np.array(
            [[max(0, math.tanh(0.7 * (m1[i] @ m2[j] - m2[i] @ m1[j]))) for j in range(6)] for i in range(6)]
        )
        expected = np.zeros((6, 6))
        for i in range(6):
            for j in sorted(range(6), key=lambda j: -full[i, j])[:2]:
                expected[i, j] = full[i, j]
        np.testing.assert_allclose(graph().detach().numpy(), expected, atol=1e-12)
        assert (expected > 0).sum(1).max() == 2 < (full > 0).sum(1).max()  # something was cut

    def test_no_loops_and_one_direction_alone(self):
        torch.manual_seed(0)
        graph = LearnedGraph(9, neighbours=20)
        a = graph()
        assert a.diagonal().eq(0).all()
        assert (a * a.T).eq(0).all()
        assert (a > 0).sum() == 9 * 8 / 2
        assert bool(((a >= 0) & (a <= 1)).all())
        assert torch.equal(a, graph())  # no noise in the choice
        a.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in graph.parameters())


class TestDilatedInception:
    @pytest.mark.parametrize("dims", [1, 2])
    @pytest.mark.parametrize("dilation", [1, 3])
    def test_two_side_by_side_are_two(self, dims, dilation):
        torch.manual_seed(0)
        one, two = (DilatedInception(3, 7, (2, 3, 6, 7), dilation, dims=dims) for _ in range(2))
        x = torch.randn(2, 3, *(5,) * (dims - 1), 25)
        a, b = side_by_side(one, two, x)
        assert a.shape[-1] == 25 - 6 * dilation
        torch.testing.assert_close(a, one(x))
        torch.testing.assert_close(b, two(x))

    def test_all_kernels_end_at_the_same_step(self):
        """A pulse at the last step reaches the last output of every kernel, and no earlier one."""
        layer = DilatedInception(1, 4, (2, 3, 6, 7), 2)
        x = torch.zeros(1, 1, 20)
        x[..., -1] = 1
        change = (layer(x) - layer(torch.zeros(1, 1, 20)))[0]
        assert change[:, -1].ne(0).all()
        assert change[:, :-1].eq(0).all()


class TestTS2Vec:
    def test_stages_by_hand(self):
        """2 (2^n - 1) steps back must be at least 95: n = 6."""
        found = places("ts2vec")
        assert found["embed"] == (32, (96,))
        assert [found[f"stage{k}"] for k in range(1, 7)] == [(32, (96,))] * 5 + [(128, (96,))]
        assert "stage7" not in found

    @pytest.mark.parametrize(("lookback", "blocks"), [(1, 1), (3, 1), (4, 2), (7, 2), (8, 3), (720, 9)])
    def test_fewest_blocks_that_see_the_lookback(self, lookback, blocks):
        assert len(stem("ts2vec", lookback=lookback).encoder) == blocks

    def test_parameters_by_hand(self):
        """Of the paper: 10 blocks of 64 channels, one to 320 with a projection, for 7 series and 24 steps."""
        paper = stem("ts2vec", 96, 24, 7, width=64, representation=320, blocks=11)
        hidden = 2 * (3 * 64 * 64 + 64)
        last = (3 * 64 * 320 + 320) + (3 * 320 * 320 + 320) + (64 * 320 + 320)
        assert count(paper) == (7 * 64 + 64) + 10 * hidden + last + (320 * 24 * 7 + 24 * 7)
        same = stem("ts2vec", 96, 24, 7, width=8, representation=8, blocks=1)
        assert same.encoder[0].projection is not None  # the last block projects though its width stays

    @pytest.mark.parametrize("blocks", [1, 2, 3])
    def test_receptive_field(self, blocks):
        """Step t hears t ± 2 (2^n - 1) and no further, all of it; padding is symmetric."""
        model = stem("ts2vec", lookback=61, blocks=blocks).double()
        reach = 2 * (2**blocks - 1)
        x = torch.randn(1, 61, 3, dtype=torch.float64, requires_grad=True)
        encoded = model.encoder(model.embed(x).transpose(1, 2))
        assert encoded.shape == (1, 128, 61)
        for t in (0, 30, 60):
            (heard,) = torch.autograd.grad(encoded[0, :, t].sum(), x, retain_graph=True)
            steps = heard.abs().sum((0, 2)).nonzero().flatten().tolist()
            assert steps == list(range(max(0, t - reach), min(60, t + reach) + 1))

    def test_dilations_double(self):
        """A pulse through the first convolution of block i comes out at distances of 2^i."""
        for i, block in enumerate(stem("ts2vec", blocks=4).encoder):
            pulse = torch.zeros(1, 32, 41)
            pulse[..., 20] = 1
            change = (block.first(pulse) - block.first(torch.zeros_like(pulse))).abs().sum(1)[0]
            assert change.nonzero().flatten().tolist() == [20 - 2**i, 20, 20 + 2**i]

    def test_the_equations_written_out(self):
        model = stem("ts2vec", 12, 4, 2, blocks=2, width=4, representation=5).eval()
        w = model.state_dict()
        x = torch.randn(3, 12, 2)
        z = F.linear(x, w["embed.weight"], w["embed.bias"]).transpose(1, 2)
        for i in range(2):
            h = z
            for name in ("first", "second"):
                at = f"encoder.{i}.{name}"
                h = F.conv1d(F.gelu(h), w[f"{at}.weight"], w[f"{at}.bias"], padding=2**i, dilation=2**i)
            at = "encoder.1.projection"
            z = h + (z if i == 0 else F.conv1d(z, w[f"{at}.weight"], w[f"{at}.bias"]))
        expected = F.linear(z[..., -1], w["head.weight"], w["head.bias"]).view(3, 4, 2)
        torch.testing.assert_close(model(x), expected)

    def test_every_step_reaches_every_forecast_and_series_mix(self):
        model = stem("ts2vec").eval()
        x = torch.randn(1, 48, 3, requires_grad=True)
        for step, series in ((0, 0), (7, 2)):
            (heard,) = torch.autograd.grad(model(x)[0, step, series], x)
            assert heard.ne(0).all()

    def test_what_it_refuses(self):
        with pytest.raises(BackboneError, match=r"must be odd .* got kernel=4"):
            stem("ts2vec", kernel=4)
        with pytest.raises(BackboneError, match="blocks=0"):
            stem("ts2vec", blocks=0)
