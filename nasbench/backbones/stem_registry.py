"""The registry of the built-in backbones for series, called stems."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from nasbench.library.registry import Registry

if TYPE_CHECKING:  # names can be looked up without torch
    from torch import nn

__all__ = ["STEMS", "load_stems", "register_stem", "stage_slots"]


@cache
def load_stems() -> None:
    """Import every forecasting backbone that ships with nasbench. Later calls do nothing."""
    from nasbench.backbones import stems

    for module in pkgutil.iter_modules(stems.__path__):
        importlib.import_module(f"{stems.__name__}.{module.name}")


STEMS: Registry[type[nn.Module]] = Registry("forecasting backbone", load_stems)
"""The classes by name. `cls(lookback=, horizon=, series=, **hyper)` builds a network with input
`(B, lookback, series)` and output `(B, horizon, series)`. With `num_classes=` and without a horizon, the output is
`(B, num_classes)`. A class for one of the two tasks alone has no argument for the other."""

C = TypeVar("C", bound=type)


def register_stem(name: str) -> Callable[[C], C]:
    """Register a class of forecasting backbones under `name`.

    The class can declare its slots in network order: `host_slots() -> dict[slot name, (module path, layout)]`. For
    tensors with C channels and L steps, `(B, L, C)` has the layout NLC, `(B, C, L)` has NCL, and `(B, series, L, C)`
    has NHWC.

    Raises:
        PluginError: If another class is registered under this name.
    """
    # The place of the call. If a file is loaded again, it registers the same class again, which is not an error.
    frame = sys._getframe(1)
    origin = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def register(cls: C) -> C:
        STEMS.add(name, cls, origin=origin, identity=f"{frame.f_code.co_filename}:{cls.__qualname__}")
        return cls

    return register


def stage_slots(path: str, count: int, layout: str) -> dict[str, tuple[str, str]]:
    """Return `host_slots` for layers, where each layer is a stage with one block.

    Args:
        path: Module path of a layer, with `{}` for its index.
        count: Number of layers.
        layout: Layout of their outputs.

    Example:
        >>> stage_slots("encoder.{}", 1, "NLC")
        {'stage1.block1': ('encoder.0', 'NLC'), 'stage1': ('encoder.0', 'NLC')}
    """
    places = {}
    for index in range(count):
        places[f"stage{index + 1}.block1"] = places[f"stage{index + 1}"] = (path.format(index), layout)
    return places
