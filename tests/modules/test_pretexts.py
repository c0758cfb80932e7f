"""Pretexts: values worked out by hand, the definition written as loops, and limits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_pretext
from nasbench.ops.pretext import Progress


def made(name, channels=6, items=20, **hyper):
    torch.manual_seed(0)
    size = (16, 3) if name == "ts2vec" else (3, 16, 16)
    return create_pretext(name, channels, items=items, input_size=size, **hyper)


class Host(nn.Module):
    """An encoder whose features are the means of the channels, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, x, hide=None):
        self.seen.append(len(x))
        return x.mean((2, 3)).repeat(1, 2) * self.weight


def views(count=4):
    return list(torch.randn(2, count, 3, 8, 8, generator=torch.Generator().manual_seed(0)).unbind())


class TestSimCLR:
    def test_both_views_pass_the_host_as_one_batch_first_views_first(self):
        pretext, host, (first, second) = made("simclr").eval(), Host(), views()
        outputs = pretext(host, [first, second])
        assert host.seen == [8]
        torch.testing.assert_close(outputs[1], pretext.project(host(second)))

    def test_layers_of_the_official_code(self):
        # C·C + C, a norm of C, C·128 without a bias, a norm of 128
        assert sum(p.numel() for p in made("simclr", 10).parameters()) == 110 + 20 + 1280 + 256


class TestSimSiam:
    def test_the_loss_by_hand(self):
        pretext = made("simsiam", width=8, hidden=4)
        z = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])]
        p = [torch.tensor([[0.0, 5.0]]), torch.tensor([[3.0, 3.0]])]
        assert float(pretext.loss({"z": z, "p": p})) == pytest.approx(-0.5 * (1 + math.sqrt(0.5)))

    def test_no_gradient_through_the_projection_of_the_other_view(self):
        pretext = made("simsiam", width=8, hidden=4)
        z, p = (torch.randn(2, 5, 8, requires_grad=True) for _ in range(2))
        pretext.loss({"z": z.unbind(), "p": p.unbind()}).backward()
        assert z.grad is None
        assert p.grad.abs().sum() > 0

    def test_the_views_pass_one_by_one(self):
        host = Host()
        made("simsiam", width=8, hidden=4)(host, views())
        assert host.seen == [4, 4]

    def test_the_last_norm_has_no_affine_part_and_the_bias_before_it_is_fixed(self):
        *_, linear, norm = made("simsiam", width=8, hidden=4).projector
        assert not norm.affine
        assert linear.weight.requires_grad
        assert not linear.bias.requires_grad


class TestBYOL:
    @pytest.mark.parametrize(("sign", "loss"), [(1.0, 0.0), (-1.0, 8.0)])
    def test_limits(self, sign, loss):
        a, b = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).unbind()
        found = made("byol", width=8, hidden=4).loss({"q": [a, b], "z": [sign * 2 * b, sign * 3 * a]})
        assert float(found) == pytest.approx(loss, abs=1e-5)

    def test_the_teacher_follows_and_stops_at_the_end(self):
        pretext, host = made("byol", width=8, hidden=4, momentum=0.5), Host()
        pretext.start(host)
        with torch.no_grad():
            host.weight += 1.0
        pretext.after_step(host, Progress(1, 2))
        assert float(pretext.target.module.weight) == pytest.approx(1.5)  # the first step has the base momentum
        pretext.after_step(host, Progress(2, 2))
        assert float(pretext.target.module.weight) == pytest.approx(1.5 + 0.25 * 0.5)  # cosine half way: 0.75

    def test_the_teacher_starts_as_the_network(self):
        pretext, host = made("byol", width=8, hidden=4).eval(), Host()
        pretext.start(host)
        outputs = pretext(host, views())
        torch.testing.assert_close(pretext.predictor(outputs["z"][0]), outputs["q"][0])


class TestMoCo:
    def test_the_loss_by_hand(self):
        pretext = made("moco", width=2, queue=2, temperature=1.0)
        pretext.queue.copy_(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
        outputs = {"query": torch.tensor([[4.0, 0.0]]), "key": torch.tensor([[0.0, 3.0]])}
        # positive 0, negatives 0 and −1
        assert float(pretext.loss(outputs)) == pytest.approx(math.log(2 + math.exp(-1)))

    def test_keys_enter_after_the_step_over_the_oldest(self):
        pretext, host = made("moco", width=2, queue=3), Host()
        pretext.start(host)
        before = pretext.queue.clone()
        for step, angle in enumerate((0.1, 0.2, 0.3, 0.4), start=1):
            pretext.before_step(Progress(step, 4))
            key = torch.tensor([[math.cos(angle), math.sin(angle)]])
            pretext.loss({"query": key, "key": key})
            if step == 1:
                assert torch.equal(pretext.queue, before)
            pretext.after_step(host, Progress(step, 4))
        assert torch.allclose(pretext.queue[:, 1].asin(), torch.tensor([0.4, 0.2, 0.3]))
        assert int(pretext.place) == 1

    def test_a_step_that_is_tried_again_enters_once(self):
        pretext, host = made("moco", width=2, queue=3), Host()
        pretext.start(host)
        for _ in range(2):
            pretext.before_step(Progress(1, 4))
            pretext.loss({"query": torch.ones(1, 2), "key": torch.ones(1, 2)})
        pretext.after_step(host, Progress(1, 4))
        assert int(pretext.place) == 1

    def test_a_queue_as_large_as_the_data_is_refused(self):
        with pytest.raises(UnsupportedError, match="queue=20 must be below the number of training images, 20"):
            made("moco", queue=20)

    def test_the_key_encoder_runs_in_training_mode(self):
        pretext = made("moco", width=2)
        pretext.start(nn.Sequential(nn.BatchNorm2d(3)))
        assert pretext.train().key_encoder.module[0].training


def contrast_by_loops(first, second, alpha):
    """The loss of one level of TS2Vec: equations 1 and 2 of the paper, averaged over both crops."""
    batch, steps, _ = first.shape
    r, other = (first, second), (second, first)
    instance = temporal = 0.0
    for (z, w), i, t in itertools.product(zip(r, other, strict=True), range(batch), range(steps)):
        positive = torch.exp(z[i, t] @ w[i, t])
        across = sum(torch.exp(z[i, t] @ w[j, t]) + (j != i) * torch.exp(z[i, t] @ z[j, t]) for j in range(batch))
        along = sum(torch.exp(z[i, t] @ w[i, s]) + (s != t) * torch.exp(z[i, t] @ z[i, s]) for s in range(steps))
        instance -= torch.log(positive / across)
        temporal -= torch.log(positive / along)
    count = 2 * batch * steps
    return alpha * instance / count + (1 - alpha) * (temporal / count if steps > 1 else 0.0)


class TestTS2Vec:
    def test_the_loss_equals_the_definition_on_all_levels(self):
        z = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).double() / 2
        levels, expected = [tuple(z)], 0.0
        while levels[-1][0].shape[1] > 1:
            levels.append(tuple(F.max_pool1d(each.transpose(1, 2), 2).transpose(1, 2) for each in levels[-1]))
        assert [level[0].shape[1] for level in levels] == [5, 2, 1]
        expected = sum(contrast_by_loops(*level, 0.3) for level in levels) / len(levels)
        torch.testing.assert_close(made("ts2vec", alpha=0.3).loss(tuple(z)), expected)

    def test_a_collapsed_encoder_has_the_loss_of_chance(self):
        same = torch.ones(3, 1, 4)  # one step: instance contrast alone, of 2·3 − 1 others
        assert float(made("ts2vec", alpha=1.0).loss((same, same))) == pytest.approx(math.log(5))

    @pytest.mark.parametrize("steps", [1, 2, 3, 8, 30])
    def test_both_crops_agree_on_their_overlap(self, steps):
        # the value of a step is its number, so the vectors of the overlap must be equal in both crops
        x = torch.arange(float(steps)).expand(4, -1).unsqueeze(2)
        for seed in range(30):
            pretext = made("ts2vec")
            drawn = pretext.views(x, torch.Generator().manual_seed(seed))
            first, second = pretext(lambda crop, hide: crop.transpose(1, 2), drawn)
            assert torch.equal(first, second)
            assert first.shape[1] >= min(2, steps)

    def test_half_of_the_steps_are_hidden_and_nothing_is_filled(self):
        x = torch.randn(50, 40, 2)
        x[0, 30:] = torch.nan
        before = x.clone()
        drawn = made("ts2vec").views(x, torch.Generator().manual_seed(0))
        assert float(torch.cat([h.flatten() for h in drawn["hide"]]).float().mean()) == pytest.approx(0.5, abs=0.05)
        assert torch.equal(x.nan_to_num(9.0), before.nan_to_num(9.0))

    def test_the_mean_of_the_weights_is_kept(self):
        pretext, host = made("ts2vec"), Host()
        pretext.start(host)
        assert pretext.kept(host) is host
        for weight in (2.0, 4.0):
            with torch.no_grad():
                host.weight.fill_(weight)
            pretext.after_step(host, Progress(1, 2))
        assert float(pretext.kept(host).weight) == pytest.approx(3.0)
