"""What the atlas makes one expect of each module on a host and data: a standardised effect and its standard error.

A group is the rows of one host, data, slots and protocol. In a group, the difference of each module from the bare host
is divided by the standard deviation of the differences of the group's modules, so that groups of other metrics and
scales can be pooled. Before, a difference that is further than `OUTSIDE` quartile ranges from the median is replaced by
this limit, because one module that did not train would make all other differences negligible. Here y is such a value,
and e its standard error.

The effects of a module in the groups and on the target are jointly normal around 0, with the variance v and the
correlation r(a, b) = rho ** distance(a, b). v is the mean of y² - e² over all rows. rho is the mean of a Beta(2, 2)
prior times the likelihood of all rows, so it is 0.5 with a single group, and near 0 if modules do not rank alike in
other groups. Then little is expected of any module. The expectation is the mean given the rows of the module:

    E = v r' (v R + diag(e²))⁻¹ y          variance = v - v r' (v R + diag(e²))⁻¹ v r

With one group: E = v r y / (v + e²). A module without rows has none. An expectation says what to try first. It never
enters a verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.atlas_protocol import SAME
from nasbench.evidence.front_probability import NORMAL_95

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Expected", "Setting", "best_row", "distance", "expected_effects"]

FloatArray = NDArray[np.float64]

FEWEST = 4
"""Smallest number of modules of a group. The standard deviation of fewer says little."""

OUTSIDE = 3.0
"""Number of quartile ranges from the median beyond which a difference is cut."""

_GRID = np.linspace(0.025, 0.975, 39)
"""The values of rho that are weighed."""


@dataclass(frozen=True)
class Setting:
    """Where an effect is measured or expected.

    Attributes:
        host: Name of the backbone.
        data: Name of the task.
        slots: The slots of the module: "same" for every stage, the name of one slot, or "" for any.
    """

    host: str
    data: str
    slots: str = ""

    @property
    def family(self) -> str:
        """The first word of the host's name: "resnet" of `test_resnet` and `resnet18`. A user's file is its own."""
        name = PurePath(self.host).name if ":" in self.host else self.host
        word = re.match(r"[a-z]+", name.removeprefix("test_").removeprefix("tf_"))
        return word.group() if word and ":" not in name else name


@dataclass(frozen=True)
class Expected:
    """The expected effect of a module, in standard deviations between the modules of a group.

    Attributes:
        mean: The expected effect. Positive is better than the bare host.
        error: Its standard deviation, which includes how much modules differ between hosts and data.
    """

    mean: float
    error: float


def distance(a: Setting, b: Setting) -> float:
    """Return how unlike two settings are, 0 for equal ones.

    It is the sum of 1 for hosts of different families (0.5 for different hosts of one family), 0.5 for different data,
    and 0.5 for different slots. rho to this power is a covariance, because each part of the sum is an ultrametric.
    """
    of_host = 0.0 if a.host == b.host else 0.5 if a.family == b.family else 1.0
    return of_host + 0.5 * (a.data != b.data) + 0.5 * (a.slots != b.slots)


def expected_effects(atlas: pd.DataFrame, host: str, data: str, dims: int) -> dict[str, Expected]:
    """Return the expected effect of each module that has rows, by name, sorted.

    Args:
        atlas: Rows of the atlas.
        host: The backbone.
        data: The task.
        dims: Number of spatial dimensions of the slots, 1 or 2. Only rows of as many are used.
    """
    groups, effects, errors = _standardised(atlas[atlas["dims"] == dims])
    if not groups:
        return {}
    held = [np.isfinite(column) for column in effects.to_numpy().T]
    y, e = effects.to_numpy().T, errors.to_numpy().T  # (modules, groups)
    variance = max(float(np.nanmean(y**2 - e**2)), 0.0)
    if variance == 0.0:  # the differences are not larger than their errors
        return {}
    between = np.array([[distance(a, b) for b in groups] for a in groups])
    to_target = np.array([distance(Setting(host, data), group) for group in groups])
    rho = _rho(between, y, e, variance)
    expected = {}
    for name, row, error, there in zip(effects.columns, y, e, held, strict=True):
        near = variance * rho ** to_target[there]
        whole = variance * rho ** between[np.ix_(there, there)] + np.diag(error[there] ** 2)
        solved = np.linalg.solve(whole, near)
        spread = max(variance - float(solved @ near), 0.0)
        expected[str(name)] = Expected(float(solved @ row[there]), spread**0.5)
    return expected


def best_row(atlas: pd.DataFrame, module: str, host: str, data: str | None, dims: int) -> pd.Series | None:
    """Return the row of a module that says most of a host and data: the nearest, then the narrowest. None without one.

    Args:
        atlas: Rows of the atlas.
        module: Name of the module.
        host: The backbone.
        data: The task. None if it is not known, and then no row is nearer for its data.
        dims: Number of spatial dimensions.
    """
    rows = atlas[(atlas["module"] == module) & (atlas["dims"] == dims)]
    if rows.empty:
        return None

    def key(row: pd.Series) -> tuple[float, bool, float]:
        there = Setting(row["host"], row["data"] if data is not None else "")
        return distance(Setting(host, data or ""), there), row["slots"] != SAME, row["high"] - row["low"]

    return min((row for _, row in rows.iterrows()), key=key)


def _standardised(rows: pd.DataFrame) -> tuple[list[Setting], pd.DataFrame, pd.DataFrame]:
    """Return the groups, and values and standard errors in units of the group, a column a module: `(groups, modules)`.

    Groups of fewer than `FEWEST` modules, and groups whose differences are all equal, are left out.
    """
    import pandas as pd  # imported here, because searches without an atlas need not load it

    groups: list[Setting] = []
    values: list[pd.Series] = []
    errors: list[pd.Series] = []
    finite = np.isfinite(rows[["difference", "low", "high"]].to_numpy(dtype=float)).all(axis=1)
    usable = rows.loc[finite]
    for (host, data, slots, _), group in usable.groupby(["host", "data", "slots", "protocol"], sort=True):
        one = group.drop_duplicates("module", keep="last").set_index("module")
        differences = _cut(one["difference"])
        unit = float(differences.std()) if len(one) >= FEWEST else 0.0
        if unit > 1e-9 * float(differences.abs().max()):  # rounding, of differences that are all equal
            groups.append(Setting(str(host), str(data), str(slots)))
            values.append(differences / unit)
            errors.append((one["high"] - one["low"]) / (2.0 * NORMAL_95) / unit)
    if not groups:
        return [], pd.DataFrame(), pd.DataFrame()
    names = sorted({str(name) for one in values for name in one.index})
    table = pd.DataFrame([one.reindex(names).to_numpy(dtype=float) for one in values], columns=names)
    return groups, table, pd.DataFrame([one.reindex(names).to_numpy(dtype=float) for one in errors], columns=names)


def _cut(differences: pd.Series) -> pd.Series:
    """Replace differences that are further than `OUTSIDE` quartile ranges from the median by this limit."""
    low, middle, high = differences.quantile([0.25, 0.5, 0.75])
    return differences.clip(middle - OUTSIDE * (high - low), middle + OUTSIDE * (high - low))


def _rho(between: FloatArray, y: FloatArray, e: FloatArray, variance: float) -> float:
    """Return the mean of rho given all rows.

    Args:
        between: Distances of the groups, `(groups, groups)`.
        y: Standardised effects, `(modules, groups)`. nan where a module has no row.
        e: Their standard errors, of the same shape.
        variance: Variance of the effects.
    """
    logs = np.log(_GRID) + np.log1p(-_GRID)  # Beta(2, 2)
    for index, rho in enumerate(_GRID):
        covariance = variance * rho**between
        for row, error in zip(y, e, strict=True):
            there = np.isfinite(row)
            whole = covariance[np.ix_(there, there)] + np.diag(error[there] ** 2)
            logs[index] -= 0.5 * float(np.linalg.slogdet(whole)[1] + row[there] @ np.linalg.solve(whole, row[there]))
    weights = np.exp(logs - logs.max())
    return float(weights @ _GRID / weights.sum())
