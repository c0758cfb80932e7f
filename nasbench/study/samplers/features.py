"""A plan as numbers for a Gaussian process: what sits where, what is in it at all, its properties, its known costs.

Each is a block of columns, centred and scaled on a uniform sample of the space so that a plan drawn at random has a
squared norm of 1 in each. A linear kernel on the first block is an effect of each module at each slot, on the second
one an effect shared by all slots; the measured properties carry what was learnt of one module over to another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nasbench.library.expression import NONE, Expression, Fused, Series
from nasbench.library.plan import Plan
from nasbench.library.registry import PROPERTIES
from nasbench.measurement.properties.record import recorded
from nasbench.spaces import ResolvedSpace

__all__ = ["BLOCKS", "Features"]

FloatArray = NDArray[np.float64]

BLOCKS = ("placement", "modules", "properties", "costs")
"""The blocks, in order."""

_FORM = 0.5
"""Weight of how an expression is composed beside that of its modules, 1."""


class Features:
    """Turns plans into blocks of columns.

    Args:
        space: The space the plans are from.
        sample: Plans drawn uniformly from it, for centre and scale.
        costs: Gives a plan's known costs on the scale that is modelled, `(k,)`, k may be 0.
    """

    def __init__(self, space: ResolvedSpace, sample: Sequence[Plan], costs: Callable[[Plan], FloatArray]) -> None:
        self._slots, self._costs = [slot.slot for slot in space.slots], costs
        variants = dict.fromkeys(variant for slot in space.slots for variant in slot.variants)
        inside = dict.fromkeys(expression for plan in sample for expression in plan.values())
        labels = {label for expression in [NONE, *variants, *inside] for label, _ in _labels(expression)}
        self._column = {label: column for column, label in enumerate(sorted(labels))}
        self._row: dict[Expression, int] = {}
        self._rows: list[FloatArray] = []
        self._scales = [_Scale(block, each=index >= 2) for index, block in enumerate(self._raw(sample))]

    def __call__(self, plans: Sequence[Plan]) -> tuple[FloatArray, ...]:
        """Return the blocks of plans, `(plans, columns)` each; a cost that is not known counts as the mean."""
        return tuple(np.nan_to_num(scale(block)) for scale, block in zip(self._scales, self._raw(plans), strict=True))

    def _raw(self, plans: Sequence[Plan]) -> tuple[FloatArray, ...]:
        rows = [[self._row_of(plan.get(slot, NONE)) for slot in self._slots] for plan in plans]
        table = np.stack(self._rows) if self._rows else np.zeros((0, len(self._column) + len(PROPERTIES) + 1))
        all_slots = table[np.array(rows, dtype=int).reshape(len(plans), len(self._slots))]
        labels, figures = np.split(all_slots, [len(self._column)], axis=2)
        costs = np.array([self._costs(plan) for plan in plans], dtype=float).reshape(len(plans), -1)
        described = np.column_stack([figures.reshape(len(plans), -1), figures.sum(axis=1)])
        return labels.reshape(len(plans), -1), labels.sum(axis=1), described, costs

    def _row_of(self, expression: Expression) -> int:
        """Return where an expression's columns are: labels, mean properties, and whether there is anything."""
        if expression not in self._row:
            row = np.zeros(len(self._column) + len(PROPERTIES) + 1)
            for label, weight in _labels(expression):
                if label in self._column:
                    row[self._column[label]] += weight
            row[len(self._column) :] = [*_properties(expression), float(not expression.is_none)]
            self._row[expression] = len(self._rows)
            self._rows.append(row)
        return self._row[expression]


class _Scale:
    """Centre and scale of a block; of each of its columns too, where they are in units of their own."""

    def __init__(self, sample: FloatArray, *, each: bool) -> None:
        self.center = sample.mean(axis=0)
        spread = sample.std(axis=0)
        self.kept = spread > 1e-9
        self.unit = spread[self.kept] if each else np.ones(int(self.kept.sum()))
        self.unit = self.unit * np.sqrt(
            ((sample[:, self.kept] - self.center[self.kept]) ** 2 / self.unit**2).sum(1).mean()
        )

    def __call__(self, block: FloatArray) -> FloatArray:
        if not self.kept.any():
            return np.zeros((len(block), 1))
        return (block[:, self.kept] - self.center[self.kept]) / self.unit


def _labels(expression: Expression) -> list[tuple[str, float]]:
    """Return what stands in an expression, with weights whose squares sum to about 1 for each kind of label."""
    leaves = list(expression.leaves())
    share = 1.0 / np.sqrt(max(len(leaves), 1))
    named = [(label, share) for leaf in leaves for label in (f"module {leaf.name}", f"variant {leaf.canonical()}")]
    return [(f"form {_form(expression)}", _FORM), *named]


def _form(expression: Expression) -> str:
    """Return how an expression is composed, whatever stands in it: `m >> m`, `gate(m, m)`."""
    if isinstance(expression, Series):
        return " >> ".join(_form(part) for part in expression.parts) or "none"
    if isinstance(expression, Fused):
        return f"{expression.fusion}({', '.join(_form(branch) for branch in expression.branches)})"
    return "m"


def _properties(expression: Expression) -> FloatArray:
    """Return the mean over an expression's modules of the five properties, 0 for `none`."""
    figures = [
        _figures(leaf.name, [p for spec in leaf.specs() for p in spec.properties]) for leaf in expression.leaves()
    ]
    return np.mean(figures, axis=0) if figures else np.zeros(len(PROPERTIES))


def _figures(name: str, declared: Sequence[str]) -> list[float]:
    """Return the five properties of a module, measured where they are on record, else as it declares them."""
    found = recorded(name)
    if found is None:
        return [float(p in declared) for p in PROPERTIES]
    return [float(getattr(found, p) or 0.0) for p in PROPERTIES]
