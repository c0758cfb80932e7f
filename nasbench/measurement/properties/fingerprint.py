"""Measure the five properties of a module: which positions it mixes, and how its cost grows with their number.

For `y = f(x)` on a grid, the influence of position v on position u is `‖∂y_u/∂x_v‖` (Frobenius norm over channels),
divided by its sum over v. The part with v ≠ u is called off-self influence: only this part mixes positions. Distances
are Chebyshev distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench.backbones.insertion import plan_of, plugins_of, slots_of
from nasbench.errors import InputError
from nasbench.measurement.costs.macs import Count, count
from nasbench.measurement.costs.shadow import rng_kept
from nasbench.measurement.properties.influence import influence_rows
from nasbench.measurement.properties.rings import POINTWISE, SPATIAL, RowFigures, row_figures
from nasbench.measurement.properties.subject import OPENED, Subject, open_gates, run, subject_of

__all__ = ["CostPoint", "Fingerprint", "fingerprint", "fingerprint_plan", "summarise"]

_CURVE = (0.5, 1, 2, 4)
"""Sizes of the cost curve, as multiples of the given size in each dimension."""

_EXACT_ROWS, _EXACT_WORK = 4096, 4e9
"""A Jacobian is computed whole if it has at most so many rows and takes at most so many operations.

That is up to two seconds on a core."""

_POSITIONS, _PROBES = 24, 8
"""Output positions of an estimate, and random cotangents for each. If there are fewer channels, all are taken."""


@dataclass(frozen=True)
class CostPoint:
    """The cost of a module for one item at one number of positions.

    Attributes:
        positions: Number of positions N.
        macs: Multiply-adds of contractions.
        elementwise_flops: All other arithmetic.
    """

    positions: int
    macs: int
    elementwise_flops: int


@dataclass(frozen=True)
class Fingerprint:
    """The five properties of a module, at one size.

    Attributes:
        name: Class name, registry name or canonical expression.
        size: Spatial size, `(L,)` or `(H, W)`.
        channels: Number of channels.
        locality: Share of the off-self influence within distance 1. None for a pointwise module.
        globality: Mean distance of the off-self influence, divided by that of a uniform influence. 0 for a pointwise
            module.
        sparsity: Share of negligible positions in the reach. Negligible means below 1 % of the row's largest influence.
            The reach is the smallest box around the other positions. None for a pointwise module.
        multiscale: How evenly the influence is spread over the octave rings of the reach. 0 means no more evenly than
            by a uniform map, 1 means equally. None for a pointwise module, and if the reach has one ring.
        complexity: Fitted exponent of `macs + elementwise_flops` in the number of positions. None if the module could
            be counted at one size only.
        self_influence: Mean influence of a position on itself.
        macs: Multiply-adds for one item at `size`.
        elementwise_flops: All other arithmetic for one item at `size`.
        params: Number of parameters.
        exact: Whether every row of the Jacobian was computed, with all channels.
        error: Standard error of each spatial property and of `self_influence`, over draws of input and initialisation.
            If not exact, over positions too. Empty for one exact draw.
        profile: Share of the off-self influence in each octave ring. Ring r holds the distances d with ⌊log2 d⌋ = r.
        uniform_profile: The same for a uniform map.
        influence: Influence on the centre position, of shape `size`. It sums to 1.
        cost_curve: Cost at several sizes, the smallest first.
        notes: What else a reader should know: opened gates, control flow that depends on data, costs that are a
            lower bound.
    """

    name: str
    size: tuple[int, ...]
    channels: int
    locality: float | None
    globality: float | None
    sparsity: float | None
    multiscale: float | None
    complexity: float | None
    self_influence: float | None
    macs: int
    elementwise_flops: int
    params: int
    exact: bool
    error: Mapping[str, float] = field(default_factory=dict)
    profile: tuple[float, ...] = ()
    uniform_profile: tuple[float, ...] = ()
    influence: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    cost_curve: tuple[CostPoint, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def positions(self) -> int:
        """Number of positions of the map, at `size`."""
        return math.prod(self.size)

    @property
    def macs_per_position(self) -> float:
        """Multiply-adds for each position at `size`."""
        return self.macs / self.positions

    @property
    def params_per_position(self) -> float:
        """Parameters for each position at `size`."""
        return self.params / self.positions

    @property
    def pointwise(self) -> bool:
        """Whether the module does not mix positions: less than 1 % of the influence is off-self."""
        return self.globality == 0 and self.locality is None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        row = {each.name: getattr(self, each.name) for each in fields(self)}
        row["influence"] = self.influence.tolist()
        row["cost_curve"] = [vars(point) for point in self.cost_curve]
        row["error"] = dict(self.error)
        derived = ("macs_per_position", "params_per_position", "pointwise")
        return row | {name: getattr(self, name) for name in derived}


def fingerprint(
    module: str | nn.Module | type,
    *,
    size: Sequence[int] | None = None,
    channels: int = 8,
    dims: int | None = None,
    seed: int = 0,
    inputs: int = 3,
    exact: bool | None = None,
) -> Fingerprint:
    """Measure the five properties of a module, in evaluation mode on standard normal maps.

    Args:
        module: A registry name, an expression, a class that is built from `channels`, or a module as it is, trained or
            not. A fusion gets two independent maps. A neck gets one map and pooled copies of it.
        size: `(H, W)` or `(L,)`. By default (16, 16), or (64,) in one dimension.
        channels: Channels of the map.
        dims: Spatial dimensions, 1 or 2, if `size` is not given. By default 2 if the module serves it, else 1.
        seed: Seed of the inputs and, if the module is built here, of its initialisation.
        inputs: Number of random inputs. If the module is built here, each has a new initialisation.
        exact: Whether to compute the whole Jacobian, or to estimate it from random positions and cotangents. By default
            it is exact if that takes about a second.

    Raises:
        UnknownNameError: If a module of that name does not exist.
        UnsupportedError: If the module cannot be built for these channels and dims.
        InputError: If the module fails on such a map, changes its shape, or has derivatives that are not finite.

    Example:
        >>> import nasbench as nb
        >>> round(nb.fingerprint("self_attention", size=(8, 8)).globality, 1)
        1.0
    """
    if inputs < 1:
        raise InputError(f"inputs={inputs}: at least one random input is needed")
    subject = subject_of(module, size, channels, dims)
    with rng_kept(torch.device("cpu")):
        torch.manual_seed(seed)
        first = subject.make()
        curve, cost, notes = _costs(first, subject)
        whole = _affordable(subject, cost) if exact is None else exact
        draws = [_draw(subject, seed + number, whole) for number in range(inputs)]
    opened = (OPENED,) if any(draw.opened for draw in draws) else ()
    figures, error, still = summarise([draw.figures for draw in draws], sampled=not whole)
    centre = torch.stack([draw.centre for draw in draws]).mean(0)
    return Fingerprint(
        name=subject.name,
        size=subject.size,
        channels=channels,
        **figures,
        complexity=_exponent(curve),
        macs=cost.macs,
        elementwise_flops=cost.elementwise_flops,
        params=sum(p.numel() for p in first.parameters()),
        exact=whole,
        error=error,
        profile=_mean_rings([draw.figures.rings for draw in draws]),
        uniform_profile=_mean_rings([draw.figures.even for draw in draws]),
        influence=centre.reshape(subject.size).numpy(),
        cost_curve=curve,
        notes=(*subject.notes, *opened, *notes, *still),
    )


def fingerprint_plan(model: nn.Module, **options: Any) -> dict[str, Fingerprint]:
    """Fingerprint the modules that a plan put into a model, slot by slot, with their present weights.

    Each is measured at its slot's channels and size. A slot of a single position is left out, because nothing can mix
    there.

    Args:
        model: A model from `insert` or `run.build(trial)`.
        options: The options `seed`, `inputs` and `exact` of `fingerprint`.

    Returns:
        Fingerprints by name of the slot.

    Raises:
        InputError: If there is no plan in the model, or a module cannot be measured.
    """
    plan = plan_of(model)
    if plan.is_bare:
        raise InputError(f"there is no plan in this {type(model).__name__}; insert one with nasbench.insert")
    plugins, fingerprints = plugins_of(model), {}
    for slot in slots_of(model):
        if slot.name in plugins and math.prod(slot.size) > 1:
            figures = fingerprint(plugins[slot.name], size=slot.size, channels=slot.channels, **options)
            fingerprints[slot.name] = replace(figures, name=plan[slot.name].canonical())
    return fingerprints


def summarise(
    draws: Sequence[RowFigures], *, sampled: bool
) -> tuple[dict[str, float | None], dict[str, float], tuple[str, ...]]:
    """Return property values, their standard errors, and notes, from the rows of independent draws.

    A row without off-self influence has no locality, globality, sparsity or multi-scale. Such rows are left out of
    these four properties, and so are draws that have no other rows, for instance because a gate is closed. They do
    count in `self_influence`, which decides whether the module is pointwise.

    Args:
        draws: The rows of each draw.
        sampled: Whether the rows are a sample of the positions. Then their spread is a source of error too.
    """
    own = [draw.self_influence.nanmean() for draw in draws]
    mean_self, self_error = _mean_and_error([draw.self_influence[:, None] for draw in draws], sampled)
    figures: dict[str, float | None] = dict.fromkeys(SPATIAL)
    if all(value.isnan() for value in own):
        return {**figures, "self_influence": None}, {}, ("no derivative of its output reaches its input",)
    figures["self_influence"] = float(mean_self[0])
    error = {"self_influence": float(self_error[0])}
    if 1 - mean_self[0] < POINTWISE:
        figures["globality"] = 0.0
    else:
        means, errors = _mean_and_error([draw.figures for draw in draws], sampled)
        figures |= {name: None if v.isnan() else float(v) for name, v in zip(SPATIAL, means, strict=True)}
        error |= {name: float(e) for name, e in zip(SPATIAL, errors, strict=True) if figures[name] is not None}
    return figures, {name: value for name, value in error.items() if math.isfinite(value)}, ()


def _affordable(subject: Subject, cost: Count) -> bool:
    """Whether the whole Jacobian takes about a second."""
    # Reverse mode takes one pass for each output element, so the work is that number times the cost of a pass.
    rows = subject.channels * math.prod(subject.size)
    work = rows * (cost.macs + cost.elementwise_flops)
    return subject.keeps_channels and rows <= _EXACT_ROWS and work <= _EXACT_WORK


@dataclass(frozen=True)
class _Draw:
    figures: RowFigures
    centre: Tensor
    opened: bool


def _draw(subject: Subject, seed: int, exact: bool) -> _Draw:
    """Measure one initialisation on one random input."""
    torch.manual_seed(seed)
    module = subject.make()
    opened = subject.fresh and open_gates(module)
    module = module.eval().requires_grad_(False)  # derivatives by the input alone are needed
    state = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    if state.is_meta:
        raise InputError(f"{subject.name} is on the meta device; influence needs real weights")
    dtype = torch.float64 if state.dtype == torch.float64 else torch.float32
    module = module.to(dtype)
    x = torch.randn(1, subject.maps * subject.channels, *subject.size).to(state.device, dtype).requires_grad_()
    y = run(module, x, subject)
    # The last row is always that of the centre. It gives the influence map and is not used for the property values.
    positions = list(range(math.prod(subject.size)))
    if not exact:
        positions = torch.randperm(len(positions))[:_POSITIONS].tolist()
    probes = None if exact or y.shape[1] <= _PROBES else _PROBES
    centre = _centre(subject.size)
    if y.requires_grad:  # False if no operation connects the output to the input
        rows = influence_rows(y, x, [*positions, centre], probes=probes).cpu()
    else:
        rows = torch.zeros(len(positions) + 1, math.prod(subject.size), dtype=torch.float64)
    if not rows.isfinite().all():
        raise InputError(f"{subject.name} has derivatives that are NaN or infinite on a standard normal map")
    middle = rows[-1] / rows[-1].sum().clamp(min=torch.finfo(torch.float64).tiny)
    return _Draw(row_figures(rows[:-1], positions, subject.size), middle, opened)


def _centre(size: Sequence[int]) -> int:
    flat = 0
    for side in size:
        flat = flat * side + side // 2
    return flat


def _mean_and_error(draws: Sequence[Tensor], sampled: bool) -> tuple[Tensor, Tensor]:
    """Return mean and standard error of each column of `(R, K)` rows with NaN in them.

    The error is that of the draws' means, or that of the rows within the draws if it is larger. A few draws may agree
    by chance.
    """
    means = torch.stack([rows.nanmean(0) for rows in draws])
    kept = ~means.isnan()
    mean, count = means.nanmean(0), kept.sum(0)
    between = torch.where(kept, (means - mean).square(), 0).sum(0) / (count - 1) / count
    error = torch.where(count > 1, between.sqrt(), torch.nan)
    if not sampled:
        return mean, error
    within = torch.stack([(rows - rows.nanmean(0)).square().nanmean(0) / rows.isfinite().sum(0) for rows in draws])
    return mean, torch.fmax(error, within.nansum(0).sqrt() / count)


def _mean_rings(draws: Sequence[Tensor]) -> tuple[float, ...]:
    rings = torch.cat(list(draws)).nanmean(0)
    return tuple(rings.nan_to_num().tolist())


def _costs(module: nn.Module, subject: Subject) -> tuple[tuple[CostPoint, ...], Count, tuple[str, ...]]:
    """Count a module at several sizes.

    A size at which the module fails is left out, unless it is the given size.
    """
    counts: dict[int, Count] = {}
    refused = ""
    for factor in _CURVE:
        size = [max(1, round(s * factor)) for s in subject.size]
        try:
            counts[math.prod(size)] = count(module, torch.empty(1, subject.maps * subject.channels, *size))
        except InputError as error:
            if factor == 1:  # without the cost at the given size there is no fingerprint
                run(
                    module.eval(), torch.randn(1, subject.maps * subject.channels, *size), subject
                )  # fails with a clearer message
                raise
            refused = f"not counted at {'x'.join(map(str, size))}: {error}"
    here = counts[math.prod(subject.size)]
    notes = [*here.notes, refused] if refused else list(here.notes)
    if not here.exact:
        notes.append(f"costs are a lower bound: no formula for {', '.join(here.unknown_ops)}")
    curve = tuple(CostPoint(n, c.macs, c.elementwise_flops) for n, c in sorted(counts.items()))
    return curve, here, tuple(notes)


def _exponent(curve: Sequence[CostPoint]) -> float | None:
    """Return the slope of log cost over log positions, by least squares. 0 if the module costs nothing."""
    cost = np.array([point.macs + point.elementwise_flops for point in curve], dtype=float)
    if not cost.any():  # the logarithm of zero has no slope
        return 0.0
    if len(curve) < 2 or not cost.all():
        return None
    slope, _ = np.polyfit(np.log([point.positions for point in curve]), np.log(cost), 1)
    return float(slope)
