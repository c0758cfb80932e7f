"""Hosts of dense tasks: the stages of a backbone -> neck -> levels. A task puts a head on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from nasbench.backbones.discovery import Slot, slots
from nasbench.backbones.features import COARSEST, Features, pyramid_of
from nasbench.backbones.hooks import strip
from nasbench.backbones.names import is_timm
from nasbench.backbones.tracing import BATCH, Trace, meta_copy, trace
from nasbench.errors import PlanError, UnsupportedError
from nasbench.library import building
from nasbench.library.expression import NONE, Expression
from nasbench.library.heads import levels_read
from nasbench.library.plan import BARE, NECK, Plan, is_stage_slot
from nasbench.library.surroundings import surroundings_kept
from nasbench.ops.headed import PyramidHost
from nasbench.ops.pyramid import SimplePyramid

__all__ = ["LEVEL", "DenseHost", "create_dense", "put_neck", "slots_with_necks", "with_neck"]

LEVEL = "level"
"""The slots after the levels are named `level1`, `level2` and so on, fine to coarse."""

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
        head: The head that will end the model, as an expression. It decides which slots reach the output. None if it is
            not known: every level then counts as output.
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
        head: str | None = None,
    ) -> None:
        super().__init__(features.model, pyramid, neck, levels=len(strides), channels_last=features.channels_last)
        self.strides, self.pyramid_channels, self.head = tuple(strides), tuple(channels), head
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

    def find_slots(self, input_size: Sequence[int], plan: Plan = BARE) -> list[Slot]:
        """Return the slots of the backbone's stages, then `neck`, then `levelK`, fine to coarse.

        A slot is left out if nothing in it reaches the output with the neck that the host has.

        Args:
            input_size: `(3, H, W)`.
            plan: The plan for which the slots are. The host already has its neck.

        Raises:
            PlanError: If the plan names a slot that is left out. The message names slot, neck and head.
        """
        places = self.places(input_size)
        dead = [slot.name for slot, reaches in places.items() if slot.name in plan and not reaches]
        if dead:
            own = "no neck" if isinstance(self.neck, nn.Identity) else "the neck of the host"
            there = f"neck {plan.neck}" if NECK in plan else own
            raise PlanError(
                f"slot {dead[0]}: with {there}, nothing in this slot reaches the head {self.head}; the slots that do "
                f"are {', '.join(slot.name for slot, reaches in places.items() if reaches)}"
            )
        return [slot for slot, reaches in places.items() if reaches]

    def idle_note(self, input_size: Sequence[int]) -> str:
        """Return a sentence that names the stages that run but do not reach the head. "" if every stage reaches it."""
        idle = [s.name for s, reaches in self.places(input_size).items() if is_stage_slot(s.name) and not reaches]
        if not idle:
            return ""
        neck = "without a neck" if isinstance(self.neck, nn.Identity) else "with this neck"
        return (
            f"{', '.join(idle)}: these stages are run, and counted in the costs, but {neck} they do not reach the head "
            f"{self.head}; a neck such as fpn, or another head, uses them"
        )

    def places(self, input_size: Sequence[int]) -> dict[Slot, bool]:
        """Return all slots, each with whether the output depends on it with the neck that the host has."""
        inner = slots(self.backbone, input_size)
        entry = inner[0].entry if inner else ""
        found = [replace(s, module=f"backbone.{s.module}", entry=f"backbone.{s.entry}".rstrip(".")) for s in inner]
        entry, image = f"backbone.{entry}".rstrip("."), tuple(input_size[1:])
        run = trace(strip(meta_copy(self)), input_size)
        ends = [run.calls[f"levels.{k}"][0].outputs[0][1] for k in range(len(self.strides))]
        shapes = [run.nodes[end].shape for end in ends]
        levels = self.pyramid_channels
        if len(levels) > 1:  # a neck joins levels
            found.append(Slot(NECK, levels[0], shapes[0][2:], "NCHW", NECK, image=image, entry=entry, levels=levels))
        found += [
            Slot(f"{LEVEL}{k}", shape[1], shape[2:], "NCHW", f"levels.{k - 1}", image=image, entry=entry)
            for k, shape in enumerate(shapes, start=1)
        ]
        read: Sequence[int] = range(len(ends))
        if self.head is not None:
            read = levels_read(self.head, tuple(shapes), self.strides, (BATCH, *input_size))
        useful = run.last_uses([0], [ends[number] for number in read])
        # Without a neck, the node of a level is that of a backbone's map, on which other levels can depend too. So a
        # level counts only if the head itself reads it.
        live = {NECK, *(f"{LEVEL}{number + 1}" for number in read)}
        in_backbone = {slot.name for slot in found[: len(inner)] if _node(run, slot) in useful}
        return {slot: slot.name in live | in_backbone for slot in found}


def create_dense(
    backbone: str,
    neck: Expression | str = "none",
    *,
    input_size: Sequence[int],
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    drop_path: float = 0.0,
    head: str | None = None,
) -> DenseHost:
    """Build a dense host.

    Its levels are the backbone's maps of stride 4 to 32 (8 to 32 if the shorter side of the image is below 128 pixels).
    A backbone of one stride, such as ViT, gets a simple feature pyramid. A network that is no timm model returns one
    map, which is the only level.

    Args:
        backbone: A timm name, or another network that returns one map.
        neck: A neck of the library, as an expression, or "none".
        input_size: `(3, H, W)`.
        pretrained: Whether to load timm's pretrained weights.
        checkpoint: A file of the bare backbone's weights, as in `create_backbone`.
        drop_path: Highest rate of stochastic depth in the backbone.
        head: The head that will end the model, as in `DenseHost`. It is not put on the host.

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
    if len(strides) == 1 and is_timm(backbone):
        (own,) = strides
        octaves = {own >> k if k > 0 else own << -k: k for k in (2, 1, 0, -1, -2) if k <= 0 or own % (1 << k) == 0}
        strides = tuple(stride for stride in octaves if finest <= stride <= COARSEST)
        pyramid = SimplePyramid(channels[0], [octaves[stride] for stride in strides])
        channels = pyramid.channels
    if len(channels) == 1 and (text := str(neck)) != "none":
        raise PlanError(f"{backbone} has one level, so it takes no neck; leave out {text}")
    built = _neck(neck, tuple(channels))
    return DenseHost(features, pyramid, strides, input_size=input_size, channels=channels, neck=built, head=head)


def _node(run: Trace, slot: Slot) -> int | None:
    """Return the node of the map in a slot."""
    return next((node for index, node in run.calls[slot.module][0].outputs if index == slot.index), None)


def with_neck(host: DenseHost, neck: Expression) -> DenseHost:
    """Return a copy of a dense host on the meta device with another neck, or its own for `none`.

    Raises:
        PlanError: If `neck` is no neck, or does not fit the levels.
    """
    with surroundings_kept(), torch.device("meta"):
        other = cast(DenseHost, meta_copy(host))
        if not neck.is_none:
            put_neck(other, neck)
    return other


def slots_with_necks(host: DenseHost, input_size: Sequence[int], necks: Iterable[Expression]) -> list[Slot]:
    """Return the slots that reach the output with the host's own neck or with one of the given necks.

    A slot that does not reach it with all of them says with which it does, in `necks`. A neck that does not fit the
    levels is left out. The channels of a level are those with the first neck with which the level reaches the output.
    """
    hosts = {NONE.canonical(): host}
    for neck in necks:
        with suppress(PlanError):
            hosts[neck.canonical()] = with_neck(host, neck)
    places = {neck: other.places(input_size) for neck, other in hosts.items()}
    found = []
    for same_slot in zip(*(each.items() for each in places.values()), strict=True):
        live = {neck: slot for neck, (slot, reaches) in zip(places, same_slot, strict=True) if reaches}
        if live:
            slot = next(iter(live.values()))
            found.append(slot if len(live) == len(places) else replace(slot, necks=tuple(live)))
    return found


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
