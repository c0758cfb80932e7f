"""The study: propose a plan, evaluate it, record it; then the finalists on several seeds, then their latency.

Optuna proposes by ask-and-tell. The budget counts distinct plans: a repeated one costs nothing and is not counted,
after 20 repeats in a row the next plan is drawn uniformly from the unseen, and an exhausted space ends the study. The
sampler is made anew for each proposal, seeded by (seed, trial number), so that a killed and resumed search proposes
what an uninterrupted one would.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from nasbench import runs
from nasbench.costs.latency import profile
from nasbench.environment import describe_environment
from nasbench.errors import InputError, RunError
from nasbench.evaluation import CallableEvaluator, Evaluation, TrainingEvaluator
from nasbench.pareto import minimised, non_dominated
from nasbench.plan import Plan
from nasbench.preparation import EvaluateFunction, Prepared, prepare
from nasbench.runs import Run
from nasbench.settings import SearchSettings, read_settings
from nasbench.spaces import Space
from nasbench.storage import FileLock, quiet

__all__ = ["Event", "search"]

MAX_REPEATS = 20
"""Repeats in a row after which the next plan is drawn from the unseen."""

MAX_FINALISTS = 8
"""At most so many plans, the bare backbone aside, are retrained on further seeds."""

MAX_TIMED = 32
"""Up to so many plans are all timed after a search; of more, the finalists alone."""


@dataclass(frozen=True)
class Event:
    """Something a user watching a search wants to know.

    Attributes:
        stage: "search", "finalists" or "latency".
        done: Units done in this stage.
        total: Units in all.
        message: One line of narration.
    """

    stage: str
    done: int
    total: int
    message: str


Listener = Callable[[Event], None]


def search(
    space: str | Path | Mapping[str, Any] | Space | None = None,
    *,
    evaluate: EvaluateFunction | None = None,
    objectives: Iterable[str] | Mapping[str, str] | None = None,
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
        objectives: Names, or name to "maximize" / "minimize"; the task's metric and `macs` by default.
        out: The run folder, exactly; `runs/<backbone>-<task>-<time>` by default.
        config: A YAML file with settings.
        on_event: Called with an `Event` after each step.
        origin: What the given settings are called in config.yaml.
        **settings: Any field of `nasbench.settings.SearchSettings`.

    Returns:
        The run.

    Raises:
        InputError: If a setting is wrong; nothing was written.
        RunError: If `out` holds another configuration, or is being searched by another process.

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
    named = objectives if objectives is None or isinstance(objectives, Mapping) else list(objectives)
    given = {"space": str(space) if isinstance(space, Path) else space, "objectives": named, **settings}
    read, origins = read_settings(given, config, origin)
    prepared = prepare(read, evaluate)
    folder = Path(out) if out is not None else _default_folder(prepared.settings)
    lock = _claim(folder)
    try:
        run = runs.create_run(folder, _config(prepared, origins), describe_environment(prepared.settings))
        _Search(run, prepared, on_event or (lambda event: None)).run_all()
        run.refresh()
    finally:
        lock.release()
    return run


def _claim(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = runs.run_lock(folder)
        free = lock.acquire(wait=False)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}") from None
    if not free:
        raise RunError(f"another process is searching in {folder}; wait for it, or choose another --out")
    return lock


def _config(prepared: Prepared, origins: Mapping[str, str]) -> dict[str, Any]:
    return {
        "schema_version": runs.SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": prepared.settings.model_dump(mode="json"),
        "origins": dict(origins),
        "objectives": dict(prepared.directions),
        "identity": prepared.identity,
        "space": {
            "name": prepared.space.space.name,
            "plans": prepared.space.count,
            "slots": [slot.slot for slot in prepared.space.slots],
            "excluded": [list(row) for row in prepared.space.excluded],
        },
        "task": None
        if prepared.task is None
        else {
            "kind": prepared.task.kind,
            "metric": prepared.task.metric,
            "splits": dict(prepared.task.splits),
            "input_size": list(prepared.task.input_size),
            "notes": list(prepared.task.notes),
            "recipe_changes": {
                key: value
                for key, value in prepared.settings.training.items()
                if value != prepared.task.recipe.model_dump(mode="json")[key]
            },
        },
    }


def _default_folder(settings: SearchSettings) -> Path:
    task = str(settings.task).split(":")[0].replace("/", "-")
    host = Path(str(settings.backbone)).name.replace(":", "-")
    return Path("runs") / f"{host}-{task}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


class _Search:
    """One process searching one run folder."""

    def __init__(self, run: Run, prepared: Prepared, listen: Listener) -> None:
        self.run, self.prepared, self.listen = run, prepared, listen
        self.settings = prepared.settings
        self.study = run.study()
        self.seen: dict[str, Evaluation] = {}
        self.began = time.monotonic()

    def run_all(self) -> None:
        self.recover()
        self.explore()
        self.refine()
        self.time_plans()

    # -- search ------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Take up what an earlier process left: finish what was recorded, queue again what was running."""
        for trial in self.study.get_trials(deepcopy=False):
            recorded = trial.user_attrs.get("evaluation")
            if recorded is not None:
                evaluation = Evaluation(**recorded)
                self.seen[evaluation.plan_hash] = evaluation
                if trial.state == TrialState.RUNNING:
                    runs.tell(self.study, trial.number, evaluation, self.prepared.directions)
            elif trial.state == TrialState.RUNNING:
                if set(trial.params) == set(self.prepared.space.parameters):
                    self.study.enqueue_trial(trial.params, user_attrs={"requeued": trial.number})
                self.study.tell(trial.number, state=TrialState.FAIL)
        self.run.refresh()

    def explore(self) -> None:
        bare = self.evaluate_bare()
        while len(self.seen) < self.settings.trials and not self.late():
            trial = self.propose()
            if trial is None:
                self.say("search", len(self.seen), "every plan of the space was evaluated")
                break
            self.evaluate(trial, self.prepared.space.plan(trial.params), bare)

    def evaluate_bare(self) -> dict[str, float]:
        """Evaluate the bare backbone first: constraints are relative to it, and every plan is held against it."""
        bare = Plan({})
        if bare.hash not in self.seen:
            params = self.prepared.space.params(bare)
            if params is not None:
                self.study.enqueue_trial(params, user_attrs={"bare": True})
                trial = self.ask()
            else:
                trial = self.study.ask()
            self.evaluate(trial, bare, None)
        reference = self.seen[bare.hash]
        if reference.state != "complete":
            raise InputError(
                f"the bare backbone itself {reference.state}, so there is nothing to compare with: {reference.reason}"
            )
        return reference.values

    def propose(self) -> optuna.Trial | None:
        """Ask until a plan comes that was not seen; None where the space is exhausted."""
        for _ in range(MAX_REPEATS):
            if len(self.seen) >= self.prepared.space.count:
                return None
            trial = self.ask()
            if self.is_new(trial):
                return trial
        draw = random.Random(f"{self.settings.seed}-{len(self.study.get_trials(deepcopy=False))}")
        unseen = self.prepared.space.sample_unseen(draw, self.seen)
        params = None if unseen is None else self.prepared.space.params(unseen)
        if params is None:
            return None
        self.study.enqueue_trial(params)
        trial = self.ask()
        return trial if self.is_new(trial) else self.propose()

    def is_new(self, trial: optuna.Trial) -> bool:
        """Whether a trial's plan was not seen; a repeat is told what is known and ends there."""
        known = self.seen.get(self.prepared.space.plan(trial.params).hash)
        if known is None:
            return True
        trial.set_user_attr("repeats", known.plan_hash)
        runs.tell(self.study, trial.number, known, self.prepared.directions)
        return False

    def ask(self) -> optuna.Trial:
        distributions: dict[str, BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(choices)
            for name, choices in self.prepared.space.parameters.items()
        }
        number = len(self.study.get_trials(deepcopy=False))
        with quiet():
            self.study.sampler = make_sampler(self.settings.sampler, self.settings.seed, number)
            return self.study.ask(distributions)

    def evaluate(self, trial: optuna.Trial, plan: Plan, bare: Mapping[str, float] | None) -> None:
        outcome = self.prepared.evaluator(plan, self.settings.seed, bare)
        self.run.record(self.study, trial, outcome)
        self.seen[plan.hash] = outcome.evaluation
        if outcome.model is not None and outcome.evaluation.state == "complete":
            self.keep(trial.number, outcome.model)
        self.say("search", len(self.seen), narrate(trial.number, outcome.evaluation, self.prepared.directions))

    def keep(self, number: int, model: Any) -> None:
        """Keep the weights of the front (and the bare backbone), or of all."""
        numbers = [0, *self.front_numbers()]
        if self.settings.keep == "all" or number in numbers:
            self.run.keep_model(number, model)
        if self.settings.keep == "front":
            self.run.keep_models_of(numbers)

    def front_numbers(self) -> list[int]:
        """Return the non-dominated search trials."""
        trials = self.complete()
        values = np.array([t.values for t in trials])
        kept = non_dominated(values, list(self.prepared.directions.values()))
        return [trial.number for trial, on_front in zip(trials, kept, strict=True) if on_front]

    def complete(self) -> list[optuna.trial.FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in trials if "evaluation" in trial.user_attrs]

    def late(self) -> bool:
        return self.settings.time_s is not None and time.monotonic() - self.began > self.settings.time_s

    # -- finalists ---------------------------------------------------------------------------------------------

    def refine(self) -> None:
        """Train the finalists, and the bare backbone beside them, on further seeds."""
        evaluator = self.prepared.evaluator
        if self.settings.seeds < 2 or (isinstance(evaluator, CallableEvaluator) and not evaluator.takes_seed):
            return
        bare = self.seen[Plan({}).hash]
        done = {(r.evaluation.plan_hash, r.evaluation.seed) for r in self.run.records()}
        seeds = range(self.settings.seed, self.settings.seed + self.settings.seeds)
        finalists = self.finalists()
        todo = [(n, p, s) for s in seeds for n, p in finalists if (p.hash, s) not in done]
        if isinstance(evaluator, TrainingEvaluator):
            self.check_costs(evaluator, [plan for _, plan in finalists])
        for count, (number, plan, seed) in enumerate(todo, 1):
            outcome = evaluator(plan, seed, bare.values)
            self.run.record_finalist(number, outcome)
            text = narrate(number, outcome.evaluation, self.prepared.directions)
            self.say("finalists", count, f"seed {seed}: {text}", len(todo))

    def check_costs(self, evaluator: TrainingEvaluator, plans: list[Plan]) -> None:
        """Count the finalists as whole models: the trials' costs are sums over parts."""
        known = self.run.cost_checks
        found = {plan.hash: evaluator.cost_error(plan) for plan in plans if plan.hash not in known}
        if found:
            self.study.set_user_attr("cost_checks", {**known, **found})

    def finalists(self) -> list[tuple[int, Plan]]:
        """Return the bare backbone and the front; of a long front those that add most hypervolume."""
        numbers = set(self.front_numbers())
        trials = [t for t in self.complete() if t.number in numbers or t.user_attrs["evaluation"]["plan"] == "{}"]
        plans = {t.number: Plan.of(t.user_attrs["evaluation"]["plan"]) for t in trials}
        bare = [number for number, plan in plans.items() if plan.is_bare]
        others = [t for t in trials if t.number not in bare]
        if len(others) > MAX_FINALISTS:
            points = minimised(np.array([t.values for t in others]), list(self.prepared.directions.values()))
            gains = moocore.hv_contributions(points, ref=points.max(axis=0) + np.ptp(points, axis=0) * 0.1 + 1e-9)
            others = [others[i] for i in sorted(np.argsort(-gains, kind="stable")[:MAX_FINALISTS])]
        return [(number, plans[number]) for number in [*bare, *(t.number for t in others)]]

    # -- latency -----------------------------------------------------------------------------------------------

    def time_plans(self) -> None:
        """Measure the latency of the finalists (of all plans, where they are few) beside the bare backbone's."""
        evaluator = self.prepared.evaluator
        if not isinstance(evaluator, TrainingEvaluator) or not self.settings.latency_s:
            return
        plans = {t.user_attrs["evaluation"]["plan_hash"]: t.user_attrs["evaluation"]["plan"] for t in self.complete()}
        if len(plans) > MAX_TIMED:
            plans = {plan.hash: plan.text for _, plan in self.finalists()}
        known = self.run.latency
        bare = Plan({})
        todo = [bare, *(Plan.of(text) for key, text in plans.items() if key not in known and key != bare.hash)]
        if len(todo) == 1 and bare.hash in known:
            return
        self.say("latency", 0, f"measuring {len(todo)} models side by side", len(todo))
        found = profile(
            {plan.hash: evaluator.build(plan, self.settings.seed) for plan in todo},
            input_size=evaluator.task.input_size,
            device=evaluator.device,
            time_s=self.settings.latency_s,
        )
        self.run.keep_latency(found)
        self.say("latency", len(todo), f"stopped by {found.stopped}; {found.scenario.text}", len(todo))

    def say(self, stage: str, done: int, message: str, total: int | None = None) -> None:
        self.listen(Event(stage, done, self.settings.trials if total is None else total, message))


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return a sampler for one proposal.

    Args:
        name: One of `nasbench.settings.SAMPLERS`.
        seed: The study's seed.
        number: The trial's number: each proposal has a stream of its own.
    """
    stream = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    if name == "random":
        return optuna.samplers.RandomSampler(seed=stream)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=16, seed=stream)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=stream, n_startup_trials=8)
    return optuna.samplers.TPESampler(seed=stream, multivariate=True, n_startup_trials=8)


def narrate(number: int, evaluation: Evaluation, directions: Mapping[str, str]) -> str:
    """Return one line on a finished evaluation."""
    plan = evaluation.plan if evaluation.plan != "{}" else "bare backbone"
    if evaluation.state != "complete":
        return f"trial {number} {evaluation.state}: {evaluation.reason}; {plan}"
    values = "  ".join(f"{name} {evaluation.values[name]:.5g}" for name in directions)
    return f"trial {number}  {values}  {plan}"
