"""What a search optimises and what it refuses: objectives, their directions, and constraints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nasbench.errors import InputError, SpaceError, UnknownNameError

__all__ = ["COSTS", "PROXY_NAMES", "RETEST", "Constraint", "Direction", "directions", "parse_constraint"]

Direction = str
"""`"maximize"` or `"minimize"`."""

COSTS = ("params", "macs", "elementwise_flops", "activations", "peak_memory_bytes", "latency_ms")
"""Cost columns; all are minimised."""

PROXY_NAMES = ("naswot", "synflow", "zico")
"""Zero-cost proxies by name."""

RETEST = "_retest"
"""Ends the name of a zero-cost proxy's second score: other initial weights, other batches."""

_MAXIMISED = ("accuracy", "top1", "top5", "auc", "f1", "r2")
_MINIMISED = ("loss", "error", "mse", "mae", "rmse", "smape", "mase")
_CONSTRAINT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*([-+]?[\d._]+(?:[eE][-+]?\d+)?)\s*(x?)\s*\Z")


def directions(objectives: Iterable[str] | Mapping[str, str], known: Mapping[str, str]) -> dict[str, Direction]:
    """Return each objective with its direction, in the order given.

    Args:
        objectives: Names, or a mapping of name to "maximize" or "minimize".
        known: The task's metrics with their directions.

    Raises:
        UnknownNameError: If a name is neither a metric nor a cost.
        InputError: If there is none, one is given twice, or a direction is none.
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
    """Return the direction a metric's name implies: accuracies up, errors and costs down; None if it tells none."""
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
        bound: The number.
        relative: Whether the bound is a multiple of the bare backbone's value ("1.1x").
    """

    name: str
    operator: str
    bound: float
    relative: bool

    def limit(self, bare: Mapping[str, float]) -> float:
        """Return the bound as a number, given the bare backbone's values.

        Relative to a value below 0, as a proxy may have, "0.9x" is a tenth of its size below it.
        """
        if not self.relative:
            return self.bound
        value = bare[self.name]
        return self.bound * value if value >= 0 else value + (self.bound - 1) * abs(value)

    def holds(self, value: float, bare: Mapping[str, float]) -> bool:
        """Whether `value` satisfies it."""
        limit = self.limit(bare)
        return {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[self.operator]

    def reason(self, value: float, bare: Mapping[str, float]) -> str:
        """Say why `value` does not satisfy it, for the trials table."""
        return f"{self.name} {value:.6g} breaks {self} (limit {self.limit(bare):.6g})"

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.bound:g}{'x' if self.relative else ''}"


def parse_constraint(text: str, known: Iterable[str] = COSTS) -> Constraint:
    """Read a constraint such as `params<=1.1x` (relative to the bare backbone) or `macs<5e8`.

    Raises:
        SpaceError: If it is malformed.
        UnknownNameError: If it bounds something that is neither a cost nor a metric.
    """
    found = _CONSTRAINT.match(text)
    try:
        name, operator, number, relative = found.groups() if found else ("", "", "", "")
        bound = float(number)
    except ValueError:
        raise SpaceError(
            f"malformed constraint {text!r}; write NAME<=NUMBER or, relative to the bare backbone, NAME<=NUMBERx"
        ) from None
    if name not in (known := list(known)):
        raise UnknownNameError("cost or metric", name, known)
    return Constraint(name, operator, bound, bool(relative))
