"""What the atlas says as a whole: what to try first, what never helped, and what generalises to other hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from nasbench.evidence.atlas import Measured
from nasbench.evidence.atlas_protocol import SAME
from nasbench.evidence.rank_agreement import RankAgreement, rank_agreement

__all__ = [
    "Agreement",
    "ModuleStanding",
    "agreements",
    "at_every_stage",
    "in_percent",
    "never_better",
    "standings",
    "twins_by_name",
]

_FIGURES = ("params", "macs", "difference")
"""Two modules that are equal in these on every host are one module under two names."""


@dataclass(frozen=True)
class ModuleStanding:
    """How a module did on all groups of one kind of data, at every stage.

    Attributes:
        module: The module.
        groups: Number of groups that measured it.
        better: Number of groups in which it is BETTER than the bare host.
        worse: Number of groups in which it is WORSE.
        strength: The mean over groups of the difference divided by half its interval. It has no unit, so groups with
            different metrics can be averaged.
        rows: Its rows.
        twins: Names of other modules with the same figures, which this standing counts too.
    """

    module: str
    groups: int
    better: int
    worse: int
    strength: float
    rows: pd.DataFrame
    twins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """How far two groups rank the same modules alike.

    Attributes:
        first: Host and data of a group.
        second: Host and data of the other group.
        ranks: Kendall's tau with its interval.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    ranks: RankAgreement


def at_every_stage(rows: pd.DataFrame, dims: int) -> pd.DataFrame:
    """Return the rows of modules at every stage, for images (dims 2) or series (dims 1)."""
    return rows[(rows["dims"] == dims) & (rows["slots"] == SAME)]


def twins_by_name(rows: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return each module of the rows with its twins, which have the same figures in the same groups and places.

    Of twins, only one is a key. A layer of timm ("timm/eca") is the twin of the library's own module ("eca").
    """
    alike: dict[tuple[Any, ...], list[str]] = {}
    for module, own in rows.groupby("module", sort=True):
        figures = own.sort_values(["host", "data", "slots"])[["host", "data", "slots", *_FIGURES]]
        alike.setdefault(tuple(figures.itertuples(index=False, name=None)), []).append(str(module))
    ordered = (sorted(names, key=lambda name: ("/" in name, name)) for names in alike.values())
    return {first: tuple(others) for first, *others in ordered}


def standings(rows: pd.DataFrame, dims: int) -> list[ModuleStanding]:
    """Return the standing of each module at every stage, the one to try first in front. Twins count once.

    Modules are sorted by the number of groups with BETTER minus those with WORSE, then by `strength`.
    """
    found = []
    there = at_every_stage(rows, dims)
    for module, twins in twins_by_name(there).items():
        own = there[there["module"] == module]
        # an interval of width 0 comes from equal figures of all seeds, and says as little as it can
        half = ((own["high"] - own["low"]) / 2).clip(lower=1e-12)
        counts = [int((own["verdict"] == verdict).sum()) for verdict in ("BETTER", "WORSE")]
        strength = float((own["difference"] / half).mean())
        found.append(ModuleStanding(module, len(own), counts[0], counts[1], strength, own, twins))
    return sorted(found, key=lambda each: (each.worse - each.better, -each.strength, each.module))


def never_better(rows: pd.DataFrame, dims: int) -> list[ModuleStanding]:
    """Return the modules that were WORSE in a group and BETTER in none, at any place, the worst first."""
    helped = set(rows.loc[rows["verdict"] == "BETTER", "module"])
    found = [each for each in standings(rows, dims) if each.worse and each.module not in helped]
    return sorted(found, key=lambda each: (-each.worse / each.groups, each.strength))


def agreements(rows: pd.DataFrame, dims: int) -> list[Agreement]:
    """Return, for each two groups, how far they rank the modules of both alike, at every stage. Twins count once."""
    own = at_every_stage(rows, dims)
    of_group = {key: part.set_index("module") for key, part in own.groupby(["host", "data"], sort=True)}
    found = []
    for first, second in combinations(of_group, 2):
        pair = pd.concat([of_group[first], of_group[second]])
        both = list(twins_by_name(pair.loc[pair.index.duplicated(keep=False)].reset_index()))
        ranks = rank_agreement(
            *(of_group[key].loc[both, "difference"].to_numpy(dtype=float) for key in (first, second))
        )
        found.append(Agreement(_key(first), _key(second), ranks))
    return found


def in_percent(row: Mapping[Any, Any], group: Measured) -> tuple[float, float, float]:
    """Return a difference with its interval in percent: points of a score, or the share of the bare host's error.

    So differences of errors on data of different scales can be drawn side by side.
    """
    unit = 100.0 if group.direction == "maximize" else 100.0 / group.bare
    return unit * row["difference"], unit * row["low"], unit * row["high"]


def _key(given: Any) -> tuple[str, str]:
    host, data = given
    return str(host), str(data)
