"""A run of a search: its configuration, trials, finalists, Pareto front and models."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench.errors import InputError, RunError
from nasbench.evidence.pareto import on_front
from nasbench.files import write_text
from nasbench.library.plan import BARE, Plan
from nasbench.objectives import COSTS
from nasbench.runs.columns import AFTER, BEFORE, LAST
from nasbench.runs.evaluation import Evaluation, at_full_budget
from nasbench.runs.feasibility import broken_bounds
from nasbench.runs.folder import RunFolder
from nasbench.runs.journal import RunJournal
from nasbench.runs.schema import (
    CONTROLS,
    FINALISTS,
    SCHEMA_VERSION,
    SEARCH,
    DataRead,
    config_text,
    read_config,
    read_data,
    read_environment,
)
from nasbench.runs.settings import SearchSettings, differences, recorded_settings
from nasbench.runs.sources import Sources, copy_sources
from nasbench.runs.trust import write_tag

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nasbench.runs.control_comparison import ControlComparison
    from nasbench.runs.database import Database
    from nasbench.runs.models import ModelBuilder
    from nasbench.runs.power import RunPower
    from nasbench.spaces import ResolvedSpace
    from nasbench.tasks import Task

__all__ = ["Run", "create_run", "list_runs", "load_run"]


class Run:
    """A run. `nasbench.search` creates one, `load_run` opens an existing one.

    Args:
        path: The run folder.
        config: The contents of config.yaml.
        writing: Whether to open the run for writing, as the search that makes it does.
        database: The database to which the driver of a shared search writes. None in every other case.
        trust: Whether Python code of the run may be executed, even if this machine's user did not make the run.

    Attributes:
        folder: The files of the run.
        journal: The Optuna studies of the run.
        sources: The Python files of the run.
        settings: The settings of the search.
        ignored: One note for each setting in config.yaml that is ignored (`recorded_settings`).
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        writing: bool = False,
        database: Database | None = None,
        trust: bool = False,
    ) -> None:
        self.config = dict(config)
        self.folder = RunFolder(path)
        self.settings, self.ignored = recorded_settings(self.config["settings"])
        self.sources = Sources(self.folder, self.config, self.settings, trust)
        identity = self.config["identity"]
        self.journal = RunJournal(self.folder, self.directions, identity, writing=writing, database=database)
        self._compared: tuple[object, pd.DataFrame] | None = None  # what the table depends on, the table

    # -- description of the run ---------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def created(self) -> str:
        """Date and time at which the run was created, such as 2026-01-31T12:00:00+00:00. "" if it is not known."""
        created = self.config.get("created")
        return created if isinstance(created, str) else ""

    @property
    def directions(self) -> dict[str, str]:
        """Objectives with their directions. The first one is the trained metric, if there is one."""
        return dict(self.config["objectives"])

    @property
    def metric(self) -> str | None:
        """The first objective that is not a cost. None if all objectives are costs."""
        return next((name for name in self.directions if name not in COSTS), None)

    @property
    def block(self) -> int:
        """Number of consecutive validation items that depend on each other.

        This is the horizon for forecasting, because the targets of that many consecutive windows overlap. 1 for all
        other tasks.
        """
        return int(self.config["identity"]["data"].get("horizon", 1)) if self.config["task"] else 1

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The contents of environment.json. Empty if the file is missing or damaged (`RunFolder.damaged`)."""
        return read_environment(self.folder)

    @cached_property
    def data(self) -> DataRead | None:
        """The task's description of the data that the search read.

        None in a run of version 0.1.0 or without a task, and if data.json is damaged (`RunFolder.damaged`).
        """
        return read_data(self.folder)

    # -- results ----------------------------------------------------------------------------------------

    def evaluations(self) -> list[Evaluation]:
        """Return every evaluation of the search and then of the finalists' further seeds, each in order of trials.

        Records that no search can have written are left out (`RunJournal.skipped`).

        Raises:
            RunError: If the journal cannot be read.
        """
        return self.journal.evaluations()

    def copy_to(self, path: str | Path) -> Run:
        """Copy the run into a folder that does not exist or is empty, and return the copy. The run is only read.

        This is for a run on a read-only disk, or of another person. If the user trusts the run, the copy is trusted
        too, and if this machine's user made the run, so is the copy recognised.

        Raises:
            InputError: If `path` is not a path.
            RunError: If the new folder contains something or is inside a run folder, if a file cannot be read or
                written, or if the run is damaged.
        """
        self.check_complete()
        self.folder.copy_to(path)
        return load_run(path, trust=self.sources.trust)

    def check_complete(self) -> None:
        """Check that the journal has every trial that trials.csv shows, so that no file is replaced by a shorter one.

        Raises:
            RunError: If trials are missing, because the journal was cut or is gone. The message says how many.
        """
        # counted before the journal is read, because a running search can add trials to both in between
        shown = self.folder.shown_trials()
        missing = shown - {(evaluation.plan_hash, evaluation.seed) for evaluation in self.evaluations()}
        # A damaged record is named elsewhere. The search's trials have the first seed, the finalists' the further ones.
        damaged = Counter(skipped.study for skipped in self.journal.skipped)
        of_search = sum(seed == self.settings.seed for _, seed in missing)
        lost = max(0, of_search - damaged[SEARCH]) + max(0, len(missing) - of_search - damaged[FINALISTS])
        if lost:
            journal = self.folder.journal
            what = f"{journal}" if journal.is_file() else f"{journal}, which does not exist"
            raise RunError(
                f"{lost} trials are missing from {what}, but trials.csv shows {len(shown)}. Nothing was "
                "overwritten; restore the journal from a copy"
            )

    def trials(self) -> pd.DataFrame:
        """Return one row for each evaluation: number, state, reason, plan, seed, metrics, costs, latency, time."""
        import pandas as pd

        evaluations = self.evaluations()
        metrics = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics))
        columns = dict.fromkeys([*BEFORE, *metrics, *AFTER])
        return pd.DataFrame(self._rows(evaluations), columns=list(columns))

    def finalists(self) -> pd.DataFrame:
        """Return a table with one row for each plan that was compared with the bare backbone.

        The rows are the bare backbone, every plan with two seeds or more, and every plan on the front. If no plan has
        two seeds, there is a row for each plan.

        Columns of the plan: number, plan, plan_hash, seeds, the objectives, the costs, latency. `<metric>_sd` is the
        standard deviation over seeds. `<metric>_low` and `<metric>_high` are the ends of the 95 % interval over items
        and seeds.

        Columns of the comparison with the bare backbone: `difference`, with `difference_low` and `difference_high` (95
        % interval). A positive difference means that the plan is better, also if the metric is an error. `verdict` is
        BETTER, WORSE, NOT DECIDED or BARE. `p_better` is the probability that the plan is better.
        `more_seeds` is the number of further seeds needed for a verdict, NaN if no number is enough. `items_needed` is
        the number of validation items needed for a verdict if no number of seeds is enough.

        `breaks` is the bound that the mean of a plan's seeds breaks, "" if it breaks none. If no plan breaks a bound,
        there is no such column. Such a plan is not on the front, and is NOT DECIDED instead of BETTER. Such a bare
        backbone is still the reference of the comparison.

        Columns of the front: `on_front`, and `probability`, which is the probability of being on the front (NaN if no
        plan has two seeds).

        Columns of the comparison with the plan's equal-cost control: `control_difference` with `control_difference_low`
        and `control_difference_high`, `control_ratio` (MACs that the control adds, divided by the MACs that the plan
        adds) and `control_verdict` ("" if the ratio is not within `NEAR_COST`). They are NaN, and the verdict is "",
        for a plan without a control. If every objective is a cost, the columns of the metric are left out.
        """
        evaluations, latency = self.evaluations(), self.journal.latency
        controls = len(self.journal.evaluations(CONTROLS))
        stored = [self.folder.items_file(e.plan_hash, e.seed).is_file() for e in evaluations]
        # The comparison is slow, because it simulates the probability of being on the front. So its table is cached.
        # Evaluations are added but never changed, so their number shows whether the cached table is up to date.
        seen = (len(evaluations), controls, stored, latency)
        if self._compared is None or self._compared[0] != seen:
            self._compared = seen, self._compare(evaluations)
        return self._compared[1].copy()

    def front(self) -> pd.DataFrame:
        """Return the rows of `finalists` that are on the Pareto front, best value of the first objective first."""
        table = self.finalists()
        table = table[table["on_front"].astype(bool)]
        first, direction = next(iter(self.directions.items()))
        return table.sort_values(first, ascending=direction == "minimize").reset_index(drop=True)

    def power(self, effect: float | None = None) -> RunPower:
        """Return which differences the run can detect, and what is needed to detect a difference of `effect`.

        Args:
            effect: A difference in units of the metric, above 0.

        Raises:
            InputError: If `effect` is not a positive number.
            RunError: If every objective is a cost, or if no plan was trained with two seeds.
        """
        from nasbench.runs.power import power_of

        return power_of(self, effect)

    def report(self) -> Path:
        """Build report.html with its plots and tables, and return its path. A notebook shows the path as the page.

        The compared plans whose weights were stored are evaluated on the test split first.

        Raises:
            RunError: If the run is damaged, or its folder cannot be written.
        """
        from nasbench import build_report

        return build_report(self)

    def __repr__(self) -> str:
        """Return the folder, the state and the number of evaluated plans. A damaged run is shown too."""
        try:
            told = self.summary()
            state = f"{told['state']}, {told['trials']} of {told['of']} plans"
        except InputError as error:
            state = f"unreadable: {error}"
        return f"<Run {str(self.path)!r}: {state}>"

    def _repr_html_(self) -> str:
        from nasbench import summary_html

        return summary_html(self)

    def _compare(self, evaluations: Iterable[Evaluation]) -> pd.DataFrame:
        import pandas as pd

        from nasbench.evidence.comparison import compare
        from nasbench.runs.control_comparison import compare_with_controls
        from nasbench.runs.trainings import trainings_of

        plans = at_full_budget(evaluations)
        chosen = plans.values()
        if not chosen:
            return pd.DataFrame(columns=["number", "plan", "plan_hash", *self.directions, "on_front", "probability"])
        latency = self.journal.latency
        table = pd.DataFrame([_mean_row(of_plan) | latency.get(of_plan[0].plan_hash, {}) for of_plan in chosen])
        breaks = broken_bounds(plans, self.settings.constraints)
        if any(breaks.values()):
            table["breaks"] = list(breaks.values())
        if self.metric is None:
            return compare(table, [], self.directions, None)
        recorded = trainings_of(self)
        by_hash = {one.plan_hash: one.trainings for one in recorded.all_plans}
        trainings = [by_hash[plan_hash] for plan_hash in table["plan_hash"]]
        table = compare(table, trainings, self.directions, self.metric, noise=recorded.noise, until=self.settings.until)
        _add_controls(table, compare_with_controls(recorded, self.journal.controls))
        # Plans with one seed take part in the model and in the probability of the front, but get no verdict.
        several = table["seeds"] > 1
        shown = several | table["on_front"] | (table["plan"] == BARE.text)
        return (table[shown] if several.any() else table).reset_index(drop=True)

    def _front_size(self, evaluations: Iterable[Evaluation]) -> int:
        """Return the number of plans on the front. No intervals are computed, because these need items and pandas."""
        latency = self.journal.latency
        plans = at_full_budget(evaluations)
        breaks = broken_bounds(plans, self.settings.constraints)
        rows = [_mean_row(of_plan) | latency.get(key, {}) for key, of_plan in plans.items() if not breaks[key]]
        return int(
            on_front(
                np.array([[row.get(name, np.nan) for name in self.directions] for row in rows]), self.directions
            ).sum()
        )

    def summary(self) -> dict[str, Any]:
        """Return the row of the run in the table of `nasbench runs`.

        Raises:
            RunError: If the run cannot be read.
        """
        self.check_complete()
        evaluations = self.evaluations()
        # counted as the budget of the search is counted: distinct plans, without plans imported from another run
        plans = {evaluation.plan_hash for evaluation in evaluations if not evaluation.reused_from}
        is_done = len(plans) >= min(self.settings.trials, self.config["space"]["plans"])
        return {
            "name": self.folder.name,
            "state": "searching" if self.folder.is_searched else "done" if is_done else "stopped",
            "trials": len(plans),
            "of": self.settings.trials,
            "failed": sum(evaluation.state == "failed" for evaluation in evaluations),
            "rejected": sum(evaluation.state == "rejected" for evaluation in evaluations),
            "front": self._front_size(evaluations),
            "backbone": self.settings.backbone,
            "task": self.settings.task if self.config["task"] else "function",
            "created": self.created,
        }

    # -- models ------------------------------------------------------------------------------------------------

    def plan_of(self, number: int) -> Plan:
        """Return the plan of a trial.

        Raises:
            InputError: If there is no such trial.
        """
        texts = {evaluation.number: evaluation.plan for evaluation in self.evaluations()}
        if number not in texts:
            known = sorted(trial for trial in texts if trial is not None)
            raise InputError(f"run {self.folder.name} has no trial {number}; it has {_ranges(known)}")
        return Plan.of(texts[number])

    def builder(self) -> ModelBuilder:
        """Return the builder of the run's models, which loads the run's pretrained weights or checkpoint, if any.

        Raises:
            RunError: If a function or a table evaluated the run's plans, so that there are no models. Also if the run
                has Python code of its own and is not trusted.
        """
        from nasbench.runs.models import ModelBuilder

        return ModelBuilder.of_run(self.config, self.sources)

    def task(self) -> Task:
        """Read the data of the run again, and return the task with the data.

        Raises:
            RunError: If a function or a table evaluated the run's plans, if the data does not exist any more or has
                changed, or if the run has Python code of its own and is not trusted.
        """
        from nasbench.runs.data import task_of_run

        return task_of_run(self.folder, self.config, self.sources.load())

    def space(self) -> ResolvedSpace:
        """Return the resolved space of the run, from config.yaml alone.

        Raises:
            RunError: If the run was made by version 0.1.0, which recorded only the name of the space. Also if the run
                has Python code of its own and is not trusted.
        """
        from nasbench.backbones.slot_cache import RecordedSlot
        from nasbench.spaces import load_space

        written = self.config["space"].get("written")
        if written is None:
            raise RunError(
                f"run {self.folder.name} was made by version 0.1.0, which recorded only the name of the space: "
                f"{self.config['space']['name']}"
            )
        self.sources.load()
        slots = [RecordedSlot.model_validate(slot) for slot in self.config["space"]["host_slots"]]
        return load_space(written).resolve(slots)

    def build(self, number: int) -> nn.Module:
        """Return the trained model of a trial, in eval mode on the CPU.

        Raises:
            InputError: If there is no such trial.
            RunError: If the weights of the trial were not stored. Also if the run has Python code of its own and is not
                trusted.
        """
        plan = self.plan_of(number)
        # without pretrained weights, because the trained weights replace them, and a download would be useless
        model = self.builder().without_weights().build(plan, self.settings.seed)
        return self.folder.load_weights(number, model).eval()

    # -- writing -----------------------------------------------------------------------------------------------

    def append_trial(self, evaluation: Evaluation) -> None:
        """Append an evaluation to trials.jsonl. The journal must contain it already."""
        self.folder.append_trial(*self._rows([evaluation]))

    def refresh(self) -> None:
        """Rebuild trials.jsonl, trials.csv and front.csv from the journal.

        If the studies are in a database, its copy in the run folder is brought up to date first.
        """
        self.journal.refresh_copy()
        self.folder.write_views(self._rows(self.evaluations()), self.trials(), self.front())

    def _rows(self, evaluations: Iterable[Evaluation]) -> list[dict[str, Any]]:
        latency = self.journal.latency
        return [
            _row(evaluation) | latency.get(evaluation.plan_hash, {}) | _tail(evaluation) for evaluation in evaluations
        ]


def create_run(
    path: str | Path,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    database: Database | None = None,
    *,
    task: Task | None = None,
) -> Run:
    """Create a run folder, or open an existing one whose run has the same identity. The run is opened for writing.

    The Python files that the search loaded are copied into the folder, and the run is marked as made by this user.

    Args:
        path: The run folder.
        config: The contents of config.yaml, without the part `plugins`.
        environment: The contents of environment.json.
        database: The database of a shared search.
        task: The task. None if nasbench does not train the plans.

    Raises:
        RunError: If the folder contains something else, or a run with another identity. The message says what differs.
    """
    folder = RunFolder(path)
    folder.check_place()
    folder.check()
    earlier = None
    if folder.is_run:
        run = load_run(path)
        there = run.config
        differing = differences(there["identity"], config["identity"])
        if differing:
            raise RunError(
                f"{path} contains a run with another configuration; choose another --out, or use the same "
                "configuration. "
                "What differs:\n  " + "\n  ".join(differing)
            )
        # Settings outside the identity (trials, workers) can change when a run is resumed. The date of creation does
        # not.
        config = {**config, "created": run.created or config.get("created")}
        # If somebody else made the run, its copied files are not kept in the new config.yaml. They would become
        # trusted.
        earlier = None if run.sources.fault else there.get("plugins")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        settings = SearchSettings.model_validate(config["settings"])
        config = {**config, "plugins": copy_sources(folder, settings, earlier)}
        write_text(folder.config, config_text(config))
        write_tag(folder, read_config(folder.config))  # read back, so that the tag is of what every reader reads
        write_text(folder.environment, json.dumps(environment, indent=2) + "\n")
        if task is not None:
            from nasbench.runs.data import save_data  # imported here, because it imports torch

            save_data(folder, task)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None
    return Run(path, config, writing=True, database=database)


def load_run(path: str | Path, *, trust: bool = False) -> Run:
    """Open a run folder for reading. This needs only the folder, changes nothing in it, and executes none of its code.

    The folder may be on a read-only disk.

    Args:
        path: The run folder.
        trust: Whether Python code of the run (plug-ins, its own backbone or task) may be executed when models or data
            are needed. If False, it is executed only if you made the run on this machine and nothing was changed since
            then.

    Raises:
        RunError: If there is no run at `path`, if its config.yaml is damaged, or if a link in the folder leads out of
            it.
    """
    folder = RunFolder(path)
    if not folder.is_run:
        root = folder.path.parent
        near = [run.name for run in list_runs(root)]
        raise RunError(f"no run at {path} (it has no config.yaml){'; runs there: ' + ', '.join(near) if near else ''}")
    folder.check()
    return Run(path, read_config(folder.config), trust=trust)


def list_runs(root: str | Path = "runs") -> list[Path]:
    """Return the run folders directly below `root`, sorted by name.

    Raises:
        RunError: If `root` cannot be read.
    """
    root = Path(root)
    try:
        return sorted(path for path in root.iterdir() if RunFolder(path).is_run) if root.is_dir() else []
    except OSError as error:
        raise RunError(f"cannot read {root}: {error.strerror}") from None


def _row(evaluation: Evaluation) -> dict[str, Any]:
    """Return the columns before the latency columns of an evaluation's row in the trials table."""
    return {
        "schema_version": SCHEMA_VERSION,
        **{name: getattr(evaluation, name) for name in BEFORE},
        **evaluation.metrics,
        **_costs(evaluation),
    }


def _tail(evaluation: Evaluation) -> dict[str, Any]:
    """Return the columns after the latency columns of an evaluation's row in the trials table."""
    values = {name: getattr(evaluation, name) for name in LAST}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def _costs(evaluation: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in evaluation.costs.items() if name != "unknown_ops"}


def _mean_row(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return one row for a plan: the mean of each metric over the seeds, and its standard deviation."""
    first = evaluations[0]
    metrics = {name: [e.metrics[name] for e in evaluations] for name in first.metrics}
    spread = {f"{name}_sd": float(np.std(v, ddof=1)) for name, v in metrics.items() if len(v) > 1}
    return {
        "number": first.number,
        "plan": first.plan,
        "plan_hash": first.plan_hash,
        "seeds": len(evaluations),
        **{name: float(np.mean(v)) for name, v in metrics.items()},
        **spread,
        **_costs(first),  # the costs are the same for every seed
    }


def _add_controls(table: pd.DataFrame, compared: Mapping[str, ControlComparison]) -> None:
    """Add the columns of the comparison with controls. Those of a plan without a control are NaN and ""."""
    of_rows = [compared.get(plan_hash) for plan_hash in table["plan_hash"]]
    for name, attribute in (("", "difference"), ("_low", "low"), ("_high", "high")):
        table[f"control_difference{name}"] = [np.nan if c is None else getattr(c.pair, attribute) for c in of_rows]
    ratios = [np.nan if c is None or c.record.ratio is None else c.record.ratio for c in of_rows]
    table["control_ratio"] = ratios
    table["control_verdict"] = ["" if c is None else c.verdict for c in of_rows]


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers as text: "0 to 2, 4"."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    spans = [str(g[0]) if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups]
    return ", ".join(spans[:20]) + (" ..." if len(spans) > 20 else "") or "none"
