"""Resolves the settings of a search into a problem: task, slots, space, recipe, evaluator and identity.

Every error in the settings is found here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasbench import backbones
from nasbench.backbones.names import SR_STEMS, is_file, is_sr_stem
from nasbench.backbones.slot_cache import slots_by_name
from nasbench.errors import BackboneError, InputError, UnknownNameError
from nasbench.library import plugins
from nasbench.library.expression import NONE
from nasbench.library.plan import BARE, NECK, Plan, check_neck_is_free
from nasbench.library.pretexts import SUPERVISED, check_learn
from nasbench.objectives import COSTS, conventional_direction, directions, parse_constraint, trained_constraint
from nasbench.runs.columns import check_objective_names
from nasbench.runs.refinement import is_refined
from nasbench.runs.settings import SearchSettings
from nasbench.spaces import ResolvedSpace, SlotLike, Space, load_space
from nasbench.study.evaluators.asked import (
    AskedEvaluator,
    EvaluateFunction,
    KnownError,
    KnownFunction,
    is_same,
    known_values,
)
from nasbench.study.evaluators.base import Evaluator
from nasbench.tasks.forms import TABLE, kind_of
from nasbench.tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from nasbench.backbones import Slot
    from nasbench.tasks import Task

__all__ = ["OF_DATA", "Problem", "check_pair", "check_used", "make_problem"]

USUAL_SPACES = {"classification": "five-properties"}
"""The space of each kind of task, where it is not named after the kind."""

_USUAL_BACKBONES = {
    "forecasting": "patchtst", "series-classification": "inception_time", "super-resolution": "sr_residual"
}  # fmt: skip
"""The backbone of each kind of task, where it is not `test_resnet`."""

_OF_STEMS = {"forecasting": "horizon", "series-classification": "num_classes"}
"""For each kind of task of series, the argument that a built-in backbone for it has."""


@dataclass(frozen=True)
class Problem:
    """The problem that a search solves, as objects that are made from its settings.

    Attributes:
        settings: The settings with every default resolved.
        task: The task. None if a function or a table evaluates the plans.
        space: The space, resolved for the slots of the backbone.
        directions: The objectives, each to "maximize" or "minimize".
        evaluator: Evaluates one plan at a time.
        identity: The settings and the description of the data. Two runs of the same search must have the same identity.
        slots: The slots of the backbone.
        known: What the user's function `known` tells of the bare backbone, by name. Empty without such a function.
        data: The task that the results are from, as the atlas names it. None if a function evaluates the plans.
    """

    settings: SearchSettings
    task: Task | None
    space: ResolvedSpace
    directions: dict[str, str]
    evaluator: Evaluator
    identity: dict[str, Any]
    slots: Sequence[SlotLike]
    known: Mapping[str, float] = field(default_factory=dict)
    data: str | None = None

    @property
    def plans(self) -> int:
        """Number of plans that the search will evaluate, without the bare backbone, if no time limit ends it."""
        return min(self.settings.trials, self.space.count + (BARE not in self.space)) - 1

    @property
    def is_refined(self) -> bool:
        """Whether plans are trained with further seeds: if further seeds are wanted, and can give other results."""
        trains = self.evaluator.takes_seed and any(name not in COSTS for name in self.directions)
        return trains and is_refined(self.settings)


def make_problem(
    settings: SearchSettings, evaluate: EvaluateFunction | None = None, known: KnownFunction | None = None
) -> Problem:
    """Resolve settings into a problem.

    Args:
        settings: The settings, in which defaults are not resolved yet.
        evaluate: A user's function that evaluates a plan, instead of building and training its model.
        known: A user's function that returns the values of a plan that are known before its evaluation. Only for plans
            that a function or a table evaluates.

    Raises:
        InputError: If a name in the settings does not exist, or if two settings contradict each other.
    """
    for path in settings.modules:
        plugins.load_path(path)
    tabulated = settings.task is not None and settings.task.startswith(TABLE)
    if settings.latency_profile is not None and (evaluate is not None or tabulated):
        raise InputError(
            "latency_profile needs models, but a function or table builds none; it can return latency_ms itself"
        )
    if settings.proxies and evaluate is not None:
        raise InputError(
            f"a function evaluates the plans, so no model is built to score; leave out {', '.join(settings.proxies)}"
        )
    settings = settings.model_copy(update={"learn": check_learn(settings.learn)})
    if settings.learn != SUPERVISED and (evaluate is not None or tabulated):
        raise InputError(f"learn={settings.learn}: a function or table trains no model; leave learn out")
    if evaluate is None and settings.task is not None and tabulated:
        return _tabulated_problem(settings, settings.task.removeprefix(TABLE), known)
    if evaluate is None and known is not None:
        raise InputError(
            "known= is for plans that a function or a table evaluates; the costs of plans that are trained are known "
            "already, so leave known out"
        )
    backbone, task = _host(settings)
    settings = settings.model_copy(update={"backbone": backbone, "task": task})
    if evaluate is not None:
        return _asked_problem(settings, backbone, evaluate, known)
    return _trained_problem(settings, backbone)


def _host(settings: SearchSettings) -> tuple[str, str]:
    """Return the names of the backbone and the task. If one of them is not given, one that fits the other is chosen.

    The default task is `co2` for a built-in forecasting backbone, `digits-rows` for one that only classifies series,
    `photos-sr` for one of super-resolution, and `digits` for other backbones.
    """
    backbone, task = settings.backbone, settings.task
    if backbone is None:
        backbone = _USUAL_BACKBONES.get("" if task is None else kind_of(task), "test_resnet")
    if task is None and backbones.is_stem(backbone):
        task = _usual_series(backbone)
    elif task is None:
        task = "photos-sr" if is_sr_stem(backbone) else "digits"
    return backbone, task


def _usual_series(stem: str) -> str:
    return "co2" if stem in backbones.stems_for("horizon") else "digits-rows"


def _asked_problem(
    settings: SearchSettings, backbone: str, evaluate: EvaluateFunction, known_function: KnownFunction | None
) -> Problem:
    series = backbones.is_stem(backbone)
    # a function needs no data, but the slots of the backbone depend on the input size
    size = (settings.lookback or 96, 7) if series else (3, settings.size or 64, settings.size or 64)
    slots = slots_by_name(backbone, size)
    settings, space = _with_space(settings, "forecasting" if series else "five-properties", slots)
    if not settings.objectives:
        raise InputError(
            "evaluate= has no default objectives, because the names of the values that it returns are not known "
            'before; give objectives=, such as "accuracy,macs" or {"score": "maximize"}'
        )
    known = {n: d for n in settings.objectives if (d := conventional_direction(n))}
    wanted = directions(settings.objectives, known)
    check_objective_names(wanted)
    bounds = [parse_constraint(text) for text in settings.constraints]
    expected = [*wanted, *(bound.name for bound in bounds if bound.name not in wanted)]
    evaluator = AskedEvaluator(evaluate, expected, bounds, _epochs_of_function(settings), known_function)
    identity = _identity(settings, space, wanted, {"evaluate": "function"})
    return Problem(settings, None, space, wanted, evaluator, identity, slots, _known_of_bare(known_function))


def _known_of_bare(function: KnownFunction | None) -> dict[str, float]:
    """Return what a user's function `known` tells of the bare backbone.

    Raises:
        InputError: If it raises an error, returns something else than finite numbers by name, or something else when it
            is asked again.
    """
    try:
        told, again = known_values(function, BARE), known_values(function, BARE)
    except KnownError as error:
        raise InputError(
            f"{error.reason} (for the bare backbone, whose plan is {{}}); known must return a number by name for each "
            "plan, as known=lambda plan: {'macs': 1e6 * len(plan)} does"
        ) from error
    for name in {**told, **again}:
        if name not in told or name not in again or not is_same(told[name], again[name]):
            first, second = (f"{of[name]:.6g}" if name in of else "nothing" for of in (told, again))
            raise InputError(
                f"known told {first} as {name} of the bare backbone, and {second} when it was asked again; it must "
                "tell the same each time, so leave out what is random or measured"
            )
    return told


def _with_space(
    settings: SearchSettings, usual: str | dict[str, Any], slots: Sequence[SlotLike]
) -> tuple[SearchSettings, ResolvedSpace]:
    """Return the settings with the space filled in, and the resolved space: given plans, a given space or the default.

    Given plans are all evaluated, even if they are more than the default number of trials.
    """
    space = _written_space(settings, usual).resolve(slots)
    if settings.plans:
        return settings.model_copy(update={"trials": space.count + (BARE not in space)}), space
    return settings.model_copy(update={"space": settings.space or usual}), space


def _written_space(settings: SearchSettings, usual: str | dict[str, Any]) -> Space:
    if settings.plans:
        return load_space({"name": "given plans", "plans": settings.plans})
    return load_space(settings.space or usual)


def _slots_of(host: nn.Module, input_size: Sequence[int], space: Space, fixed_neck: str | None) -> list[Slot]:
    """Return the slots of a host that reach the output with at least one neck of the space.

    Raises:
        PlanError: If the space lists a plan with a module in a slot that does not reach the output with its neck, or
            one with a neck although one neck is given for all plans.
    """
    from nasbench.backbones.dense import DenseHost, slots_with_necks, with_neck

    if not isinstance(host, DenseHost):
        return backbones.slots(host, input_size=input_size)
    if fixed_neck is not None:
        check_neck_is_free(map(Plan.of, space.plans), fixed_neck)
        return [slot for slot in host.find_slots(input_size) if slot.name != NECK]
    for plan in map(Plan.of, space.plans):
        with_neck(host, plan.get(NECK, NONE)).find_slots(input_size, plan)
    return slots_with_necks(host, input_size, space.necks())


def _epochs_of_function(settings: SearchSettings) -> int | None:
    """Return the full budget for a function: N from `training={"epochs": N}`. None if it is not given."""
    epochs = settings.training.get("epochs")
    return None if epochs is None else Recipe().with_settings({"epochs": epochs}).epochs


def _trained_problem(settings: SearchSettings, backbone: str) -> Problem:
    # imported here, because a search that only calls a function needs neither timm nor the code that reads data
    from nasbench.backbones.dense import DenseHost
    from nasbench.measurement.costs.plan_costs import PlanCosts
    from nasbench.measurement.latency.device_profile import load_device_profile
    from nasbench.measurement.latency.devices import usable_device
    from nasbench.runs.data import make_task
    from nasbench.runs.models import ModelBuilder, with_ending
    from nasbench.study.evaluators.trained import TrainedEvaluator
    from nasbench.training.loop import check_recipe
    from nasbench.training.pretexts import PretextTask, check_host
    from nasbench.training.proxies import check_flow
    from nasbench.training.techniques import check_model

    predictor = None if settings.latency_profile is None else load_device_profile(settings.latency_profile)
    check_used(settings)
    task = make_task(settings)
    check_pair(backbone, task)
    if settings.covariates and backbones.is_stem(backbone) and not backbones.takes_covariates(backbone):
        task.notes = (*task.notes, f"{backbone} takes no covariates of time, so it is trained without them")
    recipe = task.recipe.with_settings(settings.training)
    check_objective_names(task.metrics)
    if isinstance(task, PretextTask):
        task.check_objectives(settings.objectives)
    device = str(usable_device(settings.device))
    # On a Ray cluster, evaluations run on the devices of the nodes, not on the device of this process.
    check_recipe(recipe, task, "cuda" if settings.engine == "ray" and settings.trial_gpus else device, settings.seed)
    wanted = directions(settings.objectives or [task.metric, "macs"], task.metrics)
    bounds = [trained_constraint(text, settings.proxies) for text in settings.constraints]
    settings = settings.model_copy(update={"objectives": wanted, "training": recipe.recorded(task.recipe)})
    settings = with_ending(settings, task)
    check_flow(settings.proxies, task)
    builder = ModelBuilder.of(settings, task)
    host = builder.host()
    if told := getattr(host, "shortened", ""):
        task.notes = (*task.notes, told)
    if isinstance(host, DenseHost) and (idle := host.idle_note(task.input_size)):
        task.notes = (*task.notes, idle)
    _check_output(backbone, host, task)
    check_model(recipe, host, device)
    if isinstance(task, PretextTask):
        check_host(builder.build(BARE), backbone, task)
    usual = USUAL_SPACES.get(task.kind, task.kind)
    slots = _slots_of(host, task.input_size, _written_space(settings, usual), settings.neck)
    settings, space = _with_space(settings, usual, slots)
    gated = builder.identity_init
    if predictor is not None:
        predictor.check(backbone, task.input_size, space, identity_init=gated)
        # the user wants the latency on the device of the profile, so latency on this device is not measured
        settings = settings.model_copy(update={"latency_s": 0.0})
    evaluator = TrainedEvaluator(
        builder=builder,
        task=task,
        recipe=recipe,
        plan_costs=PlanCosts(host, slots, input_size=task.input_size, identity_init=gated, attach=builder.attach),
        constraints=bounds,
        counted=[*wanted, *(bound.name for bound in bounds)],
        device=device,
        allow_lower_bound=settings.allow_lower_bound,
        predictor=predictor,
        predictor_name=settings.latency_profile or "",
        proxies=settings.proxies,
    )
    identity = _identity(settings, space, wanted, task.describe())
    if task.head is not None:
        identity["neck"] = builder.neck
    if predictor is not None:
        identity["latency_profile"] = predictor.describe()
    return Problem(settings, task, space, wanted, evaluator, identity, slots, data=settings.task)


def _check_output(backbone: str, host: nn.Module, task: Task) -> None:
    """Check that a user's network returns what its task asks for, which training would only find in its loss.

    Raises:
        BackboneError: If it returns something else.
    """
    from nasbench.backbones.output import output_fault, output_of, wanted_output
    from nasbench.training.pretexts.pretext_task import PretextTask

    # A head, an `attach` or a loss of the user's own can take any output.
    own = task.head is not None or task.attaches_itself or not type(task).loss.__module__.startswith("nasbench.")
    # A pretext trains the features before the output.
    if own or isinstance(task, PretextTask) or not is_file(backbone):
        return
    wanted = {name: task.model_kwargs.get(name) for name in ("num_classes", "horizon")}
    if fault := output_fault(output_of(host, task.input_size), wanted_output(task.input_size, **wanted)):
        raise BackboneError(f"{backbone}: {fault}")


_OF_ITEMS = (
    "size",
    "lookback",
    "horizon",
    "fill",
    "covariates",
    "dates",
    "series",
    "target",
    "ignore",
    "scale",
    "groups",
)

OF_DATA = (*_OF_ITEMS, "head", "neck")
"""Settings of the data and the head of a task. Each task uses some of them."""

_IDLE_IN_A_REPLAY = (
    *("training", "pretrained", "checkpoint", "freeze", *_OF_ITEMS),
    *("latency_profile", "proxies", "allow_lower_bound"),
)


def _given(settings: SearchSettings, names: Iterable[str]) -> list[str]:
    """Return those of the named settings that differ from their default."""
    usual = SearchSettings()
    return [name for name in names if getattr(settings, name) != getattr(usual, name)]


def _tabulated_problem(settings: SearchSettings, file: str, known: KnownFunction | None) -> Problem:
    """Return the problem of a search in a table, which defines the backbone, the space and the default objectives.

    Raises an error for a setting that contradicts the table, or that has no effect with a table.
    """
    from nasbench.runs.refinement import most_seeds
    from nasbench.runs.tabulated import fingerprint_of, read_table
    from nasbench.study.evaluators.replayed import ReplayedEvaluator

    table = read_table(file)
    info = table.info
    of_table = {name: getattr(info, name) for name in ("backbone", "head", "neck")}
    for name, tabulated in of_table.items():
        if getattr(settings, name) not in (None, tabulated):
            raise InputError(
                f"{file} is a table of {tabulated or f'models without a {name}'}, not of {getattr(settings, name)}; "
                f"leave the {name} out"
            )
    if idle := _given(settings, _IDLE_IN_A_REPLAY):
        raise InputError(f"{file} is a table: nothing is built, trained or measured; leave out {', '.join(idle)}")
    settings, space = _with_space(settings, info.space, info.slots)
    columns = [*info.metrics, *info.costs]
    cost = [name for name in ("macs", *info.costs) if name in info.costs][:1]
    default = [*([info.metric] if info.metric else []), *cost]
    wanted = directions(settings.objectives or default, info.metrics)
    for name in wanted:
        if name not in columns:
            raise UnknownNameError(f"column of {file}", name, columns)
    bounds = [parse_constraint(text, columns) for text in settings.constraints]
    filled = {
        **of_table,
        "objectives": wanted,
        "seeds": min(most_seeds(settings), len(info.seeds)),  # further seeds would give the same rows again
        "latency_s": 0.0,
    }
    settings = settings.model_copy(update=filled)
    identity = _identity(settings, space, wanted, {"table": fingerprint_of(file)})
    evaluator = ReplayedEvaluator(table, bounds, known)
    told = _known_of_bare(known)
    return Problem(settings, None, space, wanted, evaluator, identity, info.slots, told, data=info.task)


def check_used(settings: SearchSettings) -> None:
    """Check that a task uses all given settings of its data and its head. The data is not read.

    Raises:
        InputError: If it does not.
    """
    from nasbench.tasks.creation import unused_options  # imported here, because it imports torch

    if unused := unused_options(str(settings.task), _given(settings, OF_DATA)):
        ends = " (the backbone ends its models)" if "head" in unused else ""
        names = ", ".join(unused)
        raise InputError(f"task {settings.task!r} does not use {names}{ends}; leave out {names}")


def check_pair(backbone: str, task: Task) -> None:
    """Check that a backbone is one for the kind of a task, and for the lengths of its series.

    Of a user's own network, only the lengths are checked.

    Raises:
        InputError: If it is for another kind, or cannot leave padded steps out.
    """
    argument = _OF_STEMS.get(task.kind)
    fitting: Sequence[str] = SR_STEMS if task.kind == "super-resolution" else ()
    if argument is not None:
        fitting = backbones.stems_for(argument)
    needed = f"one of {', '.join(fitting)}" if fitting else "a timm model"
    built_in = backbones.is_stem(backbone) or is_sr_stem(backbone)
    if not is_file(backbone) and (backbone not in fitting if fitting else built_in):
        kind = task.kind.replace("-", " ") if argument else task.kind
        raise InputError(
            f"backbone {backbone!r} does not fit task {task.name!r}: a {kind} task needs {needed}, or your own "
            "FILE.py:build"
        )
    if task.model_kwargs.get("padded") and not backbones.takes_padding(backbone):
        raise InputError(
            f"the series of {task.name!r} have unequal lengths, and {backbone} cannot leave padded steps out; "
            f"backbones that can: {', '.join(backbones.stems_for('padded'))}, or FILE.py:build with an argument "
            "`padded`; or give series of one length"
        )


def _identity(
    settings: SearchSettings, space: ResolvedSpace, wanted: Mapping[str, str], data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the identity of a run: everything that must be the same in two runs of one search.

    A run with another identity is not resumed. Settings that change only how a search is carried out, such as the
    number of trials or workers, are left out.
    """
    return {
        "space": space.identity,
        **{
            key: getattr(settings, key)
            for key in ("backbone", "task", "seed", "pretrained", "checkpoint", "freeze", "training")
        },
        **{key: value for key in ("head", "neck") if (value := getattr(settings, key)) is not None},
        **({} if settings.learn == SUPERVISED else {"learn": settings.learn}),
        "data": dict(data),
        "objectives": dict(wanted),
        "constraints": list(settings.constraints),
        **_halving(settings),
    }


def _halving(settings: SearchSettings) -> dict[str, Any]:
    """Return the settings of successive halving, as part of the identity. Empty without halving."""
    names = ("halving", "halving_epochs", "halving_slow_epochs")
    return {name: getattr(settings, name) for name in names} if settings.halving else {}
