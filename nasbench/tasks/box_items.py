"""Images with their objects, as a format of detection gives them, before they are checked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks.annotated import refuse
from nasbench.tasks.archive import Archive, split_of

__all__ = ["Box", "BoxItem", "BoxReading", "StoredImage", "counted", "one_each", "split_in", "stored_image"]

Box = tuple[float, float, float, float]


@dataclass
class BoxItem:
    """An image and its objects.

    Attributes:
        image: Path of the image.
        source: Path of the file of its annotations.
        split: Split that the format gives, or "".
        declared: Width and height that the annotations give for the image, in pixels.
        boxes: x1, y1, x2, y2 of each object in pixels.
        labels: Class number of each object.
        crowd: Whether each object is a group.
        ignored: Whether each object is neither missed nor found.
        areas: Area of each object in pixels. None stands for the area of its box.
    """

    image: str
    source: str
    split: str
    declared: tuple[int, int] | None = None
    boxes: list[Box] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    areas: list[float | None] = field(default_factory=list)

    def add(
        self, box: Box, label: int, *, crowd: bool = False, ignored: bool = False, area: float | None = None
    ) -> None:
        """Add an object."""
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.ignored.append(ignored)
        self.areas.append(area)


@dataclass(frozen=True)
class BoxReading:
    """What a format gives.

    Attributes:
        items: The images with their objects.
        classes: Class names.
        read: What was recognised or left out, by name.
    """

    items: list[BoxItem]
    classes: tuple[str, ...]
    read: dict[str, str] = field(default_factory=dict)


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


def stored_image(archive: Archive, name: str) -> StoredImage:
    """Return the size of an image without decoding it.

    Raises:
        DataError: If the file cannot be read as an image.
    """
    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            orientation = image.getexif().get(0x0112, 1)
            return StoredImage(image.size, orientation if orientation in range(1, 9) else 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {str(error).split(' <')[0]}") from None


def one_each(archive: Archive, names: Iterable[str], key: Callable[[str], str]) -> dict[str, str]:
    """Return files by their keys.

    Raises:
        DataError: If two files have the same key, so that one annotation would belong to both.
    """
    found: dict[str, str] = {}
    twice = [f"{found[key(name)]} and {name}" for name in names if found.setdefault(key(name), name) != name]
    refuse(f"{archive.path}: files of the same name up to the ending", twice, "rename or remove one of them")
    return found


def split_in(name: str) -> str:
    """Return the split in the folders of a path, or in the words of its file's name."""
    path = PurePosixPath(name)
    words = [*reversed(path.parent.parts), *path.stem.replace("-", "_").split("_")]
    return next((split for word in words if (split := split_of(word))), "")


def counted(files: Iterable[str], what: str) -> list[str]:
    """Return one text that says how many files there are, and names the first, or [] without files."""
    names = sorted(files)
    return [f"{what}: {len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"] if names else []
