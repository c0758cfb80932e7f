"""The checks of a pretext find the faults that they are for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import nasbench as nb
from nasbench.errors import PluginError
from nasbench.library.modules import module_spec
from nasbench.ops.pretext import Pretext
from nasbench.testing import check_pretext_candidate, pretext_candidates


class Good(Pretext):
    """Make two noisy views agree."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, 4)

    def views(self, x, draw):
        return [x + torch.randn(x.shape, generator=draw) for _ in range(2)]

    def forward(self, encoder, views):
        return [self.head(encoder(view)) for view in views]

    def loss(self, outputs):
        return (outputs[0] - outputs[1]).square().mean() + (outputs[0].mean() - 1).square()


class GlobalNumbers(Good):
    def views(self, x, draw):
        return [x + torch.randn(x.shape) for _ in range(2)]


class ChangesInputs(Good):
    def views(self, x, draw):
        x[:] = 0
        return [x, x]


class Forgets(Good):
    """Its state is a plain number."""

    count = 0

    def loss(self, outputs):
        return super().loss(outputs) * (1 + self.count)

    def after_step(self, encoder, progress):
        self.count += 1


class NoHost(Good):
    def loss(self, outputs):
        return self.head.weight.square().sum() + self.head.bias.sum()


class LearnsInEval(Good):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, outputs):
        self.seen += 1
        return super().loss(outputs)


class ReadsLabels(Good):
    """It gets what it does not declare by a trick."""

    reads = ("labels",)

    def loss(self, outputs, labels):
        return super().loss(outputs) + 0 * labels.sum()


class InfiniteForTwo(Good):
    def loss(self, outputs):
        return super().loss(outputs) / (len(outputs[0]) - 2)


def faults(cls, dims=1):
    nb.register_module(name="under_test", kind="pretext", dims=dims)(cls)
    (candidate,) = pretext_candidates(module_spec("under_test"))
    return {result.check: result.message for result in check_pretext_candidate(candidate) if not result.passed}


@pytest.mark.parametrize("dims", [1, 2])
def test_a_good_one_passes(dims, clean_registry):
    found = faults(Good, dims)
    # Nothing in it knows of padded steps, but the host leaves them out.
    assert found == {}


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (GlobalNumbers, "draws from its generator", "torch's own random numbers"),
        (ChangesInputs, "reads what it declares", "modified"),
        (Forgets, "resumes as if uninterrupted", "keep all state in buffers"),
        (NoHost, "trains the host", "no gradient reaches the host"),
        (LearnsInEval, "keeps still in eval", "changes pretext.seen"),
        (InfiniteForTwo, "refuses a batch of one", "raise `fewest`"),
    ],
)
def test_a_fault_is_found(cls, check, message, clean_registry):
    assert message in faults(cls).get(check, "")


def test_declared_labels_are_given(clean_registry):
    assert faults(ReadsLabels) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": "map"}, "needs is 'map'; allowed: pooled, segments, steps"),
        ({"reads": ("names",)}, "allowed: items, labels"),
        ({"views": Pretext.views}, "missing: views"),
    ],
)
def test_a_wrong_declaration_is_refused(change, message, clean_registry):
    with pytest.raises(PluginError, match=message):
        nb.register_module(name="wrong", kind="pretext", dims=1)(type("Wrong", (Good,), change))


def test_a_pretext_must_derive_from_the_base_class(clean_registry):
    with pytest.raises(PluginError, match=r"derives from nasbench\.ops\.pretext\.Pretext"):
        nb.register_module(name="wrong", kind="pretext", dims=1)(nn.Linear)
