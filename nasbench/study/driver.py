"""The driver of a search. It runs the phases in order: exploration, race, equal-cost controls, latency.

The driver is one process, which proposes plans and records their evaluations. The engine decides where the evaluations
run.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from nasbench.backbones.slot_cache import RecordedSlot
from nasbench.errors import InputError, RunError
from nasbench.files import FileLock
from nasbench.library.plan import BARE, Plan
from nasbench.library.surroundings import surroundings_kept
from nasbench.runs.damage import damage_of
from nasbench.runs.database import database_fault, open_database
from nasbench.runs.environment import describe_environment
from nasbench.runs.evaluation import at_full_budget, describe_error
from nasbench.runs.feasibility import broken_bounds
from nasbench.runs.folder import RunFolder
from nasbench.runs.latency import measured_columns
from nasbench.runs.refinement import asks_for_seeds, equal_seeds
from nasbench.runs.run import Run, create_run, load_run
from nasbench.runs.schema import CONTROLS, FINALISTS, SCHEMA_VERSION, SEARCH
from nasbench.runs.settings import SearchSettings, differences, ignored_notes
from nasbench.runs.sources import uncopied_imports
from nasbench.runs.trainings import trainings_of
from nasbench.spaces import SlotLike
from nasbench.study.briefing import briefing, read_lines, shown_path
from nasbench.study.engines import Engine, Inline, make_engine
from nasbench.study.evaluators.asked import EvaluateFunction, KnownError, KnownFunction, is_same, known_values
from nasbench.study.expectations import check_atlas, expectations_of, expected_of, told
from nasbench.study.loggers.logged import LoggedTrials
from nasbench.study.phases.controls import Controls, RetriedControls
from nasbench.study.phases.equal_seeds import BareSeeds, EqualSeeds
from nasbench.study.phases.events import BEFORE, Event, Listener, item
from nasbench.study.phases.exploration import Exploration
from nasbench.study.phases.fidelity import strategy_for
from nasbench.study.phases.further_seeds import Retries, repeats_of
from nasbench.study.phases.outlook import Done, outlook
from nasbench.study.phases.race import Race
from nasbench.study.phases.reuse import record_earlier_noise
from nasbench.study.problem import Problem, make_problem
from nasbench.study.samplers import Knowledge, make_sampler
from nasbench.study.termination import ending_by_signal
from nasbench.text import clean

__all__ = ["run_search"]

TIMES_BARE = 20
"""An evaluation that takes more than this many times as long as that of the bare backbone is considered hung."""

FEWEST_LIMIT_S = 600.0
"""Lower bound of the default time limit of an evaluation, in seconds."""

IN_ANY_ORDER = ("grid", "random")
"""Samplers whose proposals do not depend on the results so far, nor on the order in which evaluations finish."""

MAX_TIMED = 32
"""If a search evaluated more plans than this, the latency of only the compared plans is measured, at most this many."""


@ending_by_signal()
def run_search(
    settings: SearchSettings,
    origins: Mapping[str, str],
    evaluate: EvaluateFunction | None,
    out: str | Path | None,
    listen: Listener,
    *,
    known: KnownFunction | None = None,
    whole: bool = False,
) -> Run:
    """Carry out a search.

    Args:
        settings: The settings, in which defaults are not resolved yet.
        origins: The origin of each setting.
        evaluate: A user's function that evaluates a plan, instead of building and training its model.
        out: The run folder. Its default name consists of backbone, task and time.
        listen: Called with an event after every step.
        known: A user's function that returns the values of a plan that are known before its evaluation.
        whole: Whether to evaluate every plan with all seeds, as a table needs it. Otherwise plans race for further
            seeds.

    Raises:
        InputError: If a name in the settings does not exist, or if two settings contradict each other.
        RunError: If the folder contains a run with another configuration, or another search uses it. Also if a file
            cannot be written, at the start or later.
    """
    here = Path.cwd()  # so that a relative run folder stays the same if the working directory changes
    # All settings are checked first, so that no run folder is created if a setting is wrong.
    problem = make_problem(settings, evaluate, known)
    check_atlas(problem)
    fidelity = strategy_for(problem)
    began = time.monotonic()

    def note(message: str) -> None:
        listen(Event(BEFORE, 0, 0, message))

    database = None if problem.settings.storage is None else open_database(problem.settings.storage, note)
    # In a shared study, evaluations run in another process, because this process must write its heartbeat meanwhile.
    engine = make_engine(problem.settings, problem.evaluator, apart=database is not None)
    folder = RunFolder(here / (out if out is not None else _default_folder(problem.settings)))
    # The lock is taken before anything in the folder is read or written. Only one process can search in a folder.
    lock = _claim_folder(folder)
    try:
        for message in ignored_notes(dict.fromkeys([*origins, *_earlier_settings(folder)])):
            note(message)
        for message in read_lines(problem.task):
            note(message)
        for message in uncopied_imports(problem.settings):
            note(message)
        _check_known(problem, folder, known)
        environment = describe_environment(problem.settings)
        expected = expectations_of(problem, folder)
        run = create_run(folder.path, _config(problem, origins, expected), environment, database, task=problem.task)
        for message in _damage(run):
            note(message)
        for message in briefing(problem, run, engine.capacity):
            note(message)
        if engine.start_note:
            note(engine.start_note)
        with (
            LoggedTrials(problem.settings.log, run, note) as logged,
            _apart_if_it_crashed(run, problem, engine) as engine,
        ):
            logged.catch_up()
            listen = logged.listening(listen)
            knowledge = Knowledge.of(
                problem.space,
                problem.directions,
                problem.evaluator,
                problem.settings.seed,
                expected_of(problem, expected),
            )
            if refusal := knowledge.refusal():
                raise InputError(f"{refusal}; give a wider constraint or another space")
            if problem.settings.atlas:
                note(item("atlas", told(knowledge.expected)))
            sampler = functools.partial(_sampler, problem.settings, knowledge)
            exploration = Exploration(run, problem, engine, listen, knowledge, sampler, fidelity, began=began)
            exploration.run_bare()
            if exploration.bare is not None:
                note(item("time", outlook(problem, _done(run, exploration), exploration.bare.wall_s, engine.capacity)))
            _limit_time(problem, engine, exploration, listen)
            if order := order_note(problem.settings):
                note(item("order", order))
            if problem.settings.reuse is not None:
                for message in record_earlier_noise(run, problem.settings.reuse):
                    note(message)
            if problem.settings.retry_failed:
                Retries(run, problem, engine, listen, began=began).run_all()
                RetriedControls(run, problem, engine, listen, began=began).run_all()
            has_plans = problem.plans > 0 or len(exploration.seen) > 1
            is_refined = problem.is_refined and (has_plans or asks_for_seeds(problem.settings))
            if is_refined and not whole:
                BareSeeds(run, problem, engine, listen, began=began).run_all()
            knowledge.repeats = repeats_of(run)
            exploration.run_all()
            if is_refined and whole:
                seeds = problem.settings.seeds or 1
                EqualSeeds(run, problem, engine, listen, began=began).train_on(seeds, checks_costs=False)
            elif is_refined:
                _refine(run, problem, engine, listen, began)
            logged.catch_up()  # what no event told, such as the trials of another run that were imported
            logged.log_verdicts()
        # Only now, because the workers of the engine have ended, so they cannot disturb the measurement.
        time_plans(run, problem, listen)
        run.refresh()
    except KeyboardInterrupt as error:
        if folder.is_run:
            error.add_note(str(shown_path(folder.path)))  # for the message (`saved_text`)
        with contextlib.suppress(RunError, OSError):  # the run need not exist yet
            load_run(folder.path).refresh()
        raise
    except optuna.exceptions.StorageInternalError as error:
        raise RunError(
            f"the database was lost: {database_fault(error)}; finished evaluations are saved, and the same command "
            "resumes the search"
        ) from None
    except OSError as error:
        fault = error.strerror or describe_error(error)
        raise RunError(
            f"cannot write {error.filename or folder.path}: {fault}; finished evaluations are saved, and the same "
            "command resumes the search"
        ) from None
    finally:
        lock.release()
    return load_run(run.path)  # opened again for reading, which needs no database


def _done(run: Run, exploration: Exploration) -> Done:
    """Return what is done. A trial that an ended process left unfinished, or that is tried again, is not."""
    explored = exploration.done - len(exploration.unfinished) - len(exploration.failed)
    return Done(explored, len(run.journal.evaluations(FINALISTS)), len(run.journal.evaluations(CONTROLS)))


def _limit_time(problem: Problem, engine: Engine, exploration: Exploration, listen: Listener) -> None:
    """Limit the time of an evaluation, relative to that of the bare backbone, unless the user gave a limit."""
    if problem.settings.trial_timeout_s is not None or exploration.bare is None:
        return
    limit_s = max(TIMES_BARE * exploration.bare.wall_s, FEWEST_LIMIT_S)
    if engine.limit_time(limit_s):
        message = f"an evaluation that takes longer than {limit_s / 60:.0f} minutes fails ({TIMES_BARE} times the bare "
        message += f"backbone, at least {FEWEST_LIMIT_S / 60:.0f} minutes); --trial-timeout sets another limit"
        listen(Event(BEFORE, 0, 0, item("limit", message)))


def order_note(settings: SearchSettings) -> str:
    """Return a note if proposals depend on the order in which the workers finish. "" if they do not."""
    if settings.workers < 2 or settings.sampler in IN_ANY_ORDER or settings.plans:
        return ""
    return (
        f"with {settings.workers} workers, {settings.sampler} proposes plans from the evaluations that are finished by "
        "then, so another run with this seed can propose other plans"
    )


def _claim_folder(folder: RunFolder) -> FileLock:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = folder.lock()
        free = lock.acquire(wait=False)
    except OSError as error:
        raise RunError(f"cannot write {folder.path}: {error.strerror}") from None
    if not free:
        by = f" ({owner})" if (owner := lock.owner) else ""
        raise RunError(f"another process is searching in {folder.path}{by}; wait for it, or choose another --out")
    return lock


def _check_known(problem: Problem, folder: RunFolder, known: KnownFunction | None) -> None:
    """Check that `known` tells the values that are recorded in the run to resume, of every complete evaluation.

    Raises:
        InputError: If it does not. Then the evaluations of the run and new ones could not be compared.
    """
    if not folder.is_run:
        return
    run = load_run(folder.path)
    if differences(run.config["identity"], problem.identity):
        return  # it is another search, and `create_run` says so
    needed = {*problem.directions, *(bound.name for bound in problem.evaluator.constraints)}
    if missing := sorted(needed.intersection(run.config.get("known", ())) - problem.known.keys()):
        raise InputError(
            f"{folder.path} was made with known=, which told {', '.join(missing)}; give a known= that tells this "
            "again, or choose another --out"
        )
    if known is None:
        return
    recorded = {one.plan: one.values for one in reversed(run.evaluations()) if one.is_complete}
    for text, values in reversed(recorded.items()):  # of each plan its first seed, the bare backbone first
        plan = Plan.of(text)
        name = "the bare backbone" if plan.is_bare else plan.typed
        try:
            answer = known_values(known, plan)
        except KnownError as error:
            raise InputError(
                f"{error.reason} (for {name}, which {folder.path} has evaluated); use the same known=, or choose "
                "another --out"
            ) from error
        for key, value in answer.items():
            # a cost of an old run can be another thing than a number
            if isinstance(earlier := values.get(key), (int, float)) and not is_same(value, earlier):
                raise InputError(
                    f"known says that {key} of {name} is {value:.6g}, but {folder.path} has {earlier:.6g}; use the "
                    "same known=, or choose another --out"
                )


def _earlier_settings(folder: RunFolder) -> list[str]:
    """Return the names of the settings in the config.yaml of the run to resume. Empty if there is no run."""
    return list(load_run(folder.path).config["settings"]) if folder.is_run else []


def _damage(run: Run) -> tuple[str, ...]:
    """Return what is left out of a run that is resumed, because a record or a file is damaged."""
    run.evaluations()
    if run.metric is not None:
        trainings_of(run)
    return damage_of(run)


def _refine(run: Run, problem: Problem, engine: Engine, listen: Listener, began: float) -> None:
    """Train plans with further seeds, then train controls.

    Given plans, and plans too few for a race, are all trained with the same seeds. Otherwise the plans race for seeds.
    """
    seeds = equal_seeds(problem.settings, len(trainings_of(run).plans))
    if seeds is None:
        Race(run, problem, engine, listen, began=began).run_all()
    else:
        EqualSeeds(run, problem, engine, listen, began=began).train_on(seeds)
    for message in broken_means(run):
        listen(Event(FINALISTS, 0, 0, message))
    if problem.settings.controls:
        Controls(run, problem, engine, listen, began=began).run_all()


def broken_means(run: Run) -> list[str]:
    """Return one line for each plan that kept every bound with its first seed, but not on the mean of its seeds."""
    plans = at_full_budget(run.evaluations())
    breaks = broken_bounds(plans, run.settings.constraints)
    return [
        f"trial {of_plan[0].number} is not on the front: the mean of its {len(of_plan)} seeds, {breaks[key]}"
        for key, of_plan in plans.items()
        if breaks[key] and len(of_plan) > 1 and not of_plan[0].is_bare
    ]


def _apart_if_it_crashed(run: Run, problem: Problem, engine: Engine) -> Engine:
    """Return an engine that evaluates in another process, if a trial was started twice and the process died both times.

    The trial may have killed the process. If it kills another process, only the trial fails, and the search continues.
    """
    trials = [trial for stage in (SEARCH, FINALISTS, CONTROLS) for trial in run.journal.ledger(stage).trials()]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    if not isinstance(engine, Inline) or all(trial.user_attrs.get("attempts", 1) < 2 for trial in running):
        return engine
    try:
        return make_engine(problem.settings, problem.evaluator, apart=True)
    except InputError:  # the user's function cannot be sent to another process, so it is called in this process again
        return engine


def _config(problem: Problem, origins: Mapping[str, str], expected: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": problem.settings.model_dump(mode="json"),
        "origins": {name: origin for name, origin in origins.items() if name in SearchSettings.model_fields},
        "objectives": dict(problem.directions),
        "identity": problem.identity,
        **({"known": sorted(problem.known)} if problem.known else {}),
        **({} if expected is None else {"expected": dict(expected)}),
        "space": {
            "name": problem.space.space.name,
            "plans": problem.space.count,
            "slots": [slot.slot for slot in problem.space.slots],
            "excluded": [list(row) for row in problem.space.excluded],
            "written": problem.space.space.frozen().model_dump(mode="json", exclude_defaults=True),
            "host_slots": [recorded.model_dump(mode="json") for recorded in map(_recorded, problem.slots)],
        },
        "task": None
        if problem.task is None
        else {
            "kind": problem.task.kind,
            "metric": problem.task.metric,
            "splits": dict(problem.task.splits),
            "input_size": list(problem.task.input_size),
            "model_kwargs": dict(problem.task.model_kwargs),
            **({} if problem.task.head is None else {"neck": problem.task.neck}),
            **({"attaches_itself": True} if problem.task.attaches_itself else {}),
            **({} if problem.task.has_items else {"has_items": False}),
            "notes": [clean(note) for note in problem.task.notes],
            "recipe_changes": {
                key: value
                for key, value in problem.settings.training.items()
                if value != problem.task.recipe.model_dump(mode="json")[key]
            },
        },
    }


def _recorded(slot: SlotLike) -> RecordedSlot:
    return RecordedSlot.model_validate(slot, from_attributes=True)


def _default_folder(settings: SearchSettings) -> Path:
    task = str(settings.task).split(":")[0].replace("/", "-")
    host = Path(str(settings.backbone)).name.replace(":", "-")
    return Path("runs") / f"{host}-{task}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def time_plans(run: Run, problem: Problem, listen: Listener) -> None:
    """Measure the latency of all plans, or of the compared plans if there are many, together with the bare backbone."""
    settings = problem.settings
    if not settings.latency_s or problem.evaluator.plan_costs is None:  # without `plan_costs`, no models are built
        return
    plans = {evaluation.plan_hash: evaluation.plan for evaluation in run.evaluations() if evaluation.is_complete}
    if len(plans) > MAX_TIMED:
        # The compared plans are the bare backbone, plans with several seeds and the front. Those with most seeds come
        # first.
        compared = run.finalists().sort_values("seeds", ascending=False, kind="stable")
        plans = dict(list(zip(compared["plan_hash"], compared["plan"], strict=True))[:MAX_TIMED])
    known = run.journal.latency
    # the bare backbone is always measured again, because both latencies of a ratio must be of the same measurement
    todo = [BARE, *(Plan.of(text) for key, text in plans.items() if key not in known and key != BARE.hash)]
    if len(todo) == 1 and BARE.hash in known:
        return
    listen(Event("latency", 0, len(todo), f"measuring {len(todo)} models side by side"))
    with surroundings_kept():  # the models, which contain users' modules, run in this process
        measurement = problem.evaluator.measure_latency(todo, settings.seed, settings.latency_s)
    assert measurement is not None
    run.folder.save_latency("profile", measurement.to_dict())
    columns = {row.name: measured_columns(measurement, row.name) for row in measurement.rows if row.samples}
    run.journal.record_latency(columns)
    listen(Event("latency", len(todo), len(todo), f"stopped by {measurement.stopped}; {measurement.scenario.text}"))


def _sampler(settings: SearchSettings, knowledge: Knowledge, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for the trial that will have this number."""
    return make_sampler(settings.sampler, seed=settings.seed, number=number, knowledge=knowledge)
