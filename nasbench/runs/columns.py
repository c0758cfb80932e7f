"""The columns of a run's tables, and the names that a metric cannot have because a column has them."""

from __future__ import annotations

from collections.abc import Iterable

from nasbench.errors import InputError
from nasbench.objectives import COSTS

__all__ = [
    "AFTER",
    "BEFORE",
    "LAST",
    "LATENCY_COLUMNS",
    "check_metric_names",
    "check_objective_names",
    "metric_name_fault",
]

BEFORE = ("number", "state", "reason", "plan", "plan_hash", "seed", "fidelity")
"""Columns of the trials table before the metrics."""

LATENCY_COLUMNS = (
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_ratio", "latency_ratio_low", "latency_ratio_high"),
    *("latency_verdict", "latency_predicted", "latency_scenario"),
)

LAST = ("wall_s", "training_s", "device", "batch_parts", "reused_from")

AFTER = (
    *("params", "macs", "elementwise_flops", "activations", "exact", "peak_memory_bytes"),
    *LATENCY_COLUMNS,
    *LAST,
)
"""Columns of the trials table after the metrics."""

_OF_PLANS = (
    *("seeds", "difference", "difference_low", "difference_high", "verdict", "p_better", "more_seeds", "items_needed"),
    *("on_front", "probability", "control_difference", "control_difference_low", "control_difference_high"),
    *("control_ratio", "control_verdict", "breaks"),
)
"""Columns of the table of compared plans (`Run.finalists`), in addition to those of the metrics and costs."""

_DERIVED = ("_sd", "_low", "_high")
"""Endings of the further columns that each metric has in the table of the compared plans."""

# A user's function can return a cost, such as params, among its metrics. The value is then this cost, so it belongs in
# the column of the cost.
_TAKEN = frozenset({"schema_version", "unknown_ops", "items", "run", *BEFORE, *AFTER, *_OF_PLANS}) - frozenset(COSTS)


LONGEST_NAME = 100
"""Largest number of characters in the name of a metric, which becomes the title of a column."""


def check_metric_names(names: Iterable[str]) -> None:
    """Check that no metric has the name of a column.

    Raises:
        InputError: If a metric has the name of a column. The message names the metric.
    """
    if fault := metric_name_fault(names):
        raise InputError(fault)


def metric_name_fault(names: Iterable[str]) -> str:
    """Return which of the names of all metrics of a run is that of a column, and what to do. "" if none is."""
    names = list(names)
    derived = {name + ending for name in names for ending in _DERIVED}
    taken = next((name for name in names if name in _TAKEN or name in derived), None)
    if taken is None:
        return ""
    return (
        f"a metric cannot be named {taken!r}, because the tables of a run have a column of this name; return it under "
        f"another name, such as {taken}_value"
    )


def check_objective_names(names: Iterable[str]) -> None:
    """Check that every table can have a column for each objective.

    Raises:
        InputError: If an objective has the name of a column, or a name that cannot be printed.
    """
    names = list(names)
    for name in names:
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"an objective cannot be named {name[:40]!r}; a name has 1 to {LONGEST_NAME} characters that can be "
                "printed"
            )
    check_metric_names(names)
