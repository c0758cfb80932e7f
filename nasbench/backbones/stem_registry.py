"""The registry of forecasting stems: the hosts that timm does not have."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from nasbench.library.registry import Registry

if TYPE_CHECKING:  # a stem's name is known without torch
    from torch import nn

__all__ = ["STEMS", "load_stems", "register_stem", "stage_slots"]


@cache
def load_stems() -> None:
    """Import every stem that ships with nasbench. Once."""
    from nasbench.backbones import stems

    for found in pkgutil.iter_modules(stems.__path__):
        importlib.import_module(f"{stems.__name__}.{found.name}")


STEMS: Registry[type[nn.Module]] = Registry("stem", load_stems)
"""Classes built by `cls(lookback=, horizon=, series=, **hyper)`: `(B, lookback, series) -> (B, horizon, series)`."""

C = TypeVar("C", bound=type)


def register_stem(name: str) -> Callable[[C], C]:
    """Register a forecasting stem under `name`.

    The class may declare `host_slots() -> dict[slot name, (module path, layout)]`, its slots in network order; the
    layout of `(B, L, C)` is NLC, of `(B, C, L)` NCL, of `(B, series, L, C)` NHWC.

    Raises:
        PluginError: If another class has the name.
    """
    frame = sys._getframe(1)
    origin = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def register(cls: C) -> C:
        STEMS.add(name, cls, origin=origin, identity=f"{frame.f_code.co_filename}:{cls.__qualname__}")
        return cls

    return register


def stage_slots(path: str, count: int, layout: str) -> dict[str, tuple[str, str]]:
    """Return the slots of layers that are a stage of one block each, for `host_slots`.

    Args:
        path: Module path of a layer, with `{}` for its index.
        count: Number of layers.
        layout: Layout of their outputs.

    Example:
        >>> stage_slots("encoder.{}", 1, "NLC")
        {'stage1.block1': ('encoder.0', 'NLC'), 'stage1': ('encoder.0', 'NLC')}
    """
    found = {}
    for index in range(count):
        found[f"stage{index + 1}.block1"] = found[f"stage{index + 1}"] = (path.format(index), layout)
    return found
