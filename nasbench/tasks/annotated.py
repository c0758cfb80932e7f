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
from nasbench.tasks.archive import Archive, split_of

__all__ = [
    "AnnotatedImages",
    "Box",
    "StoredImage",
    "by_stem",
    "decoded",
    "drawn_splits",
    "listed_splits",
    "refuse",
    "stored_image",
]

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

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


@dataclass(frozen=True)
class StoredImage:
    """Width and height of an image as it is stored, and its EXIF orientation: 1 for an image that is not turned."""

    size: tuple[int, int]
    orientation: int

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as the image is shown."""
        return self.size[::-1] if self.orientation >= 5 else self.size

    def turned(self, box: Box) -> Box:
        """Return where a box of the stored image lies in the image as it is shown."""
        x1, y1, x2, y2 = box
        width, height = self.size
        if self.orientation in (2, 3, 7, 8):  # the right side comes first
            x1, x2 = width - x2, width - x1
        if self.orientation in (3, 4, 6, 7):  # the lower side comes first
            y1, y2 = height - y2, height - y1
        return (y1, x1, y2, x2) if self.orientation >= 5 else (x1, y1, x2, y2)


def decoded(data: bytes, name: str) -> Image.Image:
    """Return an image in RGB, with the orientation that its EXIF data gives.

    Raises:
        DataError: If the image cannot be decoded.
    """
    try:
        return to_rgb(open_image(data))[0]
    except ImageFaultError as error:
        raise DataError(f"{name} cannot be read as an image: {error}; repair or remove it") from None


def stored_image(data: bytes, name: str) -> StoredImage:
    """Return the size and the orientation of an image.

    Raises:
        DataError: If the image cannot be read.
    """
    try:
        image = open_image(data)
        if image.format == "PNG":  # its EXIF can follow its pixels
            faulty(image.load)
        return StoredImage(image.size, faulty(marks_of, image).orientation)
    except ImageFaultError as error:
        raise DataError(f"{name} cannot be read as an image: {error}; repair or remove it") from None


def by_stem(archive: Archive, names: Iterable[str], what: str, stem: Callable[[str], str]) -> dict[str, str]:
    """Return files by what belongs together: the key of an image and that of its annotations are equal.

    Args:
        archive: The files.
        names: Paths of files.
        what: What they are ("images", "masks"), for the error.
        stem: Function that takes a path and returns the key.

    Raises:
        DataError: If two files have the same key.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(stem(name), []).append(name)
    refuse(f"{archive.path}: {what} of one name", [" and ".join(same) for same in found.values() if len(same) > 1],
           "they must differ by more than their endings; keep one of them")  # fmt: skip
    return {key: same[0] for key, same in found.items()}


def listed_splits(archive: Archive, folder: str) -> dict[str, str]:
    """Return the split of each name in the lists of Pascal VOC, or {} if no list is named after a split.

    Without a list of train, "trainval" lists train and val. "cat_train" is about one class. A name can have spaces.

    Raises:
        DataError: If a list is empty, two splits have the same name, or there is no list for training.
    """
    lists: dict[str, dict[str, str]] = {}  # split: name and its list
    for file in archive.below(folder):
        word = PurePosixPath(file).stem
        split = split_of(word) or ("trainval" if word.lower().rstrip("0123456789") == "trainval" else "")
        if not split or not file.endswith(".txt"):
            continue
        names = [line.strip() for line in archive.text(file).splitlines() if line.strip()]
        if not names:
            raise DataError(f"{archive.path}: {file} names no image; fill it or remove it")
        lists.setdefault(split, {}).update(dict.fromkeys(names, file))
    both = lists.pop("trainval", {})
    if "train" not in lists and both:
        lists["train"] = {name: file for name, file in both.items() if name not in lists.get("val", {})}
    found: dict[str, tuple[str, str]] = {}  # name: split and list
    twice = []
    for split, of_split in lists.items():
        for name, file in of_split.items():
            if (first := found.setdefault(name, (split, file)))[0] != split:
                twice.append(f"{name} in {first[1]} and {file}")
    refuse(f"{archive.path}: images that are listed twice", twice, "an image can be in one split only")
    if lists and "train" not in lists:
        raise DataError(f"{archive.path}: {folder} has lists for {' and '.join(lists)}, but none for train")
    return {name: split for name, (split, _) in found.items()}


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
