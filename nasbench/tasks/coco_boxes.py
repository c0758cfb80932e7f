"""Read boxes from COCO's JSON files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, ValidationError

from nasbench.errors import DataError
from nasbench.tasks.annotated import refuse
from nasbench.tasks.archive import Archive, is_image
from nasbench.tasks.box_items import BoxItem, BoxReading, counted, split_in

__all__ = ["coco_files", "read_coco"]

_KEYS = (b'"images"', b'"annotations"', b'"categories"')


def _identity(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an id is a whole number or text")
    return value


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


_Id = Annotated[int | str, BeforeValidator(_identity)]
_Whole = Annotated[int, BeforeValidator(_no_flag)]
_Real = Annotated[FiniteFloat, BeforeValidator(_no_flag)]


class _Image(BaseModel):
    id: _Id
    file_name: str
    width: _Whole | None = None
    height: _Whole | None = None


class _Category(BaseModel):
    id: _Whole
    name: str


class _Annotation(BaseModel):
    id: Any = None
    image_id: _Id
    category_id: _Whole
    bbox: tuple[_Real, _Real, _Real, _Real]  # x, y, width, height
    iscrowd: bool = False  # some tools write it as text
    area: Annotated[_Real, Field(ge=0)] | None = None


class _Document(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def coco_files(archive: Archive) -> list[str]:
    """Return the JSON files that have images, annotations and categories.

    Raises:
        DataError: If a file of which a part looks so, or that is named after a split, is not valid JSON.
    """
    found = []
    for name in archive.names:
        if not name.lower().endswith(".json"):
            continue
        data = archive.read(name)
        seen = [key in data for key in _KEYS]
        if all(seen):
            found.append(name)
        elif any(seen) or split_in(name):  # a file that was cut off can lack keys
            try:
                json.loads(archive.text(name))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{archive.path}: {name} is not valid JSON: {error}; repair or remove it") from None
    return found


def read_coco(archive: Archive, files: list[str]) -> BoxReading:
    """Return the images that the files list. The split of a file is in its name or its folder."""
    documents = {name: _document(archive, name) for name in files}
    names = _categories(archive, documents)
    used = sorted(names)
    number = {category: label for label, category in enumerate(used)}
    images = _by_ending(archive)
    items: list[BoxItem] = []
    missing: list[str] = []
    strange: list[str] = []
    unmeasured = 0
    for name, document in documents.items():
        split = split_in(name)
        of_image: dict[int | str, BoxItem | None] = {}  # None: the image is not there
        for entry in document.images:
            file = _find(images, entry.file_name, name, split)
            if file is None:
                missing.append(f"{entry.file_name} of {name}")
            declared = (entry.width, entry.height) if entry.width and entry.height else None
            of_image[entry.id] = BoxItem(file, name, split, declared) if file else None
        for note in document.annotations:
            if note.image_id not in of_image or note.category_id not in number:
                strange.append(f"annotation {note.id} of {name}")
            elif item := of_image[note.image_id]:
                x, y, width, height = note.bbox
                unmeasured += note.area == 0
                item.add(
                    (x, y, x + width, y + height),
                    number[note.category_id],
                    crowd=note.iscrowd,
                    ignored=note.iscrowd,
                    area=note.area or None,  # an object in a box cannot have the area 0
                )
        items += filter(None, of_image.values())
    refuse(f"{archive.path}: images that are not there", missing, "add them, or remove them from the file")
    refuse(f"{archive.path}: annotations of an unknown image or category", strange, "repair or remove them")
    left_out = [
        *counted({file for same in images.values() for file in same} - {item.image for item in items},
                 "images that no file lists"),
        *counted({file for file in archive.names if file.lower().endswith(".json")} - set(files), "other JSON files"),
    ]  # fmt: skip
    read = {"left out": ", ".join(left_out)} if left_out else {}
    read |= {"areas": f"{unmeasured} of 0, for which the area of the box is taken"} if unmeasured else {}
    return BoxReading(items, tuple(names[category] for category in used), read)


def _document(archive: Archive, name: str) -> _Document:
    try:
        document = _Document.model_validate_json(archive.text(name))
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg'].removeprefix('Value error, ')}"
            + ("" if fault["type"] == "json_invalid" else f", got {str(fault['input'])[:40]}")
            for fault in error.errors(include_url=False)
        ]
        refuse(f"{archive.path}: {name} is no COCO file", faults, "repair or remove it")
        raise
    if not document.images:
        raise DataError(f"{archive.path}: {name} lists no images; add some, or remove the file")
    twice = [str(each) for each, times in Counter(entry.id for entry in document.images).items() if times > 1]
    refuse(f"{archive.path}: {name} gives several images the same id", twice, "give each image its own id")
    return document


def _categories(archive: Archive, documents: Mapping[str, _Document]) -> dict[int, str]:
    """Return the name of each category id, which must be the same in all files."""
    names: dict[int, tuple[str, str]] = {}  # id: name and file
    ids: dict[str, tuple[int, str]] = {}  # name: id and file
    faults = []
    for file, document in documents.items():
        own: set[int] = set()
        for category in document.categories:
            key, name = category.id, category.name.strip()
            (old, source), (other, place) = names.setdefault(key, (name, file)), ids.setdefault(name, (key, file))
            if old != name:
                faults.append(f"id {key} is {old!r} in {source} and {name!r} in {file}")
            elif other != key:
                faults.append(f"{name!r} has the id {other} in {place} and {key} in {file}")
            elif key in own:
                faults.append(f"id {key} stands twice in {file}")
            own.add(key)
    refuse(f"{archive.path}: categories that contradict one another", faults,
           "give each category one id and one name, in all files")  # fmt: skip
    return {key: name for key, (name, _) in names.items()}


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
    of_split = [name for name in same if split and split_in(name) == split]
    return next(iter(nearest or of_split or same), None)
