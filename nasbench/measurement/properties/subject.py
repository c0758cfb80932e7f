"""Turn a name, an expression, a class or a module into something that can be built, run and fingerprinted."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import InputError, UnsupportedError
from nasbench.library.building import build
from nasbench.library.expression import parse
from nasbench.library.modules import create_module, module_spec
from nasbench.library.registry import MODULES
from nasbench.measurement.costs.shadow import shadow
from nasbench.measurement.properties.plain_norms import PlainNorms

__all__ = ["DEFAULT_SIZES", "OPENED", "Subject", "open_gates", "run", "subject_of"]

DEFAULT_SIZES = {1: (64,), 2: (16, 16)}
"""Default size of a fingerprint, by number of spatial dimensions."""

OPENED = "gates that start at zero were measured at 1"
_TWO_MAPS = "a fusion: influence of two independent maps, added up like channels"
_PYRAMID = "a neck: its input is one map and average-pooled copies of it, its output the finest level"

_LEVELS = 3  # number of levels of the pyramid that a neck gets


@dataclass(frozen=True)
class Subject:
    """A module to fingerprint.

    Attributes:
        name: Name of the module in the fingerprint.
        size: Spatial size of the map that the module gets.
        channels: Number of channels of the map.
        make: Function that returns the module: newly initialised, or a copy of the given module.
        fresh: Whether `make` returns a newly initialised module.
        maps: Number of maps that the module takes, side by side in the channels of its input.
        keeps_channels: Whether the output must have as many channels as the input.
        notes: What a reader of the fingerprint should know.
    """

    name: str
    size: tuple[int, ...]
    channels: int
    make: Callable[[], nn.Module]
    fresh: bool = True
    maps: int = 1
    keeps_channels: bool = True
    notes: tuple[str, ...] = ()


def subject_of(module: str | nn.Module | type, size: Sequence[int] | None, channels: int, dims: int | None) -> Subject:
    """Return the subject for a name, an expression, a class or a module.

    Raises:
        InputError: If `module` is none of these, or if `size`, `channels` or `dims` is impossible.
        UnknownNameError: If an expression names a module that does not exist.
        UnsupportedError: If a module cannot be built for these channels and dims.
    """
    _check_channels(channels)
    if isinstance(module, nn.Module):
        shape = _size(size, dims, 2)
        return Subject(type(module).__name__, shape, channels, lambda: shadow(module, meta=False), fresh=False)
    if isinstance(module, type) and issubclass(module, nn.Module):
        shape = _size(size, dims, 2)
        return Subject(module.__name__, shape, channels, lambda: _of_class(module, channels, len(shape)))
    if not isinstance(module, str):
        kind = module.__name__ if isinstance(module, type) else type(module).__name__
        raise InputError(f"cannot fingerprint {kind}; give a name, an expression, an nn.Module or a class of one")
    return _named(module.strip(), size, channels, dims)


def run(module: nn.Module, x: Tensor, subject: Subject) -> Tensor:
    """Run a subject's module on a map and check that it keeps the shape.

    Raises:
        InputError: If the module fails, returns no tensor, or returns a tensor of another shape.
    """
    given = "x".join(map(str, x.shape[1:]))
    try:
        with PlainNorms():
            y = module(x)
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{subject.name} fails on a map of {given} (channels first): {line}; "
            "choose another map with `channels` and `size`"
        ) from error
    if not isinstance(y, Tensor):
        raise InputError(f"{subject.name} returns {type(y).__name__}, not one tensor; a plug-in maps (B, C, *S) to one")
    wanted = (1, subject.channels if subject.keeps_channels else y.shape[1], *x.shape[2:])
    if y.shape != wanted:
        got = "x".join(map(str, y.shape[1:]))
        raise InputError(f"{subject.name} changes the shape: {given} to {got}; influence needs equal shapes")
    return y


def _named(text: str, size: Sequence[int] | None, channels: int, dims: int | None) -> Subject:
    served: set[int] = {1, 2}
    spec = module_spec(text) if text in MODULES else None
    expression = parse(text) if spec is None or spec.kind == "module" else None
    # An expression supports the dimensions that all its modules support.
    for each in expression.specs() if expression is not None else [spec]:
        served &= set(each.dims) if each is not None else served
    shape = _size(size, dims, 2 if 2 in served or not served else 1)
    count = len(shape)
    if expression is not None:
        return Subject(
            expression.canonical(), shape, channels, lambda: build(expression, channels=channels, dims=count)
        )
    if spec is not None and spec.kind == "fusion":
        return Subject(
            text, shape, channels, lambda: _Joined(create_module(text, channels, dims=count)),
            maps=2, notes=(_TWO_MAPS,),
        )  # fmt: skip
    widths = [channels] * _LEVELS
    return Subject(
        text, shape, channels, lambda: _FinestLevel(create_module(text, widths, dims=count)),
        keeps_channels=False, notes=(_PYRAMID,),
    )  # fmt: skip


class _Joined(nn.Module):
    """A fusion as a function of one tensor. Its channels are those of the first input, then those of the second."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, x: Tensor) -> Tensor:
        return self.fusion(*x.chunk(2, dim=1))


class _FinestLevel(nn.Module):
    """A neck as a function of one map. The neck gets the map and pooled copies of it. Its finest level is returned."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        while len(maps) < _LEVELS:
            maps.append(F.avg_pool2d(maps[-1], 2, ceil_mode=True))
        return self.neck(maps)[0]


def _of_class(cls: type[nn.Module], channels: int, dims: int) -> nn.Module:
    try:
        takes_dims = "dims" in inspect.signature(cls).parameters
        return cls(channels, dims=dims) if takes_dims else cls(channels)
    except Exception as error:
        raise UnsupportedError(
            f"class {cls.__name__} cannot be built from `channels` alone, {cls.__name__}({channels}): {error}; "
            "give the other arguments defaults, or give an instance"
        ) from error


def open_gates(module: nn.Module) -> bool:
    """Set each scalar and vector parameter whose elements are all 0 (γ, layer scale, a norm's weight) to 1.

    Parameters with a single axis longer than 1 count as vectors. Biases stay as they are. Before training, a module
    with a closed gate mixes nothing, so its fingerprint would say nothing about the module.

    Returns:
        Whether any parameter was set.
    """
    closed = [
        parameter
        for name, parameter in module.named_parameters()
        if not name.endswith("bias") and parameter.numel() == max(parameter.shape, default=1) and not parameter.any()
    ]
    with torch.no_grad():
        for parameter in closed:
            parameter.fill_(1)
    return bool(closed)


def _check_channels(channels: object) -> None:
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise InputError(f"channels must be a positive whole number, got {channels!r}")


def _size(size: Sequence[int] | None, dims: int | None, usual: int) -> tuple[int, ...]:
    if size is None:
        if dims not in (None, 1, 2):
            raise InputError(f"dims is 1 or 2, got {dims!r}")
        return DEFAULT_SIZES[dims or usual]
    shape = tuple(size) if isinstance(size, Sequence) else (size,)
    if len(shape) not in (1, 2) or any(not isinstance(s, int) or s < 1 for s in shape) or math.prod(shape) < 2:
        raise InputError(f"size is (L,) or (H, W) with at least 2 positions, got {size!r}")
    if dims is not None and dims != len(shape):
        raise InputError(f"dims={dims} and a size of {len(shape)} numbers, {shape}, contradict each other")
    return shape
