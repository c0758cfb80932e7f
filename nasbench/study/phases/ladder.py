"""Multi-objective successive halving: all plans are trained for few epochs, and the best plans again for more epochs.

Each rung is a number of epochs. About one in `eta` plans is promoted to the next rung. The plans of a rung are ordered
by their objectives: the metric after this number of epochs, and the costs. The order is that of the non-dominated rank
and, within a rank, of the hypervolume that each plan adds.

A learning-rate schedule is made for one number of epochs. Halfway through a one-cycle schedule of 9 epochs, the
learning rate is still high, and the metric says little about what a complete training of 4 epochs can reach. So the
training of every rung starts from scratch, with a schedule of the rung's own length. Results are compared only within a
rung. A plan that is promoted from the first rung to the last is trained for the sum of the epochs of all rungs, which
is at most eta / (eta - 1) times the full budget, apart from rounding.

The functions of this file store nothing. The strategy in `fidelity` stores the readings.

Sources:
    Li et al., "Hyperband", JMLR 2018, arXiv:1603.06560.
    Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), MLSys 2020, arXiv:1810.05934.
    Schmucker et al., "Multi-objective Asynchronous Successive Halving", 2021, arXiv:2106.12639.
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
from nasbench.runs.evaluation import STOPPED

__all__ = ["Ladder", "Place", "Promotion", "Reading", "places", "promotable", "starts_slowly", "stops"]

FloatArray = NDArray[np.float64]

_SLOW_SHARE = 0.3
"""If a plan starts slowly, its first training gets at least this share of the full budget by default."""

_MARGIN = 0.1
"""Distance of the reference point from the worst value at a rung, as a share of the range of values at this rung."""


@dataclass(frozen=True)
class Ladder:
    """The rungs of a search.

    Attributes:
        epochs: Number of epochs of each rung, ascending. The last number is the full budget.
        eta: One in `eta` plans is promoted to the next rung.
        slow_entry: Index of the rung at which plans that start slowly are trained first.
    """

    epochs: tuple[int, ...]
    eta: int
    slow_entry: int

    @classmethod
    def of(cls, full: int, *, minimum: int = 1, eta: int = 3, slow_minimum: int | None = None) -> Ladder:
        """Return the ladder whose rungs are full, full / eta, full / eta² and so on, down to at least `minimum` epochs.

        The numbers are rounded.

        Args:
            full: Number of epochs of the full budget.
            minimum: Smallest number of epochs of a rung.
            eta: One in `eta` plans is promoted to the next rung. `eta` must be at least 2.
            slow_minimum: Smallest number of epochs for the first training if a plan starts slowly. By default three
                tenths of the full budget.

        Raises:
            InputError: If a number is out of range.

        Example:
            >>> Ladder.of(27, minimum=2).epochs
            (3, 9, 27)
        """
        if eta < 2:
            raise InputError(f"eta must be a whole number of at least 2, got {eta}")
        if not 1 <= minimum <= full:
            raise InputError(f"the epochs of a rung must lie between 1 and the full budget of {full}, got {minimum}")
        epochs = [full]  # computed from the top down, so that the last rung is exactly the full budget
        while (fewer := round(epochs[0] / eta)) >= minimum and fewer < epochs[0]:
            epochs.insert(0, fewer)
        enough = math.ceil(_SLOW_SHARE * full) if slow_minimum is None else slow_minimum
        if not 1 <= enough <= full:
            raise InputError(f"the epochs of a slow start must lie between 1 and {full}, got {slow_minimum}")
        return cls(tuple(epochs), eta, next(rung for rung, count in enumerate(epochs) if count >= enough))

    @property
    def top(self) -> int:
        """Index of the last rung, which is the full budget."""
        return len(self.epochs) - 1

    def entry(self, plan: Plan, *, identity_init: bool) -> int:
        """Return the index of the rung at which a plan is trained first.

        The bare backbone starts at the last rung, because plans are compared with it at the full budget. A plan that
        starts slowly begins at `slow_entry`, and every other plan at rung 0.
        """
        if plan.is_bare:
            return self.top
        return self.slow_entry if starts_slowly(plan, identity_init=identity_init) else 0

    def name(self, rung: int) -> str:
        """Return the name of a rung in messages: "rung 2 of 3 (9 of 27 epochs)"."""
        return f"rung {rung + 1} of {len(self.epochs)} ({self.epochs[rung]} of {self.epochs[-1]} epochs)"


def starts_slowly(plan: Plan, *, identity_init: bool) -> bool:
    """Whether a plan, or a module in it, starts as an identity, so that it needs some epochs before it has an effect.

    A module starts as an identity if its gate, or a scale factor of its own, starts at 0. If such a plan were ranked
    after few epochs, its metric would be nearly that of the bare backbone.
    """
    if plan.is_bare:
        return False
    return identity_init or any(s.kind == "module" and s.starts_as_identity for e in plan.values() for s in e.specs())


@dataclass(frozen=True)
class Reading:
    """The values of a plan at a rung.

    Attributes:
        plan: A unique name of the plan, such as its trial number.
        rung: Index of the rung, from 0.
        values: The objectives at this rung, all to be minimised. None while the plan is being trained, and if it was
            rejected or has failed. A plan without values is never promoted.
    """

    plan: str
    rung: int
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Place:
    """The place of a plan among all plans with values at its rung.

    Attributes:
        plan: Name of the plan, as in its reading.
        place: Place, counted from 1 for the best plan.
        rank: Non-dominated rank, counted from 1 for the Pareto front.
        of: Number of plans with values at this rung.
    """

    plan: str
    place: int
    rank: int
    of: int


@dataclass(frozen=True)
class Promotion:
    """A plan to promote.

    Attributes:
        plan: Name of the plan, as in its reading.
        rung: Index of the rung at which the plan is trained next.
    """

    plan: str
    rung: int


def places(readings: Iterable[Reading]) -> list[Place]:
    """Return the places of the plans of one rung, best first. Plans without values are left out.

    The plans are ordered by non-dominated rank, then by the hypervolume that each plan adds to its rank (largest
    first), then in the given order. For the hypervolume, each objective is divided by its range at this rung. The
    reference point is worse than the worst values by a tenth of the range.
    """
    known = [reading for reading in readings if reading.values is not None]
    if not known:
        return []
    points = np.array([reading.values for reading in known], dtype=float)
    ranks = np.asarray(moocore.pareto_rank(points))
    gains = _gains(points, ranks)
    order = sorted(range(len(known)), key=lambda i: (ranks[i], -gains[i], i))
    lowest = int(ranks.min())  # ranks are counted from 1 here, whatever the first rank of moocore is
    return [
        Place(known[i].plan, place, int(ranks[i]) - lowest + 1, len(known)) for place, i in enumerate(order, start=1)
    ]


def promotable(readings: Sequence[Reading], ladder: Ladder, *, finish: bool = False) -> list[Promotion]:
    """Return the plans to promote now, without waiting for plans that are being trained (asynchronous halving, ASHA).

    Plans of higher rungs come first. A plan is promoted if it is among the best 1/`eta` of the plans with values at its
    rung and was not promoted before.

    Args:
        readings: All readings, including those of plans that are being trained, so that no plan is promoted twice.
        ladder: The rungs.
        finish: Whether no new plan will be started. At least one plan of each rung is then promoted, so that some plan
            is trained at the full budget.

    Returns:
        The promotions, the most urgent first. Empty if a new plan must be started.
    """
    reached: dict[str, int] = {}
    for reading in readings:
        reached[reading.plan] = max(reached.get(reading.plan, 0), reading.rung)
    promotions: list[Promotion] = []
    for rung in reversed(range(ladder.top)):  # as in ASHA: plans near the full budget are promoted first
        order = places(reading for reading in readings if reading.rung == rung)
        kept = order[: _kept(len(order), ladder, finish)]
        promotions += [Promotion(place.plan, rung + 1) for place in kept if reached[place.plan] == rung]
    return promotions


def stops(readings: Sequence[Reading], ladder: Ladder, *, finish: bool = True) -> dict[str, str]:
    """Return for each plan that stopped below the full budget the reason, as text for the trials table.

    A plan has stopped if no reading shows it at a higher rung.

    Args:
        readings: All readings. Plans without values are left out, because they stopped for another reason.
        ladder: The rungs.
        finish: As in `promotable`.
    """
    reached = {reading.plan: 0 for reading in readings}
    for reading in readings:
        reached[reading.plan] = max(reached[reading.plan], reading.rung)
    reasons: dict[str, str] = {}
    for rung in range(ladder.top):
        order = places(reading for reading in readings if reading.rung == rung)
        keep = _kept(len(order), ladder, finish)
        reasons |= {place.plan: _reason(place, ladder, rung, keep) for place in order if reached[place.plan] == rung}
    return reasons


def _kept(count: int, ladder: Ladder, finish: bool) -> int:
    return max(count // ladder.eta, int(finish))


def _reason(place: Place, ladder: Ladder, rung: int, keep: int) -> str:
    few = f"fewer than {ladder.eta} plans have finished this rung"
    on = f"the best {keep} are promoted" if keep > 1 else "the best is promoted" if keep else few
    return f"{STOPPED} {ladder.name(rung)}: place {place.place} of {place.of}, rank {place.rank}; {on}"


def _gains(points: FloatArray, ranks: NDArray[np.int64]) -> FloatArray:
    """Return the hypervolume that each point adds to its own rank."""
    low, spread = points.min(axis=0), np.ptp(points, axis=0)
    scaled = (points - low) / np.where(spread > 0, spread, 1.0)
    gains = np.zeros(len(points))
    if points.shape[1] == 1:  # with one objective, all plans of a rank have the same value
        return gains
    for rank in np.unique(ranks):
        here = ranks == rank
        gains[here] = moocore.hv_contributions(scaled[here], ref=np.full(points.shape[1], 1 + _MARGIN))
    return gains
