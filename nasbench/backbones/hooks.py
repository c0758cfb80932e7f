"""Attach plug-ins to a backbone: one child of the root contains the modules, and forward hooks on slots call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from nasbench.backbones.layout import MapFormat
from nasbench.errors import InputError
from nasbench.library.faults import BLAMED

__all__ = ["CHILD", "InputHook", "Plugin", "Plugins", "SlotHook", "attach", "graph_node", "strip", "to_host"]

CHILD = "nasbench"
"""Name of the only child that insertion adds to a backbone. The backbone's own state-dict keys never change."""


class InputHook:
    """A forward pre-hook that records the size of the image that is running.

    Tokens have no height and width of their own, so plug-ins on tokens read the size here. One object serves the whole
    backbone.

    Attributes:
        image: `(H, W)` of the last input. None if this was not an image.
        patches: `(H, W)` of the grid of patches, if the last input was already cut into patches (NaFlexViT).
    """

    def __init__(self) -> None:
        self.image: tuple[int, ...] | None = None
        self.patches: tuple[int, ...] | None = None

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Record the size of the first image among the arguments."""
        given = [*args, *kwargs.values()]
        named = next((value for value in given if isinstance(value, dict)), kwargs)
        coordinates = named.get("patch_coord")
        self.image = _image(given)
        self.patches = None if coordinates is None else _patches(coordinates, named.get("patch_valid"))

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # A copy starts without a size. After an export the size is a symbol, which cannot be copied.
        return type(self), ()


def _image(given: Iterable[Any]) -> tuple[int, ...] | None:
    """Return the `(H, W)` of the first image among the arguments of a network, or None if there is no image."""
    image = next((value for value in given if isinstance(value, Tensor) and value.ndim == 4), None)
    return None if image is None else tuple(image.shape[2:])


def _patches(coordinates: Tensor, valid: Tensor | None) -> tuple[int, ...]:
    """Return the grid `(H, W)` that all images of a batch share. The N patches have coordinates `(B, N, 2)`."""
    height, width = (int(side) + 1 for side in coordinates.amax((0, 1)))
    rows = torch.arange(height * width, device=coordinates.device)
    grid = torch.stack([rows // width, rows % width], dim=1)
    whole = coordinates.shape[1] == height * width and bool((coordinates == grid).all())
    if not whole or (valid is not None and not bool(valid.all())):
        raise InputError(
            "modules on tokens need images of one size in a batch, without padding and with patches row by row;"
            " give each size its own batch"
        )
    return height, width


class Plugin(nn.Module):
    """A module that runs on a map in the backbone's layout, behind a gate g that starts at 0: `x + g·(f(x) − x)`.

    Args:
        module: The module f, `(B, C, *S) -> (B, C, *S)`.
        form: The layout of the map in the backbone.
        gated: Whether there is a gate. Without a gate the plug-in computes `f(x)`.
        place: The plan and the slot, for messages about a fault of the module.
    """

    is_plugin = True  # by which `nasbench.library.faults` recognises it without torch
    order: Tensor | None
    back: Tensor | None
    running: InputHook | None = None  # `attach` sets it

    def __init__(self, module: nn.Module, form: MapFormat, *, gated: bool, place: str = "") -> None:
        super().__init__()
        self.module, self.form, self.place = module, form, place
        self.gate = nn.Parameter(torch.zeros(())) if gated else None
        # `order` and `back` are buffers, so that they move with the model. They are not in the state dict, because they
        # depend only on the backbone.
        order = torch.tensor(form.order) if form.order is not None else None
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", None if order is None else order.argsort(), persistent=False)

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        """Apply the plug-in to a tensor in the backbone's layout. The result has the same memory format and dtype.

        Args:
            x: The tensor.
            *given: The arguments of the backbone, from a graph of `torch.fx`, where no hook sees them.
        """
        if isinstance(x, Proxy):
            return graph_node(self, x, *(_graph_inputs(x) if self.form.folded else ()))
        inner, prefix = self.form.split(x, self.order, _image(given) if given else self._image())
        y = self.module(inner)
        # The shapes of a trace are symbols, and comparing them would add nodes or guards to its graph.
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and not _fits(y, inner):
            raise _wrong_result(self.module, inner, y)
        y = self.form.join(y, prefix, self.back).to(x.dtype)
        if self.gate is not None:
            y = x + self.gate.to(x.dtype) * (y - x)
        return y.contiguous() if x.is_contiguous() else y

    def _image(self) -> tuple[int, ...] | None:
        """Return the `(H, W)` of the image that is running, or None if it is not known."""
        if self.running is None:
            return None
        if self.running.patches is None or self.form.image is None:
            return self.running.image
        traced = zip(self.running.patches, self.form.image, self.form.size, strict=True)
        return tuple(-(-count * whole // size) for count, whole, size in traced)


def _fits(y: Any, x: Tensor) -> bool:
    return isinstance(y, Tensor) and y.shape == x.shape


def _wrong_result(module: nn.Module, x: Tensor, y: Any) -> ValueError:
    """Return the error for a module whose result `y` for `x` is no map of the same shape. It blames the part at fault.

    The parts of a series run once more, because each of them could have returned it.
    """
    while isinstance(module, nn.Sequential):
        for part in module:
            if not _fits(result := part(x), x):
                module, y = part, result
                break
            x = result
        else:  # no part does so again
            break
    shape = tuple(y.shape) if isinstance(y, Tensor) else None if y is None else type(y).__name__
    error = ValueError(f"the module returns {shape} for {tuple(x.shape)}, but must keep the shape")
    setattr(error, BLAMED, module)
    return error


def graph_node(module: nn.Module, *args: Any) -> Any:
    """Return a call of `module` as one node of the graph that `torch.fx` traces.

    A module of the library may choose its steps by the sizes of the input, which a trace does not know. A module that
    is one node runs in the graph in the same way as in the model.

    Args:
        module: A module inside the traced network.
        *args: The arguments of the module. The first one is a proxy.
    """
    tracer = args[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), args, {})


def _graph_inputs(x: Proxy) -> list[Proxy]:
    """Return the inputs of the graph to which `x` belongs."""
    return [Proxy(node, x.tracer) for node in x.node.graph.nodes if node.op == "placeholder"]


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
        """Return the module's output, in which the plug-in's output replaces the map."""
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


def attach(model: nn.Module, path: str, plugin: nn.Module, index: int | None, entry: str = "") -> None:
    """Attach a plug-in to the module at `path`. It runs after all plug-ins that are already there.

    If the map is stored as tokens in one dimension, the size of the running input is read at the backbone itself and at
    `entry`, the module that gets the input first.
    """
    model.get_submodule(path).register_forward_hook(SlotHook(plugin, index))
    if isinstance(plugin, Plugin) and plugin.form.folded:
        hooks = (hook for hook in model._forward_pre_hooks.values() if isinstance(hook, InputHook))
        plugin.running = next(hooks, None) or _read_input(model, entry)


def _read_input(model: nn.Module, entry: str) -> InputHook:
    hook, modules = InputHook(), dict(model.named_modules())
    # A replacement (`replace=`) can have taken the place of a module that contained the entry.
    while entry not in modules:
        entry = entry.rpartition(".")[0]
    for module in {model, modules[entry]}:
        module.register_forward_pre_hook(hook, with_kwargs=True)
    return hook


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
        hooks, before = module._forward_hooks, module._forward_pre_hooks
        for key in [k for k, hook in hooks.items() if isinstance(hook, SlotHook)]:
            del hooks[key]
        for key in [k for k, hook in before.items() if isinstance(hook, InputHook)]:
            del before[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)
    if isinstance(getattr(model, CHILD, None), Plugins):
        delattr(model, CHILD)
    return model
