"""Simulate trainings whose truth is known, and print how often verdicts, intervals and power are right.

    .venv/bin/python scripts/benchmarks/verdicts.py [--searches 1000] [--tables search,coverage,...] [--seed 0]

Every figure comes from the public functions of `nasbench.evidence`, and stands beside its Monte-Carlo standard error.

coverage    share of 95 % intervals of a difference that hold the truth, from items of 0 and 1. Aim: .93 to .96
forecasts   the same for overlapping windows of a series that forgets within a day or a week
search      whole searches: 14 modules in 4 slots, 23 plans of one seed, ten further trainings. Aims at N = 10,000 and
            2,000: a truly better plan is found in .70 and .44, BETTERs that are true 1.7 and .85 a search
nothing     the same where nothing is better than the bare backbone. Aim: any BETTER in at most .045 of searches, in the
            rougher cases .06
items       the searches with items drawn one by one, to show that handing in their variance changes nothing
power       predicted less simulated power at the detectable difference. Aim: within .025 from 3 seeds on
front       stated probability of being on the front against the frequency
harm        whole runs of given plans with equal seeds, of which some are harmful and some of these vary more: coverage
            for the plans without an effect, and share of runs in which one of these is called BETTER
holm        share of reports with any wrong HELPS, HURTS or MATTERS in their five tables of effects, where nothing helps

Figures of the metric are in points. Items have a seed × item variance of 0.065 and a plan × item variance of 0.0065, as
those of a classifier at 90 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from nasbench.evidence.effects import (
    declared_properties,
    judge_together,
    module_effects,
    paired_effects,
    property_effects,
    slot_importance,
)
from nasbench.evidence.front_probability import front_probability
from nasbench.evidence.hierarchy import Contents
from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.pairs import compare_pair
from nasbench.evidence.pareto import non_dominated
from nasbench.evidence.power import detectable_difference
from nasbench.evidence.race import BARE_SEEDS, BUDGET, UNTIL_BUDGET, Until, race
from nasbench.evidence.standing import Standing, kept_noise, standing
from nasbench.evidence.trainings import Trainings
from nasbench.evidence.verdicts import judge_plans, verdicts_by_model
from nasbench.library.plan import Plan
from scripts.benchmarks.paired import Table, command_line

FloatArray = NDArray[np.float64]

INTERACTION = 0.065
"""W: variance per item of what a seed changes, in units of 1 (an item is 0 or 1)."""

PLAN_ITEM = 0.0065
"""V_v: variance per item of what a plan changes."""

POINT = 0.01


def share(hits: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Return ".953 ±.007": a share and its Monte-Carlo standard error."""
    return estimate(np.asarray(hits, dtype=float), 3)


def estimate(values: Sequence[float] | FloatArray, digits: int = 2) -> str:
    """Return a mean and its Monte-Carlo standard error."""
    figures = np.asarray(values, dtype=float)
    return f"{figures.mean():.{digits}f} ±{figures.std() / math.sqrt(len(figures)):.{digits}f}"


# -- whole searches ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What is true in a simulated search.

    Attributes:
        items: Number of evaluation items.
        effect: Standard deviation of the effect of a module, and of a module in a slot, in points.
        offset: Added to the effect of every plan, in points.
        spike: Effect of each occurrence of one module, in points.
        only_harm: Whether all effects are negative.
        plans: Number of plans, besides the bare backbone.
        seed_sd: Standard deviation between seeds, in points.
        unequal: A plan's own deviation between seeds is `seed_sd` times exp(unequal · z).
        heavy: Whether seeds have Student's t with 3 degrees of freedom.
        failing: Share of trainings that fail.
        silent: Whether a failed training returns a figure of chance level instead of an error.
        until: How the search ends.
        real_items: Whether items are drawn one by one.
    """

    items: int = 10_000
    effect: float = 0.245  # the best of 23 plans is then 1.25 points better than the bare backbone
    offset: float = 0.0
    spike: float = 0.0
    only_harm: bool = False
    plans: int = 23
    seed_sd: float = 0.5
    unequal: float = 0.0
    heavy: bool = False
    failing: float = 0.0
    silent: bool = False
    until: Until | None = None
    real_items: bool = False


MODULES, SLOTS = 14, 4


@dataclass(frozen=True)
class Outcome:
    """What a simulated search claimed.

    Attributes:
        right: Plans called BETTER that are better.
        wrong: Plans called BETTER that are not.
        trainings: Further trainings spent.
    """

    right: int
    wrong: int
    trainings: int


class Search:
    """One simulated search: plans of one seed, then the race."""

    def __init__(self, world: World, rng: np.random.Generator, *, front_first: bool = True) -> None:
        self.world, self.rng, self.front_first = world, rng, front_first
        modules = rng.integers(MODULES, size=(world.plans, SLOTS))
        self.contents: Contents = [[(f"stage{s}", f"m{m}") for s, m in enumerate(plan)] for plan in modules]
        self.truth = self._truth(modules)
        self.costs = rng.lognormal(size=MODULES)[modules].sum(axis=1)
        self.seed_sd = world.seed_sd * POINT * np.exp(world.unequal * rng.normal(size=world.plans + 1))
        count = world.items if world.real_items else 1
        per_item = PLAN_ITEM * (1 if world.real_items else 1 / world.items)
        self.of_items = math.sqrt(per_item) * rng.normal(size=(world.plans + 1, count))
        self.scores: list[list[float]] = [[] for _ in range(world.plans + 1)]
        self.items: list[list[FloatArray]] = [[] for _ in range(world.plans + 1)]
        self.failures = np.zeros(world.plans + 1, dtype=int)

    def _truth(self, modules: NDArray[np.int64]) -> FloatArray:
        """Return the true difference of each plan from the bare backbone."""
        world = self.world
        shared, placed = self.rng.normal(size=MODULES), self.rng.normal(size=(SLOTS, MODULES))
        if world.only_harm:
            shared, placed = -np.abs(shared), -np.abs(placed)
        effects = world.effect * (shared[modules] + placed[np.arange(SLOTS), modules]).sum(axis=1)
        return np.asarray(POINT * (effects + world.offset + world.spike * (modules == 0).sum(axis=1)))

    def train(self, plan: int) -> None:
        """Train a plan on a further seed. The last one is the bare backbone."""
        world, rng = self.world, self.rng
        z = rng.standard_t(3) / math.sqrt(3) if world.heavy else rng.normal()
        level = (self.truth[plan] if plan < world.plans else 0.0) + self.seed_sd[plan] * z
        if world.failing and rng.random() < world.failing:
            if not world.silent:
                self.failures[plan] += 1
                return
            level -= 0.8
        if world.real_items:
            items = level + self.of_items[plan] + math.sqrt(INTERACTION) * rng.normal(size=world.items)
            self.items[plan].append(items)
            self.scores[plan].append(float(items.mean()))
        else:
            noise = math.sqrt(INTERACTION / world.items) * rng.normal()
            self.scores[plan].append(float(level + self.of_items[plan, 0] + noise))

    def standing(self) -> Standing:
        """Return what the trainings so far say."""
        if self.world.real_items:
            every = [Trainings.of(scores, items) for scores, items in zip(self.scores, self.items, strict=True)]
            return standing(every[:-1], every[-1], kept_noise(every[:-1], every[-1]))
        every = [Trainings.of(scores) for scores in self.scores]
        noise = replace(kept_noise(every[:-1], every[-1]), interaction=INTERACTION, items=self.world.items)
        seen = standing(every[:-1], every[-1], noise)
        return replace(seen, noise=noise.with_items(2 * PLAN_ITEM / self.world.items))

    def run(self) -> Outcome:
        """Run the search, and return what it claims."""
        bare, until = self.world.plans, self.world.until
        for plan in [bare] * BARE_SEEDS + list(range(bare)):
            self.train(plan)
        while not self.scores[bare]:
            self.train(bare)
        spent = BARE_SEEDS - 1
        front = self.front() if self.front_first else []
        budget = BUDGET if until is None else UNTIL_BUDGET
        while True:
            seen = self.standing()
            view = race(
                seen,
                self.contents,
                spent=spent,
                budget=budget,
                front=front,
                until=until,
                failures=self.failures[:-1].tolist(),
            )
            if view.next is None:
                break
            self.train(bare if view.next.plan is None else view.next.plan)
            spent += 1
        verdicts = np.array(verdicts_by_model(seen, view.posterior, ["NOT DECIDED"] * self.world.plans, until))
        better = verdicts == "BETTER"
        return Outcome(int((better & (self.truth > 0)).sum()), int((better & (self.truth <= 0)).sum()), spent)

    def front(self) -> list[int]:
        """Return the plans on the front after exploring, the bare backbone on it too at no added cost, best first."""
        bare = self.world.plans
        costs = [*self.costs, 0.0]
        known = [plan for plan in range(bare + 1) if self.scores[plan]]
        first = np.array([[float(np.mean(self.scores[plan])), costs[plan]] for plan in known])
        kept = np.flatnonzero(non_dominated(first, ["maximize", "minimize"]))
        best_first = sorted(kept, key=lambda index: -first[index, 0])
        return [known[index] for index in best_first if known[index] != bare]


def searches(world: World, count: int, seed: int, *, front_first: bool = True) -> list[Outcome]:
    """Run several searches in the same world."""
    rng = np.random.default_rng(seed)
    return [Search(world, rng, front_first=front_first).run() for _ in range(count)]


def print_search(count: int, seed: int) -> None:
    """Print what searches find."""
    print(f"\nSearches with something to find ({count} each)")
    columns = {"case": "<40", "finds one": ">12", "true BETTERs": ">13", "any wrong": ">12", "trainings": ">12"}
    table = Table(columns)
    table.print_head()
    cases = [
        ("N = 10,000", World(), True),
        ("N = 10,000, no second seeds for the front", World(), False),
        ("N = 2,000", World(items=2000), True),
        ("N = 2,000, no second seeds for the front", World(items=2000), False),
        ("N = 10,000, until decided", World(until="decided"), True),
        ("N = 10,000, until first", World(until="first"), True),
        ("N = 10,000, modules harm (mean -1 point)", World(offset=-1.0), True),
    ]
    for name, world, front_first in cases:
        outcomes = searches(world, count, seed, front_first=front_first)
        table.print_row(
            name,
            share([one.right > 0 for one in outcomes]),
            estimate([one.right for one in outcomes]),
            share([one.wrong > 0 for one in outcomes]),
            estimate([one.trainings for one in outcomes], 1),
        )


def print_nothing(count: int, seed: int) -> None:
    """Print how often searches claim something where nothing is better."""
    print(f"\nSearches where nothing is better: any BETTER ({count} each)")
    table = Table({"case": "<44", "any BETTER": ">12"})
    table.print_head()
    null = World(effect=0.0)
    cases = {
        "N = 10,000": null,
        "N = 2,000": replace(null, items=2000),
        "one module at -20 points": replace(null, spike=-20.0),
        "one module at -2 points": replace(null, spike=-2.0),
        "3 % of trainings fail": replace(null, failing=0.03),
        "3 % of trainings return chance level": replace(null, failing=0.03, silent=True),
        "seed noise unequal by exp(0.5 z)": replace(null, unequal=0.5),
        "seed noise t(3)": replace(null, heavy=True),
        "seed sd 2 points": replace(null, seed_sd=2.0),
        "10 plans": replace(null, plans=10),
        "60 plans": replace(null, plans=60),
        "all effects negative": World(only_harm=True),
        "until decided": replace(null, until="decided"),
        "until first": replace(null, until="first"),
    }
    for name, world in cases.items():
        table.print_row(name, share([one.wrong > 0 for one in searches(world, count, seed)]))


def print_items(count: int, seed: int) -> None:
    """Print the same with items drawn one by one, where their variance is estimated."""
    print(f"\nSearches at N = 2,000 ({count} each)")
    table = Table({"case": "<40", "finds one": ">12", "true BETTERs": ">13", "any wrong": ">12"})
    table.print_head()
    for name, world in {"effects": World(items=2000), "nothing": World(items=2000, effect=0.0)}.items():
        for real in (False, True):
            outcomes = searches(replace(world, real_items=real), count, seed)
            table.print_row(
                f"{name}, items {'drawn' if real else 'by their variance'}",
                share([one.right > 0 for one in outcomes]),
                estimate([one.right for one in outcomes]),
                share([one.wrong > 0 for one in outcomes]),
            )


# -- coverage ----------------------------------------------------------------------------------------------------------


class Classifier:
    """Items that are right (1) or wrong (0) at 90 %, with the variances of this file exactly.

    An item is right where a sum of normal parts is above 0: the item's difficulty, what the plan changes on it, what
    the seed changes on it, the level of the plan and of the seed. The parts have variance 1 together.
    """

    def __init__(self, seed_sd: float) -> None:
        self.level = float(norm.ppf(0.9))
        both = 0.9 - INTERACTION
        of_plan = brentq(lambda rho: self._both_right(rho) - both, 0.0, 0.999)
        self.of_item = brentq(lambda rho: self._both_right(rho) - (both - PLAN_ITEM), 0.0, 0.999)
        self.of_plan, self.of_seed = of_plan - self.of_item, 1 - of_plan
        self.shift = seed_sd / float(norm.pdf(self.level))

    def _both_right(self, correlation: float) -> float:
        of_two = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])
        return float(of_two.cdf([self.level, self.level]))

    def accuracy(self, gain: float) -> float:
        """Return the true accuracy of a plan whose level is higher by `gain`."""
        return float(norm.cdf((self.level + gain) / math.sqrt(1 + self.shift**2)))

    def trainings(self, rng: np.random.Generator, items: int, gains: FloatArray, seeds: int) -> list[Trainings]:
        """Draw the trainings of plans on the same items."""
        difficulty = math.sqrt(self.of_item) * rng.normal(size=items)
        drawn = []
        for gain in gains:
            of_plan = self.level + gain + difficulty + math.sqrt(self.of_plan) * rng.normal(size=items)
            seed = self.shift * rng.normal(size=(seeds, 1)) + math.sqrt(self.of_seed) * rng.normal(size=(seeds, items))
            right = (of_plan + seed > 0).astype(float)
            drawn.append(Trainings.of(right.mean(axis=1).tolist(), list(right)))
        return drawn


def coverage(items: int, seed_sd: float, seeds: int, plans: int, count: int, rng: np.random.Generator) -> FloatArray:
    """Return the share of intervals that hold the truth, for each of `count` reports of some plans."""
    world = Classifier(seed_sd)
    shares = []
    for _ in range(count):
        gains = 0.05 * rng.normal(size=plans)
        gains[0] = 0.0
        drawn = world.trainings(rng, items, gains, seeds)
        noise = pooled_noise(drawn)
        held = []
        for gain, plan in zip(gains[1:], drawn[1:], strict=True):
            pair = compare_pair(plan, drawn[0], noise)
            held.append(pair.low <= world.accuracy(gain) - world.accuracy(0.0) <= pair.high)
        shares.append(np.mean(held))
    return np.array(shares)


def print_coverage(count: int, seed: int) -> None:
    """Print the coverage of intervals from items of 0 and 1."""
    print(f"\nCoverage of the 95 % interval of a difference ({count} reports each)")
    table = Table({"items": ">7", "seed sd": ">8", "seeds": ">6", "plans": ">6", "coverage": ">13"})
    table.print_head()
    cases = [
        (n, sd, s, p)
        for n in (200, 2000)
        for sd in (0.1, 0.5, 1.5)
        for s in (2, 3, 5, 10)
        for p in (2, 10)
        if s * p < 60
    ]
    cases += [(10_000, sd, 3, 2) for sd in (0.1, 0.5, 1.5)]
    for items, sd, seeds, plans in cases:
        rng = np.random.default_rng([seed, items, seeds, plans])
        found = coverage(items, sd * POINT, seeds, plans, count, rng)
        table.print_row(f"{items:,}", f"{sd:g}", str(seeds), str(plans), estimate(found, 3))


def series(rng: np.random.Generator, count: int, hours: float) -> FloatArray:
    """Draw a series of variance 1 that forgets within some hours: the autocorrelation falls by e."""
    kept = math.exp(-1 / hours)
    shocks = math.sqrt(1 - kept**2) * rng.normal(size=count)
    shocks[0] = rng.normal()
    values = np.empty(count)
    last = 0.0
    for index, shock in enumerate(shocks):
        last = kept * last + shock if index else shock
        values[index] = last
    return values


def forecast_coverage(
    count: int, rng: np.random.Generator, *, windows: int, horizon: int, hours: float, seed_sd: float, seeds: int = 3
) -> NDArray[np.bool_]:
    """Return whether the interval holds the truth, for each of `count` pairs of forecasts that are equally good."""

    def items(scale: float) -> FloatArray:
        errors = scale * series(rng, windows + horizon - 1, hours)
        return np.convolve(errors, np.full(horizon, 1 / horizon), "valid")

    def trainings() -> Trainings:
        of_plan = items(1.0)
        drawn = [of_plan + items(0.5) + seed_sd * rng.normal() for _ in range(seeds)]
        return Trainings.of([float(one.mean()) for one in drawn], drawn, block=horizon)

    held = []
    for _ in range(count):
        pair = compare_pair(trainings(), trainings())
        held.append(pair.low <= 0 <= pair.high)
    return np.array(held)


def print_forecasts(count: int, seed: int) -> None:
    """Print the coverage of intervals from overlapping windows."""
    print(f"\nCoverage of forecasts at a horizon of 24 hours ({count} pairs each)")
    heads = {"windows": ">8", "forgets within": ">15", "seed sd 0": ">12", "seed sd 0.1": ">12", "seed sd 0.5": ">12"}
    table = Table(heads)
    table.print_head()
    for windows in (72, 144, 480, 1440, 2880):
        for hours, name in ((24, "a day"), (168, "a week")):
            found = [
                forecast_coverage(
                    count, np.random.default_rng([seed, windows, hours]), windows=windows, horizon=24, hours=hours,
                    seed_sd=sd,
                )
                for sd in (0.0, 0.1, 0.5)
            ]  # fmt: skip
            table.print_row(str(windows), name, *map(share, found))


# -- power, the front, effects -----------------------------------------------------------------------------------------


def simulated_power(
    items: int, seeds: int, count: int, rng: np.random.Generator, *, seed_sd: float = 0.5 * POINT, plans: int = 10
) -> NDArray[np.bool_]:
    """Return whether a plan that gains the detectable difference is found, for each of `count` reports.

    The report holds plans of equal seeds, so its noise has plans · (seeds − 1) degrees of freedom. Items are drawn
    normal, 200 of them with variances that give the mean the noise of `items`.
    """
    drawn = 200
    interaction, plan_item = (variance * drawn / items for variance in (INTERACTION, PLAN_ITEM))
    true = Noise(
        seed_variance=seed_sd**2 + INTERACTION / items, freedom=plans * (seeds - 1), interaction=INTERACTION,
        items=items, item_variance=2 * PLAN_ITEM / items, item_freedom=drawn - 1,
    )  # fmt: skip
    effect = detectable_difference(seeds, true)

    def trainings(gain: float) -> Trainings:
        of_plan = gain + math.sqrt(plan_item) * rng.normal(size=drawn)
        noise = seed_sd * rng.normal(size=(seeds, 1)) + math.sqrt(interaction) * rng.normal(size=(seeds, drawn))
        return Trainings.of((of_plan + noise).mean(axis=1).tolist(), list(of_plan + noise))

    found = []
    for _ in range(count):
        others = [trainings(0.0) for _ in range(plans - 1)]
        plan = trainings(effect)
        found.append(compare_pair(plan, others[0], pooled_noise([plan, *others])).verdict == "BETTER")
    return np.array(found)


def print_power(count: int, seed: int) -> None:
    """Print the power at the difference that is said to be found in 80 % of cases."""
    print(f"\nPower at the detectable difference, predicted .800 ({count} reports each)")
    table = Table({"items": ">7", "plans": ">6", "seeds": ">6", "power": ">13"})
    table.print_head()
    for items in (10_000, 2000, 500):
        for plans in (3, 10):
            for seeds in (2, 3, 5, 8):
                rng = np.random.default_rng([seed, items, plans, seeds])
                found = simulated_power(items, seeds, count, rng, plans=plans)
                table.print_row(f"{items:,}", str(plans), str(seeds), share(found))


def front_calibration(spread: float, count: int, rng: np.random.Generator) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return stated probabilities and whether the plan is truly on the front, over `count` reports of 12 plans."""
    stated, true = [], []
    for _ in range(count):
        plans, noise_sd = 12, 0.5 * POINT
        truth, costs = spread * rng.normal(size=plans), rng.lognormal(size=(plans, 1))
        seeds = np.array([3] * 4 + [1] * 8)
        scores = [gain + noise_sd * rng.normal(size=n) for gain, n in zip(truth, seeds, strict=True)]
        trainings = [Trainings.of(one.tolist()) for one in scores]
        means = np.array([plan.mean for plan in trainings])
        directions = ["maximize", "minimize"]
        stated.append(front_probability(means, seeds, pooled_noise(trainings), costs, directions, resamples=300))
        true.append(non_dominated(np.column_stack([truth, costs]), directions))
    return np.concatenate(stated), np.concatenate(true)


def print_front(count: int, seed: int) -> None:
    """Print how far the stated probability of being on the front is from the frequency."""
    print(f"\nProbability of being on the front, 12 plans, 4 of them with 3 seeds ({count} reports each)")
    bins = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    heads = {f"{low:.1f}-{high:.1f}": ">12" for low, high in itertools.pairwise(bins)}
    table = Table({"plans differ by": "<16", **heads, "mean gap": ">9"})
    table.print_head()
    for times in (0.5, 1, 2, 4):
        stated, true = front_calibration(times * 0.5 * POINT, count, np.random.default_rng(seed))
        of_bin = np.clip(np.digitize(stated, bins) - 1, 0, len(bins) - 2)
        pairs = [(stated[of_bin == k].mean(), true[of_bin == k].mean(), (of_bin == k).mean()) for k in range(5)]
        cells = [f"{said:.2f} / {was:.2f}" for said, was, _ in pairs]
        table.print_row(f"{times:g} seed sd", *cells, f"{sum(abs(a - b) * w for a, b, w in pairs):.3f}")


def wrong_effects(plans: int, rng: np.random.Generator) -> tuple[bool, bool]:
    """Return whether any effect is claimed where nothing helps: each table by itself, and all corrected together."""
    names, slots = ("se", "eca", "sk", "cbam", "none", "none"), ("stage1", "stage2", "stage3", "stage4")
    drawn: dict[Plan, float] = {}
    while len(drawn) < plans:
        drawn.setdefault(Plan.of({slot: str(rng.choice(names)) for slot in slots}), float(rng.normal()))
    every, values = list(drawn), list(drawn.values())
    tables = {
        "properties": property_effects(every, values, "maximize"),
        "declared": property_effects(every, values, "maximize", properties_of=declared_properties),
        "modules": module_effects(every, values, "maximize"),
        "pairs": paired_effects(every, values, "maximize"),
        "slots": slot_importance(every, values),
    }

    def any_claim(judged: Mapping[str, pd.DataFrame]) -> bool:
        return any((table["verdict"] != "NOT DECIDED").any() for table in judged.values())

    return any_claim(tables), any_claim(judge_together(tables))


def print_holm(count: int, seed: int) -> None:
    """Print how often five tables of effects claim anything where nothing helps."""
    print(f"\nAny HELPS, HURTS or MATTERS in five tables of effects where nothing helps ({count} reports each)")
    table = Table({"plans": ">6", "each by itself": ">15", "together": ">13"})
    table.print_head()
    for plans in (24, 60):
        rng = np.random.default_rng([seed, plans])
        alone, together = zip(*(wrong_effects(plans, rng) for _ in range(count)), strict=True)
        table.print_row(str(plans), share(alone), share(together))


HARMS: dict[str, tuple[int, int, Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]]] = {
    "none": (20, 3, lambda rng, n: (np.zeros(n), np.ones(n))),
    "4 at -2 s": (20, 3, lambda rng, n: (np.where(np.arange(n) < 4, -2.0, 0.0), np.ones(n))),
    "4 at -3 s": (20, 3, lambda rng, n: (np.where(np.arange(n) < 4, -3.0, 0.0), np.ones(n))),
    "4 at -20 s, sd 8 s": (
        20, 4, lambda rng, n: (np.where(np.arange(n) < 4, -20.0, 0.0), np.where(np.arange(n) < 4, 8.0, 1.0)),
    ),
    "two thirds harm": (
        55, 4, lambda rng, n: (np.where(np.arange(n) % 3 > 0, -rng.exponential(2, n), 0.0), np.ones(n)),
    ),
}  # fmt: skip
"""Runs of `harm`: the numbers of plans and seeds, and the draw of effects and standard deviations between seeds."""


def print_harm(count: int, seed: int) -> None:
    """Print what plans that harm do to the verdicts on plans without an effect."""
    print(f"\nPlans without an effect, beside plans that harm ({count} runs each)")
    table = Table({"harm": ">20", "plans": ">6", "coverage": ">13", "any BETTER": ">13"})
    table.print_head()
    for name, (plans, seeds, draw) in HARMS.items():
        rng = np.random.default_rng([seed, plans, seeds])
        held, claimed = [], []
        for _ in range(count):
            effects, spreads = draw(rng, plans)
            scores = effects[:, None] + spreads[:, None] * rng.normal(size=(plans, seeds))
            of_plans = [Trainings.of(of_plan) for of_plan in scores.tolist()]
            bare = Trainings.of(rng.normal(size=seeds).tolist())
            judged = judge_plans(of_plans, bare, [[("stage1", str(plan))] for plan in range(plans)])
            zero = [plan for plan in range(plans) if effects[plan] == 0]
            held.append(np.mean([judged.pairs[plan].low <= 0 <= judged.pairs[plan].high for plan in zero]))
            claimed.append(any(judged.verdicts[plan] == "BETTER" for plan in zero))
        table.print_row(name, str(plans), share(np.array(held)), share(np.array(claimed)))


TABLES: dict[str, Callable[[int, int], None]] = {
    "coverage": print_coverage,
    "forecasts": print_forecasts,
    "search": print_search,
    "nothing": print_nothing,
    "items": print_items,
    "power": print_power,
    "front": print_front,
    "harm": print_harm,
    "holm": print_holm,
}


def main() -> None:
    """Print the tables that are asked for."""
    parser = command_line(__doc__)
    parser.add_argument("--searches", type=int, default=1000, help="simulations of each case")
    parser.add_argument("--tables", default=",".join(TABLES), help="tables to print")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    given = parser.parse_args()
    for name in given.tables.split(","):
        if name not in TABLES:
            parser.error(f"no table {name!r}; there are {', '.join(TABLES)}")
        TABLES[name](given.searches, given.seed)


if __name__ == "__main__":
    main()
