"""Synthetic search problems whose true front is known: 15,625 plans, no training, 6 slots with 5 choices or, for the
family `modules`, 3 with 25.

Each seed draws another table of effects. A plan's score is the sum of the effects of its modules, one for each slot and
module, plus what the family adds. Costs are returned by the evaluation and, apart from `modules`, not known before.

    additive    nothing more
    pairs       an effect of each pair of modules in two slots, in sum as large as the other effects
    xor         an effect where exactly one of two slots holds a drawn module, twice the deviation of the scores
    noise       normal noise in each evaluation, with half the standard deviation of the scores
    bound       a bound on the cost that 95 % of the plans break
    faults      two modules that fail, each in one slot: 36 % of the plans
    one         `pairs` with the score as the only objective
    three       `pairs` with a second cost
    stretched   a cost with a median of 25 ms, of which 5 % of the plans have almost none, and no score
    stretched-linear    the same, judged on a linear scale of the cost
    short       a score with which that after 3 of 27 epochs correlates by about .6, and after 9 by .8. Before 9 epochs,
                plans with the module of the fourth choice, which starts as the identity, score like the bare backbone
    modules     24 modules whose effects in the slots are as alike as not, half of `pairs`, and a known cost
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BACKBONE = "test_resnet"
SLOTS = ("stage1.block1", "stage1", "stage2.block1", "stage2", "stage3.block1", "stage3")
CHOICES = ("none", "se", "eca", "cbam", "coord_attention")
_SLOW = 4
SLOW_CHOICES = (*CHOICES[:_SLOW], "channel_attention")
"""The choices of the family `short`, of which the last starts as the identity."""
FAMILIES = (
    *("additive", "pairs", "xor", "noise", "bound", "faults", "one", "three", "stretched", "stretched-linear"),
    *("short", "modules"),
)

MANY_SLOTS = ("stage1", "stage2", "stage3")
MANY_CHOICES = ("none", "additive_attention", "agent_attention", "bottleneck", "caa", "cbam", "channel_attention",
                "coord_attention", "cot", "danet", "depthwise_separable", "dilated_attention", "dual_pool", "eca",
                "hilo_attention", "mixconv", "muse", "poly_kernel", "position_attention", "se", "self_attention",
                "self_gate", "sk", "transformer_block", "triplet_attention")  # fmt: skip

FULL = 27
"""Epochs of a training at the full budget, in the family `short`."""

_AGREEMENT = {3: 0.6, 9: 0.8}
"""The correlation of the score after so many epochs with that after `FULL`."""

ALL_PLANS = np.array(list(itertools.product(range(len(CHOICES)), repeat=len(SLOTS))))
"""The choice in each slot, by number, of every plan, `(plans, slots)`."""

_MANY = np.array(list(itertools.product(range(len(MANY_CHOICES)), repeat=len(MANY_SLOTS))))
"""The same for the family `modules`."""


@dataclass
class Landscape:
    """One drawn problem.

    Attributes:
        name: Name of the family.
        directions: The objectives, the score first.
        means: The true objectives of every plan, in the order of `ALL_PLANS`, `(plans, objectives)`.
        fails: Whether the evaluation of each plan raises an error, `(plans,)`.
        bounds: The constraints of the search.
        feasible: Whether each plan can be on the front, `(plans,)`.
        noise: Standard deviation of the noise of the score.
        linear: Whether hypervolume is judged with costs on a linear scale.
        draw: Draws the noise.
        early: The score of every plan after a shorter training, by number of epochs. Empty if there is none.
        slots: The slots.
        choices: The choices in each slot.
        costs_known: Whether costs are known before an evaluation.
    """

    name: str
    directions: dict[str, str]
    means: FloatArray
    fails: NDArray[np.bool_]
    bounds: tuple[str, ...]
    feasible: NDArray[np.bool_]
    noise: float
    linear: bool
    draw: np.random.Generator = field(repr=False)
    early: dict[int, FloatArray] = field(default_factory=dict, repr=False)
    slots: tuple[str, ...] = SLOTS
    choices: tuple[str, ...] = CHOICES
    costs_known: bool = False

    def expected(self, kind: str, seed: int) -> dict[str, list[float]]:
        """Return what a sampler is told of each module: a mean and an error.

        Args:
            kind: `right` for figures with the correlation 0.7 with the mean effects of the modules over the slots,
                `wrong` for these with the other sign, or `random` for figures without correlation.
            seed: Seed of the figures.
        """
        true = self.modules()
        noise = np.random.default_rng((seed, 98)).normal(size=len(true))
        share = {"right": 0.7, "wrong": -0.7, "random": 0.0}[kind]
        told = 0.7 * (share * true + (1.0 - share**2) ** 0.5 * noise)
        return {name: [float(mean), (1.0 - 0.7**2) ** 0.5] for name, mean in zip(self.choices[1:], told, strict=True)}

    def modules(self) -> FloatArray:
        """Return the mean effect of each module on the score over the slots, in standard deviations of them."""
        scores = self.means[:, 0].reshape((len(self.choices),) * len(self.slots))
        axes = range(len(self.slots))
        by_slot = [scores.mean(axis=tuple(other for other in axes if other != slot)) for slot in axes]
        effects = np.mean([means[1:] - means[0] for means in by_slot], axis=0)
        return np.asarray(effects / effects.std())

    @property
    def space(self) -> dict[str, Any]:
        """The space, as `nasbench.search` takes it."""
        return {"name": "landscape", "variants": list(self.choices[1:]), "slots": list(self.slots)}

    def index(self, plan: Mapping[str, str]) -> int:
        """Return the number of a plan in the tables."""
        digits = [self.choices.index(plan.get(slot, "none")) for slot in self.slots]
        return int(np.ravel_multi_index(digits, (len(self.choices),) * len(self.slots)))

    def known(self, plan: Mapping[str, str]) -> dict[str, float]:
        """Return what is known of a plan before its evaluation."""
        costs = list(self.directions)[1:] if self.costs_known else []
        return dict(zip(costs, map(float, self.means[self.index(plan)][1:]), strict=False))

    def evaluate(self, plan: Mapping[str, str]) -> dict[str, float]:
        """Return the objectives of a plan, with noise, or raise an error if it is one that fails."""
        return self.trained(plan, FULL)

    def trained(self, plan: Mapping[str, str], epochs: int) -> dict[str, float]:
        """Return the objectives of a plan after some epochs. The costs are those of the whole training."""
        at = self.index(plan)
        if self.fails[at]:
            raise RuntimeError("this module fails in this slot")
        values = dict(zip(self.directions, map(float, self.means[at]), strict=True))
        if epochs in self.early:
            values["score"] = float(self.early[epochs][at])
        values["score"] += self.noise * float(self.draw.normal())
        return values

    def points(self) -> FloatArray:
        """Return the true objectives, all to be minimised, and costs on a log scale unless `linear`."""
        points = -self.means.copy()
        points[:, 1:] = self.means[:, 1:] if self.linear else np.log(self.means[:, 1:])
        return points

    def shares(self, evaluated: list[int]) -> list[float]:
        """Return, after each evaluation, the share of the hypervolume of the true front of feasible plans.

        The objectives are scaled to the range of the feasible plans. The reference point is the worst corner of it.
        """
        points, allowed = self.points(), self.feasible
        low, span = points[allowed].min(axis=0), np.maximum(np.ptp(points[allowed], axis=0), 1e-12)
        points = (points - low) / span
        worst = np.ones(points.shape[1])
        whole = float(moocore.hypervolume(points[allowed], ref=worst))
        shares, kept = [], []
        for at in evaluated:
            kept += [at] if allowed[at] else []
            shares.append(float(moocore.hypervolume(points[kept], ref=worst)) / whole if kept else 0.0)
        return shares


def landscape(family: str, seed: int) -> Landscape:
    """Draw a problem. Equal seeds give equal problems."""
    if family == "modules":
        return _of_many_modules(seed)
    rng = np.random.default_rng((seed, FAMILIES.index(family.removesuffix("-linear"))))
    scores, costs = _effects(rng), 20.0 + _summed(np.exp(_table(rng)))
    if family in ("pairs", "one", "three", "short"):
        scores = scores + _pairs(rng) * scores.std()
    if family == "xor":
        scores = scores + 2.0 * scores.std() * _xor(rng)
    if family.startswith("stretched"):
        costs = 25.0 * costs / np.median(costs)
        cut = (ALL_PLANS[:, 0] == rng.integers(5)) & (ALL_PLANS[:, 3] == rng.integers(5))
        cut |= (ALL_PLANS[:, [1, 2, 4]] == rng.integers(5, size=3)).all(axis=1)
        costs = np.where(cut, 0.01 * np.exp(rng.random(len(cut))), costs)
        scores = np.where(cut, scores.min() + 0.001 * (scores - scores.min()), scores)
    columns = [1 / (1 + np.exp(-scores / 3))]
    if family != "one":
        columns.append(costs)
    if family == "three":
        columns.append(5.0 + _summed(np.exp(_table(rng))))
    fails = np.zeros(len(ALL_PLANS), dtype=bool)
    if family == "faults":
        for slot, choice in zip(rng.choice(len(SLOTS), 2, replace=False), rng.choice([1, 2, 3, 4], 2), strict=True):
            fails |= ALL_PLANS[:, slot] == choice
    bounds: tuple[str, ...] = ()
    feasible = ~fails
    if family == "bound":
        limit = round(float(np.quantile(costs, 0.05)), 6)
        feasible, bounds = costs <= limit, (f"latency_ms<={limit!r}",)
    names = ("score", "latency_ms", "peak_memory_bytes")[: len(columns)]
    return Landscape(
        name=family,
        directions={name: "maximize" if name == "score" else "minimize" for name in names},
        means=np.stack(columns, axis=1),
        fails=fails,
        bounds=bounds,
        feasible=feasible,
        noise=0.5 * float(columns[0].std()) if family == "noise" else 0.0,
        linear=family.endswith("-linear"),
        draw=np.random.default_rng((seed, 99)),
        early=_early(columns[0], rng) if family == "short" else {},
        choices=SLOW_CHOICES if family == "short" else CHOICES,
    )


def _early(scores: FloatArray, rng: np.random.Generator) -> dict[int, FloatArray]:
    """Return the scores after shorter trainings. They grow with the epochs, and their spread is that of `scores`."""
    unit = (scores - scores.mean()) / scores.std()
    slow = (ALL_PLANS == _SLOW).any(axis=1)
    early = {}
    for epochs, agreement in _AGREEMENT.items():
        drawn = agreement * unit + np.sqrt(1 - agreement**2) * rng.normal(size=len(unit))
        if epochs < min(e for e in _AGREEMENT if e >= 0.3 * FULL):
            drawn = np.where(slow, drawn[0] + 0.05 * rng.normal(size=len(unit)), drawn)
        early[epochs] = scores.mean() - 0.3 * (1 - epochs / FULL) + scores.std() * drawn
    return early


def _of_many_modules(seed: int) -> Landscape:
    rng = np.random.default_rng((seed, FAMILIES.index("modules")))
    shape = (len(MANY_SLOTS), len(MANY_CHOICES))
    scores = _summed(0.7 * rng.normal(size=shape[1])[None, :] + 0.7 * rng.normal(size=shape), _MANY)
    scores = scores + 0.7 * scores.std() * _pairs(rng, _MANY)
    costs = 20.0 + _summed(np.exp(rng.normal(size=shape[1]) + 0.3 * rng.normal(size=shape)), _MANY)
    score = 1 / (1 + np.exp(-scores / 3))
    every = np.ones(len(_MANY), dtype=bool)
    return Landscape(
        "modules", {"score": "maximize", "macs": "minimize"}, np.stack([score, costs], axis=1), ~every, (), every,
        0.3 * float(score.std()), False, np.random.default_rng((seed, 99)), slots=MANY_SLOTS,
        choices=MANY_CHOICES, costs_known=True,
    )  # fmt: skip


def _table(rng: np.random.Generator) -> FloatArray:
    """Draw a normal effect for each slot and choice, `(slots, choices)`."""
    return rng.normal(size=(len(SLOTS), len(CHOICES)))


def _summed(effects: FloatArray, every: NDArray[np.int_] = ALL_PLANS) -> FloatArray:
    """Return the sum of the effects over the slots of every plan. An empty slot has none."""
    effects = effects.copy()
    effects[:, 0] = 0.0
    return np.asarray(effects[np.arange(len(effects)), every].sum(axis=1))


def _effects(rng: np.random.Generator) -> FloatArray:
    """Return scores from an effect of each module, shared by the slots, and one of each module in each slot."""
    return _summed(0.5 * rng.normal(size=len(CHOICES))[None, :] + 0.7 * _table(rng) + 0.3)


def _pairs(rng: np.random.Generator, every: NDArray[np.int_] = ALL_PLANS) -> FloatArray:
    """Return the sum of effects of every pair of slots, with unit variance over the plans."""
    total, choices = np.zeros(len(every)), int(every.max()) + 1
    for a, b in itertools.combinations(range(every.shape[1]), 2):
        total += rng.normal(size=(choices, choices))[every[:, a], every[:, b]]
    return np.asarray((total - total.mean()) / total.std())


def _xor(rng: np.random.Generator) -> FloatArray:
    """Return 1 for plans of which exactly one of two drawn slots has a drawn choice, else 0."""
    a, b = rng.choice(len(SLOTS), 2, replace=False)
    return np.asarray((ALL_PLANS[:, a] == rng.integers(5)) ^ (ALL_PLANS[:, b] == rng.integers(5)), dtype=float)
