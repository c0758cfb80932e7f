"""Read images and masks of class numbers: `{train,val,test}/{images,masks}`, `{images,masks}`, or Pascal VOC."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks.annotated import AnnotatedImages, decoded, refuse
from nasbench.tasks.archive import Archive, is_image, split_of
from nasbench.tasks.scenes import scenes

__all__ = ["read_masks", "scene_masks"]

_PAIRS = (("images", "masks"), ("images", "labels"), ("JPEGImages", "SegmentationClass"))
"""Folders of images and of masks."""

_LISTS = "ImageSets/Segmentation"


def read_masks(path: Path, *, void: int = 255) -> AnnotatedImages:
    """Read a data set of segmentation.

    Masks are images of one channel, grey or with a palette, whose values are class numbers. An image and its mask have
    the same name up to the ending. `classes.txt` names the classes, one in a line; without it their number is the
    largest value plus one.

    Args:
        path: Folder or tar file.
        void: Value in the masks of pixels without a label.

    Raises:
        DataError: If images and masks do not belong together, or a mask cannot be used.
    """
    archive = Archive(path)
    parts = _parts(archive)
    names: list[str] = []
    masks: list[str] = []
    numbers: dict[str, list[int]] = {}
    for split, (images, of_mask) in parts.items():
        by_stem = {_stem(name, of_mask): name for name in archive.below(of_mask) if is_image(name)}
        found = {_stem(name, images): name for name in archive.below(images) if is_image(name)}
        refuse(f"{path}: images without a mask", [found[s] for s in sorted(found.keys() - by_stem.keys())],
               f"put a mask of the same name into {of_mask}")  # fmt: skip
        refuse(f"{path}: masks without an image", [by_stem[s] for s in sorted(by_stem.keys() - found.keys())],
               f"put an image of the same name into {images}, or remove them")  # fmt: skip
        for stem in sorted(found):
            numbers.setdefault(split, []).append(len(names))
            names.append(found[stem])
            masks.append(by_stem[stem])
    given = {split: np.array(of_split) for split, of_split in numbers.items() if split}
    if "" in numbers:
        given = _listed(archive, names)
    values = _checked(archive, names, masks)
    classes = _classes(archive, values, masks, void)
    return AnnotatedImages(
        names=names,
        image=lambda i: decoded(archive.read(names[i]), names[i]),
        truth=lambda i: _mask(archive, masks[i]),
        classes=classes,
        given=given,
        void=void,
        read={
            "images": f"{len(names)} with masks of {len(classes)} classes",
            "splits": ", ".join(f"{len(rows)} {split}" for split, rows in given.items()) or "none given",
            "void": f"{void} {'occurs' if any(void in found for found in values) else 'does not occur'}",
        },
    )


def scene_masks() -> AnnotatedImages:
    """Return the embedded scenes with masks: eleven classes, the background and ten digits."""
    every = [scene for of_split in scenes().values() for scene in of_split]
    ends = np.cumsum([len(of_split) for of_split in scenes().values()])
    rows = np.split(np.arange(len(every)), ends[:-1])
    return AnnotatedImages(
        names=[str(i) for i in range(len(every))],
        image=lambda i: Image.fromarray(every[i].image).convert("RGB"),
        truth=lambda i: every[i].mask,
        classes=("background", *(str(digit) for digit in range(10))),
        given=dict(zip(scenes(), rows, strict=True)),
    )


def _parts(archive: Archive) -> dict[str, tuple[str, str]]:
    """Return the folders of images and masks of each split, or those of the split "" if the folders give none."""
    folders = set(archive.folders())
    found = {
        split: (f"{top}/{images}", f"{top}/{masks}")
        for images, masks in _PAIRS
        for top in sorted(folders)
        if "/" not in top and (split := split_of(top)) and {f"{top}/{images}", f"{top}/{masks}"} <= folders
    }
    if "train" in found:
        return found
    for images, masks in _PAIRS:
        inner = {
            split: (f"{images}/{name}", f"{masks}/{name}")
            for name in sorted({folder.partition("/")[2] for folder in folders if folder.startswith(f"{images}/")})
            if (split := split_of(name)) and f"{masks}/{name}" in folders
        }
        if "train" in inner:
            return inner
        if {images, masks} <= folders:
            return {"": (images, masks)}
    raise DataError(
        f"{archive.path} has no images and masks that belong together; it needs train/images and train/masks (and val, "
        "test), or images and masks, or Pascal VOC's JPEGImages and SegmentationClass"
    )


def _stem(name: str, folder: str) -> str:
    return str(PurePosixPath(name).relative_to(folder).with_suffix(""))


def _listed(archive: Archive, names: list[str]) -> dict[str, np.ndarray]:
    """Return the splits that the lists of Pascal VOC give, or {}."""
    by_stem = {PurePosixPath(name).stem: number for number, name in enumerate(names)}
    given = {}
    for name in archive.below(_LISTS):
        split = split_of(PurePosixPath(name).stem)
        if split:
            stems = archive.text(name).split()
            refuse(f"{archive.path}: {name} lists images that are not there", sorted(set(stems) - by_stem.keys()),
                   "add them, or remove them from the list")  # fmt: skip
            given[split] = np.array([by_stem[stem] for stem in stems], dtype=int)
    return given if "train" in given else {}


def _checked(archive: Archive, names: list[str], masks: list[str]) -> list[np.ndarray]:
    """Return the values of each mask, or raise an error for masks that do not fit their images."""
    values, kinds, sizes = [], [], []
    for name, mask in zip(names, masks, strict=True):
        with Image.open(io.BytesIO(archive.read(name))) as image:
            # A photograph that is stored on its side is turned when it is decoded.
            size = image.size if image.getexif().get(0x0112, 1) < 5 else image.size[::-1]
        try:
            array = _mask(archive, mask)
        except DataError as error:
            kinds.append(str(error))
            continue
        if array.shape != size[::-1]:
            sizes.append(f"{mask} is {array.shape[1]} x {array.shape[0]}, its image {size[0]} x {size[1]}")
        values.append(np.unique(array))
    refuse(
        f"{archive.path}: masks that cannot be used", kinds, "a mask has one channel, whose values are class numbers"
    )
    refuse(f"{archive.path}: masks of another size than their image", sizes, "make them equal")
    return values


def _mask(archive: Archive, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            if image.mode not in ("L", "P", "1", "I", "I;16"):
                raise DataError(f"{name} has the mode {image.mode}")
            array = np.array(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {str(error).split(' <')[0]}") from None
    return array.astype(np.int32)


def _classes(archive: Archive, values: list[np.ndarray], masks: list[str], void: int) -> tuple[str, ...]:
    largest = max((int(found[found != void].max(initial=-1)) for found in values), default=-1)
    if largest < 0:
        raise DataError(f"{archive.path}: all pixels of all masks are void ({void})")
    if "classes.txt" not in archive.names:
        return tuple(f"class {number}" for number in range(max(2, largest + 1)))
    classes = tuple(line.strip() for line in archive.text("classes.txt").splitlines() if line.strip())
    wrong = [
        f"{mask} has {int(found[found != void].max())}"
        for mask, found in zip(masks, values, strict=True)
        if found[found != void].max(initial=-1) >= len(classes)
    ]
    refuse(f"{archive.path}: class numbers out of range", wrong,
           f"classes.txt has {len(classes)} classes, 0 to {len(classes) - 1}, and void is {void} "
           "(--set ignore=K declares another)")  # fmt: skip
    return classes
