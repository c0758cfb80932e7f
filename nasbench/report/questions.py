"""What Grad-CAM asks about a model: which score of each image it explains, and which class is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from nasbench.errors import UnsupportedError
from nasbench.report.gradcam import best_class, held_out
from nasbench.tasks import ImageTask, Task
from nasbench.tasks.dense import DenseTask
from nasbench.tasks.detection import DetectionTask
from nasbench.tasks.segmentation import VOID, SegmentationTask

__all__ = ["Question", "question_of"]

_IMAGES = 6
_LOOKED_THROUGH = 32  # images, so that a large split is not read completely

Answer = tuple[Tensor, Sequence[int | None]]
"""A score of each image, `(B,)`, and the predicted classes."""


@dataclass(frozen=True)
class Question:
    """A question about images.

    Attributes:
        images: `(B, 3, H, W)`.
        classes: The true class of what is asked about in each image.
        names: Names of all classes.
        about: What the score belongs to, for the caption.
        answer: From a model and its outputs to its answer.
    """

    images: Tensor
    classes: list[int]
    names: list[str]
    about: str
    answer: Callable[[nn.Module, Any], Answer]

    def of(self, model: nn.Module) -> Callable[[Any], Answer]:
        """Return the function from the outputs of a model to its answer."""
        return lambda outputs: self.answer(model, outputs)


def question_of(task: Task, device: torch.device | str) -> Question | None:
    """Return the question about the first test images of a task. None if there is none for this kind of task.

    Classification: which regions support the predicted class? Segmentation: which regions support the second largest
    class of an image where it is (its mean logit over its true pixels; Vinogradova et al., "Towards Interpretable
    Semantic Segmentation via Gradient-weighted Class Activation Mapping", AAAI 2020, arXiv:2002.11434)? The largest
    class often is a background. Detection: which regions support the score of the box that overlaps most with the
    largest object?
    """
    if isinstance(task, ImageTask):
        return _classification(task, device)
    if isinstance(task, SegmentationTask):
        return _segmentation(task, device)
    if isinstance(task, DetectionTask):
        return _detection(task, device)
    return None


def _classification(task: ImageTask, device: torch.device | str) -> Question:
    images, truth = held_out(task.eval_batches("test", _LOOKED_THROUGH, device=device))

    def answer(model: nn.Module, outputs: Any) -> Answer:
        logits = task.predictions(model, outputs, truth)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise UnsupportedError(f"predictions of {task.name} are no tensor of scores (B, K), as Grad-CAM needs")
        return best_class(logits)

    return Question(images, truth.tolist(), [str(name) for name in task.classes], "the predicted class", answer)


def _segmentation(task: SegmentationTask, device: torch.device | str) -> Question | None:
    images, truths = _first(task, device)
    masks = task.collated(truths, "cpu")
    chosen: list[int] = []
    classes: list[int] = []
    for place, mask in enumerate(masks):
        counts = mask[mask != VOID].bincount()
        if len(counts) and len(chosen) < _IMAGES:
            chosen.append(place)
            largest = counts.argsort(descending=True, stable=True)
            classes.append(int(largest[1 if (counts > 0).sum() > 1 else 0]))
    if not chosen:
        return None
    inside = torch.stack([masks[place] == each for place, each in zip(chosen, classes, strict=True)]).to(device)

    def answer(model: Any, outputs: Any) -> Answer:
        if not isinstance(outputs, Mapping) or "logits" not in outputs:
            raise UnsupportedError(f"{type(model.head).__name__} returns no `logits`, whose gradient Grad-CAM takes")
        logits = torch.stack([of_image[each] for of_image, each in zip(outputs["logits"], classes, strict=True)])
        found = model.head.decode(outputs, [tuple(inside.shape[1:])] * len(classes))
        guesses = [int(one[where].mode().values) for one, where in zip(found, inside, strict=True)]
        return (logits * inside).sum((1, 2)) / inside.sum((1, 2)), guesses

    about = "the second largest class of the image, at its true pixels (Vinogradova et al., AAAI 2020)"
    return Question(images[chosen], classes, [str(name) for name in task.classes], about, answer)


def _detection(task: DetectionTask, device: torch.device | str) -> Question | None:
    images, truths = _first(task, device)
    objects = task.collated(truths, device)
    chosen = [place for place, one in enumerate(objects) if len(one["labels"])][:_IMAGES]
    if not chosen:
        return None
    boxes, classes = [], []
    for place in chosen:
        sides = objects[place]["boxes"][:, 2:] - objects[place]["boxes"][:, :2]
        largest = int(sides.prod(1).argmax())
        boxes.append(objects[place]["boxes"][largest])
        classes.append(int(objects[place]["labels"][largest]))
    size = tuple(images.shape[2:])

    def answer(model: Any, outputs: Any) -> Answer:
        scores: list[Tensor] = []
        guesses: list[int | None] = []
        for found, box in zip(model.head.decode(outputs, [size] * len(boxes)), boxes, strict=True):
            overlaps = box_iou(found["boxes"].detach(), box[None])[:, 0]
            if not overlaps.any():
                scores.append(images.new_zeros(()))
                guesses.append(None)
                continue
            best = int(overlaps.argmax())  # the first of several is that of the highest score
            scores.append(found["scores"][best])
            guesses.append(int(found["labels"][best]))
        return torch.stack(scores), guesses

    about = "the score of the box that overlaps most with the largest object"
    return Question(images[chosen], classes, [str(name) for name in task.classes], about, answer)


def _first(task: DenseTask, device: torch.device | str) -> tuple[Tensor, list[Any]]:
    """Return the first test images, and what is true of them after scaling."""
    images, targets = next(iter(task.eval_batches("test", _LOOKED_THROUGH, device=device)))
    indices = (int(index) for index in task.indices["test"][: len(targets)])
    return images, [task.fitted_truth(index, target["size"]) for index, target in zip(indices, targets, strict=True)]
