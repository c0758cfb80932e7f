"""The checks of a pretext find the faults that they are for."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

import pytest
import torch
from torch import nn

import nasbench as nb
from nasbench.errors import PluginError
from nasbench.library.modules import module_spec
from nasbench.ops.pretext import Pretext
from nasbench.testing import check_pretext_candidate, pretext_candidates
from nasbench.testing._candidate import seeded
from nasbench.testing._pretext import PRETEXT_CHECKS


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


class InfiniteForTwo(Good):
    def loss(self, outputs):
        return super().loss(outputs) / (len(outputs[0]) - 2)


class Grows(Good):
    """It stores every loss in a list, which is no part of the state that is saved."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.seen = []

    def after_step(self, encoder, progress):
        self.seen.append(torch.zeros(3))


class GrowsInItsClass(Good):
    seen: ClassVar[dict] = {}

    def loss(self, outputs):
        self.seen[len(self.seen)] = 1
        return super().loss(outputs)


class GrowingBuffer(Good):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("rows", torch.zeros(1))

    def after_step(self, encoder, progress):
        self.rows = torch.cat([self.rows, torch.zeros(1)])


class Bounded(Good):
    """It reads labels as declared. Its queue fills up in the first steps, and a dict has the last step."""

    reads = ("labels",)

    def loss(self, outputs, labels):
        return super().loss(outputs) + 0 * labels.sum()

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.queue, self.last = deque(maxlen=5), {}

    def after_step(self, encoder, progress):
        self.queue.append(torch.zeros(3))
        self.last["step"] = progress.step


class ChangesPixels(Good):
    def views(self, x, draw):
        return [x.clamp_(0.2, 0.8), x]


class NoNumber(Good):
    def loss(self, outputs):
        return super().loss(outputs) * torch.nan


class NoNumberLater(Good):
    def before_step(self, progress):
        self.step = progress.step

    def loss(self, outputs):
        return super().loss(outputs) * (torch.nan if self.training and self.step > 1 else 1)


class Unreduced(Good):
    def loss(self, outputs):
        return (outputs[0] - outputs[1]).square().mean(1)


class NoTensor(Good):
    def loss(self, outputs):
        return 1.0


def candidate_of(cls, dims=1):
    nb.register_module(name="under_test", kind="pretext", dims=dims)(cls)
    (candidate,) = pretext_candidates(module_spec("under_test"))
    return candidate


def faults(cls, dims=1):
    results = check_pretext_candidate(candidate_of(cls, dims))
    return {result.check: result.message for result in results if not result.passed}


def fault(cls, name, dims=1):
    """The message of one check alone, which is quicker than all."""
    (check,) = (each for each in PRETEXT_CHECKS if each.__name__ == name.replace(" ", "_"))
    with seeded():
        return check(candidate_of(cls, dims))


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
        (Grows, "keeps a bounded state", "`seen` grows with the training (8, 16, 24, 32 values"),
        (GrowsInItsClass, "keeps a bounded state", "`seen` grows"),
        (GrowingBuffer, "keeps a bounded state", "`rows` grows"),
    ],
)
def test_a_fault_is_found(cls, check, message, clean_registry):
    assert message in fault(cls, check)


def test_state_with_a_bound_and_declared_labels_are_allowed(clean_registry):
    assert faults(Bounded) == {}


def test_views_that_change_images_are_found(clean_registry):
    assert "`views` changes its inputs x in place" in fault(ChangesPixels, "reads what it declares", 2)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoNumber, "the loss of training step 1 is nan, expected a finite number"),
        (NoNumberLater, "the loss of training step 2 is nan, expected a finite number"),
        (Unreduced, "must be a scalar tensor, got shape (6,)"),
        (NoTensor, "must be a scalar tensor, got float"),
    ],
)
def test_a_loss_that_is_no_number_is_the_only_fault(cls, message, clean_registry):
    found = faults(cls)
    assert list(found) == ["has a finite loss"]
    assert message in found["has a finite loss"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": "map"}, "needs is 'map'; allowed: pooled, segments, steps"),
        ({"reads": ("names",)}, "allowed: items, labels"),
        ({"views": Pretext.views}, "missing: views"),
        ({"label_share": "part"}, "label_share is 'part', no hyper-parameter"),
    ],
)
def test_a_wrong_declaration_is_refused(change, message, clean_registry):
    with pytest.raises(PluginError, match=message):
        nb.register_module(name="wrong", kind="pretext", dims=1)(type("Wrong", (Good,), change))


def test_a_pretext_must_derive_from_the_base_class(clean_registry):
    with pytest.raises(PluginError, match=r"derives from nasbench\.ops\.pretext\.Pretext"):
        nb.register_module(name="wrong", kind="pretext", dims=1)(nn.Linear)
