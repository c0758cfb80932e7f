"""The contract fails for modules that break it, each in one way, and passes for one that does not."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.registry import Hyperparameter, ModuleSpec
from nasbench.testing import (
    CHECKS,
    CheckResult,
    candidates,
    check_module,
    compile_status,
    export_status,
    variants,
)


class Good(nn.Module):
    """Keeps every promise; the others differ from it in one place."""

    def __init__(self, channels: int, *, dims: int = 2, factor: float = 1.0) -> None:
        super().__init__()
        self.conv = (nn.Conv1d, nn.Conv2d)[dims - 1](channels, channels, 1)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.conv(x)


class HalvesAndDoubles(Good):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x)[..., ::2, ::2], scale_factor=2)


class DividesBySpread(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) / x.std(dim=(2, 3), keepdim=True, correction=0)  # 0 / 0 on a map of 1x1


class RefusesOdd(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        if channels % 2:
            raise UnsupportedError(f"channels must be even, got {channels}")
        super().__init__(channels, dims=dims)


class CrashesOnOdd(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.conv = nn.Conv2d(channels, channels, 1, groups=2)


class WidensOdd(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.shape[1] % 2 == 0 else F.pad(self.conv(x), (0, 0, 0, 0, 0, 1))


class UnusedParameter(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.spare = nn.Parameter(torch.ones(channels))


class Detaches(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.detach())


class InfiniteGradient(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + (self.conv.bias - self.conv.bias).sqrt().view(1, -1, 1, 1)


class TwoZeroGates(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.inner, self.outer = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer * (self.inner * self.conv(x))


class ZeroGate(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.conv(x)


class LazyBuffer(Good):
    def forward(self, x: Tensor) -> Tensor:
        self.register_buffer("shift", torch.ones_like(x[:1, :1]))
        return self.conv(x) + self.shift


class HiddenState(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.hidden = torch.rand(()).item()

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden + self.conv(x)


class CountsInEval(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(x)


class ReplacesParameter(Good):
    def forward(self, x: Tensor) -> Tensor:
        self.conv.bias = nn.Parameter(self.conv.bias.data)
        return self.conv(x)


class DropsOutInEval(Good):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), training=True)


class IgnoresTheSeed(Good):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.conv(x)
        generator = torch.Generator()
        generator.seed()
        return self.conv(x) + torch.randn(x.shape, generator=generator)


class CentresOverBatch(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x - x.mean(0, keepdim=True))


class DividesByBatch(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) / x.shape[0]


class WritesOnInput(Good):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(0.5)
        return self.conv(x)


class WritesOnInputInEval(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.training else x.relu_())


class NeedsItems(Good):
    """Reshapes by a side of -1, which cannot be inferred without items."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(x.shape[0], 1, -1).reshape(x.shape))


class EndsInRelu(Good):
    """Needs its own output in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class OnlyFloat32(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).float()


class MixesTypes(Good):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_add(1, torch.arange(x.shape[1], device=x.device), self.conv(x))


class NeedsContiguous(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.view(x.shape[0], -1).view(x.shape))


class ReadsStrides(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.stride(1)


class HoldsLambda(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.act = lambda x: x.relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class KeepsOutput(Good):
    def forward(self, x: Tensor) -> Tensor:
        self.last = self.conv(x)
        return self.last


class ForgetsOnCopy(Good):
    def __deepcopy__(self, memo: dict) -> nn.Module:
        return type(self)(self.conv.in_channels)


class ReadsValues(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum().item() > 0 else -self.conv(x)


class ReturnsCpu(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if not x.is_meta else torch.zeros(x.shape, device="cpu")


class BatchNormFirst(Good):
    """A bias before a batch normalisation has a gradient of rounding errors: not a fault."""

    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Quantises(Good):
    """Its codes learn from `aux_loss` alone."""

    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__(channels, dims=dims)
        self.code = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.aux_loss = (x.detach() - self.code).square().mean()
        return self.conv(x)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "aux_loss"}

    def __deepcopy__(self, memo: dict) -> nn.Module:
        twin = type(self)(self.conv.in_channels)
        twin.load_state_dict(self.state_dict())
        return twin


class GoodFusion(nn.Module):
    def __init__(self, channels: int, *, inputs: int = 2) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(inputs))

    def forward(self, *maps: Tensor) -> Tensor:
        return sum(conv(x) for conv, x in zip(self.convs, maps, strict=True))


class ForgetsSecond(GoodFusion):
    def forward(self, *maps: Tensor) -> Tensor:
        return sum(conv(maps[0]) for conv in self.convs)


class GoodNeck(nn.Module):
    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, 8, 1) for c in channels)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, pyramid, strict=True)]


class LosesLevel(GoodNeck):
    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        return super().forward(pyramid)[1:]


def declare(cls: type[nn.Module], space: dict[str, tuple] | None = None, **declared: Any) -> ModuleSpec:
    """Return what `register_module` would make of the class, without registering it."""
    declaration = {"kind": "module", "properties": (), "cost_order": 1, "paper": "", "dims": (2,)} | declared
    keywords = [p for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = [p for p in keywords if p.name not in ("dims", "inputs")]
    return ModuleSpec(
        name=cls.__name__.lower(),
        hyperparameters={p.name: Hyperparameter(p.name, p.default, (space or {}).get(p.name, ())) for p in own},
        socket=frozenset(p.name for p in keywords if p not in own),
        home=f"{cls.__module__}:{cls.__qualname__}",
        registered=cls,
        **declaration,
    )


def faults(cls: type[nn.Module], **declared: Any) -> dict[str, str]:
    return {r.check: r.message for r in check_module(declare(cls, **declared)) if not r.passed}


@pytest.mark.parametrize(
    ("cls", "declared"),
    [
        (Good, {"dims": (1, 2), "space": {"factor": (0.5, 1.0, 2.0)}}),
        (RefusesOdd, {"limits": "even channel counts"}),
        (ZeroGate, {"starts_as_identity": True}),
        (BatchNormFirst, {}),
        (Quantises, {}),
        (GoodFusion, {"kind": "fusion"}),
        (GoodNeck, {"kind": "neck"}),
    ],
)
def test_a_module_that_keeps_the_contract_passes(cls: type[nn.Module], declared: dict[str, Any]):
    assert faults(cls, **declared) == {}


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (HalvesAndDoubles, "keeps shape", "gives output [(2, 32, 6, 8)]"),
        (DividesBySpread, "keeps shape", "not finite"),
        (RefusesOdd, "serves channels or says so", "channels must be even, got 1"),
        (CrashesOnOdd, "serves channels or says so", "ValueError: in_channels must be divisible by groups"),
        (WidensOdd, "serves channels or says so", "with 1 channels: input [(2, 1, 5, 7)]"),
        (UnusedParameter, "gives gradients", "no gradient reaches spare"),
        (Detaches, "gives gradients", "no gradient reaches input 0"),
        (InfiniteGradient, "gives gradients", "gradient of conv.bias is not finite"),
        (UnusedParameter, "trains from identity", "inner.spare"),
        (ZeroGate, "starts as declared", "not declared"),
        (LazyBuffer, "round trips state", "keys: ['shift']"),
        (HiddenState, "round trips state", "different result after a state dict round trip"),
        (CountsInEval, "keeps still in eval", "evaluation changes calls"),
        (ReplacesParameter, "keeps still in eval", "replaces a Parameter"),
        (DropsOutInEval, "keeps still in eval", "two evaluations"),
        (IgnoresTheSeed, "is deterministic", "two results"),
        (CentresOverBatch, "keeps items apart", "item 0 changes"),
        (DividesByBatch, "keeps items apart", "differs from the same item alone"),
        (WritesOnInput, "leaves input alone", "modified in training"),
        (WritesOnInputInEval, "leaves input alone", "modified in evaluation"),
        (NeedsItems, "serves an empty batch", "ambiguous"),
        (EndsInRelu, "trains beside in place layers", "modified by an inplace operation"),
        (OnlyFloat32, "works in float64", "float64 in, torch.float32 out"),
        (MixesTypes, "works under autocast", "RuntimeError"),
        (NeedsContiguous, "works in channels last", "RuntimeError: view size is not compatible"),
        (ReadsStrides, "works in channels last", "another result"),
        (HoldsLambda, "copies and pickles", "Can't pickle"),
        (KeepsOutput, "copies and pickles", "RuntimeError: Only Tensors created explicitly"),
        (ForgetsOnCopy, "copies and pickles", "different result after copy.deepcopy"),
        (ReadsValues, "works on meta", "meta"),
        (ReturnsCpu, "works on meta", "not on the meta device"),
    ],
)
def test_a_broken_promise_is_found_and_named(cls: type[nn.Module], check: str, message: str):
    found = faults(cls)
    assert check in found
    assert message in found[check]


def test_every_check_has_a_module_that_fails_it():
    """No check can rot unseen: `starts_as_declared` and the rest all appear above."""
    parameters = test_a_broken_promise_is_found_and_named.pytestmark[0].args[1]
    assert {check.__name__.replace("_", " ") for check in CHECKS} == {check for _, check, _ in parameters}


def test_two_zero_gates_in_series_never_train():
    found = faults(TwoZeroGates, starts_as_identity=True)
    assert list(found) == ["trains from identity"]
    assert found["trains from identity"].endswith("inner.conv.bias, inner.conv.weight, inner.inner, inner.outer")


def test_a_false_claim_of_identity_is_found():
    assert "f(x) is not x" in faults(Good, starts_as_identity=True)["starts as declared"]


def test_fusions_and_necks_are_held_to_theirs():
    assert "no gradient reaches input 1" in faults(ForgetsSecond, kind="fusion")["gives gradients"]
    assert "gives output [(2, 3, 4), (2, 2, 2)]" in faults(LosesLevel, kind="neck")["keeps shape"]


def test_results_say_what_was_checked():
    results = check_module(declare(Good, dims=(1,)), [{"factor": 2.0}])
    assert [r.check for r in results] == [check.__name__.replace("_", " ") for check in CHECKS]
    assert results[0] == CheckResult("keeps shape", "good", "32 channels, 1-D, factor=2.0", True, "")


def test_checking_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    check_module(declare(DropsOutInEval))
    assert torch.equal(torch.get_rng_state(), before)


def test_variants_are_the_defaults_and_one_value_at_a_time():
    spec = declare(Good, space={"factor": (0.5, 1.0, 2.0)})
    assert variants(spec) == [{}, {"factor": 0.5}, {"factor": 2.0}]


def test_candidates_cover_dims_variants_and_inputs():
    spec = declare(Good, dims=(1, 2), space={"factor": (0.5,)})
    assert [(c.dims, c.hyper) for c in candidates(spec)] == [(d, h) for d in (1, 2) for h in ({}, {"factor": 0.5})]
    assert [c.inputs for c in candidates(declare(GoodFusion, kind="fusion"))] == [2, 3]
    assert candidates(declare(GoodNeck, kind="neck"))[0].channels == (8, 16, 32)


class Thirds(Good):
    def __init__(self, channels: int, *, dims: int = 2) -> None:
        if channels % 3:
            raise UnsupportedError("channels must be a multiple of 3")
        super().__init__(channels, dims=dims)


def test_a_candidate_takes_the_first_channels_that_are_served():
    assert [c.channels for c in candidates(declare(Thirds))] == [48]


def test_a_pyramid_halves_rounding_up():
    candidate = candidates(declare(GoodNeck, kind="neck"))[0]
    assert candidate.shapes((5, 7), batch=3) == [(3, 8, 5, 7), (3, 16, 3, 4), (3, 32, 2, 2)]


class TracesOtherwise(Good):
    """Computes in tracing something else than it does outside."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2.0 if torch.compiler.is_compiling() else 1.0)


def test_tracers_take_a_good_module_of_any_kind():
    for spec in (declare(Good, dims=(1, 2)), declare(GoodFusion, kind="fusion"), declare(GoodNeck, kind="neck")):
        assert (compile_status(spec), export_status(spec)) == ("yes", "yes")


@pytest.mark.parametrize("status", [compile_status, export_status])
def test_a_no_names_the_operator_and_torchs_message(status: Any, capfd: pytest.CaptureFixture[str]):
    answer = status(declare(ReadsValues))
    assert re.match(r"no: \w+: \S+ \S+", answer)  # the exception and its message, which differs by torch version
    assert "x.sum().item() > 0" in answer
    assert "test_testing.py:" in answer
    assert capfd.readouterr() == ("", "")  # torch would print the graph it had so far


def test_a_trace_that_computes_something_else_is_a_no():
    assert compile_status(declare(TracesOtherwise)) == "no: the traced module computes a different result"
