"""Image classifier over a feature pyramid: features of a timm backbone -> neck -> pooling -> linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nasbench.backbones.features import pyramid_of
from nasbench.backbones.tracing import BATCH, meta_copy
from nasbench.errors import PlanError
from nasbench.library.modules import create_module, module_spec

__all__ = ["PyramidClassifier", "create_pyramid"]


class PyramidClassifier(nn.Module):
    """Backbone -> neck -> global average pooling of every level -> one linear classifier over all levels.

    Args:
        backbone: A network that returns a list of maps, fine to coarse.
        neck: A module from a list of maps `(B, C_i, H_i, W_i)` to a list of maps.
        channels: Number of channels of each map that the neck returns.
        channels_last: Whether the backbone's maps are `(B, H, W, C)`.
        num_classes: Number of classes.
    """

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, channels: Sequence[int], channels_last: bool, num_classes: int
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.channels_last, self.num_classes = backbone, neck, channels_last, num_classes
        self.head = nn.Linear(sum(channels), num_classes)
        self.pretrained_cfg = getattr(backbone, "pretrained_cfg", {})

    def forward(self, x: Tensor) -> Tensor:
        """Classify images: `(B, 3, H, W) -> (B, num_classes)`."""
        maps = self.backbone(x)
        if self.channels_last:
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        return self.head(torch.cat([m.mean((2, 3)) for m in self.neck(maps)], dim=1))

    def get_classifier(self) -> nn.Module:
        """Return the classifier. This method is part of timm's interface for models."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new one. This method is part of timm's interface for models."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.head.in_features, num_classes).to(self.head.weight)


def create_pyramid(
    backbone: str,
    neck: str,
    *,
    input_size: Sequence[int],
    num_classes: int | None,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
) -> PyramidClassifier:
    """Build a classifier on top of a backbone and a neck.

    Args:
        backbone: A timm name.
        neck: Name of a neck in the library.
        input_size: `(C, H, W)`.
        num_classes: Number of classes. None means as many as the backbone's own classifier has.
        pretrained: Whether to load timm's pretrained weights.
        checkpoint: A file of weights for the bare backbone, as in `create_backbone`.

    Raises:
        BackboneError: If the backbone has no feature pyramid, or the checkpoint belongs to another network.
        UnknownNameError: If no neck has this name.
        PlanError: If `neck` is a module of another kind.
    """
    if module_spec(neck).kind != "neck":
        raise PlanError(f"{neck} is a {module_spec(neck).kind}, not a neck; `nasbench modules` lists all necks")
    features = pyramid_of(backbone, input_size=input_size, pretrained=pretrained, checkpoint=checkpoint)
    if num_classes is None:
        import timm  # imported here, because the import takes seconds, and the forecasting backbones need no timm

        num_classes = int(getattr(timm.get_pretrained_cfg(backbone), "num_classes", 0)) or 1000
    # A neck chooses how many channels each level has afterwards. A forward pass on the meta device shows it.
    joined = create_module(neck, channels=[f.channels for f in features.formats])
    with torch.no_grad(), torch.device("meta"):
        levels = meta_copy(joined)([torch.zeros(BATCH, f.channels, *f.size) for f in features.formats])
    channels = [level.shape[1] for level in levels]
    return PyramidClassifier(features.model, joined, channels, features.channels_last, num_classes)
