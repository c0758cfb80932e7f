"""What tasks of segmentation and detection share: images of any size, padded to one, and their augmentation."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.tasks._base import SPLITS, Batch, Task, epoch_generator, shuffled
from nasbench.tasks.annotated import AnnotatedImages, drawn_splits
from nasbench.tasks.recipe import Recipe

__all__ = ["STRIDE", "DenseTask", "longest_side"]

STRIDE = 32
"""Images are padded to a multiple of this, the coarsest stride of most backbones."""

MEMORY_LIMIT_BYTES = 2 << 30
"""If all images at their final size fit into this memory, they are decoded once and kept."""

_SMALLEST_PX = 64


def longest_side(source: AnnotatedImages, default_size: int | None = None) -> int:
    """Return the longer side of the largest image in pixels, but at least 64 and at most the backbone's default."""
    own = max(max(source.image(i).size) for i in range(len(source.names)))
    size = max(_SMALLEST_PX, own)
    return size if default_size is None else min(size, default_size)


class DenseTask(Task):
    """Images `(B, 3, H, W)` and a truth for each place in them.

    Each image is scaled bilinearly until its longer side is `size`, put into the upper left corner, and padded with the
    mean colour. H and W are multiples of 32 that hold every image.

    Args:
        name: The text that the user gave.
        source: The images and what is true of them.
        size: Longer side in pixels.
        head: The head of the library that ends a model, as an expression.
        seed: Seed of the splits that the data do not give.
        recipe: The recipe that a search uses by default.
        mean: Mean of each channel of pixels in [0, 1], as the backbone's weights expect it.
        std: Standard deviation of each channel of pixels in [0, 1].

    Raises:
        DataError: If images cannot be read, or a split has no images, or nothing in them that can be learned or scored.
    """

    augmentations = ("none", "flip", "crop")
    labels_of: str
    """What `labelled` counts, in the plural."""

    def __init__(
        self,
        name: str,
        source: AnnotatedImages,
        *,
        size: int,
        head: str,
        seed: int = 0,
        recipe: Recipe | None = None,
        mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN,
        std: tuple[float, ...] = IMAGENET_DEFAULT_STD,
    ) -> None:
        if size < 1:
            raise InputError(f"the image size must be a positive number of pixels, got {size}")
        self.name, self.size, self.source, self.head = name, size, source, head
        self.classes = source.classes
        self.indices = drawn_splits(source.given, len(source.names), seed)
        made = [split for split in SPLITS if split not in source.given]
        self.split_seed = seed if made else None
        self._mean = torch.tensor(mean).view(3, 1, 1) * 255
        self._std = torch.tensor(std).view(3, 1, 1) * 255
        self._cache: dict[int, tuple[Tensor, Any]] = {}
        self.originals, digest = [], hashlib.sha256(repr((source.names, source.classes)).encode())
        counts = []
        for index in range(len(source.names)):
            image, truth = source.image(index), source.truth(index)
            self.originals.append((image.height, image.width))
            counts.append(self.labelled(index, truth))
            digest.update(image.tobytes())
            digest.update(_bytes(truth))
        bare = [split for split in SPLITS if not any(counts[i] for i in self.indices[split])]
        if len(bare) == len(SPLITS):
            raise DataError(f"{name}: the data have no {self.labels_of}, so there is nothing to learn")
        if bare:
            way = "draw others with another --seed, or " if set(bare) & set(made) else ""
            raise DataError(
                f"{name}: no {self.labels_of} in {' and '.join(bare)}, so nothing can be learned or scored there; {way}"
                f"move images into {' and '.join(bare)} from another split"
            )
        sizes = [self._fitted(index) for index in range(len(source.names))]
        height, width = (-(-max(side) // STRIDE) * STRIDE for side in zip(*sizes, strict=True))
        self.input_size = (3, height, width)
        self._kept = 3 * height * width * len(source.names) <= MEMORY_LIMIT_BYTES
        self.sha256 = digest.hexdigest()
        self.model_kwargs = {"num_classes": len(self.classes)}
        self.splits = {split: len(self.indices[split]) for split in SPLITS}
        self.read = dict(source.read)
        if source.read:  # no data of our own
            self.read["splits"] = ", ".join(
                f"{count} {split}{' (drawn at random)' if split in made and split != 'train' else ''}"
                for split, count in self.splits.items()
            )
        drawn = " and ".join(split for split in made if split != "train")
        self.notes = (f"{name}: {drawn} are drawn at random, seed {seed}",) if made else ()
        self.recipe = recipe or Recipe(epochs=20, batch_size=16, learning_rate=1e-3, weight_decay=0.05)

    def describe(self) -> dict[str, Any]:
        """Return the name, the hash of the data, the seed of the split and the sizes, as data for JSON."""
        return {
            "task": self.name,
            "kind": self.kind,
            "data_sha256": self.sha256,
            "split_seed": self.split_seed,
            "splits": dict(self.splits),
            "image_size": self.size,
            "classes": len(self.classes),
        }

    def loss(self, model: nn.Module, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of the model's head."""
        return _head(model).loss(outputs, targets)

    def decoded(self, model: nn.Module, outputs: Any, targets: list[dict[str, Any]]) -> list[Any]:
        """Return what the head makes of its outputs, for each image, in pixels of the input."""
        return _head(model).decode(outputs, [target["size"] for target in targets])

    def preprocessing(self) -> dict[str, Any]:
        """Return the longer side, the multiple to pad to, mean and standard deviation in [0, 1], and the classes."""
        mean, std = ((values.flatten() / 255).tolist() for values in (self._mean, self._std))
        return {"longer_side": self.size, "pad_to": STRIDE, "mean": mean, "std": std, "classes": list(self.classes)}

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield augmented training batches: images `(B, 3, H, W)`, and targets as `loss` takes them."""
        indices = self.indices["train"]
        for chosen in shuffled(len(indices), batch_size, epoch_generator(seed, epoch)):
            batch = [self._augmented(int(i), augmentation, seed, epoch) for i in indices[chosen.numpy()]]
            yield (
                self._normalised([image for image, _ in batch], device),
                self.collated([truth for _, truth in batch], device),
            )

    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield all images of a split in order: images `(B, 3, H, W)`, and a dict for each image (see `truth`)."""
        indices = self.indices[self.check_split(split)]
        for start in range(0, len(indices), batch_size):
            batch = [int(i) for i in indices[start : start + batch_size]]
            yield self._normalised([self._loaded(i)[0] for i in batch], device), [self.truth(i) for i in batch]

    def truth(self, index: int) -> dict[str, Any]:
        """Return what is true of an image at its original size.

        Returns:
            A dict: `size` (height and width of the image inside the padding), `original` (height and width of the
            original image), and the truth of the task.
        """
        return {"size": self._fitted(index), "original": self.originals[index], **self.original_truth(index)}

    @abstractmethod
    def labelled(self, index: int, truth: Any) -> int:
        """Return how much of a truth can be learned and scored, counted in `labels_of`.

        Raises:
            DataError: If the truth is wrong.
        """

    @abstractmethod
    def original_truth(self, index: int) -> dict[str, Any]:
        """Return the truth of an image in pixels of the original image."""

    @abstractmethod
    def fitted_truth(self, index: int, size: tuple[int, int]) -> Any:
        """Return the truth of an image after scaling to `size` (height, width), as tensors of torchvision."""

    @abstractmethod
    def collated(self, truths: list[Any], device: torch.device | str) -> Any:
        """Return the targets of a batch, on a device."""

    def _fitted(self, index: int) -> tuple[int, int]:
        """Return height and width of an image after scaling."""
        height, width = self.originals[index]
        scale = self.size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _loaded(self, index: int) -> tuple[Tensor, Any]:
        """Return an image as bytes `(3, h, w)` and its truth, scaled."""
        if index in self._cache:
            return self._cache[index]
        size = self._fitted(index)
        image = self.source.image(index).resize(size[::-1], Image.Resampling.BILINEAR)
        loaded = torch.from_numpy(np.array(image)).permute(2, 0, 1), self.fitted_truth(index, size)
        if self._kept:
            self._cache[index] = loaded
        return loaded

    def _augmented(self, index: int, augmentation: str, seed: int, epoch: int) -> tuple[Tensor, Any]:
        """Return an image and its truth, augmented. The random numbers depend on (seed, epoch, image) only."""
        from torchvision import tv_tensors

        transform = _transform(augmentation, self._mean.flatten().tolist())
        image, truth = self._loaded(index)
        if transform is None:
            return image, truth
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0]))
            return transform(tv_tensors.Image(image), truth)

    def _normalised(self, images: list[Tensor], device: torch.device | str) -> Tensor:
        """Return normalised floats `(B, 3, H, W)`. Padding is 0, the mean colour."""
        _, height, width = self.input_size
        batch = torch.zeros(len(images), 3, height, width, device=device)
        mean, std = self._mean.to(device), self._std.to(device)
        for place, image in enumerate(images):
            _, h, w = image.shape
            batch[place, :, :h, :w] = (torch.as_tensor(image).to(device, torch.float32) - mean) / std
        return batch


def _head(model: nn.Module) -> Any:
    return model.head


def _bytes(truth: Any) -> bytes:
    if isinstance(truth, Mapping):
        return b"".join(_bytes(truth[key]) for key in sorted(truth))
    return np.ascontiguousarray(truth).tobytes()


def _transform(augmentation: str, fill: list[float]) -> Any:
    """Return a transform of an image and its truth, or None for no augmentation."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    if augmentation == "none":
        return None
    if augmentation == "flip":
        return v2.RandomHorizontalFlip()
    if augmentation == "crop":
        # Padding of a mask is 255 in torchvision's form, whatever the void of the data: the task translates it.
        fills = {tv_tensors.Image: fill, tv_tensors.Mask: 255}
        shift = v2.RandomAffine(degrees=0, translate=(1 / 8, 1 / 8), scale=(0.8, 1.25), fill=fills)
        return v2.Compose([v2.RandomHorizontalFlip(), shift])
    raise UnknownNameError("augmentation", augmentation, ("none", "flip", "crop"))
