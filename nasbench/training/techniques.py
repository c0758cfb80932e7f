"""The settings of a recipe that act on the model: memory format, checkpointing, compilation, and rates by depth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from nasbench.backbones.depth import rate_scales
from nasbench.backbones.insertion import host_of, parameter_groups
from nasbench.errors import InputError
from nasbench.tasks import Task
from nasbench.tasks.recipe import Recipe

__all__ = ["applied", "check_model", "check_task", "clip_of", "groups_of"]

_SLOW = 0.1
"""Factor of the learning rate of the parameters that a head declares as slow."""


def check_model(recipe: Recipe, model: nn.Module, device: torch.device | str) -> None:
    """Check that a model and a device support the settings of a recipe. The model does not change.

    Raises:
        InputError: If one is not supported. The message says which.
    """
    if recipe.layer_decay != 1:
        rate_scales(model, recipe.layer_decay)
    if recipe.grad_checkpointing:
        _checkpoint(model, True)
        _checkpoint(model, False)
    if recipe.compile:
        _check_compiler(torch.device(device))


def check_task(recipe: Recipe, task: Task) -> None:
    """Raise `InputError` if a recipe asks for a memory format that the inputs of a task cannot have."""
    if recipe.channels_last and len(task.input_size) != 3:
        raise InputError(f"channels_last is for images, and {task.name} has inputs of size {task.input_size}")


def groups_of(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the parameter groups of a model. Each has the factor of its learning rate as `rate_scale`.

    The factor depends on depth if the recipe has `layer_decay`. It is a tenth for the parameters of a module whose
    names contain one of its `slow_parameters`. The rate of a module that its parent names in `constant_rate` does not
    follow the schedule.
    """
    groups = parameter_groups(model, recipe.weight_decay)
    scales = {} if recipe.layer_decay == 1 else rate_scales(model, recipe.layer_decay)
    for module in model.modules():
        slow = set(getattr(module, "slow_parameters", ()))
        for name, parameter in module.named_parameters() if slow else ():
            if slow & set(name.split(".")):
                scales[id(parameter)] = _SLOW * scales.get(id(parameter), 1.0)
    constant = {
        id(parameter)
        for module in model.modules()
        for name in getattr(module, "constant_rate", ())
        for parameter in module.get_submodule(name).parameters()
    }

    def kind(parameter: nn.Parameter) -> tuple[bool, float]:
        return id(parameter) in constant, scales.get(id(parameter), 1.0)

    return [
        {**group, "params": params, "rate_scale": scale, **({"constant_rate": True} if is_constant else {})}
        for group in groups
        for is_constant, scale in sorted({kind(p) for p in group["params"]})
        if (params := [p for p in group["params"] if kind(p) == (is_constant, scale)])
    ]


def clip_of(model: nn.Module, recipe: Recipe) -> float:
    """Return the largest norm of the gradients: that of the recipe, or else that of a module with `gradient_clip`.

    0 means that gradients are not clipped.
    """
    declared: list[float] = [
        clip for module in model.modules() if (clip := getattr(module, "gradient_clip", None)) is not None
    ]
    return recipe.clip_grad or min(declared, default=0.0)


@contextmanager
def applied(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Let a model run as the recipe says, and as before afterwards. Weights and names do not change."""
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    hooks = []
    if recipe.grad_checkpointing:
        _checkpoint(model, True)
        hooks = [] if recipe.compile else _keep_statistics(model)  # a compiled graph does not run Python again
    if recipe.compile:
        model.compile()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model._compiled_call_impl = None  # the opposite of `compile`, for which torch has no function
        if recipe.grad_checkpointing:
            _checkpoint(model, False)
        if recipe.channels_last:
            model.to(memory_format=torch.contiguous_format)


def _checkpoint(model: nn.Module, enable: bool) -> None:
    """Turn timm's gradient checkpointing on or off."""
    host = host_of(model)
    switch, name = getattr(host, "set_grad_checkpointing", None), type(host).__name__
    if not callable(switch):
        raise InputError(f"grad_checkpointing: {name} has no set_grad_checkpointing(); leave the setting out")
    try:
        switch(enable)
    except (AssertionError, NotImplementedError) as error:  # some models of timm have the method, but not the feature
        raise InputError(f"grad_checkpointing: {name} does not support it ({error}); leave the setting out") from None


def _keep_statistics(model: nn.Module) -> list[RemovableHandle]:
    """Let the running statistics of batch norms stay as they are when activations are computed again.

    Without that, each training step would update them twice, with the same batch.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [norm.register_forward_pre_hook(_stop_updates) for norm in norms]
    return [*before, *(norm.register_forward_hook(_resume_updates, always_call=True) for norm in norms)]


def _stop_updates(norm: nn.Module, inputs: Any) -> None:
    if torch._C._current_graph_task_id() == -1:  # no backward pass is in progress, so this is no recomputation
        return
    # A momentum of 0 keeps the statistics. Checkpointing compares the saved tensors of both passes, so the statistics
    # must be given to the kernel as in the first pass.
    norm.momentum_before = norm.momentum
    norm.momentum = 0.0  # type: ignore[assignment]


def _resume_updates(norm: nn.Module, inputs: Any, outputs: Any) -> None:
    if "momentum_before" not in norm.__dict__:
        return
    norm.momentum = norm.__dict__.pop("momentum_before")
    if norm.training and isinstance(norm.num_batches_tracked, torch.Tensor):
        norm.num_batches_tracked.sub_(1)


def _check_compiler(device: torch.device) -> None:
    """Compile a sum. So a missing compiler is told once before training, and not in every trial."""
    try:
        torch.compile(torch.add)(torch.zeros(2, device=device), 1)
    except Exception as error:  # each backend of torch.compile has exceptions of its own
        raise InputError(f"compile: torch.compile does not work on {device}: {str(error).splitlines()[0]}") from None
