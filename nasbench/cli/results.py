"""Commands on runs: list them, report one, compute its power, compare several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, CopyTo, Force, Trust, app
from nasbench.errors import InputError, NothingMatched
from nasbench.text import clean, human, narrate

if TYPE_CHECKING:
    from nasbench.runs.run import Run


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: CopyTo = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Build or rebuild the report, plots and tables of a run.

    They are written into the run folder. With --out they are written into a copy of it.

    Example: nasbench report runs/demo
    """
    from nasbench import report as reports
    from nasbench.runs.run import load_run

    opened = load_run(run, trust=trust)
    if out is not None:
        opened = opened.copy_to(out)
    narrate("building the report")
    page = reports.build(opened)
    print_front(opened, as_json)
    narrate_end(opened, page)


@app.command()
def power(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    effect: Annotated[
        float | None,
        typer.Option(metavar="D", min=0, help="A difference of the metric, in its own unit, such as 0.01."),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Show which differences a run can detect, and what is needed to detect a difference of D.

    If two plans differ by a detectable difference, a run finds it with a probability of 80 %, at 95 % confidence.

    Example: nasbench power runs/try --effect 0.01
    """
    from nasbench.runs.refinement import has_given_plans
    from nasbench.runs.run import load_run

    opened = load_run(run, trust=trust)
    told = opened.power(effect)
    narrate_damage(opened)
    if as_json:
        console.print_json("power", {"run": str(run), **told.to_dict()})
    else:
        console.print_text(str(told))
    if effect is None:
        words = console.command("power", str(run), "--effect")
        narrate(f"next: {words} D shows what is needed to detect a difference of D")
    else:
        more = "--seeds" if has_given_plans(opened.settings) else "--refine"
        seeds = told.seeds_needed if more == "--seeds" else None
        words = console.command("search", "--out", str(run), more)
        narrate(f"next: {words} {seeds or 'N'} trains plans with further seeds")


@app.command()
def runs(
    root: Annotated[Path, typer.Argument(help="The folder that contains the runs.")] = Path("runs"),
    trust: Trust = False,
    as_json: AsJson = False,
) -> int:
    """List the runs in a folder: state, trials, size of the Pareto front. A run that cannot be read is listed too.

    Example: nasbench runs
    """
    from nasbench.runs.run import list_runs, load_run

    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; give the folder that contains the runs")
    rows, unreadable = [], 0
    for path in list_runs(root):
        try:
            rows.append(load_run(path, trust=trust).summary())
        except InputError as error:  # one damaged run must not hide the others
            unreadable += 1
            rows.append({"name": path.name, "state": f"unreadable: {clean(str(error))}"})
    if not rows:
        missing = "" if root.is_dir() else " (there is no such folder)"
        raise NothingMatched(f"no run in {root}/{missing}; `nasbench search` makes one")
    if as_json:
        console.print_json("runs", rows)
    else:
        columns = ("name", "state", "trials", "failed", "front", "backbone", "task", "created")
        for row in rows:
            row["trials"] = f"{row['trials']} of {row['of']}" if "of" in row else ""
            row["created"] = row.get("created", "")[: len("2026-01-31T12:00")].replace("T", " ")
        console.print_table(columns, [[row.get(column) for column in columns] for row in rows])
    return 1 if unreadable else 0


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two or more run folders.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the plot and tables to this folder.")] = None,
    force: Force = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs: Pareto fronts, paired differences, settings.

    The fronts are drawn in one plot. Differences have intervals. Only settings that differ are shown. For runs with
    different --learn, Kendall's tau says how far their rankings of the same plans agree.

    Example: nasbench compare runs/try runs/other --out comparison
    """
    from nasbench.runs.run import load_run

    console.check_folder(out, force=force)
    opened = [load_run(path, trust=trust) for path in runs]
    from nasbench.report.comparison import compare as compared
    from nasbench.report.formatting import plan_words

    comparison = compared(opened)
    for each in opened:
        narrate_damage(each)
    tables = {
        "fronts": comparison.fronts,
        "differences": comparison.pairs,
        "agreement": comparison.agreement,
        "settings": comparison.settings,
    }
    if as_json:
        rows = {name: table.to_dict(orient="records") for name, table in tables.items()}
        console.print_json("comparison", {**rows, "metric": comparison.metric, "notes": list(comparison.notes)})
    else:
        for name, table in tables.items():
            if len(table):
                for column in {"plan", "first_plan", "second_plan"} & set(table.columns):
                    table = table.assign(**{column: table[column].map(plan_words)})
                console.print_table(list(table.columns), table.itertuples(index=False), name)
    for note in comparison.notes:
        narrate(f"note: {note}")
    if out is not None:
        comparison.save(out)
        narrate(f"{'plot and tables' if comparison.cost else 'tables'}: {out}")
    else:
        narrate("next: the same command with --out DIR writes the plot and the tables")


_SHORT = {
    "number": "trial",
    "difference": "vs bare",
    "difference_low": "low",
    "difference_high": "high",
    "probability": "p(front)",
}
"""Titles that leave room for the plan on a terminal of 80 columns."""


def narrate_damage(run: Run) -> None:
    """Say what is left out of a run because a record or a file is damaged, as far as it was read."""
    from nasbench.runs.damage import damage_of  # imported here, because it imports numpy

    for line in damage_of(run):
        narrate(f"warning: {run.folder.name}: {line}")


def narrate_end(run: Run, page: Path) -> None:
    """Say in one line where the report is, and which command fits after a search or its report."""
    from nasbench.report.next_step import next_step

    words, what = next_step(run, Path(console.shown(run.path)))
    narrate(f"report: {console.shown(page)}; next: {console.command(*words)}  ({what})")


def print_front(run: Run, as_json: bool) -> None:
    """Print the Pareto front of a run, or all of its given plans. Also print the headline of its report on stderr.

    With `as_json` the plans are printed as JSON.
    """
    from nasbench.report.assembly import answer_of

    for sentence in answer_of(run):
        narrate(sentence)
    # A user who names the plans wants to know about each of them, and not only about the best.
    kind, table = ("compared", run.finalists()) if run.settings.plans else ("front", run.front())
    if as_json:
        console.print_json(kind, {"run": console.shown(run.path), "rows": table.to_dict(orient="records")})
        return
    from nasbench.report.formatting import plan_words

    shown = [*run.directions, "difference", "difference_low", "difference_high", "verdict", "probability"]
    columns = ["number", *(column for column in shown if column in table)]
    shown_rows = [
        [*(human(value) if isinstance(value, int) and value >= 1000 else value for value in row), plan_words(plan)]
        for row, plan in zip(table[columns].to_numpy(dtype=object), table["plan"], strict=True)
    ]
    # The sign of a difference is not that of the metric, if less of the metric is better.
    lower = "difference" in columns and run.metric is not None and run.directions[run.metric] == "minimize"
    title = f"{kind} (vs bare: positive is better)" if lower else kind
    titles = [*(_SHORT.get(column, column) for column in columns), "plan"]
    console.print_table(titles, shown_rows, title, optional=[_SHORT["probability"]])
