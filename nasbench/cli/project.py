"""One's own: a project to start from, and the contract tests of what one wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasbench import console
from nasbench.cli._app import AsJson, app


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where.")] = Path()) -> None:
    """Make a project: a module, a space and a run.yaml of your own, whose search runs at once.

    Example: nasbench init my-project
    """
    from nasbench.project import init_project

    for file in init_project(folder):
        console.print_text(str(file))
    go = "" if folder == Path() else f"cd {folder} && "
    console.narrate(f"next: {go}nasbench check modules/channel_scale.py && nasbench search --config run.yaml")


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE.py[:NAME]", help="Modules, a backbone build(), or a Task.")],
    size: Annotated[int, typer.Option(metavar="PX", min=1, help="Image side that a backbone is checked at.")] = 64,
    as_json: AsJson = False,
) -> int:
    """Run the contract tests on your own module, backbone or task. Exit code 1 if one fails.

    Example: nasbench check modules/channel_scale.py
    """
    from nasbench.testing import check_file

    results = check_file(file, size=size)
    failed = [result for result in results if not result.passed]
    if as_json:
        console.print_json("checks", [vars(result) for result in results])
    else:
        for result in failed:
            console.print_text(f"FAILED  {result.module} ({result.variant}), {result.check}: {result.message}")
        names = list(dict.fromkeys(result.module for result in results))
        console.print_text(f"{len(results) - len(failed)} of {len(results)} checks passed: {', '.join(names)}")
    return 1 if failed else 0
