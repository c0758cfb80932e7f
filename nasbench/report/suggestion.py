"""Properties that a network or a module lacks, and the cheapest modules that add them.

A network is measured stage by stage, by the influence of a stage's input on its output. A property is missing if its
value is below the threshold of `nasbench.measurement.properties`, or undefined. Modules with this property in their own
fingerprint are proposed. Those with the fewest MACs in this slot come first. Of modules with nearly as few, those come
first of which the atlas makes one expect more, and the figure of the atlas is beside each module that has one.
Complexity is not proposed, because a module cannot add it.

Some gates start at zero: the last norm of a residual branch, a layer scale. In a network without trained weights, these
gates are set to 1 before the measurement. Otherwise the network would not mix positions at all.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from nasbench import backbones
from nasbench.backbones.insertion import host_of, insert, slots_of
from nasbench.errors import DataError, InputError, NothingMatched, UnsupportedError
from nasbench.evidence.atlas import load_atlas
from nasbench.evidence.atlas_prior import Expected, best_row, expected_effects
from nasbench.evidence.atlas_protocol import SAME
from nasbench.library.building import build
from nasbench.library.expression import Expression, Leaf, parse
from nasbench.library.modules import module_spec, module_specs
from nasbench.library.plan import Plan, is_stage_slot
from nasbench.library.registry import PROPERTIES
from nasbench.library.status import recorded_status
from nasbench.library.surroundings import surroundings_kept
from nasbench.measurement.costs.plan_costs import PartCost, PlanCosts
from nasbench.measurement.properties.fingerprint import Fingerprint, fingerprint
from nasbench.measurement.properties.record import Measured, has, lacking, recorded
from nasbench.measurement.properties.stage_influence import StageFigures, stage_figures
from nasbench.measurement.properties.subject import open_gates
from nasbench.report.catalogue import DEFAULT_CHANNELS
from nasbench.report.catalogue import DEFAULT_SIZES as CATALOGUE_SIZES
from nasbench.report.formatting import with_interval
from nasbench.report.hosts import check_host, is_backbone, is_run
from nasbench.runs.run import load_run
from nasbench.spaces import Space

__all__ = ["Advice", "AtlasFigure", "Suggestion", "suggest", "suggest_for_module"]

_NEAR = 1.1  # modules whose MACs are within this factor are nearly as cheap
_NARROW = 4  # a map whose longer side has fewer positions is too small to measure sparsity and scales
_VENDOR = "timm/"  # the prefix of timm's own layers. The library has most of them under another name


@dataclass(frozen=True)
class AtlasFigure:
    """What a module brought on the host and data of the atlas that are nearest, as a difference from the bare host.

    Attributes:
        difference: The difference of the metric of that data, positive if better.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        host: The host.
        data: The data.
        slots: "same" for every stage of the host, or the name of one slot.
    """

    difference: float
    low: float
    high: float
    host: str
    data: str
    slots: str

    @property
    def text(self) -> str:
        """The figure in a few words, as `+0.0120 [+0.0040, +0.0200] test_resnet, digits`."""
        at = f", {self.slots}" if self.slots != SAME else ""
        return f"{with_interval(self.difference, self.low, self.high, '+')} {self.host}, {self.data}{at}"


@dataclass(frozen=True)
class Suggestion:
    """A module that adds a missing property at a slot.

    Attributes:
        slot: The slot. "" if the advice is for a module.
        property: The property that is missing in the slot.
        module: Name of the module.
        figure: The value of the property in the module's fingerprint.
        macs: Multiply-adds that it adds for one input.
        params: Parameters that it adds.
        macs_share: `macs` divided by the MACs of the bare backbone. None if the advice is for a module.
        atlas: What the atlas has of the module. None if it has nothing.
    """

    slot: str
    property: str
    module: str
    figure: float
    macs: int
    params: int
    macs_share: float | None
    atlas: AtlasFigure | None = None


@dataclass(frozen=True)
class Advice:
    """The properties that a network or module lacks, and the modules that add them.

    Attributes:
        host: The backbone, expression or run that was measured.
        measured: Property values of each stage, or the fingerprint of a module.
        missing: Missing properties by slot ("" for a module).
        suggestions: The suggestions by slot and property, fewest MACs first.
        backbone: The backbone for a search. None for a module.
        task: The task for a search. None unless the advice is for a run.
        head: The head of the run's models. None if their backbone ends them.
        neck: The neck of the run's hosts. None if they have no place for one.
    """

    host: str
    measured: tuple[StageFigures | Fingerprint, ...]
    missing: dict[str, tuple[str, ...]]
    suggestions: tuple[Suggestion, ...]
    backbone: str | None = None
    task: str | None = None
    head: str | None = None
    neck: str | None = None

    @property
    def search_options(self) -> str:
        """The options that `nasbench search` needs in addition to the space: " --backbone ... --task ...", or ""."""
        given = {"backbone": self.backbone, "task": self.task, "neck": self.neck, "head": self.head}
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value)

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as JSON-serialisable data."""
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
        """A space that `nasbench.search` accepts, with the suggestions for each slot."""
        if self.backbone is None:
            return self._space_of_module
        choices = {slot: self._choices(slot) for slot in dict.fromkeys(s.slot for s in self.suggestions)}
        given = list(choices.values())
        # The most frequent choices become the default of the space (the first of equally frequent ones), and the others
        # become overrides.
        usual = max(given, key=given.count)
        overrides = [
            {"slots": [slot], **{key: value for key, value in here.items() if value != usual[key]}}
            for slot, here in choices.items()
            if here != usual
        ]
        return {
            "name": f"suggested for {self.host}",
            "description": f"properties that {self.host} lacks by measurement: {', '.join(self._properties)}",
            "slots": list(choices),
            "distinct_properties": len(self._properties) > 1,
            **usual,
            **({"overrides": overrides} if overrides else {}),
        }

    @property
    def _properties(self) -> list[str]:
        return list(dict.fromkeys(s.property for s in self.suggestions))

    def _choices(self, slot: str) -> dict[str, list[str]]:
        """Return the choices for a slot: each suggestion alone, and pairs if several properties are missing."""
        here = [s for s in self.suggestions if s.slot == slot]
        several = len({s.property for s in here}) > 1
        return {
            "compositions": ["none", "a", *(["a >> b", "gate(a, b)"] if several else [])],
            "variants": list(dict.fromkeys(s.module for s in here)),
        }

    @property
    def _space_of_module(self) -> dict[str, Any]:
        """A space with the expression at every stage slot, alone and combined with modules that complement it."""
        host = self.host if isinstance(parse(self.host), Leaf) else f"({self.host})"
        return {
            "name": f"suggested for {self.host}",
            "description": f"properties that {self.host} lacks by measurement: {', '.join(self._properties)}",
            "slots": ["stages"],
            "compositions": ["none", host, f"{host} >> a", f"{host} + a", f"gate({self.host}, a)"],
            "variants": list(dict.fromkeys(s.module for s in self.suggestions)),
        }

    @property
    def space_yaml(self) -> str:
        """The space as a file for `search_spaces/`. Comments say what is missing and what each variant adds."""
        lines = [
            "# Written by `nasbench suggest`: the properties that are missing, and the modules that add them, measured."
        ]
        lines += [
            f"# {slot or self.host} lacks {', '.join(names) or 'nothing'}" for slot, names in self.missing.items()
        ]
        for variant in dict.fromkeys(s.module for s in self.suggestions):
            added = dict.fromkeys(f"{s.property} {s.figure:.2f}" for s in self.suggestions if s.module == variant)
            lines.append(f"# {variant}: {', '.join(added)}")
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.space, sort_keys=False, allow_unicode=True, width=110)


@dataclass(frozen=True)
class _Experience:
    """What the atlas has of modules, for a host and data.

    Attributes:
        expected: The expected effect of each module, by name.
        figures: The figure of the nearest host and data of each module, by name.
    """

    expected: Mapping[str, Expected]
    figures: Mapping[str, AtlasFigure]

    @classmethod
    def of(cls, host: str, data: str | None, dims: int) -> _Experience:
        """Return what the atlas has. Nothing if the atlas cannot be read.

        Args:
            host: The backbone. "" if there is none.
            data: The task. None if there is none.
            dims: Number of spatial dimensions of the slots.
        """
        try:
            atlas = load_atlas()
        except DataError:  # advice needs no atlas
            return cls({}, {})
        figures = {}
        for name in sorted(set(atlas["module"])):
            if (row := best_row(atlas, name, host, data, dims)) is not None:
                difference, low, high = (float(row[end]) for end in ("difference", "low", "high"))
                figures[name] = AtlasFigure(difference, low, high, row["host"], row["data"], row["slots"])
        return cls(expected_effects(atlas, host, data or "", dims), figures)


@surroundings_kept()  # the function seeds random generators, and the states of the caller's generators must not change
def suggest(
    host: str | Path,
    *,
    input_size: Sequence[int] | None = None,
    pretrained: bool = False,
    each: int = 3,
    seed: int = 0,
    trust: bool = False,
) -> Advice:
    """Measure which properties a network lacks at each stage slot, and propose the cheapest modules that add them.

    Args:
        host: A backbone, a run folder, or the name or expression of a module. For a run, the best plan is measured,
            with its trained weights if they were stored.
        input_size: Input size of a backbone without the batch dimension. By default the backbone's default size.
        pretrained: Whether to measure a timm backbone with timm's weights.
        each: Number of modules for each missing property of a slot.
        seed: Seed of the inputs and of the weights.
        trust: Whether to execute Python code that a run contains (`nasbench.load_run`).

    Raises:
        UnknownNameError: If there is no such backbone or module.
        RunError: If the run has no models, or if it has Python code of its own and is not trusted.
        NothingMatched: If no property is missing, or if no module adds a missing property.

    Example:
        >>> suggest("test_resnet", input_size=(3, 64, 64)).missing["stage1"]
        ('globality', 'sparsity', 'multiscale')
    """
    text = str(host)
    check_host(text)
    if is_run(text):
        return _for_run(Path(host), each, seed, trust)
    if not is_backbone(text):
        return suggest_for_module(text, each=each, seed=seed)
    size = tuple(input_size) if input_size is not None else backbones.default_input_size(text) or (3, 224, 224)
    torch.manual_seed(seed)
    model = insert(text, None, input_size=size, pretrained=pretrained)
    places = backbones.slots(text, size)
    costs = PlanCosts(model, places, input_size=size, identity_init=False)
    # Trained gates are part of the network's function. Untrained gates are opened, because they hide what the network
    # can do.
    if not pretrained:
        open_gates(model)
    return _advise(text, text, model, places, size, costs, each, seed)


def suggest_for_module(expression: str, *, each: int = 3, seed: int = 0) -> Advice:
    """Measure which properties a module or expression lacks, and propose the cheapest modules that complement it.

    Raises:
        UnknownNameError: If it contains a module that does not exist.
        InputError: If it is a fusion or a neck.
        NothingMatched: If no property is missing, or if no module adds a missing property.
    """
    spec = next((spec for spec in module_specs() if spec.name == expression), None)
    if spec is not None and spec.kind != "module":
        raise InputError(f"{expression} is a {spec.kind}; give a module, an expression, a backbone or a run")
    text = parse(expression).canonical()
    measured = fingerprint(text, seed=seed)
    dims = len(measured.size)

    def cost(name: str) -> PartCost:
        return _alone(name, dims)

    missing = lacking(measured)
    suggestions = _cheapest("", dims, missing, cost, None, each, _Experience.of("", None, dims))
    return _answer(Advice(text, (measured,), {"": missing}, tuple(suggestions)))


def _for_run(folder: Path, each: int, seed: int, trust: bool) -> Advice:
    """Return the advice for the best plan of a run.

    Raises:
        RunError: If its plans were not trained by nasbench, so that there is no model to measure.
    """
    run = load_run(folder, trust=trust)
    front = run.front()
    builder = run.builder()
    number = int(front.iloc[0]["number"]) if len(front) else None
    if number in run.folder.stored_weights:
        model = run.build(number)
    else:
        model = builder.build(Plan.of(front.iloc[0]["plan"] if len(front) else None), run.settings.seed)
        if not builder.identity_init:
            open_gates(model)
    # Costs are relative to the bare host, because a suggestion can be for a slot that the best plan already fills.
    size, bare = builder.input_size, builder.host()
    places = backbones.slots(bare, size)
    costs = PlanCosts(bare, places, input_size=size, identity_init=builder.identity_init, attach=builder.attach)
    host = f"{folder.name}, trial {number}" if number is not None else folder.name
    filled, data = slots_of(model), run.settings.task
    advice = _advise(host, builder.backbone, host_of(model), filled, size, costs, each, seed, data)
    return replace(advice, task=run.settings.task, head=builder.head, neck=run.settings.neck)


def _advise(
    host: str,
    backbone: str,
    model: torch.nn.Module,
    places: Sequence[backbones.Slot],
    size: Sequence[int],
    costs: PlanCosts,
    each: int,
    seed: int,
    data: str | None = None,
) -> Advice:
    """Measure the stages of a model, and propose modules for the properties that each stage lacks.

    The proposed plans have no neck, so a stage is left out if it only reaches the output with the neck of a plan.
    """
    places = [slot for slot in places if slot.name in costs.slots]
    stages = [slot for slot in places if is_stage_slot(slot.name)] or places  # dlinear has no stages
    measured = stage_figures(model, stages, input_size=size, seed=seed)
    missing = {stage.slot: _missing(stage) for stage in measured}
    suggestions: list[Suggestion] = []
    experience = {dims: _Experience.of(backbone, data, dims) for dims in {slot.dims for slot in stages}}
    for slot in stages:

        def cost(name: str, at: str = slot.name) -> PartCost:
            whole = costs(Plan.of({at: name}))
            return PartCost(whole.params - costs.bare.params, whole.macs - costs.bare.macs)

        suggestions += _cheapest(
            slot.name, slot.dims, missing[slot.name], cost, costs.bare.macs, each, experience[slot.dims]
        )
    return _answer(Advice(host, tuple(measured), missing, tuple(suggestions), backbone))


def _answer(advice: Advice) -> Advice:
    """Return the advice if it has a suggestion.

    Raises:
        NothingMatched: If it has no suggestion.
    """
    if not advice.suggestions:
        lacks = ", ".join(dict.fromkeys(name for names in advice.missing.values() for name in names))
        raise NothingMatched(
            f"no module adds the properties that {advice.host} lacks: {lacks}"
            if lacks
            else f"{advice.host} lacks no property"
        )
    Space.from_dict(advice.space)  # an invalid space raises an error here, and not only in the search that uses it
    return advice


def _missing(stage: StageFigures) -> tuple[str, ...]:
    """Return the properties that a stage lacks. On a small map only locality and globality are considered."""
    if stage.self_influence is None:  # the stage could not be measured
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
    experience: _Experience,
) -> list[Suggestion]:
    """Return, for each missing property, the `each` modules that add it with the fewest MACs (`_ordered`)."""
    rows = []
    for property in missing:
        fitting = []
        for name, figures in _candidates(dims):
            if not has(figures, property):
                continue
            try:
                added = cost(name)
            except UnsupportedError:  # the module cannot be built for these channels
                continue
            share = None if host_macs is None else added.macs / host_macs
            figure = float(getattr(figures, property))
            figures_of = experience.figures.get(name)
            fitting.append(Suggestion(slot, property, name, figure, added.macs, added.params, share, figures_of))
        rows += _ordered(fitting, experience.expected)[:each]
    return rows


def _ordered(fitting: Sequence[Suggestion], expected: Mapping[str, Expected]) -> list[Suggestion]:
    """Return suggestions by their MACs. Of those within `_NEAR` of the cheapest left, most expected comes first."""
    # The name decides between equal costs, so that the result does not depend on the order of the modules.
    left = sorted(fitting, key=lambda s: (s.macs, s.params, s.module))
    ordered: list[Suggestion] = []
    while left:
        near = [s for s in left if s.macs <= _NEAR * left[0].macs]
        ordered += sorted(near, key=lambda s: -expected[s.module].mean if s.module in expected else 0.0)
        left = left[len(near) :]
    return ordered


def _candidates(dims: int) -> list[tuple[str, Measured]]:
    """Return the modules for `dims` dimensions with their fingerprints. Modules without a record are measured now."""
    candidates = []
    for spec in module_specs(dims=dims, kind="module"):
        if spec.selectable and not spec.name.startswith(_VENDOR):
            figures = recorded(spec.name, dims) or _taken_now(spec.name, dims)
            if figures is not None:
                candidates.append((spec.name, figures))
    return candidates


@cache
def _taken_now(name: str, dims: int) -> Measured | None:
    """Measure a module that has no record. Return None if it cannot be measured."""
    try:
        return Measured.of(fingerprint(name, dims=dims))
    except InputError:
        return None


@cache
def _alone(name: str, dims: int) -> PartCost:
    """Return the cost of a module at the catalogue's default size, as recorded or, without a record, counted now."""
    held = recorded_status(name)
    if held.params is not None and held.macs is not None and dims == max(module_spec(name).dims):
        return PartCost(held.params, held.macs)
    from nasbench.measurement.costs import count

    expression: Expression = parse(name)
    size = CATALOGUE_SIZES[dims]
    with torch.device("meta"):
        module = build(expression, channels=DEFAULT_CHANNELS, dims=dims)
        cost = count(module, torch.empty(1, DEFAULT_CHANNELS, *size))
    return PartCost(sum(p.numel() for p in module.parameters()), cost.macs)
