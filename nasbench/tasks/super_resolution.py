"""Super-resolution: enlarge images two, three or four times, scored by PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from nasbench.errors import InputError
from nasbench.tasks import image_quality
from nasbench.tasks._base import SPLITS, Batch, Meter, Task, epoch_generator, shuffled
from nasbench.tasks.annotated import drawn_splits, refuse
from nasbench.tasks.forms import METRICS
from nasbench.tasks.photographs import Photographs
from nasbench.tasks.recipe import Recipe

__all__ = ["SCALES", "SuperResolutionTask", "bicubic"]

SCALES = (2, 3, 4)
"""The factors by which images can be enlarged."""

MEMORY_LIMIT_BYTES = 2 << 30
"""If all photographs fit into this memory, they are decoded once and kept."""

_MULTIPLE = 16  # sides of small images in evaluation, as the windows of most modules need it
_BATCH_PIXELS = 1 << 18  # largest number of pixels of a batch of small images in evaluation
_CROP_PX = 48  # default side of a small crop in training, as in most papers


class SuperResolutionTask(Task):
    """Enlarge photographs: from small images `(B, 3, H, W)` to large ones `(B, 3, scale H, scale W)`, all in [0, 1].

    A small image is the photograph, cropped to a multiple of `scale`, reduced by Pillow's bicubic filter. Training
    takes random crops: in an epoch, as many from each photograph as fit into it. Evaluation takes whole photographs.
    They are padded by reflection to a multiple of 16, and the padding is cut off the result.

    Attributes:
        head: The head of the library that ends a model, as an expression.
        scale: The factor.
        crop: Side of a large crop in training.

    Args:
        name: The text that the user gave.
        source: The photographs.
        scale: The factor, 2, 3 or 4.
        size: Side of a large crop in training, in pixels. It must be a multiple of `scale`. The default is 48 times
            `scale`.
        head: The head of the library that ends a model, as an expression.
        seed: Seed of the splits that the data do not give.
        recipe: The recipe that a search uses by default.

    Raises:
        InputError: If the scale or the size is not allowed.
        DataError: If a photograph is too small, or a split has none.
    """

    kind = "super-resolution"
    metric = "psnr"
    metrics: Mapping[str, str] = METRICS["super-resolution"]
    any_size = True
    augmentations = ("none", "flip")

    def __init__(
        self,
        name: str,
        source: Photographs,
        *,
        scale: int = 2,
        size: int | None = None,
        head: str = "pixel_shuffle",
        seed: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        if scale not in SCALES:
            raise InputError(f"scale must be one of {', '.join(map(str, SCALES))}, got {scale}")
        self.name, self.source, self.scale, self.head = name, source, scale, head
        self.indices = drawn_splits(source.given, len(source.names), seed)
        made = [split for split in SPLITS if split not in source.given]
        self.split_seed = seed if made else None
        self.crop = self._crop(size)
        self._check_sizes()
        small = self.crop // scale
        self.input_size = (3, small, small)
        self.model_kwargs = {"scale": scale}
        # For each crop of an epoch, the photograph from which it is taken.
        self._drawn_from = np.repeat(self.indices["train"], [self._crops(i) for i in self.indices["train"]])
        self.splits = {split: len(self.indices[split]) for split in SPLITS} | {"train": len(self._drawn_from)}
        photographs, (heights, widths) = len(self.indices["train"]), zip(*source.sizes, strict=True)
        self.read = {
            **source.read,
            "crops": f"{len(self._drawn_from)} of {self.crop} px an epoch, from {photographs} training "
            f"image{'s' * (photographs > 1)}",
        }
        cut = sum(any(side % scale for side in each) for each in source.sizes)
        drawn = " and ".join(split for split in made if split != "train")
        self.notes = (
            *source.notes,
            *((f"{name}: {drawn} are drawn at random, seed {seed}",) if made else ()),
            *((f"{name}: {cut} image{'s are' if cut > 1 else ' is'} cropped to a multiple of {scale}",) if cut else ()),
        )
        self._kept = 3 * sum(h * w for h, w in zip(heights, widths, strict=True)) <= MEMORY_LIMIT_BYTES
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}
        self.recipe = recipe or Recipe(epochs=20, batch_size=16, learning_rate=5e-4, weight_decay=0.0, clip_grad=0.1)

    def _crop(self, size: int | None) -> int:
        if size is None:
            return _CROP_PX * self.scale
        if size < self.scale or size % self.scale:
            raise InputError(
                f"the size of training crops must be a multiple of the scale {self.scale}, got {size}; the nearest is "
                f"{max(1, round(size / self.scale)) * self.scale}"
            )
        return size

    def _crops(self, index: int) -> int:
        height, width = self.source.sizes[index]
        return (height // self.crop) * (width // self.crop)

    def _check_sizes(self) -> None:
        for split in SPLITS:
            least = image_quality.SMALLEST_PX + 2 * self.scale
            if split == "train":
                least = max(self.crop, least)
            refuse(
                f"{self.name}: {split} images below {least} x {least} pixels",
                [
                    f"{self.source.names[i]} has {width} x {height}"
                    for i in self.indices[split]
                    for height, width in [self.source.sizes[i]]
                    if min(height, width) < least
                ],
                f"leave them out, or give a smaller --size of training crops, a multiple of {self.scale}"
                if split == "train" and self.crop == least
                else "leave them out",
            )

    def describe(self) -> dict[str, Any]:
        """Return the name, the hash of the data, the seed of the split and the sizes, as data for JSON."""
        return {
            "task": self.name,
            "kind": self.kind,
            "data_sha256": self.source.sha256,
            "split_seed": self.split_seed,
            "splits": dict(self.splits),
            "scale": self.scale,
            "crop": self.crop,
        }

    def preprocessing(self) -> dict[str, Any]:
        """Return the scale, and the multiple to which the sides of small images are padded in evaluation."""
        return {"scale": self.scale, "pad_to": _MULTIPLE}

    def loss(self, model: nn.Module, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of the model's head."""
        return _head(model).loss(outputs, targets)

    def predictions(self, model: nn.Module, outputs: Any, targets: list[dict[str, Any]]) -> list[Tensor]:
        """Return the large images without padding, bytes `(3, h, w)`."""
        return _head(model).decode(outputs, [target["size"] for target in targets])

    def meter(self, split: str) -> Meter:
        """Return a meter of large images and targets: mean PSNR in dB and mean SSIM of the luma without its border."""
        return _Meter(self.scale)

    def naive(self, split: str) -> dict[str, dict[str, float]]:
        """Return the metrics of bicubic interpolation: Pillow's, and torch's in floats, as `pixel_shuffle` starts.

        Pillow rounds to bytes between its two passes, so its PSNR is up to some hundredths of a dB lower.
        """
        enlarged = {"bicubic": bicubic, "bicubic in floats (an untrained model)": _bicubic_in_floats}
        meters = {name: self.meter(split) for name in enlarged}
        for index in self.indices[self.check_split(split)]:
            small, _ = self._loaded(int(index))
            for name, enlarge in enlarged.items():
                meters[name].update([enlarge(small, self.scale)], [self._target(int(index))])
        return {name: meter.result()[0] for name, meter in meters.items()}

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield random crops, `(B, 3, h, w)` and `(B, 3, scale h, scale w)`. They are the same for every model."""
        self.check_augmentation(augmentation)
        generator = epoch_generator(seed, epoch)
        chosen = list(shuffled(len(self._drawn_from), batch_size, generator))
        places = torch.rand(len(self._drawn_from), 3, generator=generator)
        for batch in chosen:
            pairs = [self._drawn(int(self._drawn_from[i]), places[i].tolist(), augmentation) for i in batch]
            small, large = (torch.stack(each).to(device, torch.float32) / 255 for each in zip(*pairs, strict=True))
            yield small, large

    def _drawn(self, index: int, place: list[float], augmentation: str) -> tuple[Tensor, Tensor]:
        """Return a small and a large crop as bytes. `place` has three numbers in [0, 1): row, column and flip."""
        small, large = self._loaded(index)
        side = self.crop // self.scale
        y, x = (int(share * (whole - side + 1)) for share, whole in zip(place[:2], small.shape[1:], strict=True))
        cut = (
            small[:, y : y + side, x : x + side],
            large[:, self.scale * y :, self.scale * x :][:, : self.crop, : self.crop],
        )
        return (cut[0].flip(-1), cut[1].flip(-1)) if augmentation == "flip" and place[2] < 0.5 else cut

    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield all small images of a split in order, padded, and a list with the truth of each.

        Only neighbours of one size share a batch. The truth is a dict: `size` (height and width of the small image) and
        `image` (bytes `(3, scale h, scale w)`).
        """
        batch: list[Tensor] = []
        targets: list[dict[str, Any]] = []
        for index in self.indices[self.check_split(split)]:
            small, _ = self._loaded(int(index))
            padded = _padded(small)
            full = (len(batch) + 1) * padded[0].numel() > _BATCH_PIXELS or len(batch) == batch_size
            if batch and (full or padded.shape != batch[0].shape):
                yield torch.stack(batch).to(device, torch.float32) / 255, targets
                batch, targets = [], []
            batch.append(padded)
            targets.append(self._target(int(index)))
        yield torch.stack(batch).to(device, torch.float32) / 255, targets

    def pair(self, split: str, number: int) -> tuple[Tensor, Tensor]:
        """Return the small and the large image of an item of a split, as bytes `(3, H, W)`."""
        return self._loaded(int(self.indices[self.check_split(split)][number]))

    def _target(self, index: int) -> dict[str, Any]:
        small, large = self._loaded(index)
        return {"size": tuple(small.shape[1:]), "image": large}

    def _loaded(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a small image and its photograph, cropped to a multiple of the scale, as bytes `(3, H, W)`."""
        if index in self._cache:
            return self._cache[index]
        pixels = self.source.pixels(index)
        height, width = (side // self.scale * self.scale for side in pixels.shape[:2])
        large = Image.fromarray(np.ascontiguousarray(pixels[:height, :width]))
        small = large.resize((width // self.scale, height // self.scale), Image.Resampling.BICUBIC)
        loaded = _tensor(small), _tensor(large)
        if self._kept:
            self._cache[index] = loaded
        return loaded


def bicubic(small: Tensor, scale: int) -> Tensor:
    """Enlarge an image bicubically, as Pillow does it: bytes `(3, H, W)` to `(3, scale H, scale W)`."""
    _, height, width = small.shape
    image = Image.fromarray(small.permute(1, 2, 0).contiguous().numpy())
    return _tensor(image.resize((scale * width, scale * height), Image.Resampling.BICUBIC))


def _bicubic_in_floats(small: Tensor, scale: int) -> Tensor:
    """Enlarge an image as an untrained `pixel_shuffle` does it in evaluation: padded, and rounded once."""
    padded = _padded(small)[None].float() / 255
    sides = [scale * side for side in padded.shape[2:]]
    (large,) = F.interpolate(padded, sides, mode="bicubic", align_corners=False, antialias=True)
    _, height, width = small.shape
    return (large[:, : scale * height, : scale * width] * 255).round().clamp(0, 255).to(torch.uint8)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _padded(small: Tensor) -> Tensor:
    """Pad an image by reflection below and at the right, to a multiple of 16. The edge is repeated."""
    down, right = (-side % _MULTIPLE for side in small.shape[1:])
    return torch.from_numpy(np.pad(small.numpy(), ((0, 0), (0, down), (0, right)), mode="symmetric"))


def _head(model: nn.Module) -> Any:
    return model.head


class _Meter:
    """Computes PSNR and SSIM image by image. It stores two numbers for each."""

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self._psnr: list[float] = []
        self._ssim: list[float] = []

    def update(self, outputs: list[Tensor], targets: list[dict[str, Any]]) -> None:
        """Take large images and targets of a batch."""
        for found, target in zip(outputs, targets, strict=True):
            one, two = (image_quality.luma(image, self._scale) for image in (found, target["image"]))
            self._psnr.append(image_quality.psnr(one, two))
            self._ssim.append(image_quality.ssim(one, two))

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the means over images, and the PSNR of each image."""
        values = np.array(self._psnr)
        return {"psnr": float(values.mean()), "ssim": float(np.mean(self._ssim))}, values
