"""Detection: boxes with classes and scores, scored by average precision as COCO defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.tasks._base import Meter
from nasbench.tasks.average_precision import AREAS, AveragePrecision, Objects
from nasbench.tasks.dense import DenseTask
from nasbench.tasks.forms import METRICS

__all__ = ["DetectionTask"]

_SMALLEST_PX = 1.0  # a box whose side is shorter after augmentation is left out of the training


class DetectionTask(DenseTask):
    """Find objects: from images `(B, 3, H, W)` to boxes, classes and scores. Arguments as in `DenseTask`."""

    kind = "detection"
    metric = "ap"
    metrics: Mapping[str, str] = METRICS["detection"]
    neck = "fpn(width=64)"  # FCOS needs levels of one width. FPN's 256 channels are for large backbones

    labels_of = "objects"

    def labelled(self, index: int, truth: Any) -> int:
        """Return the number of objects that are to be found."""
        return int((~np.asarray(truth["ignored"], dtype=bool)).sum())

    def original_truth(self, index: int) -> dict[str, Any]:
        """Return `boxes labels crowd ignored areas` of the original image, as the source gives them."""
        return dict(self.source.truth(index))

    def fitted_truth(self, index: int, size: tuple[int, int]) -> Any:
        """Return the boxes and labels that training takes, after scaling. Crowds and ignored objects are left out."""
        from torchvision import tv_tensors

        truth, (height, width) = self.source.truth(index), self.originals[index]
        kept = ~np.asarray(truth["ignored"], dtype=bool)
        scale = np.array([size[1] / width, size[0] / height] * 2, dtype=np.float32)
        boxes = torch.from_numpy(np.asarray(truth["boxes"], dtype=np.float32).reshape(-1, 4)[kept] * scale)
        labels = torch.from_numpy(np.asarray(truth["labels"], dtype=np.int64)[kept])
        return {"boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size), "labels": labels}

    def collated(self, truths: list[Any], device: torch.device | str) -> list[dict[str, Tensor]]:
        """Return `boxes` and `labels` of each image. Boxes that augmentation moved out of the image are left out."""
        return [self._inside(truth, device) for truth in truths]

    def _inside(self, truth: dict[str, Any], device: torch.device | str) -> dict[str, Tensor]:
        height, width = truth["boxes"].canvas_size
        boxes = torch.as_tensor(truth["boxes"]).clone().as_subclass(Tensor)
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST_PX).all(1)
        return {"boxes": boxes[kept].to(device), "labels": truth["labels"][kept].to(device)}

    def predictions(self, model: nn.Module, outputs: Any, targets: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Return the `boxes`, `scores` and `labels` of each image, in pixels of the original image."""
        found = self.decoded(model, outputs, targets)
        return [_at_original(each, target) for each, target in zip(found, targets, strict=True)]

    def meter(self, split: str) -> Meter:
        """Return a meter of predictions and targets: AP, AP50, and AP of small, medium and large objects, in [0, 1].

        A size of which the split has no object is left out.
        """
        return _DetectionMeter(len(self.classes))


def _at_original(found: dict[str, Tensor], target: dict[str, Any]) -> dict[str, Tensor]:
    (height, width), (h, w) = target["original"], target["size"]
    scale = torch.tensor([width / w, height / h] * 2)
    return {**{key: value.cpu() for key, value in found.items()}, "boxes": found["boxes"].cpu().float() * scale}


class _DetectionMeter:
    def __init__(self, classes: int) -> None:
        self._precision = AveragePrecision(classes)

    def update(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Any]]) -> None:
        """Take the detections of a batch of images."""
        for found, target in zip(outputs, targets, strict=True):
            boxes, scores, labels = (found[key].double().numpy() for key in ("boxes", "scores", "labels"))
            self._precision.update(boxes, scores, labels, Objects.of(target))

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics, and the influence of each image on AP."""
        metrics = {"ap": self._precision.mean(), "ap50": self._precision.mean(thresholds=slice(0, 1))}
        sizes = self._precision.sizes()
        metrics |= {f"ap_{area}": self._precision.mean(area=area) for area in AREAS if area != "all" and area in sizes}
        return metrics, self._precision.influence()
