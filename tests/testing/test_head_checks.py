"""The contract of heads finds what it is for: for each check a head that breaks it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import PluginError, UnsupportedError
from nasbench.library.modules import module_spec
from nasbench.library.registry import register_module
from nasbench.testing import check_head_candidate, check_module, head_candidates
from nasbench.testing._head import HEAD_CHECKS


class Good(nn.Module):
    def __init__(self, channels: list[int], *, num_classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.classify = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, maps: list[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": F.interpolate(self.classify(maps[0]), inputs.shape[2:], mode="bilinear")}

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        total = F.cross_entropy(raw["logits"], targets, ignore_index=255, reduction="sum")
        return total / (targets != 255).sum().clamp(min=1)

    def decode(self, raw: dict[str, Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        return raw["logits"].argmax(1)


class DecodesLogits(Good):
    def decode(self, raw: Any, sizes: Any) -> Tensor:
        return raw["logits"]


class SaysNotWhatItServes(Good):
    def __init__(self, channels: list[int], *, num_classes: int) -> None:
        if len(channels) < 3:
            raise UnsupportedError("needs three levels")
        super().__init__(channels, num_classes=num_classes)


class DividesByNothing(Good):
    def loss(self, raw: Any, targets: Tensor) -> Tensor:
        return F.cross_entropy(raw["logits"], targets, ignore_index=255)


class HasAnUnusedLayer(Good):
    def __init__(self, channels: list[int], *, num_classes: int) -> None:
        super().__init__(channels, num_classes=num_classes)
        self.spare = nn.Linear(2, 2)


class Unlearns(Good):
    def loss(self, raw: Any, targets: Tensor) -> Tensor:
        loss = super().loss(raw, targets)
        return 2 * loss.detach() - loss


class ForgetsATable(Good):
    def __init__(self, channels: list[int], *, num_classes: int) -> None:
        super().__init__(channels, num_classes=num_classes)
        self.table = torch.randn(num_classes, 1, 1)

    def forward(self, maps: Any, inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(maps, inputs)["logits"] + self.table.to(inputs)}


class HoldsItsOutput(Good):
    def forward(self, maps: Any, inputs: Tensor) -> dict[str, Tensor]:
        self.raw = super().forward(maps, inputs)
        return self.raw


class Counts(Good):
    calls = 0

    def forward(self, maps: Any, inputs: Tensor) -> dict[str, Tensor]:
        Counts.calls += 1
        return {"logits": super().forward(maps, inputs)["logits"] + Counts.calls}


class MixesImages(Good):
    def forward(self, maps: Any, inputs: Tensor) -> dict[str, Tensor]:
        logits = super().forward(maps, inputs)["logits"]
        return {"logits": logits + logits.mean(0, keepdim=True)}


class OverwritesTargets(Good):
    def loss(self, raw: Any, targets: Tensor) -> Tensor:
        loss = super().loss(raw, targets)
        targets[targets == 255] = 0
        return loss


class NeedsOneType(Good):
    def forward(self, maps: Any, inputs: Tensor) -> dict[str, Tensor]:
        logits = super().forward(maps, inputs)["logits"]
        return {"logits": logits @ torch.eye(logits.shape[-1], dtype=logits.dtype), "also": inputs - 0}

    def loss(self, raw: Any, targets: Tensor) -> Tensor:
        if raw["logits"].dtype == torch.bfloat16:
            raise RuntimeError("not in bfloat16")
        return super().loss(raw, targets)


class LooksAtValues(Good):
    def forward(self, maps: Any, inputs: Tensor) -> dict[str, Tensor]:
        return super().forward(maps, inputs) if float(maps[0].detach().sum()) else {}


FAULTY: dict[str, tuple[type[nn.Module], str]] = {
    "decodes what the task needs": (DecodesLogits, "expected class numbers (3, 64, 96)"),
    "serves levels or says so": (SaysNotWhatItServes, "but `limits` is empty"),
    "serves nothing to learn": (DividesByNothing, "the loss is nan"),
    "gives gradients": (HasAnUnusedLayer, "no gradient reaches spare.weight, spare.bias"),
    "learns one batch": (Unlearns, "the loss of one batch went from"),
    "round trips state": (ForgetsATable, "after a state dict round trip"),
    "copies and pickles": (HoldsItsOutput, "Only Tensors created explicitly by the user"),
    "is deterministic": (Counts, "the same seed gives two results"),
    "keeps images apart": (MixesImages, "another output than the same image alone"),
    "leaves maps alone": (OverwritesTargets, "maps, images or targets are modified"),
    "works under autocast": (NeedsOneType, "not in bfloat16"),
    "works on meta": (LooksAtValues, "meta"),
}


def register(cls: type[nn.Module], **declared: Any) -> str:
    cls.__module__ = __name__
    register_module(name="my_head", **{"kind": "head", "tasks": ("segmentation",), "dims": 2, **declared})(cls)
    return "my_head"


def test_a_head_that_keeps_the_contract_passes():
    results = check_module(module_spec(register(Good)))
    assert [r.message for r in results if not r.passed] == []
    assert [r.check for r in results] == [check.__name__.replace("_", " ") for check in HEAD_CHECKS]
    assert {r.variant for r in results} == {"segmentation, channels 24, 32, 48"}


@pytest.mark.parametrize("check", FAULTY)
def test_a_broken_promise_is_found_and_named(check: str):
    cls, message = FAULTY[check]
    [candidate] = head_candidates(module_spec(register(cls)))
    failed = {r.check: r.message for r in check_head_candidate(candidate) if not r.passed}
    assert check in failed
    assert message in failed[check]


def test_every_check_has_a_head_that_fails_it():
    assert set(FAULTY) == {check.__name__.replace("_", " ") for check in HEAD_CHECKS}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"tasks": ()}, "a head names at least one of classification, segmentation, point_segmentation"),
        ({"tasks": ("segmentatoin",)}, "a head names at least one of classification, segmentation, point_segmentation"),
        ({"kind": "module"}, "only a head serves a task; this is a module"),
        ({"kind": "module", "tasks": ()}, "'num_classes' must be keyword-only and have a default"),
    ],
)
def test_a_wrong_declaration_is_refused(declared: dict[str, Any], message: str):
    with pytest.raises(PluginError, match=message):
        register(Good, **declared)


def test_a_head_without_a_loss_is_refused():
    class Bare(nn.Module):
        def __init__(self, channels: list[int]) -> None:
            super().__init__()

    with pytest.raises(PluginError, match="missing: loss, decode"):
        register(Bare)
