"""Oracles of informer, pyraformer and crossformer: shapes and counts by hand, equations written out, known truths."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from support import modules
from support.modules import count, noise, randomise_statistics
from support.stems import assert_two_dimensional_modules_fit
from torch import Tensor, nn
from torch.nn import functional as F

import nasbench as nb
from nasbench.backbones import STEMS
from nasbench.backbones.stems.crossformer import Stage
from nasbench.backbones.stems.informer import DecoderLayer
from nasbench.errors import BackboneError
from nasbench.ops.attention import CrossAttention
from nasbench.ops.embedding import SeriesEmbedding
from nasbench.ops.probsparse import ProbSparseSelfAttention
from nasbench.ops.time_pyramid import PyramidLayer, edges
from nasbench.ops.two_stage import TwoStageLayer
from nasbench.tasks import ForecastingTask, naive_baselines
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import train


def stem(name, lookback=24, horizon=5, series=3, seed=0, **hyper):
    torch.manual_seed(seed)
    return STEMS.get(name)(lookback=lookback, horizon=horizon, series=series, **hyper)


def moved(module: nn.Module) -> nn.Module:
    """The module in float64 and eval mode with nothing left at 0 or 1."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    randomise_statistics(module)
    return module


def places(name, lookback=96, series=7, **hyper):
    model = stem(name, lookback, 24, series, **hyper)
    return {s.name: (s.channels, s.size) for s in nb.slots(model, input_size=(lookback, series)) if "." not in s.name}


def attend(layer: nn.Module, x: Tensor, source: Tensor, heads: int, allowed: Tensor | None = None) -> Tensor:
    """The layer's attention of `(N, C)` to `(M, C)`; `allowed` is `(N, M)`."""
    return layer.proj(modules.attend(layer.query(x), layer.key(source), layer.value(source), heads, allowed=allowed))


def embedded(layer: SeriesEmbedding, x: Tensor) -> Tensor:
    """`(L, D) -> (L, C)`: each step with its neighbours, around the ends, and sines and cosines of its position."""
    length, width = len(x), layer.value.out_channels
    out = torch.empty(length, width, dtype=torch.float64)
    for t in range(length):
        around = torch.stack([x[t - 1], x[t], x[(t + 1) % length]], dim=1)  # (D, 3)
        value = (layer.value.weight * around).sum((1, 2)) + layer.value.bias
        place = [(math.sin if c % 2 == 0 else math.cos)(t / 10000 ** ((c - c % 2) / width)) for c in range(width)]
        out[t] = value + torch.tensor(place, dtype=torch.float64)
    return out


@pytest.mark.parametrize("name", ["informer", "pyraformer", "crossformer"])
def test_a_noiseless_sine_is_learned(name):
    """Two sines of period 24: ten times better on unseen windows than the last value, which is a poor forecast."""
    t = np.arange(500)
    values = np.stack([np.sin(2 * np.pi * t / 24), 3 * np.cos(2 * np.pi * t / 24) + 5], axis=1)
    data = pd.DataFrame(values, index=pd.date_range("2020", periods=500, freq="h"), columns=["a", "b"])
    spans = {"train": (0, 380), "val": (380, 440), "test": (440, 500)}
    task = ForecastingTask("sine", data, spans, lookback=32, horizon=8)
    shallow = {"informer": {"layers": 2}, "pyraformer": {"layers": 2}, "crossformer": {"stages": 1, "segment": 8}}
    model = stem(name, 32, 8, 2, dropout=0.0, width=16, **shallow[name])
    result = train(model, task, Recipe(epochs=4, batch_size=16, learning_rate=1e-2), seed=0)
    assert result.metrics["mse"] < 0.1 * naive_baselines(task, "val")["last value"]["mse"]


class TestInformer:
    @pytest.mark.parametrize(
        ("lookback", "lengths"), [(96, [96, 48, 24]), (7, [7, 4, 2]), (25, [25, 13, 7]), (1, [1, 1, 1])]
    )
    def test_distilling_halves_time_and_rounds_up(self, lookback, lengths):
        found = places("informer", lookback)
        assert found.pop("embed") == (64, (lookback,))
        assert found == {f"stage{k}": (64, (n,)) for k, n in enumerate(lengths, 1)}

    def test_parameters_by_hand(self):
        embedding = 3 * 7 * 16 + 16
        layer = 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * 32
        distil = 3 * 16 * 16 + 16 + 2 * 16
        head = (24 * 30 + 30) + (16 * 7 + 7)
        hyper = {"width": 16, "ffn": 32, "heads": 2}
        assert count(stem("informer", 96, 30, 7, **hyper)) == embedding + 3 * layer + 2 * distil + 32 + head
        decoder = layer + 4 * (16 * 16 + 16) + 32  # attention to the encoder, and its norm, besides
        generative = embedding + 3 * layer + 2 * distil + 32 + embedding + 2 * decoder + 32 + (16 * 7 + 7)
        assert count(stem("informer", 96, 30, 7, decoder_layers=2, **hyper)) == generative
        assert count(stem("informer", 96, 30, 7, covariates=4, instance_norm=True, **hyper)) == (
            embedding + 4 * 16 + 3 * layer + 2 * distil + 32 + head + 14
        )

    def encoded(self, model, x):
        """The encoder with all queries attending, step by step: `(L, D) -> (n, C)`."""
        tokens = embedded(model.embedding, x)
        for k, layer in enumerate(model.encoder):
            if k:
                distil = model.distil[k - 1]
                conv, norm = distil.conv, distil.norm
                length = len(tokens)
                wide = torch.stack(
                    [
                        (conv.weight * torch.stack([tokens[t - 1], tokens[t], tokens[(t + 1) % length]], 1)).sum((1, 2))
                        for t in range(length)
                    ]
                )
                wide = (wide + conv.bias - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
                wide = F.elu(wide * norm.weight + norm.bias)
                tokens = torch.stack([wide[max(0, t - 1) : t + 2].amax(0) for t in range(0, length, 2)])
            tokens = layer.norms[0](tokens + attend(layer.attention, tokens, tokens, 4))
            wide = F.gelu(F.linear(tokens, layer.ffn[0].weight, layer.ffn[0].bias))
            tokens = layer.norms[1](tokens + F.linear(wide, layer.ffn[3].weight, layer.ffn[3].bias))
        return model.encoder_norm(tokens)

    @pytest.mark.parametrize("lookback", [12, 7])
    def test_the_equations_written_out(self, lookback):
        model = moved(stem("informer", lookback, width=8, ffn=12, factor=9))
        x = noise(2, lookback, 3)
        for b in range(2):
            tokens = self.encoded(model, x[b])
            assert len(tokens) == math.ceil(lookback / 4)
            over_time = model.over_time.weight @ tokens + model.over_time.bias[:, None]
            torch.testing.assert_close(model(x)[b], model.projection(over_time), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("label", [None, 0, 12])
    def test_the_generative_decoder_written_out(self, label):
        model = moved(stem("informer", 12, width=8, ffn=12, factor=9, decoder_layers=2, label=label))
        start = 6 if label is None else label
        x = noise(2, 12, 3)
        tokens = self.encoded(model, x[1])
        queries = embedded(model.decoder_embedding, torch.cat([x[1, 12 - start :], torch.zeros(5, 3).double()]))
        past = torch.ones(len(queries), len(queries), dtype=torch.bool).tril()
        for layer in model.decoder:
            queries = layer.norms[0](queries + attend(layer.attention, queries, queries, 4, past))
            queries = layer.norms[1](queries + attend(layer.cross, queries, tokens, 4))
            wide = F.gelu(F.linear(queries, layer.ffn[0].weight, layer.ffn[0].bias))
            queries = layer.norms[2](queries + F.linear(wide, layer.ffn[3].weight, layer.ffn[3].bias))
        torch.testing.assert_close(
            model(x)[1], model.projection(model.decoder_norm(queries)[-5:]), rtol=1e-5, atol=1e-5
        )

    @pytest.mark.parametrize("dense", [False, True])
    def test_the_decoder_sees_no_future(self, dense):
        """Where few queries attend, those that do not take the sum of the past, and of the past alone."""
        layer = moved(DecoderLayer(8, 2, 12, 1, 0.0, dense))
        x, source = noise(1, 20, 8).requires_grad_(), noise(1, 6, 8)
        for t in (0, 7, 19):
            (heard,) = torch.autograd.grad(layer(x, source)[0, t].sum(), x)
            assert heard[0, t].any()
            assert not heard[0, t + 1 :].any()

    def test_only_the_start_token_enters_the_decoder_directly(self):
        model = stem("informer", 24, decoder_layers=1, label=4).eval()
        model.encoder_norm.register_forward_hook(lambda m, a, out: torch.zeros_like(out))
        x = torch.randn(1, 24, 3, requires_grad=True)
        (heard,) = torch.autograd.grad(model(x).sum(), x)
        assert not heard[0, :20].any()
        assert heard[0, 20:].abs().sum(1).gt(0).all()

    @pytest.mark.parametrize(("causal", "training"), [(False, False), (True, False), (False, True)])
    def test_sampled_products_are_the_same_gathered_or_read(self, causal, training):
        torch.manual_seed(0)
        gathered = moved(ProbSparseSelfAttention(8, factor=1, heads=2, causal=causal)).train(training)
        dense = ProbSparseSelfAttention(8, factor=1, heads=2, causal=causal, dense=True).double().train(training)
        dense.load_state_dict(gathered.state_dict())
        results = []
        for layer in (gathered, dense):
            torch.manual_seed(3)
            results.append(layer(noise(2, 60, 8)))
        torch.testing.assert_close(*results)

    def test_long_series_keep_the_bound_of_n_log_n(self):
        layers = stem("informer", 721).encoder
        assert [layer.attention.dense for layer in layers] == [False, True, True]

    def test_what_it_refuses(self):
        for hyper, message in (
            ({"heads": 5}, "5 heads do not divide"),
            ({"label": 25}, "to the lookback of 24, got 25"),
        ):
            with pytest.raises(BackboneError, match=message):
                stem("informer", **hyper)


class TestPyraformer:
    @pytest.mark.parametrize(
        ("lookback", "sizes"), [(96, [97, 24, 6, 1]), (168, [169, 42, 10, 2]), (7, [8, 2, 1, 1]), (1, [2, 1, 1, 1])]
    )
    def test_levels_by_hand(self, lookback, sizes):
        """With its end token; each level a quarter of the one below, rounded down, at least one node."""
        model = stem("pyraformer", lookback)
        nodes, found = model.pyramid(torch.randn(2, lookback + 1, 64))
        assert found == sizes
        assert nodes.shape == (2, sum(sizes), 64)
        assert places("pyraformer", lookback) == {
            n: (64, (lookback + 1,)) for n in ("embed", *map("stage{}".format, range(1, 5)))
        }

    def test_parameters_by_hand(self):
        hyper = {"width": 16, "ffn": 24, "heads": 2, "layers": 3, "scales": (4, 2), "bottleneck": 6}
        pyramid = (16 * 6 + 6) + (4 * 6 * 6 + 6 + 12) + (2 * 6 * 6 + 6 + 12) + (6 * 16 + 16) + 32
        layer = 4 * 16 * 16 + 16 + (16 * 24 + 24) + (24 * 16 + 16) + 2 * 32
        head = (3 * 16) * (30 * 7) + 30 * 7
        assert count(stem("pyraformer", 96, 30, 7, **hyper)) == (3 * 7 * 16 + 16) + pyramid + 3 * layer + head

    @staticmethod
    def mask(sizes, scales, window):
        """The edges between all nodes `(T, T)`, found pair by pair from the definition of the graph."""
        nodes = [(level, i) for level, size in enumerate(sizes) for i in range(size)]

        def is_parent(parent, child):
            (above, p), (below, c) = parent, child
            return above == below + 1 and p == min(c // scales[below], sizes[above] - 1)

        def joined(a, b):
            beside = a[0] == b[0] and abs(a[1] - b[1]) <= window // 2
            return beside or is_parent(a, b) or is_parent(b, a)

        return torch.tensor([[joined(a, b) for b in nodes] for a in nodes])

    @pytest.mark.parametrize(
        ("sizes", "scales", "window"),
        [([13, 3, 1], (4, 2), 3), ([8, 2, 1, 1], (4, 4, 4), 3), ([10, 5], (2,), 5), ([3, 1], (4,), 1)],
    )
    def test_a_node_hears_its_neighbours_children_and_parent_alone(self, sizes, scales, window):
        layer = moved(PyramidLayer(8, 2, 12))
        x = noise(1, sum(sizes), 8).requires_grad_()
        out = layer(x, edges(sizes, scales, window))
        expected = self.mask(sizes, scales, window)
        for i in range(sum(sizes)):
            (heard,) = torch.autograd.grad(out[0, i].sum(), x, retain_graph=True)
            assert torch.equal(heard[0].abs().sum(1) > 0, expected[i])

    @pytest.mark.parametrize("lookback", [20, 7])
    def test_the_equations_written_out(self, lookback):
        """The whole forward with a dense mask, on one window at a time."""
        model = moved(stem("pyraformer", lookback, width=8, ffn=12, scales=(4, 2), layers=2, heads=2))
        x, pyramid = noise(2, lookback, 3), model.pyramid
        tokens = embedded(model.embedding, torch.cat([x[1], torch.zeros(1, 3).double()]))
        levels, level = [], pyramid.down(tokens)
        for conv, norm, scale in zip(pyramid.convs, pyramid.bns, (4, 2), strict=True):
            groups = [level[i * scale : (i + 1) * scale] for i in range(len(level) // scale)]
            level = torch.stack([torch.einsum("kc,dck->d", group, conv.weight) + conv.bias for group in groups])
            level = (level - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
            level = F.elu(level * norm.weight + norm.bias)
            levels.append(level)
        sizes = [lookback + 1, *map(len, levels)]
        nodes = pyramid.norm(torch.cat([tokens, pyramid.up(torch.cat(levels))]))
        for layer in (block.layer for block in model.encoder):
            nodes = layer.norms[0](nodes + attend(layer, nodes, nodes, 2, self.mask(sizes, (4, 2), 3)))
            wide = F.gelu(layer.ffn[0](nodes))
            nodes = layer.norms[1](nodes + layer.ffn[2](wide))
        last = torch.cat([nodes[sum(sizes[: k + 1]) - 1] for k in range(3)])
        torch.testing.assert_close(model(x)[1], model.head(last).view(5, 3), rtol=1e-5, atol=1e-5)

    def test_memory_is_linear_in_the_lookback(self):
        """No tensor of nodes by nodes: the tables of edges grow as the lookback does."""
        rows = [sum(keys.numel() for keys, _ in edges([n, n // 4, n // 16], (4, 4), 3)) for n in (1024, 8192)]
        assert rows[1] == 8 * rows[0]

    def test_what_it_refuses(self):
        for hyper, message in (
            ({"heads": 5}, "5 heads do not divide"),
            ({"scales": ()}, "one or more numbers of at least 2"),
            ({"scales": (4, 1)}, "one or more numbers of at least 2"),
            ({"window": 2}, "window must be odd"),
        ):
            with pytest.raises(BackboneError, match=message):
                stem("pyraformer", **hyper)


class TestCrossformer:
    @pytest.mark.parametrize(
        ("lookback", "counts", "hyper"),
        [
            (96, [8, 4, 2], {}),
            (30, [3, 2, 1], {}),
            (7, [1, 1, 1], {}),
            (96, [16, 8, 4], {"segment": 6}),
            (96, [16, 6, 2], {"segment": 6, "merge": 3}),
        ],
    )
    def test_segments_by_hand(self, lookback, counts, hyper):
        found = places("crossformer", lookback, **hyper)
        assert found.pop("embed") == (64, (7, counts[0]))
        assert found == {f"stage{k}": (64, (7, n)) for k, n in enumerate(counts, 1)}

    def test_parameters_by_hand(self):
        c, f, r = 16, 24, 5
        attention = 4 * (c * c + c)
        two_stage = 3 * attention + 4 * 2 * c + 2 * (c * f + f + f * c + c)
        encoder = 3 * two_stage + r * c * (8 + 4 + 2) + 2 * (2 * 2 * c + 2 * c * c + c)
        layer = two_stage + 3 * r * c + attention + 2 * (c * c + c) + 2 * 2 * c + (c * 12 + 12)
        ends = (12 * c + c) + 7 * 8 * c + 2 * c + 7 * 3 * c
        model = stem("crossformer", 96, 30, 7, width=c, ffn=f, factor=r)  # 30 steps are 3 segments
        assert count(model) == encoder + 4 * layer + ends

    def test_segments_are_filled_in_front_with_the_first_value(self):
        model = stem("crossformer", 7, series=1, segment=4)
        seen = []
        model.projection.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        model(torch.arange(5.0, 12.0).view(1, 7, 1))
        assert seen[0].tolist() == [[[[5, 5, 6, 7], [8, 9, 10, 11]]]]

    @pytest.mark.parametrize(("merge", "expected"), [(2, [[0, 1], [2, 3], [4, 4]]), (7, [[0, 1, 2, 3, 4, 4, 4]])])
    def test_merging_by_hand(self, merge, expected):
        """Neighbours of one series side by side; what is short repeats the last."""
        stage = Stage(1, merge, nn.Identity())
        stage.norm = stage.linear = nn.Identity()
        x = torch.arange(5.0).view(1, 1, 5, 1) + torch.tensor([0.0, 10.0]).view(1, 2, 1, 1)
        assert stage(x)[0, 0].tolist() == expected
        assert (stage(x)[0, 1] - 10).tolist() == expected

    def test_routers_of_each_segment_gather_and_give_back(self):
        """With torch's layers, series by series and segment by segment."""
        torch.manual_seed(0)
        layer = moved(TwoStageLayer(8, factor=3, heads=2, width=12, segments=4))
        x = noise(1, 5, 4, 8)  # five series
        y = torch.stack([self.finish(layer, 0, s, attend(layer.time, s, s, 2)) for s in x[0]])
        out = torch.empty_like(y)
        for s in range(4):
            messages = attend(layer.gather, layer.routers[s], y[:, s], 2)
            out[:, s] = self.finish(layer, 1, y[:, s], attend(layer.distribute, y[:, s], messages, 2))
        torch.testing.assert_close(layer(x)[0], out)
        assert layer.routers.shape == (4, 3, 8)

    @staticmethod
    def finish(layer, stage, tokens, attended):
        tokens = layer.norms[2 * stage](tokens + attended)
        wide = F.gelu(layer.ffns[stage][0](tokens))
        return layer.norms[2 * stage + 1](tokens + layer.ffns[stage][2](wide))

    def test_the_equations_written_out(self):
        """Two-stage layers as they are; the rest window by window and series by series."""
        model = moved(stem("crossformer", 30, 8, 3, segment=6, width=8, ffn=12, heads=2, stages=2))
        x = noise(2, 30, 3)
        tokens = torch.stack(
            [torch.stack([model.projection(x[1, 6 * s : 6 * s + 6, d]) for s in range(5)]) for d in range(3)]
        )
        scales = [model.embed(tokens + model.position)]
        scales.append(model.encoder[0].attention(scales[0][None])[0])
        merge = model.encoder[1]
        pairs = torch.stack([torch.cat([scales[1][:, i], scales[1][:, min(i + 1, 4)]], 1) for i in (0, 2, 4)], 1)
        scales.append(merge.attention(merge.linear(merge.norm(pairs))[None])[0])
        targets, forecast = model.target_position, 0
        for layer, predict, source in zip(model.decoder, model.predict, scales, strict=True):
            targets = layer.attention(targets[None])[0]
            crossed = torch.stack([attend(layer.cross, t, s, 2) for t, s in zip(targets, source, strict=True)])
            targets = layer.norms[0](targets + crossed)
            targets = layer.norms[1](targets + layer.ffn[2](F.gelu(layer.ffn[0](targets))))
            forecast = forecast + predict(targets)
        torch.testing.assert_close(model(x)[1], forecast.flatten(1)[:, :8].T)

    def test_the_two_dimensional_library_fits(self):
        plan = {"embed": "cbam", "stage1": "coord_attention", "stage2": "two_stage_attention"}
        assert_two_dimensional_modules_fit(stem("crossformer", 96, 6, 5).eval(), plan, (96, 5))

    def test_what_it_refuses(self):
        for hyper, message in (
            ({"heads": 5}, "5 heads do not divide"),
            ({"segment": 0}, "segment=0"),
            ({"merge": 1}, "merge=1"),
            ({"stages": 0}, "stages=0"),
        ):
            with pytest.raises(BackboneError, match=message):
                stem("crossformer", **hyper)


@pytest.mark.parametrize("lead", [(2,), (2, 3), (2, 1, 3)])
def test_cross_attention_in_groups(lead):
    torch.manual_seed(0)
    layer = moved(CrossAttention(8, 2))
    x, source = noise(*lead, 4, 8), noise(*lead, 5, 8) + 1
    groups = zip(x.flatten(0, -3), source.flatten(0, -3), strict=True)
    expected = torch.stack([attend(layer, a, b, 2) for a, b in groups])
    torch.testing.assert_close(layer(x, source).flatten(0, -3), expected)
