"""Replace modules of a backbone (`se` blocks, a ViT's attention) by expressions, and restore them."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from nasbench.backbones.hooks import graph_node, to_host
from nasbench.backbones.layout import MapFormat, readings
from nasbench.backbones.tracing import BATCH, Trace, is_data_dependent, meta_copy, trace
from nasbench.errors import PlanError, UnknownNameError, UnsupportedError
from nasbench.library import building, expression

__all__ = ["Replacement", "put_back", "replace_modules"]


class Replacement(nn.Module):
    """An expression that replaces one of the backbone's own modules.

    Args:
        module: The built expression, `(B, C, *S) -> (B, C, *S)`.
        form: Layout of the map that the backbone passes to it.
    """

    def __init__(self, module: nn.Module, form: MapFormat) -> None:
        super().__init__()
        self.module, self.form = module, form

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply the expression to a tensor in the backbone's layout. The result has the same layout.

        Other arguments that the backbone passes (masks, rotary angles) are ignored: the module takes one tensor.
        """
        if isinstance(x, Proxy):
            return graph_node(self, x)
        inner, prefix = self.form.split(x)
        return self.form.join(self.module(inner), prefix).to(x.dtype)


def replace_modules(
    model: nn.Module, swaps: Mapping[str, expression.Expression | str], input_size: Sequence[int]
) -> dict[str, nn.Module]:
    """Replace modules of `model`, in place. Return the original modules by path.

    Args:
        model: The backbone.
        swaps: The modules to replace, each with the expression that replaces it. A key is an attribute's name (`se`), a
            pattern of dotted paths (`layer3.*.se`) or a class name (`SqueezeExcite`). Names and patterns do not match
            `nn.Identity` modules.
        input_size: Size of one input, without the batch dimension.

    Raises:
        UnknownNameError: If nothing matches. The message lists the modules that can be replaced.
        PlanError: If an expression does not support the map of the module that it replaces, or if the backbone does not
            run with it.
    """
    run = _observed(model, input_size)
    image = tuple(input_size[1:]) if len(input_size) == 3 else None
    forms = {path: form for path in run.calls if path and (form := _format(run, path, image))}
    taken: dict[str, nn.Module] = {}
    for key, part in swaps.items():
        # A module no longer exists if an earlier key replaced the module around it.
        matching = [p for p in forms if _matches(key, p, model) and not any(p.startswith(f"{t}.") for t in taken)]
        if not matching:
            there = [p for p in forms if not isinstance(model.get_submodule(p), nn.Identity)]
            known = {p.rpartition(".")[2] for p in there if not p.rpartition(".")[2].isdigit()}
            raise UnknownNameError(
                "module to replace",
                key,
                known,
                "an attribute name, a pattern of paths or a class name; the modules must keep the shape of their input",
            )
        for path in matching:
            taken[path] = model.get_submodule(path)
            replacement = to_host(_build(expression.parse(part), path, forms[path]), model)
            model.set_submodule(path, replacement.train(model.training))
    # A backbone can use more of a module than its output, for example an attribute. A second run shows this.
    try:
        _observed(model, input_size)
    except Exception as error:
        paths = ", ".join([*taken][:3]) + (", ..." if len(taken) > 3 else "")
        raise PlanError(
            f"{type(model).__name__} does not run with {paths} replaced, because it uses more of them than their output"
            f" ({type(error).__name__}: {error})"
        ) from error
    return taken


def _observed(model: nn.Module, input_size: Sequence[int]) -> Trace:
    """Trace a copy of the model on the meta device, or with real weights if the network reads values of tensors."""
    try:
        return trace(meta_copy(model), input_size)
    except Exception as error:
        if not is_data_dependent(error):
            raise
    return trace(copy.deepcopy(model).eval(), input_size)


def put_back(model: nn.Module, taken: Mapping[str, nn.Module]) -> None:
    """Undo `replace_modules`, in place. Restored modules move to the model's device and floating-point type."""
    for path, module in taken.items():
        model.set_submodule(path, to_host(module, model))


def _matches(key: str, path: str, model: nn.Module) -> bool:
    """Return whether a key names the module at `path`.

    Many models have an identity of the same name in the places where the module is absent. So only a class name can
    match an identity.
    """
    module = model.get_submodule(path)
    if key == type(module).__name__:
        return True
    named = key == path.rpartition(".")[2] or fnmatch.fnmatchcase(path, key)
    return named and not isinstance(module, nn.Identity)


def _build(part: expression.Expression, path: str, form: MapFormat) -> Replacement:
    try:
        return Replacement(building.build(part, channels=form.channels, dims=len(form.size)), form)
    except UnsupportedError as error:
        raise PlanError(f"in place of {path} ({form.channels} channels): {error}") from error


def _format(run: Trace, path: str, image: tuple[int, ...] | None) -> MapFormat | None:
    """Return the map layout of a module that keeps the shape of its first input, or None for any other module."""
    # A plug-in keeps the shape of its input. So the replaced module must also keep the shape, in every call.
    for call in run.calls[path]:
        if len(call.outputs) != 1 or call.outputs[0][0] is not None or not call.inputs:
            return None
        shape = run.nodes[call.outputs[0][1]].shape
        if run.nodes[call.inputs[0]].shape != shape:
            return None
    if image is None:
        return MapFormat("NLC", shape[2], (shape[1],)) if len(shape) == 3 else None
    if shape[0] != BATCH:
        image = (1, 1)  # only the aspect ratio matters: windows that are folded into the batch are square
    formats = readings(shape, image, prefix=getattr(run.model, "num_prefix_tokens", None))
    return formats[0] if formats else None
