"""Find and read the files of spaces: the ready-made ones, the project's own, any YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench import builtin
from nasbench.errors import SpaceError, UnknownNameError
from nasbench.files import read_yaml

__all__ = ["SpaceFile", "list_spaces", "read_space_file", "ready_made"]

_MAX_NESTED = 20
_FOLDER = "search_spaces"


def list_spaces() -> list[str]:
    """List the names of the ready-made spaces and those of the project's own `search_spaces/`, sorted."""
    return sorted(_files())


def ready_made() -> list[str]:
    """List the names of the spaces that ship with nasbench and that the project has none of its own for, sorted."""
    shipped = builtin.content_folder(_FOLDER).resolve()
    return sorted(name for name, file in _files().items() if file.resolve().parent == shipped)


@dataclass(frozen=True)
class SpaceFile:
    """A space file that was read, its keys and values not yet checked.

    Attributes:
        written: What it holds; its name is the file's where it gives none.
        origin: What it is called in messages: the name or path that was given.
        inside: The files being read, outermost first, this one last.
    """

    written: dict[str, Any]
    origin: str
    inside: tuple[Path, ...]


def read_space_file(given: str | Path, *, inside: tuple[Path, ...] = ()) -> SpaceFile:
    """Read a space file by name or path.

    Args:
        given: A name; or a file, relative to the file that names it.
        inside: The files being read that led here, outermost first.

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
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.yaml"))}
