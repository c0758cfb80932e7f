"""A search from beginning to end: explore, train the finalists and their controls on several seeds, measure latency.

One process proposes and records; evaluations run where the engine runs them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from nasbench.errors import InputError, RunError
from nasbench.files import FileLock
from nasbench.library.plan import BARE, Plan
from nasbench.runs.environment import describe_environment
from nasbench.runs.folder import RunFolder
from nasbench.runs.latency import measured_columns
from nasbench.runs.run import Run, create_run, load_run
from nasbench.runs.schema import SCHEMA_VERSION
from nasbench.runs.settings import SearchSettings, read_settings
from nasbench.runs.storage import database_fault
from nasbench.spaces import Space
from nasbench.study.engines import Engine, Inline, make_engine
from nasbench.study.evaluators.asked import EvaluateFunction
from nasbench.study.phases.controls import Controls
from nasbench.study.phases.events import Event, Listener
from nasbench.study.phases.exploration import Exploration
from nasbench.study.phases.fidelity import strategy_for
from nasbench.study.phases.refinement import Refinement, choose_finalists
from nasbench.study.problem import Problem, make_problem
from nasbench.study.samplers import Knowledge, make_sampler

__all__ = ["Event", "search"]

MAX_TIMED = 32
"""Up to so many plans are all timed after a search; of more, the finalists alone."""


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
    """Search a space and leave a run folder; with the folder of an earlier run, resume and extend it.

    Args:
        space: A ready-made space's name, a YAML file, or a mapping; `five-properties` by default, `forecasting` for
            a forecasting task.
        evaluate: A function `fn(plan) -> {metric: value}` that replaces building and training; `plan` is a dict of
            slot to expression text. It is asked once a plan, unless it accepts `seed=`.
        objectives: Names (a list, or one text with commas), or name to "maximize" / "minimize"; the task's metric and
            `macs` by default.
        out: The run folder, exactly; `runs/<backbone>-<task>-<time>` by default.
        config: A YAML file with settings.
        on_event: Called with an `Event` after each step.
        origin: What the given settings are called in config.yaml.
        **settings: Any field of `nasbench.runs.settings.SearchSettings`.

    Returns:
        The run.

    Raises:
        InputError: If a setting is wrong; nothing was written.
        RunError: If `out` holds another configuration, is being searched by another process, or cannot be written
            (any more): what was finished is kept, and the same call goes on from there.

    Example:
        >>> import nasbench as nb, tempfile
        >>> run = nb.search(backbone="test_resnet", trials=5, sampler="random", out=tempfile.mkdtemp(),
        ...                 objectives={"score": "maximize", "modules": "minimize"},
        ...                 evaluate=lambda plan: {"score": len(str(plan)), "modules": len(plan)})
        >>> len(run.trials())
        5
    """
    if isinstance(space, Space):
        space = space.model_dump(mode="json")
    named = objectives if objectives is None or isinstance(objectives, (str, Mapping)) else list(objectives)
    given = {"space": str(space) if isinstance(space, Path) else space, "objectives": named, **settings}
    read, origins = read_settings(given, config, origin)
    problem = make_problem(read, evaluate)
    fidelity = strategy_for(problem)
    shared = problem.settings.storage is not None
    # a driver among others must not be deaf while it evaluates
    engine = make_engine(problem.settings, problem.evaluator, apart=shared)
    folder = RunFolder(out if out is not None else _default_folder(problem.settings))
    lock = _claim_folder(folder)
    try:
        run = create_run(folder.path, _config(problem, origins), describe_environment(problem.settings))
        listen = on_event or (lambda event: None)
        with _apart_if_it_crashed(run, problem, engine) as engine:
            knowledge = Knowledge.of(problem.space, problem.directions, problem.evaluator, problem.settings.seed)
            sampler = functools.partial(_sampler, problem.settings, knowledge)
            Exploration(run, problem, engine, listen, sampler, knowledge.first_plans(), fidelity).run_all()
            Refinement(run, problem, engine, listen).run_all()
            Controls(run, problem, engine, listen).run_all()
        time_plans(run, problem, listen)
        run.refresh()
    except KeyboardInterrupt:
        with contextlib.suppress(RunError, OSError):  # it may not have come far
            load_run(folder.path).refresh()
        raise
    except optuna.exceptions.StorageInternalError as error:
        raise RunError(
            f"the database was lost: {database_fault(error)}; what was finished is saved, the same command goes "
            "on from there"
        ) from None
    except OSError as error:
        raise RunError(
            f"cannot write {folder.path}: {error.strerror}; what was finished is saved, the same command goes on "
            "from there"
        ) from None
    finally:
        lock.release()
    return run


def _claim_folder(folder: RunFolder) -> FileLock:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = folder.lock()
        free = lock.acquire(wait=False)
    except OSError as error:
        raise RunError(f"cannot write {folder.path}: {error.strerror}") from None
    if not free:
        raise RunError(f"another process is searching in {folder.path}; wait for it, or choose another --out")
    return lock


def _apart_if_it_crashed(run: Run, problem: Problem, engine: Engine) -> Engine:
    """Return an engine apart from this process where a trial was begun twice and died with it: it may be the cause."""
    trials = (trial for trial in run.journal.ledger().trials() if trial.state == TrialState.RUNNING)
    if not isinstance(engine, Inline) or all(trial.user_attrs.get("attempts", 1) < 2 for trial in trials):
        return engine
    try:
        return make_engine(problem.settings, problem.evaluator, apart=True)
    except InputError:  # a function that cannot be sent to another process
        return engine


def _config(problem: Problem, origins: Mapping[str, str]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": problem.settings.model_dump(mode="json"),
        "origins": dict(origins),
        "objectives": dict(problem.directions),
        "identity": problem.identity,
        "space": {
            "name": problem.space.space.name,
            "plans": problem.space.count,
            "slots": [slot.slot for slot in problem.space.slots],
            "excluded": [list(row) for row in problem.space.excluded],
        },
        "task": None
        if problem.task is None
        else {
            "kind": problem.task.kind,
            "metric": problem.task.metric,
            "splits": dict(problem.task.splits),
            "input_size": list(problem.task.input_size),
            "model_kwargs": dict(problem.task.model_kwargs),
            "notes": list(problem.task.notes),
            "recipe_changes": {
                key: value
                for key, value in problem.settings.training.items()
                if value != problem.task.recipe.model_dump(mode="json")[key]
            },
        },
    }


def _default_folder(settings: SearchSettings) -> Path:
    task = str(settings.task).split(":")[0].replace("/", "-")
    host = Path(str(settings.backbone)).name.replace(":", "-")
    return Path("runs") / f"{host}-{task}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def time_plans(run: Run, problem: Problem, listen: Listener) -> None:
    """Measure the latency of the finalists (of all plans, where they are few) beside the bare backbone's."""
    settings = problem.settings
    if not settings.latency_s or problem.evaluator.plan_costs is None:  # there are no models
        return
    plans = {one.plan_hash: one.plan for one in run.evaluations() if one.is_complete}
    if len(plans) > MAX_TIMED:
        plans = {one.plan_hash: one.plan for one in choose_finalists(run)}
    known = run.journal.latency
    todo = [BARE, *(Plan.of(text) for key, text in plans.items() if key not in known and key != BARE.hash)]
    if len(todo) == 1 and BARE.hash in known:
        return
    listen(Event("latency", 0, len(todo), f"measuring {len(todo)} models side by side"))
    found = problem.evaluator.measure_latency(todo, settings.seed, settings.latency_s)
    assert found is not None
    run.folder.save_latency("profile", found.to_dict())
    run.journal.record_latency({row.name: measured_columns(found, row.name) for row in found.rows if row.samples})
    listen(Event("latency", len(todo), len(todo), f"stopped by {found.stopped}; {found.scenario.text}"))


def _sampler(settings: SearchSettings, knowledge: Knowledge, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the trial that is to have this number."""
    return make_sampler(settings.sampler, seed=settings.seed, number=number, knowledge=knowledge)
