"""The module library as users see it: list, look up, create."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasbench.errors import InputError, UnknownNameError, UnsupportedError
from nasbench.library import plugins
from nasbench.library.registry import MODULES, ModuleSpec, property_name

if TYPE_CHECKING:
    from torch import nn

__all__ = ["create_module", "list_modules", "module_spec", "module_specs"]


def module_spec(name: str) -> ModuleSpec:
    """Return what the module called `name` declares.

    Raises:
        UnknownNameError: If there is none; offers the nearest names and says which plug-ins were skipped.
    """
    plugins.load_builtin()
    hint = "`nasbench modules` lists all"
    if plugins.problems():
        hint += "; skipped as broken: " + "; ".join(str(p) for p in plugins.problems())
    return MODULES.get(name, hint)


def module_specs(
    pattern: str = "*", *, property: str | None = None, dims: int | None = None, kind: str | None = None
) -> list[ModuleSpec]:
    """Return the specs that `list_modules` names, in the same order."""
    plugins.load_builtin()
    wanted = None if property is None else property_name(property)
    specs = (MODULES.get(name) for name in MODULES)
    return [
        spec
        for spec in specs
        if fnmatch.fnmatchcase(spec.name, pattern)
        and (wanted is None or spec.has(wanted))
        and (dims is None or dims in spec.dims)
        and (kind is None or spec.kind == kind)
    ]


def list_modules(
    pattern: str = "*", *, property: str | None = None, dims: int | None = None, kind: str | None = None
) -> list[str]:
    """List module names, sorted.

    Args:
        pattern: A shell pattern, such as `"*attention*"`.
        property: Only modules that declare it: locality, globality, sparsity, multiscale, or complexity (a cost at
            most linear in the number of positions).
        dims: Only modules that serve maps of 1 or 2 spatial dimensions.
        kind: "module", "fusion" or "neck"; all three by default.

    Raises:
        UnknownNameError: If `property` is none of the five.

    Example:
        >>> import nasbench as nb
        >>> "coord_attention" in nb.list_modules("*attention*", dims=2)
        True
    """
    return [spec.name for spec in module_specs(pattern, property=property, dims=dims, kind=kind)]


def create_module(
    name: str,
    channels: int | Sequence[int],
    *,
    dims: int | None = None,
    inputs: int | None = None,
    **hyper: Any,
) -> nn.Module:
    """Create a module of the library.

    Args:
        name: Its registry name.
        channels: Channels C of the map; for a neck one count a level.
        dims: Spatial dimensions of the map, `(B, C, L)` or `(B, C, H, W)`; 2 where the module serves it.
        inputs: For a fusion, how many maps it joins; 2 by default.
        **hyper: The module's own hyper-parameters.

    Returns:
        An `nn.Module`, `(B, C, *S) -> (B, C, *S)`; a fusion takes `inputs` such maps, a neck a list of maps.

    Raises:
        UnknownNameError: If the name or a hyper-parameter does not exist.
        UnsupportedError: If it cannot serve these channels, dims or values.

    Example:
        >>> import nasbench as nb
        >>> sum(p.numel() for p in nb.create_module("se", channels=64, reduction=16).parameters())
        512
    """
    spec = module_spec(name)
    for key in hyper:
        if key not in spec.hyperparameters:
            raise UnknownNameError(f"hyper-parameter of {name}", key, spec.hyperparameters)
    if dims is None:
        dims = 2 if 2 in spec.dims else spec.dims[0]
    if dims not in spec.dims:
        served = " and ".join(f"{d}-D" for d in spec.dims)
        raise UnsupportedError(f"module {name} serves {served} maps, not {dims}-D ones; {_alternatives(spec, dims)}")
    if inputs is not None and spec.kind != "fusion":
        raise UnsupportedError(f"{name} is a {spec.kind}, it takes no `inputs`; that is for fusions")
    socket: dict[str, Any] = {"dims": dims, "inputs": 2 if inputs is None else inputs}
    passed = {key: value for key, value in socket.items() if key in spec.socket}
    if spec.kind == "fusion" and "inputs" not in spec.socket and socket["inputs"] != 2:
        raise UnsupportedError(f"fusion {name} joins exactly 2 maps, got {inputs}")
    _check_channels(spec, channels)
    try:
        return spec.cls(list(channels) if isinstance(channels, Sequence) else channels, **passed, **hyper)
    except InputError as error:
        raise UnsupportedError(f"module {name}: {error}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in {"channels": channels, **passed, **hyper}.items())
        raise UnsupportedError(f"module {name} cannot be built with {given}: {error}") from error


def _check_channels(spec: ModuleSpec, channels: object) -> None:
    if spec.kind == "neck":
        if not isinstance(channels, Sequence) or len(channels) < 2 or not all(_positive(c) for c in channels):
            raise UnsupportedError(f"neck {spec.name} needs a list of channel counts, fine to coarse; got {channels!r}")
    elif not _positive(channels):
        raise UnsupportedError(f"channels must be a positive whole number, got {channels!r}")


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _alternatives(spec: ModuleSpec, dims: int) -> str:
    other = [s.name for s in module_specs(dims=dims, kind=spec.kind) if set(s.properties) & set(spec.properties)]
    return f"with like properties there are {', '.join(other[:5])}" if other else f"`nasbench modules --dims {dims}`"
