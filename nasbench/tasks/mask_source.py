"""Read images and masks of class numbers: `{train,val,test}/{images,masks}`, `{images,masks}`, or Pascal VOC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks._image_decoding import ImageFaultError, faulty, open_image
from nasbench.tasks.annotated import AnnotatedImages, by_stem, decoded, listed_splits, refuse, stored_image
from nasbench.tasks.archive import Archive, is_image, split_of
from nasbench.tasks.scenes import scenes

__all__ = ["read_masks", "scene_masks"]

_PAIRS = (("images", "masks"), ("images", "labels"), ("JPEGImages", "SegmentationClass"))
"""Folders of images and of masks."""

_LISTS = "ImageSets/Segmentation"

_LARGEST = 254
"""The largest class number. 255 stands for void inside of nasbench."""

_LOSSY = ("JPEG", "MPO", "JPEG2000")


def read_masks(path: Path, *, void: int = 255) -> AnnotatedImages:
    """Read a data set of segmentation.

    Masks are lossless images of one channel, grey or with a palette, whose values are class numbers from 0 to 254. An
    image and its mask have the same name up to the ending. `classes.txt` names the classes, one in a line; without it
    their number is the largest value plus one. If another value than 255 is void, and the masks have no other values
    than 0 and 255, then 255 is class 1.

    Lists of Pascal VOC decide which images belong to the data.

    Args:
        path: Folder or tar file.
        void: Value in the masks of pixels without a label.

    Raises:
        DataError: If images and masks do not belong together, or a mask cannot be used.
    """
    archive = Archive(path)
    names: list[str] = []
    masks: list[str] = []
    given: dict[str, np.ndarray] = {}
    parts = _parts(archive)
    for split, (images, of_mask) in parts.items():
        found, mask_of = (
            by_stem(archive, filter(is_image, archive.below(folder)), what, partial(_stem, folder))
            for folder, what in ((images, "images"), (of_mask, "masks"))
        )
        listed = {} if split else listed_splits(archive, _LISTS)
        if listed:
            refuse(f"{path}: {_LISTS} lists images that are not there", sorted(listed.keys() - found.keys()),
                   f"add them to {images}, or remove them from the list")  # fmt: skip
            found, mask_of = ({s: name for s, name in of.items() if s in listed} for of in (found, mask_of))
        refuse(f"{path}: images without a mask", [found[s] for s in sorted(found.keys() - mask_of.keys())],
               f"put a mask of the same name into {of_mask}, or leave them out"
               + ("" if split else f", such as by {_LISTS}/train.txt with the names of the others"))  # fmt: skip
        refuse(f"{path}: masks without an image", [mask_of[s] for s in sorted(mask_of.keys() - found.keys())],
               f"put an image of the same name into {images}, or remove them")  # fmt: skip
        stems, start = sorted(found), len(names)
        names += [found[stem] for stem in stems]
        masks += [mask_of[stem] for stem in stems]
        if split:
            given[split] = np.arange(start, len(names))
        for each in dict.fromkeys(listed.values()):
            given[each] = np.array([i for i, stem in enumerate(stems) if listed[stem] == each])
    values = _checked(archive, names, masks)
    binary = void != 255 and _others(values, void) == {0, 255}
    if binary:
        values = [np.where(found == 255, 1, found) for found in values]
    classes = _classes(archive, values, masks, void)
    absent = sorted(set(range(len(classes))) - _others(values, void))
    others = set(filter(is_image, archive.names)) - set(names) - set(masks)
    read = {
        "images": f"{len(names)} with masks of {len(classes)} classes",
        "void": f"{void} {'occurs' if any(void in found for found in values) else 'does not occur'}",
    }
    read |= {"masks": "their value 255 is class 1"} if binary else {}
    read |= {"in no mask": f"class numbers {_ranges(absent)}"} if absent else {}
    read |= {"left out": _left_out(others, "" in parts and bool(given))} if others else {}
    return AnnotatedImages(
        names=names,
        image=lambda i: decoded(archive.read(names[i]), names[i]),
        truth=lambda i: _ones(_mask(archive, masks[i])) if binary else _mask(archive, masks[i]),
        classes=classes,
        given=given,
        void=void,
        read=read,
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
    folders = archive.folders()
    tops = [folder for folder in folders if "/" not in folder and split_of(folder)]
    places = {top: [(f"{top}/{images}", f"{top}/{masks}") for images, masks in _PAIRS] for top in tops}
    if any(images in folders for pairs in places.values() for images, _ in pairs):
        return _by_split(archive, places)
    for images, masks in _PAIRS:
        if not {images, masks} <= set(folders):
            continue
        names = dict.fromkeys(
            name for folder in (images, masks) for name in _inside(folders, folder) if split_of(name)
        )  # fmt: skip
        if names:
            parts = _by_split(archive, {name: [(f"{images}/{name}", f"{masks}/{name}")] for name in names})
            within = tuple(f"{place}/" for pair in parts.values() for place in pair)
            outside = [
                n for top in (images, masks) for n in archive.below(top) if is_image(n) and not n.startswith(within)
            ]
            refuse(f"{archive.path}: images outside of the folders of the splits", outside,
                   f"move them into one of {', '.join(names)}, or away")  # fmt: skip
            return parts
        return {"": (images, masks)}
    inner = sorted(
        {folder.rpartition("/")[0] for folder in folders if folder.endswith(tuple(f"/{m}" for _, m in _PAIRS))}
    )
    raise DataError(
        f"{archive.path} has no images and masks that belong together; it needs train/images and train/masks (and val, "
        "test), or images and masks, or Pascal VOC's JPEGImages and SegmentationClass"
        + (f"; are they in {' or '.join(inner[:3])}?" if inner else "")
    )


def _stem(folder: str, name: str) -> str:
    """Return the path of a file in a folder without its ending."""
    return str(PurePosixPath(name).relative_to(folder).with_suffix(""))


def _inside(folders: list[str], folder: str) -> list[str]:
    """Return the names of the folders directly in a folder."""
    return [name for each in folders if each.startswith(f"{folder}/") and "/" not in (name := each[len(folder) + 1 :])]


def _by_split(archive: Archive, places: dict[str, list[tuple[str, str]]]) -> dict[str, tuple[str, str]]:
    """Return one folder of images and one of masks for each split.

    Args:
        archive: The files.
        places: For each folder that is named after a split, the pairs of folders that can belong to it.

    Raises:
        DataError: If a split has no images, no masks, or several folders of them, or none is for training.
    """
    parts: dict[str, tuple[str, str]] = {}
    source: dict[str, str] = {}
    for name, pairs in places.items():
        split = split_of(name)
        if split in parts:
            raise DataError(f"{archive.path}: both {source[split]} and {name} are for {split}; keep one of them")
        found = [pair for pair in pairs if all(any(map(is_image, archive.below(folder))) for folder in pair)]
        if not found:
            images, masks = pairs[0]
            raise DataError(
                f"{archive.path}: {name} has no images with masks; put images into {images} and masks into {masks}, or "
                "remove the folder"
            )
        if len(found) > 1:
            names = " and ".join(masks for _, masks in found)
            raise DataError(f"{archive.path}: {name} has masks in {names}; keep one of them")
        parts[split], source[split] = found[0], name
    if "train" not in parts:
        raise DataError(f"{archive.path} has folders for {' and '.join(parts)}, but none for train")
    return parts


def _checked(archive: Archive, names: list[str], masks: list[str]) -> list[np.ndarray]:
    """Return the values of each mask, or raise an error for masks that do not fit their images."""
    values, faults, sizes = [], [], []
    for name, mask in zip(names, masks, strict=True):
        size = stored_image(archive.read(name), name).shown
        try:
            array = _mask(archive, mask)
        except DataError as error:
            faults.append(str(error))
            continue
        if array.shape != size[::-1]:
            sizes.append(f"{mask} is {array.shape[1]} x {array.shape[0]}, its image {size[0]} x {size[1]}")
        values.append(np.unique(array))
    refuse(f"{archive.path}: masks that cannot be used", faults,
           "a mask is a lossless image, such as PNG, of one channel, whose values are class numbers")  # fmt: skip
    refuse(f"{archive.path}: masks of another size than their image", sizes, "make them equal")
    return values


def _mask(archive: Archive, name: str) -> np.ndarray:
    try:
        image = open_image(archive.read(name))
        if image.format in _LOSSY or image.info.get("compression") == "jpeg":
            raise DataError(f"{name} is a JPEG, whose compression changes class numbers")
        if image.mode not in ("L", "P", "1", "I", "I;16"):
            raise DataError(f"{name} has the mode {image.mode}")
        return faulty(np.array, image).astype(np.int32)
    except ImageFaultError as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from None


def _ones(mask: np.ndarray) -> np.ndarray:
    """Return a mask of 0 and 255 with class 1 for 255."""
    return np.where(mask == 255, 1, mask)


def _others(values: list[np.ndarray], void: int) -> set[int]:
    """Return all values of masks that are not void."""
    return {int(value) for found in values for value in found} - {void}


def _classes(archive: Archive, values: list[np.ndarray], masks: list[str], void: int) -> tuple[str, ...]:
    """Return the names of the classes.

    Raises:
        DataError: If a class number is out of range, or fewer than two classes occur.
    """
    found = _others(values, void)
    another = (
        f"{void} is void, a pixel without a label; --set ignore=K declares another value, also one that does not "
        "occur, such as 254"
    )
    if not found:
        raise DataError(f"{archive.path}: all pixels of all masks are void ({void}); {another}")
    named = "classes.txt" in archive.names
    lines = archive.text("classes.txt").splitlines() if named else []
    classes = tuple(line.strip() for line in lines if line.strip())
    largest = min(len(classes) - 1, _LARGEST) if named else _LARGEST
    wrong = []
    for mask, of_mask in zip(masks, values, strict=True):
        outside = [int(value) for value in of_mask if value != void and not 0 <= value <= largest]
        wrong += [f"{mask} has {outside[-1]}"] if outside else []
    allowed = f"classes.txt has {len(classes)} classes" if named else "class numbers are bytes"
    refuse(f"{archive.path}: class numbers out of range", wrong, f"{allowed}, 0 to {largest}, and {another}")
    if len(found) == 1:
        raise DataError(
            f"{archive.path}: class {found.pop()} is the only class in the masks, so there is nothing to tell apart; "
            f"{another}" + ("; then 255 is read as class 1" if void == 255 and 255 in _others(values, -1) else "")
        )
    return classes or tuple(f"class {number}" for number in range(max(found) + 1))


def _ranges(numbers: list[int]) -> str:
    """Return sorted numbers with runs joined: "1, 3 to 9"."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _left_out(others: Iterable[str], of_lists: bool) -> str:
    """Return how many images are not used, and how many of them are in each folder."""
    places = Counter(str(PurePosixPath(name).parent) for name in others)
    which = f" that no list of {_LISTS} names" if of_lists else ""
    return f"{places.total()} images{which}: {', '.join(f'{n} in {place}' for place, n in sorted(places.items()))}"
