"""The columns of the trials table that latency fills, measured or predicted."""

from __future__ import annotations

from typing import Any

from nasbench.library.plan import Plan
from nasbench.measurement.latency.device_profile import DeviceProfile
from nasbench.measurement.latency.samples import Profile

__all__ = ["measured_columns", "predicted_columns"]


def measured_columns(found: Profile, name: str) -> dict[str, Any]:
    """Return the columns that the measurement of one model fills.

    Args:
        found: The measurement.
        name: What the model is called in it.
    """
    row = found[name]
    return {
        "latency_ms": row.latency_ms,
        "latency_low_ms": row.low_ms,
        "latency_high_ms": row.high_ms,
        "latency_ratio": row.ratio,
        "latency_ratio_low": row.ratio_low,
        "latency_ratio_high": row.ratio_high,
        "latency_verdict": row.verdict,
        "latency_scenario": found.scenario.text,
    }


def predicted_columns(found: DeviceProfile, plan: Plan, name: str) -> dict[str, Any]:
    """Return the columns that a prediction fills.

    Args:
        found: The device profile.
        plan: The plan.
        name: Where the device profile is.
    """
    predicted, scenario = found.predict(plan), found.scenario
    return {
        "latency_ms": predicted.latency_ms,
        "latency_ratio": predicted.ratio,
        "latency_predicted": True,
        "latency_scenario": f"predicted from {name}, made {scenario.date[:10]}: {scenario.text}",
    }
