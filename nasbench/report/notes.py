"""The notes of a report: what a reader must know about the data, the comparison and the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nasbench.evidence.hierarchy import posterior
from nasbench.evidence.verdicts import FEWEST_FOR_MODEL
from nasbench.measurement.latency.device_profile import HeldOut
from nasbench.runs.run import Run
from nasbench.runs.trainings import RunTrainings

__all__ = ["notes_of"]


def notes_of(
    run: Run, finalists: pd.DataFrame, recorded: RunTrainings | None, test: Mapping[str, Any]
) -> Iterable[str]:
    """Yield the notes, each a short paragraph.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        recorded: Its trainings. None if every objective is a cost.
        test: Metrics on the test split by plan hash.
    """
    yield from (run.config["task"] or {}).get("notes", ())
    if recorded is not None and recorded.bare is not None and recorded.noise.freedom:
        yield from _on_verdicts(recorded)
    if predicted := run.config["identity"].get("latency_profile"):
        yield _predicted(str(run.settings.latency_profile), predicted)
    elif "latency_ms" in finalists and finalists["latency_ms"].notna().any():
        scenario = finalists["latency_scenario"].dropna().iloc[0]
        yield f"Latency was measured side by side with the bare backbone: {scenario}. Its intervals are 99 %."
    elif run.config["task"]:
        yield "Latency was not measured."
    if checks := run.journal.cost_checks:
        wrong = [told for told in checks.values() if told]
        yield (
            f"Costs are sums over the parts of a plan. A count of the whole model agrees exactly for "
            f"{len(checks) - len(wrong)} of {len(checks)} finalists{'.' if not wrong else ': ' + '; '.join(wrong)}"
        )
    if test:
        yield (
            f"The test split was opened only for {len(test)} compared plan{'' if len(test) == 1 else 's'}, once each, "
            "with the stored weights of one seed. Nothing was selected on it."
        )


def _on_verdicts(recorded: RunTrainings) -> Iterable[str]:
    """Yield how the verdicts came about, and what they do not cover."""
    if len(recorded.plans) >= FEWEST_FOR_MODEL:
        yield (
            "Numbers in brackets are 95 % intervals. Verdicts come from a model of all trainings together, because the "
            "plans were chosen among many by one seed. So the difference of a chosen plan is somewhat too favourable, "
            "and its verdict may differ from what its interval alone would say."
        )
        believed = posterior(recorded.standing, recorded.contents)
        if believed is not None and believed.harmful:
            yield (
                "Nearly all plans lie below the bare backbone. So the model allows that modules harm on average, and "
                "no plan is called BETTER for being less bad than the others."
            )
    else:
        yield (
            "Numbers in brackets are 95 % intervals. With so few plans, verdicts come from these intervals, corrected "
            "for the number of plans (Holm)."
        )
    if not recorded.noise.items:
        yield (
            "The metric of single validation items is not stored. So only the seeds count as noise, and the verdicts "
            "hold for this validation split."
        )


def _predicted(file: str, told: Mapping[str, Any]) -> str:
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
