"""Find and read spaces: the ready-made ones, the project's own, any YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench import builtin
from nasbench.errors import SpaceError, UnknownNameError
from nasbench.files import read_yaml
from nasbench.spaces._space import Space

__all__ = ["list_spaces", "load", "load_space"]

_MAX_NESTED = 20
_FOLDER = "search_spaces"


def list_spaces() -> list[str]:
    """List the names of the ready-made spaces and those of the project's own `search_spaces/`, sorted."""
    return sorted(_files())


def load_space(given: str | Path | Mapping[str, Any] | Space) -> Space:
    """Load a space by name, from a YAML file, or from a mapping.

    Raises:
        UnknownNameError: If no space has the name.
        SpaceError: If the file is malformed.
    """
    if isinstance(given, Space):
        return given
    if isinstance(given, Mapping):
        return Space.from_dict(given)
    return load(given)


def load(given: str | Path, *, inside: tuple[Path, ...] = ()) -> Space:
    """Load a space by name or file.

    Args:
        given: A name; or a file, relative to the file that names it.
        inside: The files being read that led here, outermost first.

    Raises:
        UnknownNameError: If no space has the name.
        SpaceError: If the file is malformed, or includes itself.
    """
    files = _files()
    path = files.get(str(given), Path(given))
    if str(given) not in files:
        if path.suffix not in (".yaml", ".yml"):
            raise UnknownNameError("space", str(given), files, "or the path of a .yaml file")
        path = inside[-1].parent / path if inside else path
    path = path.absolute()
    if path in inside or len(inside) > _MAX_NESTED:
        raise SpaceError(f"a space includes itself: {' > '.join(file.stem for file in (*inside, path))}")
    return _read(path, Path(given), (*inside, path))


def _files() -> dict[str, Path]:
    folders = [builtin.content_folder(_FOLDER), Path(_FOLDER)]
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.yaml"))}


def _read(path: Path, shown: Path, inside: tuple[Path, ...]) -> Space:
    given = read_yaml(path, "space", SpaceError, shown)
    return Space.from_dict({"name": path.stem, **given}, origin=str(shown), inside=inside)
