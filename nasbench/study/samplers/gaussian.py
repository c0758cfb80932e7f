"""Gaussian process regression on given kernels: their weights, a length and the noise are found by maximum likelihood.

The covariance is a weighted sum of kernels that are linear in blocks of features, and of one Matérn-5/2 kernel on the
distance over all of them, for interactions. The hyper-parameters maximise the marginal likelihood times a log-normal
prior (type II maximum a posteriori), so that a handful of points gives a sober answer.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, equations 2.25, 2.26, 5.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

__all__ = ["Gaussian", "Hyper", "fit"]

FloatArray = NDArray[np.float64]

_SPREAD = 1.5
"""Standard deviation of the prior on each log hyper-parameter."""

_MAX_STEPS = 25

_JITTER = (1e-8, 1e-6, 1e-4, 1e-2)
"""Added to the diagonal, in units of its mean, until the covariance can be factored."""


@dataclass(frozen=True)
class Hyper:
    """Hyper-parameters, for targets scaled to unit variance.

    Attributes:
        weights: Variance of each linear block.
        interaction: Variance of the Matérn kernel.
        length: Its length, in units of the distance of two plans drawn at random.
        noise: Variance of the noise.
    """

    weights: tuple[float, ...]
    interaction: float = 0.3
    length: float = 1.0
    noise: float = 0.1

    def to_logs(self) -> FloatArray:
        """Return them as the optimiser sees them."""
        return np.log([*self.weights, self.interaction, self.length, self.noise])

    @classmethod
    def of_logs(cls, logs: FloatArray) -> Hyper:
        """The inverse of `to_logs`."""
        *weights, interaction, length, noise = np.exp(logs)
        return cls(tuple(float(w) for w in weights), float(interaction), float(length), float(noise))


@dataclass(frozen=True)
class Gaussian:
    """A fitted process.

    Attributes:
        blocks: Features of the points it was fitted to, `(n, d)` each, one a linear kernel.
        hyper: The hyper-parameters in use.
        center: Mean of the targets.
        scale: Their standard deviation; 1 where all are equal.
        factor: Lower Cholesky factor of the covariance, `(n, n)`.
        alpha: The covariance's inverse times the scaled targets, `(n,)`.
    """

    blocks: tuple[FloatArray, ...]
    hyper: Hyper
    center: float
    scale: float
    factor: FloatArray
    alpha: FloatArray

    def predict(self, blocks: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the noise-free target at new points.

        Args:
            blocks: Their features, `(m, d)` each, as those it was fitted to.
        """
        grams = [a @ b.T for a, b in zip(blocks, self.blocks, strict=True)]
        squares = [_squares(block) for block in blocks]
        distance = _squared_distance(grams, squares, [_squares(block) for block in self.blocks])
        cross = _covariance(self.hyper, grams, distance)
        prior = sum((w * s for w, s in zip(self.hyper.weights, squares, strict=True)), np.zeros(len(cross)))
        solved = linalg.solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = prior + self.hyper.interaction - (solved**2).sum(axis=0)
        return self.center + self.scale * (cross @ self.alpha), self.scale * np.sqrt(np.maximum(variance, 1e-12))

    def extended(self, blocks: Sequence[FloatArray], targets: FloatArray) -> Gaussian:
        """Return the process with further points, on the same scale and hyper-parameters.

        Args:
            blocks: Their features.
            targets: Their targets, `(m,)`.
        """
        known = self.center + self.scale * (self.factor @ (self.factor.T @ self.alpha))
        joined = tuple(np.concatenate([old, new]) for old, new in zip(self.blocks, blocks, strict=True))
        return _solved(joined, np.concatenate([known, targets]), self.hyper, self.center, self.scale)


def fit(blocks: Sequence[FloatArray], targets: FloatArray, start: Hyper, *, optimise: bool = True) -> Gaussian:
    """Fit a process.

    Args:
        blocks: Features of n points, `(n, d)` each.
        targets: `(n,)`, finite.
        start: The centre of the prior; the hyper-parameters used where `optimise` is False or the optimiser fails.
        optimise: Look for better hyper-parameters.
    """
    blocks = tuple(np.asarray(block, dtype=float) for block in blocks)
    center, scale = float(np.mean(targets)), float(np.std(targets))
    if not scale > 1e-12 * max(1.0, abs(center)):
        scale, optimise = 1.0, False
    scaled = (np.asarray(targets, dtype=float) - center) / scale
    grams = [block @ block.T for block in blocks]
    squares = [np.diag(gram) for gram in grams]
    hyper = start
    if optimise and len(scaled) > 2:
        hyper = _optimised(grams, _squared_distance(grams, squares, squares), scaled, start)
    return _solved(blocks, targets, hyper, center, scale)


def _solved(blocks: tuple[FloatArray, ...], targets: FloatArray, hyper: Hyper, center: float, scale: float) -> Gaussian:
    grams = [block @ block.T for block in blocks]
    squares = [np.diag(gram) for gram in grams]
    covariance = _covariance(hyper, grams, _squared_distance(grams, squares, squares))
    factor = _factored(covariance + hyper.noise * np.eye(len(targets)))
    alpha = linalg.cho_solve((factor, True), (targets - center) / scale, check_finite=False)
    return Gaussian(blocks, hyper, center, scale, factor, alpha)


def negative_log_posterior(
    logs: FloatArray, grams: Sequence[FloatArray], distance: FloatArray, targets: FloatArray, start: FloatArray
) -> tuple[float, FloatArray]:
    """Return minus the log of marginal likelihood times prior, and its gradient in the log hyper-parameters."""
    hyper = Hyper.of_logs(logs)
    matern, by_length = _matern(distance, hyper.length)
    n = len(targets)
    covariance = hyper.interaction * matern + (hyper.noise + 1e-8) * np.eye(n)
    for weight, gram in zip(hyper.weights, grams, strict=True):
        covariance += weight * gram
    factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    inverse = _inverse(factor)
    alpha = inverse @ targets
    outer = np.outer(alpha, alpha) - inverse
    slopes = [*(w * gram for w, gram in zip(hyper.weights, grams, strict=True)),
              hyper.interaction * matern, hyper.interaction * by_length]  # fmt: skip
    gradient = [-0.5 * float(np.vdot(outer, slope)) for slope in slopes]
    gradient.append(-0.5 * hyper.noise * float(np.trace(outer)))
    value = 0.5 * float(targets @ alpha) + float(np.log(np.diag(factor)).sum())
    away = (logs - start) / _SPREAD
    return value + 0.5 * float(away @ away), np.array(gradient) + away / _SPREAD


def _optimised(grams: list[FloatArray], distance: FloatArray, targets: FloatArray, start: Hyper) -> Hyper:
    logs = start.to_logs()
    arguments: Any = (grams, distance, targets, logs)
    try:
        found = optimize.minimize(
            negative_log_posterior, logs, args=arguments, jac=True, method="L-BFGS-B",
            bounds=[(center - 6, center + 6) for center in logs], options={"maxiter": _MAX_STEPS},
        )  # fmt: skip
    except (linalg.LinAlgError, ValueError):
        return start
    return Hyper.of_logs(found.x) if np.isfinite(found.x).all() else start


def _covariance(hyper: Hyper, grams: Sequence[FloatArray], distance: FloatArray) -> FloatArray:
    total = hyper.interaction * _matern(distance, hyper.length)[0]
    for weight, gram in zip(hyper.weights, grams, strict=True):
        total += weight * gram
    return total


def _matern(squared: FloatArray, length: float) -> tuple[FloatArray, FloatArray]:
    """Return the Matérn-5/2 kernel of squared distances, and its slope in the log of the length."""
    r = np.sqrt(5.0 * squared) / length
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, r * r * (1.0 + r) / 3.0 * decay


def _squares(block: FloatArray) -> FloatArray:
    return np.einsum("ij,ij->i", block, block)


def _squared_distance(
    grams: Sequence[FloatArray], left: Sequence[FloatArray], right: Sequence[FloatArray]
) -> FloatArray:
    """Return squared distances over all blocks, in units of that of two plans drawn at random (2 a block)."""
    total = sum((a[:, None] + b[None, :] - 2.0 * gram for gram, a, b in zip(grams, left, right, strict=True)),
                np.zeros_like(grams[0]))  # fmt: skip
    return np.maximum(total / (2.0 * len(grams)), 0.0)


def _inverse(factor: FloatArray) -> FloatArray:
    """Return the inverse of a matrix from its lower Cholesky factor, at half the price of solving for it."""
    lower, failed = linalg.lapack.dpotri(factor, lower=1)
    if failed:
        raise linalg.LinAlgError("the covariance is singular")
    return np.tril(lower) + np.tril(lower, -1).T


def _factored(covariance: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor, of the matrix with as little added to its diagonal as it takes."""
    mean = float(np.mean(np.diag(covariance))) or 1.0
    for jitter in _JITTER:
        try:
            return linalg.cholesky(covariance + jitter * mean * np.eye(len(covariance)), lower=True, check_finite=False)
        except linalg.LinAlgError:
            continue
    raise linalg.LinAlgError("the covariance of the plans cannot be factored")
