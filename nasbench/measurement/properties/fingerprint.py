"""Measure the five properties of a module: which positions it mixes, and how its cost grows with their number.

For `y = f(x)` on a grid, the influence of position v on position u is `‖∂y_u/∂x_v‖` (Frobenius norm over channels),
divided by its sum over v. The influence of the positions v ≠ u is called off-self influence: only this mixes positions.
Distances are Chebyshev distances.
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
"""Sizes of the maps in the cost curve, as multiples of the given size in each dimension."""

_EXACT_ROWS, _EXACT_WORK = 4096, 4e9
"""The whole Jacobian is computed if it has at most this many rows and takes at most this many operations.

This takes up to two seconds on one core."""

_POSITIONS, _PROBES = 24, 8
"""Number of output positions of an estimate, and of random cotangents for each. If the output has at most as many
channels as cotangents, one cotangent for each channel is taken instead."""


_MOST_POSITIONS = 2**22
"""Largest number of positions of a fingerprint, such as 2048x2048. Its map alone has gigabytes at a few hundred
channels."""

_MOST_EXACT = 2**14
"""Largest number of positions of a whole Jacobian, such as 128x128. Its size grows with the square of this number."""


@dataclass(frozen=True)
class CostPoint:
    """The cost of a module for one item at one number of positions.

    Attributes:
        positions: Number of positions N.
        macs: Number of multiply-adds of contractions.
        elementwise_flops: Number of all other arithmetic operations.
    """

    positions: int
    macs: int
    elementwise_flops: int


@dataclass(frozen=True)
class Fingerprint:
    """The five properties of a module, at one size.

    Attributes:
        name: Class name, registry name or canonical expression.
        size: Spatial size: `(H, W)`, or `(L,)` for a sequence of length L.
        channels: Number of channels.
        locality: Share of the off-self influence within distance 1. None for a pointwise module.
        globality: Mean distance of the off-self influence, divided by the mean distance of a uniform influence. 0 for a
            pointwise module.
        sparsity: Share of the other positions in the reach that are negligible. A position is negligible if its
            influence is below 1 % of the largest off-self influence on the same output position. The reach is the
            smallest box around the output position and the positions that are not negligible. None for a pointwise
            module.
        multiscale: How evenly the influence is spread over the octave rings of the reach. 1 means that all rings have
            the same share, and 0 means no more evenly than with a uniform map. None for a pointwise module, and if a
            uniform map has the same share in all rings already, for example if the reach has only one ring.
        complexity: Exponent with which `macs + elementwise_flops` grows with the number of positions, fitted over
            several sizes. 0 if the module costs nothing. None if it could be counted at one size only, or if it costs
            nothing at only some of the sizes.
        self_influence: Mean influence of a position on itself.
        macs: Number of multiply-adds for one item at `size`.
        elementwise_flops: Number of all other arithmetic operations for one item at `size`.
        params: Number of parameters.
        exact: Whether every row of the Jacobian was computed, with all channels.
        error: Standard error of each spatial property and of `self_influence`, over the draws of input and
            initialisation. If `exact` is False, it is at least the error that comes from the choice of the positions.
            Empty for one exact draw.
        profile: Share of the off-self influence in each octave ring around the position. Ring r holds the distances d
            with ⌊log2 d⌋ = r.
        uniform_profile: The same shares for a uniform map.
        influence: Influence of each position on the centre position, of shape `size`. It sums to 1.
        cost_curve: Cost at several sizes, with the smallest first.
        notes: Other facts that a reader should know, for example that gates were opened, that control flow depends on
            data, or that costs are lower bounds.
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
        """Number of multiply-adds for each position at `size`."""
        return self.macs / self.positions

    @property
    def params_per_position(self) -> float:
        """Number of parameters for each position at `size`."""
        return self.params / self.positions

    @property
    def pointwise(self) -> bool:
        """Whether the module mixes no positions, which means that less than 1 % of the influence is off-self."""
        return self.globality == 0 and self.locality is None

    def to_dict(self) -> dict[str, Any]:
        """Return the fingerprint as JSON-serialisable data."""
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
        module: A registry name, an expression, a class that is built from `channels`, or a module, trained or not,
            which is measured as it is. In a module that is built here, gates that start at 0 are set to 1. A fusion
            gets two independent maps. A neck gets one map and pooled copies of it.
        size: `(H, W)`, or `(L,)` for a sequence of length L. None means (16, 16), or (64,) in one dimension.
        channels: Number of channels of the map.
        dims: Number of spatial dimensions, 1 or 2, if `size` is not given. None means 2 if the module supports it, and
            otherwise 1.
        seed: Seed of the inputs and, if the module is built here, of its initialisation.
        inputs: Number of random inputs. If the module is built here, it is initialised anew for each of them.
        exact: Whether to compute the whole Jacobian instead of estimating it from random positions and cotangents. None
            means that it is computed if this takes at most about two seconds, and never for a neck.

    Raises:
        UnknownNameError: If there is no module of this name.
        UnsupportedError: If the module cannot be built for these channels and dims.
        InputError: If the module fails on such a map, returns a map of another shape, or has derivatives that are not
            finite.

    Example:
        >>> import nasbench as nb
        >>> round(nb.fingerprint("self_attention", size=(8, 8)).globality, 1)
        1.0
    """
    if inputs < 1:
        raise InputError(f"inputs={inputs}: at least one random input is needed")
    subject = subject_of(module, size, channels, dims)
    _check_positions(subject.size, exact)
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


def _check_positions(size: tuple[int, ...], exact: bool | None) -> None:
    positions, most = math.prod(size), _MOST_EXACT if exact else _MOST_POSITIONS
    if positions > most:
        how = "a whole Jacobian" if exact else "a fingerprint"
        text = "x".join(map(str, size))
        raise InputError(f"size {text} has {positions:,} positions; {how} is measured at no more than {most:,}")


def fingerprint_plan(model: nn.Module, **options: Any) -> dict[str, Fingerprint]:
    """Fingerprint the modules that a plan put into a model, slot by slot, with their present weights.

    Each module is measured with the channels and the size of its slot. A slot with a single position is left out,
    because there is nothing to mix.

    Args:
        model: A model from `insert` or `run.build(trial)`.
        options: The options `seed`, `inputs` and `exact` of `fingerprint`.

    Returns:
        The fingerprints, by the name of the slot.

    Raises:
        InputError: If the model contains no plan, or a module cannot be measured.
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

    A row whose off-self influence is below 1 % of its influence (`POINTWISE`) has no locality, globality, sparsity or
    multi-scale behaviour. Such rows are left out of these four properties. So are draws that have only such rows, for
    instance because a gate is closed. But these rows count in `self_influence`, which decides whether the module is
    pointwise.

    Args:
        draws: The rows of each draw.
        sampled: Whether the rows are a sample of the positions. If so, the error is at least the one that comes from
            the spread of the rows within the draws.
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
    """Return whether the whole Jacobian can be computed within about two seconds."""
    # Reverse mode takes one pass for each output element, so the work is the number of elements times the cost of a
    # pass.
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
    module = module.eval().requires_grad_(False)  # only the derivatives with respect to the input are needed
    state = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    if state.is_meta:
        raise InputError(f"{subject.name} is on the meta device; influence needs real weights")
    dtype = torch.float64 if state.dtype == torch.float64 else torch.float32
    module = module.to(dtype)
    x = torch.randn(1, subject.maps * subject.channels, *subject.size).to(state.device, dtype).requires_grad_()
    y = run(module, x, subject)
    # The last row is always for the centre position. It gives the influence map, and the property values do not use it.
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
    """Return the mean and standard error of each column. Each draw is a table of rows, which can contain NaN.

    The standard error comes from the spread of the draws' means. If the rows are sampled and their spread within the
    draws gives a larger error, that error is used, because a few draws may agree by chance.
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

    A size at which the module fails is left out. If it fails at the given size, an error is raised.
    """
    counts: dict[int, Count] = {}
    refused = ""
    for factor in _CURVE:
        size = [max(1, round(s * factor)) for s in subject.size]
        try:
            counts[math.prod(size)] = count(module, torch.empty(1, subject.maps * subject.channels, *size))
        except InputError as error:
            if factor == 1:  # without the cost at the given size there is no fingerprint
                # This run fails with a clearer message.
                run(module.eval(), torch.randn(1, subject.maps * subject.channels, *size), subject)
                raise
            refused = f"not counted at {'x'.join(map(str, size))}: {error}"
    here = counts[math.prod(subject.size)]
    notes = [*here.notes, refused] if refused else list(here.notes)
    if not here.exact:
        notes.append(f"costs are a lower bound: no formula for {', '.join(here.unknown_ops)}")
    curve = tuple(CostPoint(n, c.macs, c.elementwise_flops) for n, c in sorted(counts.items()))
    return curve, here, tuple(notes)


def _exponent(curve: Sequence[CostPoint]) -> float | None:
    """Return the slope of log(cost) over log(number of positions), by least squares.

    It is 0 if the module costs nothing, and None if there are not enough sizes.
    """
    cost = np.array([point.macs + point.elementwise_flops for point in curve], dtype=float)
    if not cost.any():  # the logarithm of zero has no slope
        return 0.0
    if len(curve) < 2 or not cost.all():
        return None
    slope, _ = np.polyfit(np.log([point.positions for point in curve]), np.log(cost), 1)
    return float(slope)
