"""Samplers: how the next plan of a search is proposed. All stand behind Optuna's sampler interface."""

from __future__ import annotations

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from nasbench.errors import UnknownNameError
from nasbench.study.samplers._base import PlanSampler
from nasbench.study.samplers.auto import AutoSampler
from nasbench.study.samplers.grid import GridSampler
from nasbench.study.samplers.history import History
from nasbench.study.samplers.knowledge import Knowledge
from nasbench.study.samplers.local import LocalSampler
from nasbench.study.samplers.seeding import FIRST_PLANS, initial_plans

__all__ = [
    "FIRST_PLANS",
    "AutoSampler",
    "GridSampler",
    "History",
    "Knowledge",
    "LocalSampler",
    "PlanSampler",
    "initial_plans",
    "make_sampler",
]

_OURS: dict[str, type[PlanSampler]] = {"auto": AutoSampler, "grid": GridSampler, "local": LocalSampler}

_STARTUP = 8
"""Random trials with which Optuna's model-based samplers begin; the first plans of a study count among them."""


def make_sampler(name: str, *, seed: int, number: int, knowledge: Knowledge) -> BaseSampler:
    """Return a sampler for one proposal.

    Args:
        name: auto, gp, tpe, nsga2, random, grid or local.
        seed: The study's seed.
        number: The trial's number: each proposal has a random stream of its own.
        knowledge: What is known of the space; one object for a whole search, it remembers what it read.

    Raises:
        UnknownNameError: If there is no such sampler.
    """
    if name in _OURS:
        return _OURS[name](knowledge, number)
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    if name == "random":
        return RandomSampler(seed=own)
    if name == "nsga2":
        return NSGAIISampler(population_size=16, seed=own)
    if name == "gp":
        return GPSampler(seed=own, n_startup_trials=_STARTUP)
    if name == "tpe":
        return TPESampler(seed=own, multivariate=True, n_startup_trials=_STARTUP)
    raise UnknownNameError("sampler", name, [*_OURS, "gp", "tpe", "nsga2", "random"])
