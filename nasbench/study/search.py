"""The public function `search`. Names that a user can mistype are checked before slow imports such as torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.runs.continued import continued
from nasbench.runs.folder import RunFolder
from nasbench.runs.settings import read_settings
from nasbench.study.evaluators.asked import EvaluateFunction, KnownFunction
from nasbench.study.given_plans import with_all_plans
from nasbench.study.names import check_names
from nasbench.study.phases.events import Event, Listener, opened

if TYPE_CHECKING:
    from nasbench.runs.run import Run
    from nasbench.spaces import Space

__all__ = ["Event", "search"]


def search(
    space: str | Path | Mapping[str, Any] | Space | None = None,
    *,
    evaluate: EvaluateFunction | None = None,
    known: KnownFunction | None = None,
    objectives: str | Iterable[str] | Mapping[str, str] | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    on_event: Listener | None = None,
    report: bool = True,
    origin: str = "python",
    **settings: Any,
) -> Run:
    """Search a space and record the search in a run folder. If the folder contains a run, resume and extend this run.

    Args:
        space: The name of a ready-made space, a YAML file, or a mapping. By default `five-properties`, or `forecasting`
            for a forecasting task. If `plans=[...]` is given, there is no space, and exactly these plans are compared.
        evaluate: A function `fn(plan) -> {metric: value}` that evaluates a plan, instead of building and training its
            model. `plan` is a dict that maps each slot to the text of an expression. The function is called once for
            each plan or, if it accepts `seed=`, once for each plan and seed. It can also return "items", a list with
            one value for each evaluation item. The mean of these values must be the first objective that is not a cost.
            Items make comparisons more precise.
        known: A function `fn(plan) -> {name: value}` that returns the values of a plan that are known exactly before
            its evaluation, such as its costs. The search does not have to learn them, and `evaluate` need not return
            them. A plan that breaks a constraint on them is rejected, and `evaluate` is not called. Also for a table.
        objectives: Names as a list or as one string with commas, or a mapping from each name to "maximize" or
            "minimize". By default the task's metric and `macs`. With `evaluate` there is no default.
        out: The run folder. By default `runs/<backbone>-<task>-<time>`. If it contains a run, and no setting is given
            that defines the search, such as `backbone` or `task`, then the settings of the run are used.
        config: A YAML file with settings.
        on_event: A function that is called with an `Event` after each step.
        report: Whether to build the report at the end, as the command does. `Run.report` builds it later.
        origin: Where the given settings come from, as recorded in config.yaml.
        **settings: Any field of `nasbench.runs.settings.SearchSettings`.

    Returns:
        The run.

    Raises:
        InputError: If a setting is wrong. No file was written.
        RunError: If `out` contains a run with another configuration, or another search uses it. Also if a file cannot
            be written, at the start or later. Finished evaluations are stored then, and the same call resumes the
            search.

    Example:
        >>> import nasbench as nb, tempfile
        >>> run = nb.search(backbone="test_resnet", trials=5, sampler="random", out=tempfile.mkdtemp(),
        ...                 objectives={"score": "maximize", "modules": "minimize"},
        ...                 evaluate=lambda plan: {"score": len(str(plan)), "modules": len(plan)})
        >>> len(run.trials())
        5
    """
    if (dump := getattr(space, "model_dump", None)) is not None:  # a `Space` object, recognised without an import
        space = dump(mode="json")
    named = objectives if objectives is None or isinstance(objectives, (str, Mapping)) else list(objectives)
    given = {"space": str(space) if isinstance(space, Path) else space, "objectives": named, **settings}
    read, origins = read_settings(given, config, origin)
    read = continued(read, origins, out)
    listen = opened(on_event)  # before plug-ins are loaded, which can import torch
    check_names(read, trains=evaluate is None)
    if out is not None:
        RunFolder(out).check_place()
    read = with_all_plans(read, origins, out)
    from nasbench.study.driver import run_search  # imported late, because it imports torch

    run = run_search(read, origins, evaluate, out, listen, known=known)
    if report and run.evaluations():
        _build_report(run)
    return run


def _build_report(run: Run) -> None:
    from nasbench import build_report

    build_report(run)
