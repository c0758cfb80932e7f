"""What runs left: the list of them, and the report of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasbench import console
from nasbench.cli._app import AsJson, app
from nasbench.errors import NothingMatched

if TYPE_CHECKING:
    from nasbench.runs import Run


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: AsJson = False) -> None:
    """Build (again) the report, figures and tables of a run.

    Example: nasbench report runs/demo
    """
    from nasbench import report as reports
    from nasbench import runs as folders

    found = folders.load_run(run)
    page = reports.build(found)
    print_front(found, as_json)
    console.narrate(f"report: {page}")


@app.command()
def runs(
    root: Annotated[Path, typer.Argument(help="The folder that holds run folders.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs here: state, trials, front.

    Example: nasbench runs
    """
    from nasbench import runs as folders

    found = [folders.load_run(path) for path in folders.list_runs(root)]
    if not found:
        raise NothingMatched(f"no run in {root}/; `nasbench search` makes one")
    rows = [folders.summary(run) for run in found]
    if as_json:
        console.print_json("runs", rows)
        return
    columns = ("name", "state", "trials", "of", "failed", "front", "backbone", "task", "created")
    console.print_table(columns, [[row[column] for column in columns] for row in rows])


def print_front(run: Run, as_json: bool) -> None:
    """Print the front of a run, as a table or as JSON."""
    front = run.front()
    if as_json:
        console.print_json("front", {"run": str(run.path), "rows": front.to_dict(orient="records")})
        return
    shown = [*run.directions, "difference", "difference_low", "difference_high", "verdict", "probability"]
    columns = ["number", *(column for column in shown if column in front), "plan"]
    console.print_table(columns, front[columns].itertuples(index=False), "front")
