"""Student's t, against scipy.stats."""

import numpy as np
import pytest
from scipy import stats

from nasbench.evidence.student import t_p_value, t_probability, t_quantile


@pytest.mark.parametrize("freedom", [1, 2.5, 4, 30, 1e6, np.inf])
@pytest.mark.parametrize("value", [-3.0, -0.2, 0.0, 1.7, 40.0])
def test_it_is_scipys(value, freedom):
    assert t_probability(value, freedom) == pytest.approx(stats.t.cdf(value, freedom), rel=1e-9)
    assert t_p_value(value, freedom) == pytest.approx(2 * stats.t.sf(abs(value), freedom), rel=1e-9)
    if value < 40:
        assert t_quantile(stats.t.cdf(value, freedom), freedom) == pytest.approx(value, abs=1e-9)
