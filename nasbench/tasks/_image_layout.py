"""Recognise how a tree of images is divided: its splits, its classes, and what is left out.

A tree is a folder or a tar file. Only the paths of its files are looked at, never their contents.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageFile
from timm.utils.misc import natural_key

from nasbench.errors import DataError
from nasbench.text import clean

__all__ = ["Layout", "Tree", "extension_of", "is_hidden", "listed", "readable_extensions", "split_of"]

_SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
"""For each split, the words that name it. Each can be followed by "set"."""

_OTHER_WORDS = frozenset({"data", "dataset", "image", "images", "img", "imgs", "seg", "set"})
"""The words that can stand beside the word of a split. Numbers can too."""

_BEGINNINGS = {"train": "train", "val": "valid", "test": "test"}
"""For each split, how a word begins that may mean it. "val" would be too short: valley, value."""

_HIDDEN = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that programs and file systems create beside the data. Names that start with a dot are hidden too."""

_NO_PICTURES = frozenset({"EPS", "IPTC", "MPEG"})
"""Formats that Pillow identifies but cannot decode by itself: drawings, metadata and films."""


def readable_extensions() -> frozenset[str]:
    """Return the extensions of all images that Pillow can decode, in lower case and with their dots."""
    formats = Image.registered_extensions()  # this also loads all plug-ins of Pillow, so `OPEN` is complete
    return frozenset(
        extension
        for extension, name in formats.items()
        if name in Image.OPEN
        and name not in _NO_PICTURES
        # A stub knows the format of a file, but needs another program to decode it (GRIB, HDF5, WMF).
        and not _is_stub(Image.OPEN[name][0])
    )


def _is_stub(opener: object) -> bool:
    return isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)


def is_hidden(name: str) -> bool:
    """Return whether the name of a file or folder is not meant for people.

    Example:
        >>> is_hidden(".ipynb_checkpoints"), is_hidden("cat")
        (True, False)
    """
    return name.startswith(".") or name in _HIDDEN


def split_of(folder: str) -> str | None:
    """Return the split that the name of a folder means, or None.

    The name has one word of a split. The others are numbers, such as a year, or words such as "images".

    Example:
        >>> split_of("Training"), split_of("valid"), split_of("test-set"), split_of("cat")
        ('train', 'val', 'test', None)
        >>> split_of("train2017"), split_of("2_val"), split_of("seg_test"), split_of("train_old")
        ('train', 'val', 'test', None)
    """
    words = [word for word in _words(folder) if not word.isdigit() and word not in _OTHER_WORDS]
    return _split_named(words[0]) if len(words) == 1 else None


def _words(folder: str) -> list[str]:
    """Return the words and numbers of a name, in lower case: `trainImages_2017` is train, images and 2017."""
    return [word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", folder)]


def _split_named(word: str) -> str | None:
    word = word.removesuffix("set")
    return next((split for split, words in _SPLIT_WORDS.items() if word in words), None)


def _splits_hinted(folder: str) -> set[str]:
    """Return the splits that a name speaks of, also if `split_of` does not understand it: `trainA`, `test_final`."""
    return {
        split
        for word in _words(folder)
        for split, beginning in _BEGINNINGS.items()
        if _split_named(word) == split or word.startswith(beginning)
    }


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names separated by commas in one line, and how many are not shown."""
    shown = [clean(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


@dataclass(frozen=True)
class Tree:
    """The files of a folder or a tar file.

    Attributes:
        where: The folder or tar file, for messages.
        images: The path of each image, relative to the tree.
        others: Number of files that are no images, by extension.
        hidden: The hidden files and folders, relative to the tree. Their contents are not in `images`.
        names: Names of the images if they are not their paths, as in a tar file. They keep the order of the tree.
        remarks: What else was left out, one fact each.
    """

    where: str
    images: list[str]
    others: Counter[str]
    hidden: list[str]
    names: list[str] | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            held = f"; it contains {_counted(self.others)}" if self.others else ""
            raise DataError(
                f"Found 0 images in {self.where}{held}; give a folder that holds a folder of images for each class"
            )


@dataclass(frozen=True)
class Layout:
    """The splits and classes of a tree.

    Attributes:
        parts: For each split, the numbers of its images in the order of their names. One part with the name "" if the
            tree defines no split.
        names: Name of each image in its split.
        class_names: Name of the folder that each image is in.
        read: What was recognised, at most three facts by name: folders, files, left out.
    """

    parts: dict[str, list[int]]
    names: list[str]
    class_names: list[str]
    read: dict[str, str]

    @classmethod
    def of(cls, tree: Tree) -> Layout:
        """Recognise the layout of a tree.

        Folders named like a training split make the tree a divided one. Without them, folders with the names of other
        splits are ordinary classes. A folder around the splits is passed.

        Raises:
            DataError: If two folders mean the same split, if a folder seems to be a split but its name is not
                understood, or if classes are named like splits.
        """
        around = _around(tree.images)
        tops = [path[len(around) :].partition("/") for path in tree.images]
        folders = _split_folders(tree, tops)
        if tree.names is not None and len(folders) == 1:  # the only folder of a tar file that is itself one split
            folders = {}
        if not folders:
            parts = {"": list(range(len(tree.images)))}
            names = tree.images
        else:
            parts = {
                split: [i for i, top in enumerate(tops) if top[1] and top[0] == folders[split]] for split in folders
            }
            names = [top[2] for top in tops]
        class_names = [_class_of(name) for name in names]
        _check_class_names(tree, {class_names[i] for numbers in parts.values() for i in numbers})
        for numbers in parts.values() if folders or tree.names is None else ():
            # Without the second key, names that differ only in case would have the order of the file system.
            numbers.sort(key=lambda i: (natural_key(names[i]), names[i]))
        merged = _merged(names, class_names, parts)
        read = {"folders": "; ".join([_folders_told(tree, around, folders, parts), *merged])} | {
            "files": _counted(Counter(extension_of(tree.images[i]) for numbers in parts.values() for i in numbers)),
        }
        if left_out := _left_out(tree, tops, folders):
            read["left out"] = left_out
        return cls(parts, names if folders or tree.names is None else tree.names, class_names, read)


def _around(paths: Sequence[str]) -> str:
    """Return the folders, with a slash at the end, that contain all images and that are not themselves splits."""
    around = ""
    while True:
        first = {path[len(around) :].partition("/")[:2] for path in paths}
        folder, slash = next(iter(first))
        if len(first) > 1 or not slash or split_of(folder):
            return around
        around += folder + slash


def _split_folders(tree: Tree, tops: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """Return the folder of each split, or {} if the tree is not divided into splits."""
    meant: dict[str, list[str]] = {split: [] for split in _SPLIT_WORDS}
    firsts = {top for top, slash, _ in tops if slash}
    for top in sorted(firsts):
        if split := split_of(top):
            meant[split].append(top)
    _check_siblings(tree, tops, {split for split, folders in meant.items() if folders and meant["train"]})
    if not meant["train"]:
        return {}
    # With only images in it and with other folders beside it, `train` is a class, like `bus` and `car`.
    flat = all("/" not in rest for top, _, rest in tops if top in meant["train"])
    if flat and any(split_of(top) is None for top in firsts):
        return {}
    for split, folders in meant.items():
        if len(folders) > 1:
            both = " and ".join(folders)
            raise DataError(f"{tree.where}: {both} both mean the {split} split; rename or remove one of them")
    return {split: folders[0] for split, folders in meant.items() if folders}


def _check_siblings(tree: Tree, tops: Sequence[tuple[str, str, str]], recognised: set[str]) -> None:
    """Refuse a folder that seems to be a split, because its images would be trained on or left out.

    Raises:
        DataError: If the name of a folder speaks of a split that is not recognised, and if it has a class of another
            folder.
    """
    classes: dict[str, set[str]] = {}
    for top, _, rest in tops:
        if "/" in rest:
            classes.setdefault(top, set()).add(_class_of(rest))
    for top in sorted(classes):
        hinted = _splits_hinted(top)
        sibling = next((other for other in sorted(classes) if other != top and classes[other] & classes[top]), None)
        if hinted and not hinted & recognised and sibling is not None:
            raise DataError(
                f"{tree.where}: {top!r} and {sibling!r} have the same classes and seem to be splits, but the names of "
                f"split folders are not understood; a name has one of the words {_understood()} alone or with numbers "
                f"and {', '.join(sorted(_OTHER_WORDS))}, and there must be a train folder; rename the folders"
            )


def _understood() -> str:
    return "; ".join(f"{split}: {', '.join(words)}" for split, words in _SPLIT_WORDS.items())


def _class_of(name: str) -> str:
    return os.path.basename(os.path.dirname(name))


def _check_class_names(tree: Tree, classes: set[str]) -> None:
    named = sorted(classes - {""})
    if len(named) > 1 and all(map(split_of, named)):
        raise DataError(
            f"{tree.where}: the folders of images are named like splits, {', '.join(named)}; put the folders of the "
            "classes into folders named train, val and test"
        )
    for name in named:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes of the name that are not UTF-8
            raise DataError(f"{tree.where}: the class folder {name!r} has a name that cannot be written; rename it")


def extension_of(path: str) -> str:
    """Return the extension of a file, in lower case and with its dot."""
    return os.path.splitext(path)[1].lower()


def _counted(counts: Counter[str], most: int = 6) -> str:
    return listed((f"{count:,} {name or 'without extension'}" for name, count in counts.most_common()), most)


def _folders_told(tree: Tree, around: str, folders: dict[str, str], parts: dict[str, list[int]]) -> str:
    if not folders:
        return f"{tree.where}: no split folders"
    told = (
        f"{split}{'' if folder == split else f' from {folder}'} ({len(parts[split]):,} images)"
        for split, folder in folders.items()
    )
    return f"{tree.where}{f', in {around[:-1]}' if around else ''}: {', '.join(told)}"


def _merged(names: Sequence[str], class_names: Sequence[str], parts: dict[str, list[int]]) -> list[str]:
    """Say which classes are made of several folders of one name, as `x/cat` and `y/cat`."""
    homes: dict[str, set[str]] = {}
    for numbers in parts.values():
        for i in numbers:
            homes.setdefault(class_names[i], set()).add(os.path.dirname(names[i]))
    several = {name: sorted(folders) for name, folders in sorted(homes.items()) if len(folders) > 1}
    if not several:
        return []
    name, folders = next(iter(several.items()))
    more = f" ({len(several) - 1} more classes are merged too)" if len(several) > 1 else ""
    return [f"the images of {listed(folders, 3)} are one class, {clean(name)}{more}"]


def _left_out(tree: Tree, tops: Sequence[tuple[str, str, str]], folders: dict[str, str]) -> str:
    beside = Counter(
        top if slash else "no folder" for top, slash, _ in tops if not slash or top not in folders.values()
    )
    facts = [f"{count:,} images in {name}" for name, count in beside.most_common()] if folders else []
    facts += [f"hidden: {listed(sorted(tree.hidden), 3)}"] if tree.hidden else []
    facts += [f"no images: {_counted(tree.others)}"] if tree.others else []
    return "; ".join([*facts, *tree.remarks])
