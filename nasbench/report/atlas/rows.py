"""Rows of the atlas from finished runs, merged with the rows that are there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from nasbench.errors import InputError, RunError
from nasbench.evidence.atlas import (
    COLUMNS,
    KEYS,
    Atlas,
    Measured,
    Unmeasured,
    code_file,
    property_text,
    stale,
)
from nasbench.evidence.atlas_protocol import GROUPS, PROTOCOL, SAME, Group
from nasbench.evidence.comparison import contents_of
from nasbench.files import read_json
from nasbench.library.modules import module_spec
from nasbench.library.plan import BARE, Plan
from nasbench.runs.run import Run

__all__ = ["atlas_of_run", "empty_atlas", "group_of", "merged", "without_stale"]

_PACKAGES = ("torch", "timm")
_FEWEST_SEEDS = 2


def empty_atlas() -> Atlas:
    """Return an atlas without rows."""
    return Atlas(pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS))


def atlas_of_run(run: Run) -> Atlas:
    """Return the rows of a run, all of one group. The statistics are those of `Run.finalists`.

    Plans with one seed have no interval and are no rows.

    Raises:
        InputError: If the run is not one of the atlas, as `scripts/atlas run` makes it.
        RunError: If no plan has two seeds yet, or the hashes of the code are missing.
    """
    group = group_of(run)
    table = run.finalists()
    table = table[table["seeds"] >= _FEWEST_SEEDS] if "verdict" in table else table[:0]
    if not (table["plan"] == BARE.text).any() or len(table) == 1:
        raise RunError(f"{run.path}: no plan was trained with {_FEWEST_SEEDS} seeds yet, so there is no interval")
    places = _places(run)
    versions, hashes = _versions(run, group), _hashes(run)
    rows = []
    for row in table.to_dict("records"):
        if (place := places(row["plan"])) is not None:
            module, slots = place
            rows.append(_row({str(k): v for k, v in row.items()}, group, module, slots, versions, hashes[module]))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    bare = table[table["plan"] == BARE.text].iloc[0]
    return Atlas(frame, (_measured(run, group, bare),), tuple(_unmeasured(run, group, frame)))


def group_of(run: Run) -> Group:
    """Return the group that a run measured.

    Raises:
        InputError: If the run was not made by the protocol. The message says what differs.
    """
    settings, data = run.settings, run.config["identity"]["data"]
    found = [g for g in GROUPS if g.host == settings.backbone and g.sha256 == data.get("data_sha256")]
    if not found or not settings.plans:
        known = ", ".join(group.name for group in GROUPS)
        raise InputError(
            f"{run.path} is not a run of the atlas: {settings.backbone} with given plans on the data of a group is "
            f"expected ({known}); `scripts/atlas run` makes such runs"
        )
    group = found[0]
    wanted = dict(group.settings)
    training = wanted.pop("training", {})
    there = {name: getattr(settings, name) for name in wanted} | {
        name: settings.training.get(name) for name in training
    }
    differing = [f"{k} is {there[k]}, expected {v}" for k, v in (wanted | training).items() if there[k] != v]
    for name in ("checkpoint", "pretrained", "freeze", "learn"):  # trained from scratch, with labels
        if getattr(settings, name) != type(settings).model_fields[name].default:
            differing.append(f"{name} is {getattr(settings, name)}")
    if differing:
        raise InputError(f"{run.path} does not follow protocol {PROTOCOL}: {'; '.join(differing)}")
    return group


def merged(there: Atlas, new: Sequence[Atlas]) -> Atlas:
    """Return an atlas in which the groups of new rows replace the same groups.

    The rows of a group are replaced as a whole, because the verdicts of a run depend on all its plans.
    """
    of_new = {(g.host, g.data) for atlas in new for g in atlas.groups}
    groups = zip(there.rows["host"], there.rows["data"], strict=True)
    others = there.rows.loc[np.array([group not in of_new for group in groups], dtype=bool)]
    rows = pd.concat([others, *(atlas.rows for atlas in new)], ignore_index=True)

    def joined(name: str) -> tuple[Any, ...]:
        held = [each for each in getattr(there, name) if (each.host, each.data) not in of_new]
        return tuple(sorted([*held, *(e for atlas in new for e in getattr(atlas, name))], key=lambda e: str(e)))

    return Atlas(
        rows.sort_values(list(KEYS), ignore_index=True).astype(COLUMNS), joined("groups"), joined("unmeasured")
    )


def without_stale(atlas: Atlas) -> tuple[Atlas, list[str]]:
    """Return the atlas without rows of modules whose code was changed after the measurement, and their names."""
    old = np.array(stale(atlas.rows), dtype=bool)
    names = sorted(set(atlas.rows.loc[old, "module"]))
    return replace(atlas, rows=atlas.rows.loc[~old].reset_index(drop=True)), names


def _places(run: Run) -> Any:
    """Return a function from the text of a plan to its module and slots, or None if the plan is not of the atlas."""
    slots = [slot["name"] for slot in run.config["space"]["host_slots"]]

    def place(text: str) -> tuple[str, str] | None:
        plan = Plan.of(text)
        expressions = {str(expression) for expression in plan.values()}
        modules = {module for _, module in contents_of(plan)}
        if len(expressions) != 1 or expressions != modules:  # several modules, or hyper-parameters
            return None
        module = modules.pop()
        if plan == Plan.of(module).resolve(slots):
            return module, SAME
        return (module, next(iter(plan))) if len(plan) == 1 else None

    return place


def _row(
    row: dict[str, Any], group: Group, module: str, slots: str, versions: dict[str, str], code: str
) -> dict[str, Any]:
    own = {
        "module": module, "dims": group.dims, "property": property_text(module_spec(module)), "host": group.host,
        "data": group.data, "slots": slots, "low": row["difference_low"], "high": row["difference_high"],
        "control_low": row["control_difference_low"], "control_high": row["control_difference_high"],
        "protocol": PROTOCOL, "versions": json.dumps(versions | {"module": code}, sort_keys=True),
    }  # fmt: skip
    if math.isnan(row["control_difference_low"]):  # a control with one seed has a difference, and no interval yet
        own |= {"control_difference": math.nan, "control_verdict": ""}
    return {name: own.get(name, row.get(name, math.nan)) for name in COLUMNS}


def _versions(run: Run, group: Group) -> dict[str, str]:
    environment = run.environment
    packages = environment.get("packages", {})
    devices = sorted({e.device for e in run.evaluations() if e.device})
    of_device = environment.get("device", {})
    names = of_device.get("cuda") if any(d.startswith("cuda") for d in devices) else [of_device.get("cpu", "")]
    return {
        "nasbench": environment.get("nasbench", ""), "git": environment.get("git") or "",
        "python": environment.get("python", ""), **{name: packages.get(name) or "" for name in _PACKAGES},
        "device": f"{', '.join(devices)} ({', '.join(names or [])})", "data": group.sha256,
    }  # fmt: skip


def _hashes(run: Run) -> dict[str, str]:
    file = code_file(run.path)
    if not file.is_file():
        raise RunError(
            f"no file at {file}, which has the hashes of the modules' code from the time of the training; "
            "`scripts/atlas run` writes it"
        )
    hashes: dict[str, str] = read_json(file, "record of the code", RunError)
    return hashes


def _measured(run: Run, group: Group, bare: pd.Series) -> Measured:
    metric = str(run.metric)
    items = int(run.config["task"]["splits"]["val"])
    counts = int(bare["params"]), int(bare["macs"])
    return Measured(group.host, group.data, metric, run.directions[metric], float(bare[metric]), *counts, items)


def _unmeasured(run: Run, group: Group, frame: pd.DataFrame) -> Iterator[Unmeasured]:
    places, told = _places(run), set(zip(frame["module"], frame["slots"], strict=True))
    for evaluation in run.evaluations():
        place = None if evaluation.is_complete else places(evaluation.plan)
        if place is not None and place not in told:
            told.add(place)
            yield Unmeasured(place[0], group.host, group.data, place[1], evaluation.reason)
