"""The content of the report as data: question, answer, tables and facts. The HTML template only arranges it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from nasbench.library.plan import BARE
from nasbench.report import effect_tables, latency_tables
from nasbench.report.alerts import Alert, alerts_of
from nasbench.report.data_summary import data_summary
from nasbench.report.diagram import Place, diagram_of, drawn_in
from nasbench.report.feature_table import feature_table
from nasbench.report.formatting import chance_text, figure_text, listed, plan_in_sentence
from nasbench.report.front_table import front_table, plans_table
from nasbench.report.headline import headline
from nasbench.report.notes import notes_of
from nasbench.report.plotting import Picture
from nasbench.report.race_table import race_table
from nasbench.report.reasons import grouped
from nasbench.report.tables import Cell, Column, Row, Table, number_cell, plan_cell
from nasbench.report.training_state import data_wait
from nasbench.runs.command_line import command_words
from nasbench.runs.evaluation import STOPPED, Evaluation
from nasbench.runs.refinement import has_given_plans
from nasbench.runs.run import Run
from nasbench.runs.trainings import trainings_of

__all__ = ["Page", "Section", "page_of"]


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: Its heading.
        lead: An introductory paragraph. "" if there is none.
        pictures: The pictures, in reading order.
        tables: The tables, in reading order.
        widget: "explorer" for the interactive front, which shows what the pictures show. Then a browser that runs
            scripts shows the pictures only in print. "" if there is none.
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
        question: The question of the search, which is the title.
        answer: Short sentences that say which plan helps and how sure that is. The answer comes first.
        front: The table of the compared plans, for a paper and a notebook.
        alerts: What a reader must look at before the figures.
        data: What the search read, as (name, value). Empty if a function evaluated the plans.
        reading: How the numbers are to be read, in sentences.
        sections: The sections, in reading order.
        facts: Facts about how the run was made, as (name, value).
        command: The command that reproduces the run.
        diagrams: The diagram of each compared plan, by the text that names the plan in the answer.
    """

    question: str
    answer: tuple[str, ...]
    front: Table
    alerts: tuple[Alert, ...] = ()
    data: tuple[tuple[str, str], ...] = ()
    reading: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    diagrams: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """Every sentence beside the answer: the alerts, and how the numbers are to be read."""
        return (*(alert.text for alert in self.alerts), *self.reading)

    def drawn(self, sentence: str) -> Iterator[str | tuple[Place, ...]]:
        """Yield a sentence of the answer in pieces, in which a diagram replaces each plan."""
        return drawn_in(sentence, self.diagrams)

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
    omissions: Sequence[str] = (),
) -> Page:
    """Return the report of a run.

    Args:
        run: The run.
        test: Metrics on the test split by plan hash.
        naive: Metrics of the naive forecasts on the test split by name. Empty if there are none.
        pictures: Pictures by section.
        omissions: Sentences that say which parts could not be made, and why.
    """
    finalists = run.finalists()
    recorded = None if run.metric is None else trainings_of(run)
    return Page(
        question=_question(run),
        answer=headline(run, finalists, recorded, test, naive),
        data=data_summary(run),
        sections=tuple(_sections(run, finalists, test, naive, pictures or {})),
        facts=tuple(_facts(run)),
        command=command_of(run),
        front=front_table(run, finalists, test),
        diagrams=_diagrams(finalists),
        reading=tuple(notes_of(run, finalists, recorded, test)),
        # The alerts name the damaged files, so they are made after every file was read.
        alerts=tuple(alerts_of(run, finalists, recorded, omissions)),
    )


def _diagrams(finalists: pd.DataFrame) -> dict[str, tuple[Place, ...]]:
    rows = finalists[finalists["plan"] != BARE.text].to_dict(orient="records")
    drawn = {plan_in_sentence(row): diagram_of(row["plan"]) for row in rows}
    return {name: places for name, places in drawn.items() if places}


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

    plans = plans_table(run, finalists, test)
    yield from section("Which plans are worth using", "front", plans, widget="explorer")
    yield from section("Which modules and properties help, and where", "where", *effect_tables.tables(run))
    yield from section("Latency", "latency", latency_tables.front_table(run), latency_tables.slots_table(run))
    yield from section("Properties of the winner", "winners")
    yield from section("On held-out data", "held out", _naive_table(run, naive))
    yield from section("How the search went", "progress", _race_table(run))
    yield from section("How the finalists were trained", "training", feature_table(run, finalists))
    yield from section("Zero-cost proxies", "proxies", *effect_tables.proxies(run))
    yield from section("Rejected and failed plans", "trouble", *_trouble_tables(run), _excluded_table(run))


_LEADS = {
    "front": "An error bar is the 95 % interval of the difference from the bare backbone. It uses only the trainings "
    "of these two. The verdicts are in the table below. They use all trainings together, so a plan can be BETTER "
    "although its bar crosses the line of the bare backbone.",
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


_MOST_OPEN = 12
"""A race with more trainings than this is folded, so that the page stays short."""


def _race_table(run: Run) -> Table | None:
    race = race_table(run)
    if race.empty:
        return None
    columns = (
        *(Column("trial", True), Column("plan"), Column("seed", True), Column(str(run.metric), True)),
        *(
            Column("reason for the training"),
            Column("P(better) afterwards", True),
            Column("state afterwards"),
            Column("changes of other plans"),
        ),
    )
    rows = [
        Row(
            (
                Cell(str(row["number"]), True),
                plan_cell(row["plan"]),
                Cell(str(row["seed"]), True),
                number_cell(figure_text(row["value"]) or "failed", row["value"]),
                Cell(row["reason"]),
                Cell(chance_text(row["p_better"]), True),
                Cell("called BETTER" if row["state"] == "called" else row["state"]),
                Cell(row["news"]),
            ),
            bare=row["plan"] == BARE.text,
        )
        for row in race.to_dict(orient="records")
    ]
    caption = (
        "The table has every further training, in order. P(better) is the probability, given all trainings so far, "
        "that the plan is better than the bare backbone. A plan is called BETTER if it has at least three seeds "
        "and a high P(better), and dropped if it has at least two and an expected difference below 0. Both are decided "
        "again after each training."
    )
    return Table("The race", columns, tuple(rows), caption, folded=len(rows) > _MOST_OPEN)


def _naive_table(run: Run, naive: Mapping[str, Mapping[str, float]]) -> Table | None:
    if not naive:
        return None
    metrics = list(next(iter(naive.values())))
    columns = (Column("prediction"), *(Column(f"test {name}", True) for name in metrics))
    rows = [
        Row((Cell(name), *(Cell(figure_text(values[metric]), True) for metric in metrics)))
        for name, values in naive.items()
    ]
    return Table(
        "Without a model",
        columns,
        tuple(rows),
        "A useful model must be better than these naive predictions on the same test items.",
    )


def _trouble_tables(run: Run) -> Iterable[Table]:
    """Yield the reasons why plans were rejected, were stopped early and failed, grouped."""
    groups: dict[str, list[tuple[int, str]]] = {title: [] for title in _TROUBLES}
    for one in run.evaluations():
        if not one.is_complete:
            assert one.number is not None
            groups[_trouble(one, run.config.get("known", ()))].append((one.number, one.reason))
    columns = (Column("count", True), Column("reason"), Column("trials"))
    for title, of_group in groups.items():
        rows = tuple(
            Row((number_cell(str(group.count), group.count), Cell(group.reason), Cell(_numbers(group.trials))))
            for group in grouped(of_group)
        )
        if rows:
            yield Table(title, columns, rows, "" if len(rows) == len(of_group) else _GROUPED)


_TROUBLES = (
    "Rejected before evaluation",
    "Rejected after evaluation",
    "Stopped early: successive halving",
    "Failed",
)


def _trouble(evaluation: Evaluation, known: Collection[str]) -> str:
    """Return the one of `_TROUBLES` that an evaluation had.

    Args:
        evaluation: An evaluation that is not complete.
        known: Names of the values that a user's function knows before an evaluation.
    """
    before, after, stopped, failed = _TROUBLES
    if evaluation.state == "failed":
        return failed
    if evaluation.reason.startswith(STOPPED):
        return stopped
    return after if evaluation.metrics.keys() - set(known) else before


_GROUPED = "Reasons that differ only in numbers are one row, with … for these numbers. The table of all plans has each."

_MOST_NUMBERS = 12
"""Number of trials that a row of reasons names."""


def _numbers(trials: Sequence[int]) -> str:
    more = len(trials) - _MOST_NUMBERS
    return ", ".join(map(str, trials[:_MOST_NUMBERS])) + (f" and {more:,} more" if more > 0 else "")


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
    chosen = "all of them given" if has_given_plans(s) else f"sampler {s.sampler}"
    yield "evaluated", f"{trials['plan_hash'].nunique()} distinct plans, {len(trials)} evaluations, {chosen}"
    if run.config["task"]:
        yield "training", ", ".join(f"{key} {value}" for key, value in s.training.items())
        if (waited := data_wait(run)) is not None:
            yield "waiting for data", f"at most {waited:.0%} of the training time (median of the epochs)"
        start = (
            "pretrained weights, inserted as identities"
            if s.pretrained or s.checkpoint
            else "random weights, plain insertion"
        )
        yield "start", start
    yield (
        "time",
        f"{trials['wall_s'].sum():.1f} s in evaluations, of which {trials['training_s'].sum():.1f} s in training",
    )
    if not env:
        return
    yield "seeds", ", ".join(f"{name} {listed(seeds)}" for name, seeds in env.get("seeds", {}).items())
    yield "versions", ", ".join(f"{k} {v}" for k, v in env.get("packages", {}).items() if v)
    yield "machine", f"{env.get('platform', '')}; {listed(env.get('device', {}))}; {env.get('threads', '?')} threads"
    if env.get("git"):  # the search ran in a git repository
        yield "git", str(env["git"])


def command_of(run: Run) -> str:
    """Return the command that reproduces a run, or a text that says why there is none."""
    if run.config["task"] is None:
        return "nasbench.search(..., evaluate=fn): the function is not part of the run"
    return shlex.join(command_words(run.settings, run.config["task"].get("recipe_changes", {})))
