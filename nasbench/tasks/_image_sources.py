"""Sources of images: class folders, tar files, torchvision's data sets and scikit-learn's digits.

timm's readers find the files and their classes. This module checks the result. It does not split the images.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from timm.utils.misc import natural_key

from nasbench.errors import DataError
from nasbench.tasks.places import TORCHVISION

__all__ = ["DATA_ROOT_VARIABLE", "ImageSource", "digits", "folder", "tar", "torchvision_set"]

DATA_ROOT_VARIABLE = "NASBENCH_DATA"
"""Environment variable that names the folder of torchvision's data sets. Without it, the current folder is used."""

# For each split, the names that its folder can have.
_SUBFOLDERS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class ImageSource:
    """Labelled images that are not decoded yet.

    Attributes:
        names: Name of each image. Messages and the hash of the data use it.
        labels: Class number of each image, `(n,)`.
        classes: Class names. A label is an index into them.
        read: Function that takes the number of an image and returns its encoded bytes, or a PIL image if it has no
            file.
        given: For each split that the data itself defines, the numbers of its images. Empty if it defines no split.
    """

    names: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], bytes | Image.Image]
    given: Mapping[str, np.ndarray]

    def open(self, index: int) -> Image.Image:
        """Return an image. An image from a file is not decoded yet, but its size is known."""
        item = self.read(index)
        return item if isinstance(item, Image.Image) else Image.open(io.BytesIO(item))


def digits() -> ImageSource:
    """Return scikit-learn's 1,797 handwritten digits, grey images of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # the data set stores grey levels from 0 to 16
    return ImageSource(
        names=[str(i) for i in range(len(pixels))],
        labels=data.target.astype(np.int64),
        classes=tuple(str(name) for name in data.target_names),
        read=lambda i: Image.fromarray(pixels[i]),
        given={},
    )


def folder(path: Path) -> ImageSource:
    """Return the images of class folders. Subfolders named `train`, `val` and `test` are the splits.

    Raises:
        DataError: If the folder has no image, if an image is outside a class folder, or if there is only one class.
    """
    parts = {split: path / name for split, names in _SUBFOLDERS.items() for name in names if (path / name).is_dir()}
    if "train" not in parts:  # without `train`, folders with the names `val` or `test` are ordinary classes
        return _joined({"": _read_folder(path)}, str(path))
    return _joined({split: _read_folder(part) for split, part in parts.items()}, str(path))


def tar(train: Path, test: Path | None = None) -> ImageSource:
    """Return the images of one tar file with class folders, or of a training and a test tar file.

    Raises:
        DataError: If a file is not an uncompressed tar file, or for the reasons that `folder` lists.
    """
    if test is None:
        return _joined({"": _read_tar(train)}, str(train))
    return _joined({"train": _read_tar(train), "test": _read_tar(test)}, f"{train},{test}")


def torchvision_set(name: str) -> ImageSource:
    """Return a data set of torchvision that is already on disk. It defines its own test split.

    Args:
        name: One of `TORCHVISION`.

    Raises:
        DataError: If the data set is not on disk. Nothing is downloaded.
    """
    from torchvision import datasets

    root = os.environ.get(DATA_ROOT_VARIABLE, ".")
    try:
        train, test = (getattr(datasets, name)(root, download=False, **part) for part in TORCHVISION[name])
    except RuntimeError as error:
        raise DataError(
            f"torchvision's {name} is not in {Path(root).resolve()} ({error}); set {DATA_ROOT_VARIABLE} to the folder "
            f"that contains it, or download it there: torchvision.datasets.{name}({root!r}, download=True)"
        ) from None
    labels = np.concatenate([np.asarray(_targets(part), dtype=np.int64) for part in (train, test)])
    count = len(train)
    return ImageSource(
        names=[f"train/{i}" for i in range(count)] + [f"test/{i}" for i in range(len(test))],
        labels=labels,
        # SVHN has no names for its classes.
        classes=tuple(getattr(train, "classes", None) or (str(i) for i in range(int(labels.max()) + 1))),
        read=lambda i: train[i][0] if i < count else test[i - count][0],
        given={"train": np.arange(count), "test": np.arange(count, len(labels))},
    )


def _targets(dataset: Any) -> Any:
    # torchvision has no common name for the labels: `labels` in SVHN and STL10, `targets` in the other data sets.
    return dataset.targets if hasattr(dataset, "targets") else dataset.labels


@dataclass(frozen=True)
class _Part:
    """The images of one reader: the name and class name of each image, and a function that reads an image."""

    names: list[str]
    class_names: list[str]
    read: Callable[[int], bytes]


def _read_folder(path: Path) -> _Part:
    try:
        reader = ReaderImageFolder(str(path))
    except RuntimeError as error:
        raise DataError(f"{error}; give a folder that holds a folder of images for each class") from None
    paths = [Path(name) for name, _ in reader.samples]
    labels = [label for _, label in reader.samples]
    return _part(reader, labels, reader.class_to_idx, lambda i: paths[i].read_bytes())


def _read_tar(path: Path) -> _Part:
    try:
        reader = ReaderImageInTar(str(path), cache_tarinfo=False)
    except tarfile.TarError as error:
        raise DataError(f"{path} cannot be read as an uncompressed tar: {error}") from None
    except ValueError:  # on a tar without images timm's reader fails, because it unpacks an empty list
        raise DataError(f"{path} contains no image; give a tar with class folders that have images inside") from None

    def read(index: int) -> bytes:
        """Return the bytes of an image, read at the offset of its member.

        timm's reader is not used for this, because it never closes the tar file, and only one thread can use it.
        """
        member, _, inner_tar = reader.samples[index]
        with path.open("rb") as file:
            # The offset of a member in a nested tar counts from the start of the nested tar.
            file.seek(member.offset_data + (inner_tar.offset_data if inner_tar is not None else 0))
            return file.read(member.size)

    return _part(reader, [int(label) for label in reader.targets], reader.class_name_to_idx, read)


def _part(reader: Any, labels: list[int], class_to_index: Mapping[str, int], read: Callable[[int], bytes]) -> _Part:
    by_index = {index: name for name, index in class_to_index.items()}
    return _Part(list(reader.filenames()), [by_index[label] for label in labels], read)


def _joined(parts: Mapping[str, _Part], where: str) -> ImageSource:
    """Join the images of several readers into one source. A single part with the name "" defines no split."""
    first = next(iter(parts.values()))
    classes = sorted(set(first.class_names), key=natural_key)
    for split, part in parts.items():
        outside = [n for n, c in zip(part.names, part.class_names, strict=True) if c in ("", ".")]
        if outside:
            raise DataError(
                f"{where}: {len(outside)} of {len(part.names)} images are in no class folder, such as {outside[0]!r}; "
                "put each image into a folder named after its class"
            )
        strange = sorted(set(part.class_names) - set(classes))
        if strange:
            raise DataError(f"{where}: {split} has classes that train does not have: {', '.join(strange[:5])}")
    if len(classes) < 2:
        raise DataError(
            f"{where} has one class, {classes[0]!r}; classification needs two or more, a folder of images for each"
        )
    # Each reader numbers only the classes of its own part, so all labels get new numbers here.
    number = {name: i for i, name in enumerate(classes)}
    starts = np.cumsum([0] + [len(part.names) for part in parts.values()])
    readers = list(parts.values())

    def read(index: int) -> bytes:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return readers[part].read(index - int(starts[part]))

    return ImageSource(
        names=[f"{split}/{name}" if split else name for split, part in parts.items() for name in part.names],
        labels=np.array([number[c] for part in readers for c in part.class_names], dtype=np.int64),
        classes=tuple(classes),
        read=read,
        given={s: np.arange(a, b) for s, a, b in zip(parts, starts[:-1], starts[1:], strict=True) if s},
    )
