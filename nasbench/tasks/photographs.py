"""Read photographs for super-resolution: a folder or a tar file of images, or those of scikit-image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks._image_decoding import ImageFaultError, Marks, open_image, to_rgb
from nasbench.tasks._image_layout import split_of
from nasbench.tasks.annotated import refuse
from nasbench.tasks.archive import Archive, is_image

__all__ = ["Photographs", "embedded_photographs", "read_photographs"]


@dataclass(frozen=True)
class Photographs:
    """Photographs that are decoded when they are needed.

    Attributes:
        names: Name of each photograph.
        pixels: Function that takes the number of a photograph and returns its bytes `(H, W, 3)`.
        sizes: Height and width of each photograph.
        sha256: Hash of the names and the pixels.
        given: For each split that the data give, the numbers of its photographs.
        read: What was recognised, by name.
        notes: Sentences for the report.
    """

    names: list[str]
    pixels: Callable[[int], np.ndarray]
    sizes: list[tuple[int, int]]
    sha256: str
    given: Mapping[str, np.ndarray]
    read: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_photographs(path: Path) -> Photographs:
    """Read photographs. Folders that are named after splits are the splits.

    Grey images get three equal channels. An alpha channel that is opaque everywhere is dropped.

    Args:
        path: Folder or tar file.

    Raises:
        DataError: If there are no images, if files cannot be read as images, or if pixels are transparent.
    """
    archive = Archive(path)
    files = [name for name in archive.names if is_image(name)]
    if not files:
        raise DataError(f"{path} has no images; give a folder or .tar of photographs, such as PNG or JPEG files")
    _refuse_pairs(path, files)
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(files):
        numbers.setdefault(_split(name), []).append(number)
    if "" in numbers and len(numbers) > 1:
        outside = [files[number] for number in numbers[""]]
        refuse(f"{path}: images outside of the folders of the splits", outside,
               "move them into train, val or test, or away")  # fmt: skip
    given = {split: np.array(of_split) for split, of_split in numbers.items() if split}
    if given and "train" not in given:
        raise DataError(f"{path} has folders for {' and '.join(given)}, but none for train")
    sizes, grey, opaque = [], 0, 0
    digest, faults, transparent = hashlib.sha256(repr(files).encode()), [], []
    for name in files:
        try:
            image, marks, is_clear = _photograph(archive.read(name))
        except ImageFaultError as error:
            faults.append(f"{name}: {error}")
            continue
        if is_clear:
            transparent.append(name)
        grey += marks.mode in ("1", "L", "LA", "La", "I", "I;16", "F")
        opaque += marks.alpha
        sizes.append((image.height, image.width))
        digest.update(image.tobytes())
    refuse(f"{path}: files that cannot be read as images", faults, "remove them or replace them")
    refuse(f"{path}: images with transparent pixels", transparent,
           "put them onto a background first, because what is behind the transparency is not known")  # fmt: skip
    left_out = len(archive.names) - len(files)
    read = {
        "images": _counted(len(files), sizes),
        "splits": ", ".join(f"{len(rows)} {split}" for split, rows in given.items()) or "none given",
    }
    read |= {"grey": f"{grey}, with three equal channels"} if grey else {}
    read |= {"alpha": f"{opaque} opaque alpha channel{'s' * (opaque > 1)} dropped"} if opaque else {}
    read |= {"left out": f"{left_out} other file{'s' * (left_out > 1)}"} if left_out else {}
    return Photographs(
        names=files,
        pixels=lambda i: np.asarray(_photograph(archive.read(files[i]))[0]),
        sizes=sizes,
        sha256=digest.hexdigest(),
        given=given,
        read=read,
    )


def _split(name: str) -> str:
    """Return the split of a file, by the outermost folder that is named after one, as `DIV2K_train_HR` is."""
    return next((split for part in PurePosixPath(name).parts[:-1] if (split := _split_named(part))), "")


def _split_named(folder: str) -> str:
    """Return the split that a folder is named after, or "". Words that only super-resolution uses can stand beside it.

    Example:
        >>> _split_named("DIV2K_train_HR"), _split_named("valid"), _split_named("Set5")
        ('train', 'val', '')
    """
    words = [word for word in re.split(r"[\W_]+", folder) if not _is_of_data_set(word)]
    return split_of("_".join(words)) or ""


def _is_of_data_set(word: str) -> bool:
    return word.upper() in (*_LARGE, "DIV2K", "DF2K", "FLICKR2K", "SR")


_LARGE = ("HR", "GT", "GTMOD12")
_SMALL = ("LR", "LRBICX2", "LRBICX3", "LRBICX4", "X2", "X3", "X4")
"""Words in upper case with which folders of large and of small images are named, as in DIV2K and BasicSR."""


def _refuse_pairs(path: Path, files: Sequence[str]) -> None:
    """Refuse small images beside large ones: they are made from the large ones, and would be read as photographs."""
    folders = sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."})
    words = {folder: set(re.split(r"[\W_]+", PurePosixPath(folder).name.upper())) for folder in folders}
    small = [folder for folder in folders if words[folder] & set(_SMALL)]
    if all(any(str(parent) in small for parent in PurePosixPath(name).parents) for name in files):
        return  # they are all the photographs that there are
    refuse(
        f"{path}: folders of small images", small,
        "move them away, because small images are made from the large ones with --scale"
    )  # fmt: skip


def _photograph(data: bytes) -> tuple[Image.Image, Marks, bool]:
    """Return an image in RGB, what was special about it, and whether any of its pixels is transparent."""
    image, opened = to_rgb(open_image(data)), open_image(data)
    clear = False
    if opened.has_transparency_data:
        clear = bool(np.asarray(opened.convert("RGBA"))[..., 3].min() < 255)
    return *image, clear


def _counted(count: int, sizes: list[tuple[int, int]]) -> str:
    heights, widths = zip(*sizes, strict=True)
    return f"{count}, {min(widths)} to {max(widths)} pixels wide, {min(heights)} to {max(heights)} high"


_EMBEDDED = {
    "train": ("coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg",
              "grass.png", "gravel.png"),
    "val": ("chelsea.png", "brick.png", "coins.png"),
    "test": ("astronaut.png", "camera.png", "moon.png"),
}  # fmt: skip
"""The photographs of scikit-image by split."""

_SHORTER_PX = 192
_TILE_PX = 64


def embedded_photographs() -> Photographs:
    """Return photographs of scikit-image, reduced to a shorter side of 192 pixels, so that a training takes seconds.

    Those for validation and test are cut into tiles of 64 pixels. No photograph is in two splits.

    Raises:
        DataError: If scikit-image is not installed, or lacks a photograph.
    """
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("photos-sr are photographs of scikit-image, which is not installed: pip install scikit-image")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    names: list[str] = []
    images: list[np.ndarray] = []
    given: dict[str, np.ndarray] = {}
    for split, files in _EMBEDDED.items():
        start = len(names)
        for file in files:
            whole = _reduced(folder / file)
            tiles = {"": whole} if split == "train" else _tiles(whole)
            names += [f"{file}{place}" for place in tiles]
            images += tiles.values()
        given[split] = np.arange(start, len(names))
    digest = hashlib.sha256(repr(names).encode())
    for image in images:
        digest.update(image.tobytes())
    counts = {split: len(files) for split, files in _EMBEDDED.items()}
    return Photographs(
        names=names,
        pixels=lambda i: images[i],
        sizes=[image.shape[:2] for image in images],
        sha256=digest.hexdigest(),
        given=given,
        notes=(
            f"photos-sr: validation and test are tiles of {counts['val']} and {counts['test']} photographs, so "
            "intervals say what holds for other tiles of them, and less about other photographs",
        ),
    )


def _reduced(file: Path) -> np.ndarray:
    if not file.is_file():
        raise DataError(f"this scikit-image has no photograph {file.name}; photos-sr needs one of 0.24 to 0.26")
    image, _ = to_rgb(open_image(file.read_bytes()))
    scale = _SHORTER_PX / min(image.size)
    return np.asarray(image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS))


def _tiles(image: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tiles of an image by their place. What is left at the right and at the bottom is left out."""
    rows, columns = (side // _TILE_PX for side in image.shape[:2])
    return {
        f" {row},{column}": image[_TILE_PX * row :, _TILE_PX * column :][:_TILE_PX, :_TILE_PX]
        for row in range(rows)
        for column in range(columns)
    }
