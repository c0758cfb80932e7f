"""Images with a mask or with boxes, as files give them: what all dense data have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks._base import SPLITS
from nasbench.tasks._image_decoding import ImageFaultError, faulty, marks_of, open_image, to_rgb
from nasbench.tasks.archive import Archive, is_image, split_of

__all__ = ["AnnotatedImages", "by_stem", "decoded", "drawn_splits", "listed_splits", "refuse", "shown_size"]

_SHOWN = 5  # faults that an error names


@dataclass(frozen=True)
class AnnotatedImages:
    """Images that are not decoded yet, and what is true of each.

    Attributes:
        names: Name of each image. Messages and the hash of the data use it.
        image: Function that takes the number of an image and returns it, in RGB.
        truth: For each image its truth: a mask `(H, W)` of class numbers, or a dict of `boxes` `(n, 4)` (x1, y1, x2,
            y2 in pixels), `labels` `(n,)` from 0, `crowd` and `ignored` `(n,)`, and `areas` `(n,)`.
        classes: Class names.
        given: For each split the numbers of its images.
        void: Class number of pixels without a label.
        read: What was recognised, by name.
    """

    names: list[str]
    image: Callable[[int], Image.Image]
    truth: Callable[[int], Any]
    classes: tuple[str, ...]
    given: Mapping[str, np.ndarray]
    void: int = 255
    read: Mapping[str, str] = field(default_factory=dict)


def decoded(data: bytes, name: str) -> Image.Image:
    """Return an image in RGB, with the orientation that its EXIF data gives.

    Raises:
        DataError: If the image cannot be decoded.
    """
    try:
        return to_rgb(open_image(data))[0]
    except ImageFaultError as error:
        raise DataError(f"{name} cannot be read as an image: {error}; repair or remove it") from None


def shown_size(data: bytes, name: str) -> tuple[int, int]:
    """Return width and height of an image with the orientation that its EXIF data gives. Its pixels are not decoded.

    Raises:
        DataError: If the image cannot be read.
    """
    try:
        image = open_image(data)
        turned = faulty(marks_of, image).orientation >= 5  # stored on its side
    except ImageFaultError as error:
        raise DataError(f"{name} cannot be read as an image: {error}; repair or remove it") from None
    return image.size[::-1] if turned else image.size


def by_stem(archive: Archive, names: Iterable[str], what: str, stem: Callable[[str], str]) -> dict[str, str]:
    """Return those of some files that are images, by what an annotation file of theirs would be called.

    Args:
        archive: The files.
        names: Paths of files.
        what: What they are ("images", "masks"), for the error.
        stem: Function that takes a path and returns the key.

    Raises:
        DataError: If two images have the same key.
    """
    found: dict[str, list[str]] = {}
    for name in filter(is_image, names):
        found.setdefault(stem(name), []).append(name)
    refuse(f"{archive.path}: {what} of one name", [" and ".join(same) for same in found.values() if len(same) > 1],
           "they must differ by more than their endings; keep one of them")  # fmt: skip
    return {key: same[0] for key, same in found.items()}


def listed_splits(archive: Archive, folder: str) -> dict[str, str]:
    """Return the split of each name in the lists of Pascal VOC, or {} if no list is named after a split.

    "trainval" joins two lists, and "cat_train" is about one class.

    Raises:
        DataError: If a name is listed twice, or there is no list for training.
    """
    found: dict[str, str] = {}
    source: dict[str, str] = {}
    twice = []
    for file in archive.below(folder):
        split = split_of(PurePosixPath(file).stem) if file.endswith(".txt") else ""
        for name in filter(None, map(str.strip, archive.text(file).splitlines() if split else ())):
            if name in found:
                twice.append(f"{name} in {source[name]} and {file}")
            found[name], source[name] = split, file
    refuse(f"{archive.path}: images that are listed twice", twice, "an image can be in one split only")
    if found and "train" not in found.values():
        raise DataError(
            f"{archive.path}: {folder} has lists for {' and '.join(set(found.values()))}, but none for train"
        )
    return found


def drawn_splits(given: Mapping[str, np.ndarray], count: int, seed: int) -> dict[str, np.ndarray]:
    """Return all three splits. A split that the data do not give is a fifth of the training images, drawn by seed.

    Raises:
        DataError: If a split has no images, or the data give splits but none for training.
    """
    if given and "train" not in given:
        raise DataError(f"the data have splits for {' and '.join(given)}, but none for train")
    splits = dict(given)
    rest = splits.get("train", np.arange(count))
    draw, size = np.random.default_rng(seed), max(1, round(len(rest) / 5))
    for split in ("test", "val"):
        if split not in splits:
            rest = draw.permutation(rest)
            splits[split], rest = rest[:size], rest[size:]
    splits["train"] = rest
    empty = [split for split in SPLITS if not len(splits[split])]
    if empty:
        raise DataError(f"no images are left for {' and '.join(empty)}; there are {count} in all")
    return {split: np.sort(splits[split]) for split in SPLITS}


def refuse(what: str, faults: Sequence[str], remedy: str) -> None:
    """Raise one error for all faults of a kind, if there are any.

    Raises:
        DataError: It says what is wrong, how often, names the first five, and what to do.
    """
    if faults:
        shown = "; ".join(faults[:_SHOWN]) + ("; ..." if len(faults) > _SHOWN else "")
        raise DataError(f"{what} ({len(faults)}): {shown}; {remedy}")
