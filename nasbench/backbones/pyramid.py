"""Image classifier over a feature pyramid: features of a timm backbone -> neck -> pooling -> linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.backbones.factory import create_backbone, timm_arguments
from nasbench.backbones.layout import readings
from nasbench.backbones.names import is_timm
from nasbench.backbones.tracing import BATCH, meta_copy
from nasbench.errors import BackboneError, PlanError
from nasbench.library.modules import create_module, module_spec

__all__ = ["PyramidClassifier", "create_pyramid"]

_STRIDE = 4  # as in FPN, which uses no map with a stride below 4


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
    if not is_timm(backbone):
        raise BackboneError(f"a neck needs the features of a timm model, got {backbone}")
    size = tuple(input_size)
    weights: dict[str, Any] = {"pretrained": pretrained}
    if checkpoint is not None:
        # `create_backbone` reads the file and raises an error if the weights do not fit. timm alone would silently skip
        # them.
        state = create_backbone(backbone, input_size=size, checkpoint=checkpoint).state_dict()
        # With this configuration, timm loads these weights instead of downloading others.
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
    model = _features(backbone, size, weights)
    # timm stores the configuration in the model. The weights are removed from it, because every copy of the model would
    # copy them too.
    (getattr(model, "pretrained_cfg", None) or {}).pop("state_dict", None)
    shapes = _shapes(model, backbone, input_size)
    image = input_size[1:]
    first = [formats_of_one[0] if (formats_of_one := readings(shape, image)) else None for shape in shapes]
    formats = [f for f in first if f is not None]
    # A pyramid has two or more levels. Each level is a map, and no two levels have the same size.
    if len(formats) < 2 or len(formats) != len(first) or len({f.size for f in formats}) != len(formats):
        sizes = ", ".join("x".join(map(str, shape[1:])) for shape in shapes)
        raise BackboneError(f"{backbone} has no feature pyramid: its features are {sizes}")
    if num_classes is None:
        import timm  # imported here, because it takes seconds, and the forecasting backbones need no timm

        num_classes = int(getattr(timm.get_pretrained_cfg(backbone), "num_classes", 0)) or 1000
    # A neck chooses how many channels each output has. A forward pass on the meta device shows it.
    joined = create_module(neck, channels=[f.channels for f in formats])
    with torch.no_grad(), torch.device("meta"):
        levels = meta_copy(joined)([torch.zeros(BATCH, f.channels, *f.size) for f in formats])
    channels = [level.shape[1] for level in levels]
    return PyramidClassifier(model, joined, channels, formats[0].layout == "NHWC", num_classes)


def _features(backbone: str, size: tuple[int, ...], weights: Mapping[str, Any]) -> nn.Module:
    import timm

    with torch.device("meta"):
        # On the meta device no weight is allocated. Only the strides of the features are needed here.
        levels = _levels(backbone, create_backbone(backbone, input_size=size))
    for given in timm_arguments(backbone, size):
        try:
            return timm.create_model(backbone, features_only=True, out_indices=levels, **given, **weights)
        except TypeError as error:
            if "img_size" not in given:
                raise BackboneError(f"timm cannot return the features of {backbone}: {error}") from error
        except (RuntimeError, ValueError, AssertionError, AttributeError) as error:
            raise BackboneError(f"timm cannot return the features of {backbone}: {error}") from error
    raise AssertionError("unreachable")


def _levels(name: str, model: nn.Module) -> list[int]:
    """Return the indices of timm's features that form the pyramid.

    For each stride of at least 4, this is the last feature with that stride.
    """
    info: Any = getattr(model, "feature_info", None) or []
    # A later feature of the same stride overwrites an earlier one.
    last = {level["reduction"]: index for index, level in enumerate(info) if level["reduction"] >= _STRIDE}
    if len(last) < 2:
        strides = ", ".join(dict.fromkeys(str(level["reduction"]) for level in info)) or "unknown"
        raise BackboneError(f"{name} has no feature pyramid: its features have strides {strides}")
    return sorted(last.values())


def _shapes(model: nn.Module, name: str, size: Sequence[int]) -> list[tuple[int, ...]]:
    try:
        with torch.no_grad(), torch.device("meta"):
            maps = meta_copy(model)(torch.zeros(BATCH, *size))
    except Exception as error:
        raise BackboneError(f"{name} does not accept the input size {tuple(size)}: {error}") from error
    return [tuple(m.shape) for m in maps]
