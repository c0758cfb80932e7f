"""The maps of a timm backbone, as a pyramid: one map for each stride."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasbench.backbones.factory import create_backbone, timm_arguments
from nasbench.backbones.layout import MapFormat, readings
from nasbench.backbones.names import is_timm
from nasbench.backbones.tracing import BATCH, meta_copy
from nasbench.errors import BackboneError

__all__ = ["COARSEST", "Features", "pyramid_of"]

COARSEST = 32
"""Largest stride of a level of a dense host."""


@dataclass(frozen=True)
class Features:
    """A network that returns its maps.

    Attributes:
        model: From images `(B, 3, H, W)` to a list of maps, fine to coarse.
        formats: Format of each map at the input size.
        strides: Stride of each map in pixels of the input.
        channels_last: Whether the maps are `(B, H, W, C)`.
        arguments: The arguments with which timm built the network, without those of its weights and its training.
    """

    model: nn.Module
    formats: tuple[MapFormat, ...]
    strides: tuple[int, ...]
    channels_last: bool
    arguments: Mapping[str, Any]


def pyramid_of(
    backbone: str,
    *,
    input_size: Sequence[int],
    finest: int = 4,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    dense: bool = False,
    drop_path: float = 0.0,
) -> Features:
    """Build a backbone that returns, for each stride, its last map.

    Args:
        backbone: A timm name. In a dense host, also a network that returns one map.
        input_size: `(C, H, W)`.
        finest: Smallest stride that is returned. FPN uses no map with a stride below 4.
        pretrained: Whether to load timm's pretrained weights.
        checkpoint: A file of the bare backbone's weights, as in `create_backbone`.
        dense: Whether the host is for a dense task. The backbone then keeps its modules and their names, as in
            classification, and it can have a single stride, as ViT has. Otherwise there are two or more maps.
        drop_path: Highest rate of stochastic depth.

    Raises:
        BackboneError: If the backbone has no such maps, or the checkpoint belongs to another network.
    """
    size = tuple(input_size)
    if not is_timm(backbone):
        if dense:
            given: dict[str, Any] = {"pretrained": pretrained, "checkpoint": checkpoint, "drop_path": drop_path}
            return _only_map(backbone, size, given)
        raise BackboneError(f"a neck needs the features of a timm model, got {backbone}")
    weights: dict[str, Any] = {"pretrained": pretrained}
    if checkpoint is not None:
        # `create_backbone` reads the file, and raises an error if the weights do not fit. timm alone would silently
        # skip those.
        state = create_backbone(backbone, input_size=size, checkpoint=checkpoint).state_dict()
        # With this configuration, timm loads these weights instead of downloading others.
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
    if drop_path:
        weights["drop_path_rate"] = drop_path
    strides, arguments, model = _features(backbone, size, finest, dense, weights)
    # timm keeps the configuration with the model, and the weights in it would be copied with every copy.
    (getattr(model, "pretrained_cfg", None) or {}).pop("state_dict", None)
    shapes = _shapes(model, backbone, input_size)
    first = [found[0] if (found := readings(shape, input_size[1:])) else None for shape in shapes]
    formats = [f for f in first if f is not None]
    # Each level is a map, and no two levels have the same size.
    least = 1 if dense else 2
    if len(formats) < least or len(formats) != len(first) or len({f.size for f in formats}) != len(formats):
        sizes = ", ".join("x".join(map(str, shape[1:])) for shape in shapes)
        raise BackboneError(f"{backbone} has no feature pyramid: its features are {sizes}")
    return Features(model, tuple(formats), strides, formats[0].layout == "NHWC", arguments)


def _only_map(backbone: str, size: tuple[int, ...], given: Mapping[str, Any]) -> Features:
    """Build a backbone that returns one map with channels first, as those for super-resolution do."""
    model = create_backbone(backbone, input_size=size, **given)
    try:
        with torch.no_grad(), torch.device("meta"):
            shape = tuple(meta_copy(model)(torch.zeros(BATCH, *size)).shape)
    except Exception as error:
        raise BackboneError(f"{backbone} does not accept the input size {size}: {error}") from error
    stride = size[1] // shape[2] if len(shape) == 4 and shape[2] else 0
    if not stride or any(side != stride * of_map for side, of_map in zip(size[1:], shape[2:], strict=True)):
        raise BackboneError(
            f"{backbone} gives {shape} for images {(BATCH, *size)}; a dense task needs a timm model, or a network that "
            "gives a map (B, C, H, W) whose sides divide those of the image"
        )
    return Features(model, (MapFormat("NCHW", shape[1], shape[2:]),), (stride,), False, {})


def _features(
    backbone: str, size: tuple[int, ...], finest: int, dense: bool, weights: Mapping[str, Any]
) -> tuple[tuple[int, ...], dict[str, Any], nn.Module]:
    import timm  # imported here, because the import takes seconds, and the forecasting backbones need no timm

    with torch.device("meta"):
        # Only the strides of the features are needed here. On the meta device no weight is allocated.
        levels = _levels(backbone, create_backbone(backbone, input_size=size), finest, dense)
    wanted: dict[str, Any] = {"features_only": True, "out_indices": list(levels.values())}
    # timm's getter keeps the whole model. timm's other feature classes take the model apart, and our search for stages
    # could then mistake its first layers for a stage. So a dense host tries the getter first.
    kinds: list[dict[str, Any]] = [{"feature_cls": "getter"}, {}] if dense else [{}]
    tries = [{**wanted, **given, **kind} for kind in kinds for given in timm_arguments(backbone, size)]
    for given in tries:
        try:
            return tuple(levels), given, timm.create_model(backbone, **weights, **given)
        except TypeError as error:
            if given is tries[-1]:
                raise BackboneError(f"timm cannot return the features of {backbone}: {error}") from error
        except (RuntimeError, ValueError, AssertionError, AttributeError) as error:
            raise BackboneError(f"timm cannot return the features of {backbone}: {error}") from error
    raise AssertionError("unreachable")


def _levels(name: str, model: nn.Module, finest: int, dense: bool) -> dict[int, int]:
    """Return, for each stride from `finest` on, the index of timm's last feature with that stride."""
    info: Any = getattr(model, "feature_info", None) or []
    # A later feature of the same stride overwrites an earlier one.
    largest = COARSEST if dense else math.inf
    last = {int(level["reduction"]): at for at, level in enumerate(info) if finest <= level["reduction"] <= largest}
    if len(last) < (1 if dense else 2):
        strides = ", ".join(dict.fromkeys(str(level["reduction"]) for level in info)) or "unknown"
        raise BackboneError(f"{name} has no feature pyramid: its features have strides {strides}")
    return dict(sorted(last.items()))


def _shapes(model: nn.Module, name: str, size: Sequence[int]) -> list[tuple[int, ...]]:
    try:
        with torch.no_grad(), torch.device("meta"):
            maps = meta_copy(model)(torch.zeros(BATCH, *size))
    except Exception as error:
        raise BackboneError(f"{name} does not accept the input size {tuple(size)}: {error}") from error
    return [tuple(m.shape) for m in maps]
