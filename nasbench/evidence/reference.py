"""The reference point and the bounds of hypervolume. They are fixed before a search and stored with it.

They depend only on the bare backbone. So they are known after the first evaluation, and they never change. The range of
each objective is:

    a cost that is minimised    from the bare backbone's cost to 10 times this cost, on a logarithmic scale
    a bounded score             (accuracy, AUC, R² ..., at most 1 or 100, maximised) from its best value (1 or 100) down
                                by twice the bare backbone's distance from it. The length is at least 0.1 of the whole
                                range from 0 to the best value, and the lower end is never below 0.
    an error that is minimised  from 0 to twice the bare backbone's error
    any other metric            the bare backbone's value ± its absolute value (± 1 if it is 0)

On each axis, the best value is at 0 and the reference point at 1. A volume of 1 would mean a perfect metric at no added
cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import InputError
from nasbench.evidence.pareto import hypervolume
from nasbench.objectives import COSTS, conventional_direction

__all__ = ["COST_FACTOR", "Reference", "reference_point"]

FloatArray = NDArray[np.float64]

COST_FACTOR = 10.0
"""A plan that costs at least this many times as much as the bare backbone adds no hypervolume.

This is the default. A search can be given another reference point."""

_LEAST_RANGE = 0.1
"""The box covers at least this part of the range of a bounded score. So there is room below a bare backbone at 0.99."""


def _log(values: Any) -> FloatArray:
    """Return the logarithm. Values that are not positive are replaced by the smallest positive number."""
    return np.log(np.maximum(values, np.finfo(float).tiny))


@dataclass(frozen=True)
class Reference:
    """The box in which hypervolume is measured.

    Attributes:
        directions: "maximize" or "minimize" for each objective.
        point: The reference point. For each objective, values that are worse than this one add no hypervolume.
        ideal: For each objective, the value in the best corner of the box. A plan can be better than this.
        logarithmic: The objectives that have a logarithmic scale.
    """

    directions: dict[str, str]
    point: dict[str, float]
    ideal: dict[str, float]
    logarithmic: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not set(self.directions) == set(self.point) == set(self.ideal) >= set(self.logarithmic):
            raise ValueError(f"a reference needs a point and an ideal for each of {', '.join(self.directions)}")

    def coordinates(self, values: FloatArray) -> FloatArray:
        """Return objectives in units of the box: 0 is the ideal, 1 is the reference point, and smaller is better.

        Args:
            values: One column for each objective, in the order of `directions`, `(n, m)`.
        """
        columns = np.asarray(values, dtype=float).reshape(-1, len(self.directions))
        found = np.empty_like(columns)
        for index, name in enumerate(self.directions):
            scale = _log if name in self.logarithmic else np.asarray
            best, worst = scale(self.ideal[name]), scale(self.point[name])
            found[:, index] = (scale(columns[:, index]) - best) / (worst - best)
        return found

    def hypervolume(self, values: FloatArray) -> float:
        """Return the share of the box that plans dominate. It is in [0, 1], or above 1 if a plan is beyond the ideal.

        Args:
            values: The objectives of the plans, `(n, m)`, as in `coordinates`.
        """
        m = len(self.directions)
        return hypervolume(self.coordinates(values), ["minimize"] * m, [1.0] * m)

    def to_dict(self) -> dict[str, Any]:
        """Return the reference as JSON-serialisable data, which `Reference.from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reference:
        """Return the reference that `to_dict` wrote."""
        return cls(**{**data, "logarithmic": tuple(data["logarithmic"])})


def reference_point(
    bare: Mapping[str, float], directions: Mapping[str, str], given: Mapping[str, float] | None = None
) -> Reference:
    """Return the reference of a search, from the values of the bare backbone.

    Args:
        bare: Metrics and costs of the bare backbone.
        directions: "maximize" or "minimize" for each objective.
        given: For some objectives, a value of the reference point. It replaces the value that the rule gives.

    Raises:
        InputError: If a given value is not worse than the ideal, or if it is for something that is not an objective.

    Example:
        >>> found = reference_point({"accuracy": 0.8, "macs": 1e6}, {"accuracy": "maximize", "macs": "minimize"})
        >>> {name: round(value, 3) for name, value in found.point.items()}
        {'accuracy': 0.6, 'macs': 10000000.0}
    """
    given = dict(given or {})
    boxes = {name: _box(name, float(bare[name]), direction) for name, direction in directions.items()}
    point = {name: given.pop(name, worst) for name, (_, worst) in boxes.items()}
    if given:
        raise InputError(
            f"a reference is given for {', '.join(given)}, which is not an objective; the objectives are "
            f"{', '.join(directions)}"
        )
    ideal = {name: best for name, (best, _) in boxes.items()}
    for name, direction in directions.items():
        if (point[name] > ideal[name]) != (direction == "minimize") or point[name] == ideal[name]:
            raise InputError(
                f"the reference point of {name}, {point[name]:g}, is not worse than the ideal value {ideal[name]:g}"
            )
    logarithmic = tuple(name for name, d in directions.items() if _is_cost(name, float(bare[name]), d))
    return Reference(dict(directions), point, ideal, logarithmic)


def _box(name: str, bare: float, direction: str) -> tuple[float, float]:
    """Return the ideal and the reference point of one objective, by the rule at the top of this file."""
    if _is_cost(name, bare, direction):
        return bare, COST_FACTOR * bare
    top = 1.0 if bare <= 1 else 100.0  # a bounded score can be in percent
    if direction == "maximize" and conventional_direction(name) == "maximize" and 0 <= bare <= top:
        distance = max(2 * (top - bare), _LEAST_RANGE * top)
        return top, max(0.0, top - distance)
    reach = abs(bare) or 1.0  # even if the bare backbone is at 0, the box must have a size above 0
    return (bare - reach, bare + reach) if direction == "minimize" else (bare + reach, bare - reach)


def _is_cost(name: str, bare: float, direction: str) -> bool:
    return name in COSTS and direction == "minimize" and bare > 0
