"""The public function `search`. Names that a user can mistype are checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.runs.settings import read_settings
from nasbench.study.evaluators.asked import EvaluateFunction
from nasbench.study.given_plans import with_all_plans
from nasbench.study.names import check_names
from nasbench.study.phases.events import Event, Listener

if TYPE_CHECKING:
    from nasbench.runs.run import Run
    from nasbench.spaces import Space

__all__ = ["Event", "search"]


def search(
    space: str | Path | Mapping[str, Any] | Space | None = None,
    *,
    evaluate: EvaluateFunction | None = None,
    objectives: str | Iterable[str] | Mapping[str, str] | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    on_event: Listener | None = None,
    origin: str = "python",
    **settings: Any,
) -> Run:
    """Search a space and record the search in a run folder. With the folder of an earlier run, resume and extend it.

    Args:
        space: The name of a ready-made space, a YAML file, or a mapping. By default `five-properties`, or
            `forecasting` for a forecasting task. With `plans=[...]` exactly these plans are compared instead.
        evaluate: A function `fn(plan) -> {metric: value}` that replaces building and training. `plan` is a dict of slot
            to expression text. The function is called once for each plan, unless it accepts `seed=`. It can also return
            "items", one value for each evaluation item. Their mean must be the first objective. Items make comparisons
            more precise.
        objectives: Names as a list, or one text with commas, or a mapping of name to "maximize" or "minimize". By
            default the task's metric and `macs`.
        out: The run folder. By default `runs/<backbone>-<task>-<time>`.
        config: A YAML file with settings.
        on_event: Called with an `Event` after each step.
        origin: The origin that config.yaml records for the given settings.
        **settings: Any field of `nasbench.runs.settings.SearchSettings`.

    Returns:
        The run.

    Raises:
        InputError: If a setting is wrong. Nothing has been written.
        RunError: If `out` contains another configuration, is in use by another search, or cannot be written (any more).
            Finished evaluations are stored, and the same call resumes the search.

    Example:
        >>> import nasbench as nb, tempfile
        >>> run = nb.search(backbone="test_resnet", trials=5, sampler="random", out=tempfile.mkdtemp(),
        ...                 objectives={"score": "maximize", "modules": "minimize"},
        ...                 evaluate=lambda plan: {"score": len(str(plan)), "modules": len(plan)})
        >>> len(run.trials())
        5
    """
    if (dump := getattr(space, "model_dump", None)) is not None:  # a `Space` object; its class is not imported here
        space = dump(mode="json")
    named = objectives if objectives is None or isinstance(objectives, (str, Mapping)) else list(objectives)
    given = {"space": str(space) if isinstance(space, Path) else space, "objectives": named, **settings}
    read, origins = read_settings(given, config, origin)
    check_names(read, trains=evaluate is None)
    read = with_all_plans(read, origins, out)
    from nasbench.study.driver import run_search  # imports torch and everything else that a search needs

    return run_search(read, origins, evaluate, out, on_event or (lambda event: None))
