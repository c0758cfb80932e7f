"""Tasks of images: images of one size, a stratified split, augmentation, cross-entropy and accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from nasbench.errors import InputError
from nasbench.tasks._base import SPLITS, Batch, Kind, Meter, Task, epoch_generator, shuffled
from nasbench.tasks._image_augmentation import check_augmentation, item_seeds
from nasbench.tasks._image_decoding import ImageFaultError
from nasbench.tasks._image_loading import Pixels, default_workers, header
from nasbench.tasks._image_sources import ImageSource
from nasbench.tasks.accuracy import AccuracyMeter
from nasbench.tasks.forms import METRICS
from nasbench.tasks.recipe import Recipe
from nasbench.tasks.stratified import draw_splits, drawn_note

__all__ = ["MEMORY_LIMIT_BYTES", "SMALLEST_PX", "ImageTask", "image_size"]

MEMORY_LIMIT_BYTES = 2 << 30
"""If all images at their final size fit into this memory, they are decoded once and kept. If not, each image is read
by worker processes when it is needed."""

SMALLEST_PX = 64
"""Smaller images are enlarged until their shorter side has this length. Otherwise the map in the last stage of most
backbones would have a single position."""

_PROBED = 64  # number of images that are opened to find the image size of the data


def image_size(source: ImageSource, default_size: int | None = None) -> int:
    """Return the image side in pixels: the side of the data, but at least 64 and at most the backbone's default.

    The side of the data is the median of the shorter sides of a sample of images.
    """
    probe = np.unique(np.linspace(0, len(source.names) - 1, _PROBED).astype(int))
    sides = []
    for i in probe:
        try:
            sides.append(min(header(source, int(i)).size))
        except ImageFaultError:
            continue  # unreadable images are reported when all are read
    own = int(np.median(sides)) if sides else SMALLEST_PX
    size = max(SMALLEST_PX, own)
    return size if default_size is None else min(size, default_size)


class ImageTask(Task):
    """Classify square images: from normalised floats `(B, 3, size, size)` to class indices `(B,)`.

    If the source has no classes, the images can only be learnt by a pretext (`nasbench.training.pretexts`). A host
    then has one output, which is not trained.

    Args:
        name: The text that the user gave.
        source: The images.
        size: Side in pixels. An image of another size is scaled bilinearly until its shorter side fits, and its centre
            is cropped.
        seed: Seed of the split.
        held_out: For each split that the source does not define, its number of images. The default is a fifth of all
            images, or a fifth of the training split if the source defines one. It is at least one image for each class.
        recipe: The recipe that a search uses by default.
        mean: Mean of each channel of pixels in [0, 1], as the backbone's weights expect it.
        std: Standard deviation of each channel of pixels in [0, 1].
        notes: Sentences for the report.

    Raises:
        DataError: If images cannot be read, or if a class has too few images for the splits.
    """

    kind: Kind = "classification"
    metric = "accuracy"
    metrics: Mapping[str, str] = METRICS["classification"]
    workers: int | None = None
    """Number of processes that decode images which are not kept in memory. None means `default_workers`. The batches
    do not depend on it."""

    def __init__(
        self,
        name: str,
        source: ImageSource,
        *,
        size: int,
        seed: int = 0,
        held_out: Mapping[str, int] | None = None,
        recipe: Recipe | None = None,
        mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN,
        std: tuple[float, ...] = IMAGENET_DEFAULT_STD,
        notes: tuple[str, ...] = (),
    ) -> None:
        if size < 1:
            raise InputError(f"the image size must be a positive number of pixels, got {size}")
        self.name, self.size = name, size
        self.classes = source.classes
        self.labels = torch.from_numpy(source.labels)
        self.indices = draw_splits(source.labels, source.classes, source.given, seed, held_out)
        self._pixels = Pixels(source, size, mean, std, MEMORY_LIMIT_BYTES)
        self.input_size = (3, size, size)
        self.model_kwargs = {"num_classes": max(1, len(self.classes))}
        self.splits = {split: len(self.indices[split]) for split in SPLITS}
        made = [split for split in SPLITS if split not in source.given]
        self.split_seed = seed if made else None  # None if the data defines all splits itself
        self.notes = (*notes, *drawn_note(name, made, seed, by_class=bool(self.classes)))
        self.read = {**source.told, **({"pixels": self._pixels.told} if self._pixels.told else {})}
        self.recipe = recipe or Recipe(epochs=10, batch_size=64, learning_rate=1e-3, weight_decay=0.05)

    def describe(self) -> dict[str, Any]:
        """Return the name, the hash of the data, the seed of the split and the sizes, as data for JSON."""
        return {
            "task": self.name,
            "kind": self.kind,
            "data_sha256": self._pixels.sha256,
            "sha256_covers": "names and classes" if self._pixels.cached is None else "contents",
            "split_seed": self.split_seed,
            "splits": dict(self.splits),
            "image_size": self.size,
            "classes": len(self.classes),
        }

    def preprocessing(self) -> dict[str, Any]:
        """Return the side in pixels, the mean and standard deviation of each channel, and the classes in order.

        The mean and standard deviation are for pixels in [0, 1].
        """
        mean, std = self._pixels.mean, self._pixels.std
        names = [str(name) for name in self.classes]
        return {"size": self.size, "mean": list(mean), "std": list(std), "classes": names}

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield augmented training batches, `(B, 3, H, W)` and `(B,)`. They are the same for every model."""
        check_augmentation(augmentation)
        indices = self.indices["train"]
        batches = [indices[chosen] for chosen in shuffled(len(indices), batch_size, epoch_generator(seed, epoch))]
        seeds = None if augmentation == "none" else [item_seeds(seed, epoch, batch) for batch in batches]
        yield from self._pixels.batches(
            batches, device=device, workers=self._workers(), seeds=seeds, augmentation=augmentation
        )

    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield all images of a split in order, `(B, 3, H, W)` and `(B,)`."""
        batches = self.indices[self.check_split(split)].split(batch_size)
        yield from self._pixels.batches(batches, device=device, workers=self._workers())

    def _workers(self) -> int:
        return default_workers() if self.workers is None else self.workers

    def loss(self, model: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of logits `(B, K)` and targets: class indices `(B,)` or probabilities `(B, K)`."""
        return F.cross_entropy(outputs, targets)

    def meter(self, split: str) -> Meter:
        """Return a meter of logits `(B, K)` and class indices `(B,)` (see `evaluate`)."""
        return AccuracyMeter()

    def evaluate(self, outputs: Tensor, targets: Tensor) -> tuple[dict[str, float], np.ndarray]:
        """Return accuracy in [0, 1], mean cross-entropy in nats, and for each item 1.0 (right) or 0.0 (wrong)."""
        meter = AccuracyMeter()
        meter.update(outputs, targets)
        return meter.result()
