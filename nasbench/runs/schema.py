"""Validation of the files that are read from a run folder: config.yaml, the JSON files and the journal.

Anybody can have made a run folder, so everything in it is validated before it is used.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nasbench.errors import InputError, RunError
from nasbench.evidence.reference import Reference
from nasbench.files import read_json, read_yaml
from nasbench.library.expression import text_hash
from nasbench.runs.columns import LATENCY_COLUMNS, metric_name_fault
from nasbench.runs.database_url import DatabaseUrl
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.folder import RunFolder
from nasbench.runs.settings import recorded_settings

__all__ = [
    "CONTROLS", "COST_CHECKS", "FINALISTS", "LATENCY", "REFERENCE", "SCHEMA_VERSION", "SEARCH", "DataRead",
    "DeclaredModule", "Environment", "PluginFile", "Plugins", "RecordedControl", "RunConfig", "check_evaluation",
    "config_text", "damaged", "read_attribute", "read_config", "read_data", "read_environment", "read_test_metrics",
    "recordable",
]  # fmt: skip

SCHEMA_VERSION = 1
"""Version of config.yaml and of a row of the trials table."""

SEARCH, FINALISTS, CONTROLS = "search", "finalists", "controls"
"""Names of the Optuna studies in a journal: the search, the finalists' further seeds, their equal-cost controls."""
LATENCY, COST_CHECKS, REFERENCE, EARLIER_NOISE = "latency", "cost_checks", "reference", "earlier_noise"
"""Names of attributes of the search's study: latency by plan, checks of costs, the reference point of the hypervolume,
and the noise of the runs whose evaluations were reused."""


_Text = Annotated[str, Field(max_length=100_000)]
_Read = TypeVar("_Read", bound=BaseModel)


class _Part(BaseModel):
    """Base class of the parts of a file. Types are strict. Unknown keys are accepted: later versions can add keys."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class SpaceInfo(_Part):
    """The resolved space: its name, number of distinct plans, slots, and exclusions (slot, variant, reason).

    `written` is the whole space in the form that `nasbench.spaces.load_space` reads, with the name of every variant.
    `host_slots` are the slots of the backbone. Runs of version 0.1.0 have neither `written` nor `host_slots`.
    """

    name: _Text
    plans: int = Field(ge=0)
    slots: list[_Text]
    excluded: list[Annotated[list[_Text], Field(min_length=3, max_length=3)]]
    written: dict[str, Any] | None = None
    host_slots: list[dict[str, Any]] = []


class TaskInfo(_Part):
    """The task: its data, and the recipe settings that differ from the task's default recipe.

    `attaches_itself` is true if its class has an `attach` of its own, which makes the models of hosts. `neck` is the
    neck of its dense hosts if the settings give none. `has_items` is false if its metric has no value of single items.
    """

    kind: Literal[
        "classification", "forecasting", "segmentation", "detection", "super-resolution", "series-classification"
    ]
    metric: _Text
    splits: dict[str, Annotated[int, Field(ge=0)]]
    input_size: list[int] = Field(min_length=2, max_length=3)
    model_kwargs: dict[str, int] | None = None  # runs of version 0.1.0 have no model_kwargs
    neck: _Text = "none"
    attaches_itself: bool = False
    has_items: bool = True
    notes: list[_Text] = []
    recipe_changes: dict[str, Any] = {}


def _inside(file: str) -> str:
    """Return the path of a copied file, unchanged.

    Raises:
        ValueError: If the path can lead out of the folder of copies.
    """
    parts = file.split("/")
    if not file.endswith(".py") or any(not part or part.startswith(".") or not part.isprintable() for part in parts):
        raise ValueError(f"{file[:80]!r} is not the path of a copied Python file")
    return file


class PluginFile(_Part):
    """A Python file that a search loaded and copied.

    Attributes:
        file: Path of the copy, relative to `plugins/`, with "/" between folders.
        sha256: SHA-256 hash of its content, in hexadecimal.
        role: The setting that names the file.
        given: The path in the setting: a file, or the folder that contains the file.
    """

    file: Annotated[str, AfterValidator(_inside)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: Literal["modules", "backbone", "task"]
    given: _Text


class DeclaredModule(_Part):
    """The declaration of a module that does not ship with nasbench. It is needed to read the plans of a run.

    The attributes are those of `nasbench.library.registry.ModuleSpec`. Of the hyper-parameters, there are only the
    names.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)?$", max_length=200)
    kind: Literal["module", "fusion", "neck", "head", "pretext"]
    properties: list[_Text] = []
    cost_order: int = 1
    dims: list[int]
    socket: list[_Text] = []
    hyperparameters: list[_Text] = []
    starts_as_identity: bool = False
    commutative: bool = False
    tasks: list[_Text] = []


class Plugins(_Part):
    """The Python files of a run, and the declarations of its modules."""

    files: list[PluginFile] = []
    modules: list[DeclaredModule] = []


class IdentityData(_Part):
    """The description of the data in a run's identity, as far as the run itself needs it."""

    horizon: int | None = Field(default=None, gt=0)


class Identity(_Part):
    """The identity of a run, as far as the run itself needs it."""

    data: IdentityData = IdentityData()


class Expectations(_Part):
    """What was expected of the modules, by name, before the search: the mean and the error of their effects."""

    host: _Text
    data: _Text
    effects: dict[_Text, Annotated[list[float], Field(min_length=2, max_length=2)]]


class RunConfig(_Part):
    """The contents of config.yaml.

    Attributes:
        schema_version: Version of the file's schema.
        created: Date and time at which the run was created. Any other value is ignored, see `Run.created`.
        settings: The resolved settings, by field of `SearchSettings`. See `recorded_settings`.
        origins: The origin of each setting, for people. Nothing reads it.
        objectives: Direction of each objective.
        identity: The settings and the description of the data. Two runs of the same search must have the same identity.
        space: The resolved space.
        task: The task. None if a function or a table evaluates the plans.
        plugins: The Python files of the run. None in a run of version 0.1.0.
        known: The names that a user's function `known` told of the bare backbone.
        expected: What was expected of the modules. None if nothing was.
    """

    schema_version: int = Field(ge=1, le=SCHEMA_VERSION)
    created: Any = ""
    settings: dict[str, Any]
    origins: Any = {}
    objectives: Annotated[dict[_Text, Literal["maximize", "minimize"]], Field(min_length=1)]
    identity: Identity
    space: SpaceInfo
    task: TaskInfo | None
    plugins: Plugins | None = None
    known: list[_Text] = []
    expected: Expectations | None = None


class DataRead(_Part):
    """The contents of data.json: a task's description of the data that it read.

    Attributes:
        task: The task as the user wrote it.
        found: The task with absolute paths.
        described: The values that identify the data set and its splits (`Task.describe`).
        splits: Number of items in each split.
        input_size: Size of one input, without the batch dimension.
        notes: Remarks about the data that a reader of the results must know, one sentence each.
        preprocessing: How the inputs are prepared (`Task.preprocessing`).
        read: What was read from the files, by name (`Task.read`).
    """

    schema_version: int
    task: _Text
    found: _Text
    described: dict[str, Any]
    splits: dict[str, int]
    input_size: list[int]
    notes: list[_Text] = []
    preprocessing: dict[str, Any] = {}
    read: dict[_Text, _Text] = {}


class Environment(_Part):
    """The contents of environment.json. Only the parts that the report shows are listed.

    Attributes:
        platform: Operating system.
        packages: Version of each package. None for a package that was not installed.
        device: Processor and GPUs.
        threads: Number of threads that torch uses.
        git: Git commit of the working directory. None outside a repository.
        seeds: Seeds by purpose.
    """

    platform: _Text = ""
    packages: dict[_Text, _Text | None] = {}
    device: dict[_Text, Any] = {}
    threads: int | None = None
    git: _Text | None = None
    seeds: dict[_Text, int | list[int]] = {}


def read_environment(folder: RunFolder) -> dict[str, Any]:
    """Read and validate a run's environment.json. Empty if it is missing or damaged (`RunFolder.damaged`)."""
    read = _read_part(folder, folder.environment, Environment, "the versions, machine and seeds")
    return {} if read is None else read.model_dump(exclude_unset=True)


def read_data(folder: RunFolder) -> DataRead | None:
    """Read and validate a run's data.json. None if it is missing or damaged (`RunFolder.damaged`)."""
    return _read_part(folder, folder.data, DataRead, "what was read of the data")


class _TestMetrics(_Part):
    """The contents of test.json: metrics of plans by plan hash, and metrics of naive forecasts by name."""

    plans: dict[_Text, dict[_Text, float]] = {}
    naive: dict[_Text, dict[_Text, float]] = {}


def read_test_metrics(folder: RunFolder) -> dict[str, dict[str, dict[str, float]]]:
    """Read and validate a run's test.json. If it is missing or damaged (`RunFolder.damaged`), the result is empty.

    Returns:
        "plans": metrics on the test split by plan hash. "naive": metrics of the naive forecasts, by name.
    """
    read = _read_part(folder, folder.test_metrics, _TestMetrics, "the metrics on the test split") or _TestMetrics()
    return {"plans": read.plans, "naive": read.naive}


def _read_part(folder: RunFolder, file: Path, kind: type[_Read], what: str) -> _Read | None:
    """Read and validate a JSON file. None if it is missing or damaged. For `what` see `RunFolder.part`."""

    def read() -> _Read:
        try:
            return kind.model_validate(read_json(file, "file", RunError))
        except ValidationError as error:
            raise damaged(file, error) from None

    return folder.part(file, what, read)


def read_config(file: Path) -> dict[str, Any]:
    """Read and validate a run's config.yaml.

    Raises:
        RunError: If the file cannot be read, or is damaged. The message names the first damaged place.
    """
    try:
        given = read_yaml(file, "run configuration")
        RunConfig.model_validate(given)
        recorded_settings(given["settings"])
    except ValidationError as error:
        raise damaged(file, error) from None
    except InputError as error:
        raise RunError(f"{file} is damaged: {error}") from None
    if storage := given["settings"].get("storage"):  # runs of version 0.1.0 can have a password here
        given["settings"]["storage"] = str(DatabaseUrl(storage))
    return given


@dataclass(frozen=True)
class RecordedControl:
    """The record of a finalist's equal-cost control.

    Attributes:
        plan: Canonical text of the control, which is also a plan.
        plan_hash: The hash of the control.
        ratio: MACs that the control adds, divided by the MACs that the finalist adds. None if the finalist adds none.
        slots: The ratio for each slot.
        plan_params: Parameters that the finalist adds.
        control_params: Parameters that the control adds.
        exact: Whether the finalist's MACs are exact.
    """

    plan: str
    plan_hash: str
    ratio: float | None
    slots: dict[str, float | None]
    plan_params: int
    control_params: int
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-serialisable data. `RecordedControl(**data)` restores it."""
        return asdict(self)


_ATTRIBUTES: dict[str, TypeAdapter[Any]] = {
    LATENCY: TypeAdapter(dict[str, dict[str, float | str | bool | None]]),
    COST_CHECKS: TypeAdapter(dict[str, str]),
    CONTROLS: TypeAdapter(dict[str, RecordedControl]),
    REFERENCE: TypeAdapter(Reference | None),
    EARLIER_NOISE: TypeAdapter(dict[str, dict[str, int | float]]),
}


def read_attribute(key: str, value: Any) -> Any:
    """Validate an attribute of a study and return it. None becomes an empty mapping, except for the reference point.

    Raises:
        ValueError: If no search can have written this value.
    """
    read = _ATTRIBUTES[key].validate_python({} if value is None and key != REFERENCE else value)
    if key == LATENCY and (odd := {name for columns in read.values() for name in columns}.difference(LATENCY_COLUMNS)):
        raise ValueError(f"{min(odd)[:40]!r} is not a column of latency")
    if key == CONTROLS and any(control.plan_hash != text_hash(control.plan) for control in read.values()):
        raise ValueError("the hash of a control is not the hash of its plan")
    return read


_EVALUATION: TypeAdapter[Evaluation] = TypeAdapter(Evaluation)

_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,100}\Z")
"""Form of the name of a metric or cost, which becomes the title of a column."""

_LARGEST = 2**63
"""Counts and trial numbers must be below this value, so that a table with 64-bit integers can hold them."""


def check_evaluation(evaluation: Evaluation, directions: Mapping[str, str]) -> None:
    """Validate an evaluation that was read from a journal, together with its trial number.

    Raises:
        ValueError: If no search can have written this evaluation.
    """
    # `type`, because a bool is an instance of int
    if type(evaluation.number) is not int or not 0 <= evaluation.number < _LARGEST:
        raise ValueError(f"{str(evaluation.number)[:40]} is not a trial number")
    _check_record(evaluation, directions)


def recordable(evaluation: Evaluation, directions: Mapping[str, str]) -> Evaluation:
    """Return the evaluation if readers accept it. Otherwise return a failed evaluation that says why they do not."""
    try:
        _check_record(evaluation, directions)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        empty: dict[str, Any] = {name: {} for name in ("metrics", "costs", "proxies")}
        return replace(
            evaluation, state="failed", reason=f"its result cannot be recorded: {error}", history=[], items=None,
            weights=None, **empty,
        )  # fmt: skip
    return evaluation


def _check_record(evaluation: Evaluation, directions: Mapping[str, str]) -> None:
    """Validate all recorded fields of an evaluation. The trial number is not one of them.

    Raises:
        ValueError: If the evaluation could not be read again, or could not be shown in a table.
        TypeError: If the evaluation contains something that JSON cannot represent.
    """
    try:
        # converted to JSON first, because pydantic does not validate the fields of an existing dataclass instance
        _EVALUATION.validate_json(json.dumps(evaluation.to_dict()), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        raise ValueError(f"{place}: {first['msg']}") from None
    for name in ("seed", "fidelity", "batch_parts"):
        if abs(getattr(evaluation, name)) >= _LARGEST:
            raise ValueError(f"{name} has more than 64 bits")
    plan = json.loads(evaluation.plan)
    if not isinstance(plan, dict) or not all(isinstance(expression, str) for expression in plan.values()):
        raise ValueError("its plan does not map slots to expressions")
    if fault := metric_name_fault(evaluation.metrics):
        raise ValueError(fault)
    for name, value in (*evaluation.costs.items(), *evaluation.metrics.items(), *evaluation.proxies.items()):
        if not _NAME.match(name):
            raise ValueError(f"{name[:40]!r} is not a name of a metric or cost")
        _check_value(name, value)
    if below := [name for name, value in evaluation.costs.items() if _is_number(value) and value < 0]:
        raise ValueError(f"{below[0]} is below 0")
    if evaluation.is_complete:
        values = evaluation.values
        if missing := [name for name in directions if not _is_number(values.get(name))]:
            raise ValueError(f"a complete evaluation without {', '.join(missing)}")


def _check_value(name: str, value: Any) -> None:
    if _is_number(value):
        if not math.isfinite(value):
            raise ValueError(f"{name} is not finite")
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise ValueError(f"{name} has more than 64 bits")
    elif name == "unknown_ops":
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise ValueError("unknown_ops is not a list of names")
    elif not (value is None or isinstance(value, (str, bool))):
        raise ValueError(f"{name} is a {type(value).__name__}, not a number, text or truth value")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def damaged(file: Path, error: ValidationError) -> RunError:
    """Return the error that a file is damaged. It names the first damaged place."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])[:200] or "the whole"
    # Only the first error is shown, because one damaged part usually causes many. It is cut, because names in a foreign
    # file can be long.
    return RunError(f"{file} is damaged: {place}: {first['msg']}")


class _Dumper(yaml.SafeDumper):
    """Writes no YAML aliases, because `read_yaml` does not accept them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def config_text(config: dict[str, Any]) -> str:
    """Return the text of config.yaml."""
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
