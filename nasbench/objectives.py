"""Objectives, which a search optimises in a given direction, and constraints, which every plan must satisfy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nasbench.errors import InputError, SpaceError, UnknownNameError

__all__ = [
    "COSTS",
    "PROXY_NAMES",
    "RETEST",
    "Constraint",
    "Direction",
    "directions",
    "parse_constraint",
    "trained_constraint",
]

Direction = str
"""`"maximize"` or `"minimize"`."""

COSTS = ("params", "macs", "elementwise_flops", "activations", "peak_memory_bytes", "latency_ms")
"""Names of the costs. They are minimised, unless the user gives another direction."""

PROXY_NAMES = ("naswot", "synflow", "zico")
"""Names of the zero-cost proxies."""

RETEST = "_retest"
"""Suffix of a zero-cost proxy's second score, which is computed from other initial weights and other batches."""

# Words in the name of a metric that imply its direction.
_MAXIMISED = ("accuracy", "top1", "top5", "auc", "f1", "r2")
_MINIMISED = ("loss", "error", "mse", "mae", "rmse", "smape", "mase")
_CONSTRAINT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*([-+]?[\d._]+(?:[eE][-+]?\d+)?)\s*(x?)\s*\Z")


def directions(objectives: Iterable[str] | Mapping[str, str], known: Mapping[str, str]) -> dict[str, Direction]:
    """Return each objective with its direction, in the order given.

    Args:
        objectives: Names, or a mapping of name to "maximize" or "minimize".
        known: The task's metrics with their directions.

    Raises:
        UnknownNameError: If a name is given without a direction and is neither a metric nor a cost.
        InputError: If no objective is given, if an objective is given twice, or if a direction is neither "maximize"
            nor "minimize".
    """
    names = list(objectives)
    if not names:
        raise InputError("a search needs at least one objective, such as accuracy or macs")
    if len(set(names)) != len(names):
        raise InputError(f"an objective is given twice: {', '.join(names)}")
    given = dict(objectives) if isinstance(objectives, Mapping) else dict.fromkeys(names, "")
    for name, direction in given.items():
        if direction not in ("", "maximize", "minimize"):
            raise InputError(f"objective {name!r} has direction {direction!r}; allowed: maximize, minimize")
    return {name: direction or _direction(name, known) for name, direction in given.items()}


def _direction(name: str, known: Mapping[str, str]) -> Direction:
    if name in known:
        return known[name]
    if name in COSTS:
        return "minimize"
    raise UnknownNameError("objective", name, [*known, *COSTS], "a metric of your own: objectives={name: 'maximize'}")


def conventional_direction(name: str) -> Direction | None:
    """Return the direction that a metric's name implies, or None if it implies none.

    The words of a name are separated by underscores. Accuracies and other scores are maximised. Errors and costs are
    minimised.
    """
    words = name.lower().split("_")
    if any(word in _MAXIMISED for word in words):
        return "maximize"
    if name in COSTS or any(word in _MINIMISED for word in words):
        return "minimize"
    return None


@dataclass(frozen=True)
class Constraint:
    """A bound on a cost or metric.

    Attributes:
        name: The cost or metric.
        operator: "<=", "<", ">=" or ">".
        bound: The limit, as a number.
        relative: Whether `bound` is a multiple of the bare backbone's value ("1.1x").
    """

    name: str
    operator: str
    bound: float
    relative: bool

    def limit(self, bare: Mapping[str, float]) -> float:
        """Return the limit in the units of the metric, given the bare backbone's values.

        A relative limit is a share of the bare value's magnitude below or above the bare value: "0.9x" means 10 %
        below, "1.1x" means 10 % above. So it also works for negative values, such as those of a proxy.
        """
        if not self.relative:
            return self.bound
        value = bare[self.name]
        # 0.9 times a negative value would be above it, not below.
        return self.bound * value if value >= 0 else value + (self.bound - 1) * abs(value)

    def holds(self, value: float, bare: Mapping[str, float]) -> bool:
        """Return whether `value` satisfies the constraint."""
        limit = self.limit(bare)
        return {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[self.operator]

    def reason(self, value: float, bare: Mapping[str, float]) -> str:
        """Return the reason that the trials table shows for a `value` that does not satisfy the constraint."""
        return f"{self.name} {value:.6g} breaks {self} (limit {self.limit(bare):.6g})"

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.bound:g}{'x' if self.relative else ''}"


def parse_constraint(text: str, known: Iterable[str] | None = None) -> Constraint:
    """Parse a constraint such as `params<=1.1x` (relative to the bare backbone) or `macs<5e8`.

    Args:
        text: The constraint.
        known: The names that can have a bound. None for any name, where a function returns the values.

    Raises:
        SpaceError: If the text is malformed, or its number is infinite, or a factor is not above 0.
        UnknownNameError: If the name in the text is not one of `known`.
    """
    match = _CONSTRAINT.match(text)
    name, operator, number, relative = match.groups() if match else ("", "", "", "")
    try:
        # `float` raises for "", and for texts such as 1.2.3, which match the pattern but are not numbers.
        bound = float(number)
    except ValueError:
        bound = math.inf
    if not math.isfinite(bound):  # 1e400 is too large for a number, and would be no bound at all
        raise SpaceError(
            f"malformed constraint {text!r}; write NAME<=NUMBER or, relative to the bare backbone, NAME<=NUMBERx, with "
            "a finite NUMBER"
        )
    if known is not None and name not in (known := list(known)):
        raise UnknownNameError("cost or metric", name, known)
    if relative and bound <= 0:
        raise SpaceError(
            f"constraint {text!r}: a factor of the bare backbone's value must be above 0, such as {name}{operator}1.1x"
        )
    return Constraint(name, operator, bound, bool(relative))


def trained_constraint(text: str, proxies: Iterable[str] = ()) -> Constraint:
    """Parse a constraint on a cost, or on one of these zero-cost proxies, of plans that are trained.

    Raises:
        SpaceError: As `parse_constraint`, or if no plan can satisfy it, because the costs of a model are above 0.
        UnknownNameError: If the name is another one.
    """
    constraint = parse_constraint(text, [*COSTS, *proxies])
    if constraint.name in COSTS and constraint.operator in ("<=", "<") and constraint.bound <= 0:
        raise SpaceError(f"constraint {text!r}: {constraint.name} is above 0 for every plan; give a bound above 0")
    return constraint
