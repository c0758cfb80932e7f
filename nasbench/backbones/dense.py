"""Hosts of dense tasks: the stages of a backbone -> neck -> levels. A task puts a head on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from nasbench.backbones.discovery import Slot, slots
from nasbench.backbones.features import COARSEST, Features, pyramid_of
from nasbench.backbones.tracing import BATCH, meta_copy
from nasbench.errors import PlanError, UnsupportedError
from nasbench.library import building
from nasbench.library.expression import Expression
from nasbench.ops.headed import PyramidHost
from nasbench.ops.pyramid import SimplePyramid

__all__ = ["FINEST_LEVEL", "NECK", "DenseHost", "create_dense", "put_neck"]

NECK = "neck"
"""Name of the slot for a neck."""

FINEST_LEVEL = "level1"
"""Name of the slot after the finest level of the neck."""

_SMALL_PX = 128  # images whose shorter side is below this get levels from stride 8, otherwise from stride 4


class DenseHost(PyramidHost):
    """A `PyramidHost` that knows its strides, its channels and its slots.

    Args:
        features: A backbone that returns its maps, fine to coarse.
        pyramid: Makes the levels from the maps. `nn.Identity` if each map is a level.
        strides: Stride of each level.
        input_size: `(3, H, W)` for which the host was made.
        channels: Number of channels of each level before the neck.
        neck: From a list of maps to a list of maps of the same sizes. `nn.Identity` for none.
    """

    def __init__(
        self,
        features: Features,
        pyramid: nn.Module,
        strides: Sequence[int],
        *,
        input_size: Sequence[int],
        channels: Sequence[int],
        neck: nn.Module,
    ) -> None:
        super().__init__(features.model, pyramid, neck, levels=len(strides), channels_last=features.channels_last)
        self.strides, self.pyramid_channels = tuple(strides), tuple(channels)
        self.input_size, self.timm_arguments = tuple(input_size), features.arguments
        self.pretrained_cfg = getattr(features.model, "pretrained_cfg", {})

    @property
    def channels(self) -> tuple[int, ...]:
        """Number of channels of each level after the neck."""
        return tuple(shape[1] for shape in self.level_shapes(self.input_size))

    def level_shapes(self, input_size: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the shape of each level after the neck, with a batch dimension."""
        with torch.no_grad(), torch.device("meta"):
            return [tuple(m.shape) for m in meta_copy(self)(torch.zeros(BATCH, *input_size))]

    def find_slots(self, input_size: Sequence[int]) -> list[Slot]:
        """Return the slots of the backbone's stages, then `neck`, then `levelK`, fine to coarse."""
        inner = slots(self.backbone, input_size)
        entry = inner[0].entry if inner else ""
        found = [replace(s, module=f"backbone.{s.module}", entry=f"backbone.{s.entry}".rstrip(".")) for s in inner]
        entry, image = f"backbone.{entry}".rstrip("."), tuple(input_size[1:])
        shapes = self.level_shapes(input_size)
        levels = self.pyramid_channels
        found.append(Slot(NECK, levels[0], shapes[0][2:], "NCHW", NECK, image=image, entry=entry, levels=levels))
        return found + [
            Slot(f"level{k}", shape[1], shape[2:], "NCHW", f"levels.{k - 1}", image=image, entry=entry)
            for k, shape in enumerate(shapes, start=1)
        ]


def create_dense(
    backbone: str,
    neck: Expression | str = "none",
    *,
    input_size: Sequence[int],
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    drop_path: float = 0.0,
) -> DenseHost:
    """Build a dense host.

    Its levels are the backbone's maps of stride 4 to 32 (8 to 32 if the shorter side of the image is below 128 pixels).
    A backbone of one stride, such as ViT, gets a simple feature pyramid.

    Args:
        backbone: A timm name.
        neck: A neck of the library, as an expression, or "none".
        input_size: `(3, H, W)`.
        pretrained: Whether to load timm's pretrained weights.
        checkpoint: A file of the bare backbone's weights, as in `create_backbone`.
        drop_path: Highest rate of stochastic depth in the backbone.

    Raises:
        BackboneError: If the backbone cannot return its maps, or the checkpoint belongs to another network.
        UnknownNameError: If no neck has this name.
        PlanError: If `neck` is no neck, or does not fit the levels.
    """
    finest = 4 if min(input_size[1:]) >= _SMALL_PX else 8
    features = pyramid_of(
        backbone,
        input_size=input_size,
        finest=finest,
        pretrained=pretrained,
        checkpoint=checkpoint,
        dense=True,
        drop_path=drop_path,
    )
    strides, channels = features.strides, [f.channels for f in features.formats]
    pyramid: nn.Module = nn.Identity()
    if len(strides) == 1:
        (own,) = strides
        octaves = {own >> k if k > 0 else own << -k: k for k in (2, 1, 0, -1, -2) if k <= 0 or own % (1 << k) == 0}
        strides = tuple(stride for stride in octaves if finest <= stride <= COARSEST)
        pyramid = SimplePyramid(channels[0], [octaves[stride] for stride in strides])
        channels = pyramid.channels
    built = _neck(neck, tuple(channels))
    return DenseHost(features, pyramid, strides, input_size=input_size, channels=channels, neck=built)


def _neck(neck: Expression | str, channels: tuple[int, ...]) -> nn.Module:
    try:
        return building.build(neck, channels=channels, dims=2)
    except UnsupportedError as error:
        raise PlanError(f"slot {NECK}: {error}") from error


def put_neck(host: DenseHost, neck: Expression | str) -> nn.Module:
    """Put another neck into a dense host, in place. Return the neck that was there.

    Raises:
        PlanError: If `neck` is no neck, or does not fit the levels.
    """
    before = host.neck
    parameter = next(host.parameters())
    host.neck = _neck(neck, host.pyramid_channels).to(parameter.device, parameter.dtype).train(host.training)
    return before
