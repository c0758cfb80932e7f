"""Augment images. The random numbers of an image depend on the seed, the epoch and the image alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench.errors import UnknownNameError

__all__ = ["augment", "check_augmentation", "item_seeds"]

_AUGMENTATIONS = ("none", "flip", "crop", "randaug")


def check_augmentation(augmentation: str) -> None:
    """Raise `UnknownNameError` if there is no such augmentation."""
    if augmentation not in _AUGMENTATIONS:
        raise UnknownNameError("augmentation", augmentation, _AUGMENTATIONS)


def item_seeds(seed: int, epoch: int, items: Tensor) -> list[int]:
    """Return one seed for each item. It depends on (seed, epoch, item), not on the batch or the worker.

    The last steps are SplitMix64 (Steele et al., OOPSLA 2014). Neighbouring items get seeds without a common pattern.
    """
    base = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    mixed = base + (items.numpy().astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return [int(value >> 1) for value in (mixed ^ (mixed >> np.uint64(31)))]  # torch takes seeds of 63 bits


def augment(pixels: Tensor, augmentation: str, seeds: Sequence[int]) -> Tensor:
    """Augment each image of the bytes `(B, 3, H, W)` separately, as `Recipe.augmentation` says.

    Args:
        pixels: The images. They are not changed.
        augmentation: One of `Recipe.augmentation`.
        seeds: The seed of each image (`item_seeds`).
    """
    check_augmentation(augmentation)
    if augmentation == "none":
        return pixels
    return torch.stack([_augmented(image, augmentation, seed) for image, seed in zip(pixels, seeds, strict=True)])


def _augmented(image: Tensor, augmentation: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if torch.rand((), generator=generator) < 0.5:
        image = image.flip(2)
    if augmentation == "crop":
        return _shifted(image, generator)
    return _randaugmented(image, generator) if augmentation == "randaug" else image


def _shifted(image: Tensor, generator: torch.Generator) -> Tensor:
    """Shift an image by up to an eighth of its side and fill the gap with zeros (He et al. 2016: 4 of 32 pixels)."""
    _, height, width = image.shape
    pad = max(1, height // 8)
    y, x = torch.randint(2 * pad + 1, (2,), generator=generator).tolist()
    return F.pad(image, (pad, pad, pad, pad))[:, y : y + height, x : x + width]


def _randaugmented(image: Tensor, generator: torch.Generator) -> Tensor:
    """Apply RandAugment (Cubuk et al., NeurIPS 2020, arXiv:1909.13719), with 2 operations of magnitude 9."""
    from torchvision.transforms import v2

    transform = v2.RandAugment()
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return transform(image)
