"""Read boxes from Pascal VOC's XML files."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from xml.etree import ElementTree

from pydantic import TypeAdapter, ValidationError

from nasbench.errors import DataError
from nasbench.tasks.annotated import by_stem, listed_splits, refuse
from nasbench.tasks.archive import Archive, is_image
from nasbench.tasks.box_items import BoxItem, BoxReading, counted

__all__ = ["read_voc", "voc_files"]

_LISTS = "ImageSets/Main"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FLAG = TypeAdapter(bool)  # reads 0 and 1, and the words that tools write instead


def voc_files(archive: Archive) -> list[str]:
    """Return the XML files below Annotations."""
    return [name for name in archive.below("Annotations") if name.lower().endswith(".xml")]


def read_voc(archive: Archive, files: list[str]) -> BoxReading:
    """Return the images that the lists of the splits name, or without lists all that have annotations."""
    images = by_stem(archive, filter(is_image, archive.below("JPEGImages")), "images", _stem)
    annotations = by_stem(archive, files, "annotations", _stem)
    listed = listed_splits(archive, _LISTS)
    wanted = sorted(listed or annotations)
    refuse(f"{archive.path}: images without an annotation file", [s for s in wanted if s not in annotations],
           "put NAME.xml into Annotations, or remove them from the list")  # fmt: skip
    refuse(f"{archive.path}: annotations without an image", [annotations[s] for s in wanted if s not in images],
           "put the image into JPEGImages, or remove them")  # fmt: skip
    trees = {stem: _xml(archive, annotations[stem]) for stem in wanted}
    objects = {stem: tree.findall("object") for stem, tree in trees.items()}
    classes = tuple(sorted({_text(o, "name", annotations[stem]) for stem, found in objects.items() for o in found}))
    items = []
    for stem in wanted:
        source = annotations[stem]
        item = BoxItem(images[stem], source, listed.get(stem, ""), _declared(trees[stem], source))
        for thing in objects[stem]:
            x1, y1, x2, y2 = (_number(thing, f"bndbox/{side}", source) for side in _SIDES)
            # Pixels count from 1, and both ends belong to the box.
            box = (x1 - 1, y1 - 1, x2, y2)
            item.add(box, classes.index(_text(thing, "name", source)), ignored=_is_difficult(thing, source))
        items.append(item)
    why = "images that no list names" if listed else "images without an annotation file"
    left_out = counted({name for stem, name in images.items() if stem not in wanted}, why)
    return BoxReading(items, classes, {"left out": left_out[0]} if left_out else {})


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _xml(archive: Archive, name: str) -> ElementTree.Element:
    data = archive.read(name)
    if b"<!ENTITY" in data:  # entities can grow without end, and no annotation needs one
        raise DataError(f"{archive.path}: {name} declares entities; remove them")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an encoding that is unknown
        raise DataError(f"{archive.path}: {name} is not XML: {error}") from None


def _text(element: ElementTree.Element, path: str, name: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise DataError(f"{name}: an object has no {path.replace('/', ' ')}")
    return text


def _number(element: ElementTree.Element, path: str, name: str) -> float:
    text = _text(element, path, name)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{name}: {path.rpartition('/')[2]} is {text!r}, not a finite number")
    return number


def _declared(tree: ElementTree.Element, name: str) -> tuple[int, int] | None:
    """Return width and height that the file gives, or None if it gives none. Some tools write 0 instead."""
    if not all((tree.findtext(f"size/{side}") or "").strip() for side in ("width", "height")):
        return None
    width, height = (int(_number(tree, f"size/{side}", name)) for side in ("width", "height"))
    return (width, height) if width and height else None


def _is_difficult(thing: ElementTree.Element, name: str) -> bool:
    text = (thing.findtext("difficult") or "0").strip() or "0"
    try:
        return _FLAG.validate_python(text)
    except ValidationError:
        raise DataError(f"{name}: difficult is {text!r}, not 0 or 1") from None
