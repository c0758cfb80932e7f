"""Attach plug-ins to a backbone: one child of the root contains the modules, and forward hooks on slots call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.backbones.layout import MapFormat

__all__ = ["CHILD", "Plugin", "Plugins", "SlotHook", "attach", "strip", "to_host"]

CHILD = "nasbench"
"""Name of the only child that insertion adds to a backbone. The backbone's own state-dict keys never change."""


class Plugin(nn.Module):
    """A module that runs on a map in the backbone's layout, behind a gate g that starts at 0: `x + g·(f(x) − x)`.

    Args:
        module: The module f, `(B, C, *S) -> (B, C, *S)`.
        form: The layout of the map in the backbone.
        gated: Whether there is a gate. Without a gate the plug-in computes `f(x)`.
    """

    order: Tensor | None
    back: Tensor | None

    def __init__(self, module: nn.Module, form: MapFormat, *, gated: bool) -> None:
        super().__init__()
        self.module, self.form = module, form
        self.gate = nn.Parameter(torch.zeros(())) if gated else None
        # `order` and `back` are buffers, so that they move with the model. They are not in the state dict, because they
        # depend only on the backbone.
        order = torch.tensor(form.order) if form.order is not None else None
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", None if order is None else order.argsort(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the plug-in to a tensor in the backbone's layout. The result has the same memory format and dtype."""
        inner, prefix = self.form.split(x, self.order)
        y = self.form.join(self.module(inner), prefix, self.back).to(x.dtype)
        if self.gate is not None:
            y = x + self.gate.to(x.dtype) * (y - x)
        return y.contiguous() if x.is_contiguous() else y


class Plugins(nn.ModuleDict):
    """The plug-ins of a model by slot, and the record of `insert`.

    Args:
        modules: Plug-ins by slot name.
        record: What `insert` inserted, and where. The record stays with the model.
    """

    def __init__(self, modules: Mapping[str, nn.Module], record: Mapping[str, Any]) -> None:
        super().__init__({_key(slot): module for slot, module in modules.items()})
        self.record = dict(record)

    def at(self, slot: str) -> Plugin:
        """Return the plug-in of a slot."""
        plugin = self[_key(slot)]
        assert isinstance(plugin, Plugin)
        return plugin

    def forward(self, x: Any) -> Any:
        """Return the input unchanged. A root that runs all its children in turn (`nn.Sequential`) needs this."""
        return x


def _key(slot: str) -> str:
    """Return the child name of a slot. PyTorch allows no dot in the name of a child."""
    return slot.replace(".", "_")


class SlotHook:
    """A forward hook that replaces a module's output, or one map in it, by the plug-in's output.

    Args:
        plugin: The plug-in. It belongs to the root, and the hook only calls it.
        index: Index of the map in the tuple that the module returns. None if the module returns the map itself.
    """

    def __init__(self, plugin: nn.Module, index: int | None) -> None:
        self.plugin, self.index = plugin, index

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Return the output of the slot's module, with the map in it replaced by the plug-in's output."""
        if self.index is None:
            return self.plugin(output)
        old = output[self.index]
        new = self.plugin(old)
        # The output of SelecSLS contains the same map twice, and both must be replaced.
        items = [new if item is old else item for item in output]
        if isinstance(output, list):
            return items
        # A named tuple is built from its fields as arguments.
        return type(output)(*items) if hasattr(output, "_fields") else tuple(items)


def attach(model: nn.Module, path: str, plugin: nn.Module, index: int | None) -> None:
    """Attach a plug-in to the module at `path`. It runs after all plug-ins that are already there."""
    model.get_submodule(path).register_forward_hook(SlotHook(plugin, index))


def to_host(module: nn.Module, host: nn.Module) -> nn.Module:
    """Move a module, in place, to the device and the floating-point type of its backbone. Return the module."""
    example = next((p for p in host.parameters() if p.is_floating_point()), None)
    if example is None:
        return module
    # Cast only if the types differ, because a cast to a real type would drop the imaginary part of complex parameters.
    own = next((p for p in module.parameters() if p.is_floating_point()), example)
    return module.to(example.device) if own.dtype == example.dtype else module.to(example.device, example.dtype)


def strip(model: nn.Module) -> nn.Module:
    """Remove every plug-in from `model`, in place. Return the model."""
    for module in model.modules():
        # torch removes a hook by its handle, but a copied model has no handles. The user's own hooks must stay.
        hooks = module._forward_hooks
        for key in [k for k, hook in hooks.items() if isinstance(hook, SlotHook)]:
            del hooks[key]
    if isinstance(getattr(model, CHILD, None), Plugins):
        delattr(model, CHILD)
    return model
