"""Effects of properties, modules and slots on the metric after training, with intervals.

Each table has the columns `estimate`, `low`, `high`, `p`, `n` and `verdict`. The 95 % interval from `low` to `high` and
the p-value `p` are for each row alone. The verdicts are corrected for the whole table (Holm): the probability that the
table has any wrong HELPS or HURTS is at most 5 %. A report with several tables corrects them together
(`judge_together`). A search has few plans, so most rows are NOT DECIDED. A table of effects suggests modules and slots
to examine. Only plans that were trained with several seeds give reliable verdicts.

The model is additive. If modules interact, an effect is the average over the plans of the search. If there are enough
plans, the effects in a slot are adjusted for the contents of the other slots (`adjusted`). If there are not, the other
slots count as noise. The effects are then unbiased for plans that were drawn at random. They are biased if a sampler
combines good modules of one slot with good modules of other slots.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench.evidence.holm import holm
from nasbench.evidence.regression import Estimate, Fit, explained
from nasbench.evidence.student import t_p_value, t_quantile
from nasbench.library.expression import Expression
from nasbench.library.plan import Plan
from nasbench.library.registry import PROPERTIES

__all__ = [
    "ANY",
    "declared_properties",
    "judge_together",
    "module_effects",
    "paired_effects",
    "property_effects",
    "slot_importance",
]

FloatArray = NDArray[np.float64]
Labels = Callable[[Expression], Iterable[str]]

ANY = "any"
"""In the column `slot`, this word means any slot. In the column `property`, it means any module."""

_FREEDOM = 5
"""Smallest number of residual degrees of freedom with which a fitted effect is reported.

With fewer, the standard error is not known well."""


def declared_properties(expression: Expression) -> list[str]:
    """Return the properties that the modules of an expression declare, in the order of `PROPERTIES`."""
    specs = [spec for leaf in expression.leaves() for spec in leaf.specs()]
    return [name for name in PROPERTIES if any(spec.has(name) for spec in specs)]


def property_effects(
    plans: Sequence[Plan],
    values: Sequence[float],
    direction: str,
    *,
    properties_of: Callable[[Expression], Collection[str]] = declared_properties,
) -> pd.DataFrame:
    """Return the effect of each property in each slot: the metric with the property minus the metric without.

    It is a coefficient of a least squares fit, in which the other properties in the slot are held equal. The effect of
    having any module is fitted too (property `any`). If it were not, the effect of a property would include the effect
    of having a module. The property `complexity` means that the cost grows about linearly with the number of positions,
    or more slowly.

    Args:
        plans: Distinct plans.
        values: The metric of each plan.
        direction: Direction of the metric, "maximize" or "minimize".
        properties_of: Function that returns the properties of an expression, either declared or measured.

    Returns:
        A table with the columns slot, property, estimate, low, high, p, n (number of plans with the property in this
        slot), adjusted (whether the contents of the other slots are in the fit) and verdict. In a row with slot `any`,
        the estimate is the effect for each slot that has the property, and n counts the plans that have it in any slot.
    """
    return _effects(plans, values, direction, "property", lambda expression: [ANY, *properties_of(expression)])


def module_effects(plans: Sequence[Plan], values: Sequence[float], direction: str) -> pd.DataFrame:
    """Return the effect of each module in each slot, compared with an empty slot.

    Each module of a composition counts separately, but only once if it occurs twice in a slot. The heat map of the
    report shows this table.

    Args:
        plans: Distinct plans.
        values: The metric of each plan.
        direction: Direction of the metric, "maximize" or "minimize".

    Returns:
        A table with the columns slot, module, estimate, low, high, p, n (number of plans with the module in this slot),
        adjusted (whether the contents of the other slots are in the fit) and verdict. In a row with slot `any`, the
        estimate is the effect for each slot that has the module, and n counts the plans that have it in any slot.
    """
    return _effects(plans, values, direction, "module", _modules)


def paired_effects(plans: Sequence[Plan], values: Sequence[float], direction: str) -> pd.DataFrame:
    """Return, for each expression in a slot, the mean difference between plans with it and the same plans without it.

    Without it, the slot is empty. This needs no model. There are few such pairs of plans, because a search does not
    create them on purpose. If there are 3 pairs or more, the interval is Student's t-interval over the pairs.

    Args:
        plans: Distinct plans.
        values: The metric of each plan.
        direction: Direction of the metric, "maximize" or "minimize".

    Returns:
        A table with the columns slot, expression, estimate, low, high, p, n (number of pairs) and verdict.
    """
    known = dict(zip(plans, values, strict=True))
    gaps: dict[tuple[str, str], list[float]] = {}
    for plan, value in known.items():
        for slot, expression in plan.items():
            without = known.get(Plan({s: e for s, e in plan.items() if s != slot}))
            if without is not None:
                gaps.setdefault((slot, expression.canonical()), []).append(value - without)
    rows = [
        {"slot": slot, "expression": text, **_columns(_mean(found)), "n": len(found)}
        for (slot, text), found in sorted(gaps.items())
    ]
    return _judged(pd.DataFrame(rows, columns=["slot", "expression", *_COLUMNS, "n"]), direction)


def slot_importance(plans: Sequence[Plan], values: Sequence[float]) -> pd.DataFrame:
    """Return the share of the metric's variance that the modules in each slot explain (adjusted R²).

    Each slot is fitted alone.

    Args:
        plans: Distinct plans.
        values: The metric of each plan.

    Returns:
        A table with the columns slot, estimate, low, high, p, n (number of plans with a module in this slot) and
        verdict (MATTERS or NOT DECIDED). The shares of the slots need not sum to 1.
    """
    design = _Design(plans, _modules)
    rows = []
    for slot in design.slots:
        fit = Fit(design.matrix[:, design.of_slot(slot)], np.asarray(values))
        found = explained(fit) if fit.freedom >= _FREEDOM else None
        rows.append({"slot": slot, **_columns(found), "n": sum(slot in plan for plan in plans)})
    table = pd.DataFrame(rows, columns=["slot", *_COLUMNS, "n"])
    matters = holm(table["p"].to_numpy(dtype=float))
    return table.assign(verdict=np.where(matters, "MATTERS", "NOT DECIDED"))


def judge_together(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Correct the verdicts of several tables together (Holm): at most 5 % probability of any wrong verdict.

    If five tables are corrected separately, 8 to 21 % of reports have a wrong verdict.

    Args:
        tables: Tables from the functions of this file, by name.

    Returns:
        The tables, in which some verdicts may have become NOT DECIDED. No NOT DECIDED becomes another verdict, because
        more rows make the test stricter.
    """
    if not tables:
        return {}
    decided = holm(np.concatenate([table["p"].to_numpy(dtype=float) for table in tables.values()]))
    of_tables = np.split(decided, np.cumsum([len(table) for table in tables.values()])[:-1])
    return {
        name: table.assign(verdict=table["verdict"].where(of_table, "NOT DECIDED"))
        for (name, table), of_table in zip(tables.items(), of_tables, strict=True)
    }


_COLUMNS = ("estimate", "low", "high", "p")


class _Design:
    """A design matrix of zeros and ones, with a row for each plan and a column for each (slot, label) that occurs.

    The labels are modules or properties.
    """

    def __init__(self, plans: Sequence[Plan], labels: Labels) -> None:
        rows = [{(slot, label) for slot, part in plan.items() for label in labels(part)} for plan in plans]
        # A plan orders its slots by depth.
        self.slots = list(Plan(dict(item for plan in plans for item in plan.items())))
        seen = {key for row in rows for key in row}
        self.columns = sorted(seen, key=lambda key: (self.slots.index(key[0]), key[1]))
        matrix = [[float(key in row) for key in self.columns] for row in rows]
        self.matrix = np.array(matrix, dtype=float).reshape(len(plans), len(self.columns))

    def of_slot(self, slot: str) -> list[int]:
        """Return the column indices of a slot."""
        return [index for index, (name, _) in enumerate(self.columns) if name == slot]

    def counts(self) -> tuple[list[str], FloatArray]:
        """Return the labels, and the number of slots in which each plan has each label, `(n, labels)`."""
        labels = sorted({label for _, label in self.columns})
        of_label = [[i for i, (_, other) in enumerate(self.columns) if other == label] for label in labels]
        return labels, np.stack([self.matrix[:, found].sum(axis=1) for found in of_label], axis=1)


def _effects(plans: Sequence[Plan], values: Sequence[float], direction: str, word: str, labels: Labels) -> pd.DataFrame:
    names = ["slot", word, *_COLUMNS, "n", "adjusted"]
    design = _Design(plans, labels)
    if not design.columns:
        return _judged(pd.DataFrame(columns=names), direction)
    target = np.asarray(values, dtype=float)
    whole = Fit(design.matrix, target)
    rows = []
    for slot in design.slots:
        here = design.of_slot(slot)
        alone = Fit(design.matrix[:, here], target)
        for place, column in enumerate(here):
            # The fit over all slots adjusts for the contents of the other slots. If this fit has too few plans,
            # or does not determine the effect, the slot is fitted alone.
            found = _tell(whole, column)
            adjusted = found is not None
            found = found or _tell(alone, place)
            n = int(design.matrix[:, column].sum())
            rows.append(
                {"slot": slot, word: design.columns[column][1], **_columns(found), "n": n, "adjusted": adjusted}
            )
    # In rows with slot `any`, each label has one coefficient, for the number of slots that have the label in a plan.
    all_labels, counts = design.counts()
    anywhere = Fit(counts, target)
    for place, label in enumerate(all_labels):
        found, n = _tell(anywhere, place), int((counts[:, place] > 0).sum())
        rows.append({"slot": ANY, word: label, **_columns(found), "n": n, "adjusted": found is not None})
    return _judged(pd.DataFrame(rows, columns=names), direction)


def _tell(fit: Fit, column: int) -> Estimate | None:
    if fit.freedom < _FREEDOM:
        return None
    weights = np.zeros(fit.columns)
    weights[column] = 1.0
    return fit.contrast(weights)


def _mean(gaps: Sequence[float]) -> Estimate:
    """Return the mean of differences, with an interval if there are 3 or more."""
    value, count = float(np.mean(gaps)), len(gaps)
    if count < 3:
        return Estimate(value, np.nan, np.nan, np.nan)
    error = float(np.std(gaps, ddof=1) / np.sqrt(count))
    half = t_quantile(0.975, count - 1) * error
    # If all differences are equal, t is undefined. Then p is 0, or 1 if all differences are zero.
    p = t_p_value(value / error, count - 1) if error > 0 else float(value == 0)
    return Estimate(value, value - half, value + half, p)


def _columns(found: Estimate | None) -> dict[str, float]:
    values = (np.nan,) * 4 if found is None else (found.value, found.low, found.high, found.p)
    return dict(zip(_COLUMNS, values, strict=True))


def _judged(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Add the verdicts, corrected for the whole table."""
    decided = holm(table["p"].to_numpy(dtype=float))
    better = (table["estimate"] > 0) == (direction == "maximize")
    return table.assign(verdict=np.where(decided, np.where(better, "HELPS", "HURTS"), "NOT DECIDED"))


def _modules(expression: Expression) -> list[str]:
    return [leaf.name for leaf in expression.leaves()]
