"""Commands on a user's own code: create a project, run the contract tests."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from nasbench.builtin import content_folder
from nasbench.cli import console
from nasbench.cli._app import AsJson, app
from nasbench.errors import InputError
from nasbench.text import MAX_SIDE, narrate


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the project.")] = Path()) -> None:
    """Create a project: a module, a space and a run.yaml. Its search can be started without any change.

    Example: nasbench init my-project
    """
    for file in init_project(folder):
        console.print_text(str(file))
    go = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    narrate(f"next: {go}nasbench check modules/channel_scale.py && nasbench search --config run.yaml")


@app.command()
def check(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py[:NAME]", help="A file with modules, a function that builds a backbone, or a Task."
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PX", min=1, max=MAX_SIDE, help="Image side at which a backbone is checked, by default 64."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK", help="Task that a backbone is for, such as photos-sr or series:FILE. Its data is read."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run the contract tests on your own module, backbone or task. Exit code 1 if one fails.

    Without --task, a function with an argument `padded` or `horizon` builds a backbone for series, and every
    other function one that classifies images.

    Example: nasbench check modules/channel_scale.py
    """
    from nasbench.library import plugins
    from nasbench.library.modules import list_modules, module_spec

    if file in list_modules() and not Path(file).exists():
        own = module_spec(file).origin.rpartition(":")[0]
        raise InputError(f"{file} is a module of the library, but check needs a file: nasbench check {own}")
    plugins.python_file(file)  # a missing file is an error before torch is imported
    from nasbench.testing import check_file

    results = check_file(file, size=size, task=task)
    failed = [result for result in results if not result.passed]
    if as_json:
        console.print_json("checks", [vars(result) for result in results])
    else:
        for result in failed:
            console.print_text(f"FAILED  {result.module} ({result.variant}), {result.check}: {result.message}")
        names = list(dict.fromkeys(result.module for result in results))
        console.print_text(f"{len(results) - len(failed)} of {len(results)} checks passed: {', '.join(names)}")
    return 1 if failed else 0


def init_project(folder: str | Path) -> list[Path]:
    """Create a project.

    Args:
        folder: The folder, created if it is missing. Existing files are never overwritten.

    Returns:
        The files written.

    Raises:
        InputError: If one of the files exists already, or if the folder cannot be written.
    """
    folder = Path(folder)
    template = content_folder("reports") / "project"
    files = [file.relative_to(template) for file in sorted(template.rglob("*")) if file.is_file()]
    # All files are checked before the first one is written, so that a refused folder is left unchanged.
    there = [str(folder / file) for file in files if (folder / file).exists()]
    if there:
        raise InputError(
            f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'} already; choose another folder"
        )
    try:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template / file, folder / file)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    return [folder / file for file in files]
