"""The notes of a report: what a reader must know about the data, the comparison and the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nasbench.evidence.hierarchy import posterior
from nasbench.evidence.verdicts import FEWEST_FOR_MODEL
from nasbench.library.pretexts import SUPERVISED
from nasbench.measurement.latency.device_profile import HeldOut
from nasbench.runs.run import Run
from nasbench.runs.trainings import RunTrainings
from nasbench.tasks.forms import LABEL_FREE

__all__ = ["notes_of"]


def notes_of(
    run: Run, finalists: pd.DataFrame, recorded: RunTrainings | None, test: Mapping[str, Any]
) -> Iterable[str]:
    """Yield the notes, each a short paragraph.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        recorded: The trainings of the run. None if every objective is a cost.
        test: Metrics on the test split by plan hash.
    """
    if run.settings.learn != SUPERVISED and run.metric is not None:
        yield _on_learning(run.settings.learn, run.metric, has_labels=_has_labels(run))
    if recorded is not None and recorded.bare is not None and recorded.noise.freedom:
        yield from _on_verdicts(recorded)
    if (expected := run.config.get("expected")) and run.settings.atlas:
        yield (
            f"The search leaned on what the atlas has of {len(expected['effects'])} modules, for {expected['host']} on "
            f"{expected['data']} (config.yaml has the figures). This decided which plans were tried. It is no part of "
            "any difference, interval or verdict."
        )
    if predicted := run.config["identity"].get("latency_profile"):
        yield _predicted(str(run.settings.latency_profile), predicted)
    elif "latency_ms" in finalists and finalists["latency_ms"].notna().any():
        if "latency_scenario" in finalists:
            scenario = finalists["latency_scenario"].dropna().iloc[0]
            yield (
                f"Latency was measured side by side with the bare backbone: {scenario}. Its intervals have 99 % "
                "confidence."
            )
        else:  # a function returned it
            yield "Latency was not measured by nasbench. The evaluated function returned it."
    elif run.config["task"]:
        yield "Latency was not measured."
    if checks := run.journal.cost_checks:
        wrong = [told for told in checks.values() if told]
        yield (
            "Costs are sums over the parts of a plan. The count of the complete model is exactly the same for "
            f"{len(checks) - len(wrong)} of {len(checks)} finalists{'.' if not wrong else ': ' + '; '.join(wrong)}"
        )
    if test:
        yield (
            f"The test split was used only for {len(test)} compared plan{'' if len(test) == 1 else 's'}, once for each "
            "plan, with the stored weights of one seed. Nothing was selected on it."
        )


def _has_labels(run: Run) -> bool:
    """Return whether the data can be learnt with labels: whether it has two classes or more, or forecasts."""
    return ((run.config["task"] or {}).get("model_kwargs") or {}).get("num_classes") != 1


def _on_learning(learn: str, metric: str, *, has_labels: bool) -> str:
    """Return what a ranking of plans that were trained by a pretext can tell, and what it cannot.

    Args:
        learn: The pretext.
        metric: The metric by which plans are compared.
        has_labels: Whether the data can be learnt with labels too.
    """
    if metric in LABEL_FREE:
        told = (
            f"{metric} can tell whether training worked. It cannot tell which features are of use: a plan can solve "
            "the pretext by what does not matter to you. So label some items, and rank by knn_accuracy"
        )
    else:
        told = (
            f"{metric} can tell whose features separate the classes of this data. It cannot tell which plan is best "
            "after training with labels, or for other classes"
        )
    compared = (
        " nasbench compare, of this run and of one with --learn supervised and the same plans, tells how far the two "
        "rankings agree."
    )
    return f"Every plan was trained by the pretext {learn}. {told}.{compared if has_labels else ''}"


def _on_verdicts(recorded: RunTrainings) -> Iterable[str]:
    """Yield how the verdicts were computed, and which noise they do not include."""
    if len(recorded.plans) >= FEWEST_FOR_MODEL:
        yield (
            "Numbers in brackets are 95 % intervals. Verdicts come from a model of all trainings together, because "
            "the plans were chosen among many by one seed. So the difference of a chosen plan is too large on "
            "average, and its verdict can differ from a verdict by the interval alone."
        )
        believed = posterior(recorded.standing, recorded.contents)
        if believed is not None and believed.harmful:
            yield (
                "More than three quarters of the plans lie below the bare backbone. So the model considers that "
                "modules make the network worse on average, and no plan is called BETTER only because it is less bad "
                "than the others."
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
    """Return the note that latency is predicted, with the profile and the quality of its predictions.

    Args:
        file: The profile.
        told: The result of `DeviceProfile.describe`.
    """
    quality = HeldOut(**told["quality"]).text if told["quality"] else "not checked on whole plans"
    return (
        f"Latency is predicted from {file} ({told['device']}, {told['device_name']}, {told['date'][:10]}, batch size "
        f"{told['batch_size']}, {told['mode']}). Prediction quality: {quality}."
    )
