"""Find and read space files: ready-made spaces, a user's own spaces, and other YAML files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench import builtin
from nasbench.errors import SpaceError, UnknownNameError
from nasbench.files import read_yaml

__all__ = ["SpaceFile", "list_spaces", "read_space_file", "ready_made"]

_MAX_NESTED = 20  # largest depth of files that name other files. A longer chain counts as endless
_FOLDER = "search_spaces"


def list_spaces() -> list[str]:
    """List the names of the ready-made spaces and of the spaces in the user's `search_spaces/`, sorted."""
    return sorted(_files())


def ready_made() -> list[str]:
    """List the names of the spaces that ship with nasbench, sorted, except those that a user's own space replaces."""
    shipped = builtin.content_folder(_FOLDER).resolve()
    return sorted(name for name, file in _files().items() if file.resolve().parent == shipped)


@dataclass(frozen=True)
class SpaceFile:
    """A space file that was read. Its keys and values are not checked yet.

    Attributes:
        written: The content of the file. A space without a name gets the name of its file.
        origin: The name or path that was given, for messages.
        inside: The chain of files that are being read, from the outermost file to this one.
    """

    written: dict[str, Any]
    origin: str
    inside: tuple[Path, ...]


def read_space_file(given: str | Path, *, inside: tuple[Path, ...] = ()) -> SpaceFile:
    """Read a space file by name or path.

    Args:
        given: The name of a space, or the path of a file relative to the file that names it.
        inside: The chain of files that are being read and led to this one, with the outermost first.

    Raises:
        UnknownNameError: If no space has the name.
        SpaceError: If the file is not a YAML mapping, or includes itself.
    """
    path = _find(given, inside)
    if path in inside or len(inside) > _MAX_NESTED:
        raise SpaceError(f"a space includes itself: {' > '.join(file.stem for file in (*inside, path))}")
    origin = Path(given)
    written = read_yaml(path, "space", SpaceError, origin)
    return SpaceFile({"name": path.stem, **written}, str(origin), (*inside, path))


def _find(given: str | Path, inside: tuple[Path, ...]) -> Path:
    files = _files()
    if str(given) in files:
        return files[str(given)].absolute()
    path = Path(given)
    if path.suffix not in (".yaml", ".yml"):
        raise UnknownNameError("space", str(given), files, "or the path of a .yaml file")
    return (inside[-1].parent / path if inside else path).absolute()


def _files() -> dict[str, Path]:
    folders = [builtin.content_folder(_FOLDER), Path(_FOLDER)]
    # A later folder replaces entries of an earlier one, so a user's own space replaces a ready-made space of that name.
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.yaml"))}
