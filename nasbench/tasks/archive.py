"""The files of a data set, in a folder or in one tar file."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path, PurePosixPath

from nasbench.errors import DataError

__all__ = ["SPLIT_NAMES", "Archive", "is_image", "split_of"]

SPLIT_NAMES = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testset"),
}
"""For each split, the spellings of its folder or file in lower case."""

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")


def split_of(name: str) -> str:
    """Return the split that a folder or file is named after ("val", "val2017"), or "" if it is named after none."""
    word = name.lower().rstrip("0123456789")
    return next((split for split, names in SPLIT_NAMES.items() if word in names), "")


def is_image(name: str) -> bool:
    """Return whether a file is an image, by its ending."""
    return name.lower().endswith(_IMAGES)


class Archive:
    """The files under a folder, or in an uncompressed tar file, by their paths in it.

    Hidden files and folders are left out. In a tar file, a single folder around everything is left out of the paths,
    and links are not followed.

    Args:
        path: The folder or tar file.

    Attributes:
        names: The paths of all files, with `/`, sorted.

    Raises:
        DataError: If there is no such folder or tar file, or it has no files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        if path.is_dir():
            self.names = sorted(_files(path))
        elif path.is_file() and path.suffix.lower() == ".tar":
            self._places = _members(path)
            self.names = sorted(self._places)
        else:
            raise DataError(f"no folder or .tar file at {path}")
        if not self.names:
            raise DataError(f"{path} has no files")

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            if not self._places:
                return (self.path / name).read_bytes()
            start, size = self._places[name]
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise DataError(f"{self.path}: {name} cannot be read: {error.strerror}") from None

    def text(self, name: str) -> str:
        """Return the text of a file.

        Raises:
            DataError: If the file cannot be read, or is not text in UTF-8.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: {name} is not text in UTF-8 (byte {error.start})") from None

    def below(self, folder: str) -> list[str]:
        """Return the paths of all files in a folder and its subfolders. The folder "" contains all files."""
        return [name for name in self.names if not folder or name.startswith(f"{folder}/")]

    def folders(self) -> list[str]:
        """Return the paths of all folders that contain files, directly or in subfolders, sorted."""
        return sorted({str(parent) for name in self.names for parent in PurePosixPath(name).parents} - {"."})


def _files(path: Path) -> list[str]:
    found = []
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith((".", "__MACOSX"))]
        for name in files:
            file = Path(folder) / name
            if not name.startswith(".") and file.is_file():  # no FIFO, no broken link
                found.append(file.relative_to(path).as_posix())
    return found


def _members(path: Path) -> dict[str, tuple[int, int]]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isfile()}
    except tarfile.TarError as error:
        raise DataError(f"{path} cannot be read as an uncompressed tar: {error}") from None
    kept = {
        name: place
        for name, place in members.items()
        if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    }
    roots = {PurePosixPath(name).parts[0] for name in kept}
    inside = len(roots) == 1 and all("/" in name for name in kept)
    return {name.partition("/")[2] if inside else name: place for name, place in kept.items()}
