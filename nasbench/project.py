"""A project of one's own: a folder with a module, a space and a run.yaml whose search runs at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from nasbench.builtin import content_folder
from nasbench.errors import InputError

__all__ = ["init_project"]


def init_project(folder: str | Path) -> list[Path]:
    """Make a project.

    Args:
        folder: Where; made if missing. Files that are there already are left alone, and refused.

    Returns:
        The files written.

    Raises:
        InputError: If one of the files is there already, or the folder cannot be written.
    """
    folder = Path(folder)
    template = content_folder("reports") / "project"
    files = [file.relative_to(template) for file in sorted(template.rglob("*")) if file.is_file()]
    there = [str(folder / file) for file in files if (folder / file).exists()]
    if there:
        raise InputError(
            f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already; choose another folder"
        )
    try:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template / file, folder / file)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    return [folder / file for file in files]
