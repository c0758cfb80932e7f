"""The settings of a search. Each setting is defined here, with its meaning and its form on the command line.

The command line, its help, the table in docs/settings.md and the command that reproduces a run are generated from the
fields of `SearchSettings`. Settings are validated once, together with the origin of each value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from nasbench.errors import InputError, UnknownNameError, nearest
from nasbench.files import read_yaml
from nasbench.library.expression import Expression
from nasbench.library.plan import Plan
from nasbench.library.plan_text import FORMS
from nasbench.runs.database_url import DatabaseUrl
from nasbench.tasks.recipe import Recipe, choices_of, fault_of, refuse_boolean
from nasbench.text import MAX_SIDE, MAX_STEPS, clean, duration_s, mask_passwords

__all__ = [
    "GONE", "NOT_WITH_PLANS", "SAMPLERS", "CommandLine", "SearchSettings", "check_training", "differences",
    "ignored_notes", "meaning", "read_settings", "recorded_settings",
]  # fmt: skip

Sampler = Literal["auto", "gp", "tpe", "nsga2", "random", "grid", "local"]
"""Names of the samplers. `nasbench.study.samplers` creates them."""

SAMPLERS: tuple[str, ...] = get_args(Sampler)

GONE: dict[str, str] = {
    "finalists": "the search now chooses which plans are trained with further seeds; see the settings refine and plans"
}
"""Settings of earlier versions, which are ignored. The text of each says what replaces it."""


_NOT_READ = frozenset(
    {
        *("keep", "workers", "engine", "storage", "device", "time_s", "retry_failed"),
        *("trial_timeout_s", "trial_cpus", "trial_gpus", "log"),
    }
)
"""Settings that only say how a search was carried out. Its results can be read without them."""


def _listed(given: Any) -> Any:
    """Split a string at its commas, as in `--set proxies=naswot,zico`. Other values are returned unchanged."""
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given


def _each_listed(given: Iterable[str]) -> tuple[str, ...]:
    """Split each of several texts at its commas, as in `--series a,b --series c`."""
    return tuple(part for text in given for part in _listed(text))


def _path(text: str) -> str:
    return str(Path(text))


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Strings, given as a list or as one string with commas."""


def _database_url(url: str | None) -> DatabaseUrl | None:
    """Return the URL of a shared study without its password, so that settings can be printed and stored."""
    return None if url is None else DatabaseUrl(url)


def _eta(eta: int) -> int:
    if eta == 1:  # a rung would keep all plans
        raise ValueError("expected 0 for no halving, or a whole number from 2 to 1,000")
    return eta


def _plans(given: Any) -> Any:
    """Return plans as a tuple of texts. A single plan becomes a tuple with one text.

    The modules of the plans are looked up later, because the plug-ins need not be loaded yet.
    """
    if isinstance(given, (str, Mapping)) or given is None:
        given = (given,)
    if not isinstance(given, (list, tuple)):
        raise ValueError("expected a list of plans; each plan is a string, or a mapping of slots to expressions")
    return tuple(_plan(each) for each in given)


def _plan(given: Any) -> str:
    if isinstance(given, Plan):
        return given.typed
    if given is None:  # `null` in YAML: the bare backbone
        return "none"
    if isinstance(given, Expression):
        return given.canonical()
    if isinstance(given, Mapping) and all(isinstance(e, (str, Expression)) for e in given.values()):
        return json.dumps({str(slot): str(e) for slot, e in given.items()}, ensure_ascii=False)
    if isinstance(given, str):
        return given.strip()
    raise ValueError(f"got {given!r}; {FORMS}")


Plans = Annotated[tuple[str, ...], BeforeValidator(_plans)]
"""The texts of plans. A plan can be given in any of its forms."""

NOT_WITH_PLANS = ("space", "sampler", "atlas", "trials", "refine", "until", "halving")
"""Settings that determine which plans are evaluated, and with how many seeds. They cannot be used with given plans,
which are all evaluated with the same seeds."""


@dataclass(frozen=True)
class CommandLine:
    """The form of a setting on the command line.

    A setting without an option of its own is given by `--set NAME=VALUE`.

    Attributes:
        option: Name of the option. A name without dashes is a positional argument. "" if the setting has no option.
        off: The option that turns a flag off. "" if there is none.
        metavar: Placeholder for the value in the help text. By default the type of the value.
        repeated: Whether the option can be given several times, each time with one value.
        parse: Converts the typed text, or the list of texts if it is repeated, into the value of the setting.
        reproduce: Whether the command that reproduces a run contains the setting: "always", only if it was "changed"
            from its default, or "never". "never" is for settings that change how a run is carried out but not its
            results, and for settings that this command expresses in another way.
    """

    option: str = ""
    off: str = ""
    metavar: str | None = None
    repeated: bool = False
    parse: Callable[[Any], Any] | None = None
    reproduce: Literal["always", "changed", "never"] = "changed"


class SearchSettings(BaseModel):
    """The settings of a search. The defaults are those of `nasbench search`.

    The description of a field is the meaning of the setting, in a phrase without a full stop as in
    `nasbench.tasks.recipe.Recipe`. The `CommandLine` of a field is the form of the setting on the command line.
    docs/settings.md has the table of all settings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_gone(cls, given: Any) -> Any:
        # config.yaml of runs of earlier versions contains these settings
        return {key: value for key, value in given.items() if key not in GONE} if isinstance(given, dict) else given

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_boolean(cls, value, info)

    space: Annotated[
        str | dict[str, Any] | None,
        CommandLine("space", reproduce="never"),
        Field(description="name of a space, or a YAML file; by default five-properties, or the one of the task's kind"),
    ] = None
    plans: Annotated[
        Plans,
        CommandLine("--plan", metavar="PLAN", repeated=True),
        Field(
            description='plan to compare, such as "stage3=se; stage4=eca", or se for every stage; exactly the given '
            "plans and the bare backbone are compared, instead of a space"
        ),
    ] = ()
    backbone: Annotated[
        str | None,
        CommandLine("--backbone", reproduce="always"),
        Field(
            description="a timm name, a built-in backbone, or FILE.py:build; by default test_resnet, patchtst for "
            "forecasts, sr_residual for super-resolution, or inception_time for series to classify"
        ),
    ] = None
    task: Annotated[
        str | None,
        CommandLine("--task", reproduce="always"),
        Field(
            description="task to learn: digits, co2, folder:PATH, tar:FILE, tar:TRAIN,TEST, torchvision:NAME, "
            "timm:READER/NAME, csv:PATH, ett:PATH, segment:PATH, detect:PATH, scenes-segment, scenes-detect, "
            "sr:PATH, photos-sr, series:TRAIN.ts,TEST.ts, digits-rows, table:FILE or FILE.py:Task; by default digits, "
            "co2 for a forecasting backbone, photos-sr for sr_residual, or digits-rows for inception_time and resnet1d"
        ),
    ] = None
    learn: Annotated[
        str,
        CommandLine("--learn", metavar="PRETEXT"),
        Field(
            description="way to learn: supervised, or a pretext such as simclr or simclr(temperature=0.2), which reads "
            "no labels"
        ),
    ] = "supervised"
    trials: Annotated[
        int,
        CommandLine("--trials", reproduce="always"),
        Field(ge=1, le=1_000_000, description="number of distinct plans to evaluate, including the bare backbone"),
    ] = 24
    time_s: Annotated[
        float | None,
        CommandLine("--time", metavar="30m", parse=duration_s, reproduce="never"),
        Field(gt=0, description="time after which no new trial is started"),
    ] = None
    objectives: Annotated[
        dict[str, str],
        CommandLine("--objective", repeated=True),
        Field(description="metric or cost to optimise; by default the metric of the task, and macs"),
    ] = {}
    constraints: Annotated[
        Texts,
        CommandLine("--constraint", repeated=True),
        Field(description='bound that every plan must satisfy, such as "params<=1.1x"'),
    ] = ()
    sampler: Annotated[
        Sampler, CommandLine("--sampler", reproduce="always"), Field(description="sampler that proposes the next plan")
    ] = "auto"
    atlas: Annotated[
        bool,
        CommandLine("--atlas"),
        Field(description="let auto lean on what the atlas found of modules on other hosts and data"),
    ] = False
    seed: Annotated[
        int,
        CommandLine("--seed", reproduce="always"),
        Field(ge=0, lt=2**31, description="seed of splits, weights, data order and sampler"),
    ] = 0
    seeds: Annotated[
        int | None,
        CommandLine("--seeds"),
        Field(
            ge=1,
            le=1000,
            description="largest number of seeds with which a plan is trained; 1 means no further seeds; by default "
            "8, or 5 for given plans; given plans are all trained with exactly this number of seeds",
        ),
    ] = None
    refine: Annotated[
        int | None,
        CommandLine("--refine"),
        Field(
            ge=0,
            le=100_000,
            description="number of trainings with further seeds after exploration, for the plans that look best and "
            "the bare backbone; 0 for none, by default 10, or 20 with `until`",
        ),
    ] = None
    until: Annotated[
        Literal["decided", "first"] | None,
        CommandLine("--until"),
        Field(
            description="end the further trainings as soon as every plan is called BETTER or dropped (decided), or one "
            "plan is called BETTER (first)"
        ),
    ] = None
    effect: Annotated[
        float | None,
        CommandLine("--effect", metavar="D", reproduce="never"),
        Field(
            gt=0, description="difference of the metric to detect; the search first says what is needed to detect it"
        ),
    ] = None
    size: Annotated[
        int | None,
        CommandLine("--size", metavar="PX"),
        Field(
            ge=1,
            le=MAX_SIDE,
            description="image side in pixels, by default the larger of 64 and the side of the data; in "
            "super-resolution the side of large training crops, by default 48 times the scale",
        ),
    ] = None
    lookback: Annotated[
        int | None,
        CommandLine("--lookback"),
        Field(ge=1, le=MAX_STEPS, description="number of input steps of a forecast; by default that of the task"),
    ] = None
    horizon: Annotated[
        int | None,
        CommandLine("--horizon"),
        Field(ge=1, le=MAX_STEPS, description="number of steps to forecast; by default that of the task"),
    ] = None
    fill: Annotated[
        Literal["linear", "forward"] | None,
        CommandLine("--fill"),
        Field(description="how to fill missing values and rows of a series; without it, they are an error"),
    ] = None
    groups: Annotated[
        str | None,
        CommandLine("--groups", metavar="FILE.csv"),
        Field(
            description="CSV file with a row for each labelled series: its trial and patient, or its path, whose "
            "folders are these; the pretext comet reads them"
        ),
    ] = None
    dates: Annotated[
        Literal["dayfirst", "monthfirst"] | None,
        CommandLine("--dates"),
        Field(
            description="order of day and month in a file of series; by default the one with which the rows are evenly "
            "spaced"
        ),
    ] = None
    series: Annotated[
        Texts,
        CommandLine("--series", metavar="A,B", repeated=True, parse=_each_listed),
        Field(description="columns of a file of series to read; by default all columns of numbers"),
    ] = ()
    target: Annotated[
        str | None,
        CommandLine("--target", metavar="A"),
        Field(
            description="series that loss and metrics score, while the model gets and forecasts all; by default all "
            "are scored"
        ),
    ] = None
    covariates: Annotated[
        bool,
        Field(
            description="also give a forecasting model the calendar of every step (hour, weekday, day of month, day of "
            "year)"
        ),
    ] = False
    head: Annotated[
        str | None,
        CommandLine("--head", metavar="HEAD"),
        Field(
            description="head of a dense task; by default fcn for segmentation, fcos for detection, and pixel_shuffle "
            "for super-resolution"
        ),
    ] = None
    neck: Annotated[
        str | None,
        CommandLine("--neck", metavar="NECK"),
        Field(
            description="neck of every plan of a dense task, such as fpn or none; by default the slot `neck` is "
            "searched like others"
        ),
    ] = None
    ignore: Annotated[
        int | None, Field(ge=0, description="value in masks of pixels without a label; by default 255")
    ] = None
    scale: Annotated[
        int | None,
        CommandLine("--scale"),
        Field(description="factor by which super-resolution enlarges images: 2, 3 or 4; by default 2"),
    ] = None
    checkpoint: Annotated[
        str | None,
        CommandLine("--checkpoint", metavar="FILE"),
        Field(description="file of weights of the bare backbone, with which training starts"),
    ] = None
    pretrained: Annotated[
        bool, CommandLine("--pretrained"), Field(description="start training with timm's pretrained weights")
    ] = False
    freeze: Annotated[
        Literal["backbone"] | None,
        CommandLine("--freeze"),
        Field(description='"backbone" trains only the inserted modules and the head'),
    ] = None
    device: Annotated[
        str,
        CommandLine("--device", reproduce="never"),
        Field(description="device on which models run: auto, cpu, cuda or cuda:1"),
    ] = "auto"
    modules: Annotated[
        Texts,
        CommandLine("--modules", metavar="PATH", repeated=True),
        Field(description="plug-in file or folder to load"),
    ] = ()
    training: Annotated[
        dict[str, Any],
        CommandLine(reproduce="never"),
        Field(description="changes to the task's recipe (epochs, learning_rate, ...)"),
    ] = {}
    latency_s: Annotated[
        float, Field(ge=0, description="seconds for measuring latency after the search; 0 for none")
    ] = 20.0
    latency_profile: Annotated[
        str | None,
        CommandLine("--latency-profile", metavar="FILE", parse=_path),
        Field(description="device profile that predicts latency before training"),
    ] = None
    proxies: Annotated[
        Texts,
        CommandLine("--proxy", repeated=True),
        Field(description="zero-cost proxy to compute before training, also for constraints: naswot, synflow or zico"),
    ] = ()
    halving: Annotated[
        int,
        CommandLine("--halving", metavar="ETA"),
        AfterValidator(_eta),
        Field(
            ge=0,
            le=1000,
            description="train all plans for few epochs, and one in ETA (such as 3) for longer; 0 for no halving",
        ),
    ] = 0
    halving_epochs: Annotated[int, Field(ge=1, description="smallest number of epochs of a rung")] = 1
    halving_slow_epochs: Annotated[
        int | None,
        Field(
            ge=1,
            description="number of epochs before which a plan is not ranked, if its untrained model gives the same "
            "outputs as the bare backbone; by default three tenths of the full budget",
        ),
    ] = None
    controls: Annotated[
        bool,
        CommandLine("--controls", off="--no-controls"),
        Field(description="for each plan called BETTER, also train a plain block of equal cost with the same seeds"),
    ] = True
    allow_lower_bound: Annotated[
        bool,
        Field(description="accept a cost as an objective even if it is only a lower bound"),
    ] = False
    keep: Annotated[
        Literal["front", "all"], CommandLine("--keep"), Field(description="plans whose trained weights are stored")
    ] = "front"
    workers: Annotated[
        int,
        CommandLine("--workers", reproduce="never"),
        Field(
            ge=1,
            le=1000,
            description="number of evaluations that run at once; with several GPUs, each worker has one of them",
        ),
    ] = 1
    engine: Annotated[
        Literal["local", "ray"],
        CommandLine("--engine", reproduce="never"),
        Field(description="where evaluations run: processes on this machine, or a Ray cluster"),
    ] = "local"
    trial_timeout_s: Annotated[
        float | None,
        CommandLine("--trial-timeout", metavar="10m", parse=duration_s, reproduce="never"),
        Field(
            gt=0,
            description="time after which an evaluation is killed and counts as failed; by default 20 times that of "
            "the bare backbone, at least 10 minutes",
        ),
    ] = None
    trial_cpus: Annotated[
        float,
        CommandLine(reproduce="never"),
        Field(gt=0, description="number of CPU cores for an evaluation on a Ray cluster"),
    ] = 1
    trial_gpus: Annotated[
        float | None,
        CommandLine(reproduce="never"),
        Field(
            ge=0, description="number of GPUs for an evaluation on a Ray cluster; by default 1 if the device is CUDA"
        ),
    ] = None
    storage: Annotated[
        str | None,
        CommandLine("--storage", metavar="URL", reproduce="never"),
        AfterValidator(_database_url),
        Field(
            description="postgresql://user@host/database of a study that several machines share; by default the study "
            "is in the run folder; the password is best left to PGPASSWORD or ~/.pgpass"
        ),
    ] = None
    retry_failed: Annotated[
        bool,
        CommandLine("--retry-failed", reproduce="never"),
        Field(description="when a run is resumed, evaluate its failed trials again"),
    ] = False
    log: Annotated[
        Texts,
        CommandLine("--log", metavar="NAME", repeated=True, parse=_each_listed, reproduce="never"),
        Field(
            description="logger that shows each training with its curve: tensorboard, mlflow or wandb, or one that a "
            "plug-in file registers"
        ),
    ] = ()
    reuse: Annotated[
        str | None,
        CommandLine("--reuse", metavar="RUN", parse=_path),
        Field(description="run whose evaluations are imported if they fit this search"),
    ] = None


def meaning(about: FieldInfo) -> str:
    """Return the meaning of a setting of a search or recipe, followed by the values that can be chosen."""
    choices = choices_of(about)
    return f"{about.description} ({', '.join(choices)})" if len(choices) > 1 else str(about.description)


def read_settings(
    given: Mapping[str, Any], file: str | Path | None = None, origin: str = "command line"
) -> tuple[SearchSettings, dict[str, str]]:
    """Merge and validate settings. Given values override those of the file, and these override the defaults.

    Args:
        given: Values from the command line or Python. None means that the value was not given.
        file: A YAML file with the same keys, such as `run.yaml`.
        origin: Name of the place that `given` comes from.

    Returns:
        The settings, and the origin of each value: "default", the file's path, or `origin`. If a given setting no
        longer exists, it is in the origins but not in the settings.

    Raises:
        UnknownNameError: If a key does not exist.
        InputError: If a value is wrong. The message names the key, the value and its origin.
    """
    from_file = read_yaml(file, "settings") if file else {}
    # without None, so that an option that was not typed does not override the file
    explicit = {key: value for key, value in given.items() if value is not None}
    merged = {**from_file, **explicit}
    for key in merged:
        if key not in SearchSettings.model_fields and key not in GONE:
            raise _unknown_setting(str(key), merged[key])
        if key in SearchSettings.model_fields and merged[key] == "":
            raise InputError(f"{key} ({str(file) if key not in explicit else origin}) is empty; leave it out")
    origins = dict.fromkeys(SearchSettings.model_fields, "default")
    origins |= dict.fromkeys(from_file, str(file)) | dict.fromkeys(explicit, origin)
    merged |= _with_objectives(merged)
    hidden = {key: value for key, value in from_file.items() if key in explicit and key in SearchSettings.model_fields}
    # A wrong value in the file is one that the next command, without the option, would read.
    _validated({**hidden, **_with_objectives(hidden)}, dict.fromkeys(hidden, str(file)), str(file))
    return _validated(merged, origins, origin), origins


def _with_objectives(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"objectives": _objectives(given["objectives"])} if "objectives" in given else {}


def _validated(given: Mapping[str, Any], origins: Mapping[str, str], origin: str) -> SearchSettings:
    try:
        return SearchSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = origins.get(str(first["loc"][0]), origin)
        if first["type"] == "literal_error":  # the setting allows only a few names
            known = choices_of(SearchSettings.model_fields[key])
            place = "" if where == origin else f" in {where}"
            raise UnknownNameError(f"value of {key}{place}", str(first["input"]), known) from None
        fact = fault_of(first, SearchSettings.model_fields[str(first["loc"][0])])
        raise InputError(mask_passwords(f"{key}={first['input']!r} ({where}): {fact}")) from None


def check_training(training: Mapping[str, Any]) -> None:
    """Check the settings of the training, for a task whose recipe is a plain `Recipe`.

    Raises:
        UnknownNameError: If a setting does not exist, or if it is one of the search.
        InputError: If a value is not allowed.
    """
    for key in training:
        if key not in Recipe.model_fields:
            raise _unknown_setting(key, training[key], "training setting")
    Recipe().with_settings(training)


def _unknown_setting(key: str, value: Any, kind: str = "setting") -> InputError:
    """Return the error for an unknown setting of the search or of the training. It says where the nearest belongs."""
    of_search = {name: f"{name}: {clean(str(value), 40)}" for name in SearchSettings.model_fields}
    of_training = {name: f"training: {{{name}: {clean(str(value), 40)}}}" for name in Recipe.model_fields}
    first, others = (of_search, of_training) if kind == "setting" else (of_training, of_search)
    near = nearest(key, [*first, *others])
    hint = "docs/settings.md lists all settings"
    if key in others:  # no name is wrong, only its place
        where = "inside `training`" if others is of_training else "outside `training`"
        return InputError(f"{key} is no {kind}; it belongs {where}; write `{others[key]}`")
    if near and near[0] in others:
        where = "inside `training`" if others is of_training else "outside `training`"
        hint = f"{near[0]} belongs {where}; write `{others[near[0]]}`"
    return UnknownNameError(kind, key, [*first, *others], hint)


def recorded_settings(given: Mapping[str, Any]) -> tuple[SearchSettings, list[str]]:
    """Return the settings in the config.yaml of a run, and one note for each that is ignored.

    A setting that this version does not know is ignored. If the value of a setting is wrong that only says how the
    search was carried out, the setting has its default.

    Raises:
        ValidationError: If the value of another setting is wrong.
    """
    read = {name: value for name, value in given.items() if name in SearchSettings.model_fields}
    notes = ignored_notes(name for name in given if name not in GONE)
    try:
        return SearchSettings.model_validate(read), notes
    except ValidationError as error:
        wrong = {str(one["loc"][0]) for one in error.errors() if one["loc"]} & _NOT_READ
    for name in sorted(wrong):
        value = mask_passwords(clean(repr(read.pop(name)), 80))
        notes.append(f"the setting {name}={value} is wrong and is ignored: it only says how the search was carried out")
    return SearchSettings.model_validate(read), notes


def ignored_notes(given: Iterable[str]) -> list[str]:
    """Return one note for each given setting that no longer exists, or that this version does not know.

    Example:
        >>> ignored_notes(["trials", "finalists"])[0].partition(":")[0]
        'the setting finalists no longer exists and is ignored'
    """
    notes = []
    for name in given:
        if name in GONE:
            notes.append(f"the setting {name} no longer exists and is ignored: {GONE[name]}")
        elif name not in SearchSettings.model_fields:
            notes.append(f"the setting {clean(name, 80)} is unknown and is ignored: it may be of a newer version")
    return notes


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between two identities as text, one line for each key: "training.epochs: 5 there, 3 now".

    An identity contains the settings in which two runs must agree to be runs of the same search.
    """
    flat_old, flat_new = dict(_flat(old)), dict(_flat(new))
    keys = sorted({*flat_old, *flat_new})
    return [
        f"{key}: {flat_old.get(key, 'unset')!r} there, {flat_new.get(key, 'unset')!r} now"
        for key in keys
        if flat_old.get(key) != flat_new.get(key)
    ]


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        # as a list, because YAML has lists where the settings in memory have tuples
        yield prefix, list(tree) if isinstance(tree, tuple) else tree


def _objectives(given: Any) -> dict[str, str]:
    given = _listed(given)
    if isinstance(given, Mapping):
        return {str(name): str(direction) for name, direction in given.items()}
    if not isinstance(given, (list, tuple)):
        raise InputError(
            f"objectives={given!r}: expected a list of names, or a mapping of names to maximize or minimize"
        )
    names = [str(name) for name in given]
    if len(set(names)) != len(names):
        raise InputError(f"an objective is given twice: {', '.join(names)}")
    # "" is replaced later by the direction of the metric, because the task is not known here
    return dict.fromkeys(names, "")
