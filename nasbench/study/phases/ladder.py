"""Multi-objective successive halving: many plans are trained shortly, the best of them longer, few in full.

A rung is a number of epochs; plans that do well at one go on to the next, about one in `eta`. What counts is the
metric at the rung and the costs, which are known: plans are ordered by non-dominated rank, and within a rank by how
much hypervolume each adds.

A learning-rate schedule belongs to its budget: halfway through a one-cycle of 9 epochs the rate is at its height and
the metric says little of what 4 epochs can give. So every rung trains from scratch with a schedule of its own length,
and results are compared within a rung alone. The price is that a plan which climbs from the first rung to the top
trains for the sum of the rungs, less than eta / (eta - 1) times the full budget.

Everything here is pure: the study keeps the readings. Sources: Li et al., "Hyperband", JMLR 2018, arXiv:1603.06560; Li
et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), MLSys 2020, arXiv:1810.05934; Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", 2021, arXiv:2106.12639.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from nasbench.errors import InputError
from nasbench.library.plan import Plan

__all__ = ["Ladder", "Place", "Promotion", "Reading", "places", "promotable", "starts_slowly", "stops"]

FloatArray = NDArray[np.float64]

_SLOW_SHARE = 0.3
"""Share of the full budget before which a plan that starts slowly is not judged, unless told otherwise."""

_MARGIN = 0.1
"""How far beyond the worst value of a rung hypervolume counts, in ranges."""


@dataclass(frozen=True)
class Ladder:
    """The rungs of a search.

    Attributes:
        epochs: Epochs of each rung, rising; the last is the full budget.
        eta: Of so many plans at a rung one goes on.
        slow_entry: The first rung, from 0, at which plans that start slowly are judged.
    """

    epochs: tuple[int, ...]
    eta: int
    slow_entry: int

    @classmethod
    def of(cls, full: int, *, minimum: int = 1, eta: int = 3, slow_minimum: int | None = None) -> Ladder:
        """Return the rungs full, full / eta, full / eta² ... down to `minimum` epochs.

        Args:
            full: Epochs of the full budget.
            minimum: Fewest epochs of a rung.
            eta: Of so many plans at a rung one goes on, 2 or more.
            slow_minimum: Fewest epochs after which a plan may be judged that starts slowly; by default three tenths
                of the full budget.

        Raises:
            InputError: If a number is out of range.

        Example:
            >>> Ladder.of(27, minimum=2).epochs
            (3, 9, 27)
        """
        if eta < 2:
            raise InputError(f"eta is a whole number from 2 on, got {eta}")
        if not 1 <= minimum <= full:
            raise InputError(f"the fewest epochs of a rung lie between 1 and the full budget of {full}, got {minimum}")
        epochs = [full]
        while (fewer := round(epochs[0] / eta)) >= minimum and fewer < epochs[0]:
            epochs.insert(0, fewer)
        enough = math.ceil(_SLOW_SHARE * full) if slow_minimum is None else slow_minimum
        if not 1 <= enough <= full:
            raise InputError(f"the fewest epochs of a slow start lie between 1 and {full}, got {slow_minimum}")
        return cls(tuple(epochs), eta, next(rung for rung, count in enumerate(epochs) if count >= enough))

    @property
    def top(self) -> int:
        """The last rung, the full budget."""
        return len(self.epochs) - 1

    def entry(self, plan: Plan, *, identity_init: bool) -> int:
        """Return the rung at which a plan is trained first.

        The bare backbone is trained in full: every plan is held against it. A plan that starts slowly waits.
        """
        if plan.is_bare:
            return self.top
        return self.slow_entry if starts_slowly(plan, identity_init=identity_init) else 0

    def name(self, rung: int) -> str:
        """Return how a rung is called in a reason: "rung 2 of 3 (9 of 27 epochs)"."""
        return f"rung {rung + 1} of {len(self.epochs)} ({self.epochs[rung]} of {self.epochs[-1]} epochs)"


def starts_slowly(plan: Plan, *, identity_init: bool) -> bool:
    """Whether a plan, or a module in it, computes at first what the backbone alone does (DESIGN rule 7).

    Behind a gate that starts closed, or with a scale of its own that starts at 0, a module needs some epochs before it
    does anything: judged early, it would be judged as the backbone.
    """
    if plan.is_bare:
        return False
    return identity_init or any(s.kind == "module" and s.starts_as_identity for e in plan.values() for s in e.specs())


@dataclass(frozen=True)
class Reading:
    """What is known of a plan at a rung.

    Attributes:
        plan: Its hash.
        rung: From 0.
        values: The metric there and the costs, all minimised (`Reference.coordinates`); None while it is running, and
            where it failed: such a plan holds its place and goes no further.
    """

    plan: str
    rung: int
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Place:
    """Where a plan stands among those of its rung.

    Attributes:
        plan: Its hash.
        place: From 1, the best.
        rank: Non-dominated rank, from 1, the front.
        of: Plans at this rung that have values.
    """

    plan: str
    place: int
    rank: int
    of: int


@dataclass(frozen=True)
class Promotion:
    """What to train next.

    Attributes:
        plan: The hash of the plan.
        rung: The rung to train it at.
    """

    plan: str
    rung: int


def places(readings: Iterable[Reading]) -> list[Place]:
    """Order the plans of one rung, best first; plans without values are left out.

    By non-dominated rank, then by the hypervolume that each adds to its rank, with each value scaled to the range it
    has at this rung and a reference point a tenth of the range beyond the worst; then in the order given.
    """
    known = [reading for reading in readings if reading.values is not None]
    if not known:
        return []
    points = np.array([reading.values for reading in known], dtype=float)
    ranks = np.asarray(moocore.pareto_rank(points))
    gains = _gains(points, ranks)
    order = sorted(range(len(known)), key=lambda i: (ranks[i], -gains[i], i))
    lowest = int(ranks.min())
    return [
        Place(known[i].plan, place, int(ranks[i]) - lowest + 1, len(known)) for place, i in enumerate(order, start=1)
    ]


def promotable(readings: Sequence[Reading], ladder: Ladder, *, finish: bool = False) -> Promotion | None:
    """Return the plan to promote now, whoever is still running (asynchronous halving, ASHA).

    The highest rung comes first. A plan may go on while it is among the best one in `eta` of those that are known at
    its rung, and has not gone on yet.

    Args:
        readings: All there are, those still running among them: a plan is promoted once.
        ladder: The rungs.
        finish: No new plan will come: at least one of each rung goes on, so that something is trained in full.

    Returns:
        None where no plan may go on: begin a new one.
    """
    reached: dict[str, int] = {}
    for reading in readings:
        reached[reading.plan] = max(reached.get(reading.plan, 0), reading.rung)
    for rung in reversed(range(ladder.top)):
        order = places(reading for reading in readings if reading.rung == rung)
        for place in order[: _kept(len(order), ladder, finish)]:
            if reached[place.plan] == rung:
                return Promotion(place.plan, rung + 1)
    return None


def stops(readings: Sequence[Reading], ladder: Ladder, *, finish: bool = True) -> dict[str, str]:
    """Return the reason of every plan that stopped below the full budget, by plan; for the trials table.

    Args:
        readings: All there are; plans that failed have a reason of their own and are left out.
        ladder: The rungs.
        finish: As in `promotable`.
    """
    reached = {reading.plan: 0 for reading in readings}
    for reading in readings:
        reached[reading.plan] = max(reached[reading.plan], reading.rung)
    found: dict[str, str] = {}
    for rung in range(ladder.top):
        order = places(reading for reading in readings if reading.rung == rung)
        keep = _kept(len(order), ladder, finish)
        found |= {place.plan: _reason(place, ladder, rung, keep) for place in order if reached[place.plan] == rung}
    return found


def _kept(count: int, ladder: Ladder, finish: bool) -> int:
    return max(count // ladder.eta, int(finish))


def _reason(place: Place, ladder: Ladder, rung: int, keep: int) -> str:
    on = f"the best {keep} go on" if keep > 1 else "the best goes on" if keep else f"fewer than {ladder.eta} are known"
    return f"stopped at {ladder.name(rung)}: place {place.place} of {place.of}, rank {place.rank}; {on}"


def _gains(points: FloatArray, ranks: NDArray[np.int64]) -> FloatArray:
    """Return the hypervolume that each point adds to its own rank."""
    low, spread = points.min(axis=0), np.ptp(points, axis=0)
    scaled = (points - low) / np.where(spread > 0, spread, 1.0)
    gains = np.zeros(len(points))
    if points.shape[1] == 1:  # a rank of one objective is of equals
        return gains
    for rank in np.unique(ranks):
        here = ranks == rank
        gains[here] = moocore.hv_contributions(scaled[here], ref=np.full(points.shape[1], 1 + _MARGIN))
    return gains
