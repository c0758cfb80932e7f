"""Read images and boxes: COCO's JSON, Pascal VOC's XML, or YOLO's text files, which are told apart by what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks.annotated import AnnotatedImages, by_stem, decoded, refuse, shown_size
from nasbench.tasks.archive import SPLIT_NAMES, Archive, is_image, split_of
from nasbench.tasks.scenes import scenes

__all__ = ["read_boxes", "scene_boxes"]

_TOLERANCE_PX = 1.0  # a box may reach this far out of its image, because tools count pixels from 0 or from 1
_LISTS = "ImageSets/Main"


@dataclass
class _Item:
    """An image and its objects, as a format gives them."""

    image: str
    source: str  # the file of its annotations
    split: str
    boxes: list[list[float]]
    labels: list[int]
    crowd: list[bool]
    ignored: list[bool]
    areas: list[float] | None  # None: the areas of the boxes


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
    found = {name: files for name, find in _FORMATS.items() if (files := find(archive))}
    if len(found) != 1:
        seen = "; ".join(f"{name} ({files[0]})" for name, files in found.items())
        raise DataError(
            f"{path} has annotations of several formats: {seen}; keep one of them"
            if found
            else f"{path} has no annotations: no COCO .json, no Annotations/*.xml (Pascal VOC), no labels/*.txt (YOLO)"
        )
    ((name, files),) = found.items()
    items, classes = _READERS[name](archive, files)
    items = sorted(items, key=lambda item: item.image)
    twice = {a.image for a, b in pairwise(items) if a.image == b.image}
    refuse(f"{path}: images that are annotated twice", sorted(twice), "keep one annotation of each")
    _check(archive, items, len(classes))
    given = {split: np.array([i for i, item in enumerate(items) if item.split == split]) for split in SPLIT_NAMES}
    given = {split: rows for split, rows in given.items() if len(rows)} if any(item.split for item in items) else {}
    objects, empty = sum(len(item.labels) for item in items), sum(not item.labels for item in items)
    set_apart = sum(sum(item.ignored) for item in items)
    return AnnotatedImages(
        names=[item.image for item in items],
        image=lambda i: decoded(archive.read(items[i].image), items[i].image),
        truth=lambda i: _truth(items[i]),
        classes=classes,
        given=given if "train" in given else {},
        read={
            "format": name,
            "images": f"{len(items)}, {empty} of them without objects",
            "objects": f"{objects} of {len(classes)} classes"
            + (f", {set_apart} crowds or difficult ones, which do not count" if set_apart else ""),
            "splits": ", ".join(f"{len(rows)} {split}" for split, rows in given.items()) or "none given",
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


def _truth(item: _Item) -> dict[str, np.ndarray]:
    boxes = np.array(item.boxes, dtype=np.float32).reshape(-1, 4)
    truth = _plain(boxes, np.array(item.labels, dtype=np.int64))
    crowd, ignored = np.array(item.crowd, dtype=bool), np.array(item.ignored, dtype=bool)
    areas = truth["areas"] if item.areas is None else np.array(item.areas, dtype=np.float32)
    return {**truth, "crowd": crowd, "ignored": ignored, "areas": areas}


def _check(archive: Archive, items: list[_Item], classes: int) -> None:
    """Clip boxes to their images, and raise an error for those that are wrong."""
    outside, empty, labels = [], [], []
    for item in items:
        width, height = shown_size(archive.read(item.image), item.image)
        for place, box in enumerate(item.boxes):
            x1, y1, x2, y2 = box
            said = f"{item.source}: {x1:g}, {y1:g}, {x2:g}, {y2:g} in {width} x {height} pixels"
            if not np.isfinite(box).all() or x2 <= x1 or y2 <= y1:
                empty.append(said)
            elif min(x1, y1) < -_TOLERANCE_PX or x2 > width + _TOLERANCE_PX or y2 > height + _TOLERANCE_PX:
                outside.append(said)
            item.boxes[place] = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
        labels += [f"{item.source}: class {label}" for label in item.labels if not 0 <= label < classes]
    refuse(f"{archive.path}: boxes of no area", empty, "remove or repair them (x1 y1 x2 y2)")
    refuse(f"{archive.path}: boxes outside of their image", outside, "remove or repair them (x1 y1 x2 y2)")
    refuse(f"{archive.path}: class numbers out of range", labels, f"there are {classes} classes, 0 to {classes - 1}")


# -- COCO ------------------------------------------------------------------------------------------------------


def _coco_files(archive: Archive) -> list[str]:
    """Return the JSON files that have images and annotations."""
    return [
        name
        for name in archive.names
        if name.lower().endswith(".json")
        and b'"annotations"' in (data := archive.read(name))
        and b'"images"' in data
        and b'"categories"' in data
    ]


def _read_coco(archive: Archive, files: list[str]) -> tuple[list[_Item], tuple[str, ...]]:
    documents = {name: _json(archive, name) for name in files}
    names: dict[int, str] = {}
    for document in documents.values():
        names.update({int(category["id"]): str(category["name"]) for category in document["categories"]})
    used = sorted(names)
    number = {category: label for label, category in enumerate(used)}
    images = _by_ending(archive)
    items: list[_Item] = []
    missing: list[str] = []
    strange: list[str] = []
    for name, document in documents.items():
        split = _split_in(name)
        of_image: dict[Any, _Item] = {}
        for entry in document["images"]:
            file = _find(images, str(entry["file_name"]), name, split)
            if file is None:
                missing.append(f"{entry['file_name']} of {name}")
                continue
            of_image[entry["id"]] = _Item(file, name, split, [], [], [], [], [])
        absent = {entry["id"] for entry in document["images"]} - of_image.keys()
        for note in document["annotations"]:
            item = of_image.get(note["image_id"])
            if item is None or note.get("category_id") not in number:
                if note["image_id"] not in absent:
                    strange.append(f"annotation {note.get('id')} of {name}")
                continue
            x, y, width, height = (float(value) for value in note["bbox"])
            crowd = bool(note.get("iscrowd", 0))
            item.boxes.append([x, y, x + width, y + height])
            item.labels.append(number[note["category_id"]])
            item.crowd.append(crowd)
            item.ignored.append(crowd)
            assert item.areas is not None
            item.areas.append(float(note.get("area", width * height)))
        items += of_image.values()
    refuse(f"{archive.path}: images that are not there", missing, "add them, or remove them from the file")
    refuse(f"{archive.path}: annotations of an unknown image or category", strange, "repair or remove them")
    return items, tuple(names[category] for category in used)


def _json(archive: Archive, name: str) -> dict[str, Any]:
    try:
        document = json.loads(archive.text(name))
        for entry in document["annotations"]:
            _ = entry["image_id"], entry["category_id"], len(entry["bbox"]) == 4 or 1 / 0
        for entry in document["images"]:
            _ = entry["id"], entry["file_name"]
        for entry in document["categories"]:
            _ = entry["id"], entry["name"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise DataError(f"{archive.path}: {name} is no COCO file: {type(error).__name__}: {error}") from None
    return document


def _by_ending(archive: Archive) -> dict[str, list[str]]:
    """Return the paths of all images by their last part."""
    found: dict[str, list[str]] = {}
    for name in archive.names:
        if is_image(name):
            found.setdefault(PurePosixPath(name).name, []).append(name)
    return found


def _find(images: Mapping[str, list[str]], wanted: str, source: str, split: str) -> str | None:
    """Return the image that a COCO file names: of those whose path ends so, the one nearest to the file and split."""
    wanted = wanted.replace("\\", "/").lstrip("./")
    same = [name for name in images.get(PurePosixPath(wanted).name, []) if f"/{name}".endswith(f"/{wanted}")]
    folder = str(PurePosixPath(source).parent)
    nearest = [name for name in same if folder != "." and name.startswith(f"{folder}/")]
    of_split = [name for name in same if split and _split_in(name) == split]
    return next(iter(nearest or of_split or same), None)


def _split_in(name: str) -> str:
    """Return the split in the folders of a path, or in the words of its file's name."""
    path = PurePosixPath(name)
    words = [*reversed(path.parent.parts), *path.stem.replace("-", "_").split("_")]
    return next((split for word in words if (split := split_of(word))), "")


# -- Pascal VOC ------------------------------------------------------------------------------------------------


def _voc_files(archive: Archive) -> list[str]:
    return [name for name in archive.below("Annotations") if name.lower().endswith(".xml")]


def _read_voc(archive: Archive, files: list[str]) -> tuple[list[_Item], tuple[str, ...]]:
    images = by_stem(archive, archive.below("JPEGImages"), "images", lambda name: PurePosixPath(name).stem)
    stems = {PurePosixPath(name).stem: name for name in files}
    listed: dict[str, str] = {}
    for name in archive.below(_LISTS):
        # "trainval" joins two lists, and "cat_train" is about one class.
        if (split := split_of(PurePosixPath(name).stem)) and name.endswith(".txt"):
            listed.update(dict.fromkeys(archive.text(name).split(), split))
    wanted = sorted(listed) if "train" in listed.values() else sorted(stems)
    refuse(f"{archive.path}: images without an annotation file", [s for s in wanted if s not in stems],
           "put NAME.xml into Annotations, or remove them from the list")  # fmt: skip
    refuse(f"{archive.path}: annotations without an image", [stems[s] for s in wanted if s not in images],
           "put the image into JPEGImages, or remove them")  # fmt: skip
    trees = {stem: _xml(archive, stems[stem]) for stem in wanted}
    objects = {stem: tree.findall("object") for stem, tree in trees.items()}
    classes = tuple(sorted({_text(o, "name", stems[stem]) for stem, found in objects.items() for o in found}))
    items = []
    for stem in wanted:
        item = _Item(images[stem], stems[stem], listed.get(stem, ""), [], [], [], [], None)
        for thing in objects[stem]:
            ends = [float(_text(thing, f"bndbox/{side}", stems[stem])) for side in ("xmin", "ymin", "xmax", "ymax")]
            item.boxes.append([ends[0] - 1, ends[1] - 1, ends[2], ends[3]])  # pixels count from 1, and both ends belong
            item.labels.append(classes.index(_text(thing, "name", stems[stem])))
            item.crowd.append(False)
            item.ignored.append((thing.findtext("difficult") or "0").strip() == "1")
        items.append(item)
    return items, classes


def _xml(archive: Archive, name: str) -> ElementTree.Element:
    data = archive.read(name)
    if b"<!ENTITY" in data:  # entities can grow without end, and no annotation needs one
        raise DataError(f"{archive.path}: {name} declares entities; remove them")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{archive.path}: {name} is not XML: {error}") from None


def _text(element: ElementTree.Element, path: str, name: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise DataError(f"{name}: an object has no {path.replace('/', ' ')}")
    if path.startswith("bndbox"):
        try:
            float(text)
        except ValueError:
            raise DataError(f"{name}: {path.rpartition('/')[2]} is {text!r}, not a number") from None
    return text


# -- YOLO ------------------------------------------------------------------------------------------------------


def _yolo_files(archive: Archive) -> list[str]:
    return [name for name in archive.names if name.endswith(".txt") and "labels" in PurePosixPath(name).parent.parts]


def _read_yolo(archive: Archive, files: list[str]) -> tuple[list[_Item], tuple[str, ...]]:
    below = [name for name in archive.names if "images" in PurePosixPath(name).parent.parts]
    label_of = {image: label for label, image in by_stem(archive, below, "images", _label_file).items()}
    refuse(f"{archive.path}: labels without an image", sorted(set(files) - set(label_of.values())),
           "put the image into the same place under images, or remove them")  # fmt: skip
    known = set(files)
    items = []
    for image, source in label_of.items():
        item = _Item(image, source, _split_in(image), [], [], [], [], None)
        if source in known:  # an image without a file has no objects
            width, height = shown_size(archive.read(image), image)
            for line, text in enumerate(archive.text(source).splitlines(), start=1):
                if text.strip():
                    _add_line(item, text, width, height, f"{source}, line {line}")
        items.append(item)
    return items, _names(archive, items)


def _label_file(image: str) -> str:
    path = PurePosixPath(image)
    parts = list(path.parts)
    place = len(parts) - 1 - parts[::-1].index("images")
    parts[place] = "labels"
    return str(PurePosixPath(*parts).with_suffix(".txt"))


def _add_line(item: _Item, text: str, width: int, height: int, place: str) -> None:
    words = text.split()
    try:
        label, x, y, w, h = int(words[0]), *(float(word) for word in words[1:5])
    except (ValueError, IndexError):
        raise DataError(f"{place}: {text!r} is not `class x y w h`") from None
    if len(words) != 5:
        raise DataError(f"{place}: {len(words)} values; a box is `class x y w h`, and polygons are not supported")
    if not all(0 <= value <= 1 for value in (x, y, w, h)):
        raise DataError(f"{place}: {text!r}; x y w h are shares of the image's sides, from 0 to 1")
    item.boxes.append([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height])
    item.labels.append(label)
    item.crowd.append(False)
    item.ignored.append(False)


def _names(archive: Archive, items: list[_Item]) -> tuple[str, ...]:
    """Return the class names of `data.yaml` or `classes.txt`, or numbers where there is neither."""
    for name in archive.names:
        if PurePosixPath(name).name == "classes.txt":
            return tuple(line.strip() for line in archive.text(name).splitlines() if line.strip())
    for name in archive.names:
        if name.endswith((".yaml", ".yml")):
            try:
                document = yaml.safe_load(archive.text(name))
            except yaml.YAMLError as error:
                raise DataError(f"{archive.path}: {name} is not YAML: {error}") from None
            names = document.get("names") if isinstance(document, dict) else None
            if isinstance(names, dict):
                names = [names[key] for key in sorted(names)]
            if isinstance(names, list) and names:
                return tuple(str(each) for each in names)
    largest = max((label for item in items for label in item.labels), default=0)
    return tuple(str(number) for number in range(largest + 1))


_FORMATS: dict[str, Callable[[Archive], list[str]]] = {
    "COCO": _coco_files, "Pascal VOC": _voc_files, "YOLO": _yolo_files,
}  # fmt: skip
_READERS: dict[str, Callable[[Archive, list[str]], tuple[list[_Item], tuple[str, ...]]]] = {
    "COCO": _read_coco, "Pascal VOC": _read_voc, "YOLO": _read_yolo,
}  # fmt: skip
