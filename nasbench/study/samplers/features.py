"""Features of a plan for a Gaussian process: modules in each slot, modules in any slot, properties, known costs.

Each of these four is a block of columns. A block is centred and scaled with a uniform sample of plans of the space, so
that the mean squared norm of a plan's row is 1 in each block. A linear kernel on the first block models a separate
effect of each module in each slot. A linear kernel on the second block models an effect of each module that is the same
in all slots. Because of the measured properties, the result of one module is also information about similar modules.
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

__all__ = ["BLOCKS", "MAX_REMEMBERED", "Features"]

FloatArray = NDArray[np.float64]

BLOCKS = ("placement", "modules", "properties", "costs")
"""Names of the blocks, in order."""

MAX_REMEMBERED = 20_000
"""Largest number of plans of which something is cached. An emptied cache changes no result."""

_FORM = 0.5
"""Weight of the label for the composition of an expression. The label of a module that is alone has the weight 1."""


class Features:
    """Converts plans into blocks of features.

    Args:
        space: The space of the plans.
        sample: Plans drawn uniformly from the space. They determine the centre and the scale of each block.
        costs: Returns the k known costs of a plan on the modelled scale, `(k,)`. k can be 0.
    """

    def __init__(self, space: ResolvedSpace, sample: Sequence[Plan], costs: Callable[[Plan], FloatArray]) -> None:
        # Slots that always have the same expression have common columns, because equal columns would add no
        # information.
        self._slots, self._costs = [choices.slot for choices, _ in space.served], costs
        variants = dict.fromkeys(variant for slot in space.slots for variant in slot.variants)
        inside = dict.fromkeys(expression for plan in sample for expression in plan.values())
        labels = {label for expression in [NONE, *variants, *inside] for label, _ in _labels(expression)}
        self._column = {label: column for column, label in enumerate(sorted(labels))}
        # One row for each distinct expression, which a plan refers to by index. A space has few distinct expressions.
        self._row: dict[Expression, int] = {}
        self._rows: list[FloatArray] = []
        self._places: dict[Plan, list[int]] = {}  # the row of the expression in each slot
        # All labels have the same unit, so each of the two blocks of labels is scaled as a whole. In the blocks of
        # properties and costs, each column is scaled separately.
        self._scales = [_Scale(block, each=index >= 2) for index, block in enumerate(self._raw(sample))]

    def __call__(self, plans: Sequence[Plan]) -> tuple[FloatArray, ...]:
        """Return the blocks of some plans, `(plans, columns)` each. An unknown cost is replaced by the mean cost."""
        # the mean is 0 after centring, so `nan_to_num` replaces an unknown value by the mean
        return tuple(np.nan_to_num(scale(block)) for scale, block in zip(self._scales, self._raw(plans), strict=True))

    def _raw(self, plans: Sequence[Plan]) -> tuple[FloatArray, ...]:
        rows = [self._rows_of(plan) for plan in plans]
        table = np.stack(self._rows) if self._rows else np.zeros((0, len(self._column) + len(PROPERTIES) + 1))
        all_slots = table[np.array(rows, dtype=int).reshape(len(plans), len(self._slots))]
        labels, figures = np.split(all_slots, [len(self._column)], axis=2)
        costs = np.array([self._costs(plan) for plan in plans], dtype=float).reshape(len(plans), -1)
        described = np.column_stack([figures.reshape(len(plans), -1), figures.sum(axis=1)])
        return labels.reshape(len(plans), -1), labels.sum(axis=1), described, costs

    def _rows_of(self, plan: Plan) -> list[int]:
        """Return the index of the row of each slot's expression. A proposal asks for most plans several times."""
        if plan not in self._places:
            if len(self._places) >= MAX_REMEMBERED:
                self._places.clear()
            self._places[plan] = [self._row_of(plan.get(slot, NONE)) for slot in self._slots]
        return self._places[plan]

    def _row_of(self, expression: Expression) -> int:
        """Return the index of an expression's row: its labels, its mean properties, and 1 unless it is `none`."""
        if expression not in self._row:
            row = np.zeros(len(self._column) + len(PROPERTIES) + 1)
            for label, weight in _labels(expression):
                if label in self._column:  # a plan outside the space can have a module that has no column
                    row[self._column[label]] += weight
            row[len(self._column) :] = [*_properties(expression), float(not expression.is_none)]
            self._row[expression] = len(self._rows)
            self._rows.append(row)
        return self._row[expression]


class _Scale:
    """Centres and scales a block. With `each`, the columns have different units, so each is scaled separately."""

    def __init__(self, sample: FloatArray, *, each: bool) -> None:
        self.center = sample.mean(axis=0)
        spread = sample.std(axis=0)
        self.kept = spread > 1e-9  # a constant column has no information and a scale of 0
        self.unit = spread[self.kept] if each else np.ones(int(self.kept.sum()))
        self.unit = self.unit * np.sqrt(
            ((sample[:, self.kept] - self.center[self.kept]) ** 2 / self.unit**2).sum(1).mean()
        )

    def __call__(self, block: FloatArray) -> FloatArray:
        if not self.kept.any():
            return np.zeros((len(block), 1))  # one column of zeros, so that the block is not empty; its kernel is 0
        return (block[:, self.kept] - self.center[self.kept]) / self.unit


def _labels(expression: Expression) -> list[tuple[str, float]]:
    """Return the labels of an expression, with weights.

    The squared weights of its modules sum to 1, and those of its variants too. A repeated module has several weights.
    """
    leaves = list(expression.leaves())
    # without this weight, an expression with many modules would have a larger norm, and so a larger prior variance
    share = 1.0 / np.sqrt(max(len(leaves), 1))
    named = [(label, share) for leaf in leaves for label in (f"module {leaf.name}", f"variant {leaf.canonical()}")]
    return [(f"form {_form(expression)}", _FORM), *named]


def _form(expression: Expression) -> str:
    """Return the composition of an expression, in which every module is replaced by `m`: `m >> m`, `gate(m, m)`."""
    if isinstance(expression, Series):
        return " >> ".join(_form(part) for part in expression.parts) or "none"
    if isinstance(expression, Fused):
        return f"{expression.fusion}({', '.join(_form(branch) for branch in expression.branches)})"
    return "m"


def _properties(expression: Expression) -> FloatArray:
    """Return the five properties of an expression, each the mean over its modules. They are 0 for `none`."""
    figures = [
        _figures(leaf.name, [p for spec in leaf.specs() for p in spec.properties]) for leaf in expression.leaves()
    ]
    return np.mean(figures, axis=0) if figures else np.zeros(len(PROPERTIES))


def _figures(name: str, declared: Sequence[str]) -> list[float]:
    """Return the five properties of a module: the measured values or, without a record, 1 if declared and 0 if not."""
    fingerprint = recorded(name)
    if fingerprint is None:
        return [float(p in declared) for p in PROPERTIES]
    return [float(getattr(fingerprint, p) or 0.0) for p in PROPERTIES]
