"""The contract of a pretext: how it trains a small host, and what it leaves as it was.

Every check is a function of a `PretextCandidate`. It returns "" if the pretext passes, and otherwise the fault in one
line.
"""

from __future__ import annotations

import copy
import io
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.errors import InputError
from nasbench.library.expression import Leaf
from nasbench.library.registry import ModuleSpec
from nasbench.ops.pretext import Pretext, Progress
from nasbench.testing._candidate import seeded
from nasbench.testing._probes import equal
from nasbench.training.pretexts import HostEncoder, Learner

__all__ = ["PRETEXT_CHECKS", "PretextCandidate", "pretext_candidates"]

_IMAGE, _SERIES = (3, 16, 16), (16, 3)
_BATCH, _ITEMS, _STEPS = 6, 20, 8
_CLASSES = 4
_LONG = 8  # steps in which an unbounded state is seen to grow
_PADDED = 5  # padded steps of the first series


@dataclass(frozen=True)
class PretextCandidate:
    """A pretext with fixed hyper-parameters for images or series.

    Attributes:
        spec: The pretext's declaration.
        dims: 2 for images, 1 for series.
        hyper: Hyper-parameters that differ from the defaults.
    """

    spec: ModuleSpec
    dims: int
    hyper: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.spec.name}({self.variant})"

    @property
    def variant(self) -> str:
        """A description of the variant: "images, temperature=0.2"."""
        words = ["images" if self.dims == 2 else "series"]
        return ", ".join(words + [f"{key}={value!r}" for key, value in self.hyper.items()])

    @property
    def size(self) -> tuple[int, ...]:
        """Size of one input."""
        return _IMAGE if self.dims == 2 else _SERIES

    def host(self, *, padded: bool = False) -> nn.Module:
        """Return a small host: convolutions with a batch norm, a transformer, or dilated convolutions over time."""
        if self.needs == "patches":
            sizes: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2}
            return VisionTransformer(_IMAGE[1], 4, num_classes=_CLASSES, **sizes)
        if self.dims == 2:
            layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1)]
            model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, _CLASSES))
            return insert(model, None, input_size=_IMAGE)
        given: dict[str, Any] = {} if self.needs == "tokens" else {"padded": padded}
        name = "patchtst" if self.needs == "tokens" else "ts2vec"
        host = create_backbone(name, input_size=_SERIES, num_classes=_CLASSES, **given)
        return insert(host, None, input_size=_SERIES)

    @property
    def needs(self) -> str:
        """The form of the features that the pretext reads."""
        cls: Any = self.spec.cls
        return str(cls.needs)

    def build(self, seed: int = 0, *, padded: bool = False) -> Learner:
        """Return a learner in training mode: a new host with the pretext."""
        with seeded(seed):
            pixels = ((0.5,) * 3, (0.25,) * 3) if self.dims == 2 else None
            text = Leaf(self.spec.name, tuple(sorted(self.hyper.items()))).canonical()
            host = self.host(padded=padded)
            given: dict[str, Any] = {"items": _ITEMS, "input_size": self.size, "num_classes": _CLASSES}
            return Learner(host, text, **given, pixels=pixels, seed=seed).train()

    def batch(self, step: int = 1, count: int = _BATCH) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the inputs of a step, and what a pretext can declare that it reads."""
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(count, *self.size, generator=draw)
        items = torch.randperm(_ITEMS, generator=draw)[:count]
        return x, {
            "items": items,
            "labels": torch.randint(_CLASSES, (count,), generator=draw),
            "groups": torch.stack([items % 6, items % 3], dim=1),
        }


def pretext_candidates(spec: ModuleSpec, hyper: Mapping[str, Any] | None = None) -> list[PretextCandidate]:
    """Return a pretext once for images and once for series, if it serves both."""
    return [PretextCandidate(spec, dims, hyper or {}) for dims in spec.dims]


class _Reading(dict[str, Tensor]):
    """Targets that remember what was read of them."""

    def __init__(self, targets: Mapping[str, Tensor]) -> None:
        super().__init__(targets)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)


# -- the checks --------------------------------------------------------------------------------------------------------


def has_a_finite_loss(candidate: PretextCandidate) -> str:
    """The loss is one finite number, in training and in validation."""
    learner = candidate.build()
    _, losses = _train(candidate, learner, 0, 2)
    bad = next((step for step, loss in enumerate(losses, 1) if not math.isfinite(loss)), None)
    if bad is not None:
        return f"the loss of training step {bad} is {losses[bad - 1]}, expected a finite number"
    with torch.no_grad():
        loss = float(learner.eval().validation_loss(*candidate.batch()))
    return "" if math.isfinite(loss) else f"the loss in validation is {loss}, expected a finite number"


def trains_the_host(candidate: PretextCandidate) -> str:
    """The gradient of the loss reaches the host and every head."""
    learner, (x, targets) = candidate.build(), candidate.batch()
    learner.before_step(Progress(1, _STEPS))
    learner.loss(x, targets).backward()
    grads = {name: p.grad for name, p in learner.named_parameters() if p.requires_grad}
    if all(p.grad is None or not p.grad.any() for p in learner.model.parameters()):
        return "no gradient reaches the host"
    # A copy of the host that is trained too has a classifier of its own, which no pretext trains.
    copies = {id(p) for m in learner.pretext.modules() if isinstance(m, HostEncoder) for p in m.parameters()}
    heads = {name: p for name, p in learner.pretext.named_parameters() if p.requires_grad and id(p) not in copies}
    without = [f"pretext.{name}" for name, p in heads.items() if p.grad is None]
    if without:
        return f"no gradient reaches {', '.join(without)}"
    infinite = [name for name, grad in grads.items() if grad is not None and not grad.isfinite().all()]
    return f"gradient of {', '.join(infinite)} is not finite" if infinite else ""


def reads_what_it_declares(candidate: PretextCandidate) -> str:
    """Labels, numbers of items and groups are read only if declared, and the inputs are not changed."""
    learner, (x, targets) = candidate.build(), candidate.batch()
    given = x.sigmoid()
    before = given.clone()
    learner.before_step(Progress(1, _STEPS))
    with torch.no_grad():
        learner.pretext.views(given, torch.Generator().manual_seed(5))
    if not torch.equal(given, before):
        return "`views` changes its inputs x in place; the inputs must not be modified, so begin with x.clone()"
    before, reading = x.clone(), _Reading(targets)
    learner.before_step(Progress(1, _STEPS))
    learner.loss(x, reading)
    if not torch.equal(x, before):
        return "the inputs are modified by `forward` or `loss`"
    undeclared = reading.read - set(learner.pretext.reads)
    return f"reads {', '.join(sorted(undeclared))}, which it does not declare" if undeclared else ""


def draws_from_its_generator(candidate: PretextCandidate) -> str:
    """Views depend on the generator alone. They do not depend on the random numbers of torch, and do not use them."""
    learner, (x, _) = candidate.build(), candidate.batch()
    state = torch.get_rng_state()
    with torch.no_grad():
        views = [learner.pretext.views(x.clone().sigmoid(), torch.Generator().manual_seed(5)) for _ in range(2)]
    if not torch.equal(torch.get_rng_state(), state):
        return "the views use torch's own random numbers instead of the generator"
    return "" if equal(*(_tensors(each) for each in views)) else "the same generator gives two views"


def is_deterministic(candidate: PretextCandidate) -> str:
    """The same seed gives the same losses."""
    losses = [_train(candidate, candidate.build(), 0, 2)[1] for _ in range(2)]
    return "" if losses[0] == losses[1] else "the same seed gives two losses"


def resumes_as_if_uninterrupted(candidate: PretextCandidate) -> str:
    """A training that is stored and loaded continues exactly as one that was not interrupted."""
    learner = candidate.build()
    optimiser, _ = _train(candidate, learner, 0, 3)
    file = io.BytesIO()
    torch.save([learner.state_dict(), optimiser.state_dict()], file)
    other = candidate.build(seed=0)
    file.seek(0)
    state, of_optimiser = torch.load(file, weights_only=True)
    other.load_state_dict(state)
    resumed = _optimiser(other)
    resumed.load_state_dict(of_optimiser)
    _, losses = _train(candidate, learner, 3, 6, optimiser)
    _, again = _train(candidate, other, 3, 6, resumed)
    if losses != again:
        return f"after loading, the losses are {again} instead of {losses}; keep all state in buffers and submodules"
    first, second = learner.state_dict(), other.state_dict()
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    return f"after loading, {', '.join(differing)} differ" if differing else ""


def keeps_a_bounded_state(candidate: PretextCandidate) -> str:
    """Nothing that the pretext stores grows with every step, as a list of all losses does."""
    learner = candidate.build()
    optimiser, sizes = None, list[dict[str, int]]()
    for done in range(0, _LONG, _LONG // 4):
        optimiser, _ = _train(candidate, learner.train(), done, done + _LONG // 4, optimiser)
        with torch.no_grad():
            learner.eval().validation_loss(*candidate.batch())
        sizes.append(_sizes(learner.pretext))
    for name in sizes[-1]:
        counts = [each.get(name, 0) for each in sizes]
        if all(before < after for before, after in pairwise(counts)):
            return (
                f"`{name}` grows with the training ({', '.join(map(str, counts))} values after every {_LONG // 4} "
                "steps); keep a fixed number of values, in a buffer"
            )
    return ""


def refuses_a_batch_of_one(candidate: PretextCandidate) -> str:
    """If it compares items, a batch that is too small gives a clear error."""
    learner = candidate.build()
    fewest = learner.pretext.fewest
    x, targets = candidate.batch(count=fewest - 1)
    if fewest > 1:
        learner.before_step(Progress(1, _STEPS))
        try:
            learner.loss(x, targets)
        except InputError:
            pass
        else:
            return f"a batch of {fewest - 1} raises no InputError"
    x, targets = candidate.batch(count=fewest)
    learner.before_step(Progress(1, _STEPS))
    return "" if learner.loss(x, targets).isfinite() else f"the loss of {fewest} items is not finite; raise `fewest`"


def keeps_still_in_eval(candidate: PretextCandidate) -> str:
    """Validation changes no state, and gives the same loss again."""
    learner, (x, targets) = candidate.build(), candidate.batch()
    _train(candidate, learner, 0, 1)
    learner.eval()
    before = copy.deepcopy(learner.state_dict())
    with torch.no_grad():
        losses = [learner.validation_loss(x, targets) for _ in range(2)]
    changed = [name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])]
    if changed:
        return f"validation changes {', '.join(changed)}"
    return "" if torch.equal(*losses) else "two validations of one batch differ"


def leaves_the_host_as_it_was(candidate: PretextCandidate) -> str:
    """The host gets no parameter, buffer or hook of the pretext, and its classifier is not trained."""
    learner = candidate.build()
    host = learner.model
    keys, hooks = list(host.state_dict()), _hooks(host)
    last = [module for module in host.modules() if isinstance(module, nn.Linear)][-1].weight.clone()
    _train(candidate, learner, 0, 2)
    if list(host.state_dict()) != keys:
        return "training changes the keys of the host's state dict"
    if _hooks(host) != hooks:
        return "training leaves hooks in the host"
    now = [module for module in learner.kept.modules() if isinstance(module, nn.Linear)][-1].weight
    return "" if torch.equal(now, last) else "the classifier of the host is trained"


def copies_itself(candidate: PretextCandidate) -> str:
    """`copy.deepcopy` gives an independent learner with the same loss, as an average of weights needs it."""
    learner, (x, targets) = candidate.build(), candidate.batch()
    _train(candidate, learner, 0, 1)
    twin = copy.deepcopy(learner)
    with torch.no_grad():
        if not torch.equal(*(each.eval().validation_loss(x, targets) for each in (learner, twin))):
            return "a copy has another loss"
    before = copy.deepcopy(learner.state_dict())
    _train(candidate, twin.train(), 1, 2)
    shared = [name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])]
    return f"training a copy changes {', '.join(shared)} of the original" if shared else ""


def works_under_autocast(candidate: PretextCandidate) -> str:
    """A training step under bfloat16 autocast runs, and its loss is finite."""
    learner, (x, targets) = candidate.build(), candidate.batch()
    learner.before_step(Progress(1, _STEPS))
    loss = learner.loss(x, targets, "bfloat16")
    loss.backward()
    return "" if loss.isfinite() else f"the loss is {loss.item()}"


def serves_padded_series(candidate: PretextCandidate) -> str:
    """Padded steps of a series, which are NaN, give a finite loss and finite gradients."""
    if candidate.dims == 2 or candidate.needs == "tokens":  # no transformer takes padded series
        return ""
    learner, (x, targets) = candidate.build(padded=True), candidate.batch()
    x[0, -_PADDED:] = torch.nan
    learner.before_step(Progress(1, _STEPS))
    loss = learner.loss(x, targets)
    loss.backward()
    finite = all(p.grad is None or bool(p.grad.isfinite().all()) for p in learner.parameters())
    return "" if loss.isfinite() and finite else f"with padded steps, the loss is {loss.item()} or a gradient infinite"


PRETEXT_CHECKS: tuple[Callable[[PretextCandidate], str], ...] = (
    has_a_finite_loss,
    trains_the_host,
    reads_what_it_declares,
    draws_from_its_generator,
    is_deterministic,
    resumes_as_if_uninterrupted,
    keeps_a_bounded_state,
    refuses_a_batch_of_one,
    keeps_still_in_eval,
    leaves_the_host_as_it_was,
    copies_itself,
    works_under_autocast,
    serves_padded_series,
)
"""All checks of a pretext, in the order in which they run. Without the first, the others say nothing."""


# -- what they share ---------------------------------------------------------------------------------------------------


def _optimiser(learner: Learner) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], 1e-3)


def _train(
    candidate: PretextCandidate,
    learner: Learner,
    done: int,
    until: int,
    optimiser: torch.optim.Optimizer | None = None,
) -> tuple[torch.optim.Optimizer, list[float]]:
    """Train from one number of steps to another. Return the optimiser and the losses."""
    optimiser = _optimiser(learner) if optimiser is None else optimiser
    losses = []
    for step in range(done + 1, until + 1):
        x, targets = candidate.batch(step)
        optimiser.zero_grad()
        learner.before_step(Progress(step, _STEPS))
        # Dropout draws from torch's own generator, which a caller would have restored.
        with seeded(step):
            loss = learner.loss(x, targets)
        loss.backward()
        learner.after_backward()
        optimiser.step()
        learner.after_step()
        losses.append(float(loss.detach()))
    return optimiser, losses


def _sizes(pretext: nn.Module) -> dict[str, int]:
    """Return the number of values in each attribute of a pretext, of its submodules and of its class."""
    found: dict[str, int] = {}
    for cls in type(pretext).__mro__[: type(pretext).__mro__.index(Pretext)]:
        found |= {name: _size(value, set()) for name, value in vars(cls).items() if _holds(value)}
    for path, module in pretext.named_modules():
        for name, value in {**vars(module), **module._buffers}.items():
            if name not in _OF_MODULE:
                found[f"{path}.{name}".strip(".")] = _size(value, set())
    return found


_OF_MODULE = frozenset(vars(nn.Module()))


def _holds(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, Mapping, list, tuple, set, deque))


def _size(value: Any, seen: set[int]) -> int:
    """Return the number of values in nested containers, tensors and objects. An object in two places counts once."""
    if id(value) in seen or isinstance(value, nn.Module):
        return 0
    seen.add(id(value))
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, Mapping):
        return sum(1 + _size(each, seen) for each in value.values())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return sum(1 + _size(each, seen) for each in value)
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    return sum(1 + _size(each, seen) for each in vars(value).values()) if hasattr(value, "__dict__") else 0


def _hooks(host: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in host.modules())


def _tensors(nested: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]
