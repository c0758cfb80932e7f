"""Read images and boxes: COCO's JSON, Pascal VOC's XML, or YOLO's text files, which are told apart by what is there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks.annotated import AnnotatedImages, Box, decoded, refuse, stored_image
from nasbench.tasks.archive import SPLIT_NAMES, Archive
from nasbench.tasks.box_items import BoxItem, BoxReading
from nasbench.tasks.coco_boxes import coco_files, read_coco
from nasbench.tasks.scenes import scenes
from nasbench.tasks.voc_boxes import read_voc, voc_files
from nasbench.tasks.yolo_boxes import read_yolo, yolo_files

__all__ = ["read_boxes", "scene_boxes"]

_TOLERANCE_PX = 1.0  # a box may reach this far out of its image, because tools count pixels from 0 or from 1

_FORMATS: dict[str, tuple[Callable[[Archive], list[str]], Callable[[Archive, list[str]], BoxReading]]] = {
    "COCO": (coco_files, read_coco),
    "Pascal VOC": (voc_files, read_voc),
    "YOLO": (yolo_files, read_yolo),
}
"""For each format the function that finds its files, and the one that reads them."""


def read_boxes(path: Path) -> AnnotatedImages:
    """Read a data set of detection. An image without objects is kept.

    - COCO: JSON files with `images`, `annotations` and `categories`. The split of a file is in its name or its folder.
      Crowds are kept as such.
    - Pascal VOC: `Annotations/*.xml` and `JPEGImages`, with the splits in `ImageSets/Main`. Pixels count from 1, and
      difficult objects are neither missed nor found.
    - YOLO: `images` and `labels`, with a text file `class x y w h` in shares of the sides for each image, and the names
      in `data.yaml` or `classes.txt`.

    Args:
        path: Folder or tar file.

    Raises:
        DataError: If annotations are missing, of several formats, or wrong.
    """
    archive = Archive(path)
    found = {name: files for name, (find, _) in _FORMATS.items() if (files := find(archive))}
    if len(found) != 1:
        seen = "; ".join(f"{name} ({files[0]})" for name, files in found.items())
        raise DataError(
            f"{path} has annotations of several formats: {seen}; keep one of them"
            if found
            else f"{path} has no annotations: no COCO .json, no Annotations/*.xml (Pascal VOC), no labels/*.txt (YOLO)"
        )
    ((name, files),) = found.items()
    reading = _FORMATS[name][1](archive, files)
    items, classes = sorted(reading.items, key=lambda item: item.image), reading.classes
    twice = {a.image for a, b in pairwise(items) if a.image == b.image}
    refuse(f"{path}: images that are annotated twice", sorted(twice), "keep one annotation of each")
    unclear = _check(archive, items, len(classes))
    given = _given(archive, items)
    objects, empty = sum(len(item.labels) for item in items), sum(not item.labels for item in items)
    set_apart = sum(sum(item.ignored) for item in items)
    return AnnotatedImages(
        names=[item.image for item in items],
        image=lambda i: decoded(archive.read(items[i].image), items[i].image),
        truth=lambda i: _truth(items[i]),
        classes=classes,
        given=given,
        read={
            "format": name,
            "images": f"{len(items)}, {empty} of them without objects",
            "objects": f"{objects} of {len(classes)} classes"
            + (f", {set_apart} crowds or difficult ones, which do not count" if set_apart else ""),
            "splits": ", ".join(f"{len(rows)} {split}" for split, rows in given.items()) or "none given",
            **(
                {"turned": f"{unclear} images by EXIF; their boxes are taken as those of the turned image"}
                if unclear
                else {}
            ),
            **reading.read,
        },
    )


def scene_boxes() -> AnnotatedImages:
    """Return the embedded scenes with boxes: ten classes, the digits."""
    every = [scene for of_split in scenes().values() for scene in of_split]
    ends = np.cumsum([len(of_split) for of_split in scenes().values()])
    return AnnotatedImages(
        names=[str(i) for i in range(len(every))],
        image=lambda i: Image.fromarray(every[i].image).convert("RGB"),
        truth=lambda i: _plain(every[i].boxes, every[i].labels),
        classes=tuple(str(digit) for digit in range(10)),
        given=dict(zip(scenes(), np.split(np.arange(len(every)), ends[:-1]), strict=True)),
    )


def _plain(boxes: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    nothing = np.zeros(len(labels), dtype=bool)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return {"boxes": boxes, "labels": labels, "crowd": nothing, "ignored": nothing, "areas": areas}


def _truth(item: BoxItem) -> dict[str, np.ndarray]:
    truth = _plain(np.array(item.boxes, dtype=np.float32).reshape(-1, 4), np.array(item.labels, dtype=np.int64))
    areas = [box if own is None else own for own, box in zip(item.areas, truth["areas"], strict=True)]
    return {
        **truth,
        "crowd": np.array(item.crowd, dtype=bool),
        "ignored": np.array(item.ignored, dtype=bool),
        "areas": np.array(areas, dtype=np.float32),
    }


def _given(archive: Archive, items: list[BoxItem]) -> dict[str, np.ndarray]:
    """Return the images of each split, or {} if the data give no splits."""
    if not any(item.split for item in items):
        return {}
    refuse(f"{archive.path}: images in no split, although others are in one",
           [f"{item.image} of {item.source}" for item in items if not item.split],
           "put train, val or test into the names of their files or folders, or move them away")  # fmt: skip
    rows = {split: [i for i, item in enumerate(items) if item.split == split] for split in SPLIT_NAMES}
    given = {split: np.array(of_split) for split, of_split in rows.items() if of_split}
    if "train" not in given:
        raise DataError(
            f"{archive.path} has annotations of {' and '.join(given)}, but none of train; add them, or take the names "
            "of the splits out of those of files and folders, so that all three are drawn at random"
        )
    return given


def _check(archive: Archive, items: list[BoxItem], classes: int) -> int:
    """Clip boxes to their images as these are shown, and raise an error for those that are wrong.

    Returns:
        Number of images that EXIF turns where the annotations do not say of which form they are.
    """
    sizes: list[str] = []
    empty: list[str] = []
    outside: list[str] = []
    large: list[str] = []
    labels: list[str] = []
    unclear = 0
    for item in items:
        image = stored_image(archive.read(item.image), item.image)
        frame = item.declared or image.shown
        if frame not in (image.shown, image.size):
            sizes.append(
                f"{item.source}: {frame[0]} x {frame[1]}, but {item.image} has {image.size[0]} x {image.size[1]}"
            )
            continue
        for place, box in enumerate(item.boxes):
            said = f"{item.source}: {', '.join(f'{side:g}' for side in box)} in {frame[0]} x {frame[1]} pixels"
            clipped = _clipped(box, frame)
            if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > _TOLERANCE_PX:
                outside.append(said)
            elif clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
                empty.append(said)
            item.boxes[place] = clipped if frame == image.shown else image.turned(clipped)
        unclear += image.orientation > 1 and bool(item.boxes) and (item.declared is None or image.size == image.shown)
        most = (frame[0] + _TOLERANCE_PX) * (frame[1] + _TOLERANCE_PX)
        large += [f"{item.source}: area {area:g} in {item.image}" for area in item.areas if area and area > most]
        labels += [f"{item.source}: class {label}" for label in item.labels if not 0 <= label < classes]
    refuse(f"{archive.path}: annotations of images of another size", sizes,
           "the image was probably scaled after it was annotated, so repair the annotations")  # fmt: skip
    refuse(f"{archive.path}: boxes outside of their image", outside, "remove or repair them (x1 y1 x2 y2)")
    refuse(f"{archive.path}: boxes of no area in their image", empty, "remove or repair them (x1 y1 x2 y2)")
    refuse(f"{archive.path}: areas larger than the image", large, "repair them, or leave the areas out")
    refuse(f"{archive.path}: class numbers out of range", labels, f"there are {classes} classes, 0 to {classes - 1}")
    return unclear


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))
