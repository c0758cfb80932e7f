"""Pretexts for series: values worked out by hand, the definition written as loops, invariances and limits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_pretext
from nasbench.ops.contrast import nt_xent
from nasbench.ops.pretext import Progress
from nasbench.ops.series_contrast import group_contrast, id_contrast, mixed_frequencies
from nasbench.training.pretexts.encoder import encoder_of

SIZE = (16, 3)


def made(name, channels=6, size=SIZE, **hyper):
    torch.manual_seed(0)
    return create_pretext(name, channels, items=20, input_size=size, **hyper)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def series(count=4, size=SIZE, seed=0):
    return torch.randn(count, *size, generator=draw(seed))


class Pooled(nn.Module):
    """An encoder whose features are the means of the series, twice, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, x, hide=None):
        self.seen.append(x)
        return x.nanmean(1).repeat(1, 2) * self.weight


class Steps(nn.Module):
    """An encoder whose vector of a step is its values, twice; zero where it is hidden."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x, hide=None):
        x = x.nan_to_num(0.0)
        x = x if hide is None else x.masked_fill(hide.unsqueeze(2), 0.0)
        return x.transpose(1, 2).repeat(1, 2, 1) * self.weight


class TestCPC:
    def test_the_loss_equals_the_definition(self):
        pretext = made("cpc", segment=4, future=2, width=5)
        out = pretext(Pooled(), pretext.views(series(), draw()))
        z, expected = out["z"], []
        assert z.shape == (4, 4, 6)
        for k in (1, 2):
            parts = []
            for t, i in itertools.product(range(4 - k), range(4)):
                c = pretext.context(z)[0][i, t]
                scores = torch.stack([z[j, t + k] @ pretext.predictors[k - 1].weight @ c for j in range(4)])
                parts.append(-scores.log_softmax(0)[i])
            expected.append(sum(parts) / len(parts))
        torch.testing.assert_close(pretext.loss(out), sum(expected) / 2)

    def test_a_prediction_does_not_see_what_it_predicts(self):
        pretext = made("cpc", segment=4, width=5)
        x = series()
        other = x.clone()
        other[:, 8:] += 1.0  # the last two of four segments
        first, second = (pretext(Pooled(), pretext.views(each, draw())) for each in (x, other))
        for one, two in zip(first["guesses"], second["guesses"], strict=True):
            assert torch.equal(one[:, :2], two[:, :2])  # made after the first and the second segment

    def test_a_global_module_sees_one_segment_alone(self):
        host = create_backbone("ts2vec", input_size=SIZE, num_classes=4)
        model = insert(host, {"stage2": "se"}, input_size=SIZE, identity_init=False)
        encoder = encoder_of(model, "segments", SIZE).eval()
        pretext = made("cpc", 128, segment=4, width=5).eval()
        x = series()
        other = x.clone()
        other[:, 4:] += 1.0
        first, second = (pretext(encoder, pretext.views(each, draw()))["z"][:, 0] for each in (x, other))
        torch.testing.assert_close(first, second)

    def test_an_encoder_without_information_has_the_loss_of_chance(self):
        pretext = made("cpc", segment=4, width=5)
        out = pretext(lambda x, hide=None: torch.ones(len(x), 6), pretext.views(series(), draw()))
        assert pretext.loss(out).item() == pytest.approx(math.log(4), abs=1e-5)

    def test_padded_segments_are_neither_encoded_nor_predicted(self):
        pretext, host, x = made("cpc", segment=4, width=5), Pooled(), series()
        x[0, 4:] = torch.nan
        loss = pretext.loss(pretext(host, pretext.views(x, draw())))
        assert len(host.seen[0]) == 13
        assert loss.isfinite()
        # the other series are contrasted as if the short one were not there
        alone = pretext.loss(pretext(host, pretext.views(x[1:], draw())))
        torch.testing.assert_close(loss, alone)

    def test_segments_are_shortened_to_short_series(self):
        pretext = made("cpc", size=(8, 2))
        assert (pretext.segment, pretext.count, len(pretext.predictors)) == (2, 4, 3)
        assert len(made("cpc", size=(640, 2)).predictors) == 12
        with pytest.raises(UnsupportedError, match="cpc needs series of at least 2 steps, got 1"):
            made("cpc", size=(1, 2))


class TestTFC:
    def outputs(self, seed=0):
        h, z = torch.randn(2, 4, 5, 6, generator=draw(seed)).unbind()
        names = ("time", "changed_time", "spectrum", "changed_spectrum")
        return {"h": dict(zip(names, h, strict=True)), "z": dict(zip(names, z, strict=True))}

    def test_the_loss_equals_the_definition(self):
        out = self.outputs()
        h, z = out["h"].values(), out["z"]
        t, ct, f, cf = h
        within = nt_xent(t, ct, 0.2) + nt_xent(f, cf, 0.2)
        near = nt_xent(z["time"], z["spectrum"], 0.2)
        far = [("time", "changed_spectrum"), ("changed_time", "spectrum"), ("changed_time", "changed_spectrum")]
        between = 3 * (1 + near) - sum(nt_xent(z[a], z[b], 0.2) for a, b in far)
        torch.testing.assert_close(made("tfc", weight=0.3).loss(out), 0.3 * within + 0.7 * between)

    def test_equal_vectors_leave_the_margin_alone(self):
        same = torch.ones(5, 6)
        out = {key: dict.fromkeys(("time", "changed_time", "spectrum", "changed_spectrum"), same) for key in "hz"}
        # every NT-Xent is log(2·5 − 1); the three pairs cost their margin of 1 each
        assert float(made("tfc").loss(out)) == pytest.approx(0.5 * 2 * math.log(9) + 0.5 * 3, abs=1e-5)

    def test_the_amplitudes_of_a_wave(self):
        steps = torch.arange(16.0)
        x = torch.cos(2 * math.pi * 3 * steps / 16).view(1, 16, 1)
        found = made("tfc").views(x, draw())["spectrum"][0, :, 0]
        # a cosine of frequency 3 has half of its amplitude at 3 and at 16 − 3: 16/2, by √16
        expected = torch.zeros(16)
        expected[[3, 13]] = 2.0
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_the_changed_spectrum_has_what_was_removed_and_added(self):
        x = series(300, (16, 1))
        drawn = made("tfc").views(x, draw())
        own, other = drawn["spectrum"], drawn["changed_spectrum"]
        assert float((other == 0).float().mean()) == pytest.approx(0.09, abs=0.02)  # .1 removed, and .9 of it left so
        assert float((other - own).max()) <= 0.1 * float(own.max())
        assert made("tfc", noise=0.0).views(x, draw())["changed_time"].equal(x)

    def test_the_frequency_encoder_is_a_second_network_that_starts_as_the_host(self):
        pretext, host = made("tfc"), Pooled()
        pretext.start(host)
        out = pretext(host, pretext.views(series(), draw()))
        pretext.loss(out).backward()
        assert pretext.spectrum_encoder is not host
        assert host.weight.grad is not None
        assert pretext.spectrum_encoder.weight.grad is not None
        assert sum(p.numel() for p in made("tfc", 10).projector.parameters()) == 10 * 256 + 256 + 512 + 256 * 128 + 128

    def test_in_eval_an_item_does_not_depend_on_the_others(self):
        pretext, host, x = made("tfc").eval(), Pooled(), series(6)
        pretext.start(host)
        whole, part = (pretext(host, {"time": each, "spectrum": each})["z"]["time"] for each in (x, x[:2]))
        torch.testing.assert_close(whole[:2], part)


class TestTimesURL:
    def drawn(self, pretext, x, seed=0):
        views = pretext.views(x, draw(seed))
        return views, pretext(Steps(), views)

    def test_the_loss_by_loops(self):
        pretext = made("timesurl", contrast=1.0, alpha=0.8)
        z = torch.randn(2, 3, 2, 4, generator=draw())
        partners = torch.zeros(3, 2, 2)  # the next item, and the next step
        nothing = {"guesses": [], "crops": [], "hide": []}
        found = pretext.loss({"vectors": list(z), "partners": partners, **nothing})

        def level(z):
            across = along = 0.0
            _, batch, steps, _ = z.shape
            for v, i, t in itertools.product(range(2), range(batch), range(steps)):
                a = z[v, i, t]
                for total, group, here in (("across", z[:, :, t], i), ("along", z[:, i], t)):
                    n = group.shape[1]
                    others = [group[u, j] for u, j in itertools.product(range(2), range(n)) if (u, j) != (v, here)]
                    mixed = [
                        0.2 * group[u, j] + 0.8 * group[u, j - 1] for u, j in itertools.product(range(2), range(n))
                    ]
                    cost = torch.stack([a @ b for b in others + mixed]).logsumexp(0) - a @ group[1 - v, here]
                    across, along = (across + cost, along) if total == "across" else (across, along + cost)
            count = 2 * batch * steps
            return 0.8 * across / count + (0.2 * along / count if steps > 1 else 0.0)

        top = z.amax(2, keepdim=True)
        torch.testing.assert_close(found, (level(z) + level(top)) / 2)

    def test_the_error_counts_hidden_steps_that_are_not_padded(self):
        pretext = made("timesurl", contrast=0.0)
        crop = torch.zeros(2, 4, 3)
        crop[1, 3] = torch.nan
        hide = torch.tensor([[True, False, False, False], [False, False, False, True]])
        guess = torch.full((2, 4, 3), 5.0)
        guess[0, 0] = torch.tensor([1.0, 2.0, 0.0])
        vectors = [torch.zeros(2, 1, 4)] * 2
        out = {
            "vectors": vectors,
            "partners": torch.zeros(2, 2, 2),
            "guesses": [guess],
            "crops": [crop],
            "hide": [hide],
        }
        assert float(pretext.loss(out)) == pytest.approx(0.5 * (1 + 4) / 3)

    def test_hidden_values_do_not_reach_the_reconstruction(self):
        pretext, x = made("timesurl"), series()
        views, out = self.drawn(pretext, x)
        changed = {
            **views,
            "crops": [c + 3.0 * h.unsqueeze(2) for c, h in zip(views["crops"], views["hide"], strict=True)],
        }
        for one, two in zip(out["guesses"], pretext(Steps(), changed)["guesses"], strict=True):
            assert torch.equal(one, two)

    def test_the_strongest_frequencies_of_the_right_crop_stay(self):
        x, other = series(), series(seed=1)
        mixed = mixed_frequencies(x, other, 1.0, draw())
        own, theirs, found = (torch.fft.rfft(each, dim=1) for each in (x, other, mixed))
        strongest = own.abs().argsort(dim=1, descending=True).argsort(dim=1) < 3
        torch.testing.assert_close(found[strongest], own[strongest])
        weak = ~strongest
        weak[:, [0, -1]] = False  # the first and the last of an even length are real
        torch.testing.assert_close(found[weak], theirs[weak])
        torch.testing.assert_close(mixed_frequencies(x, other, 0.0, draw()), x)
        x[0, 12:] = torch.nan
        assert mixed_frequencies(x, other, 0.5, draw()).isnan().equal(x.isnan())

    def test_the_left_crop_is_not_mixed_and_both_have_the_overlap(self):
        x = torch.arange(16.0).view(1, 16, 1).expand(4, -1, 1)
        pretext = made("timesurl", size=(16, 1), mixed=0.0)
        for seed in range(10):
            views = pretext.views(x, draw(seed))
            overlap = int(views["overlap"][0])
            first, second = views["crops"]
            torch.testing.assert_close(first[:, -overlap:], second[:, :overlap], atol=1e-4, rtol=0)
            assert first[0, 0, 0] == first[0, 0, 0].round()


class TestCOMET:
    def ids(self, *numbers):
        return torch.tensor(numbers)

    def test_id_contrast_by_hand(self):
        z = torch.eye(3)
        # cosines 1 and 0 at τ = 1: own e/(e + 2). Items 0 and 1 are one trial, so they are positives of each other.
        total = math.e + 2
        pair = -(math.log(math.e / total) + math.log(1 / total)) / 2
        alone = -math.log(math.e / total)
        found = id_contrast(z, 5 * z, self.ids(7, 7, 2), 1.0)
        assert float(found) == pytest.approx((2 * pair + alone) / 3)

    def test_it_is_symmetric_and_numbers_are_names(self):
        a, b = torch.randn(2, 5, 4, generator=draw()).unbind()
        numbers = self.ids(0, 1, 0, 2, 1)
        torch.testing.assert_close(id_contrast(a, b, numbers, 0.1), id_contrast(b, a, numbers, 0.1))
        torch.testing.assert_close(id_contrast(a, b, numbers, 0.1), id_contrast(a, b, 9 - numbers, 0.1))

    def test_weights_apply_at_every_level(self):
        z = list(torch.randn(2, 4, 2, 3, generator=draw()).unbind())
        top = [each.amax(1, keepdim=True) for each in z]
        groups = self.ids([0, 0], [1, 0], [2, 1], [2, 1])
        parts = [
            0.1 * group_contrast(*level)
            + 0.2 * group_contrast(*(each.transpose(0, 1) for each in level))
            + 0.3 * id_contrast(*(each.flatten(1) for each in level), groups[:, 0], 0.1)
            + 0.4 * id_contrast(*(each.flatten(1) for each in level), groups[:, 1], 0.1)
            for level in (z, top)
        ]
        pretext = made("comet", observation=0.1, sample=0.2, trial=0.3, patient=0.4)
        torch.testing.assert_close(pretext.loss(z, groups), sum(parts) / 2)
        one_level = made("comet", observation=0.1, sample=0.2, trial=0.0, patient=0.4)
        torch.testing.assert_close(one_level.loss(z, groups[:, 1:]), one_level.loss(z, groups))

    def test_without_groups_the_first_two_contrasts_are_left(self):
        z = list(torch.randn(2, 4, 2, 3, generator=draw()).unbind())
        none = torch.zeros(4, 0, dtype=torch.long)
        first_two = made("comet", trial=0.0, patient=0.0).loss(z, torch.zeros(4, 2, dtype=torch.long))
        torch.testing.assert_close(made("comet").loss(z, none), first_two)

    def test_a_collapsed_encoder_has_the_loss_of_chance(self):
        same = [torch.ones(4, 1, 3)] * 2
        # one step: sample contrast of 2·4 − 1 others, and both id contrasts of 4
        found = made("comet").loss(same, self.ids([0, 0], [1, 0], [2, 1], [3, 1]))
        assert float(found) == pytest.approx(0.25 * math.log(7) + 0.5 * math.log(4), abs=1e-5)


class TestWav2Vec2:
    def test_spans_and_negatives(self):
        pretext = made("wav2vec2", size=(80, 2), span=5, width=8, codes=4)
        x = series(50, (80, 2))
        x[0, 12:] = torch.nan
        views = pretext.views(x, draw())
        hide, negatives = views["hide"], views["negatives"]
        assert negatives.shape == (50, 80, 100)
        assert hide.gather(1, negatives.flatten(1)).all()  # every negative is a hidden step
        assert not hide[0, 12:].any()
        assert hide[1:].sum(1).ge(6).all()  # two spans of 5 that start at different steps
        assert hide[1:].sum(1).le(25).all()  # .065·80 is 5 spans
        runs = hide.float().unfold(1, 5, 1).amin(2)
        covered = F.max_pool1d(F.pad(runs, (4, 4)).unsqueeze(1), 5, stride=1).squeeze(1).bool()
        assert covered.equal(hide)  # hidden steps lie in whole spans

    def test_spans_are_shortened_to_short_series(self):
        pretext = made("wav2vec2", size=(8, 2), width=8, codes=4)
        assert pretext.span == 2
        hidden = pretext.views(series(40, (8, 2)), draw())["hide"].sum(1)
        assert set(hidden.tolist()) == {3, 4}
        with pytest.raises(UnsupportedError, match="wav2vec2 needs series of at least 4 steps, got 3"):
            made("wav2vec2", size=(3, 2))
        with pytest.raises(UnsupportedError, match="codebooks=3 must divide width=8"):
            made("wav2vec2", width=8, codebooks=3)

    def outputs(self, code, number):
        return {
            "context": torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]]),
            "code": torch.tensor([code]),
            "number": torch.tensor([number]),
            "hide": torch.tensor([[True, True, False]]),
            "negatives": torch.tensor([[[0, 1], [1, 0], [0, 0]]]),
            "x": torch.zeros(1, 3, 2),
            "used": torch.tensor(0.25),
            "square": torch.full((1, 3, 2), 0.5),
        }

    def test_the_loss_by_hand(self):
        # For both hidden steps the positive has the cosine 1, the own step does not count, the other one has 0.
        found = made("wav2vec2", temperature=1.0).loss(self.outputs([[2.0, 0.0], [0.0, 3.0], [9.0, 9.0]], [4, 5, 6]))
        assert float(found) == pytest.approx(math.log(1 + math.exp(-1)) + 0.1 * 0.75 + 10 * 0.5)

    def test_equal_codes_are_no_negatives(self):
        found = made("wav2vec2").loss(self.outputs([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]], [4, 4, 5]))
        assert float(found) == pytest.approx(0.1 * 0.75 + 10 * 0.5)

    def test_the_share_of_codes_by_hand(self):
        quantiser = made("wav2vec2", width=4, codebooks=2, codes=3).quantiser.eval()
        with torch.no_grad():
            quantiser.choose.weight.zero_()
            _, _, used = quantiser(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool))
            assert float(used) == pytest.approx(1.0, abs=1e-4)  # every code is as likely as the others
            quantiser.choose.bias.copy_(torch.tensor([50.0, 0, 0, 0, 50.0, 0]))
            codes, numbers, used = quantiser(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool))
        assert float(used) == pytest.approx(2 / 6, abs=1e-4)  # one of three in both books: collapsed
        expected = torch.cat([quantiser.books[0, 0], quantiser.books[1, 1]])
        torch.testing.assert_close(codes, expected.expand(2, 5, -1))
        assert numbers.eq(1).all()  # the codes 0 and 1 of three

    def test_the_temperature_falls_from_2_to_half(self):
        pretext = made("wav2vec2", width=8, codes=4)
        assert pretext.quantiser.warmth == 2.0
        pretext.before_step(Progress(50, 100))
        assert pretext.quantiser.warmth == pytest.approx(1.0)
        pretext.before_step(Progress(100, 100))
        assert pretext.quantiser.warmth == pytest.approx(0.5)

    def test_a_tenth_of_the_gradient_reaches_the_encoder(self):
        pretext, x = made("wav2vec2", width=8, codes=4), series()
        out = pretext(Steps(), pretext.views(x, draw()))
        features = pretext.encoder(x.transpose(1, 2))
        wanted = torch.autograd.grad(features.square().mean(), list(pretext.encoder.parameters()))
        found = torch.autograd.grad(out["square"].mean(), list(pretext.encoder.parameters()))
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, 0.1 * two)

    def test_the_host_does_not_see_hidden_steps_and_the_targets_do(self):
        pretext, x = made("wav2vec2", width=8, codes=4).eval(), series()
        views = pretext.views(x, draw())
        changed = {**views, "x": x + 3.0 * views["hide"].unsqueeze(2)}
        first, second = pretext(Steps(), views), pretext(Steps(), changed)
        assert torch.equal(first["context"], second["context"])
        assert not torch.equal(first["square"], second["square"])


class TestMasked:
    def host(self, size=SIZE, **hyper):
        model = insert(create_backbone("patchtst", input_size=size, num_classes=4), None, input_size=size)
        encoder = encoder_of(model, "tokens", size)
        pretext = made("masked", 64, size, **hyper)
        pretext.start(encoder)
        return pretext.eval(), encoder.eval()

    def test_the_loss_by_hand(self):
        pretext = made("masked")
        patches = torch.zeros(1, 1, 3, 2)
        patches[0, 0, 2] = torch.nan
        out = {
            "patches": patches,
            "guesses": torch.tensor([[[[1.0, 3.0], [7.0, 7.0], [2.0, 2.0]]]]),
            "hide": torch.tensor([[[True, False, True]]]),
        }
        assert float(pretext.loss(out)) == pytest.approx((1 + 9) / 2)

    def test_two_fifths_of_the_patches_are_zero_for_each_series(self):
        pretext = made("masked", size=(40, 3), patch=4)
        x = 5 + 2 * series(30, (40, 3))
        views = pretext.views(x, draw())
        hide = views["hide"]
        assert hide.sum(2).eq(4).all()  # of 10
        assert not hide[:, 0].equal(hide[:, 1])  # drawn for each series by itself
        shown = pretext._patches(views["x"])
        assert shown[hide].eq(0).all()
        assert torch.equal(shown[~hide], views["patches"][~hide])
        torch.testing.assert_close(views["patches"].flatten(2).mean(2), torch.zeros(30, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            views["patches"].flatten(2).std(2, unbiased=False), torch.ones(30, 3), atol=1e-3, rtol=0
        )

    def test_the_shares_of_bert(self):
        pretext = made("masked", size=(40, 3), patch=4, bert=True)
        views = pretext.views(series(400, (40, 3)), draw())
        hide, shown = views["hide"], pretext._patches(views["x"])
        zero = shown[hide].eq(0).all(1)
        same = (shown[hide] == views["patches"][hide]).all(1)
        assert float(zero.float().mean()) == pytest.approx(0.8, abs=0.02)
        assert float(same.float().mean()) == pytest.approx(0.1, abs=0.02)

    def test_hidden_values_do_not_reach_the_reconstruction(self):
        # The host's patches overlap, and its attention is global. What is hidden is hidden from all of its tokens.
        pretext, encoder = self.host()
        x = series()
        views = pretext.views(x, draw())
        views["patches"] = views["patches"] + 3.0 * views["hide"].unsqueeze(3)
        whole = pretext(encoder, views)["guesses"]
        assert torch.equal(whole, pretext(encoder, pretext.views(x, draw()))["guesses"])
        assert whole.shape == views["patches"].shape

    def test_series_and_items_do_not_mix_in_a_host_of_single_series(self):
        pretext, encoder = self.host()
        assert not pretext.mixed
        views = pretext.views(series(), draw())
        whole = pretext(encoder, views)["guesses"]
        alone = pretext(encoder, {name: value[:1] for name, value in views.items()})["guesses"]
        torch.testing.assert_close(whole[:1], alone)
        changed = {**views, "x": views["x"] + torch.tensor([0.0, 0.0, 1.0]) * series(seed=2)}
        torch.testing.assert_close(pretext(encoder, changed)["guesses"][:, :2], whole[:, :2])

    def test_a_host_whose_tokens_are_of_all_series(self):
        model = insert(create_backbone("pyraformer", input_size=SIZE, num_classes=4), None, input_size=SIZE)
        encoder = encoder_of(model, "tokens", SIZE)
        pretext = made("masked", 64)
        pretext.start(encoder)
        assert pretext.mixed
        views = pretext.views(series(), draw())
        assert pretext(encoder, views)["guesses"].shape == views["patches"].shape

    @pytest.mark.parametrize(("steps", "hidden"), [(2, 1), (3, 2), (8, 2), (96, 4)])
    def test_at_least_one_patch_is_hidden_and_not_all(self, steps, hidden):
        assert made("masked", size=(steps, 1)).hidden == hidden
