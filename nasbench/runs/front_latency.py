"""Latency of the plans on a run's Pareto front on this device: measured together, compared with predictions, by slot.

The models are built from config.yaml alone. So the machine that measures needs neither the data nor the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nasbench.errors import DeviceError, NothingMatched
from nasbench.library.plan import Plan
from nasbench.measurement.latency.device_profile import HeldOut, judged, within_10pct
from nasbench.measurement.latency.kernels import count_kernels
from nasbench.measurement.latency.per_slot import PerSlot, profile_slots
from nasbench.measurement.latency.profiler import Profile, check_device, profile
from nasbench.runs.run import Run

__all__ = ["FrontLatency", "measure_front", "measure_slots", "predicted_scenario"]

SCHEMA_VERSION = 1
_OF_DEVICE = ("mode", "amp", "channels_last")
_ASKED = ("batch_size", *_OF_DEVICE)


@dataclass(frozen=True)
class FrontLatency:
    """The measured latency of the plans on a run's Pareto front.

    Attributes:
        rows: One row for each plan, the bare backbone first. Columns: number, plan, plan_hash, macs, kernels, the
            attributes of `Latency`, and rank. If the run predicted latency, also predicted_ms and predicted_ratio.
        profile: The measurement. The name of each model in it is its plan hash.
        quality: Quality of the predicted ratios. None without a prediction, or if the front has fewer than two plans.
        within_10pct_ms: Share of the plans whose predicted latency in milliseconds is within ±10 % of the measured one.
            None if `quality` is None.
        slots: The latency that each slot adds in the best plan. None if the front contains only the bare backbone, or
            if it was not requested.
        file: The file that contains the rows and the raw samples. None if the run folder cannot be written.
        fault: Why the run folder cannot be written. "" if it can.
    """

    rows: list[dict[str, Any]]
    profile: Profile
    quality: HeldOut | None
    within_10pct_ms: float | None
    slots: PerSlot | None
    file: Path | None = None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON-serialisable data, without raw samples."""
        return {
            "rows": self.rows,
            "stopped": self.profile.stopped,
            "scenario": self.profile.scenario.to_dict(),
            "scenario_text": self.profile.scenario.text,
            "quality": None if self.quality is None else asdict(self.quality),
            "within_10pct_ms": self.within_10pct_ms,
            "slots": None if self.slots is None else self.slots.frame().to_dict("records"),
        }


def measure_front(
    run: Run, *, per_slot: bool = True, on_start: Callable[[int], None] = lambda _: None, **options: Any
) -> FrontLatency:
    """Measure the latency of the plans on a run's front and of the bare backbone on this device, and by slot.

    Results and raw samples are stored in `latency/` of the run folder, if this can be written.

    Args:
        run: The run.
        per_slot: Whether to measure also the latency that each slot adds in the best plan. This doubles the time.
        on_start: Called with the number of measurements, when everything was checked and the first of them begins.
        options: Options of `profile`. If the run predicted latency, the defaults of batch size, mode, autocast and
            memory format are those of its device profile.

    Raises:
        RunError: If a function evaluated the run's plans, so that there are no models.
        NothingMatched: If the run has no front yet.
        DeviceError: If the device does not exist, has too little memory, or gives no accepted samples.
        InputError: If an option is wrong. See `profile`.
    """
    front = run.front()
    if front.empty:
        raise NothingMatched(f"run {run.path} has no front yet: no trial is complete")
    options = {**{k: v for k, v in predicted_scenario(run).items() if k in _ASKED}, **options}
    bare = Plan({})
    hashes = list(dict.fromkeys([bare.hash, *front["plan_hash"]]))
    # Reversed, so that the dict keeps the first evaluation of each plan. The front shows the trial number of the first.
    first = {evaluation.plan_hash: evaluation for evaluation in reversed(run.evaluations())}
    builder = run.builder().without_weights()  # latency does not depend on the values of weights
    texts = {bare.hash: bare.text, **dict(zip(front["plan_hash"], front["plan"], strict=True))}
    size = builder.input_size
    check_device(options.get("device", "auto"), size, **{key: options[key] for key in _OF_DEVICE if key in options})
    models = {key: builder.build(Plan.of(texts[key])) for key in hashes}
    # the front is sorted by its metric, so the first plan that is not the bare backbone is the best plan
    best = next((key for key in front["plan_hash"] if key != bare.hash), None) if per_slot else None
    kernels = {key: count_kernels(model, size) for key, model in models.items()}
    on_start(1 if best is None else 2)
    measured = _accepted(profile(models, input_size=size, reference=bare.hash, **options))
    ranks = measured.ranks()
    rows = []
    for key in hashes:
        cost = first[key].costs if key in first else {}
        figures = {name: value for name, value in asdict(measured[key]).items() if name != "name"}
        row = {
            "number": first[key].number if key in first else None,
            "plan": texts[key],
            "plan_hash": key,
            "rank": ranks[key],
            **figures,
        }
        row |= {"macs": cost.get("macs"), "kernels": kernels[key]}
        if cost.get("latency_predicted"):
            row |= {"predicted_ms": cost["latency_ms"], "predicted_ratio": cost["latency_ratio"]}
        rows.append(row)
    quality, within_ms = _quality([row for row in rows if row["plan_hash"] != bare.hash])
    slots = None if best is None else measure_slots(run, texts[best], **options)
    result = FrontLatency(rows, measured, quality, within_ms, slots)
    document = {**result.to_dict(), "date": measured.scenario.date, "profile": measured.to_dict()}
    try:
        if slots is not None and best is not None:
            _save(run, "slots", _slots_document(slots, first[best].number))
        return replace(result, file=_save(run, "front", document))
    except OSError as error:  # the measurement takes long, so it is not lost
        return replace(result, fault=error.strerror or str(error))


def measure_slots(run: Run, plan: str, **options: Any) -> PerSlot:
    """Measure the latency that each slot of a plan adds.

    Args:
        run: The run.
        plan: Text of a plan of the run.
        options: Options of `profile`.

    Raises:
        DeviceError: If the device does not exist, has too little memory, or gives no accepted samples.
    """
    builder = run.builder().without_weights()
    options = {**options, "input_size": builder.input_size, "identity_init": builder.identity_init}
    per_slot = profile_slots(builder.host(), plan, attach=builder.attach, **options)
    _accepted(per_slot.profile)
    return per_slot


def _slots_document(slots: PerSlot, number: int | None) -> dict[str, Any]:
    scenario = slots.profile.scenario
    return {"number": number, "scenario_text": scenario.text, "date": scenario.date, **slots.to_dict()}


def predicted_scenario(run: Run) -> dict[str, Any]:
    """Return the scenario of the run's device profile (`DeviceProfile.describe`). Empty without a device profile."""
    return dict(run.config["identity"].get("latency_profile") or {})


def _quality(rows: list[dict[str, Any]]) -> tuple[HeldOut | None, float | None]:
    if len(rows) < 2 or any("predicted_ms" not in row for row in rows):
        return None, None
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    ratios = judged(columns["predicted_ratio"], columns["ratio"], columns["macs"], columns["kernels"])
    return ratios, within_10pct(columns["predicted_ms"], columns["latency_ms"])


def _accepted(measured: Profile) -> Profile:
    if measured.stopped == "no accepted samples":
        device = measured.scenario.device
        raise DeviceError(f"no accepted samples on {device}: its clock stayed below 75 % of the default")
    return measured


def _save(run: Run, kind: str, data: Mapping[str, Any]) -> Path:
    return run.folder.save_latency(kind, {"schema_version": SCHEMA_VERSION, **data})
