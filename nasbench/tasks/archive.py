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

    Hidden files and folders are left out. Folders around everything are left out of the paths, unless they are named
    after a split. Links in a tar file are not followed.

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
            names, folders = _files(path)
        elif path.is_file() and path.suffix.lower() == ".tar":
            self._places, folders = _members(path)
            names = list(self._places)
        elif path.exists():
            raise DataError(
                f"{path} is neither a folder nor an uncompressed tar file whose name ends in .tar; unpack it and give "
                "the folder, or pack it without compression"
            )
        else:
            raise DataError(f"no folder or .tar file at {path}")
        if not names:
            raise DataError(f"{path} has no files")
        around = self._around = _around(names)
        self.names = sorted(name.removeprefix(around) for name in names)
        self._folders = {folder.removeprefix(around) for folder in folders if folder.startswith(around)}

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            if not self._places:
                return (self.path / self._around / name).read_bytes()
            start, size = self._places[self._around + name]
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
        """Return the paths of all folders, also of empty ones, sorted."""
        return sorted((self._folders | {str(up) for name in self.names for up in PurePosixPath(name).parents}) - {"."})


def _around(names: list[str]) -> str:
    """Return the path of the folders around everything, with a `/` at its end, or ""."""
    around = ""
    while True:
        roots = {name[len(around) :].partition("/")[0::2] for name in names}
        firsts = {first for first, _ in roots}
        if len(firsts) > 1 or not all(rest for _, rest in roots) or split_of(min(firsts)):
            return around
        around += f"{min(firsts)}/"


def _is_hidden(part: str) -> bool:
    return part.startswith((".", "__MACOSX"))


def _files(path: Path) -> tuple[list[str], set[str]]:
    """Return the paths of the files below a folder, and of the folders."""
    found, folders = [], set()
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not _is_hidden(name)]
        folders |= {(Path(folder) / name).relative_to(path).as_posix() for name in inner}
        for name in files:
            file = Path(folder) / name
            if not name.startswith(".") and file.is_file():  # no FIFO, no broken link
                found.append(file.relative_to(path).as_posix())
    return found, folders


def _members(path: Path) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """Return where each file of a tar file is stored (start and number of bytes), and the paths of the folders."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [m for m in tar if not any(map(_is_hidden, PurePosixPath(m.name).parts))]
    except tarfile.TarError as error:
        raise DataError(f"{path} cannot be read as an uncompressed tar: {error}") from None
    places = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in members if m.isfile()}
    return places, {m.name.removeprefix("./") for m in members if m.isdir()}
