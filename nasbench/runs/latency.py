"""The latency columns of the trials table, from a measurement or a prediction."""

from __future__ import annotations

from typing import Any

from nasbench.library.plan import Plan
from nasbench.measurement.latency.device_profile import DeviceProfile
from nasbench.measurement.latency.samples import Profile

__all__ = ["measured_columns", "predicted_columns"]


def measured_columns(measurement: Profile, name: str) -> dict[str, Any]:
    """Return the latency columns from the measurement of one model.

    Args:
        measurement: The measurement.
        name: Name of the model in the measurement.
    """
    row = measurement[name]
    return {
        "latency_ms": row.latency_ms,
        "latency_low_ms": row.low_ms,
        "latency_high_ms": row.high_ms,
        "latency_ratio": row.ratio,
        "latency_ratio_low": row.ratio_low,
        "latency_ratio_high": row.ratio_high,
        "latency_verdict": row.verdict,
        "latency_scenario": measurement.scenario.text,
    }


def predicted_columns(profile: DeviceProfile, plan: Plan, name: str) -> dict[str, Any]:
    """Return the latency columns from a prediction.

    Args:
        profile: The device profile that predicts.
        plan: The plan.
        name: The file of the device profile. It is shown in the column of the scenario.
    """
    predicted, scenario = profile.predict(plan), profile.scenario
    return {
        "latency_ms": predicted.latency_ms,
        "latency_ratio": predicted.ratio,
        "latency_predicted": True,
        "latency_scenario": f"predicted from {name}, made {scenario.date[:10]}: {scenario.text}",
    }
