"""How a plug-in hangs on a backbone: its modules under one child of the root, a hook on each slot's module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.backbones.layout import MapFormat

__all__ = ["CHILD", "Plugin", "Plugins", "SlotHook", "attach", "strip", "to_host"]

CHILD = "nasbench"
"""The one child that insertion adds to a backbone; the backbone's own state-dict keys never change."""


class Plugin(nn.Module):
    """A module in a host's layout, behind a gate that starts closed: `x + g·(f(x) − x)`.

    Args:
        module: `(B, C, *S) -> (B, C, *S)`.
        form: The host's layout.
        gated: Whether there is a gate; without one the plug-in is `f(x)`.
    """

    order: Tensor | None
    back: Tensor | None

    def __init__(self, module: nn.Module, form: MapFormat, *, gated: bool) -> None:
        super().__init__()
        self.module, self.form = module, form
        self.gate = nn.Parameter(torch.zeros(())) if gated else None
        order = torch.tensor(form.order) if form.order is not None else None
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", None if order is None else order.argsort(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The host's layout in and out; memory format and dtype are kept, so that nothing downstream changes."""
        inner, prefix = self.form.split(x, self.order)
        y = self.form.join(self.module(inner), prefix, self.back).to(x.dtype)
        if self.gate is not None:
            y = x + self.gate.to(x.dtype) * (y - x)
        return y.contiguous() if x.is_contiguous() else y


class Plugins(nn.ModuleDict):
    """The plug-ins of a model by slot, and what was asked for.

    Args:
        modules: Plug-ins by slot name.
        record: What `insert` was asked for; kept with the model.
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
        """Identity: a root that runs all its children in turn (`nn.Sequential`) passes through."""
        return x


def _key(slot: str) -> str:
    """Return the name of a slot's child: that of a module has no dot."""
    return slot.replace(".", "_")


class SlotHook:
    """A forward hook that replaces a module's output, or one map of it, by the plug-in's.

    Args:
        plugin: The plug-in; it is owned by the root, here it is only called.
        index: Place of the map in the output, None where the output is the map.
    """

    def __init__(self, plugin: nn.Module, index: int | None) -> None:
        self.plugin, self.index = plugin, index

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Return the output of the slot's module with the plug-in's in its place."""
        if self.index is None:
            return self.plugin(output)
        old = output[self.index]
        new = self.plugin(old)
        items = [new if item is old else item for item in output]  # SelecSLS gives one map twice
        if isinstance(output, list):
            return items
        return type(output)(*items) if hasattr(output, "_fields") else tuple(items)


def attach(model: nn.Module, path: str, plugin: nn.Module, index: int | None) -> None:
    """Hang a plug-in on the module at `path`, after those that hang there already."""
    model.get_submodule(path).register_forward_hook(SlotHook(plugin, index))


def to_host(module: nn.Module, host: nn.Module) -> nn.Module:
    """Bring a module, in place, to the device and the floating type of its host; return it."""
    example = next((p for p in host.parameters() if p.is_floating_point()), None)
    if example is None:
        return module
    # Only where they differ: a cast to a real type would halve complex parameters.
    own = next((p for p in module.parameters() if p.is_floating_point()), example)
    return module.to(example.device) if own.dtype == example.dtype else module.to(example.device, example.dtype)


def strip(model: nn.Module) -> nn.Module:
    """Take every plug-in off `model`, in place, and return it."""
    for module in model.modules():
        hooks = module._forward_hooks
        for key in [k for k, hook in hooks.items() if isinstance(hook, SlotHook)]:
            del hooks[key]
    if isinstance(getattr(model, CHILD, None), Plugins):
        delattr(model, CHILD)
    return model
