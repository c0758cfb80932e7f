"""The depth of each parameter in a backbone, for learning rates that decay from the head to the stem."""

from __future__ import annotations

from collections.abc import Iterator

from timm.models import group_parameters
from torch import nn

from nasbench.backbones.dense import DenseHost
from nasbench.backbones.hooks import CHILD
from nasbench.backbones.insertion import host_of, plugins_of, slots_of
from nasbench.errors import InputError

__all__ = ["rate_scales"]


class _Bare:
    """A backbone as timm's grouping sees it, without the modules that a plan inserted."""

    def __init__(self, host: nn.Module) -> None:
        self._host = host

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and parameters of the backbone alone."""
        return ((k, v) for k, v in self._host.named_parameters() if not k.startswith(f"{CHILD}."))


def rate_scales(model: nn.Module, decay: float) -> dict[int, float]:
    """Return the factor of the learning rate of each parameter of a backbone and its plan, by the parameter's `id`.

    The layers are those of timm's `group_matcher`, as in BEiT (Bao et al., ICLR 2022, arXiv:2106.08254). The factor is
    `decay ** (layers above)`, so it is 1 for the head. An inserted module has the factor of the block that it follows.
    What a dense host has after its backbone (pyramid, neck, levels, head) is one layer above it, as a classifier is,
    and not in the result: its factor is 1.

    Args:
        model: A timm model, with a plan or without, or a dense host of one, with a head or without.
        decay: Factor from one layer to the next, in (0, 1].

    Raises:
        InputError: If the backbone does not say how its parameters are ordered by depth.
    """
    host = host_of(model)
    # timm's getter of features keeps the whole network as `model`. Its other classes have no `group_matcher`.
    inside = "backbone.model." if isinstance(host, DenseHost) and hasattr(host.backbone, "model") else ""
    backbone = host.get_submodule(inside.rstrip("."))
    matcher = getattr(backbone, "group_matcher", None)
    if not callable(matcher):
        raise InputError(
            "layer_decay needs a backbone that orders its layers (timm's group_matcher), and "
            f"{type(backbone).__name__} does not; use layer_decay=1"
        )
    bare = _Bare(backbone)
    layer_of = group_parameters(bare, matcher(coarse=False), reverse=True)  # type: ignore[arg-type]
    top = max(layer_of.values()) + isinstance(host, DenseHost)
    scales = {id(parameter): decay ** (top - layer_of[name]) for name, parameter in bare.named_parameters()}
    inserted, below = plugins_of(model), 0
    for slot in slots_of(model):
        if not slot.module.startswith(inside):  # a level
            continue
        path = slot.module.removeprefix(inside)
        own = [layer for name, layer in layer_of.items() if name.startswith(f"{path}.")]
        below = max(own, default=below)  # a slot without parameters, as a pooling layer, has the last depth
        if slot.name in inserted:
            plugin = getattr(host, CHILD).at(slot.name)
            scales |= {id(parameter): decay ** (top - below) for parameter in plugin.parameters()}
    return scales
