"""The page docs/atlas.md and its plots, from the atlas alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from nasbench.evidence.atlas import Atlas, Measured
from nasbench.evidence.atlas_protocol import GROUPS, PASSES, PROTOCOL, RULES, SAME, Group, Pass
from nasbench.evidence.rank_agreement import FEWEST
from nasbench.files import write_text
from nasbench.library.registry import PROPERTIES
from nasbench.report.atlas.forest import draw_forest, forest_frame
from nasbench.report.atlas.summary import (
    ModuleStanding,
    agreements,
    at_every_stage,
    never_better,
    standings,
    twins_by_name,
)
from nasbench.report.formatting import is_missing, with_interval
from nasbench.report.plotting import save_figure
from nasbench.study.driver import MAX_TIMED
from nasbench.text import human

__all__ = ["KINDS", "atlas_page", "write_page"]

KINDS = {2: "images", 1: "series"}
"""What modules of these dims are measured on."""

_FIRST = 3
_NONE = "none"
_SHOWN = ("nasbench", "python", "torch", "timm", "device")  # of the versions


def write_page(atlas: Atlas, folder: Path) -> None:
    """Write atlas.md and its plots into a folder. Plots of properties that no module has any more are deleted."""
    for old in folder.glob("atlas-*.svg"):
        old.unlink()
    for dims, property in _plots(atlas):
        frame = forest_frame(atlas.rows, atlas.groups, dims, property)
        metric = next(g for g in atlas.groups if f"{g.data}, {g.host}" == frame["group"].iloc[0])
        save_figure(draw_forest(frame, metric.metric, metric.direction), folder / _plot_name(dims, property))
    write_text(folder / "atlas.md", atlas_page(atlas))


def atlas_page(atlas: Atlas) -> str:
    """Return the page as Markdown."""
    parts = ["# The atlas", _INTRO]
    for dims, kind in KINDS.items():
        parts += [f"## {kind.capitalize()}: try these first", *_first(atlas, dims)]
    parts += [_SOURCES, "## What generalises to other hosts", *_generalises(atlas)]
    parts += ["## WORSE so far", *_never(atlas)]
    parts += ["## By property", _FOREST_NOTE]
    parts += [
        f"### {KINDS[dims].capitalize()}: {_titled(property)}\n\n"
        f"![{KINDS[dims]}, {property}: difference of each module from the bare host]({_plot_name(dims, property)})"
        for dims, property in _plots(atlas)
    ]
    parts += ["## All modules at every stage", _TABLE_NOTE, _controls(atlas), _table(atlas)]
    single = atlas.rows[atlas.rows["slots"] != SAME]
    if len(single):
        parts += ["## At a single stage", _SINGLE_NOTE, _single_table(single)]
    parts += ["## Protocol", *_protocol(atlas)]
    parts += ["## What was left out", *_left_out(atlas)]
    parts += ["## Add rows", _ADD]
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRO = """What does each module of the library bring? Each was trained alone, at every stage of a small host, beside
the bare host and beside a plain block of equal cost. This says what to try first. It does not say what holds on your
network: `nasbench search --plan NAME` measures that."""

_SOURCES = """`nb.load_atlas()` gives the rows as a data frame, and `nasbench show NAME` prints those of one module.
`scripts/atlas collect` generates this page from `reports/atlas.parquet`. Do not edit it."""

_SORTED = """The order is by the number of groups with BETTER minus those with WORSE, then by the mean difference in
units of its interval. Intervals have 95 %."""

_FOREST_NOTE = """One line is one module with 95 % intervals, the best on average first. A filled marker is BETTER
or WORSE, an empty one is not decided. An arrow with its figure stands for a difference beyond the axis. A module with
several properties is in several plots."""

_WORSE_NOTE = """WORSE needs a 95 % interval below 0. A module far below the bare host (more than three standard
errors, and further than the best is above) is judged by this interval alone, without a correction for the number of
modules. All others also need the model's probability ([verdicts](verdicts.md)). So of many modules without any effect,
few would be WORSE by chance, and another host can show another result."""

_TABLE_NOTE = """On the site, a click on a title sorts. MACs and parameters are those of the whole model, with their
ratio to the bare host. Latency is the ratio to the bare host. `control` is the control minus the bare host, and
`against equal cost` is the module minus the control, with its interval and verdict. They are left out where no plain
block is near in cost."""

_SINGLE_NOTE = """The same modules at one stage alone: the difference from the bare host with its interval, and the
verdict if it is decided."""

_ADD = """A group is one host on one data set. `scripts/atlas run` measures the groups, or those that are
named. It can be stopped and resumed. `--device cuda` uses a GPU. `scripts/atlas collect RUN...` puts the rows of
finished runs into `reports/atlas.parquet`, checks them and writes this page. It judges them anew: in the column
`versions`, `judged` is the hash of the code in `nasbench/evidence` that did, and `git` is the commit of the training.
After a new module, or a change of the code of one, it says so on this page. Then open a pull request with these files.
A new host or data set is a line in `nasbench/evidence/atlas_protocol.py`. `scripts/atlas check`, which the tests run
too, refuses rows whose protocol, versions, hashes or numbers do not fit."""


def _first(atlas: Atlas, dims: int) -> list[str]:
    """Return the first screen of one kind of data: three modules and how sure they are."""
    found = standings(atlas.rows, dims)
    if not found:
        return [f"No group with {KINDS[dims]} was measured yet."]
    there = at_every_stage(atlas.rows, dims)
    groups = [g for g in atlas.groups if (g.host, g.data) in set(zip(there["host"], there["data"], strict=True))]
    lines = []
    for place, each in enumerate(found[:_FIRST], 1):
        lines.append(
            f"{place}. {_named(each.module, each.twins)}, {_macs_range(each, groups)} the MACs of the bare host"
        )
        lines += [f"    - {_verdict_text(each, group)}" for group in groups]
    return [_sureness(found, len(groups)), "\n".join(lines), _SORTED, _better_at_one_stage(atlas.rows, dims)]


def _better_at_one_stage(rows: pd.DataFrame, dims: int) -> str:
    """Return a sentence on the modules that are BETTER at a single stage. "" if there is none."""
    own = rows[(rows["dims"] == dims) & (rows["slots"] != SAME) & (rows["verdict"] == "BETTER")]
    told = []
    for module, twins in twins_by_name(own).items():
        where = own[own["module"] == module].to_dict("records")
        places = "; ".join(f"{row['slots']} of {row['host']} on {row['data']}" for row in where)
        told.append(f"{_named(module, twins)}: {places}")
    return f"BETTER at a single stage: {'. '.join(told)}." if told else ""


def _sureness(found: Sequence[ModuleStanding], groups: int) -> str:
    helping = [each for each in found if each.better]
    several = [each for each in helping if each.better > 1 and not each.worse]
    harming = sum(each.worse > 0 and not each.better for each in found)
    counted = f"Of {len(found)} modules, {len(helping)} {_are(len(helping))} BETTER on some host and data"
    measured = "the one host and data set that was measured" if groups == 1 else f"any of {groups} hosts and data sets"
    if not helping:
        told = (
            f"None of {len(found)} modules is BETTER than the bare host on {measured}. The three below come nearest, "
            "and none of them is proven to help."
        )
    elif groups == 1:
        told = f"{counted}, of which one was measured. Nothing is known of other hosts yet."
    elif several:
        told = f"{counted}, {len(several)} on more than one and WORSE on none: {_names(several)}."
    else:
        told = f"{counted}, and none on more than one. So do not expect the order below to hold on another host."
    once = " Modules with the same figures count once." if any(each.twins for each in found) else ""
    return (
        f"{told} {harming} {_are(harming)} WORSE on some and BETTER on none. BETTER means a probability "
        "above 0.975 in a model of all modules of the group, which allows for choosing the best of many "
        f"([verdicts](verdicts.md)).{once}"
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _named(module: str, twins: Sequence[str]) -> str:
    """Return the name of a module with its twins: "`eca` (the same as `timm/eca`)"."""
    same = " and ".join(f"`{twin}`" for twin in twins)
    return f"`{module}` (the same as {same})" if same else f"`{module}`"


def _names(standing: Iterable[ModuleStanding]) -> str:
    return ", ".join(_named(each.module, each.twins) for each in standing)


def _verdict_text(each: ModuleStanding, group: Measured) -> str:
    """Return a module's result in a group: "digits, test_resnet: BETTER, gain +0.01 [+0.00, +0.02] in accuracy"."""
    own = each.rows[(each.rows["host"] == group.host) & (each.rows["data"] == group.data)]
    if own.empty:
        return f"{group.data}, {group.host}: not measured"
    row = own.iloc[0]
    verdict = f"**{row['verdict']}**" if row["verdict"] == "BETTER" else row["verdict"]
    difference = with_interval(row["difference"], row["low"], row["high"], "+")
    return f"{group.data}, {group.host}: {verdict}, gain {difference} in {group.metric}"


def _macs_range(each: ModuleStanding, groups: Sequence[Measured]) -> str:
    bare = {(g.host, g.data): g.macs for g in groups}
    ratios = [row["macs"] / bare[row["host"], row["data"]] for row in each.rows.to_dict("records")]
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return f"{low}x" if low == high else f"{low}x to {high}x"


def _generalises(atlas: Atlas) -> list[str]:
    lines = [
        "| | first | second | modules | Kendall's tau |",
        "|---|---|---|--:|---|",
    ]
    for dims, kind in KINDS.items():
        for each in agreements(atlas.rows, dims):
            ranks = each.ranks
            shown = with_interval(ranks.tau, ranks.low, ranks.high, "+") or f"fewer than {FEWEST} modules in both"
            first, second = (f"{data}, {host}" for host, data in (each.first, each.second))
            lines.append(f"| {kind} | {first} | {second} | {each.ranks.plans} | {shown} |")
    if len(lines) == 2:
        return ["No two groups of one kind were measured yet."]
    return [
        "Kendall's tau-b of the modules' differences on two hosts or data sets: 1 is the same order, 0 none, -1 the "
        "reverse. The interval is a bootstrap over modules. The noise of both groups lowers the tau. So it says how "
        "far this atlas predicts another host, and not how far the true effects do.",
        "\n".join(lines),
    ]


def _never(atlas: Atlas) -> list[str]:
    parts = []
    for dims, kind in KINDS.items():
        found = never_better(atlas.rows, dims)
        total = len(standings(atlas.rows, dims))
        if total:
            lines = [
                f"**{kind.capitalize()}**: {len(found)} of {total} modules {_are(len(found))} WORSE on some host and "
                f"data and BETTER on none{':' if found else '.'}"
            ]
            for worse, measured in dict.fromkeys((e.worse, e.groups) for e in found):
                names = _names(e for e in found if (e.worse, e.groups) == (worse, measured))
                lines.append(f"- WORSE on {worse} of {measured}: {names}.")
            parts += [lines[0], "\n".join(lines[1:])]
    return [*parts, _WORSE_NOTE] if parts else ["Nothing was measured yet."]


def _plots(atlas: Atlas) -> list[tuple[int, str]]:
    same = atlas.rows[atlas.rows["slots"] == SAME]
    names = (*PROPERTIES[:4], _NONE)
    there = {(dims, p) for dims, text in zip(same["dims"], same["property"], strict=True) for p in text.split(", ")}
    return [(dims, property) for dims in KINDS for property in names if (dims, property) in there]


def _plot_name(dims: int, property: str) -> str:
    return f"atlas-{KINDS[dims]}-{property}.svg"


def _titled(property: str) -> str:
    return "no property declared" if property == _NONE else property


# -- tables: HTML, because a Markdown table has no values to sort by ---------------------------------------------------


def _table(atlas: Atlas) -> str:
    bare = {(g.host, g.data): g for g in atlas.groups}
    titles = ["module", "property", "host", "data", "seeds", "difference", "verdict", "control", "against equal cost",
              "params", "MACs", "latency"]  # fmt: skip
    numeric = {"seeds", "difference", "control", "against equal cost", "params", "MACs", "latency"}
    body = []
    rows = atlas.rows[atlas.rows["slots"] == SAME].sort_values(
        ["dims", "data", "host", "difference"], ascending=[False, True, True, False], kind="stable"
    )
    for row in rows.to_dict("records"):
        group = bare[row["host"], row["data"]]
        cells = [
            f"<td><code>{escape(row['module'])}</code></td>", _text(row["property"]), _text(row["host"]),
            _text(row["data"]), _number(row["seeds"], str(row["seeds"])),
            _number(row["difference"], with_interval(row["difference"], row["low"], row["high"], "+")),
            _text(row["verdict"]),
            *_control(row),
            _number(row["params"], f"{human(row['params'])} ({row['params'] / group.params:.2f}x)"),
            _number(row["macs"], f"{human(row['macs'])} ({row['macs'] / group.macs:.2f}x)"),
            _number(row["latency_ratio"], "" if is_missing(row["latency_ratio"]) else f"{row['latency_ratio']:.2f}x"),
        ]  # fmt: skip
        body.append("<tr>" + "".join(cells) + "</tr>")
    return _html(titles, numeric, body, "verdict")


def _control(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Return the cells of the control and of the comparison with it. Empty where the costs are too different."""
    if not row["control_verdict"]:
        return _number(math.nan, ""), _number(math.nan, "")
    control, value = row["difference"] - row["control_difference"], row["control_difference"]
    shown = with_interval(value, row["control_low"], row["control_high"], "+")
    return _number(control, f"{control:+.3f}"), _number(value, f"{shown} {row['control_verdict']}")


def _controls(atlas: Atlas) -> str:
    """Return what the control is, how often it lies below the bare host, and the groups without one."""
    own = atlas.rows[(atlas.rows["slots"] == SAME) & (atlas.rows["control_verdict"] != "")]
    below = int((own["difference"] - own["control_difference"] < 0).sum())
    without = [
        f"{g.data}, {g.host}" for g in atlas.groups if _rows_of_group(atlas, g)["control_difference"].isna().all()
    ]
    told = ["The control of a module is a plain residual block that adds about as many MACs at the same slots"]
    if below:
        told.append(
            f", and {below} of {len(own)} controls lie below the bare host, so a module that beats its control can "
            "still harm"
        )
    told.append(f". No control was trained on: {'; '.join(without)}." if without else ".")
    return "".join(told)


def _single_table(rows: pd.DataFrame) -> str:
    slots = sorted(set(rows["slots"]))
    body = []
    for (_, data, host, module), own in rows.groupby(["dims", "data", "host", "module"], sort=True):
        cells = [f"<td><code>{escape(str(module))}</code></td>", _text(str(host)), _text(str(data))]
        of_slot = {row["slots"]: row for row in own.to_dict("records")}
        for slot in slots:
            row = of_slot.get(slot)
            shown = "" if row is None else with_interval(row["difference"], row["low"], row["high"], "+")
            decided = "" if row is None or row["verdict"] == "NOT DECIDED" else f" {row['verdict']}"
            cells.append(_number(math.nan if row is None else row["difference"], shown + decided))
        body.append("<tr>" + "".join(cells) + "</tr>")
    return _html(["module", "host", "data", *slots], set(slots), body, "")


def _html(titles: Sequence[str], numeric: set[str], body: Sequence[str], filtered: str) -> str:
    """Return a table as HTML. reports/tables.js sorts it on the site. No blank line, which would end the HTML block."""
    head = "".join(f'<th class="number">{t}</th>' if t in numeric else f"<th>{t}</th>" for t in titles)
    by = f' data-filter="{filtered}"' if filtered else ""
    rows = "\n".join(body)
    table = f"<table{by}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    return f'<div style="overflow-x: auto">{table}</div>'


def _text(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(value: float, text: str) -> str:
    known = "" if is_missing(value) else f' data-value="{value:.6g}"'
    return f'<td class="number"{known}>{escape(text)}</td>'


# -- how it was made -------------------------------------------------------------------------------------------------


def _protocol(atlas: Atlas) -> list[str]:
    rules = "\n".join(f"{number}. {rule}" for number, rule in enumerate(RULES, 1))
    lines = ["| group | rows | seeds | validation items | bare host | versions |", "|---|--:|---|--:|---|---|"]
    for g in atlas.groups:
        own = _rows_of_group(atlas, g)
        versions = json.loads(own["versions"].iloc[0]) if len(own) else {}
        seeds = " or ".join(map(str, sorted(set(own["seeds"]))))
        bare = f"{g.metric} {g.bare:.4f}, {human(g.params)} params, {human(g.macs)} MACs"
        shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
        lines.append(f"| {g.data}, {g.host} | {len(own)} | {seeds} | {g.items} | {bare} | {shown} |")
    groups = "\n".join(f"- {g.data}, {g.host}: {_settings(g)}" for g in GROUPS)
    return [f"Protocol {PROTOCOL}:", rules, "\n".join(lines), "What differs among the groups of the protocol:", groups]


def _settings(group: Group) -> str:
    """Return the task and the settings of a group as text."""
    source = " from " + " and ".join(f"`{name}`" for name in group.files) if group.files else ""
    settings = {**group.settings, **group.settings.get("training", {})}
    shown = [f"{name} {value}" for name, value in settings.items() if name != "training"]
    return ", ".join([f"task `{group.task.partition(':')[0]}`{source}", *shown])


def _left_out(atlas: Atlas) -> list[str]:
    there = {(g.host, g.data) for g in atlas.groups}
    missing = [f"{g.data}, {g.host}" for g in GROUPS if (g.host, g.data) not in there]
    lines = []
    if missing:
        lines.append(f"- Groups of the protocol that are not measured yet: {'; '.join(missing)}.")
    for of_pass in PASSES[1:]:
        waiting = [f"{g.data}, {g.host}" for g in atlas.groups if not _is_done(_rows_of_group(atlas, g), of_pass)]
        if waiting:
            lines.append(f"- Not done yet, {of_pass.about}: {'; '.join(waiting)}.")
    for e in dict.fromkeys(replace(e, module="") for e in atlas.unmeasured):  # one line for each place and reason
        names = ", ".join(f"`{each.module}`" for each in atlas.unmeasured if replace(each, module="") == e)
        lines.append(f"- No row of {names} ({e.slots}) on {e.data}, {e.host}: {_one_line(e.reason)}")
    for g in atlas.groups:
        own = _rows_of_group(atlas, g)
        untimed = int(own["latency_ratio"].isna().sum())
        if untimed == len(own):
            lines.append(f"- Latency was not measured on {g.data}, {g.host}.")
        elif untimed:
            lines.append(
                f"- Latency of {untimed} of {len(own)} rows on {g.data}, {g.host}: a search times at most "
                f"{MAX_TIMED} models, the bare host among them, with the first plans of the run."
            )
    lines.append("- Fusions, necks and heads, compositions of modules, other hyper-parameters, and pretrained hosts.")
    return ["\n".join(lines)]


def _rows_of_group(atlas: Atlas, group: Measured) -> pd.DataFrame:
    return atlas.rows[(atlas.rows["host"] == group.host) & (atlas.rows["data"] == group.data)]


def _is_done(rows: pd.DataFrame, of_pass: Pass) -> bool:
    places = not of_pass.stages or bool((rows["slots"] != SAME).any())
    return places and bool((rows["seeds"] >= of_pass.seeds).all())


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
