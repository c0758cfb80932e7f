"""Sources of images that timm's readers open: data sets of Hugging Face, WebDataset and TensorFlow.

A task reads images by their numbers, so that every plan gets the same order. The reader for WebDataset only streams, so
its shards are indexed here. The reader for TensorFlow only streams too, so its images are kept in memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data.readers import create_reader

from nasbench.errors import DataError, message_of
from nasbench.tasks._image_decoding import read_file
from nasbench.tasks._image_sources import ImageSource, Reader
from nasbench.tasks.places import timm_reader

__all__ = ["timm_set"]

_SPLITS = {"train": ("train", "training"), "val": ("validation", "val", "valid"), "test": ("test",)}
"""For each split, the names that data sets give it, the usual one first."""

_HELD_BYTES = 2 << 30


def timm_set(place: str) -> ImageSource:
    """Return a data set that one of timm's readers opens.

    Args:
        place: `hfds/NAME`, `wds/FOLDER` or `tfds/NAME`.

    Raises:
        DataError: If the data set cannot be opened, has no training split or has fewer than two classes.
    """
    kind, name = timm_reader(place)
    opened = {split: part for split, names in _SPLITS.items() if (part := _first(kind, name, names)) is not None}
    if "train" not in opened:
        raise DataError(f"timm:{place} has no training split ({' or '.join(_SPLITS['train'])})")
    # A data set of a competition has a test split whose labels are not public.
    unlabelled = [split for split, part in opened.items() if split != "train" and min(part.labels, default=-1) < 0]
    parts = {split: part for split, part in opened.items() if split not in unlabelled}
    labels = np.concatenate([np.asarray(part.labels, dtype=np.int64) for part in parts.values()])
    if labels.min() < 0 or labels.max() < 1:
        raise DataError(
            f"timm:{place}: the labels are {labels.min()} to {labels.max()}, not two or more classes from 0"
        )
    starts = np.cumsum([0] + [len(part.labels) for part in parts.values()])
    names = parts["train"].classes
    counts = ", ".join(f"{split} from {part.split} ({len(part.labels):,} images)" for split, part in parts.items())
    return ImageSource(
        names=[f"{split}/{i}" for split, part in parts.items() for i in range(len(part.labels))],
        labels=labels,
        classes=tuple(names.get(i, str(i)) for i in range(int(labels.max()) + 1)),
        read=_Chained([part.read for part in parts.values()], starts),
        given={split: np.arange(a, b) for split, a, b in zip(parts, starts[:-1], starts[1:], strict=True)},
        told={
            "splits": f"{place}: {counts}; {labels.max() + 1} classes",
            **({"left out": f"{', '.join(unlabelled)}: no labels"} if unlabelled else {}),
        },
    )


@dataclass(frozen=True)
class _Opened:
    """One split: its name in the data set, a class number for each image, class names, and a reader of images."""

    split: str
    labels: Sequence[int]
    classes: dict[int, str]
    read: Reader


@dataclass(frozen=True)
class _Chained:
    """Reads the images of several splits, one after the other."""

    readers: Sequence[Reader]
    starts: np.ndarray

    def __call__(self, index: int, limit: int = -1, /) -> bytes | Image.Image:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.readers[part](index - int(self.starts[part]), limit)


def _first(kind: str, name: str, splits: Sequence[str]) -> _Opened | None:
    """Open the first of several splits that exists. None if none exists."""
    for split in splits:
        root = name if kind == "wds" else None
        try:
            reader = create_reader(f"{kind}/{name}", root=root, split=split)
        except Exception as error:  # each of the three libraries has exceptions of its own
            if "split" in str(error).lower():
                continue
            raise DataError(f"timm:{kind}/{name} cannot be opened: {message_of(error)}") from error
        classes = {int(index): str(label) for label, index in (getattr(reader, "class_to_idx", None) or {}).items()}
        return {"hfds": _random_access, "wds": _indexed, "tfds": _held}[kind](split, reader, classes)
    return None


def _random_access(split: str, reader: Any, classes: dict[int, str]) -> _Opened:
    labels = [-1 if label is None else int(label) for label in reader.iter_targets()]
    return _Opened(split, labels, classes, _Numbered(reader))


@dataclass(frozen=True)
class _Numbered:
    """Reads images with a reader of timm that takes their numbers."""

    reader: Any

    def __call__(self, index: int, limit: int = -1, /) -> bytes:
        with self.reader[index][0] as file:
            return file.read(limit)


def _indexed(split: str, reader: Any, classes: dict[int, str]) -> _Opened:
    """Find the images and labels in the shards of a WebDataset: members with the same key, such as 7.jpg and 7.cls."""
    images: list[tuple[str, int, int]] = []
    labels: list[int] = []
    kinds = reader.input_key.split(";")
    for shard in reader.split_info.filenames:
        path = Path(reader.root) / shard
        try:
            with tarfile.open(path, "r:") as tar:
                members = {_key_and_kind(member.name): member for member in tar if member.isfile()}
                for (key, kind), member in members.items():
                    if kind.lower() in kinds:
                        label = members.get((key, "cls"))
                        file = tar.extractfile(label) if label is not None else None
                        if file is None:
                            raise DataError(f"{path}: {member.name} has no label, {key}.cls")
                        images.append((str(path), member.offset_data, member.size))
                        labels.append(int(file.read()))
        except (OSError, tarfile.TarError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read: {message_of(error)}") from None
    return _Opened(split, labels, classes, _InShards(images))


def _key_and_kind(name: str) -> tuple[str, str]:
    """Return the path of a member up to the first dot of its file name, and what follows, as WebDataset does."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return folder + slash + stem, kind


@dataclass(frozen=True)
class _InShards:
    """Reads images from the file, position and length of each."""

    places: Sequence[tuple[str, int, int]]

    def __call__(self, index: int, limit: int = -1, /) -> bytes:
        path, start, length = self.places[index]
        return read_file(path, start, length if limit < 0 else min(limit, length))


def _held(split: str, reader: Any, classes: dict[int, str]) -> _Opened:
    """Read the images of a reader that only streams, once, and keep them."""
    images: list[Image.Image] = []
    labels: list[int] = []
    size = 0
    for image, label in reader:
        images.append(image)
        labels.append(int(label))
        size += image.width * image.height * len(image.getbands())
        if size > _HELD_BYTES:
            raise DataError(
                f"the images of split {split} need more than {_HELD_BYTES >> 30} GiB, and this reader of timm cannot "
                "read single images; write them to class folders and use folder:PATH"
            )
    return _Opened(split, labels, classes, _InList(images))


@dataclass(frozen=True)
class _InList:
    """Reads images from a list."""

    images: Sequence[Image.Image]

    def __call__(self, index: int, limit: int = -1, /) -> Image.Image:
        return self.images[index]
