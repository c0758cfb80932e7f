"""The driver of a search: explore, train the finalists and their controls on several seeds, measure latency.

One process proposes and records. Evaluations run where the engine runs them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
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
from nasbench.runs.settings import SearchSettings
from nasbench.runs.storage import database_fault
from nasbench.study.engines import Engine, Inline, make_engine
from nasbench.study.evaluators.asked import EvaluateFunction
from nasbench.study.phases.controls import Controls
from nasbench.study.phases.events import Event, Listener
from nasbench.study.phases.exploration import Exploration
from nasbench.study.phases.fidelity import strategy_for
from nasbench.study.phases.refinement import Refinement, choose_finalists
from nasbench.study.problem import Problem, make_problem
from nasbench.study.samplers import Knowledge, make_sampler

__all__ = ["run_search"]

MAX_TIMED = 32
"""Up to so many plans are all timed after a search; of more, the finalists alone."""


def run_search(
    settings: SearchSettings,
    origins: Mapping[str, str],
    evaluate: EvaluateFunction | None,
    out: str | Path | None,
    listen: Listener,
) -> Run:
    """Carry out a search.

    Args:
        settings: As read.
        origins: Where each setting came from.
        evaluate: A function that replaces building and training.
        out: The run folder; one named after backbone, task and time if None.
        listen: Told of every step.

    Raises:
        InputError: If anything in the settings does not exist or does not fit together.
        RunError: If the folder holds another configuration, is being searched by another process, or cannot be
            written (any more).
    """
    problem = make_problem(settings, evaluate)
    fidelity = strategy_for(problem)
    shared = problem.settings.storage is not None
    # a driver among others must not be deaf while it evaluates
    engine = make_engine(problem.settings, problem.evaluator, apart=shared)
    folder = RunFolder(out if out is not None else _default_folder(problem.settings))
    lock = _claim_folder(folder)
    try:
        run = create_run(folder.path, _config(problem, origins), describe_environment(problem.settings))
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
