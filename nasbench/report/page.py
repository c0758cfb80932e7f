"""The content of the report as data: question, answer, tables and facts. The HTML template only lays it out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nasbench.library.plan import BARE
from nasbench.measurement.latency.device_profile import HeldOut
from nasbench.objectives import COSTS
from nasbench.report import effect_tables, latency_tables
from nasbench.report.formatting import figure_text, is_missing, with_interval
from nasbench.report.plotting import Picture
from nasbench.report.tables import Cell, Column, Row, Table, plan_cell, verdict_cell
from nasbench.runs.command_line import command_words
from nasbench.runs.run import Run

__all__ = ["Page", "Section", "page_of"]


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: Its heading.
        lead: An introductory paragraph, "" for none.
        pictures: In reading order.
        tables: In reading order.
        widget: "explorer" for the interactive front, "" for none.
    """

    title: str
    lead: str = ""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    widget: str = ""


@dataclass(frozen=True)
class Page:
    """The content of the report.

    Attributes:
        question: What was asked, as the title.
        answer: What helps, and how sure that is.
        notes: What a reader must know about the data and the comparison.
        sections: In reading order.
        facts: How the run was made, as (name, value).
        command: The command that reproduces the run.
    """

    question: str
    answer: str
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    facts: tuple[tuple[str, str], ...] = field(default=())
    command: str = ""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table of every section."""
        return tuple(table for section in self.sections for table in section.tables)


Pictures = Mapping[str, Sequence[Picture]]
"""Pictures by section: "front", "where", "latency", "progress", "training", "proxies", "winners", "held out"."""


def page_of(
    run: Run,
    test: Mapping[str, Mapping[str, float]],
    naive: Mapping[str, Mapping[str, float]],
    pictures: Pictures | None = None,
) -> Page:
    """Return the report of a run.

    Args:
        run: The run.
        test: Metrics on the test split by plan hash.
        naive: Metrics of the naive forecasts on the test split by name. Empty if there are none.
        pictures: Pictures by section.
    """
    finalists = run.finalists()
    return Page(
        question=_question(run),
        answer=f"{_what_helps(run, finalists, test)} {_how_sure(run, finalists)}",
        notes=tuple(_notes(run, finalists, test)),
        sections=tuple(_sections(run, finalists, test, naive, pictures or {})),
        facts=tuple(_facts(run)),
        command=command_of(run),
    )


def _sections(
    run: Run,
    finalists: pd.DataFrame,
    test: Mapping[str, Mapping[str, float]],
    naive: Mapping[str, Mapping[str, float]],
    pictures: Pictures,
) -> Iterable[Section]:
    """Yield the sections that have something to show."""
    shown = {name: tuple(pictures.get(name, ())) for name in _LEADS}

    def section(title: str, key: str, *tables: Table | None, widget: str = "") -> Iterable[Section]:
        kept = tuple(table for table in tables if table is not None)
        if kept or shown[key] or widget:
            yield Section(title, _LEADS[key], shown[key], kept, widget)

    front = _front_table(run, finalists, test)
    yield from section("Which plans are worth having", "front", front, widget="explorer")
    yield from section("Which modules and properties help, and where", "where", *effect_tables.tables(run))
    yield from section(
        "Where the time goes", "latency", latency_tables.front_table(run), latency_tables.slots_table(run)
    )
    yield from section("What the winner does", "winners")
    yield from section("On held-out data", "held out", _naive_table(run, naive))
    yield from section("How the search went", "progress")
    yield from section("How the finalists were trained", "training")
    yield from section("Zero-cost proxies", "proxies", *effect_tables.proxies(run))
    trials = run.trials()
    rejected, trained = trials["state"] == "rejected", trials["fidelity"] > 0
    trouble = [_trouble_table(trials[rejected & ~trained], "Rejected before training")]
    if (rejected & trained).any():
        trouble.append(_trouble_table(trials[rejected & trained], "Stopped early: successive halving"))
    trouble.append(_trouble_table(trials[trials["state"] == "failed"], "Failed"))
    yield from section("What did not work", "trouble", *trouble, _excluded_table(run))


_LEADS = {
    "front": "Choose the axes, filter the plans, and point at one to read its whole row. An error bar is the 95 % "
    "interval of the difference to the bare backbone, on the same items and seeds. A bar that crosses the dotted line "
    "decides nothing.",
    "where": "",
    "latency": "Fewer multiply-adds do not always mean fewer milliseconds.",
    "winners": "The five properties of the modules that the winner inserted, measured after training.",
    "held out": "",
    "progress": "",
    "training": "",
    "proxies": "",
    "trouble": "",
}


def _question(run: Run) -> str:
    s = run.settings
    return f"Which modules help {s.backbone} on {_task_name(run)}, where, and at what cost?"


def _task_name(run: Run) -> str:
    return str(run.settings.task) if run.config["task"] else "the given function"


def _what_helps(run: Run, finalists: pd.DataFrame, test: Mapping[str, Mapping[str, float]]) -> str:
    trials = run.trials()
    plans = trials["plan_hash"].nunique()
    better = finalists[finalists["verdict"] == "BETTER"] if "verdict" in finalists else finalists.iloc[:0]
    # The sentences go from the least to the most that a run can claim. None claims more than the tables show.
    if len(finalists) == 1:
        evaluated = f"{_counted(plans, 'plan')} {'was' if plans == 1 else 'were'} evaluated"
        return f"{evaluated}. None but the bare backbone could be compared under the same seeds."
    if run.metric is None or "difference" not in finalists:
        front = len(run.front())
        return f"{plans} plans were evaluated. {front} of them {'is' if front == 1 else 'are'} on the front."
    if better.empty:
        return (
            f"None of the {plans} plans was shown to be better than the bare backbone. Every difference in "
            f"{run.metric} that was measured on several seeds is a loss, or its 95 % interval includes zero."
        )
    best = better.sort_values("difference", ascending=False).iloc[0]
    bare = finalists[finalists["plan"] == BARE.text].iloc[0]
    cost = next((name for name in ("macs", *COSTS) if name in run.directions and name in finalists), None)
    price = f" at {best[cost] / bare[cost]:.2f} times the {cost}" if cost and bare[cost] else ""
    return (
        f"{len(better)} of {plans} plans {'is' if len(better) == 1 else 'are'} better than the bare backbone. The best "
        f"is {best['plan']}, with {run.metric} {best[run.metric]:.4g} against {bare[run.metric]:.4g} "
        f"({best['difference']:+.4g}, 95 % interval {best['difference_low']:+.4g} to {best['difference_high']:+.4g})"
        f"{price}.{_on_test(run.metric, best, bare, test)}"
    )


def _on_test(metric: str, best: pd.Series, bare: pd.Series, test: Mapping[str, Mapping[str, float]]) -> str:
    """Return a sentence on the best plan's test metric, on which nothing was selected, or ""."""
    figures = [test.get(row["plan_hash"], {}).get(metric) for row in (best, bare)]
    if figures[0] is None or figures[1] is None:
        return ""
    return f" On the test split, with one seed, it is {figures[0]:.4g} against {figures[1]:.4g}."


def _how_sure(run: Run, finalists: pd.DataFrame) -> str:
    if "verdict" not in finalists:
        return "Each plan was evaluated once, so it is not known how sure this is."
    front = finalists[finalists["on_front"].astype(bool)]
    open_ = front[front["verdict"] == "NOT DECIDED"]
    seeds = int(finalists["seeds"].max())
    unsure = int((front["probability"] < 0.5).sum())
    if len(front) == 1 and front.iloc[0]["plan"] == BARE.text:
        compared = _counted(len(finalists), "plan")
        return f"Of {compared} compared, only the bare backbone is on the front (mean of {_counted(seeds, 'seed')})."
    told = (
        f"For {len(open_)} of the {len(front)} plans on the front the difference to the bare backbone is not decided"
        if len(open_)
        else "Every plan on the front, except the bare backbone, is shown to differ from it"
    )
    likely = (
        f" {unsure} of these {_counted(len(front), 'plan')} {'is' if unsure == 1 else 'are'} more likely off the front"
    )
    tail = f"{likely} than on it." if unsure else ""
    basis = f"over {seeds} seeds and the validation items" if seeds > 1 else "over the validation items, one seed only"
    return f"{told} ({basis}).{tail}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _notes(run: Run, finalists: pd.DataFrame, test: Mapping[str, Any]) -> Iterable[str]:
    yield from (run.config["task"] or {}).get("notes", ())
    if predicted := run.config["identity"].get("latency_profile"):
        yield predicted_note(str(run.settings.latency_profile), predicted)
    elif "latency_ms" in finalists and finalists["latency_ms"].notna().any():
        scenario = finalists["latency_scenario"].dropna().iloc[0]
        yield f"Latency was measured side by side with the bare backbone: {scenario}."
    elif run.config["task"]:
        yield "Latency was not measured."
    if checks := run.journal.cost_checks:
        wrong = [told for told in checks.values() if told]
        yield (
            f"Costs are sums over the parts of a plan. A count of the whole model agrees exactly for "
            f"{len(checks) - len(wrong)} of {len(checks)} finalists{'.' if not wrong else ': ' + '; '.join(wrong)}"
        )
    # Selection bias: the seed that put a plan on the front counts again in its mean.
    if len(finalists) > 1 and finalists["seeds"].max() > 1:
        yield (
            f"The compared plans were chosen by their results with seed {run.settings.seed}, which is also one of the "
            "compared seeds. So their differences are somewhat too favourable"
            f"{', but not on the test split' if test else ''}."
        )
    if test:
        yield (
            f"The test split was opened only for {_counted(len(test), 'compared plan')}, once each, with the weights "
            f"of seed {run.settings.seed}. Nothing was selected on it."
        )


def predicted_note(file: str, told: Mapping[str, Any]) -> str:
    """Return the note that latency is predicted, from which profile and how well.

    Args:
        file: The profile.
        told: What `DeviceProfile.describe` says of it.
    """
    quality = HeldOut(**told["quality"]).text if told["quality"] else "not checked on whole plans"
    return (
        f"Latency is predicted from {file} ({told['device']}, {told['device_name']}, {told['date'][:10]}, batch size "
        f"{told['batch_size']}, {told['mode']}). Prediction quality: {quality}."
    )


def _front_table(run: Run, finalists: pd.DataFrame, test: Mapping[str, Mapping[str, float]]) -> Table:
    metric = run.metric or next(iter(run.directions))
    costs = [name for name in ("params", "macs", "latency_ms") if name in finalists and finalists[name].notna().any()]
    extra = [name for name in run.directions if name not in (*costs, metric)]
    ascending = run.directions[metric] == "minimize"
    shown = finalists.sort_values(metric, ascending=ascending)
    columns = [
        Column("trial", True),
        Column("plan"),
        Column(f"{metric} [95 %]", True),
        Column("against bare [95 %]", True),
    ]
    columns += [Column("verdict"), *(Column(name, True) for name in [*extra, *costs]), Column("P(front)", True)]
    columns += [Column(f"test {metric}", True)] if test else []
    rows = []
    for row in shown.to_dict(orient="records"):
        cells = [
            Cell(str(row["number"]), True),
            plan_cell(row["plan"]),
            Cell(with_interval(row[metric], row.get(f"{metric}_low"), row.get(f"{metric}_high")), True),
            Cell(
                with_interval(row.get("difference"), row.get("difference_low"), row.get("difference_high"), "+"), True
            ),
            verdict_cell(row.get("verdict", "")),
            *(Cell(figure_text(row[name]), True) for name in extra),
            *(Cell(figure_text(row[name]), True) for name in costs),
            Cell("" if is_missing(row["probability"]) else f"{row['probability']:.2f}", True),
        ]
        if test:
            cells.append(Cell(figure_text(test.get(row["plan_hash"], {}).get(metric)), True))
        rows.append(Row(tuple(cells), bare=row["plan"] == BARE.text))
    caption = "All plans that were compared under the same seeds. P(front) is the probability that no other of them "
    caption += "dominates a plan. It follows from the noise of validation items, "
    caption += "seeds and measured latency. Latencies within 1 % share a rank."
    return Table("The front, and what it was compared with", tuple(columns), tuple(rows), caption)


def _naive_table(run: Run, naive: Mapping[str, Mapping[str, float]]) -> Table | None:
    if not naive:
        return None
    metrics = list(next(iter(naive.values())))
    columns = (Column("forecast"), *(Column(f"test {name}", True) for name in metrics))
    rows = [
        Row((Cell(name), *(Cell(figure_text(values[metric]), True) for metric in metrics)))
        for name, values in naive.items()
    ]
    return Table("Naive forecasts", columns, tuple(rows), "A model must beat these figures on the same test windows.")


def _trouble_table(trials: pd.DataFrame, title: str) -> Table:
    rows = [
        Row((Cell(str(row["number"]), True), Cell(row["plan"], code=True), Cell(row["reason"])))
        for row in trials.to_dict(orient="records")
    ]
    return Table(title, (Column("trial", True), Column("plan"), Column("reason")), tuple(rows))


def _excluded_table(run: Run) -> Table | None:
    excluded = run.config["space"]["excluded"]
    if not excluded:
        return None
    rows = tuple(Row((Cell(slot), Cell(variant, code=True), Cell(reason))) for slot, variant, reason in excluded)
    columns = (Column("slot"), Column("variant"), Column("reason"))
    return Table("Left out of the space for this backbone", columns, rows)


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    s, space, env = run.settings, run.config["space"], run.environment
    trials = run.trials()
    yield "space", f"{space['name']}: {space['plans']:,} distinct plans over {', '.join(space['slots'])}"
    yield "evaluated", f"{trials['plan_hash'].nunique()} distinct plans, {len(trials)} evaluations, sampler {s.sampler}"
    if run.config["task"]:
        splits = ", ".join(f"{count:,} {name}" for name, count in run.config["task"]["splits"].items())
        yield "data", f"{s.task}: {splits}; input {'x'.join(map(str, run.config['task']['input_size']))}"
        yield "training", ", ".join(f"{key} {value}" for key, value in s.training.items())
        start = (
            "loaded weights, inserted as identities"
            if s.pretrained or s.checkpoint
            else "random weights, plain insertion"
        )
        yield "start", start
    yield (
        "time",
        f"{trials['wall_s'].sum():.1f} s in evaluations, of which {trials['training_s'].sum():.1f} s in training",
    )
    yield "seeds", ", ".join(f"{name} {_listed(seeds)}" for name, seeds in env.get("seeds", {}).items())
    yield "versions", ", ".join(f"{k} {v}" for k, v in env.get("packages", {}).items() if v)
    yield "machine", f"{env.get('platform', '')}; {env.get('device', {})}; {env.get('threads', '?')} threads"
    yield "git", str(env.get("git"))


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def command_of(run: Run) -> str:
    """Return the command that reproduces a run, or why there is none."""
    if run.config["task"] is None:
        return "nasbench.search(..., evaluate=fn): the function is not part of the run"
    return shlex.join(command_words(run.settings, run.config["task"].get("recipe_changes", {})))
