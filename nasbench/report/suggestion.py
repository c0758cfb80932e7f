"""What a network or a module lacks of the five properties, and which modules add it at the least cost.

A host is measured stage by stage: the influence of what goes into a stage on what comes out of it. A property whose
figure is below the threshold of `nasbench.measurement.properties` is missing there; modules whose own fingerprint has
it are proposed, fewest MACs at that slot first. Complexity is no property that a module could add: it orders the
proposals.

A host without trained weights is measured with gates that start at zero (the last norm of a residual branch, a layer
scale) at 1: closed, it would mix nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from nasbench import backbones
from nasbench.backbones.insertion import insert, slots_of
from nasbench.errors import InputError, NothingMatched, UnsupportedError
from nasbench.library.building import build
from nasbench.library.expression import Expression, Leaf, parse
from nasbench.library.modules import module_specs
from nasbench.library.plan import Plan, is_stage_slot
from nasbench.library.registry import PROPERTIES
from nasbench.measurement.costs.plan_costs import PartCost, PlanCosts
from nasbench.measurement.properties.fingerprint import Fingerprint, fingerprint
from nasbench.measurement.properties.record import Measured, has, lacking, recorded
from nasbench.measurement.properties.stage_influence import StageFigures, stage_figures
from nasbench.measurement.properties.subject import open_gates
from nasbench.report.catalogue import DEFAULT_CHANNELS
from nasbench.report.catalogue import DEFAULT_SIZES as CATALOGUE_SIZES
from nasbench.report.hosts import check_host, is_backbone, is_run
from nasbench.runs.run import load_run
from nasbench.spaces import Space

__all__ = ["Advice", "Suggestion", "suggest", "suggest_for_module"]

_NARROW = 4  # a map of fewer positions a side has no scales, and nothing to choose from
_VENDOR = "timm/"  # timm's own layers: most stand in the library themselves


@dataclass(frozen=True)
class Suggestion:
    """A module that adds a missing property at a slot.

    Attributes:
        slot: The slot; "" where a module alone was asked about.
        property: What is missing there.
        module: The module's name.
        figure: What its fingerprint has of the property.
        macs: Multiply-adds it adds for one input.
        params: Parameters it adds.
        macs_share: `macs` over those of the bare host; None without a host.
    """

    slot: str
    property: str
    module: str
    figure: float
    macs: int
    params: int
    macs_share: float | None


@dataclass(frozen=True)
class Advice:
    """What is missing, and what would add it.

    Attributes:
        host: Backbone, expression or run asked about.
        measured: Figures of each stage; of a module, its own.
        missing: Missing properties by slot ("" for a module).
        suggestions: By slot and property, fewest MACs first.
        backbone: The backbone to search; None of a module.
        task: The task to search on; of a run alone.
    """

    host: str
    measured: tuple[StageFigures | Fingerprint, ...]
    missing: dict[str, tuple[str, ...]]
    suggestions: tuple[Suggestion, ...]
    backbone: str | None = None
    task: str | None = None

    @property
    def search_options(self) -> str:
        """What `nasbench search` must be told beside the space: " --backbone ... --task ..." or nothing."""
        given = {"backbone": self.backbone, "task": self.task}
        return "".join(f" --{name} {value}" for name, value in given.items() if value)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        figures = ("size", "channels", *PROPERTIES, "self_influence", "notes")
        return {
            "host": self.host,
            "measured": [
                {"slot": slot, "lacks": lacks, **{name: getattr(row, name) for name in figures}}
                for row, (slot, lacks) in zip(self.measured, self.missing.items(), strict=True)
            ],
            "suggestions": [asdict(suggestion) for suggestion in self.suggestions],
            "space": self.space,
        }

    @property
    def space(self) -> dict[str, Any]:
        """A space that `nasbench.search` accepts: at each slot what was suggested there."""
        if self.backbone is None:
            return self._space_of_module
        choices = {slot: self._choices(slot) for slot in dict.fromkeys(s.slot for s in self.suggestions)}
        given = list(choices.values())
        usual = max(given, key=given.count)  # of equal counts the first
        overrides = [
            {"slots": [slot], **{key: value for key, value in here.items() if value != usual[key]}}
            for slot, here in choices.items()
            if here != usual
        ]
        return {
            "name": f"suggested for {self.host}",
            "description": f"what {self.host} lacks by measurement: {', '.join(self._properties)}",
            "slots": list(choices),
            "distinct_properties": len(self._properties) > 1,
            **usual,
            **({"overrides": overrides} if overrides else {}),
        }

    @property
    def _properties(self) -> list[str]:
        return list(dict.fromkeys(s.property for s in self.suggestions))

    def _choices(self, slot: str) -> dict[str, list[str]]:
        """Return the suggestions for a slot: alone and, where several properties are missing, two together."""
        here = [s for s in self.suggestions if s.slot == slot]
        several = len({s.property for s in here}) > 1
        return {
            "compositions": ["none", "a", *(["a >> b", "gate(a, b)"] if several else [])],
            "variants": list(dict.fromkeys(s.module for s in here)),
        }

    @property
    def _space_of_module(self) -> dict[str, Any]:
        """The module or expression asked about, at every stage slot, alone and joined with what it lacks."""
        host = self.host if isinstance(parse(self.host), Leaf) else f"({self.host})"
        return {
            "name": f"suggested for {self.host}",
            "description": f"what {self.host} lacks by measurement: {', '.join(self._properties)}",
            "slots": ["stages"],
            "compositions": ["none", host, f"{host} >> a", f"{host} + a", f"gate({self.host}, a)"],
            "variants": list(dict.fromkeys(s.module for s in self.suggestions)),
        }

    @property
    def space_yaml(self) -> str:
        """The space as a file for `search_spaces/`, with what is missing and what each variant adds as comments."""
        lines = ["# Written by `nasbench suggest`: measured, what is missing and what adds it at the fewest MACs."]
        lines += [
            f"# {slot or self.host} lacks {', '.join(names) or 'nothing'}" for slot, names in self.missing.items()
        ]
        for variant in dict.fromkeys(s.module for s in self.suggestions):
            added = dict.fromkeys(f"{s.property} {s.figure:.2f}" for s in self.suggestions if s.module == variant)
            lines.append(f"# {variant}: {', '.join(added)}")
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.space, sort_keys=False, allow_unicode=True, width=110)


def suggest(
    host: str | Path,
    *,
    input_size: Sequence[int] | None = None,
    pretrained: bool = False,
    each: int = 3,
    seed: int = 0,
) -> Advice:
    """Measure what a host lacks at each stage slot and propose the cheapest modules that add it.

    Args:
        host: A backbone, a run folder (its best plan, with the trained weights where they were kept), or a module's
            name or expression.
        input_size: Of a backbone, without the batch; its default if None.
        pretrained: Of a timm backbone: measure it with timm's weights.
        each: Modules for each missing property of a slot.
        seed: Of the inputs that it is measured on, and of its weights.

    Raises:
        UnknownNameError: If it is no backbone and no module.
        NothingMatched: If nothing is missing, or no module adds it.

    Example:
        >>> suggest("test_resnet", input_size=(3, 64, 64)).missing["stage1"]
        ('globality', 'sparsity', 'multiscale')
    """
    text = str(host)
    check_host(text)
    if is_run(text):
        return _for_run(Path(host), each, seed)
    if not is_backbone(text):
        return suggest_for_module(text, each=each, seed=seed)
    size = tuple(input_size) if input_size is not None else backbones.default_input_size(text) or (3, 224, 224)
    torch.manual_seed(seed)
    model = insert(text, None, input_size=size, pretrained=pretrained)
    places = backbones.slots(text, size)
    costs = PlanCosts(model, places, input_size=size, identity_init=False)
    if not pretrained:
        open_gates(model)
    return _advise(text, text, model, places, size, costs, each, seed)


def suggest_for_module(expression: str, *, each: int = 3, seed: int = 0) -> Advice:
    """Measure what a module or expression lacks, and propose the cheapest modules that complement it.

    Raises:
        UnknownNameError: If it names a module that does not exist.
        InputError: If it is a fusion or a neck.
        NothingMatched: If nothing is missing, or no module adds it.
    """
    spec = next((spec for spec in module_specs() if spec.name == expression), None)
    if spec is not None and spec.kind != "module":
        raise InputError(f"{expression} is a {spec.kind}; modules, expressions, backbones and runs can be complemented")
    text = parse(expression).canonical()
    found = fingerprint(text, seed=seed)
    dims = len(found.size)

    def cost(name: str) -> PartCost:
        return _alone(name, dims)

    missing = lacking(found)
    suggestions = _cheapest("", dims, missing, cost, None, each)
    return _answer(Advice(text, (found,), {"": missing}, tuple(suggestions)))


def _for_run(folder: Path, each: int, seed: int) -> Advice:
    """Advise on the best plan of a run.

    Raises:
        RunError: If its plans were not trained here, so that there is no model to measure.
    """
    run = load_run(folder)
    front = run.front()
    builder = run.builder()
    number = int(front.iloc[0]["number"]) if len(front) else None
    if number in run.folder.stored_weights:
        model = run.build(number)
    else:
        model = builder.build(Plan.of(front.iloc[0]["plan"] if len(front) else None), run.settings.seed)
        if not builder.identity_init:
            open_gates(model)
    size, bare = builder.input_size, builder.host()
    costs = PlanCosts(bare, backbones.slots(bare, size), input_size=size, identity_init=builder.identity_init)
    host = f"{folder.name}, trial {number}" if number is not None else folder.name
    advice = _advise(host, builder.backbone, model, slots_of(model), size, costs, each, seed)
    return replace(advice, task=run.settings.task)


def _advise(
    host: str,
    backbone: str,
    model: torch.nn.Module,
    places: Sequence[backbones.Slot],
    size: Sequence[int],
    costs: PlanCosts,
    each: int,
    seed: int,
) -> Advice:
    """Measure the stages of a model, and propose modules for what each lacks."""
    stages = [slot for slot in places if is_stage_slot(slot.name)] or list(places)
    found = stage_figures(model, stages, input_size=size, seed=seed)
    missing = {stage.slot: _missing(stage) for stage in found}
    suggestions: list[Suggestion] = []
    for slot in stages:

        def cost(name: str, at: str = slot.name) -> PartCost:
            whole = costs(Plan.of({at: name}))
            return PartCost(whole.params - costs.bare.params, whole.macs - costs.bare.macs)

        suggestions += _cheapest(slot.name, slot.dims, missing[slot.name], cost, costs.bare.macs, each)
    return _answer(Advice(host, tuple(found), missing, tuple(suggestions), backbone))


def _answer(advice: Advice) -> Advice:
    """Return advice that suggests something.

    Raises:
        NothingMatched: If it does not.
    """
    if not advice.suggestions:
        lacks = ", ".join(dict.fromkeys(name for names in advice.missing.values() for name in names))
        raise NothingMatched(
            f"no module adds what {advice.host} lacks: {lacks}" if lacks else f"{advice.host} lacks nothing"
        )
    Space.from_dict(advice.space)  # what is handed out can be searched
    return advice


def _missing(stage: StageFigures) -> tuple[str, ...]:
    """Return what a stage lacks; on a map too small for scales, locality and globality alone are asked for."""
    if stage.self_influence is None:
        return ()
    names = lacking(stage)
    return names if max(stage.size) >= _NARROW else tuple(n for n in names if n in ("locality", "globality"))


def _cheapest(
    slot: str,
    dims: int,
    missing: Sequence[str],
    cost: Callable[[str], PartCost],
    host_macs: int | None,
    each: int,
) -> list[Suggestion]:
    """Return the modules of fewest MACs for each missing property."""
    rows = []
    for property in missing:
        fitting = []
        for name, figures in _candidates(dims):
            if not has(figures, property):
                continue
            try:
                added = cost(name)
            except UnsupportedError:  # it cannot serve these channels
                continue
            share = None if host_macs is None else added.macs / host_macs
            figure = float(getattr(figures, property))
            fitting.append(Suggestion(slot, property, name, figure, added.macs, added.params, share))
        rows += sorted(fitting, key=lambda s: (s.macs, s.params, s.module))[:each]
    return rows


def _candidates(dims: int) -> list[tuple[str, Measured]]:
    """Return the modules that serve so many dimensions, with their fingerprints there; a user's are taken now."""
    found = []
    for spec in module_specs(dims=dims, kind="module"):
        if spec.selectable and not spec.name.startswith(_VENDOR):
            figures = recorded(spec.name, dims) or _taken_now(spec.name, dims)
            if figures is not None:
                found.append((spec.name, figures))
    return found


@cache
def _taken_now(name: str, dims: int) -> Measured | None:
    """Return the figures of a module that is not on record; None where it cannot be measured."""
    try:
        return Measured.of(fingerprint(name, dims=dims))
    except InputError:
        return None


@cache
def _alone(name: str, dims: int) -> PartCost:
    """Return what a module costs at the catalogue's default size."""
    from nasbench.measurement.costs import count

    expression: Expression = parse(name)
    size = CATALOGUE_SIZES[dims]
    with torch.device("meta"):
        module = build(expression, channels=DEFAULT_CHANNELS, dims=dims)
        found = count(module, torch.empty(1, DEFAULT_CHANNELS, *size))
    return PartCost(sum(p.numel() for p in module.parameters()), found.macs)
