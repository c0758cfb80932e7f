"""Data of the interactive plot of the Pareto front, for the script of the page (reports/explorer.js)."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from nasbench.errors import InputError
from nasbench.library.plan import BARE, Plan
from nasbench.objectives import COSTS
from nasbench.report.formatting import is_missing
from nasbench.report.scatter import error_bar, front_note, is_bare_on_front, is_feasible, kind_labels, kind_of
from nasbench.runs.run import Run

__all__ = ["explorer_data", "script_json"]


def explorer_data(run: Run) -> dict[str, Any]:
    """Return the data that the script shows: axes, their directions, and one point for each distinct plan.

    A plan with several seeds is shown at its mean, with its `error_bar`. Each point has the values of the axes, the
    modules of the plan and the properties that these declare. The script reads the rest from the table of all plans.
    """
    trials, finalists = run.trials(), run.finalists()
    metric = run.metric or next(iter(run.directions))
    means = {row["plan_hash"]: row for row in finalists.to_dict(orient="records")}
    points: list[dict[str, Any]] = []
    firsts: dict[str, dict[str, Any]] = {}
    for trial in trials.to_dict(orient="records"):
        firsts.setdefault(trial["plan_hash"], {str(key): value for key, value in trial.items()})
    for plan_hash, first in firsts.items():
        mean = {str(key): value for key, value in means.get(plan_hash, {}).items() if not is_missing(value)}
        row: dict[str, Any] = first | mean  # the means over seeds replace the values of the first trial
        modules, properties = _contents(str(row["plan"]))
        several = plan_hash in means and int(means[plan_hash].get("seeds", 1)) > 1
        low, high = map(_plain, error_bar(means[plan_hash], metric)) if several else (None, None)
        points.append(
            {
                "number": int(row["number"]),
                "plan": str(row["plan"]),
                "state": str(row["state"]),
                "kind": _kind(row, plan_hash in means),
                "several": several,
                "feasible": is_feasible(mean),
                "low": low,
                "high": high,
                "modules": modules,
                "properties": properties,
                "row": {
                    key: plain
                    for key, value in row.items()
                    if (plain := _plain(value)) is not None and _is_axis(key, plain)
                },
            }
        )
    names = dict.fromkeys([metric, *run.directions, *COSTS])
    names |= dict.fromkeys(key for each in points for key in each["row"])
    known = {name: {each["row"].get(name) for each in points if each["state"] == "complete"} - {None} for name in names}
    x = next((name for name in ("macs", "latency_ms", *names) if known.get(name) and name != metric), metric)
    # What is the same for every plan, such as the length of the training, shows nothing as an axis.
    axes = [name for name in names if len(known[name]) > (0 if name in (metric, x, *run.directions) else 1)]
    seeds = int(finalists["seeds"].max()) if "seeds" in finalists and len(finalists) else 1
    return {
        "axes": axes,
        "x": x,
        "y": metric,
        "objectives": list(run.directions),
        "note": front_note(run.directions),
        "directions": {name: run.directions.get(name, "minimize" if name in COSTS else "") for name in axes},
        "kinds": kind_labels(seeds, bare_on_front=len(finalists) > 0 and is_bare_on_front(finalists)),
        "points": points,
    }


def script_json(data: Any) -> str:
    """Return data as JSON that is safe inside a script element, because no text in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _kind(row: dict[str, Any], compared: bool) -> str:
    if row["state"] != "complete" and row["plan"] != BARE.text:
        return str(row["state"])
    return kind_of(row | {"on_front": compared and row.get("on_front", False)})


def _contents(text: str) -> tuple[list[str], list[str]]:
    """Return the modules of a plan and the properties they declare. Both are empty if a module is not known."""
    try:
        specs = [spec for expression in Plan.of(text).values() for spec in expression.specs()]
    except InputError:
        return [], []
    return sorted({spec.name for spec in specs}), sorted({name for spec in specs for name in spec.properties})


def _is_axis(key: str, value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and key not in ("schema_version", "number", "seed", "seeds", "more_seeds", "items_needed")
        and not re.search(r"_(?:low|high|sd)(?:_|\Z)", key)  # the end of an interval is drawn as a bar
    )


def _plain(value: Any) -> Any:
    """Return a JSON value, rounded to 6 significant digits if it is not whole. None if missing or not a plain value."""
    if is_missing(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return int(value)  # counts are floats if a row has none, and plans can differ in the last digits of millions
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) else None
