"""The settings of a search that compares exactly the given plans and the bare backbone. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nasbench.errors import InputError
from nasbench.library.plan import Plan
from nasbench.runs.folder import RunFolder
from nasbench.runs.schema import read_config
from nasbench.runs.settings import NOT_WITH_PLANS, SearchSettings, recorded_settings
from nasbench.spaces import load_space

__all__ = ["with_all_plans"]


def with_all_plans(settings: SearchSettings, origins: Mapping[str, str], out: str | Path | None) -> SearchSettings:
    """Return the settings with all plans to compare: those of the run that is extended, then the given plans.

    Plans can also be given by a space that is a list of plans. Plug-ins must be loaded before.

    Args:
        settings: The settings as they were read, without resolved defaults.
        origins: The origin of each setting.
        out: The run folder.

    Raises:
        InputError: If the list of plans is empty, or if a setting is given that has no use with given plans, such as
            the sampler (`NOT_WITH_PLANS`).
        UnknownNameError: If a module does not exist. Suggests the nearest names.
    """
    if not settings.plans and origins["plans"] != "default":
        raise InputError(f"plans ({origins['plans']}) is empty; give at least one, such as se")
    listed = () if settings.plans or settings.space is None else load_space(settings.space).plans
    if not (plans := settings.plans or listed):
        return settings
    choosing = [name for name in NOT_WITH_PLANS if origins[name] != "default" and not (listed and name == "space")]
    if choosing:
        told = ", ".join(f"{name} ({origins[name]})" for name in choosing)
        raise InputError(
            f"{told}: exactly the given plans are compared, all with the same seeds, so there is no search; leave out "
            f"{', '.join(choosing)}, or leave out the plans"
        )
    typed = dict.fromkeys(Plan.of(plan).typed for plan in plans)
    return settings.model_copy(update={"space": None, "plans": tuple(dict.fromkeys([*_earlier(out), *typed]))})


def _earlier(out: str | Path | None) -> tuple[str, ...]:
    """Return the given plans of the run in a folder. Empty if there is no run, or if its plans were not given."""
    if out is None or not (folder := RunFolder(out)).is_run:
        return ()
    return recorded_settings(read_config(folder.config)["settings"])[0].plans
