"""Comparison of several runs: their fronts in one picture, paired differences, and settings that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nasbench.errors import InputError, NothingMatched
from nasbench.evidence.noise import pooled_noise
from nasbench.evidence.pairs import compare_pair
from nasbench.evidence.pareto import non_dominated
from nasbench.evidence.rank_agreement import FEWEST, rank_agreement
from nasbench.files import write_text
from nasbench.library.plan import BARE
from nasbench.objectives import COSTS
from nasbench.report.formatting import BARE_NAME
from nasbench.runs.run import Run
from nasbench.runs.settings import differences
from nasbench.runs.trainings import trainings_of
from nasbench.text import csv_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The fronts of several runs, their differences, and settings that differ.

    Attributes:
        fronts: One row for each plan of each front: run, number, plan, the metric with its interval and its difference
            from the bare backbone of the same run, and the costs that all runs have.
        pairs: Comparisons of two runs on the same data: of their best plans, and of every plan that both runs compared.
            Each row has the difference (positive if the second is better), its 95 % interval over items and seeds, the
            smaller of the two numbers of seeds, and a verdict. The noise is pooled over both runs.
        settings: One row for each setting that differs: the setting, then one column for each run.
        metric: The metric of the picture and of the differences.
        cost: The cost on the horizontal axis. "" if the runs have no cost in common.
        direction: Direction of the metric, "maximize" or "minimize".
        agreement: How far two runs that learnt differently from the same data rank the plans of both alike. One row for
            each pair of runs, with Kendall's tau, its 95 % interval and the number of plans (with the bare backbone).
        notes: Comparisons that were not possible, with the reasons.
    """

    fronts: pd.DataFrame
    pairs: pd.DataFrame
    settings: pd.DataFrame
    metric: str
    cost: str
    direction: str
    agreement: pd.DataFrame
    notes: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> list[Path]:
        """Write fronts.csv, differences.csv, agreement.csv, settings.csv and the figure as SVG, PNG and PDF.

        Raises:
            InputError: If the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = []
            for name in ("fronts", "pairs", "agreement", "settings"):
                file = folder / f"{'differences' if name == 'pairs' else name}.csv"
                write_text(file, csv_text(getattr(self, name)))
                files.append(file)
            if self.cost:
                from nasbench.report.plotting import save  # imported here, because tables do not need matplotlib

                files += save(draw(self), folder, f"fronts-{self.metric}-{self.cost}").values()
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}") from None
        return files


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare runs.

    Args:
        runs: At least two runs with a common metric, or that learnt differently from the same data. Each needs a
            finished trial.

    Raises:
        InputError: If there are fewer than two runs, if a run is given twice, or if the runs have no common metric.
        NothingMatched: If a run has no finished trial.
    """
    names = _names(runs)
    fronts = {name: run.front() for name, run in zip(names, runs, strict=True)}
    empty = [name for name, front in fronts.items() if front.empty]
    if empty:
        raise NothingMatched(f"{', '.join(empty)} {'has' if len(empty) == 1 else 'have'} no finished trial to compare")
    metrics = [run.metric or next(iter(run.directions)) for run in runs]
    metric = metrics[0]
    agreement, unranked = _agreement(names, runs)
    common = all(metric in front for front in fronts.values())
    if not common and agreement.empty:
        told = ", ".join(f"{name}: {m}" for name, m in zip(names, metrics, strict=True))
        raise InputError(f"the runs have no common metric ({told}); compare runs of the same kind of task")
    shared = [c for c in ("macs", *COSTS) if all(c in f and f[c].notna().all() for f in fronts.values())]
    direction = runs[0].directions[metric]
    columns = ["number", "plan", "seeds"]
    columns += [f"{name}{end}" for name in dict.fromkeys(metrics) for end in ("", "_low", "_high")]
    columns += ["difference", "difference_low"]
    columns += ["difference_high", "verdict", *dict.fromkeys(shared), "probability"]
    table = pd.concat([_columns(front, columns).assign(run=name) for name, front in fronts.items()], ignore_index=True)
    pairs, notes = _pairs(names, runs, metric, direction)
    return Comparison(
        fronts=table[["run", *[c for c in columns if c in table]]],
        pairs=pairs,
        settings=_settings(names, runs),
        metric=metric,
        cost=shared[0] if shared and common else "",  # different metrics have no common axis
        direction=direction,
        agreement=agreement,
        notes=(*notes, *unranked),
    )


def draw(data: Comparison) -> Figure:
    """Draw the fronts in one picture, with a colour for each run.

    Each error bar shows the difference from the bare backbone of the same run (`error_bar`).
    """
    import seaborn as sns  # imported here, because tables do not need it
    from matplotlib.figure import Figure

    from nasbench.report.plotting import label, style
    from nasbench.report.scatter import error_bar, legend_below, set_cost_axis

    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        colours = sns.color_palette(n_colors=data.fronts["run"].nunique())
        barred = False
        for (name, front), colour in zip(data.fronts.groupby("run", sort=False), colours, strict=True):
            points = front.sort_values(data.cost)
            kept = points[
                non_dominated(points[[data.cost, data.metric]].to_numpy(dtype=float), ["minimize", data.direction])
            ]
            axes.step(kept[data.cost], kept[data.metric], where="post", color=colour, lw=1.2, alpha=0.7)
            bars = np.array([error_bar(row, data.metric) for row in points.to_dict(orient="records")], dtype=float)
            # A point without an error bar gets a bar of length 0, which cannot be seen.
            spread = np.nan_to_num(np.abs(bars.T - points[data.metric].to_numpy(dtype=float)))
            axes.errorbar(points[data.cost], points[data.metric], spread, fmt="none", ecolor=colour, capsize=2.5)
            barred |= bool(spread.any())
            bare = points["plan"] == BARE.text
            for marker, group in (("o", points[~bare]), ("D", points[bare])):
                axes.plot(group[data.cost], group[data.metric], marker, color=colour, ms=6)
            axes.plot([], [], "o-", color=colour, label=label(str(name)))
        axes.plot([], [], "D", color="grey", label=BARE_NAME)
        axes.set(ylabel=f"{label(data.metric)} (validation)")
        set_cost_axis(axes, data.cost, data.fronts[data.cost])
        legend_below(axes, barred=barred)
        return figure


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs. If two runs have the same name, return the paths of all runs instead."""
    paths = [run.path.resolve() for run in runs]
    if len(paths) < 2:
        raise InputError("compare needs at least two runs")
    if len(set(paths)) < len(paths):
        raise InputError("a run is given twice; compare different runs")
    plain = [path.name for path in paths]
    return plain if len(set(plain)) == len(plain) else [str(run.path) for run in runs]


def _columns(front: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return front[[name for name in columns if name in front]]


def _agreement(names: Sequence[str], runs: Sequence[Run]) -> tuple[pd.DataFrame, list[str]]:
    """Return how far runs that learnt differently from the same data rank their common plans alike, and remarks."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for (first, a), (second, b) in combinations(zip(names, runs, strict=True), 2):
        same_data = a.config["identity"].get("data") == b.config["identity"].get("data")
        if a.settings.learn == b.settings.learn or not same_data or a.metric is None or b.metric is None:
            continue
        # Means over seeds, higher is better.
        scores = [{each.plan_hash: each.trainings.mean for each in trainings_of(run).all_plans} for run in (a, b)]
        both = [plan for plan in scores[0] if plan in scores[1]]
        found = rank_agreement(*(np.array([of_run[plan] for plan in both]) for of_run in scores))
        learns = {"first_learn": a.settings.learn, "second_learn": b.settings.learn}
        metrics = {"first_metric": a.metric, "second_metric": b.metric}
        rows.append({"first": first, "second": second, **learns, **metrics, **asdict(found)})
        if found.plans < FEWEST:
            notes.append(
                f"{first} and {second} have {found.plans} plans in common; their rankings are compared with at least "
                f"{FEWEST}, the bare backbone included"
            )
        elif np.isnan(found.tau):
            notes.append(f"{first} and {second}: a metric is the same for all plans, so there is no ranking")
        elif np.isnan(found.low) or found.low <= 0 <= found.high:
            notes.append(f"whether {first} and {second} rank plans alike is not decided; more plans would decide it")
    columns = ["first", "second", "first_learn", "second_learn", "first_metric", "second_metric"]
    return pd.DataFrame(rows, columns=[*columns, "plans", "tau", "low", "high"]), notes


def _settings(names: Sequence[str], runs: Sequence[Run]) -> pd.DataFrame:
    """Return the settings, and parts of the data's identity, that are not equal in all runs."""
    told = [{**run.config["settings"], "data": run.config["identity"].get("data")} for run in runs]
    keys = dict.fromkeys(line.partition(":")[0] for other in told[1:] for line in differences(told[0], other))
    rows = [{"setting": key, **{n: _value(t, key) for n, t in zip(names, told, strict=True)}} for key in keys]
    return pd.DataFrame(rows, columns=["setting", *names])


def _value(tree: Any, key: str) -> str:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return "unset" if tree is None else str(tree)


def _pairs(names: Sequence[str], runs: Sequence[Run], metric: str, direction: str) -> tuple[pd.DataFrame, list[str]]:
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for (first, a), (second, b) in combinations(zip(names, runs, strict=True), 2):
        if a.config["identity"].get("data") != b.config["identity"].get("data"):
            # Results on different items cannot be paired. A difference of means would show the difference of the data
            # too.
            notes.append(f"{first} and {second} have different data or splits, so there is no paired difference")
            continue
        if not metric == a.metric == b.metric:
            notes.append(f"{first} and {second} have no trained metric in common, so there is no paired difference")
            continue
        tables = [run.finalists() for run in (a, b)]
        best = [t.sort_values(metric, ascending=direction == "minimize").iloc[0]["plan_hash"] for t in tables]
        both = [h for h in tables[0]["plan_hash"] if h in set(tables[1]["plan_hash"])]
        chosen = [("best of each", best[0], best[1]), *(("same plan", each, each) for each in both)]
        trainings = [trainings_of(run) for run in (a, b)]
        # One noise estimate for all pairs, because plans with the same training have the same noise between seeds in
        # both runs. A training that one run imported from the other counts once.
        noise = pooled_noise([each.own.trainings for recorded in trainings for each in recorded.kept])
        kept = [{each.plan_hash for each in recorded.kept} for recorded in trainings]
        by_hash = [{each.plan_hash: each for each in recorded.all_plans} for recorded in trainings]
        for what, left, right in chosen:
            before, after = by_hash[0][left], by_hash[1][right]
            try:
                shared = noise if left in kept[0] and right in kept[1] else None
                pair = compare_pair(after.trainings, before.trainings, shared)
            except ValueError:
                notes.append(f"{first} and {second}, {what}: they have different numbers of validation items")
                continue
            rows.append({"first": first, "second": second, "what": what, "first_plan": before.plan.text,
                         "second_plan": after.plan.text, **asdict(pair)})  # fmt: skip
    columns = ["first", "second", "what", "first_plan", "second_plan", "seeds", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns), list(dict.fromkeys(notes))
