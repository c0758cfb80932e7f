"""Images with their objects, as a format of detection gives them, before they are checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nasbench.tasks.annotated import Box
from nasbench.tasks.archive import split_of

__all__ = ["BoxItem", "BoxReading", "counted", "split_in"]


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


def split_in(name: str) -> str:
    """Return the split in the folders of a path, or in the words of its file's name."""
    path = PurePosixPath(name)
    words = [*reversed(path.parent.parts), *path.stem.replace("-", "_").split("_")]
    return next((split for word in words if (split := split_of(word))), "")


def counted(files: Iterable[str], what: str) -> list[str]:
    """Return one text that says how many files there are, and names the first, or [] without files."""
    names = sorted(files)
    return [f"{what}: {len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"] if names else []
