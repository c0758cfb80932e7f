"""What a search expects of the modules of its space before it trains, from the atlas: the setting `atlas`.

The figures are recorded in config.yaml. A run that is resumed or extended uses these, so that it proposes the same
plans although the atlas has changed. They decide which plans are tried, and never enter a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasbench.errors import DataError, InputError
from nasbench.evidence.atlas import load_atlas
from nasbench.evidence.atlas_prior import Expected, expected_effects
from nasbench.library.pretexts import SUPERVISED
from nasbench.objectives import COSTS
from nasbench.runs.folder import RunFolder
from nasbench.runs.run import load_run
from nasbench.study.problem import Problem

__all__ = ["check_atlas", "expectations_of", "expected_of", "told"]


def check_atlas(problem: Problem) -> None:
    """Check that a search that asks for the atlas can use it.

    Raises:
        InputError: If another sampler than `auto` proposes the plans, or if the atlas cannot say anything of the
            objectives: those of a function, of a pretext, or only costs.
    """
    settings = problem.settings
    if not settings.atlas:
        return
    if settings.sampler != "auto":
        raise InputError(f"atlas: only auto uses the atlas, not {settings.sampler}; leave out one of the two")
    if problem.data is None:
        raise InputError("atlas: a function evaluates the plans, and the atlas cannot know its values; leave atlas out")
    if settings.learn != SUPERVISED:
        raise InputError(f"atlas: its rows are of training with labels, not of {settings.learn}; leave atlas out")
    if all(name in COSTS for name in problem.directions):
        raise InputError("atlas: every objective is a cost, and costs are known exactly; leave atlas out")


def expectations_of(problem: Problem, folder: RunFolder) -> dict[str, Any] | None:
    """Return the part `expected` of a run's config.yaml: as the run has it or, if it began without, from the atlas.

    It has the host and the data for which effects are expected, and the mean and the error of each module of the space
    that the atlas has. None if the atlas has none of them, or if the search does not ask.
    """
    if folder.is_run:
        earlier = load_run(folder.path)
        if (recorded := earlier.config.get("expected")) is not None or earlier.settings.atlas:
            return recorded
    if not problem.settings.atlas:
        return None
    host, data = str(problem.settings.backbone), str(problem.data)
    effects = _from_atlas(host, data, problem.slots[0].dims)
    inside = {leaf.name for slot in problem.space.slots for each in slot.variants for leaf in each.leaves()}
    held = {name: [round(one.mean, 4), round(one.error, 4)] for name, one in effects.items() if name in inside}
    return {"host": host, "data": data, "effects": held} if held else None


def _from_atlas(host: str, data: str, dims: int) -> Mapping[str, Expected]:
    """Return what the atlas that ships with nasbench makes one expect. Nothing if it cannot be read."""
    try:
        return expected_effects(load_atlas(), host, data, dims)
    except DataError:  # a search needs no atlas
        return {}


def expected_of(problem: Problem, recorded: Mapping[str, Any] | None) -> dict[str, Expected]:
    """Return the expected effect of each module, from what `expectations_of` returned. Empty if it is not used."""
    if recorded is None or not problem.settings.atlas:
        return {}
    return {name: Expected(mean, error) for name, (mean, error) in recorded["effects"].items()}


def told(expected: Mapping[str, Expected]) -> str:
    """Return in a few words what is expected: of how many modules, and of which most."""
    if not expected:
        return "it has no module of this space, so it changes nothing"
    best = sorted((n for n, one in expected.items() if one.mean > 0), key=lambda n: (-expected[n].mean, n))[:3]
    first = f", and expects most of {', '.join(best)}" if best else ""
    return f"auto leans on its rows of {len(expected)} modules{first}; verdicts do not"
