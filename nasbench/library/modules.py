"""The module library as users see it: list, look up and create modules."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nasbench.errors import InputError, UnknownNameError, UnsupportedError
from nasbench.library import plugins
from nasbench.library.faults import said
from nasbench.library.hyperparameters import whole
from nasbench.library.registry import MODULES, ModuleSpec, property_name

if TYPE_CHECKING:
    from torch import nn

    from nasbench.ops.pretext import Pretext

__all__ = ["APART", "create_head", "create_module", "create_pretext", "list_modules", "module_spec", "module_specs"]

APART = ("head", "pretext")
"""Kinds of modules that do not go into a network, so that lists name them only on request."""


def module_spec(name: str, kind: str | None = None) -> ModuleSpec:
    """Return the declaration of the module called `name`, of any kind.

    Args:
        name: The name.
        kind: The kind that is wanted, as in `list_modules`. If no module has the name, the message suggests only names
            of this kind.

    Raises:
        UnknownNameError: If no module has the name. The message suggests the nearest names and lists the plug-in files
            that were skipped because they are broken.
    """
    plugins.load_builtin()
    hint = "`nasbench modules` lists all"
    if plugins.problems():
        hint += "; skipped: " + "; ".join(str(p) for p in plugins.problems())
    if name not in MODULES and (known := _named_by_class(name)) is not None:
        hint = f"it is called {known!r} here; {hint}"
    return MODULES.get(name, hint, None if name in MODULES else list_modules(kind=kind))


def _named_by_class(name: str) -> str | None:
    """Return the name of the module whose class is called `name` ("Squeeze-Excitation"), or None."""
    wanted = _letters(name)
    classes = ((registered, MODULES.get(registered).home.partition(":")[2]) for registered in MODULES)
    return next((registered for registered, cls in classes if _letters(cls) == wanted), None)


def _letters(name: str) -> str:
    """Return a name in lower case, without blanks, hyphens and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


def module_specs(
    pattern: str = "*", *, property: str | None = None, dims: int | None = None, kind: str | None = None
) -> list[ModuleSpec]:
    """Return the specs of the modules that `list_modules` names, in the same order."""
    plugins.load_builtin()
    wanted = None if property is None else property_name(property)
    specs = (MODULES.get(name) for name in MODULES)
    return [
        spec
        for spec in specs
        if fnmatch.fnmatchcase(spec.name, pattern)
        and (wanted is None or spec.has(wanted))
        and (dims is None or dims in spec.dims)
        and (spec.kind not in APART if kind is None else spec.kind == kind)
    ]


def list_modules(
    pattern: str = "*", *, property: str | None = None, dims: int | None = None, kind: str | None = None
) -> list[str]:
    """List the names of modules, sorted.

    Args:
        pattern: A shell pattern ("*attention*").
        property: List only modules that declare this property: locality, globality, sparsity, multiscale, or
            complexity (a cost at most linear in the number of positions).
        dims: List only modules for maps with this number of spatial dimensions, 1 or 2.
        kind: "module", "fusion", "neck", "head" or "pretext". None means the first three, which go into networks. A
            head ends one, and a pretext trains one.

    Raises:
        UnknownNameError: If `property` is not one of the five.

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
        name: The module's registry name.
        channels: Number of channels C of the map. A neck takes a list with one count per level, fine to coarse.
        dims: Number of spatial dimensions: 1 for sequences `(B, C, L)` of length L, 2 for maps `(B, C, H, W)`. The
            default is 2 if the module supports it, and otherwise 1.
        inputs: For a fusion, the number of maps that it joins. The default is 2.
        **hyper: The module's own hyper-parameters.

    Returns:
        An `nn.Module`, `(B, C, *S) -> (B, C, *S)`. A fusion takes `inputs` such maps, and a neck takes a list of maps.

    Raises:
        UnknownNameError: If the name or a hyper-parameter does not exist.
        UnsupportedError: If the module does not support these channels, dims or values, or if it is a head or a
            pretext, for which there are `create_head` and `create_pretext`.

    Example:
        >>> import nasbench as nb
        >>> sum(p.numel() for p in nb.create_module("se", channels=64, reduction=16).parameters())
        512
    """
    spec = module_spec(name)
    if spec.kind == "head":
        raise UnsupportedError(f"{name} is a head, which ends a network; `create_head` builds it for a task")
    if spec.kind == "pretext":
        raise UnsupportedError(f"{name} is a pretext, which trains a network; `create_pretext` builds it for a host")
    hyper = _checked_hyper(spec, hyper)
    if dims is None:
        dims = 2 if 2 in spec.dims else spec.dims[0]
    if whole(dims) not in spec.dims:
        served = " and ".join(f"{d}-D" for d in spec.dims)
        raise UnsupportedError(f"module {name} serves {served} maps, not {dims}-D ones; {_alternatives(spec, dims)}")
    if inputs is not None and spec.kind != "fusion":
        raise UnsupportedError(f"{name} is a {spec.kind} and takes no `inputs`, which only fusions have")
    joined = 2 if inputs is None else whole(inputs)
    if joined is None:
        raise UnsupportedError(f"inputs must be a whole number, got {inputs!r}")
    socket: dict[str, Any] = {"dims": whole(dims), "inputs": joined}
    # A module that computes the same in one and in two dimensions can have a constructor without `dims`.
    passed = {key: value for key, value in socket.items() if key in spec.socket}
    if spec.kind == "fusion" and "inputs" not in spec.socket and socket["inputs"] != 2:
        raise UnsupportedError(f"fusion {name} joins exactly 2 maps, got {inputs}")
    return _build(spec, _checked_channels(spec, channels), {**passed, **hyper})


def create_head(
    name: str,
    channels: Sequence[int],
    *,
    strides: Sequence[int],
    num_classes: int | None = None,
    scale: int | None = None,
    **hyper: Any,
) -> nn.Module:
    """Create a head of the library.

    Args:
        name: The head's registry name.
        channels: Number of channels of each level, fine to coarse.
        strides: Stride of each level in pixels of the input, fine to coarse.
        num_classes: Number of classes of the task. In detection the background is none of them. None if the task has no
            classes.
        scale: Factor by which super-resolution enlarges an image. None for other tasks.
        **hyper: The head's own hyper-parameters.

    Returns:
        An `nn.Module` with the methods `loss` and `decode`.

    Raises:
        UnknownNameError: If the name or a hyper-parameter does not exist.
        UnsupportedError: If it is not a head, or does not support these levels or values.

    Example:
        >>> from nasbench.library.modules import create_head
        >>> head = create_head("fcn", [64, 128], num_classes=5, strides=[4, 8])
    """
    spec = module_spec(name, "head")
    if spec.kind != "head":
        known = ", ".join(list_modules(kind="head"))
        raise UnsupportedError(f"{name} is a {spec.kind}, not a head; the heads are {known}")
    counts = _checked_channels(spec, channels)
    steps = [whole(each) or 0 for each in strides]
    if len(steps) != len(channels) or steps != sorted(set(steps)) or steps[0] < 1:
        raise UnsupportedError(f"head {name} needs one stride a level, fine to coarse; got {list(strides)}")
    told = {"num_classes": num_classes, "scale": scale}
    for key, value in told.items():
        if (key in spec.socket or value is not None) and (whole(value) or 0) < 1:
            raise UnsupportedError(f"{key} must be a positive whole number, got {value!r}")
    socket = {**{key: whole(value) for key, value in told.items()}, "strides": steps}
    passed = {key: value for key, value in socket.items() if key in spec.socket}
    return _build(spec, counts, {**passed, **_checked_hyper(spec, hyper)})


def create_pretext(
    name: str,
    channels: int | Sequence[int],
    *,
    items: int,
    input_size: Sequence[int],
    num_classes: int | None = None,
    **hyper: Any,
) -> Pretext:
    """Create a pretext of the library.

    Args:
        name: The pretext's registry name.
        channels: Width C of the features of the host. A list with one width for each stage if the pretext needs maps.
        items: Number of training items.
        input_size: Size of one input: `(3, H, W)` or `(L, D)`.
        num_classes: Number of classes of the items. None if they have none.
        **hyper: The pretext's own hyper-parameters.

    Returns:
        An `nn.Module` as `nasbench.ops.pretext.Pretext` describes it.

    Raises:
        UnknownNameError: If the name or a hyper-parameter does not exist.
        UnsupportedError: If it is not a pretext, or does not support these values.

    Example:
        >>> from nasbench.library.modules import create_pretext
        >>> create_pretext("simclr", 64, items=360, input_size=(3, 64, 64)).temperature
        0.5
    """
    spec = module_spec(name, "pretext")
    if spec.kind != "pretext":
        known = ", ".join(list_modules(kind="pretext"))
        raise UnsupportedError(f"{name} is a {spec.kind}, not a pretext; the pretexts are {known}")
    socket: dict[str, Any] = {"items": items, "input_size": tuple(input_size), "num_classes": num_classes}
    passed = {key: value for key, value in socket.items() if key in spec.socket}
    built = _build(spec, _checked_channels(spec, channels), {**passed, **_checked_hyper(spec, hyper)})
    return cast("Pretext", built)


def _build(spec: ModuleSpec, channels: int | list[int], passed: dict[str, Any]) -> nn.Module:
    try:
        return spec.cls(channels, **passed)
    except InputError as error:
        raise UnsupportedError(f"{_word(spec)} {spec.name}: {error}") from None
    # Not every plug-in checks its arguments. An error from deep inside torch does not name them, so this message does.
    except (Exception, SystemExit) as error:  # also SystemExit, because user code can call sys.exit
        given = ", ".join(f"{k}={v!r}" for k, v in {"channels": channels, **passed}.items())
        line = Path(plugins.locate(error, Path(spec.origin.rpartition(":")[0]))).name
        raise UnsupportedError(
            f"{_word(spec)} {spec.name} cannot be built with {given} ({line}): {said(error)}"
        ) from error


def _word(spec: ModuleSpec) -> str:
    return spec.kind if spec.kind in APART else "module"


def _checked_hyper(spec: ModuleSpec, hyper: dict[str, Any]) -> dict[str, Any]:
    for key in hyper:
        if key not in spec.hyperparameters:
            raise UnknownNameError(f"hyper-parameter of {spec.name}", key, spec.hyperparameters)
    return {key: _accepted(spec, key, value) for key, value in hyper.items()}


def _accepted(spec: ModuleSpec, key: str, value: object) -> Any:
    try:
        return spec.hyperparameters[key].accept(value)
    except UnsupportedError as error:
        raise UnsupportedError(f"{_word(spec)} {spec.name}: {error}") from None


def _checked_channels(spec: ModuleSpec, channels: object) -> int | list[int]:
    if spec.kind in ("neck", "head") or getattr(spec.cls, "needs", "") == "maps":
        counts = [whole(each) or 0 for each in channels] if isinstance(channels, Sequence) else []
        # a neck joins levels, so that it needs two. A head can end a single map
        if len(counts) < (2 if spec.kind == "neck" else 1) or min(counts) < 1:
            what = f"{spec.kind} {spec.name}"
            raise UnsupportedError(f"{what} needs a list of channel counts, fine to coarse; got {channels!r}")
        return counts
    count = whole(channels)
    if count is None or count < 1:
        raise UnsupportedError(f"channels must be a positive whole number, got {channels!r}")
    return count


def _alternatives(spec: ModuleSpec, dims: int) -> str:
    other = [s.name for s in module_specs(dims=dims, kind=spec.kind) if set(s.properties) & set(spec.properties)]
    if not other:
        return f"`nasbench modules --dims {dims}` lists those that do"
    return f"modules with similar properties: {', '.join(other[:5])}"
