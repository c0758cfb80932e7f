"""The hierarchical model, against the mixture written out component by component, and by its properties."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from nasbench.evidence import hierarchy
from nasbench.evidence.hierarchy import posterior
from nasbench.evidence.noise import Noise
from nasbench.evidence.standing import Standing, standing
from nasbench.evidence.trainings import Trainings

CONTENTS = [
    [("stage1", "se"), ("stage2", "se")],
    [("stage1", "se"), ("stage2", "eca")],
    [("stage1", "eca"), ("stage1", "sk")],
    [("stage2", "sk")],
]
COUNTS = np.array([[0, 2, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=float)  # eca, se, sk
SAME_SLOT = np.array([[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], dtype=float)


def seen(difference, seeds=(1, 2, 3, 4), bare_seeds=3, variance=0.25, items=0.1):
    noise = Noise(variance, 10, item_variance=items, item_freedom=99)
    return Standing(np.array(difference, dtype=float), np.array(seeds), bare_seeds, noise)


def written_out(at, harmful):
    """The mixture as MEASURING.md gives it and a share for clear effects, one component at a time."""
    d, s2, of_items = at.difference, at.noise.seed_variance, at.noise.item_variance / 2
    around = np.diag(of_items + s2 / at.seeds) + of_items + s2 / at.bare_seeds
    components = [(0.10, np.zeros((4, 4)))]
    components += [(0.05 / 6, s2 * v**2 * np.outer(n, n)) for n in COUNTS.T for v in (1.5, 6)]
    components += [
        (share / 27, size**2 * s2 * (a**2 * COUNTS @ COUNTS.T + b**2 * SAME_SLOT + c**2 * np.eye(4)))
        for share, size in ((0.80, 1), (0.025, 4), (0.025, 16))
        for a, b, c in product((0.15, 0.35, 0.7), repeat=3)
    ]
    if harmful:
        every = COUNTS.sum(axis=1)
        shared = 0.35**2 * s2 * np.outer(every, every)
        components = [(w / 2, f + more) for w, f in components for more in (0, shared)]
    weights, means, variances, better, worse = [], [], [], [], []
    for weight, effects in components:
        gain = effects @ np.linalg.inv(effects + around)
        mean, variance = gain @ d, np.diag(effects - gain @ effects)
        weights.append(weight * multivariate_normal(np.zeros(4), effects + around).pdf(d))
        means.append(mean)
        variances.append(variance)
        moves = np.diag(effects) > 0
        z = mean / np.sqrt(np.where(moves, variance, 1))
        better.append(np.where(moves, norm.cdf(z), 0))
        worse.append(np.where(moves, norm.cdf(-z), 0))
    weights = np.array(weights) / np.sum(weights)
    mean = weights @ means
    return (
        mean,
        np.sqrt(weights @ (np.array(variances) + np.square(means)) - mean**2),
        weights @ better,
        weights @ worse,
    )


@pytest.mark.parametrize("difference", [(0.3, 1.2, -0.4, 0.8), (-0.3, -1.2, -0.4, -0.8)])
def test_the_mixture_is_the_one_that_is_written(difference):
    at = seen(difference)
    believed = posterior(at, CONTENTS)
    harmful = sum(one < 0 for one in difference) > 3
    assert believed.harmful == harmful
    found = (believed.mean, believed.sd, believed.better, believed.worse)
    assert np.allclose(found, written_out(at, harmful), rtol=1e-5, atol=1e-7)


def test_plans_that_are_far_better_do_not_pull_down_one_without_an_effect():
    """Without a share for clear effects, the model would blame the bare backbone's seeds for the two good plans."""
    believed = posterior(seen((8.0, 0.0, 8.2, 0.1)), CONTENTS)
    assert believed.better[0] > 0.999
    assert believed.better[2] > 0.999
    assert (believed.worse[[1, 3]] < 0.9).all()


def test_the_unit_of_the_metric_does_not_matter():
    believed = posterior(seen((0.3, 1.2, -0.4, 0.8)), CONTENTS)
    in_percent = posterior(seen((30.0, 120.0, -40.0, 80.0), variance=2500.0, items=1000.0), CONTENTS)
    assert np.allclose(in_percent.mean, 100 * believed.mean)
    assert np.allclose(in_percent.better, believed.better)


def test_the_order_of_plans_does_not_matter():
    order = [2, 0, 3, 1]
    at = seen((0.3, 1.2, -0.4, 0.8))
    moved = Standing(at.difference[order], at.seeds[order], 3, at.noise)
    believed = posterior(moved, [CONTENTS[index] for index in order])
    assert np.allclose(believed.better, posterior(at, CONTENTS).better[order])


def test_a_plan_is_believed_more_where_plans_with_its_module_gain_too():
    """Both first plans hold `se`. Where the other one gains, the first gains in belief; where it loses, it loses."""
    with_gain, with_loss = (posterior(seen((0.8, other, 0.0, 0.1)), CONTENTS) for other in (0.9, -0.9))
    assert with_gain.better[0] > with_loss.better[0] + 0.05
    assert 0 < with_loss.mean[0] < 0.8  # shrunk towards 0


def test_more_seeds_make_the_same_difference_surer():
    few, many = (posterior(seen((0.9, 0.0, 0.1, 0.0), seeds=(n, 1, 1, 1), bare_seeds=n), CONTENTS) for n in (1, 8))
    assert few.better[0] < many.better[0]
    assert few.mean[0] < many.mean[0]


def test_plans_far_below_and_failed_ones_are_left_out():
    """The limit is the larger of the best difference and three standard errors, with s = 0.5 and 3 bare seeds.

    They are 3·0.5·√(1/S + 1/3): 1.732, 1.369, 1.225 and 1.146 for 1, 2, 3 and 4 seeds.
    """
    assert seen((-1.73, 0.0, 0.0, -1.14)).left_out.tolist() == [False] * 4
    assert seen((-1.74, 0.0, 0.0, -1.15)).left_out.tolist() == [True, False, False, True]
    believed = posterior(seen((0.9, -1.36, -1.23, np.nan)), CONTENTS)
    assert believed.left_out.tolist() == [False, False, True, True]
    assert np.isnan(believed.better[2:]).all()
    assert (believed.better[:2] > 0).all()
    assert seen((5.0, -2.2, -4.9, -5.1)).left_out.tolist() == [False, False, False, True]
    alone = posterior(seen((-9.0, -9.0, -9.0, -9.0)), CONTENTS)
    assert alone.left_out.all()


def test_without_two_seeds_of_anything_nothing_is_believed():
    at = seen((0.1, 0.2, 0.3, 0.4), seeds=(1, 1, 1, 1), bare_seeds=1)
    assert posterior(replace(at, noise=Noise(np.nan, 0)), CONTENTS) is None


def test_a_function_without_noise_is_believed_as_it_is():
    believed = posterior(seen((0.1, -0.2, 0.3, 0.4), variance=0.0, items=0.0), CONTENTS)
    assert np.isfinite(believed.mean).all()
    assert (believed.better > 0.5).tolist() == [True, False, True, True]


def test_the_items_of_all_plans_give_one_variance():
    """Gaps of ±1 on 100 items have variance 100/99, those of a plan that is far below are not counted."""
    gap = np.tile([1.0, -1.0], 50)
    bare, plain, broken = (Trainings.of([items.mean()] * 2, [items] * 2) for items in (0 * gap, gap, 50 * gap - 99))
    noise = Noise(0.01, 10, items=100, item_freedom=99)
    at = standing([plain, plain, broken, Trainings.of([])], bare, noise)
    assert at.left_out.tolist() == [False, False, True, True]
    assert at.noise.item_variance == pytest.approx(1 / 99)
    assert at.difference[:3].tolist() == [0.0, 0.0, -99.0]


@pytest.mark.parametrize("variance", [1.0, 1e-6])
@pytest.mark.parametrize("harm", [0.0, 1.0])
def test_many_plans_have_the_same_posterior_by_their_factors(monkeypatch, variance, harm):
    """For many plans the covariances are not built: those of 10,000 plans would need 80 GB."""
    rng = np.random.default_rng(0)
    modules = ["se", "eca", "cbam", "ge"]
    contents = [[(f"stage{s}", modules[rng.integers(4)]) for s in range(3) if rng.random() < 0.6] for _ in range(40)]
    at = seen(
        variance**0.5 * (rng.normal(size=40) - harm),
        seeds=rng.integers(1, 5, 40),
        variance=variance,
        items=variance / 9,
    )
    by_size = []
    for dense in (0, 40):
        monkeypatch.setattr(hierarchy, "_DENSE", dense)
        by_size.append(posterior(at, contents))
    for name in ("mean", "sd", "better", "worse"):
        few, many = (getattr(one, name) for one in by_size)
        np.testing.assert_allclose(few, many, atol=1e-8)
    assert by_size[0].harmful == (harm > 0)
