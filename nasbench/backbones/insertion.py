"""Plan + backbone -> model: insertion that changes nothing at first, and the way back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from nasbench.backbones import Slot, create_backbone, default_input_size, slots
from nasbench.backbones.hooks import CHILD, Plugin, Plugins, attach, strip, to_host
from nasbench.backbones.pyramid import PyramidClassifier, create_pyramid
from nasbench.backbones.replacement import Replacement, put_back, replace_modules
from nasbench.errors import InputError, PlanError, UnsupportedError
from nasbench.library import building, expression
from nasbench.library.plan import Plan

__all__ = [
    "bare_state_dict", "freeze_backbone", "frozen_norms", "insert", "parameter_groups", "plan_of", "plugins_of",
    "remove", "slots_of",
]  # fmt: skip

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)

PlanLike = Plan | Mapping[str, Any] | expression.Expression | str | None


def insert(
    backbone: str | nn.Module,
    plan: PlanLike,
    *,
    input_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    horizon: int | None = None,
    identity_init: bool = True,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    neck: str | None = None,
    replace: Mapping[str, expression.Expression | str] | None = None,
) -> nn.Module:
    """Build a backbone with a plan in it.

    Args:
        backbone: A timm name, a stem, `FILE.py:function`, or a module, of which a copy is taken; what is put into it
            goes to its device and floating type.
        plan: Slot to expression, or one expression for every stage slot.
        input_size: Without the batch; the backbone's default if None.
        num_classes: As `create_backbone`; only with a name.
        horizon: As `create_backbone`; only with a name.
        identity_init: The model starts as the bare backbone, bit for bit: `x + g·(f(x) − x)` with g = 0. A module
            that starts as an identity by its own definition gets no second gate. False gives `f(x)`.
        pretrained: Load timm's weights; only with a name.
        checkpoint: A file of the bare backbone's weights; only with a name.
        neck: A neck of the library: the model becomes features of the backbone -> neck -> pooled, fused classifier,
            and the bare backbone is timm's `features_only` one. Only with a timm name.
        replace: What the backbone has already, to an expression in its place: an attribute's name (`{"se": "eca"}`),
            a pattern of paths or a class name. Replaced modules start anew; `identity_init` is not for them.

    The model trains under DistributedDataParallel, not under nn.DataParallel: the replicas of that would share what was
    inserted.

    Raises:
        UnknownNameError: If a backbone, slot, module, or a module to replace does not exist.
        PlanError: If a module cannot serve its slot.
        BackboneError: If the backbone refuses the input size.

    Example:
        >>> model = insert("resnet18", {"stage3": "eca"}, num_classes=10)
        >>> sorted(k for k in model.state_dict() if k.startswith("nasbench"))
        ['nasbench.stage3.gate', 'nasbench.stage3.module.conv.weight']
    """
    size = tuple(input_size) if input_size is not None else default_input_size(backbone)
    given = {"num_classes": num_classes, "horizon": horizon, "checkpoint": checkpoint}
    if not isinstance(backbone, str):
        _refuse_for_modules({**given, "pretrained": pretrained or None, "neck": neck})
        if _record(backbone):
            raise PlanError("this model has a plan in it already; nasbench.remove takes it out")
        return _insert_into(copy.deepcopy(backbone), backbone, plan, size, identity_init, replace)
    if neck is not None:
        if size is None:
            raise InputError(f"{backbone} does not say its input size; with neck=, give input_size=")
        weights = {"pretrained": pretrained, "checkpoint": checkpoint}
        whole = create_pyramid(backbone, neck, input_size=size, num_classes=num_classes, **weights)  # type: ignore[arg-type]
        _insert_into(whole.backbone, whole.backbone, plan, size, identity_init, replace)
        return whole
    model = create_backbone(backbone, input_size=input_size, pretrained=pretrained, **given)  # type: ignore[arg-type]
    return _insert_into(model, backbone, plan, size or default_input_size(model), identity_init, replace)


def _insert_into(
    model: nn.Module,
    host: str | nn.Module,
    plan: PlanLike,
    size: tuple[int, ...] | None,
    identity_init: bool,
    replace: Mapping[str, expression.Expression | str] | None,
) -> nn.Module:
    """Put a plan into `model`, in place; `host` is what its slots are looked up by."""
    places = slots(host, size)
    plan = Plan.of(plan).resolve([slot.name for slot in places])
    plugins = {slot.name: _plugin(plan[slot.name], slot, identity_init) for slot in places if slot.name in plan}
    taken = replace_modules(model, replace, size) if replace and size else {}
    for slot in places:
        if slot.name in plugins:
            attach(model, slot.module, plugins[slot.name], slot.index)
    record = {"plan": plan, "identity_init": identity_init, "slots": tuple(places), "taken": taken}
    model.add_module(CHILD, to_host(Plugins(plugins, record), model).train(model.training))
    return model


def _refuse_for_modules(given: Mapping[str, object]) -> None:
    told = [name for name, value in given.items() if value is not None]
    if told:
        raise InputError(f"{', '.join(told)}: only for a backbone given by name; this one is a module")


def _plugin(part: expression.Expression, slot: Slot, identity_init: bool) -> Plugin:
    try:
        module = building.build(part, channels=slot.channels, dims=slot.dims, rowwise=slot.rows_are_series)
    except UnsupportedError as error:
        place = f"{slot.channels} channels, {'x'.join(map(str, slot.size))}, {slot.layout}"
        raise PlanError(f"slot {slot.name} ({place}): {error}") from error
    return Plugin(module, slot.format, gated=identity_init and not part.starts_as_identity)


def _host(model: nn.Module) -> nn.Module:
    """Return the module that `insert` put its plan into.

    It is inside what `torch.compile` and DistributedDataParallel put around a model, and is the backbone of a pyramid.
    """
    inside = model.module if isinstance(model, _WRAPPERS) else getattr(model, "_orig_mod", None)
    if isinstance(inside, nn.Module):
        return _host(inside)
    return model.backbone if isinstance(model, PyramidClassifier) else model


def _record(model: nn.Module) -> dict[str, Any]:
    """Return what `insert` noted down in a model; {} for a bare one."""
    plugins = getattr(_host(model), CHILD, None)
    return plugins.record if isinstance(plugins, Plugins) else {}


def plan_of(model: nn.Module) -> Plan:
    """Return the plan that is in `model`; the empty one for a bare backbone."""
    return _record(model).get("plan", Plan.of(None))


def plugins_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a plan put into `model`, by slot; {} for a bare backbone."""
    held = getattr(_host(model), CHILD, None)
    return {slot: held.at(slot).module for slot in plan_of(model)} if isinstance(held, Plugins) else {}


def slots_of(model: nn.Module) -> tuple[Slot, ...]:
    """Return the slots of the backbone inside `model`, as `insert` found them; () for a bare backbone."""
    return _record(model).get("slots", ())


def remove(model: nn.Module) -> nn.Module:
    """Return a copy of `model` without its plan: the bare backbone with the weights it has now.

    What `replace=` swapped comes back as it was. Of a model with a neck, the bare backbone is its features. A backbone
    without a plan is returned as a copy.
    """
    bare = copy.deepcopy(_host(model))
    put_back(bare, _record(bare).get("taken", {}))
    return strip(bare)


def bare_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the backbone alone; they load strictly into the bare backbone."""
    host = _host(model)
    taken: dict[str, nn.Module] = _record(model).get("taken", {})
    away = tuple(f"{path}." for path in (CHILD, *taken))
    state = {key: value for key, value in host.state_dict().items() if not key.startswith(away)}
    for path, module in taken.items():
        state.update({f"{path}.{key}": value for key, value in module.state_dict().items()})
    return state


def freeze_backbone(model: nn.Module) -> nn.Module:
    """Stop the training of everything but plug-ins, neck and classifier, in place; return the model.

    The backbone's batch norms keep their running statistics too: in training they are to be in eval mode, see
    `frozen_norms`.
    """
    trained = [m for m in model.modules() if isinstance(m, (Plugin, Replacement))] + _heads(model)
    kept = {id(parameter) for module in trained for parameter in module.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in kept)
    return model


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Return the norms with running statistics where nothing trains; `model.train()` would let them drift."""
    return [
        module
        for path, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None and not _trains(model, path)
    ]


def _trains(model: nn.Module, path: str) -> bool:
    """Whether a parameter trains in the module at `path`, or, where it has none, in the smallest one around it."""
    while path and not any(True for _ in model.get_submodule(path).parameters()):
        path = path.rpartition(".")[0]
    return any(parameter.requires_grad for parameter in model.get_submodule(path).parameters())


def _heads(model: nn.Module) -> list[nn.Module]:
    """Return the classifiers that timm's models name, and a pyramid's neck."""
    classifier = getattr(model, "get_classifier", None)
    found = classifier() if callable(classifier) else None
    heads = list(found) if isinstance(found, (tuple, list)) else [found]
    if isinstance(model, PyramidClassifier):
        heads.append(model.neck)
    return [head for head in heads if isinstance(head, nn.Module)]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: what decays; what does not; the gates in a group of their own.

    Norms and biases do not decay, nor what the backbone's own `no_weight_decay()` names (timm: position embeddings,
    class tokens).

    Args:
        model: Any model; parameters that are frozen are left out.
        weight_decay: Weight decay of the first group; the other two have none.
    """
    gates = {id(m.gate) for m in model.modules() if isinstance(m, Plugin) and m.gate is not None}
    spared = [
        f"{prefix}.{pattern}" if prefix else pattern
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for pattern in module.no_weight_decay()
    ]
    groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": [], "gates": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not any(fnmatchcase(name, pattern) for pattern in spared)
            groups["gates" if id(parameter) in gates else "decay" if decays else "no_decay"].append(parameter)
    return [
        {"name": name, "params": params, "weight_decay": weight_decay if name == "decay" else 0.0}
        for name, params in groups.items()
        if params
    ]
