"""The run folder: where a study's truth and its views lie, and how they are read.

config.yaml        settings as resolved, the origin of each, and the run's identity
environment.json   versions, device, git, seeds
journal.log        the Optuna journal: the truth; each evaluation is written there first
trials.jsonl       one line an evaluation        } views, rebuilt from the journal
trials.csv, front.csv                            }
latency/           raw samples of each latency measurement
items/             metric per validation item of each trained plan and seed, for paired bootstrap
models/            weights, trial-N.safetensors
figures/, tables/, report.html   written by nasbench.report
"""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from nasbench.errors import InputError, RunError
from nasbench.evidence.comparison import compare
from nasbench.evidence.reference import Reference
from nasbench.files import FileLock, append, write_text
from nasbench.library.plan import Plan
from nasbench.measurement.latency.profiler import Profile
from nasbench.objectives import COSTS
from nasbench.runs.ledger import Ledger, evaluation_of
from nasbench.runs.schema import (
    CONTROLS,
    FINALISTS,
    REFERENCE,
    SEARCH,
    KeptControl,
    check_evaluation,
    config_text,
    read_config,
    read_environment,
    read_kept,
)  # fmt: skip
from nasbench.runs.settings import SearchSettings, differences
from nasbench.runs.shared_ledger import SharedLedger, unpack_items
from nasbench.runs.storage import open_database, open_journal, quiet
from nasbench.study.evaluators.trained import Evaluation, TrainingEvaluator, latency_columns
from nasbench.study.problem import prepare

__all__ = ["Record", "Run", "list_runs", "load_run"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Record:
    """One evaluation with the number of the search trial it belongs to."""

    number: int
    evaluation: Evaluation


class Run:
    """A run folder. `load_run` opens an existing one, `nasbench.search` makes one.

    Args:
        path: The folder.
        config: What config.yaml holds.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, dict(config)
        self._studies: dict[str, optuna.Study] = {}
        self._compared: tuple[tuple[int, str], pd.DataFrame] | None = None

    # -- what the run is ---------------------------------------------------------------------------------------

    @property
    def settings(self) -> SearchSettings:
        """The settings it was started with."""
        return SearchSettings.model_validate(self.config["settings"])

    @property
    def directions(self) -> dict[str, str]:
        """Objectives with their directions; the first is the trained metric where there is one."""
        return dict(self.config["objectives"])

    @property
    def metric(self) -> str | None:
        """The first objective that is no cost; None where all are costs."""
        return next((name for name in self.directions if name not in COSTS), None)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What environment.json holds; empty where it is missing."""
        file = self.path / "environment.json"
        return read_environment(file) if file.is_file() else {}

    @cached_property
    def storage(self) -> BaseStorage:
        """The Optuna storage: its journal, or the database that it shares."""
        url = self.settings.storage
        return open_journal(self.path / "journal.log") if url is None else open_database(url)

    def study(self, name: str = SEARCH) -> optuna.Study:
        """Open (or create) one of its studies."""
        if name not in self._studies:
            with quiet():
                study = optuna.create_study(
                    study_name=self.study_name(name),
                    storage=self.storage,
                    directions=[StudyDirection[d.upper()] for d in self.directions.values()],
                    load_if_exists=True,
                )
                if study.metric_names is None and not study.get_trials(deepcopy=False):  # for Optuna's dashboard
                    study.set_metric_names(list(self.directions))
                self._studies[name] = study
        return self._studies[name]

    def study_name(self, name: str) -> str:
        """Return what one of its studies is called in the storage; a database tells runs apart by their identity."""
        if self.settings.storage is None:
            return name
        identity = json.dumps(self.config["identity"], sort_keys=True, default=list)
        return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    @cached_property
    def driver(self) -> str:
        """What the process searching in this folder is called among those that share a study, killed or not."""
        file = self.path / ".driver"
        if not file.is_file():
            write_text(file, uuid.uuid4().hex)
        where = f"{socket.gethostname()} {self.path.resolve()} {file.read_text()}"  # a copy of the folder is another
        return hashlib.sha256(where.encode()).hexdigest()[:16]

    # -- writing -----------------------------------------------------------------------------------------------

    def ledger(self, name: str = SEARCH) -> Ledger:
        """Open (or create) the ledger of one of its studies: who evaluates what, and what came of it."""
        study = self.study(name).study_name
        if self.settings.storage is None:
            return Ledger(self.storage, study, self.directions)
        return SharedLedger(self.storage, study, self.directions, self.driver)

    def append(self, number: int, evaluation: Evaluation) -> None:
        """Add the line of an evaluation that is in the journal to trials.jsonl."""
        line = json.dumps(_row(Record(number, evaluation), self.latency), allow_nan=False) + "\n"
        append(self.path / "trials.jsonl", line.encode(), durable=False)

    def keep_items(self, evaluation: Evaluation, per_item: NDArray[np.float64] | None) -> None:
        """Store the metric per validation item, if there is any."""
        if per_item is not None:
            file = self._items_file(evaluation.plan_hash, evaluation.seed)
            file.parent.mkdir(exist_ok=True)
            np.save(file, per_item, allow_pickle=False)
            self._compared = None

    def keep_weights(self, number: int, weights: bytes) -> None:
        """Store the weights of a trial, in the safetensors format."""
        file = self.weights_file(number)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(weights)

    def keep_weights_of(self, numbers: Sequence[int]) -> None:
        """Remove the weights of every trial but these."""
        for file in (self.path / "models").glob("trial-*.safetensors"):
            if int(file.stem.split("-")[1]) not in numbers:
                file.unlink()

    def keep_latency(self, found: Profile) -> None:
        """Store a measurement of models named by plan hash: its figures beside those there are, and its raw samples."""
        folder = self.path / "latency"
        folder.mkdir(exist_ok=True)
        raw = json.dumps(found.to_dict(), allow_nan=False)
        write_text(folder / f"profile-{len(list(folder.glob('profile-*.json')))}.json", raw)
        columns = {row.name: latency_columns(found, row.name) for row in found.rows if row.samples}
        self.study().set_user_attr("latency", {**self.latency, **columns})

    def refresh(self) -> None:
        """Rebuild trials.jsonl, trials.csv and front.csv from the journal."""
        if self.settings.storage is not None:
            self._fetch_items()
        latency = self.latency
        lines = [json.dumps(_row(record, latency), allow_nan=False) for record in self.records()]
        write_text(self.path / "trials.jsonl", "".join(line + "\n" for line in lines))
        write_text(self.path / "trials.csv", self.trials().to_csv(index=False))
        write_text(self.path / "front.csv", self.front().to_csv(index=False))

    def _fetch_items(self) -> None:
        """Store the metric per validation item of what other machines have evaluated."""
        for study in map(self.study, (SEARCH, FINALISTS)):
            for trial in study.get_trials(deepcopy=False):
                evaluation, packed = evaluation_of(trial), trial.user_attrs.get("items")
                if evaluation is None or packed is None:
                    continue
                if not self._items_file(evaluation.plan_hash, evaluation.seed).is_file():
                    self.keep_items(evaluation, unpack_items(packed))

    # -- reading -----------------------------------------------------------------------------------------------

    def records(self, *names: str) -> list[Record]:
        """Return every evaluation of the studies named, in order of trial.

        By default the search's and the finalists' further seeds.

        Raises:
            RunError: If the storage holds what no search writes.
        """
        with self._undamaged():
            found = self._records(names or (SEARCH, FINALISTS))
            for record in found:
                check_evaluation(record.number, record.evaluation, self.directions)
        return found

    def _records(self, names: Sequence[str]) -> list[Record]:
        studies = [study for study in map(self._known_study, names) if study is not None]
        trials = [trial for study in studies for trial in study.get_trials(deepcopy=False)]
        return [
            Record(trial.user_attrs.get("number", trial.number), evaluation)
            for trial in trials
            if (evaluation := evaluation_of(trial)) is not None
        ]

    def _known_study(self, name: str) -> optuna.Study | None:
        known = {study.study_name for study in self.storage.get_all_studies()}
        return self.study(name) if self.study_name(name) in known else None

    def _kept(self, name: str, key: str) -> Any:
        """Return what a study keeps beside its trials under `key`, checked."""
        with self._undamaged():
            study = self._known_study(name)
            return read_kept(key, None if study is None else study.user_attrs.get(key))

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, AssertionError) as error:
            raise RunError(
                f"the journal of {self.path} is damaged: {type(error).__name__}: {str(error)[:200]}"
            ) from None

    @property
    def latency(self) -> dict[str, Any]:
        """Measured latency by plan hash."""
        found: dict[str, Any] = self._kept(SEARCH, "latency")
        return found

    @property
    def controls(self) -> dict[str, KeptControl]:
        """The equal-cost control of each finalist, by the finalist's plan hash."""
        found: dict[str, KeptControl] = self._kept(CONTROLS, CONTROLS)
        return found

    @property
    def reference(self) -> Reference | None:
        """The reference point, stored at the search's start; None before."""
        found: Reference | None = self._kept(SEARCH, REFERENCE)
        return found

    @property
    def block(self) -> int:
        """Validation items that a bootstrap draws together: as many windows of a forecast overlap as its horizon."""
        return int(self.config["identity"]["data"].get("horizon", 1)) if self.config["task"] else 1

    @property
    def cost_checks(self) -> dict[str, str]:
        """Where counts of finalists, added from their parts, differ from the whole's, by plan hash; "" is nowhere."""
        found: dict[str, str] = self._kept(SEARCH, "cost_checks")
        return found

    def per_item(self, plan_hash: str, seed: int) -> NDArray[np.float64] | None:
        """Return the metric per validation item of a plan and seed, None where there is none."""
        file = self._items_file(plan_hash, seed)
        if not file.is_file():
            return None
        try:
            items = np.load(file, allow_pickle=False).astype(float)
        except (ValueError, EOFError, OSError) as error:
            raise RunError(f"{file} is damaged: {str(error)[:200]}") from None
        if items.ndim != 1 or not np.isfinite(items).all():
            raise RunError(f"{file} is damaged: it must hold one finite figure an item")
        return items

    def trials(self) -> pd.DataFrame:
        """Return one row an evaluation: number, state, reason, plan, seed, metrics, costs, latency, time."""
        records, latency = self.records(), self.latency
        rows = [_row(record, latency) for record in records]
        metrics = list(dict.fromkeys(name for record in records for name in record.evaluation.metrics))
        return pd.DataFrame(rows, columns=list(dict.fromkeys([*_COLUMNS_BEFORE, *metrics, *_COLUMNS_AFTER])))

    def finalists(self) -> pd.DataFrame:
        """Return one row a plan that was compared under all seeds: means, intervals, probability of being on the front.

        Columns: number, plan, plan_hash, seeds, the objectives, `<metric>_sd` over seeds, `<metric>_low` and
        `<metric>_high` (95 %, over items and seeds), `difference` to the bare backbone with `difference_low` and
        `difference_high` (95 %), `verdict` (BETTER, WORSE, NOT DECIDED, or BARE), the costs, latency, `on_front` and
        `probability`.
        """
        records, latency = self.records(), self.latency
        seen = (len(records), json.dumps(latency, sort_keys=True))  # evaluations are only added, never changed
        if self._compared is None or self._compared[0] != seen:
            self._compared = seen, self._compare(records)
        return self._compared[1].copy()

    def _compare(self, records: Sequence[Record]) -> pd.DataFrame:
        plans = _grouped([r for r in records if r.evaluation.state == "complete"])
        most = max((len(of_plan) for of_plan in plans.values()), default=0)
        chosen = {plan_hash: of_plan for plan_hash, of_plan in plans.items() if len(of_plan) == most}
        table = pd.DataFrame([self._summary(of_plan) for of_plan in chosen.values()])
        if table.empty:
            return pd.DataFrame(columns=["number", "plan", "plan_hash", *self.directions, "on_front", "probability"])
        items = [[self.per_item(h, r.evaluation.seed) for r in of_plan] for h, of_plan in chosen.items()]
        return compare(table, items, self.directions, self.metric, self.block)

    def front(self) -> pd.DataFrame:
        """Return the non-dominated plans, best metric first, with their probability of being on the front."""
        table = self.finalists()
        table = table[table["on_front"].astype(bool)]
        first, direction = next(iter(self.directions.items()))
        return table.sort_values(first, ascending=direction == "minimize").reset_index(drop=True)

    def weights(self, number: int, model: nn.Module) -> nn.Module:
        """Load the kept weights of a trial into a model built from its plan.

        Raises:
            RunError: If they were not kept, or are damaged.
        """
        file = self.weights_file(number)
        if not file.is_file():
            kept = sorted(int(f.stem.split("-")[1]) for f in file.parent.glob("trial-*.safetensors"))
            raise RunError(
                f"the weights of trial {number} were not kept (kept: {kept or 'none'}); --keep all keeps every trial's"
            )
        try:
            load_model(model, str(file))
        except (SafetensorError, RuntimeError, OSError, ValueError) as error:
            raise RunError(f"{file} is damaged, or holds another model: {str(error)[:200]}") from None
        return model

    def plan_of(self, number: int) -> str:
        """Return the plan text of a trial.

        Raises:
            InputError: If there is no such trial.
        """
        numbers = {record.number: record.evaluation.plan for record in self.records()}
        if number not in numbers:
            raise InputError(f"run {self.path.name} has no trial {number}; it has {_ranges(sorted(numbers))}")
        return numbers[number]

    def build(self, number: int) -> nn.Module:
        """Return the trained model of a trial, in eval mode on the CPU.

        Raises:
            InputError: If there is no such trial.
            RunError: If its weights were not kept.
        """
        plan = Plan.of(self.plan_of(number))
        if self.config["task"] is None:
            raise RunError(f"run {self.path.name} was evaluated by a function; it has no models")
        evaluator = prepare(self.settings).evaluator
        assert isinstance(evaluator, TrainingEvaluator)
        return self.weights(number, evaluator.build(plan)).eval()

    def weights_file(self, number: int) -> Path:
        """Return where the weights of a trial are, if they were kept."""
        return self.path / "models" / f"trial-{number}.safetensors"

    def _items_file(self, plan_hash: str, seed: int) -> Path:
        return self.path / "items" / f"{plan_hash}-{seed}.npy"

    def _summary(self, records: list[Record]) -> dict[str, Any]:
        first = records[0].evaluation
        metrics = {name: [r.evaluation.metrics[name] for r in records] for name in first.metrics}
        spread = {f"{name}_sd": float(np.std(v, ddof=1)) for name, v in metrics.items() if len(v) > 1}
        return {
            "number": records[0].number,
            "plan": first.plan,
            "plan_hash": first.plan_hash,
            "seeds": len(records),
            **{name: float(np.mean(v)) for name, v in metrics.items()},
            **spread,
            **{key: value for key, value in first.costs.items() if key != "unknown_ops"},
            **self.latency.get(first.plan_hash, {}),
        }


_COLUMNS_BEFORE = ("number", "state", "reason", "plan", "plan_hash", "seed", "fidelity")
_COLUMNS_AFTER = (
    *("params", "macs", "elementwise_flops", "activations", "exact", "peak_memory_bytes"),
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_ratio", "latency_ratio_low", "latency_ratio_high"),
    *("latency_verdict", "latency_predicted", "latency_scenario"),
    *("wall_s", "training_s", "device", "batch_parts", "reused_from"),
)


def create_run(path: str | Path, config: Mapping[str, Any], environment: Mapping[str, Any]) -> Run:
    """Make a run folder, or open the one there if it has the same identity.

    Raises:
        RunError: If the folder holds something else, or a run of another identity; says what differs.
    """
    path = Path(path)
    if (path / "config.yaml").is_file():
        run = load_run(path)
        differing = differences(run.config["identity"], config["identity"])
        if differing:
            raise RunError(
                f"{path} holds a run of another configuration; choose another --out, or search with the same. "
                "What differs:\n  " + "\n  ".join(differing)
            )
        run.config = {**config, "created": run.config.get("created", config.get("created"))}
    elif path.exists() and (not path.is_dir() or any(p.name != ".lock" for p in path.iterdir())):
        raise RunError(f"{path} exists and is no run folder; choose another --out")
    else:
        run = Run(path, config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "config.yaml", config_text(run.config))
        write_text(path / "environment.json", json.dumps(environment, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None
    return run


def load_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunError: If there is none at `path`, or its config.yaml is damaged.
    """
    path = Path(path)
    file = path / "config.yaml"
    if not file.is_file():
        near = [run.name for run in list_runs(path.parent)] if path.parent.is_dir() else []
        raise RunError(f"no run at {path} (no config.yaml there){'; runs there: ' + ', '.join(near) if near else ''}")
    return Run(path, read_config(file))


def list_runs(root: str | Path = "runs") -> list[Path]:
    """Return the run folders right below `root`, by name."""
    root = Path(root)
    return sorted(f.parent for f in root.glob("*/config.yaml")) if root.is_dir() else []


def summary(run: Run) -> dict[str, Any]:
    """Return one row on a run, for `nasbench runs`."""
    evaluations = [record.evaluation for record in run.records()]
    plans = {e.plan_hash for e in evaluations if not e.reused_from}
    searching = not (lock := run_lock(run.path)).acquire(wait=False)
    lock.release()
    done = len(plans) >= min(run.settings.trials, run.config["space"]["plans"])
    return {
        "name": run.path.name,
        "state": "searching" if searching else "done" if done else "stopped",
        "trials": len(plans),
        "of": run.settings.trials,
        "failed": sum(e.state == "failed" for e in evaluations),
        "rejected": sum(e.state == "rejected" for e in evaluations),
        "front": len(run.front()),
        "backbone": run.settings.backbone,
        "task": run.settings.task if run.config["task"] else "function",
        "created": run.config.get("created", ""),
    }


def run_lock(path: str | Path) -> FileLock:
    """Return the lock that the one process searching in a run folder holds."""
    return FileLock(Path(path) / ".lock")


def _row(record: Record, latency: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    e = record.evaluation
    return {
        "schema_version": SCHEMA_VERSION,
        "number": record.number,
        **{key: getattr(e, key) for key in ("state", "reason", "plan", "plan_hash", "seed", "fidelity")},
        **e.metrics,
        **{key: value for key, value in e.costs.items() if key != "unknown_ops"},
        **latency.get(e.plan_hash, {}),
        "wall_s": round(e.wall_s, 4),
        "training_s": round(e.training_s, 4),
        "device": e.device,
        "batch_parts": e.batch_parts,
        "reused_from": e.reused_from,
    }


def _grouped(records: list[Record]) -> dict[str, list[Record]]:
    plans: dict[str, list[Record]] = {}
    for record in records:
        plans.setdefault(record.evaluation.plan_hash, []).append(record)
    return plans


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
