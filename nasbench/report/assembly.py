"""Build a report: plots, tables, test metrics of the best plans and the bare backbone, and report.html."""

from __future__ import annotations

import json
import warnings
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from nasbench.builtin import content_folder
from nasbench.errors import NothingMatched, RunError
from nasbench.files import write_fault, write_text
from nasbench.library.plan import BARE
from nasbench.report.explorer import explorer_data, script_json
from nasbench.report.headline import headline
from nasbench.report.omissions import Omissions
from nasbench.report.page import Page, page_of
from nasbench.report.pictures import pictures_of
from nasbench.report.tables import save_tables
from nasbench.report.trained_models import TrainedModels
from nasbench.runs.damage import damage_of, missing_of
from nasbench.runs.run import Run
from nasbench.runs.schema import read_test_metrics
from nasbench.runs.trainings import trainings_of
from nasbench.text import printable

__all__ = ["answer_of", "build", "content_text", "page_without_pictures", "render", "templates"]


def build(run: Run) -> Path:
    """Build or rebuild the report of a run, and return the path of its HTML page.

    The test split is used only here, for the plans on the Pareto front, those that are BETTER and the bare backbone, if
    their weights were stored. Metrics that are already in test.json are not computed again.

    A new report does not lose pictures of the last one. If the data or the weights are gone, or if the run is not
    trusted, a picture cannot be made again. Then the page shows the picture of the last report with its date, and the
    page and a warning say why. The page is replaced after everything else was made.

    Raises:
        NothingMatched: If the run has no finished trial.
        RunError: If the folder cannot be written, or if the journal has fewer trials than the views show. Then nothing
            is replaced.
    """
    run.folder.check()
    run.check_complete()
    if not run.evaluations():
        raise NothingMatched(f"run {run.path} has no finished trial to report")
    try:
        run.refresh()
        models, omissions = TrainedModels(run), Omissions()
        test, naive = _test_figures(run, models, omissions)
        pictures = pictures_of(run, models, omissions)
        if fault := run.sources.fault:
            omissions.add_reason(fault)
        page = page_of(run, test, naive, pictures, omissions.notes)
        html = printable(render(run, page))
        save_tables((page.front, *page.tables), run.folder.tables)
        file = run.folder.report
        write_text(file, html)
    except OSError as error:
        copy = "a report is written into its run folder, and `nasbench report RUN --out DIR` into a copy of it"
        raise RunError(f"cannot write the report into {run.path}: {write_fault(error, copy)}") from None
    for note in (*damage_of(run), *missing_of(run), *omissions.notes):
        warnings.warn(note, stacklevel=2)
    return file


def answer_of(run: Run) -> tuple[str, ...]:
    """Return the headline of a run's report in brief: which plan helps, and how sure that is.

    It uses the test results that the last report stored, and does not open the test split.
    """
    known = _known_test_figures(run)
    recorded = None if run.metric is None else trainings_of(run)
    return headline(run, run.finalists(), recorded, known["plans"], known["naive"], brief=True)


def render(run: Run, page: Page) -> str:
    """Return the report as HTML. Every text in it is escaped."""
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            page=page,
            style=content_text("plan.css", "style.css"),
            script=content_text("explorer.js", "tables.js"),
            explorer=script_json(explorer_data(run)),
        )
    )


def templates() -> jinja2.Environment:
    """Return the environment of the HTML templates, which escapes every text."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(content_folder("reports")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def content_text(*names: str) -> str:
    """Return the content of styles or scripts of the reports, in this order."""
    folder = content_folder("reports")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def page_without_pictures(run: Run) -> Page:
    """Return the page of a run, with the test results that the last report stored. The test split is not opened."""
    known = _known_test_figures(run)
    return page_of(run, known["plans"], known["naive"])


def _test_figures(
    run: Run, models: TrainedModels, omissions: Omissions
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Return test metrics of plans by hash and of naive forecasts by name. Compute only those missing in test.json."""
    file, known = run.folder.test_metrics, _known_test_figures(run)
    finalists = run.finalists()
    wanted = finalists["on_front"].astype(bool) | (finalists["plan"] == BARE.text)
    if "verdict" in finalists:
        wanted |= finalists["verdict"] == "BETTER"
    shown = finalists[wanted]
    with_weights = models.numbers
    todo = [
        row
        for row in shown.to_dict(orient="records")
        if row["plan_hash"] not in known["plans"] and row["number"] in with_weights
    ]
    # A damaged test.json is not replaced, so that the test split is not used again for metrics that can be restored.
    if todo and file not in run.folder.damaged:
        try:
            _add_test_figures(known, todo, models)
        except Exception as error:
            missing = [row["number"] for row in todo if row["plan_hash"] not in known["plans"]]
            what = f"test metrics of {_trials(missing)}" if missing else "test metrics of naive forecasts"
            omissions.add(what, error)
        # Stored before the page is written, so that the test split is not opened twice if the page fails.
        write_text(file, json.dumps(known, indent=2) + "\n")
    return known["plans"], known["naive"]


def _add_test_figures(known: dict[str, Any], todo: Iterable[Mapping[Hashable, Any]], models: TrainedModels) -> None:
    from nasbench.training.loop import evaluate  # imported here, because it imports torch

    for row in todo:
        model = models.load(row["number"], row["plan"])
        known["plans"][row["plan_hash"]] = evaluate(model, models.task, "test", models.device)[0]
    if not known["naive"]:
        known["naive"] = {name: dict(metrics) for name, metrics in models.task.naive("test").items()}


def _trials(numbers: Iterable[int]) -> str:
    shown = list(map(str, numbers))
    return f"trial{'' if len(shown) == 1 else 's'} {', '.join(shown)}"


def _known_test_figures(run: Run) -> dict[str, Any]:
    """Return the content of test.json: metrics of plans by hash, and of naive forecasts by name."""
    return read_test_metrics(run.folder)
