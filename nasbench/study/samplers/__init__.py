"""Samplers propose the next plan of a search. All implement Optuna's sampler interface."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler

from nasbench.errors import UnknownNameError
from nasbench.runs.settings import SAMPLERS
from nasbench.study.samplers._base import PlanSampler
from nasbench.study.samplers.auto import AutoSampler
from nasbench.study.samplers.grid import GridSampler
from nasbench.study.samplers.history import History
from nasbench.study.samplers.knowledge import Knowledge
from nasbench.study.samplers.local import LocalSampler
from nasbench.study.samplers.seeding import FIRST_PLANS, initial_plans
from nasbench.study.samplers.uniform import UniformSampler

__all__ = [
    "FIRST_PLANS",
    "AutoSampler",
    "GridSampler",
    "History",
    "Knowledge",
    "LocalSampler",
    "PlanSampler",
    "UniformSampler",
    "initial_plans",
    "make_sampler",
]

_STARTUP = 8
"""Number of trials before Optuna's model-based samplers use a model. The first plans of a study are among them."""

_MAKERS: dict[str, Callable[[Knowledge, int, int], BaseSampler]] = {
    "auto": lambda knowledge, number, _: AutoSampler(knowledge, number),
    "gp": lambda _, __, own: GPSampler(seed=own, n_startup_trials=_STARTUP),
    "tpe": lambda _, __, own: TPESampler(seed=own, multivariate=True, n_startup_trials=_STARTUP),
    "nsga2": lambda _, __, own: NSGAIISampler(population_size=16, seed=own),
    "random": lambda knowledge, number, _: UniformSampler(knowledge, number),
    "grid": lambda knowledge, number, _: GridSampler(knowledge, number),
    "local": lambda knowledge, number, _: LocalSampler(knowledge, number),
}
"""For each of `SAMPLERS`, a function that creates it from the knowledge of the space, the trial's number and a seed."""


def make_sampler(name: str, *, seed: int, number: int, knowledge: Knowledge) -> BaseSampler:
    """Return a sampler for one proposal.

    Args:
        name: One of `nasbench.runs.settings.SAMPLERS`.
        seed: The study's seed.
        number: The trial's number. Each proposal has a random stream of its own.
        knowledge: The knowledge of the space. Use one object for a whole search, because it caches what it computes.

    Raises:
        UnknownNameError: If there is no such sampler.
    """
    if name not in _MAKERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    # a hash of seed and number: with seed + number, trial 1 of seed 0 and trial 0 of seed 1 would have the same stream
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    return _MAKERS[name](knowledge, number, own)
