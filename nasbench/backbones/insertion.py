"""Insert a plan into a backbone, and remove it. By default, this changes no output before training."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from nasbench.backbones import Slot, create_backbone, default_input_size, is_stem, slots
from nasbench.backbones.dense import DenseHost, put_neck
from nasbench.backbones.hooks import CHILD, Plugin, Plugins, attach, strip, to_host
from nasbench.backbones.pyramid import create_pyramid
from nasbench.backbones.replacement import Replacement, put_back, replace_modules
from nasbench.errors import InputError, PlanError, UnsupportedError
from nasbench.library import building, expression
from nasbench.library.plan import NECK, Plan
from nasbench.text import clean

__all__ = [
    "bare_state_dict", "freeze_backbone", "frozen_norms", "host_of", "insert", "parameter_groups", "plan_of",
    "plugins_of", "remove", "slots_of",
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
    """Build a backbone with a plan inserted.

    The model can be trained with DistributedDataParallel, but not with nn.DataParallel, because its replicas would
    share the inserted modules.

    Args:
        backbone: A timm name, a built-in forecasting backbone, `FILE.py:function`, or a module. A module is copied, and
            the inserted modules get its device and floating-point type.
        plan: A mapping of slot to expression, or one expression for every stage slot.
        input_size: Size of one input, without the batch dimension. None means the backbone's default.
        num_classes: As in `create_backbone`. Only for a backbone given by name.
        horizon: As in `create_backbone`. Only for a backbone given by name.
        identity_init: Whether the model starts as the bare backbone, bit for bit. If so, a module f is inserted as
            `x + g·(f(x) − x)` with a gate g that starts at 0. A module that starts as an identity by its own definition
            gets no gate. If `identity_init` is False, `f(x)` is inserted without a gate.
        pretrained: Whether to load timm's pretrained weights. Only for a backbone given by name.
        checkpoint: A file of the bare backbone's weights. Only for a backbone given by name.
        neck: A neck of the library. The model is then: features of the backbone -> neck -> pooling -> one classifier
            over all levels. Its bare backbone is timm's `features_only` model. Only for a timm name.
        replace: Modules of the backbone, each with the expression that replaces it. A key is an attribute's name
            (`{"se": "eca"}`), a pattern of paths or a class name. Replacements start with new weights, and
            `identity_init` does not apply to them.

    Raises:
        UnknownNameError: If a backbone, a slot, a module or a module to replace does not exist.
        PlanError: If a module does not support the map in its slot.
        BackboneError: If the backbone does not accept the input size.

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
            raise PlanError("this model already has a plan; nasbench.remove returns the bare backbone")
        return _insert_into(copy.deepcopy(backbone), backbone, plan, size, identity_init, replace)
    if neck is not None:
        if size is None:
            raise InputError(f"the input size of {backbone} is not known; with neck=, give input_size=")
        weights = {"pretrained": pretrained, "checkpoint": checkpoint}
        whole = create_pyramid(backbone, neck, input_size=size, num_classes=num_classes, **weights)  # type: ignore[arg-type]
        _insert_into(whole.backbone, whole.backbone, plan, size, identity_init, replace)
        return whole
    model = create_backbone(backbone, input_size=input_size, pretrained=pretrained, **given)  # type: ignore[arg-type]
    # The slots of a name are those of a forecast. A model that classifies can have other patches.
    host = model if is_stem(backbone) and num_classes is not None else backbone
    return _insert_into(model, host, plan, size or default_input_size(model), identity_init, replace)


def _insert_into(
    model: nn.Module,
    host: str | nn.Module,
    plan: PlanLike,
    size: tuple[int, ...] | None,
    identity_init: bool,
    replace: Mapping[str, expression.Expression | str] | None,
) -> nn.Module:
    """Insert a plan into `model`, in place. `host` is the name or module whose slots are looked up."""
    plan, taken = Plan.of(plan), dict[str, nn.Module]()
    if isinstance(model, DenseHost):
        # The neck comes first: the channels of the levels, and which slots reach the output, depend on it.
        if NECK in plan:
            taken[NECK] = put_neck(model, plan[NECK])
        places = model.find_slots(size or model.input_size, plan)
    else:
        places = slots(host, size)
    plan = plan.resolve([slot.name for slot in places])
    plugins = {
        slot.name: _plugin(plan, slot, identity_init) for slot in places if slot.name in plan and slot.name != NECK
    }
    # Modules are replaced before hooks are attached, because a hook would be lost with its module.
    taken |= replace_modules(model, replace, size) if replace and size else {}
    # `stageK` follows its last block in `places`. Both hook the same module, and the stage's plug-in must run last.
    for slot in places:
        if slot.name in plugins:
            attach(model, slot.module, plugins[slot.name], slot.index, slot.entry)
    record = {"plan": plan, "identity_init": identity_init, "slots": tuple(places), "taken": taken}
    # New modules are in training mode and on the CPU. The backbone can be in another mode or on another device.
    model.add_module(CHILD, to_host(Plugins(plugins, record), model).train(model.training))
    return model


def _refuse_for_modules(given: Mapping[str, object]) -> None:
    refused = [name for name, value in given.items() if value is not None]
    if refused:
        raise InputError(f"{', '.join(refused)}: only for a backbone given by name, but this backbone is a module")


def _plugin(plan: Plan, slot: Slot, identity_init: bool) -> Plugin:
    part, place = plan[slot.name], f"plan {clean(plan.typed, 100)}, slot {slot.name}"
    try:
        module = building.build(part, channels=slot.channels, dims=slot.dims, rowwise=slot.rows_are_series)
    except UnsupportedError as error:
        form = f"{slot.channels} channels, {'x'.join(map(str, slot.size))}, {slot.layout}"
        raise PlanError(f"{place} ({form}): {error}") from error
    return Plugin(module, slot.format, gated=identity_init and not part.starts_as_identity, place=place)


def host_of(model: nn.Module) -> nn.Module:
    """Return the module into which `insert` put its plan.

    `torch.compile` and DistributedDataParallel wrap this module, and so can a head, or what a task attaches. A dense
    host is found without a plan too. Any other model without a plan is its own host.
    """
    inside = model.module if isinstance(model, _WRAPPERS) else getattr(model, "_orig_mod", None)
    if isinstance(inside, nn.Module):
        return host_of(inside)
    hosts = (m for m in model.modules() if isinstance(m, DenseHost) or isinstance(getattr(m, CHILD, None), Plugins))
    return next(hosts, model)


def _record(model: nn.Module) -> dict[str, Any]:
    """Return the record of `insert` in a model, or {} for a bare backbone."""
    plugins = getattr(host_of(model), CHILD, None)
    return plugins.record if isinstance(plugins, Plugins) else {}


def plan_of(model: nn.Module) -> Plan:
    """Return the plan that `model` contains. A bare backbone contains the empty plan."""
    return _record(model).get("plan", Plan.of(None))


def plugins_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a plan inserted into `model`, by slot, or {} for a bare backbone.

    A neck is not among them, because it replaces the neck of its host.
    """
    held = getattr(host_of(model), CHILD, None)
    return {slot: held.at(slot).module for slot in plan_of(model) if slot != NECK} if isinstance(held, Plugins) else {}


def slots_of(model: nn.Module) -> tuple[Slot, ...]:
    """Return the slots that `insert` found in the backbone of `model`, or () for a bare backbone.

    Their modules are paths in `host_of(model)`.
    """
    return _record(model).get("slots", ())


def remove(model: nn.Module) -> nn.Module:
    """Return a copy of `model` without its plan: the bare backbone with its current weights.

    Modules that `replace=` replaced are restored as they were. In a model with a neck, the bare backbone is the part
    that computes the features. If `model` has no plan, the result is a plain copy.
    """
    bare = copy.deepcopy(host_of(model))
    put_back(bare, _record(bare).get("taken", {}))
    return strip(bare)


def bare_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the backbone alone. They load strictly into the bare backbone."""
    host = host_of(model)
    taken: dict[str, nn.Module] = _record(model).get("taken", {})
    # A module that was replaced is not in the model's state dict. It still has the weights that it had when it was
    # replaced.
    away = tuple(f"{path}." for path in (CHILD, *taken))
    state = {key: value for key, value in host.state_dict().items() if not key.startswith(away)}
    for path, module in taken.items():
        state.update({f"{path}.{key}": value for key, value in module.state_dict().items()})
    return state


def freeze_backbone(model: nn.Module) -> nn.Module:
    """Freeze all parameters except those of plug-ins, neck, classifier and head, in place. Return the model.

    What surrounds the host, such as the layers that a task attaches, belongs to the head.

    The running statistics of the frozen batch norms must stay fixed too. So put the norms that `frozen_norms` returns
    into eval mode during training.
    """
    host = host_of(model)
    trained = [m for m in host.modules() if isinstance(m, (Plugin, Replacement))] + _heads(host)
    trained_ids = {id(parameter) for module in trained for parameter in module.parameters()}
    frozen_ids = {id(parameter) for parameter in host.parameters()} - trained_ids
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen_ids)
    return model


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Return the norms that have running statistics but nothing trainable.

    They must be in eval mode during training. In training mode, their statistics would change.
    """
    return [
        module
        for path, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None and not _trains(model, path)
    ]


def _trains(model: nn.Module, path: str) -> bool:
    """Return whether a parameter of the module at `path` is trainable.

    If the module has no parameters, the smallest module that contains it and has parameters is used instead.
    """
    while path and not any(True for _ in model.get_submodule(path).parameters()):
        path = path.rpartition(".")[0]
    return any(parameter.requires_grad for parameter in model.get_submodule(path).parameters())


def _heads(host: nn.Module) -> list[nn.Module]:
    """Return the classifiers that a timm model names, or the parts of a dense host after its backbone."""
    if isinstance(host, DenseHost):
        return [host.pyramid, host.neck]
    classifier = getattr(host, "get_classifier", None)
    classifiers = classifier() if callable(classifier) else None
    # A distilled model has one classifier for each of its tokens.
    heads = list(classifiers) if isinstance(classifiers, (tuple, list)) else [classifiers]
    return [head for head in heads if isinstance(head, nn.Module)]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups for an optimiser: with weight decay, without weight decay, and the gates.

    Norms, biases and the parameters that the backbone lists in `no_weight_decay()` (in timm: position embeddings, class
    tokens) have no weight decay. A group without parameters is left out.

    Args:
        model: Any model. Frozen parameters are left out.
        weight_decay: Weight decay of the first group. The other two groups have none.
    """
    gates = {id(m.gate) for m in model.modules() if isinstance(m, Plugin) and m.gate is not None}
    # The backbone inside a pyramid gives names relative to itself.
    spared = [
        f"{prefix}.{pattern}" if prefix else pattern
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for pattern in module.no_weight_decay()
    ]
    groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": [], "gates": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Norms and biases are vectors. Weights are matrices and kernels.
            decays = parameter.ndim >= 2 and not any(fnmatchcase(name, pattern) for pattern in spared)
            groups["gates" if id(parameter) in gates else "decay" if decays else "no_decay"].append(parameter)
    return [
        {"name": name, "params": params, "weight_decay": weight_decay if name == "decay" else 0.0}
        for name, params in groups.items()
        if params
    ]
