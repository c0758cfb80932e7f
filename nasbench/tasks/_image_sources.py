"""Sources of images: class folders, tar files, torchvision's data sets and scikit-learn's digits.

This module finds the images and checks their classes. It does not split the images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from timm.utils.misc import natural_key

from nasbench.errors import DataError
from nasbench.tasks._image_decoding import read_file
from nasbench.tasks._image_layout import Layout, Tree, extension_of, is_hidden, listed, readable_extensions
from nasbench.tasks._image_tar import tree_of_tar
from nasbench.tasks.places import TORCHVISION
from nasbench.text import clean

__all__ = ["DATA_ROOT_VARIABLE", "ImageSource", "digits", "folder", "tar", "torchvision_set"]

WITHOUT_LABELS = "--learn simclr needs none (nasbench modules lists the pretexts)"
"""What an error about missing labels offers."""

DATA_ROOT_VARIABLE = "NASBENCH_DATA"
"""Environment variable that names the folder of torchvision's data sets. Without it, the current folder is used."""


class Reader(Protocol):
    """Reads an image by its number."""

    def __call__(self, index: int, limit: int = -1, /) -> bytes | Image.Image:
        """Return the encoded bytes of an image, at most `limit` of them, or a PIL image if it has no file.

        Raises:
            ImageFaultError: If its file cannot be read.
        """
        ...


@dataclass(frozen=True)
class ImageSource:
    """Images that are not decoded yet, with or without labels.

    Attributes:
        names: Name of each image. Messages and the hash of the data use it.
        labels: Class number of each image, `(n,)`. All are 0 if there are no classes.
        classes: Class names. A label is an index into them. Empty if the images have no labels.
        read: Reads an image by its number.
        given: For each split that the data itself defines, the numbers of its images. Empty if it defines no split.
        told: What was recognised in files, at most four facts by name.
    """

    names: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Reader
    given: Mapping[str, np.ndarray]
    told: Mapping[str, str] = field(default_factory=dict)


def digits() -> ImageSource:
    """Return scikit-learn's 1,797 handwritten digits, grey images of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # the data set stores grey levels from 0 to 16
    return ImageSource(
        names=[str(i) for i in range(len(pixels))],
        labels=data.target.astype(np.int64),
        classes=tuple(str(name) for name in data.target_names),
        read=_InMemory(pixels),
        given={},
    )


def folder(path: Path, *, labels: bool = True) -> ImageSource:
    """Return the images of class folders. Subfolders named like splits (`train`, `valid`, `Test`, ...) are the splits.

    Args:
        path: The folder.
        labels: Whether labels are needed. If not, images outside class folders, or of one class, are images without
            labels.

    Raises:
        DataError: If the folder has no image, if two folders mean the same split, or, where labels are needed, if an
            image is outside a class folder or there is only one class.
    """
    tree = _walk(path)
    return _joined({"": _Part.of(tree, _Files(path, tree.images))}, str(path), labels=labels)


def tar(train: Path, test: Path | None = None, *, labels: bool = True) -> ImageSource:
    """Return the images of one tar file with class folders, or of a training and a test tar file.

    Args:
        train: The tar file, or that of the training images.
        test: The tar file of the test images.
        labels: As in `folder`.

    Raises:
        DataError: If a file is not an uncompressed tar file, if it is damaged, or for the reasons that `folder` lists.
    """
    if test is None:
        return _joined({"": _read_tar(train)}, str(train), labels=labels)
    return _joined({"train": _read_tar(train), "test": _read_tar(test)}, f"{train},{test}", labels=labels)


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
        read=_InTorchvision(train, test),
        given={"train": np.arange(count), "test": np.arange(count, len(labels))},
    )


def _targets(dataset: Any) -> Any:
    # torchvision has no common name for the labels: `labels` in SVHN and STL10, `targets` in the other data sets.
    return dataset.targets if hasattr(dataset, "targets") else dataset.labels


@dataclass(frozen=True)
class _InMemory:
    """Reads images from an array of their bytes, `(n, height, width)`."""

    pixels: np.ndarray

    def __call__(self, index: int, limit: int = -1, /) -> Image.Image:
        return Image.fromarray(self.pixels[index])


@dataclass(frozen=True)
class _InTorchvision:
    """Reads the images of a training and a test set of torchvision."""

    train: Any
    test: Any

    def __call__(self, index: int, limit: int = -1, /) -> Image.Image:
        count = len(self.train)
        return self.train[index][0] if index < count else self.test[index - count][0]


@dataclass(frozen=True)
class _Files:
    """Reads the images of a folder, from their paths relative to it."""

    folder: Path
    paths: list[str]

    def __call__(self, index: int, limit: int = -1, /) -> bytes:
        return read_file(os.path.join(self.folder, self.paths[index]), length=limit)


@dataclass(frozen=True)
class _Members:
    """Reads the images of a tar file, from the position and length of each in bytes.

    timm's reader is not used for this, because it never closes the tar file, and only one thread can use it.
    """

    file: Path
    places: list[tuple[int, int]]

    def __call__(self, index: int, limit: int = -1, /) -> bytes:
        start, length = self.places[index]
        return read_file(str(self.file), start, length if limit < 0 else min(limit, length))


@dataclass(frozen=True)
class _Joined:
    """Reads the images of several trees, one after the other."""

    readers: Sequence[Reader]
    owners: np.ndarray
    """Number of the tree of each image."""
    numbers: np.ndarray
    """Number of each image in its tree."""

    def __call__(self, index: int, limit: int = -1, /) -> bytes | Image.Image:
        return self.readers[self.owners[index]](int(self.numbers[index]), limit)


@dataclass(frozen=True)
class _Part:
    """The images of one tree, and a function that reads an image by its number."""

    layout: Layout
    read: Reader

    @classmethod
    def of(cls, tree: Tree, read: Reader) -> _Part:
        """Recognise the layout of a tree."""
        return cls(Layout.of(tree), read)


def _walk(root: Path) -> Tree:
    """Return the files of a folder, also those behind links to other folders."""
    readable = readable_extensions()
    images: list[str] = []
    hidden: list[str] = []
    others: Counter[str] = Counter()
    folders: list[str] = []
    loops: list[str] = []
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        hidden += [prefix + name for name in (*subfolders, *files) if is_hidden(name)]
        folders.append(inside)
        loops += [prefix + name for name in subfolders if not is_hidden(name) and _leads_up(folder, name)]
        # `os.walk` visits the folders that remain in this list. A link to a folder above would never end.
        subfolders[:] = [name for name in subfolders if not is_hidden(name) and not _leads_up(folder, name)]
        for name in files:
            if is_hidden(name):
                continue
            extension = extension_of(name)
            if extension in readable:
                images.append(prefix + name)
            else:
                others[extension] += 1
    used = {"."}.union(
        *({"/".join(steps[:n]) for n in range(1, len(steps))} for steps in (i.split("/") for i in images))
    )
    empty = sorted(set(folders) - used)
    remarks = [f"folders without images: {listed(empty, 3)}"] if empty else []
    remarks += [f"links to a folder above: {listed(sorted(loops), 3)}"] if loops else []
    return Tree(str(root), images, others, hidden, remarks=tuple(remarks))


def _refuse(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be listed: {error.strerror}")


def _leads_up(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    return os.path.join(os.path.realpath(folder), "").startswith(os.path.join(target, ""))


def _read_tar(path: Path) -> _Part:
    tree, places = tree_of_tar(path)
    return _Part.of(tree, _Members(path, places))


def _joined(parts: Mapping[str, _Part], where: str, *, labels: bool) -> ImageSource:
    """Join the images of several trees into one source. A single tree with the name "" can define splits itself."""
    pieces = list(_pieces(parts))
    classes = sorted({name for piece in pieces for name in piece.class_names}, key=natural_key)
    if not labels and (len(classes) < 2 or "" in classes):
        classes = []
    else:
        _check_classes(pieces, where)
    number = {name: i for i, name in enumerate(classes)}
    numbers = np.array([number.get(c, 0) for piece in pieces for c in piece.class_names], dtype=np.int64)
    starts = np.cumsum([0] + [len(piece.names) for piece in pieces])
    return ImageSource(
        names=[f"{piece.split}/{name}" if piece.split else name for piece in pieces for name in piece.names],
        labels=numbers,
        classes=tuple(classes),
        read=_Joined(
            [part.read for part in parts.values()],
            np.concatenate([np.full(len(piece.names), piece.owner) for piece in pieces]),
            np.concatenate([piece.numbers for piece in pieces]),
        ),
        given={p.split: np.arange(a, b) for p, a, b in zip(pieces, starts[:-1], starts[1:], strict=True) if p.split},
        told=_told(parts, classes, np.bincount(numbers)),
    )


def _check_classes(pieces: Sequence[_Piece], where: str) -> None:
    """Check that every image has a class, that train has all classes, and that there are two or more.

    Raises:
        DataError: If not.
    """
    classes = set(pieces[0].class_names)
    for piece in pieces:
        outside = [n for n, c in zip(piece.names, piece.class_names, strict=True) if not c]
        if outside:
            raise DataError(
                f"{where}: {len(outside)} of {len(piece.names)} images are in no class folder, such as {outside[0]!r}; "
                f"put each image into a folder named after its class, or learn without labels: {WITHOUT_LABELS}"
            )
        strange = sorted(set(piece.class_names) - classes)
        if strange:
            raise DataError(f"{where}: {piece.split} has classes that train does not have: {', '.join(strange[:5])}")
    if len(classes) < 2:
        raise DataError(
            f"{where} has one class, {min(classes)!r}; classification needs two or more, a folder of images for each; "
            f"or learn without labels: {WITHOUT_LABELS}"
        )


@dataclass(frozen=True)
class _Piece:
    """The images of one split of a tree: their names and class names, and their numbers in the tree."""

    split: str
    owner: int
    numbers: np.ndarray
    names: list[str]
    class_names: list[str]


def _pieces(parts: Mapping[str, _Part]) -> Iterator[_Piece]:
    for owner, (given, part) in enumerate(parts.items()):
        layout = part.layout
        if given and len(layout.parts) > 1:
            raise DataError(f"the {given} file itself contains the splits {', '.join(layout.parts)}; give it alone")
        for split, numbers in layout.parts.items():
            yield _Piece(
                given or split,
                owner,
                np.array(numbers, dtype=np.int64),
                [layout.names[i] for i in numbers],
                [layout.class_names[i] for i in numbers],
            )


def _told(parts: Mapping[str, _Part], classes: Sequence[str], counts: np.ndarray) -> dict[str, str]:
    facts: dict[str, list[str]] = {}
    for part in parts.values():
        for name, fact in part.layout.read.items():
            facts.setdefault(name, []).append(fact)
    least, most = int(counts.min()), int(counts.max())
    each = f"{least:,} images each" if least == most else f"{least:,} to {most:,} images each"
    told = f"{len(classes)} classes: {listed(classes)} ({each})"
    facts.setdefault("folders", []).append(told if classes else _without_classes(parts))
    return {name: "; ".join(each) for name, each in facts.items()}


def _without_classes(parts: Mapping[str, _Part]) -> str:
    """Say why the images have no classes."""
    names = [name for piece in _pieces(parts) for name in piece.class_names]
    outside = names.count("")
    if not outside:
        return f"no labels, because all {len(names):,} images are in one class folder, {clean(names[0])}"
    which = f"all {len(names):,}" if outside == len(names) else f"{outside:,} of {len(names):,}"
    return f"no labels, because {which} images are in no class folder"
