"""Pretexts of images: values worked out by hand, the definition written as loops, and limits."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasbench.errors import InputError, UnsupportedError
from nasbench.library.modules import create_pretext
from nasbench.ops.pretext import Progress

SIZE = (3, 16, 16)


def made(name, channels=6, items=20, **hyper):
    torch.manual_seed(0)
    return create_pretext(name, channels, items=items, input_size=SIZE, **hyper)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Host(nn.Module):
    """An encoder whose features are the means of the channels, times a weight. It runs at sizes of at least 4."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def runs_at(self, size):
        return size[1] >= 4

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return x.mean((2, 3)).repeat(1, 2) * self.weight


class TestDINO:
    SMALL: ClassVar = {"hidden": 8, "width": 4, "outputs": 5, "local": 2}

    def test_the_loss_by_loops(self):
        pretext = made("dino", **self.SMALL)
        pretext.centre.copy_(drawn(1, 5, seed=1))
        student, teacher = drawn(4, 3, 5), drawn(2, 3, 5, seed=2)
        losses = [
            -sum(
                F.softmax((teacher[u, i] - pretext.centre[0]) / 0.04, 0) @ F.log_softmax(student[v, i] / 0.1, 0)
                for i in range(3)
            )
            / 3
            for u in range(2)
            for v in range(4)
            if u != v
        ]
        assert len(losses) == 6
        found = pretext.loss({"student": list(student), "teacher": list(teacher)})
        torch.testing.assert_close(found, sum(losses) / 6)

    def test_a_collapsed_network_has_the_loss_of_chance(self):
        same = torch.ones(3, 5)
        found = made("dino", **self.SMALL).loss({"student": [same] * 4, "teacher": [same] * 2})
        assert float(found) == pytest.approx(math.log(5))

    def test_a_lower_temperature_of_the_teacher_lowers_the_entropy_of_its_targets(self):
        teacher = drawn(6, 5)
        # If the student agrees with the teacher, the loss is the entropy of the targets.
        entropies = []
        for temperature in (0.04, 0.1):
            pretext = made("dino", **self.SMALL, teacher_temperature=temperature, temperature=temperature)
            pretext.eval()
            entropies.append(float(pretext.loss({"student": [teacher] * 2, "teacher": [teacher] * 2})))
        assert 0 < entropies[0] < entropies[1] < math.log(5)

    def test_the_centre_changes_after_the_step_by_a_tenth(self):
        pretext, host = made("dino", **self.SMALL), Host()
        pretext.start(host)
        pretext.before_step(Progress(1, 4))
        teacher = [drawn(3, 5), drawn(3, 5, seed=1)]
        pretext.loss({"student": teacher, "teacher": teacher})
        assert not pretext.centre.any()
        pretext.after_step(host, Progress(1, 4))
        torch.testing.assert_close(pretext.centre[0], 0.1 * torch.cat(teacher).mean(0))

    def test_crops_of_one_size_pass_as_one_batch_and_the_teacher_sees_the_global_ones(self):
        pretext, host = made("dino", **self.SMALL), Host()
        pretext.start(host)
        views = pretext.views(torch.rand(3, *SIZE), torch.Generator().manual_seed(0))
        assert [tuple(view.shape) for view in views["local"]] == [(3, 3, 7, 7)] * 2  # 16 · 96/224
        outputs = pretext(host, views)
        assert host.seen == [(6, 3, 16, 16), (6, 3, 7, 7)]
        assert pretext.teacher.module.seen == [(6, 3, 16, 16)]
        assert [len(outputs[key]) for key in ("student", "teacher")] == [4, 2]
        # The teacher starts as the network, so both agree on the global crops.
        torch.testing.assert_close(outputs["student"][:2], outputs["teacher"])

    def test_local_crops_have_a_size_at_which_the_host_runs(self):
        host = Host()
        pretext = create_pretext("dino", 6, items=9, input_size=(3, 64, 64), hidden=8, width=4)
        sizes = {}
        for name, runs in (("any", lambda s: True), ("whole", lambda s: s[1] % 16 == 0), ("own", lambda s: s[1] == 64)):
            host.runs_at = runs
            pretext.start(host)
            sizes[name] = pretext.local_view.size
        assert sizes == {"any": (27, 27), "whole": (32, 32), "own": (64, 64)}
        fixed = made("dino", **self.SMALL, local_size=3)
        with pytest.raises(UnsupportedError, match="local_size=3: the host does not run"):
            fixed.start(Host())

    def test_the_last_layer_does_not_change_in_the_first_epoch(self):
        pretext = made("dino", **self.SMALL)
        for epoch, changes in ((1, False), (2, True)):
            pretext.head(drawn(3, 6)).sum().backward()
            pretext.after_backward(Progress(1, 4, epoch))
            assert (pretext.head.rows.grad is not None) is changes
            assert pretext.head.layers[0].weight.grad is not None

    def test_the_length_of_the_last_rows_has_no_effect(self):
        pretext = made("dino", **self.SMALL)
        before = pretext.head(drawn(3, 6)).detach()
        with torch.no_grad():
            pretext.head.rows.mul_(7.0)
        torch.testing.assert_close(pretext.head(drawn(3, 6)).detach(), before)
        assert float(before.abs().max()) <= 1 + 1e-6  # cosines

    def test_only_parameters_of_the_teacher_follow(self):
        pretext, host = made("dino", **self.SMALL, momentum=0.5), Host()
        pretext.start(host)
        with torch.no_grad():
            host.weight += 1
        pretext.after_step(host, Progress(1, 2))
        assert float(pretext.teacher.module.weight) == pytest.approx(1.5)

    def test_a_crop_above_the_split_is_refused(self):
        with pytest.raises(UnsupportedError, match=r"crop=0\.5 must not be above split=0\.4"):
            made("dino", crop=0.5)

    def test_the_size_of_the_head(self):
        # two layers of 8 and one of 4 with biases, and 5 rows of 4
        assert sum(p.numel() for p in made("dino", **self.SMALL).head.parameters()) == 56 + 72 + 36 + 20


class Patches(nn.Module):
    """A host with 2 x 2 patches of 8 x 8 pixels and a prefix token, whose tokens are the means of the patches."""

    grid, patch, prefix = (2, 2), (8, 8), 1

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.ones(1, 5, 6))
        self.seen = []

    def forward(self, x, keep=None):
        tokens = F.avg_pool2d(x, 8).flatten(2).repeat(1, 2, 1)
        tokens = tokens.gather(2, keep.unsqueeze(1).expand(-1, 6, -1))
        self.seen.append(tokens)
        return torch.cat([tokens.new_ones(len(x), 6, 1), tokens], dim=2)


class TestMAE:
    def ready(self, **hyper):
        pretext, host = made("mae", width=32, depth=1, **hyper), Patches()
        pretext.start(host)
        return pretext, host

    def test_a_patch_is_in_the_order_row_column_channel(self):
        pretext, host = self.ready()
        x = torch.arange(3 * 256.0).view(1, *SIZE)
        views = {"image": x, "order": torch.arange(4).unsqueeze(0)}
        pixels = pretext(host, views)["pixels"]
        assert pixels.shape == (1, 4, 192)
        # patch 1 is the upper right one, and its first pixel is at column 8
        assert pixels[0, 1, :4].tolist() == [8, 8 + 256, 8 + 512, 9]
        assert pixels[0, 2, 0] == 8 * 16

    def test_the_loss_by_hand(self):
        pretext, _ = self.ready(normalise=False)
        outputs = {
            "predicted": torch.tensor([[[1.0, 1.0], [0.0, 2.0], [9.0, 9.0]]]),
            "pixels": torch.zeros(1, 3, 2),
            "removed": torch.tensor([[True, True, False]]),
        }
        assert float(pretext.loss(outputs)) == pytest.approx((1 + 2) / 2)

    def test_normalised_pixels_have_variance_1(self):
        pretext, _ = self.ready()
        pixels = 5 + 3 * drawn(2, 4, 50)
        outputs = {"pixels": pixels, "removed": torch.ones(2, 4, dtype=torch.bool), "predicted": torch.zeros(2, 4, 50)}
        # The unbiased variance of 50 pixels is 1, so their mean square is 49/50.
        assert float(pretext.loss(outputs)) == pytest.approx(49 / 50, rel=1e-4)

    def test_three_quarters_are_removed_and_have_no_influence_on_the_prediction(self):
        pretext, host = self.ready()
        pretext.eval()
        x = drawn(2, *SIZE)
        order = torch.tensor([[2, 0, 1, 3], [1, 3, 2, 0]])
        outputs = pretext(host, {"image": x, "order": order})
        assert outputs["removed"].tolist() == [[True, True, False, True], [True, False, True, True]]
        other = x.clone()
        other[0, :, :8], other[0, :, 8:, 8:] = 5.0, -3.0  # all but patch 2
        again = pretext(host, {"image": other, "order": order})
        torch.testing.assert_close(again["predicted"], outputs["predicted"])
        other[0, :, 8:, :8] = 4.0
        third = pretext(host, {"image": other, "order": order})
        assert not torch.allclose(third["predicted"][0], outputs["predicted"][0])
        torch.testing.assert_close(third["predicted"][1], outputs["predicted"][1])  # the other image

    def test_what_is_left_returns_to_its_place(self):
        pretext, host = self.ready(removed=0.5)
        pretext.blocks = nn.Identity()
        pretext.norm, pretext.to_pixels = nn.Identity(), nn.Identity()
        order = torch.tensor([[3, 1, 0, 2]])
        predicted = pretext(host, {"image": drawn(1, *SIZE), "order": order})["predicted"][0]
        expected = pretext.embed(host.seen[0][0].T)
        places = pretext.places[1:]
        torch.testing.assert_close(predicted[3], expected[0] + places[3])
        torch.testing.assert_close(predicted[1], expected[1] + places[1])
        torch.testing.assert_close(predicted[[0, 2]], pretext.token[0] + places[[0, 2]])

    def test_positions_start_as_sines_unless_they_shall_not(self):
        _, host = self.ready()
        learned = host.positions.detach()[0]
        assert learned[0].tolist() == [0] * 6
        assert learned[1].tolist() == [0, 1, 0, 0, 1, 0]  # sin 0, cos 0 of row and of column
        assert float(learned[2, 4]) == pytest.approx(math.cos(1.0), rel=1e-5)
        assert (self.ready(positions=False)[1].positions == 1).all()

    def test_sizes_that_do_not_fit(self):
        with pytest.raises(UnsupportedError, match="width=40 must be a multiple of 32"):
            made("mae", width=40)
        host = Patches()
        host.grid = (1, 1)
        with pytest.raises(UnsupportedError, match="one patch"):
            made("mae", width=32).start(host)

    @pytest.mark.parametrize(("removed", "left"), [(0.75, 1), (0.5, 2), (0.01, 3), (0.99, 1)])
    def test_one_patch_at_least_is_left_and_one_removed(self, removed, left):
        assert self.ready(removed=removed)[0].left == left


class TestInstanceDiscrimination:
    def outputs(self, f, noise=None, other=None):
        views = [f] if other is None else [f, other]
        return {"vectors": views, "noise": torch.zeros(len(f), 0, dtype=torch.long) if noise is None else noise}

    def test_all_images_by_hand(self):
        pretext = made("instance_discrimination", items=3, width=2, temperature=1.0)
        pretext.bank.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        loss = pretext.loss(self.outputs(torch.tensor([[3.0, 0.0]])), items=torch.tensor([1]))
        assert float(loss) == pytest.approx(math.log(math.e + 1 + 1 / math.e))

    def test_noise_by_hand(self):
        pretext = made("instance_discrimination", items=3, width=2, noise=2, temperature=1.0)
        pretext.bank.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        outputs = self.outputs(torch.tensor([[3.0, 0.0]]), noise=torch.tensor([[1, 2]]))
        pretext.before_step(Progress(1, 4))
        loss = pretext.loss(outputs, items=torch.tensor([0]))
        scores = [math.e, 1.0, 1 / math.e]  # own, and two rows of noise
        constant = sum(scores) / 3 * 3
        own, *drawn_rows = (score / constant for score in scores)
        odds = 2 / 3
        expected = -math.log(own / (own + odds)) - sum(math.log(1 - p / (p + odds)) for p in drawn_rows)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        # The constant is kept from the first step on.
        assert math.isinf(float(pretext.log_constant))
        pretext.after_step(nn.Identity(), Progress(1, 4))
        assert float(pretext.log_constant) == pytest.approx(math.log(constant), rel=1e-5)
        pretext.before_step(Progress(2, 4))
        pretext.loss(self.outputs(torch.tensor([[0.0, -3.0]]), noise=torch.tensor([[1, 1]])), items=torch.tensor([0]))
        pretext.after_step(nn.Identity(), Progress(2, 4))
        assert float(pretext.log_constant) == pytest.approx(math.log(constant), rel=1e-5)

    def test_a_small_temperature_stays_finite(self):
        """exp(1 / 0.001) is beyond single and double precision, and its logarithm is not."""
        pretext = made("instance_discrimination", items=3, width=2, noise=2, temperature=0.001)
        pretext.bank.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        f = torch.tensor([[3.0, 0.03]], requires_grad=True)
        pretext.before_step(Progress(1, 4))
        loss = pretext.loss(self.outputs(f, noise=torch.tensor([[1, 2]])), items=torch.tensor([0]))
        # The own row has nearly all of the sum, whose mean over 3 rows times 3 is Z: h = 1 / (1 + 2 / 3).
        assert float(loss.detach()) == pytest.approx(math.log(1 + 2 / 3), rel=1e-4)
        loss.backward()
        assert f.grad.isfinite().all()

    @pytest.mark.parametrize("value", [0, -1.0, 101.0, 1e9, math.inf])
    def test_a_temperature_has_bounds(self, value):
        for name in ("instance_discrimination", "simclr", "moco"):
            with pytest.raises(UnsupportedError, match=r"temperature.*at least 0.001, at most 100"):
                made(name, temperature=value)

    def test_the_bank_changes_after_the_step(self):
        pretext = made("instance_discrimination", items=3, width=2)
        pretext.bank.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        before = pretext.bank.clone()
        for _ in range(2):  # a step that is tried again counts once
            pretext.before_step(Progress(1, 4))
            pretext.loss(self.outputs(torch.tensor([[0.0, 2.0]])), items=torch.tensor([0]))
        assert torch.equal(pretext.bank, before)
        pretext.after_step(nn.Identity(), Progress(1, 4))
        assert pretext.bank[0].tolist() == pytest.approx([math.sqrt(0.5)] * 2)  # half way, as a unit vector
        assert torch.equal(pretext.bank[1:], before[1:])

    def test_all_rows_are_unit_vectors_from_the_start(self):
        bank = made("instance_discrimination", items=30).bank
        assert bank.shape == (30, 128)
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(30))

    def test_an_image_without_a_row_is_recognised_by_its_other_view(self):
        pretext = made("instance_discrimination", items=3, width=2, temperature=1.0).eval()
        pretext.bank.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]))
        f = torch.tensor([[1.0, 0.0]])
        loss = pretext.loss(self.outputs(f, other=f), items=torch.tensor([-1]))
        assert float(loss) == pytest.approx(math.log(math.e + 2 + 1 / math.e) - 1)

    def test_views_and_noise(self):
        x, draw = torch.rand(4, *SIZE), torch.Generator().manual_seed(0)
        pretext = made("instance_discrimination", items=20, noise=7)
        assert len(pretext.views(x, draw)["views"]) == 1
        views = pretext.eval().views(x, draw)
        assert len(views["views"]) == 2
        assert views["noise"].shape == (4, 7)
        assert views["noise"].max() < 20
        assert made("instance_discrimination", items=20, noise=20).views(x, draw)["noise"].shape == (4, 0)

    def test_temperatures_of_the_official_trainings(self):
        assert made("instance_discrimination", noise=20).temperature == 0.1
        assert made("instance_discrimination", noise=19).temperature == 0.07

    def test_a_bank_larger_than_memory_is_refused(self):
        with pytest.raises(UnsupportedError, match=r"20 rows of width 1000000000000 take 80000 GB, more than"):
            made("instance_discrimination", width=10**12)


class Stages(nn.Module):
    """A host with two maps."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x, add=None):
        first = self.first(x) + (add[0][..., None, None] if add else 0)
        return [first, self.second(first) + (add[1][..., None, None] if add else 0)]


class TestDenoise:
    def test_the_schedule(self):
        pretext = made("denoise", [4, 6])
        assert float(pretext.kept_share[0]) == 1
        assert float(pretext.kept_share[1]) == pytest.approx(1 - 1e-4)
        assert float(pretext.kept_share[2]) == pytest.approx((1 - 1e-4) * (1 - 1e-4 - (0.02 - 1e-4) / 999), rel=1e-6)
        assert len(pretext.kept_share) == 1001
        assert float(pretext.kept_share[-1]) == pytest.approx(4.0e-5, rel=0.02)  # almost nothing is left at T

    def test_the_noise_that_is_asked_for_is_in_the_image(self):
        pretext, x = made("denoise", [4, 6], flip=False), torch.rand(40, *SIZE)
        views = pretext.views(x, torch.Generator().manual_seed(0))
        share = pretext.kept_share[views["t"]].view(-1, 1, 1, 1)
        noisy = share.sqrt() * (2 * x - 1) + (1 - share).sqrt() * views["noise"].view_as(x)
        torch.testing.assert_close(views["image"], (noisy + 1) / 2, rtol=1e-4, atol=1e-4)
        assert int(views["t"].min()) >= 1
        assert float(views["noise"].std()) == pytest.approx(1.0, abs=0.02)

    def test_nothing_is_added_at_time_0(self):
        pretext = made("denoise", [4, 6])
        vectors = pretext.vectors_of(torch.tensor([0, 5, 900]))
        assert [tuple(v.shape) for v in vectors] == [(3, 4), (3, 6)]
        assert all(float(v[0].detach().abs().max()) < 1e-6 < float(v[1:].detach().abs().max()) for v in vectors)

    def test_the_loss_by_hand_and_that_of_a_prediction_of_zero(self):
        pretext = made("denoise", [4, 6])
        outputs = {"predicted": torch.tensor([[0.0, 3.0]]), "noise": torch.tensor([[1.0, 1.0]])}
        assert float(pretext.loss(outputs)) == pytest.approx(2.5)
        noise = drawn(50, 100)
        assert float(pretext.loss({"predicted": 0 * noise, "noise": noise})) == pytest.approx(1.0, abs=0.05)

    def test_images_do_not_influence_each_other(self):
        pretext, host = made("denoise", [4, 6], width=8).eval(), Stages()
        views = pretext.views(torch.rand(3, *SIZE), torch.Generator().manual_seed(0))
        whole = pretext(host, views)["predicted"]
        alone = pretext(host, {name: value[1:2] for name, value in views.items()})["predicted"]
        assert whole.shape == (3, 3 * 256)
        torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-5)

    def test_a_decoder_for_maps_of_odd_sizes(self):
        pretext, host = made("denoise", [4, 6], width=8).eval(), Stages()
        x = torch.rand(1, 3, 15, 9)
        assert pretext(host, pretext.views(x, torch.Generator().manual_seed(0)))["predicted"].shape == (1, 3 * 135)

    def test_what_is_kept_has_the_weights_of_the_host_and_the_statistics_of_clean_images(self):
        pretext, host = made("denoise", [4, 6], width=8), Stages()
        host.norm = nn.BatchNorm2d(3, momentum=1.0)
        host.register_forward_pre_hook(lambda module, args: module.norm(args[0]))
        pretext.start(host)
        views = pretext.views(torch.rand(30, *SIZE), torch.Generator().manual_seed(0))
        pretext(host, views)
        torch.nn.init.ones_(host.first.bias)
        pretext.after_step(host, Progress(1, 2))
        kept = pretext.kept(host)
        assert torch.equal(kept.first.bias, torch.ones(4))
        torch.testing.assert_close(kept.norm.running_mean, views["clean"].mean((0, 2, 3)))
        torch.testing.assert_close(host.norm.running_mean, views["image"].mean((0, 2, 3)))


class TestSemiSupervised:
    def made(self, **hyper):
        torch.manual_seed(0)
        return create_pretext("semi_supervised", 6, items=10, input_size=SIZE, num_classes=3, **hyper)

    def outputs(self, count=4):
        return {"z": drawn(2 * count, 5), "logits": drawn(2 * count, 3, seed=1)}

    def test_the_loss_is_the_sum_of_three(self):
        pretext, outputs, labels = self.made(share=1.0), self.outputs(), torch.tensor([0, 1, 1, 2])
        twice = labels.repeat(2)
        z = F.normalize(outputs["z"], dim=1)
        entropy = F.cross_entropy(outputs["logits"], twice)
        together = apart = 0.0
        for i in range(8):
            others = [k for k in range(8) if k != i]
            same = [k for k in others if twice[k] == twice[i]]
            total = sum(torch.exp(z[i] @ z[k] / 0.1) for k in others)
            together -= sum(torch.log(torch.exp(z[i] @ z[k] / 0.1) / total) for k in same) / len(same) / 8
            total = sum(torch.exp(z[i] @ z[k] / 0.5) for k in others)
            apart -= torch.log(torch.exp(z[i] @ z[(i + 4) % 8] / 0.5) / total) / 8
        found = pretext.loss(outputs, items=torch.arange(4), labels=labels)
        torch.testing.assert_close(found, entropy + 0.5 * together + 0.5 * apart)

    def test_labels_that_are_not_known_have_no_effect(self):
        pretext, items = self.made(share=0.2), torch.arange(10)
        assert int(pretext.labelled.sum()) == 2
        outputs, labels = self.outputs(10), torch.randint(3, (10,))
        other = torch.where(pretext.labelled, labels, (labels + 1) % 3)
        assert not torch.equal(other, labels)
        first, second = (pretext.loss(outputs, items=items, labels=each) for each in (labels, other))
        assert torch.equal(first, second)
        known = torch.where(pretext.labelled, (labels + 1) % 3, labels)
        assert not torch.equal(pretext.loss(outputs, items=items, labels=known), first)

    def test_the_same_items_are_labelled_for_all_seeds(self):
        first = self.made(share=0.3).labelled
        torch.manual_seed(5)
        again = create_pretext("semi_supervised", 8, items=10, input_size=(16, 3), num_classes=3, share=0.3).labelled
        assert torch.equal(first, again)

    def test_a_batch_without_a_known_label_has_the_contrast_alone(self):
        pretext, outputs = self.made(share=0.1), self.outputs()
        outputs["logits"].requires_grad_()
        items = (~pretext.labelled).nonzero().flatten()[:4]
        loss = pretext.loss(outputs, items=items, labels=torch.zeros(4, dtype=torch.long))
        loss.backward()
        assert loss.isfinite()
        assert not outputs["logits"].grad.any()
        alone = self.made(share=0.1, contrast=1.0).loss(outputs, items=items, labels=torch.zeros(4, dtype=torch.long))
        torch.testing.assert_close(loss, 0.5 * alone)

    def test_all_labels_of_validation_are_known(self):
        pretext, outputs, labels = self.made(), self.outputs(), torch.tensor([0, 1, 1, 2])
        found = pretext.loss(outputs, items=torch.full((4,), -1), labels=labels)
        torch.testing.assert_close(found, self.made(share=1.0).loss(outputs, items=torch.arange(4), labels=labels))

    def test_items_without_classes_are_refused(self):
        with pytest.raises(UnsupportedError, match="the items have no classes"):
            create_pretext("semi_supervised", 6, items=10, input_size=(16, 3))

    def test_views_of_series_keep_padded_steps(self):
        pretext = create_pretext("semi_supervised", 6, items=10, input_size=(16, 3), num_classes=3, jitter=0.1)
        x = torch.ones(200, 16, 3)
        x[0, 12:] = torch.nan
        first, second = pretext.views(x, torch.Generator().manual_seed(0))
        assert torch.equal(first.isnan(), x.isnan())
        assert not torch.equal(first[1:], second[1:])
        factors = first[1:].mean(1)
        # a factor for each variable, and the mean of 16 steps of noise
        assert float(factors.std()) == pytest.approx(math.sqrt(0.1**2 + 0.1**2 / 16), rel=0.1)
        assert (self.series_without_jitter().views(x[1:], torch.Generator())[0] == 1).all()

    def series_without_jitter(self):
        return create_pretext("semi_supervised", 6, items=10, input_size=(16, 3), num_classes=3, jitter=0.0)

    def test_both_views_pass_as_one_batch(self):
        host = Host()
        outputs = self.made()(host, [torch.rand(4, *SIZE), torch.rand(4, *SIZE)])
        assert host.seen == [(8, *SIZE)]
        assert outputs["logits"].shape == (8, 3)


def test_a_hyper_parameter_out_of_range():
    with pytest.raises(InputError, match="share"):
        create_pretext("semi_supervised", 6, items=10, input_size=SIZE, num_classes=3, share=1.5)
