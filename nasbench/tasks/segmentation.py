"""Segmentation: a class number for each pixel, scored by mean IoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import DataError
from nasbench.ops.segmentation import VOID
from nasbench.tasks._base import Meter
from nasbench.tasks.dense import DenseTask
from nasbench.tasks.forms import METRICS
from nasbench.tasks.mean_iou import MeanIoU

__all__ = ["SegmentationTask"]


class SegmentationTask(DenseTask):
    """Give each pixel a class: from images `(B, 3, H, W)` to class numbers `(B, H, W)`. Arguments as in `DenseTask`."""

    kind = "segmentation"
    metric = "miou"
    metrics: Mapping[str, str] = METRICS["segmentation"]

    labels_of = "pixels with a label"

    def labelled(self, index: int, truth: Any) -> int:
        """Return the number of pixels that have a class.

        Raises:
            DataError: If the mask is not as large as the image, or a value is neither void nor the number of a class.
        """
        mask, name = np.asarray(truth), self.source.names[index]
        if mask.shape != self.originals[index]:
            raise DataError(f"{name} is (h, w) = {self.originals[index]}, but its mask {mask.shape}; make them equal")
        found = mask[mask != self.source.void]
        largest = min(len(self.classes), VOID) - 1  # training stores masks in bytes, and VOID is one of them
        if len(found) and not 0 <= found.min() <= found.max() <= largest:
            raise DataError(
                f"{name}: its mask has values from {found.min()} to {found.max()}; class numbers go from 0 to "
                f"{largest}, and {self.source.void} is void"
            )
        return len(found)

    def original_truth(self, index: int) -> dict[str, Any]:
        """Return `{"mask": (h, w)}`, class numbers of the original image."""
        return {"mask": self._mask(index)}

    def fitted_truth(self, index: int, size: tuple[int, int]) -> Any:
        """Return the mask `(h, w)` after scaling: each pixel has the class of the nearest original one."""
        from torchvision import tv_tensors

        mask = self._mask(index)[None, None].to(torch.uint8)
        return tv_tensors.Mask(F.interpolate(mask, size, mode="nearest-exact")[0, 0])

    def collated(self, truths: list[Any], device: torch.device | str) -> Tensor:
        """Return the masks of a batch, `(B, H, W)`. Padding has no label."""
        _, height, width = self.input_size
        masks = torch.full((len(truths), height, width), VOID, dtype=torch.int64)
        for place, mask in enumerate(truths):
            masks[place, : mask.shape[0], : mask.shape[1]] = torch.as_tensor(mask)
        return masks.to(device)

    def predictions(self, model: nn.Module, outputs: Any, targets: list[dict[str, Any]]) -> list[Tensor]:
        """Return the class numbers `(h, w)` of each image at its original size."""
        found = self.decoded(model, outputs, targets)
        return [_at_original(each, target) for each, target in zip(found, targets, strict=True)]

    def meter(self, split: str) -> Meter:
        """Return a meter of class numbers and targets: mean IoU and pixel accuracy, both in [0, 1]."""
        return _SegmentationMeter(len(self.classes))

    def _mask(self, index: int) -> Tensor:
        mask = torch.from_numpy(np.asarray(self.source.truth(index)).astype(np.int64))
        return torch.where(mask == self.source.void, VOID, mask)


def _at_original(found: Tensor, target: dict[str, Any]) -> Tensor:
    height, width = target["size"]
    inside = found[:height, :width]
    if target["size"] == target["original"]:
        return inside.cpu()
    return F.interpolate(inside[None, None].float(), target["original"], mode="nearest-exact")[0, 0].long().cpu()


class _SegmentationMeter:
    def __init__(self, classes: int) -> None:
        self._counts = MeanIoU(classes, VOID)

    def update(self, outputs: list[Tensor], targets: list[dict[str, Any]]) -> None:
        """Take the class numbers of a batch of images."""
        for found, target in zip(outputs, targets, strict=True):
            self._counts.update(found, target["mask"])

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics, and the influence of each image on mean IoU."""
        metrics = {"miou": self._counts.mean(), "pixel_accuracy": self._counts.pixel_accuracy()}
        return metrics, self._counts.influence()
