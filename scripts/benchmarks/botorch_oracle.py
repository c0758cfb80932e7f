"""BoTorch's qLogNEHVI on a landscape, as an oracle beside our samplers. BoTorch is no dependency of this project.

Source: Ament et al., "Unexpected improvements to expected improvement for Bayesian optimization", NeurIPS 2023,
arXiv:2310.20708.
"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch

from nasbench.backbones.slot_cache import slots_by_name
from nasbench.spaces import Space
from nasbench.study.samplers import initial_plans
from scripts.benchmarks.landscapes import BACKBONE, Landscape

POOL = 300
"""Number of plans among which the acquisition chooses. Half of them are neighbours of plans on the front."""

START = 10
"""Number of plans before the first model: those of every search, then uniform draws."""


def evaluated_by_botorch(drawn: Landscape, seed: int, trials: int) -> list[int]:
    """Return the numbers of the plans that a search by qLogNEHVI evaluates, in their order.

    Costs are modelled as logarithms. A bound is a constraint of the acquisition. Plans that fail are left out.
    """
    space = Space.from_dict(drawn.space).resolve(slots_by_name(BACKBONE, (3, 64, 64)))
    rng = random.Random(seed)
    every = len(drawn.choices) ** len(drawn.slots)
    chosen = [drawn.index(json.loads(plan.text)) for plan in initial_plans(space, lambda plan: {})]
    values: dict[int, list[float]] = {}
    while len(chosen) < trials:
        for at in [at for at in chosen if at not in values and not drawn.fails[at]]:
            values[at] = list(drawn.evaluate(_plan(at, drawn)).values())
        left = list({rng.randrange(every) for _ in range(POOL)} - set(chosen))
        chosen.append(left[0] if len(chosen) < START else _best(drawn, values, left, set(chosen), rng))
    return chosen


def _plan(at: int, drawn: Landscape) -> dict[str, str]:
    digits = np.unravel_index(at, (len(drawn.choices),) * len(drawn.slots))
    return {slot: drawn.choices[int(d)] for slot, d in zip(drawn.slots, digits, strict=True) if d}


def _encoded(plans: list[int], drawn: Landscape) -> torch.Tensor:
    digits = np.stack(np.unravel_index(plans, (len(drawn.choices),) * len(drawn.slots)), axis=1)
    return torch.tensor(np.eye(len(drawn.choices))[digits].reshape(len(plans), -1), dtype=torch.double)


def _best(drawn: Landscape, values: dict[int, list[float]], left: list[int], seen: set[int], rng: random.Random) -> int:
    """Return the plan of a pool with the largest acquisition."""
    from botorch import fit_gpytorch_mll
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective.pareto import is_non_dominated
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(rng.randrange(2**31))
    x, y = _encoded(list(values), drawn), torch.tensor(list(values.values()), dtype=torch.double)
    y = torch.cat([y[:, :1], -torch.log(y[:, 1:])], dim=1)
    models = [SingleTaskGP(x, y[:, [i]], outcome_transform=Standardize(1)) for i in range(y.shape[1])]
    model = ModelListGP(*models)
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    more: dict[str, Any] = {}
    if drawn.bounds:
        limit = -float(np.log(float(drawn.bounds[0].split("<=")[1])))
        more["constraints"] = [lambda samples: limit - samples[..., 1]]
    acquisition = qLogNoisyExpectedHypervolumeImprovement(
        model=model, ref_point=(y.min(dim=0).values - 0.1 * (y.max(dim=0).values - y.min(dim=0).values)).tolist(),
        X_baseline=x, prune_baseline=True, sampler=SobolQMCNormalSampler(torch.Size([64])),
        objective=IdentityMCMultiOutputObjective(outcomes=list(range(y.shape[1]))), **more,
    )  # fmt: skip
    front = [at for at, best in zip(values, is_non_dominated(y).tolist(), strict=True) if best]
    pool = set(left[: POOL // 2])
    while len(pool) < POOL:
        digits = list(np.unravel_index(rng.choice(front), (len(drawn.choices),) * len(drawn.slots)))
        digits[rng.randrange(len(drawn.slots))] = np.intp(rng.randrange(len(drawn.choices)))
        near = int(np.ravel_multi_index(digits, (len(drawn.choices),) * len(drawn.slots)))
        pool |= {near} - seen if rng.random() < 0.9 else {rng.randrange(len(drawn.choices) ** len(drawn.slots))} - seen
    plans = sorted(pool)
    with torch.no_grad():
        gains = torch.cat([acquisition(part.unsqueeze(1)) for part in _encoded(plans, drawn).split(100)])
    return plans[int(gains.argmax())]
