"""Latency of a run's front on this device: side by side, beside what was predicted, and slot by slot.

Models are built from what config.yaml tells: neither the data nor any weights need be on the device's machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nasbench.backbones import insertion
from nasbench.errors import DeviceError, NothingMatched, RunError
from nasbench.files import write_text
from nasbench.library import plugins
from nasbench.library.plan import Plan
from nasbench.measurement.latency.device_profile import HeldOut, judged, within_10pct
from nasbench.measurement.latency.kernels import count_kernels
from nasbench.measurement.latency.per_slot import PerSlot, profile_slots
from nasbench.measurement.latency.profiler import Profile, profile
from nasbench.runs.run import Run

__all__ = ["FrontLatency", "keep_slots", "latest", "measure_front", "predicted_scenario"]

SCHEMA_VERSION = 1
_ASKED = ("batch_size", "mode", "amp", "channels_last")


@dataclass(frozen=True)
class FrontLatency:
    """What was measured of a front.

    Attributes:
        rows: One a plan, the bare backbone first: number, plan, plan_hash, macs, kernels, the figures of `Latency`,
            rank, and, where the run predicted latency, predicted_ms and predicted_ratio.
        profile: The measurement; its models are named by plan hash.
        quality: Of the predicted ratios; None where nothing was predicted or fewer than two plans were measured.
        within_10pct_ms: Share of the predicted milliseconds within ±10 %; None likewise.
        slots: The best plan slot by slot; None where the front is the bare backbone alone, or it was not asked for.
        file: Where figures and raw samples are.
    """

    rows: list[dict[str, Any]]
    profile: Profile
    quality: HeldOut | None
    within_10pct_ms: float | None
    slots: PerSlot | None
    file: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able data, without raw samples."""
        return {
            "rows": self.rows,
            "stopped": self.profile.stopped,
            "scenario": self.profile.scenario.to_dict(),
            "scenario_text": self.profile.scenario.text,
            "quality": None if self.quality is None else asdict(self.quality),
            "within_10pct_ms": self.within_10pct_ms,
            "slots": None if self.slots is None else self.slots.frame().to_dict("records"),
        }


def measure_front(run: Run, *, per_slot: bool = True, **options: Any) -> FrontLatency:
    """Measure the plans of a run's front beside the bare backbone on this device, and its best plan slot by slot.

    Figures and raw samples are kept in `latency/` of the run folder.

    Args:
        run: The run.
        per_slot: Also measure the best plan slot by slot, in as much time again.
        options: As `profile`. Batch size, mode, autocast and memory format are by default those that the run's
            latency was predicted for.

    Raises:
        RunError: If a function evaluated the run's plans.
        NothingMatched: If the run has no front yet.
        DeviceError: If the device is not there, too small, or gives no accepted samples.
        InputError: As `profile`.
    """
    front = run.front()
    if front.empty:
        raise NothingMatched(f"run {run.path} has no front yet: no trial is complete")
    options = {**{k: v for k, v in predicted_scenario(run).items() if k in _ASKED}, **options}
    bare = Plan({})
    hashes = list(dict.fromkeys([bare.hash, *front["plan_hash"]]))
    numbers = {r.evaluation.plan_hash: r.number for r in reversed(run.records())}
    costs = {r.evaluation.plan_hash: r.evaluation.costs for r in reversed(run.records())}
    texts = {bare.hash: bare.text, **dict(zip(front["plan_hash"], front["plan"], strict=True))}
    size, models = _input_size(run), {key: _build(run, texts[key]) for key in hashes}
    kernels = {key: count_kernels(model, size) for key, model in models.items()}
    found = _accepted(profile(models, input_size=size, reference=bare.hash, **options))
    ranks = found.ranks()
    rows = []
    for key in hashes:
        cost = costs.get(key, {})
        figures = {name: value for name, value in asdict(found[key]).items() if name != "name"}
        row = {"number": numbers.get(key), "plan": texts[key], "plan_hash": key, "rank": ranks[key], **figures}
        row |= {"macs": cost.get("macs"), "kernels": kernels[key]}
        if cost.get("latency_predicted"):
            row |= {"predicted_ms": cost["latency_ms"], "predicted_ratio": cost["latency_ratio"]}
        rows.append(row)
    quality, within_ms = _quality([row for row in rows if row["plan_hash"] != bare.hash])
    best = next((key for key in front["plan_hash"] if key != bare.hash), None)
    slots = keep_slots(run, texts[best], numbers[best], **options) if per_slot and best is not None else None
    result = FrontLatency(rows, found, quality, within_ms, slots, _free(run, "front"))
    _write(result.file, {**result.to_dict(), "date": found.scenario.date, "profile": found.to_dict()})
    return result


def keep_slots(run: Run, plan: str, number: int, **options: Any) -> PerSlot:
    """Measure one plan slot by slot and keep it in the run folder, where the report finds it.

    Args:
        run: The run.
        plan: Text of a plan of it.
        number: Its trial.
        options: As `profile`.

    Raises:
        DeviceError: As `measure_front`.
    """
    host = insertion.remove(_build(run, "{}"))
    found = profile_slots(host, plan, input_size=_input_size(run), identity_init=_identity_init(run), **options)
    scenario = _accepted(found.profile).scenario
    told = {"number": number, "scenario_text": scenario.text, "date": scenario.date}
    _write(_free(run, "slots"), {**told, **found.to_dict()})
    return found


def latest(run: Run, kind: str) -> dict[str, Any] | None:
    """Return what was kept last of a kind, "front" or "slots"; None where nothing was."""
    files = _files(run, kind)
    return json.loads(files[-1].read_text(encoding="utf-8")) if files else None


def predicted_scenario(run: Run) -> dict[str, Any]:
    """Return what the run's device profile was made under (`DeviceProfile.describe`); empty where it used none."""
    return dict(run.config["identity"].get("latency_profile") or {})


def _quality(rows: list[dict[str, Any]]) -> tuple[HeldOut | None, float | None]:
    if len(rows) < 2 or any("predicted_ms" not in row for row in rows):
        return None, None
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    ratios = judged(columns["predicted_ratio"], columns["ratio"], columns["macs"], columns["kernels"])
    return ratios, within_10pct(columns["predicted_ms"], columns["latency_ms"])


def _build(run: Run, plan: str) -> nn.Module:
    for path in run.settings.modules:
        plugins.load_path(path)
    data = run.config["identity"].get("data", {})
    head = {"num_classes": data.get("classes"), "horizon": data.get("horizon")}
    return insertion.insert(
        str(run.settings.backbone), plan, input_size=_input_size(run), identity_init=_identity_init(run), **head
    )


def _input_size(run: Run) -> tuple[int, ...]:
    if run.config["task"] is None:
        raise RunError(f"run {run.path.name} was evaluated by a function; it has no models to measure")
    return tuple(run.config["task"]["input_size"])


def _identity_init(run: Run) -> bool:
    return run.settings.pretrained or run.settings.checkpoint is not None


def _accepted(found: Profile) -> Profile:
    if found.stopped == "no accepted samples":
        raise DeviceError(f"no accepted samples on {found.scenario.device}: its clock stayed under 75 % of the default")
    return found


def _files(run: Run, kind: str) -> list[Path]:
    return sorted((run.path / "latency").glob(f"{kind}-*.json"), key=lambda file: int(file.stem.split("-")[1]))


def _free(run: Run, kind: str) -> Path:
    files = _files(run, kind)
    return run.path / "latency" / f"{kind}-{int(files[-1].stem.split('-')[1]) + 1 if files else 0}.json"


def _write(file: Path, data: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        write_text(file, json.dumps({"schema_version": SCHEMA_VERSION, **data}, ensure_ascii=False, allow_nan=False))
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror}") from None
