"""Read boxes from YOLO's text files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import yaml

from nasbench.errors import DataError
from nasbench.tasks.annotated import by_stem, refuse, stored_image
from nasbench.tasks.archive import Archive, is_image
from nasbench.tasks.box_items import BoxItem, BoxReading, split_in

__all__ = ["read_yolo", "yolo_files"]

_NAMES = "classes.txt"


def yolo_files(archive: Archive) -> list[str]:
    """Return the text files in folders below labels. LabelImg writes its list of names beside them."""
    return [
        name
        for name in archive.names
        if name.endswith(".txt") and "labels" in PurePosixPath(name).parent.parts and PurePosixPath(name).name != _NAMES
    ]


def read_yolo(archive: Archive, files: list[str]) -> BoxReading:
    """Return all images in folders below images. An image without a file of labels has no objects."""
    images = [name for name in archive.names if is_image(name) and "images" in PurePosixPath(name).parent.parts]
    image_of = by_stem(archive, images, "images", _label_file)
    refuse(f"{archive.path}: labels without an image", sorted(set(files) - image_of.keys()),
           "put the image into the same place under images, or remove them")  # fmt: skip
    known = set(files)
    items = []
    for source, image in image_of.items():
        item = BoxItem(image, source, split_in(image))
        if source in known:
            size = stored_image(archive.read(image), image).shown
            for line, text in enumerate(archive.text(source).splitlines(), start=1):
                if text.strip():
                    _add_line(item, text, size, f"{source}, line {line}")
        items.append(item)
    return BoxReading(items, _names(archive, items))


def _label_file(image: str) -> str:
    path = PurePosixPath(image)
    parts = list(path.parts)
    place = len(parts) - 1 - parts[::-1].index("images")
    parts[place] = "labels"
    return str(PurePosixPath(*parts).with_suffix(".txt"))


def _add_line(item: BoxItem, text: str, size: tuple[int, int], place: str) -> None:
    words, (width, height) = text.split(), size
    try:
        label, x, y, w, h = (float(word) for word in words[:5])  # a class can be written as 0.0
    except ValueError:
        raise DataError(f"{place}: {text!r} is not `class x y w h`") from None
    if len(words) != 5:
        raise DataError(f"{place}: {len(words)} values; a box is `class x y w h`, and polygons are not supported")
    if not label.is_integer():
        raise DataError(f"{place}: class {words[0]} is not a whole number")
    if not all(0 <= value <= 1 for value in (x, y, w, h)):
        raise DataError(f"{place}: {text!r}; x y w h are shares of the image's sides, from 0 to 1")
    item.add(((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height), int(label))


def _names(archive: Archive, items: list[BoxItem]) -> tuple[str, ...]:
    """Return the class names of `data.yaml` and `classes.txt`, or numbers where there is neither."""
    found: dict[tuple[str, ...], str] = {}
    for name in archive.names:
        if PurePosixPath(name).name == _NAMES:
            lines = [line.strip() for line in archive.text(name).splitlines()]
            names = _named([line for line in lines if line], f"{archive.path}: {name}")
        elif name.lower().endswith((".yaml", ".yml")):
            names = _declared(archive, name)
        else:
            continue
        if names:
            found.setdefault(names, name)
    if len(found) > 1:
        said = "; ".join(f"{file} has {', '.join(names)}" for names, file in found.items())
        raise DataError(f"{archive.path} gives different class names: {said}; keep one of them")
    largest = max((label for item in items for label in item.labels), default=-1)
    return next(iter(found), tuple(str(number) for number in range(largest + 1)))


def _declared(archive: Archive, name: str) -> tuple[str, ...]:
    """Return the names in a YAML file, or () if it is about something else."""
    place = f"{archive.path}: {name}"
    try:
        document = yaml.safe_load(archive.text(name))
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a ValueError
        raise DataError(f"{place} is not YAML: {' '.join(str(error).split())}") from None
    names, count = (document.get("names"), document.get("nc")) if isinstance(document, dict) else (None, None)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise DataError(f"{place}: nc is {count!r}, not a number of classes")
    if names is None:
        return tuple(str(number) for number in range(count or 0))
    if isinstance(names, dict):
        names = _in_order(names, place)
    if not isinstance(names, list) or not names:
        raise DataError(f"{place}: names is {names!r}; write a list of names, or a name for each number from 0")
    if count not in (None, len(names)):
        raise DataError(f"{place}: nc is {count}, but there are {len(names)} names")
    return _named(names, place)


def _in_order(names: dict[Any, Any], place: str) -> list[Any]:
    """Return the names by their numbers, which can be written as text."""
    by_number = {int(key): name for key, name in names.items() if str(key).isdecimal()}
    if len(by_number) < len(names) or sorted(by_number) != list(range(len(names))):
        keys = ", ".join(str(key) for key in names)
        raise DataError(f"{place}: names has the keys {keys}; class numbers start at 0 and have no gaps")
    return [by_number[number] for number in range(len(names))]


def _named(names: list[Any], place: str) -> tuple[str, ...]:
    wrong = [repr(name) for name in names if isinstance(name, bool) or not isinstance(name, str | int | float)]
    wrong += sorted({f"{name!r} twice" for name in names if names.count(name) > 1})
    refuse(f"{place}: class names that cannot be used", wrong, "give each class its own name")
    return tuple(str(name) for name in names)
