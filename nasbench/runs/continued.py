"""The settings of a search that continues a run: those that are not given are those of the run. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nasbench.errors import RunError
from nasbench.runs.folder import RunFolder
from nasbench.runs.settings import SearchSettings

__all__ = ["continued"]

_CARRIED_OUT = frozenset(
    {
        *("time_s", "device", "workers", "engine", "storage", "retry_failed", "reuse", "log"),
        *("trial_timeout_s", "trial_cpus", "trial_gpus"),
    }
)
"""Settings that say how a search is carried out. A search that continues a run does not take them from it."""

_FURTHER = frozenset(
    {
        "trials",
        "seeds",
        "refine",
        "until",
        "effect",
        "controls",
        "keep",
        "latency_s",
        "log",
        "plans",
        "modules",
        *_CARRIED_OUT,
    }
)
"""Settings with which a run can be continued and extended. All others define the search."""


def continued(settings: SearchSettings, origins: Mapping[str, str], out: str | Path | None) -> SearchSettings:
    """Return the settings of a search in a run folder. If nothing that defines the search is given, it is continued.

    So `nasbench search --out RUN --trials 48` needs no backbone and no task: they are those of the run.

    Args:
        settings: The settings as they were read.
        origins: The origin of each setting.
        out: The run folder.

    Returns:
        The settings of the run, with those that are given. The settings unchanged if the folder contains no run, if a
        setting that defines the search is given, or if plans are given and the run chose its plans from a space.

    Raises:
        RunError: If the run has Python code that somebody else wrote.
    """
    given = {name for name, origin in origins.items() if origin != "default"}
    if out is None or not given <= _FURTHER or not RunFolder(out).is_run:
        return settings
    from nasbench.runs.run import load_run  # imported here, because it imports Optuna

    run = load_run(out)
    there = run.settings
    if "plans" in given and not there.plans:
        return settings
    if run.sources.fault:
        raise RunError(
            f"{out} has Python code of its own that is not trusted here, so it is continued only with its whole "
            "command, which names the files; the report of the run shows this command"
        )
    kept = {name: getattr(settings, name) for name in SearchSettings.model_fields if name in given | _CARRIED_OUT}
    return there.model_copy(update=kept)
