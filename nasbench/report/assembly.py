"""Build everything a reader of a run gets: figures, CSV tables, the test figures of the front, report.html."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from nasbench.builtin import content_folder
from nasbench.errors import NothingMatched, RunError
from nasbench.evaluation import TrainingEvaluator
from nasbench.plan import Plan
from nasbench.preparation import prepare
from nasbench.report import figures
from nasbench.report.page import page_of
from nasbench.runs import Run, write_text
from nasbench.tasks import ForecastingTask, naive_baselines
from nasbench.training import evaluate

__all__ = ["build"]


def build(run: Run) -> Path:
    """(Re)build the report of a run and return the path of its HTML page.

    The test split is opened here and nowhere else, for the compared plans whose weights were kept; figures that
    test.json already holds are not computed again.

    Raises:
        NothingMatched: If the run holds no finished trial.
        RunError: If the folder cannot be written.
    """
    if not run.records():
        raise NothingMatched(f"run {run.path} has no finished trial to report")
    try:
        run.refresh()
        test, naive = _test_figures(run)
        pictures = [_picture(run, data) for cost in figures.costs_of(run) if (data := _scatter(run, cost)) is not None]
        page = run.path / "report.html"
        write_text(page, render(run, test, naive, pictures))
    except OSError as error:
        raise RunError(f"cannot write the report into {run.path}: {error.strerror}") from None
    return page


def render(
    run: Run,
    test: Mapping[str, Mapping[str, float]],
    naive: Mapping[str, Mapping[str, float]],
    pictures: list[dict[str, str]],
) -> str:
    """Return the HTML page; every text in it is escaped."""
    folder = content_folder("reports")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    style = (folder / "style.css").read_text(encoding="utf-8")
    template = environment.get_template("report.html.j2")
    return template.render(page=page_of(run, test, naive), figures=pictures, style=style)


def _scatter(run: Run, cost: str) -> figures.ScatterData | None:
    metric = run.metric or next(iter(run.directions))
    return figures.scatter_data(run, cost, metric) if cost != metric else None


def _picture(run: Run, data: figures.ScatterData) -> dict[str, str]:
    files = figures.save(figures.draw_scatter(data), run.path / "figures", f"{data.y}-{data.x}")
    data.points.to_csv(files["svg"].with_suffix(".csv"), index=False)
    return {
        "data": base64.b64encode(files["svg"].read_bytes()).decode("ascii"),
        "alt": f"{data.y} against {data.x}, {len(data.points)} plans",
        "caption": f"{data.y} against {figures.LABELS.get(data.x, data.x)}. Numbers are trials; the line is the front.",
    }


def _test_figures(run: Run) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Return test metrics by plan hash and those of naive forecasts, computing only what test.json lacks."""
    file = run.path / "test.json"
    known: dict[str, Any] = (
        json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"plans": {}, "naive": {}}
    )
    finalists = run.finalists()
    shown = finalists[finalists["on_front"].astype(bool) | (finalists["plan"] == "{}")]
    weights = {int(f.stem.split("-")[1]) for f in (run.path / "models").glob("trial-*.safetensors")}
    todo = [
        row
        for row in shown.to_dict(orient="records")
        if row["plan_hash"] not in known["plans"] and row["number"] in weights
    ]
    if todo:
        evaluator = prepare(run.settings).evaluator
        assert isinstance(evaluator, TrainingEvaluator)  # weights are kept for trained plans alone
        for row in todo:
            model = run.weights(row["number"], evaluator.build(Plan.of(row["plan"]), run.settings.seed))
            known["plans"][row["plan_hash"]] = evaluate(
                model.to(evaluator.device), evaluator.task, "test", evaluator.device
            )[0]
        if isinstance(evaluator.task, ForecastingTask) and not known["naive"]:
            known["naive"] = naive_baselines(evaluator.task, "test")
        write_text(file, json.dumps(known, indent=2) + "\n")
    return known["plans"], known["naive"]
