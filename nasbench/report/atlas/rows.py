"""Rows of the atlas from finished runs, merged with the rows that are there."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    judged_by,
    library_modules,
    places_without_row,
    property_text,
    read_code,
    stale,
)
from nasbench.evidence.atlas_protocol import GROUPS, LATENCY_S, PASSES, PROTOCOL, SAME, Group
from nasbench.evidence.comparison import contents_of
from nasbench.library.modules import module_spec
from nasbench.library.plan import BARE, Plan
from nasbench.runs.run import Run
from nasbench.runs.settings import SearchSettings
from nasbench.tasks.recipe import Recipe

__all__ = ["atlas_of_run", "completed", "empty_atlas", "group_of", "merged", "without_stale"]

_PACKAGES = ("torch", "timm")
_CHANGED = "its code was changed after the measurement"
_NO_PLAN = "it was not among the plans of the run"
_OF_GROUP = frozenset({"plans", "backbone", "task", "trials", "objectives", "seeds", "training", "latency_s"})
"""Settings that `group_of` compares with the group itself, or that follow from the plans."""

_CARRIED_OUT = frozenset(
    {
        *("time_s", "effect", "device", "controls", "keep", "workers", "engine", "storage", "retry_failed", "log"),
        *("trial_timeout_s", "trial_cpus", "trial_gpus"),
    }
)
"""Settings that are free: they do not change what a row says. Without controls, the columns of the control are NaN."""


def empty_atlas() -> Atlas:
    """Return an atlas without rows."""
    return Atlas(pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS))


def atlas_of_run(run: Run) -> Atlas:
    """Return the rows of a run, all of one group. The statistics are those of `Run.finalists`.

    A plan of which a training failed is no row.

    Raises:
        InputError: If the run is not one of the atlas, as `scripts/atlas run` makes it.
        RunError: If the run is not finished, or the hashes of the code are missing.
    """
    group = group_of(run)
    _check_finished(run, group)
    table = run.finalists()
    table = table[table["seeds"] == run.settings.seeds]
    places = _places(run)
    versions, hashes = _versions(run, group), read_code(run.path)
    rows = []
    for row in table.to_dict("records"):
        if (place := places(row["plan"])) is not None:
            module, slots = place
            if module not in hashes:
                raise RunError(f"the record of the code beside {run.path} has no hash of {module}; restore that file")
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
    differing = [
        f"{name} is {there}, expected {wanted}" for name, there, wanted in _compared(run, group) if there != wanted
    ]
    if (seeds := settings.seeds) not in (allowed := [each.seeds for each in PASSES]):
        differing.append(f"seeds is {seeds}, expected {' or '.join(map(str, sorted({*allowed})))}")
    if settings.latency_s > LATENCY_S:
        differing.append(f"latency_s is {settings.latency_s:g}, expected at most {LATENCY_S:g}")
    if differing:
        raise InputError(f"{run.path} does not follow protocol {PROTOCOL}: {'; '.join(differing)}")
    return group


def _compared(run: Run, group: Group) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting of the search and of its recipe: the name, the value of the run, and that of the protocol."""
    settings, identity = run.settings, run.config["identity"]
    wanted = {name: value for name, value in group.settings.items() if name != "training"}
    for name, about in SearchSettings.model_fields.items():
        if name not in _OF_GROUP | _CARRIED_OUT:
            yield name, getattr(settings, name), wanted.get(name, about.get_default(call_default_factory=True))
    yield "objectives", set(settings.objectives), {run.config["task"]["metric"], "macs"}
    of_group = Recipe(**group.settings.get("training", {})).model_dump()
    for recipe in dict.fromkeys(map(_dumped, (settings.training, identity.get("training", {})))):
        for name, there in json.loads(recipe).items():
            yield name, there, of_group.get(name)


def _dumped(training: Mapping[str, Any]) -> str:
    """Return the whole recipe of a run, which leaves out settings that came after it, as JSON."""
    return json.dumps(Recipe().with_settings(training).model_dump())


def _check_finished(run: Run, group: Group) -> None:
    """Refuse a run in which plans lack seeds, although none of their trainings failed."""
    slots = [slot["name"] for slot in run.config["space"]["host_slots"]]
    evaluations = run.evaluations()
    seeds = Counter(e.plan_hash for e in evaluations if e.is_complete)
    failed = {e.plan_hash for e in evaluations if not e.is_complete}
    plans = [BARE, *(Plan.of(text).resolve(slots) for text in run.settings.plans)]
    lacking = [plan for plan in plans if seeds[plan.hash] < (run.settings.seeds or 0) and plan.hash not in failed]
    if lacking or seeds[BARE.hash] < (run.settings.seeds or 0):
        raise RunError(
            f"{run.path} is not finished: {len(lacking)} of {len(plans)} plans, the bare host among them, have fewer "
            f"than {run.settings.seeds} seeds; `scripts/atlas run {group.name}` resumes it"
        )


def merged(there: Atlas, new: Sequence[Atlas]) -> Atlas:
    """Return an atlas in which the groups of new rows replace the same groups.

    The rows of a group are replaced as a whole, because the verdicts of a run depend on all its plans.

    Raises:
        InputError: If two of the new atlases have the same group.
    """
    keys = [(g.host, g.data) for atlas in new for g in atlas.groups]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        host, data = twice[0]
        raise InputError(f"{data}, {host} is given twice; give one run for each group")
    of_new = set(keys)
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
    dropped = atlas.rows.loc[old]
    known = library_modules(1) | library_modules(2)
    waiting = [
        Unmeasured(row["module"], row["host"], row["data"], row["slots"], _CHANGED)
        for row in dropped.to_dict("records")
        if row["module"] in known
    ]
    left = atlas.rows.loc[~old].reset_index(drop=True)
    return replace(atlas, rows=left, unmeasured=(*atlas.unmeasured, *waiting)), sorted(set(dropped["module"]))


def completed(atlas: Atlas) -> Atlas:
    """Return the atlas with a reason for each module of today's library that has no row and no reason yet."""
    known = library_modules(1) | library_modules(2)
    kept = [each for each in atlas.unmeasured if each.module in known]
    absent = [Unmeasured(module, *group, slots, _NO_PLAN) for group, module, slots in places_without_row(atlas)]
    return replace(atlas, unmeasured=tuple(sorted([*kept, *absent], key=lambda e: (e.data, e.host, e.slots, e.module))))


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
        "control_low": row.get("control_difference_low", math.nan),
        "control_high": row.get("control_difference_high", math.nan),
        "protocol": PROTOCOL, "versions": json.dumps(versions | {"module": code}, sort_keys=True),
    }  # fmt: skip
    if math.isnan(own["control_low"]):  # no control, or one with a single seed, which has no interval
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
        "device": f"{', '.join(devices)} ({', '.join(names or [])})", "data": group.sha256, "judged": judged_by(),
    }  # fmt: skip


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
