"""Contrastive losses against their definitions written as loops, and at their limits."""

import math

import pytest
import torch
import torch.nn.functional as F

from nasbench.errors import UnsupportedError
from nasbench.ops.averaging import MeanCopy, MomentumCopy
from nasbench.ops.contrast import cosine_distance, mlp, nt_xent, other_logits, supervised_contrast, unit_rows


def by_loops(first, second, temperature):
    """Equation 1 of SimCLR, averaged over all 2B views."""
    z = [each / each.norm() for each in (*first, *second)]
    count = len(z)
    total = 0.0
    for i in range(count):
        exps = [math.exp(float(z[i] @ z[k]) / temperature) if k != i else 0.0 for k in range(count)]
        total -= math.log(exps[(i + count // 2) % count] / sum(exps))
    return total / count


class TestNTXent:
    def test_equals_the_definition(self):
        first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
        assert float(nt_xent(first, second, 0.2)) == pytest.approx(by_loops(first, second, 0.2), rel=1e-5)

    def test_two_items_by_hand(self):
        first = torch.eye(2)  # both views of item 0 point along x, those of item 1 along y
        expected = math.log(math.exp(2) + 2) - 2  # the positive has cosine 1, both negatives have 0
        assert float(nt_xent(first, first, 0.5)) == pytest.approx(expected, rel=1e-6)

    def test_a_collapsed_encoder_has_the_loss_of_chance(self):
        same = torch.ones(4, 3)
        assert float(nt_xent(same, same, 0.5)) == pytest.approx(math.log(7), rel=1e-6)

    def test_views_and_items_can_be_exchanged(self):
        first, second = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1)).unbind()
        order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
        loss = nt_xent(first, second, 0.5)
        torch.testing.assert_close(nt_xent(second, first, 0.5), loss)
        torch.testing.assert_close(nt_xent(first[order], second[order], 0.5), loss)
        torch.testing.assert_close(nt_xent(3 * first, second, 0.5), loss)


def test_cosine_distance_is_that_of_unit_vectors():
    a, b = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
    expected = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1)
    torch.testing.assert_close(cosine_distance(a, b), expected)


def test_other_logits_leave_the_diagonal_out():
    rows = torch.arange(9.0).view(3, 3)
    assert other_logits(rows).tolist() == [[1, 2], [3, 5], [6, 7]]


def test_mlp_has_the_layers_of_the_papers():
    layers = mlp([8, 16, 4], last_bias=False)
    assert [type(layer).__name__ for layer in layers] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert sum(p.numel() for p in layers.parameters()) == (8 * 16 + 16) + 2 * 16 + 16 * 4


class TestCopies:
    def network(self):
        return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))

    def test_momentum_averages_parameters_and_no_buffer(self):
        source = self.network()
        teacher = MomentumCopy(source)
        before = source[0].weight.clone()
        with torch.no_grad():
            source[0].weight += 1.0
            source[1].running_mean += 5.0
        teacher.update(source, 0.75)
        torch.testing.assert_close(teacher.module[0].weight, before + 0.25)
        assert float(teacher.module[1].running_mean.abs().sum()) == 0
        assert not any(p.requires_grad for p in teacher.parameters())

    def test_mean_of_all_updates_with_the_last_buffers(self):
        source = self.network()
        mean, start = MeanCopy(source), source[0].bias.detach().clone()
        for step in (1.0, 2.0, 6.0):
            with torch.no_grad():
                source[0].bias.copy_(start + step)
                source[1].running_var.fill_(step)
            mean.update(source)
        torch.testing.assert_close(mean.module[0].bias, start + 3.0)
        assert mean.module[1].running_var.tolist() == [6.0, 6.0]

    def test_the_teacher_gives_no_gradient(self):
        assert not MomentumCopy(self.network())(torch.randn(4, 2)).requires_grad


class TestSupervisedContrast:
    def test_two_classes_by_hand(self):
        z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the third is alone with its label, and counts nowhere
        found = supervised_contrast(z, torch.tensor([4, 4, 7]), 0.5)
        assert float(found) == pytest.approx(math.log(math.exp(2) + 1) - 2, rel=1e-6)

    def test_with_one_positive_each_it_is_nt_xent(self):
        first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
        labels = torch.arange(5).repeat(2)
        torch.testing.assert_close(
            supervised_contrast(torch.cat([first, second]), labels, 0.2), nt_xent(first, second, 0.2)
        )

    @pytest.mark.parametrize("labels", [[], [0, 1]])
    def test_without_a_positive_it_is_zero(self, labels):
        z = torch.randn(len(labels), 3, requires_grad=True)
        loss = supervised_contrast(z, torch.tensor(labels, dtype=torch.long), 0.1)
        loss.backward()
        assert float(loss.detach()) == 0
        assert not z.grad.any()


def test_rows_of_a_bank_are_unit_vectors_and_fit_into_memory():
    torch.testing.assert_close(unit_rows(9, 4).norm(dim=1), torch.ones(9))
    with pytest.raises(UnsupportedError, match=r"1000000000 rows of width 1000000 take 4000000 GB"):
        unit_rows(10**9, 10**6)
