"""Tabulate a space: evaluate every plan with every seed, and write the results to one Parquet file.

A tabulation is an ordinary search with the grid sampler, whose run folder is beside the table. So a tabulation can be
resumed and can use several workers, and its run can be inspected like any other run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.errors import InputError
from nasbench.objectives import COSTS, conventional_direction
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run
from nasbench.runs.settings import read_settings
from nasbench.spaces import GivenPlans, Space
from nasbench.study.evaluators.asked import EvaluateFunction
from nasbench.study.names import check_names
from nasbench.study.phases.events import Listener, opened

if TYPE_CHECKING:  # imported late elsewhere, so that mistyped names are reported before pandas and torch are imported
    import pandas as pd

    from nasbench.runs.tabulated import Table, TableInfo
    from nasbench.study.problem import Problem

__all__ = ["MAX_PLANS", "run_folder", "tabulate"]

MAX_PLANS = 100_000
"""A space with more plans than this is not tabulated."""

_OF_EVERY_TABLE: dict[str, Any] = {
    "latency_s": 0.0, "keep": "front", "halving": 0, "controls": False, "sampler": "grid", "refine": None,
    "atlas": False,
}  # fmt: skip


def tabulate(
    space: str | Path | Mapping[str, Any] | Space | None = None,
    *,
    out: str | Path,
    evaluate: EvaluateFunction | None = None,
    seeds: int = 1,
    on_event: Listener | None = None,
    origin: str = "python",
    **settings: Any,
) -> Table:
    """Evaluate every plan of a space and write the table. The same call resumes an interrupted tabulation.

    Args:
        space: As in `nasbench.search`.
        out: The table, a `.parquet` file. Its run folder is beside it, with a name that ends in `.run`.
        evaluate: As in `nasbench.search`.
        seeds: Number of seeds with which each plan is evaluated: `seed`, `seed + 1` and so on. Data splits depend only
            on the first of them.
        on_event: As in `nasbench.search`.
        origin: As in `nasbench.search`.
        **settings: Fields of `nasbench.runs.settings.SearchSettings`, except those that are the same for every
            tabulation.

    Returns:
        The table as written.

    Raises:
        InputError: If a setting is wrong, or if the space has more than `MAX_PLANS` plans.
        RunError: If the run folder contains another tabulation, or if another process is searching in it.
    """
    out = Path(out)
    if out.suffix != ".parquet":
        raise InputError(f"a table is a .parquet file, got {out}")
    if isinstance(space, Path):
        space = str(space)
    if isinstance(space, Space):
        space = space.model_dump(mode="json", exclude_defaults=True)
    if fixed := [name for name in (*_OF_EVERY_TABLE, "trials", "plans") if name in settings]:
        raise InputError(
            f"{', '.join(fixed)}: a tabulation evaluates every plan in full, so it does not take this setting"
        )
    given = {**settings, **_OF_EVERY_TABLE, "seeds": seeds}
    read, _ = read_settings({"space": space, **given}, None, origin)
    listen = opened(on_event)
    check_names(read, trains=evaluate is None)
    from nasbench.runs.tabulated import write_table
    from nasbench.study.driver import run_search
    from nasbench.study.problem import make_problem

    problem = make_problem(read, evaluate)
    if isinstance(problem.space, GivenPlans):
        raise InputError(
            "a table contains a whole space, not a list of plans; compare given plans with `nasbench search --plan`"
        )
    plans = problem.space.count
    if plans > MAX_PLANS:
        raise InputError(
            f"space {problem.space.space.name} has {plans:,} plans in {problem.settings.backbone}, and each would be "
            f"evaluated; at most {MAX_PLANS:,} are tabulated. Restrict the space, or search it"
        )
    # one trial more than there are plans, because the bare backbone is evaluated even if the space does not contain it
    read, origins = read_settings({"space": space, **given, "trials": plans + 1}, None, origin)
    run = run_search(read, origins, evaluate, run_folder(out), listen, whole=True)
    return write_table(out, _frame(run), _info(run, problem))


def run_folder(out: Path) -> Path:
    """Return the run folder of a table."""
    return out.with_suffix(".run")


def _frame(run: Run) -> pd.DataFrame:
    """Return one row for each evaluation, sorted by plan and seed. Values that are not numbers are left out."""
    import pandas as pd

    rows = [_row(evaluation) for evaluation in run.evaluations()]
    return pd.DataFrame(rows).sort_values(["plan", "seed"], ignore_index=True)


def _row(evaluation: Evaluation) -> dict[str, Any]:
    from nasbench.runs.tabulated import FIXED_COLUMNS

    fixed = {name: getattr(evaluation, name) for name in FIXED_COLUMNS}
    return {**fixed, **_numbers(evaluation.costs), **_numbers(evaluation.metrics)}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: v for name, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _info(run: Run, problem: Problem) -> TableInfo:
    from nasbench.backbones.slot_cache import RecordedSlot
    from nasbench.runs.tabulated import TableInfo

    done = run.evaluations()
    values = dict.fromkeys(name for e in done for name in (*_numbers(e.costs), *_numbers(e.metrics)))
    known = {**run.directions, **(problem.task.metrics if problem.task else {})}
    costs = [name for name in values if name in COSTS or any(name in e.costs for e in done)]
    metrics = {n: known.get(n) or conventional_direction(n) for n in values if n not in costs}
    directions = {name: direction for name, direction in metrics.items() if direction is not None}
    settings = run.settings
    return TableInfo(
        backbone=str(settings.backbone),
        task="function" if problem.task is None else str(settings.task),
        head=settings.head,
        neck=None if settings.head is None or problem.task is None else settings.neck or problem.task.neck,
        learn=settings.learn,
        space=problem.space.space.frozen().model_dump(mode="json", exclude_defaults=True),
        slots=tuple(RecordedSlot.model_validate(s, from_attributes=True) for s in problem.slots),
        metrics=directions,
        metric=next((name for name in run.directions if name in directions), next(iter(directions), None)),
        costs=tuple(costs),
        seeds=tuple(range(settings.seed, settings.seed + (settings.seeds or 1))),
        recipe=settings.training,
        environment=run.environment,
    )
