"""Plots of the winner's and the bare backbone's forecasts on the test split: windows, error by step and by series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from nasbench.library.plan import BARE
from nasbench.report.formatting import BARE_NAME, plan_words
from nasbench.report.plotting import GREY, Picture, label, save_picture, style
from nasbench.report.scatter import KINDS
from nasbench.report.trained_models import TrainedModels
from nasbench.report.winners import winner_of
from nasbench.runs.run import Run
from nasbench.tasks import ForecastingTask, apply, naive_names, naive_of

__all__ = [
    "ForecastData",
    "data_of_run",
    "draw_by_series",
    "draw_by_step",
    "draw_windows",
    "forecast_data",
    "forecast_figures",
    "load_data",
    "save_data",
    "series_shown",
]

WINNER, SEASONAL, LAST = "winner", "seasonal naive", "last value"

_COLOURS = {"truth": GREY, BARE_NAME: KINDS["bare"], WINNER: KINDS["front"], SEASONAL: KINDS["finalist"]}
_FILES = {"windows": "forecast-windows", "by_step": "forecast-error-by-step", "by_series": "forecast-error-by-series"}
_WINDOWS = 4  # number of test windows that are drawn
_BATCH = 16
_LEAST_TAIL = 12  # at least this many rows of a window's input are drawn before the forecast
_MOST_SERIES = 24  # with more rows, the plot cannot be read


@dataclass(frozen=True)
class ForecastData:
    """Data of the plots, one row for each value. Each table is a CSV file in the folder `figures` of the run.

    Attributes:
        windows: Columns window (from 1), series, step (1 is the first forecast, 0 the last row of the input), date,
            what ("truth" or the name of a forecast), value in the units of the data.
        by_step: Columns forecast, plan (its text, "" for a naive forecast), step, mse and mae on scaled values, over
            all test windows and scored series.
        by_series: Columns forecast, plan, series (that is scored), mse and mae on scaled values, over all test windows
            and steps.
    """

    windows: pd.DataFrame
    by_step: pd.DataFrame
    by_series: pd.DataFrame

    @property
    def plans(self) -> dict[str, str]:
        """Plans by name of their forecast. Naive forecasts have no plan."""
        rows = self.by_step[self.by_step["plan"] != ""]
        return dict(zip(rows["forecast"], rows["plan"], strict=True))


def forecast_data(
    task: ForecastingTask,
    models: Mapping[str, nn.Module],
    plans: Mapping[str, str],
    device: torch.device | str = "cpu",
) -> ForecastData:
    """Forecast every test window with every model and with the naive forecasts.

    Four test windows are stored with their values, evenly spread from the first to the last. Each of them shows one
    scored series, and these series are evenly spread too. A stored window begins with the last rows of its input: as
    many rows as the forecast has steps, but at least 12.

    Args:
        task: The task.
        models: Trained models by name, on `device`.
        plans: Plan text by name of the model.
        device: Device of the models.
    """
    starts = task.starts["test"]
    chosen = np.unique(np.linspace(0, len(starts) - 1, _WINDOWS).round().astype(int))
    spread = np.linspace(0, len(task.scored) - 1, len(chosen)).round().astype(int)
    columns = [task.scored[number] for number in spread]
    naive = naive_names(task, starts)
    errors = {name: _Errors(task) for name in (*models, *naive)}
    stored: dict[str, dict[int, np.ndarray]] = {name: {} for name in errors}
    batches = task.eval_batches("test", _BATCH, device=device)
    for model in models.values():
        model.eval()
    # The forecasts of a whole split can be larger than the memory, so only those of one batch are held at a time.
    for first, (x, y), part in zip(range(0, len(starts), _BATCH), batches, starts.split(_BATCH), strict=True):
        with torch.no_grad():
            forecasts = {name: apply(model, x).float().cpu() for name, model in models.items()}
        forecasts |= naive_of(task, part, naive)
        for name, forecast in forecasts.items():
            errors[name].add(forecast, y.cpu())
            for index, column in zip(chosen, columns, strict=True):
                if first <= index < first + len(part):
                    stored[name][int(index)] = forecast[index - first, :, column].double().numpy()
    steps, names = list(range(1, task.horizon + 1)), [task.series[column] for column in task.scored]
    by_step = [_errors(name, plans, "step", steps, each.by_step) for name, each in errors.items()]
    by_series = [_errors(name, plans, "series", names, each.by_series) for name, each in errors.items()]
    windows = _windows(task, dict(zip(map(int, chosen), columns, strict=True)), stored)
    return ForecastData(windows, pd.concat(by_step), pd.concat(by_series))


class _Errors:
    """Adds up the squared and absolute errors of the scored series, by step and by series."""

    def __init__(self, task: ForecastingTask) -> None:
        self._scored = task.scored
        self._sums = np.zeros((2, task.horizon, len(task.scored)))
        self._count = 0

    def add(self, forecast: Tensor, targets: Tensor) -> None:
        """Add the errors of a batch. Forecast and targets of D series are `(B, horizon, D)`."""
        error = (forecast - targets)[..., self._scored].double().numpy()
        self._sums += np.stack([(error**2).sum(axis=0), np.abs(error).sum(axis=0)])
        self._count += len(error)

    @property
    def by_step(self) -> np.ndarray:
        """The mean squared and absolute error of each step, `(2, horizon)`."""
        return self._sums.mean(axis=2) / self._count

    @property
    def by_series(self) -> np.ndarray:
        """The mean squared and absolute error of each scored series, `(2, series)`."""
        return self._sums.mean(axis=1) / self._count


def _errors(
    name: str, plans: Mapping[str, str], what: str, labels: list[int] | list[str], errors: np.ndarray
) -> pd.DataFrame:
    mse, mae = errors
    return pd.DataFrame({"forecast": name, "plan": plans.get(name, ""), what: labels, "mse": mse, "mae": mae})


def _windows(
    task: ForecastingTask, columns: Mapping[int, int], stored: Mapping[str, Mapping[int, np.ndarray]]
) -> pd.DataFrame:
    """Return the rows of the stored windows.

    Args:
        task: The task.
        columns: For each stored window, by its index among the test windows, the column of the series that it shows.
        stored: The scaled forecasts of these series, `(horizon,)` each, by name of the forecast and index of the
            window.
    """
    tail = min(task.lookback, max(task.horizon, _LEAST_TAIL))
    parts = []
    for number, (index, column) in enumerate(columns.items(), start=1):
        first = int(task.starts["test"][index]) + task.lookback  # the first forecast row
        truth = task.values[first - tail : first + task.horizon, column]
        parts.append(_window_rows(task, number, column, first, "truth", 1 - tail, truth))
        for name, windows in stored.items():
            # Models forecast scaled values, but a reader needs the units of the data.
            values = windows[index] * task.std[column] + task.mean[column]
            parts.append(_window_rows(task, number, column, first, name, 1, values))
    return pd.concat(parts)


def _window_rows(
    task: ForecastingTask, number: int, column: int, first: int, what: str, step: int, values: np.ndarray
) -> pd.DataFrame:
    """Return the rows for one line in the plot of a window. `step` is the step of the first value."""
    steps = np.arange(step, step + len(values))
    dates = task.dates[first - 1 + steps]
    return pd.DataFrame(
        {"window": number, "series": task.series[column], "step": steps, "date": dates, "what": what, "value": values}
    )


def save_data(data: ForecastData, folder: Path) -> None:
    """Write the three tables as CSV, for `load_data`."""
    folder.mkdir(exist_ok=True)
    for name, file in _FILES.items():
        getattr(data, name).to_csv(folder / f"{file}.csv", index=False)


def load_data(folder: Path) -> ForecastData | None:
    """Read the tables that `save_data` wrote. None if one of them is missing."""
    files = {name: folder / f"{file}.csv" for name, file in _FILES.items()}
    if not all(file.is_file() for file in files.values()):
        return None
    # A series can have the name "1" or "NA", so names are read as text, and never as missing.
    text = {"plan": str, "series": str}
    tables = {name: pd.read_csv(file, dtype=text, keep_default_na=False) for name, file in files.items()}
    tables["windows"]["date"] = pd.to_datetime(tables["windows"]["date"])
    return ForecastData(**tables)


def draw_windows(data: ForecastData) -> Figure:
    """Draw a panel for each window: the end of the input, then the truth and the forecasts."""
    numbers = sorted(data.windows["window"].unique())
    shown = ["truth", *_shown(data)]
    with style():
        figure = Figure(figsize=(9, 5.6 if len(numbers) > 2 else 3.2), layout="constrained")
        grid = figure.subplots(-(-len(numbers) // 2), min(2, len(numbers)), squeeze=False).flat
        for axes, number in zip(grid, numbers, strict=False):
            rows = data.windows[data.windows["window"] == number]
            _draw_window(axes, rows, shown)
        for axes in list(grid)[len(numbers) :]:
            axes.set_axis_off()
        _legend(figure, shown)
        figure.supxlabel("step (the forecast begins at 1)", fontsize=10)
        return figure


def _draw_window(axes: Axes, rows: pd.DataFrame, shown: list[str]) -> None:
    for what in shown:
        line = rows[rows["what"] == what]
        axes.plot(line["step"], line["value"], label=what, **_line(what, len(line) == 1))
    first = rows[rows["step"] == 1]["date"].iloc[0]
    axes.axvline(0.5, color="#666666", lw=0.8, ls=":")
    day = rows["date"].dt.normalize().eq(rows["date"]).all()
    axes.set_title(f"{label(rows['series'].iloc[0], 24)}, from {first:{'%Y-%m-%d' if day else '%Y-%m-%d %H:%M'}}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def draw_by_step(data: ForecastData) -> Figure:
    """Draw MSE and MAE by step of the horizon."""
    shown = _shown(data)
    with style():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        for axes, metric in zip(figure.subplots(1, 2), ("mse", "mae"), strict=True):
            for name in shown:
                rows = data.by_step[data.by_step["forecast"] == name]
                axes.plot(rows["step"], rows[metric], label=name, **_line(name, len(rows) == 1))
            axes.set(xlabel="step of the horizon", ylabel=f"{metric.upper()} (scaled values)")
            axes.set_ylim(bottom=0)
            axes.set_xlim(0.5, data.by_step["step"].max() + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
        _legend(figure, shown)
        return figure


def draw_by_series(data: ForecastData) -> Figure:
    """Draw MSE and MAE of each series in `series_shown`, sorted by the bare backbone's error, largest on top."""
    shown, order = _shown(data), series_shown(data)
    with style():
        figure = Figure(figsize=(9, 1.5 + 0.27 * max(3, len(order))), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, metric in ((left, "mse"), (right, "mae")):
            for name in shown:
                rows = data.by_series[data.by_series["forecast"] == name].set_index("series").loc[order]
                axes.plot(rows[metric], range(len(order)), label=name, **_dot(name))
            axes.set(xlabel=f"{metric.upper()} (scaled values)")
            axes.set_xlim(left=0)
            axes.grid(axis="y", visible=False)
        left.set_yticks(range(len(order)), [label(name, 28) for name in order])
        left.set_ylim(len(order) - 0.5, -0.5)
        _legend(figure, shown)
        return figure


def series_shown(data: ForecastData) -> list[str]:
    """Return the series of the plot, from top to bottom.

    If there are more than 24, only those whose MSE changes most from the bare backbone to the winner are shown. Without
    both of them, those with the largest MSE are shown.
    """
    table = data.by_series.pivot(index="series", columns="forecast", values="mse")
    reference = BARE_NAME if BARE_NAME in table else WINNER
    table = table.sort_values(reference, ascending=False, kind="stable")
    if len(table) <= _MOST_SERIES:
        return list(table.index)
    change = (table[WINNER] - table[BARE_NAME]).abs() if {BARE_NAME, WINNER} <= set(table) else table[reference]
    changed_most = set(change.nlargest(_MOST_SERIES).index)
    return [name for name in table.index if name in changed_most]


def _shown(data: ForecastData) -> list[str]:
    """Return the names of the forecasts in the plots: the models and one naive forecast."""
    known = set(data.by_step["forecast"])
    naive = SEASONAL if SEASONAL in known else LAST
    return [name for name in (naive, BARE_NAME, WINNER) if name in known]


def _line(what: str, single: bool) -> dict[str, Any]:
    width = {"truth": 2.6, WINNER: 1.5}.get(what, 1.2)
    dashes = {SEASONAL: ":", LAST: ":", BARE_NAME: "--"}.get(what, "-")
    return {
        "color": _COLOURS.get(what, KINDS["finalist"]),
        "lw": width,
        "ls": dashes,
        "marker": "o" if single else None,
    }


def _dot(what: str) -> dict[str, Any]:
    marker = {BARE_NAME: "D", WINNER: "o"}.get(what, "|")
    colour = _COLOURS.get(what, KINDS["finalist"])
    return {
        "color": colour,
        "marker": marker,
        "ls": "none",
        "markersize": 7,
        "markeredgewidth": 2 if marker == "|" else 0,
    }


def _legend(figure: Figure, shown: list[str]) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(shown))


def forecast_figures(run: Run, models: TrainedModels) -> list[Picture]:
    """Save the plots of a forecasting run and return them for its page. [] if there is nothing to show."""
    data = data_of_run(run, models)
    return [] if data is None else _pictures(data, run.path / "figures")


def data_of_run(run: Run, models: TrainedModels) -> ForecastData | None:
    """Return the data of a run's plots. None if it is not a forecasting run or has no stored weights.

    The winner is, of the plans on the Pareto front whose weights were stored, the best in the first objective. If that
    is the bare backbone, there is no winner. The data is stored as CSV files, and it is computed again only if the
    winner has changed.
    """
    if (run.config["task"] or {}).get("kind") != "forecasting":
        return None
    wanted = _wanted(run, models.numbers)
    if not wanted:
        return None
    plans = {name: plan for name, (_, plan) in wanted.items()}
    folder = run.path / "figures"
    known = load_data(folder)
    if known is not None and known.plans == plans:
        return known
    task = models.task
    if not isinstance(task, ForecastingTask):  # a user's own task of this kind does not always have windows
        return None
    loaded = {name: models.load(number, plan) for name, (number, plan) in wanted.items()}
    data = forecast_data(task, loaded, plans, models.device)
    save_data(data, folder)
    return data


def _wanted(run: Run, with_weights: set[int]) -> dict[str, tuple[int, str]]:
    """Return number and plan of the bare backbone and of the winner, if their weights were stored."""
    plans = run.finalists()
    bare = plans.loc[(plans["plan"] == BARE.text) & plans["number"].isin(list(with_weights)), "number"]
    wanted = {} if bare.empty else {BARE_NAME: (int(bare.iloc[0]), BARE.text)}
    winner = winner_of(run, with_weights)
    return wanted if winner is None else wanted | {WINNER: winner}


def _pictures(data: ForecastData, folder: Path) -> list[Picture]:
    who = (
        f"The winner is {plan_words(data.plans[WINNER])}"
        if WINNER in data.plans
        else "No other plan on the front has stored weights"
    )
    total, shown = data.by_series["series"].nunique(), len(series_shown(data))
    some = (
        ""
        if shown == total
        else f" The plot shows the {shown} of {total} series whose errors differ most. The CSV file has all series."
    )
    drawn = (
        ("windows", draw_windows, "Forecasts and truth", f"Test windows, evenly spread over the test split. {who}."),
        ("by_step", draw_by_step, "Error by step of the horizon", "Over all test windows and series, scaled values."),
        ("by_series", draw_by_series, "Error by series", f"Over all test windows and steps, scaled values.{some}"),
    )
    pictures = []
    for name, draw, title, text in drawn:
        alt, caption = f"{title}: {', '.join(_shown(data))}", f"{title}. {text}"
        pictures.append(save_picture(draw(data), folder, _FILES[name], alt=alt, caption=caption, wide=True))
    return pictures
