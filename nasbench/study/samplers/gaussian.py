"""Gaussian process regression with fitted hyper-parameters: weights of the kernels, a length scale and the noise.

The covariance is a weighted sum of linear kernels, one for each block of features, and a Matérn-5/2 kernel. The Matérn
kernel depends on the distance over all blocks, and models interactions. The fitted hyper-parameters maximise the
marginal likelihood times a log-normal prior (type II maximum a posteriori). If there are few points, the prior prevents
overfitting.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, equations 2.25, 2.26, 5.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

__all__ = ["Gaussian", "Hyper", "Points", "Repeats", "fit"]

FloatArray = NDArray[np.float64]

_SPREAD = 1.5
"""The logarithm of each hyper-parameter has a normal prior with this standard deviation."""

_MAX_STEPS = 25

_JITTER = (1e-8, 1e-6, 1e-4, 1e-2)
"""Shares of the mean diagonal element. They are tried in this order as an addition to the diagonal of the covariance,
until it has a Cholesky factor."""


@dataclass(frozen=True)
class Hyper:
    """The hyper-parameters, for targets that are scaled to unit variance.

    Attributes:
        weights: Variance of the linear kernel of each block.
        interaction: Variance of the Matérn kernel.
        length: Length scale of the Matérn kernel, in units of the root mean square distance of two random plans.
        noise: Variance of the noise.
    """

    weights: tuple[float, ...]
    interaction: float = 0.3
    length: float = 1.0
    noise: float = 0.1

    def to_logs(self) -> FloatArray:
        """Return the logarithms of the hyper-parameters. The optimiser uses these, because they need no bound at 0."""
        return np.log([*self.weights, self.interaction, self.length, self.noise])

    @classmethod
    def of_logs(cls, logs: FloatArray) -> Hyper:
        """Return the hyper-parameters with these logarithms. It is the inverse of `to_logs`."""
        *weights, interaction, length, noise = np.exp(logs)
        return cls(tuple(float(w) for w in weights), float(interaction), float(length), float(noise))


class Points:
    """Features of points to which processes are fitted.

    Processes of several targets at the same points can share one object. What does not depend on hyper-parameters is
    then computed once for all of them.

    Args:
        blocks: Features of the n points, one block `(n, d)` for each linear kernel.
    """

    def __init__(self, blocks: Sequence[FloatArray]) -> None:
        self.blocks = tuple(np.asarray(block, dtype=float) for block in blocks)
        self._last: tuple[Sequence[FloatArray], FloatArray, FloatArray] | None = None
        self._joined: tuple[Sequence[FloatArray], Points] | None = None

    def products(self, others: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return inner products by block, `(blocks, m, n)`, and squared distances (`_squared_distance`), `(m, n)`.

        Args:
            others: Features of other points, `(m, d)` each. The result for the last ones is cached.
        """
        # the object is compared, not its contents; the stored reference keeps it alive, so no other can replace it
        if self._last is None or self._last[0] is not others:
            grams = np.empty((len(self.blocks), len(others[0]), len(self.blocks[0])))
            for gram, other, block in zip(grams, others, self.blocks, strict=True):
                np.matmul(other, block.T, out=gram)
            distance = _squared_distance(grams, [_squares(b) for b in others], [_squares(b) for b in self.blocks])
            self._last = others, grams, distance
        return self._last[1:]

    def with_more(self, others: Sequence[FloatArray]) -> Points:
        """Return these points and others after them. The result for the last ones is cached."""
        if self._joined is None or self._joined[0] is not others:
            both = [np.concatenate(pair) for pair in zip(self.blocks, others, strict=True)]
            self._joined = others, Points(both)
        return self._joined[1]


@dataclass(frozen=True)
class Repeats:
    """The targets of points that were observed several times. Each target is then a mean.

    Attributes:
        counts: Number of observations of each point, `(n,)`.
        squares: Sum of the squared differences of all observations from their means, on the scale of the targets.
        freedom: Degrees of freedom of this sum, the number of observations minus the number of points.
    """

    counts: FloatArray
    squares: float = 0.0
    freedom: float = 0.0

    @classmethod
    def none(cls, n: int) -> Repeats:
        """Return the repeats of points that were all observed once."""
        return cls(np.ones(n))


@dataclass(frozen=True)
class Gaussian:
    """A fitted Gaussian process.

    Attributes:
        points: The n fitted points.
        hyper: The hyper-parameters of the process.
        center: Mean of the targets.
        scale: Standard deviation of the targets. 1 if all targets are equal.
        factor: Lower Cholesky factor of the covariance of the targets of the fitted points, with noise, `(n, n)`.
        alpha: The inverse of this covariance times the centred and scaled targets, `(n,)`.
        counts: Number of observations of each fitted point, `(n,)`.
    """

    points: Points
    hyper: Hyper
    center: float
    scale: float
    factor: FloatArray
    alpha: FloatArray
    counts: FloatArray

    def mean(self, blocks: Sequence[FloatArray]) -> FloatArray:
        """Return the mean that `predict` returns, `(m,)`, in less time."""
        return self._mean(_covariance(self.hyper, blocks, self.points))

    def _mean(self, cross: FloatArray) -> FloatArray:
        return self.center + self.scale * (cross @ self.alpha)

    def predict(self, blocks: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the noise-free target at new points, `(m,)` each.

        Args:
            blocks: Features of the new points, `(m, d)` each, in the same blocks as the fitted points.
        """
        cross = _covariance(self.hyper, blocks, self.points)
        prior = np.zeros(len(cross))
        for weight, block in zip(self.hyper.weights, blocks, strict=True):
            prior += weight * _squares(block)
        # equations 2.25 and 2.26, solved with the triangular factor, without an inverse
        solved = linalg.solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = prior + self.hyper.interaction - (solved**2).sum(axis=0)
        # at a fitted point, rounding can make the variance slightly negative
        return self._mean(cross), self.scale * np.sqrt(np.maximum(variance, 1e-12))

    def extended(self, blocks: Sequence[FloatArray], targets: FloatArray) -> Gaussian:
        """Return the process conditioned on the fitted and further points, with the same scale and hyper-parameters.

        Args:
            blocks: Features of the further points, `(m, d)` each.
            targets: Targets of the further points, `(m,)`.
        """
        # the known targets are not stored: they are computed as the covariance times alpha
        known = self.center + self.scale * (self.factor @ (self.factor.T @ self.alpha))
        counts = np.concatenate([self.counts, np.ones(len(targets))])
        joined = self.points.with_more(blocks)
        return _solved(joined, np.concatenate([known, targets]), counts, self.hyper, self.center, self.scale)


def fit(
    blocks: Points | Sequence[FloatArray],
    targets: FloatArray,
    start: Hyper,
    *,
    optimise: bool = True,
    repeats: Repeats | None = None,
) -> Gaussian:
    """Fit a Gaussian process.

    Args:
        blocks: The n points, or their features, `(n, d)` each.
        targets: Targets of the points, `(n,)`, all finite.
        start: Centre of the prior. These are also the hyper-parameters if `optimise` is False, if the optimiser fails,
            if all targets are equal, or if there are fewer than three points.
        optimise: Whether to optimise the hyper-parameters.
        repeats: What is known of points that were observed several times. By default, all were observed once.
    """
    repeats = Repeats.none(len(targets)) if repeats is None else repeats
    points = blocks if isinstance(blocks, Points) else Points(blocks)
    center, scale = float(np.mean(targets)), float(np.std(targets))
    if not scale > 1e-12 * max(1.0, abs(center)):
        scale, optimise = 1.0, False  # constant targets contain no information about the hyper-parameters
    scaled = (np.asarray(targets, dtype=float) - center) / scale
    hyper = start
    if optimise and len(scaled) > 2:
        within = replace(repeats, squares=repeats.squares / scale**2)
        hyper = _optimised(*points.products(points.blocks), scaled, start, within)
    return _solved(points, targets, repeats.counts, hyper, center, scale)


def _solved(
    points: Points,
    targets: FloatArray,
    counts: FloatArray,
    hyper: Hyper,
    center: float,
    scale: float,
) -> Gaussian:
    covariance = _covariance(hyper, points.blocks, points)
    factor = _factored(covariance + np.diag(hyper.noise / counts))
    alpha = linalg.cho_solve((factor, True), (targets - center) / scale, check_finite=False)
    return Gaussian(points, hyper, center, scale, factor, alpha, counts)


def negative_log_posterior(
    logs: FloatArray,
    grams: FloatArray,
    distance: FloatArray,
    targets: FloatArray,
    start: FloatArray,
    repeats: Repeats | None = None,
) -> tuple[float, FloatArray]:
    """Return -log(marginal likelihood · prior), and its gradient with respect to the log hyper-parameters.

    Constant terms are left out. Source: equations 5.8 and 5.9. Repeated observations of a point contribute the
    likelihood of their mean, and that of the differences from it, which depends only on the noise.
    """
    hyper = Hyper.of_logs(logs)
    matern, by_length = _matern(distance, hyper.length), _matern_slope(distance, hyper.length)
    n = len(targets)
    repeats = Repeats.none(n) if repeats is None else repeats
    covariance = hyper.interaction * matern + np.diag(hyper.noise / repeats.counts + 1e-8)
    for weight, gram in zip(hyper.weights, grams, strict=True):
        covariance += weight * gram
    factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    inverse = _inverse(factor)
    alpha = inverse @ targets
    outer = np.outer(alpha, alpha) - inverse
    # dK / d log(w) = w * dK / dw = w * gram
    slopes = [*(w * gram for w, gram in zip(hyper.weights, grams, strict=True)),
              hyper.interaction * matern, hyper.interaction * by_length]  # fmt: skip
    # the trace of a product of two symmetric matrices is the sum of their elementwise product: n² instead of n³
    # operations
    gradient = [-0.5 * float(np.vdot(outer, slope)) for slope in slopes]
    within = repeats.squares / hyper.noise
    gradient.append(-0.5 * hyper.noise * float((np.diag(outer) / repeats.counts).sum()))
    gradient[-1] += 0.5 * (repeats.freedom - within)
    value = 0.5 * float(targets @ alpha) + float(np.log(np.diag(factor)).sum())
    value += 0.5 * (repeats.freedom * np.log(hyper.noise) + within)
    away = (logs - start) / _SPREAD
    return value + 0.5 * float(away @ away), np.array(gradient) + away / _SPREAD


def _optimised(grams: FloatArray, distance: FloatArray, targets: FloatArray, start: Hyper, repeats: Repeats) -> Hyper:
    logs = start.to_logs()
    arguments: Any = (grams, distance, targets, logs, repeats)
    try:
        optimum = optimize.minimize(
            negative_log_posterior, logs, args=arguments, jac=True, method="L-BFGS-B",
            bounds=[(center - 6, center + 6) for center in logs], options={"maxiter": _MAX_STEPS},
        )  # fmt: skip
    except (linalg.LinAlgError, ValueError):  # no Cholesky factor at some step: use the centre of the prior
        return start
    return Hyper.of_logs(optimum.x) if np.isfinite(optimum.x).all() else start


def _covariance(hyper: Hyper, blocks: Sequence[FloatArray], points: Points) -> FloatArray:
    """Return the covariances of m points, given their blocks, and n fitted points, `(m, n)`."""
    grams, distance = points.products(blocks)
    total = _matern(distance, hyper.length)
    total *= hyper.interaction
    # all linear kernels in one product
    total += (np.array(hyper.weights) @ grams.reshape(len(grams), -1)).reshape(total.shape)
    return total


def _matern(squared: FloatArray, length: float) -> FloatArray:
    """Return the Matérn-5/2 kernel of squared distances."""
    r = np.sqrt(squared) * (np.sqrt(5.0) / length)
    kernel = r * r
    kernel /= 3.0
    kernel += r
    kernel += 1.0
    kernel *= np.exp(np.negative(r, out=r), out=r)
    return kernel


def _matern_slope(squared: FloatArray, length: float) -> FloatArray:
    """Return the derivative of `_matern` with respect to log(length)."""
    r = np.sqrt(5.0 * squared) / length
    return r * r * (1.0 + r) / 3.0 * np.exp(-r)


def _squares(block: FloatArray) -> FloatArray:
    return np.einsum("ij,ij->i", block, block)


def _squared_distance(grams: FloatArray, left: Sequence[FloatArray], right: Sequence[FloatArray]) -> FloatArray:
    """Return the squared distances over all blocks, divided by their mean for two random plans (2 for each block)."""
    # |a - b|² is computed from the Gram matrices, which are known already. Rounding can make the result slightly
    # negative.
    total = grams.sum(axis=0)
    total *= -2.0
    total += np.sum(left, axis=0)[:, None]
    total += np.sum(right, axis=0)
    total /= 2.0 * len(grams)
    return np.maximum(total, 0.0, out=total)


def _inverse(factor: FloatArray) -> FloatArray:
    """Return the inverse of a matrix, given its lower Cholesky factor.

    This takes half the operations of solving a linear system for the identity.
    """
    lower, failed = linalg.lapack.dpotri(factor, lower=1)
    if failed:
        raise linalg.LinAlgError("the covariance is singular")
    return np.tril(lower) + np.tril(lower, -1).T  # LAPACK fills only the lower triangle


def _factored(covariance: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor of a covariance, with the smallest sufficient `_JITTER` on its diagonal."""
    mean = float(np.mean(np.diag(covariance))) or 1.0
    for jitter in _JITTER:
        try:
            return linalg.cholesky(covariance + jitter * mean * np.eye(len(covariance)), lower=True, check_finite=False)
        except linalg.LinAlgError:
            continue
    raise linalg.LinAlgError("the covariance of the plans cannot be factored")
