"""What `seeds`, `refine` and `until` stand for."""

import pytest

from nasbench.runs.refinement import equal_seeds, further_trainings, is_refined, most_seeds, reachable_seeds
from nasbench.runs.settings import SearchSettings


def of(**given):
    return SearchSettings(**given)


@pytest.mark.parametrize(
    ("given", "most", "further"),
    [
        ({}, 8, 10),
        ({"until": "first"}, 8, 20),
        ({"until": "decided", "refine": 7}, 8, 7),
        ({"seeds": 3}, 3, 10),
        ({"seeds": 1}, 1, 0),
        ({"refine": 0}, 1, 0),
    ],
)
def test_the_numbers_of_a_search(given, most, further):
    assert (most_seeds(of(**given)), further_trainings(of(**given))) == (most, further)
    assert is_refined(of(**given)) == (most > 1)


@pytest.mark.parametrize(
    ("given", "plans", "seeds"),
    [
        ({}, 3, 3),
        ({}, 4, None),
        ({"seeds": 6}, 2, 6),
        ({"refine": 8}, 3, 3),  # 2 further seeds of 4 plans, the bare backbone's included
        ({"refine": 7}, 3, 2),
        ({"refine": 3}, 3, 1),
        ({"refine": 0}, 3, 1),
    ],
)
def test_few_plans_have_equal_seeds(given, plans, seeds):
    assert equal_seeds(of(**given), plans) == seeds


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ({}, 6),  # 5 of the plan, and 5 of the bare backbone, which has 6 then
        ({"refine": 2}, 1),
        ({"refine": 3}, 2),
        ({"refine": 4}, 3),
        ({"refine": 14}, 8),
        ({"refine": 99}, 8),
        ({"refine": 99, "seeds": 4}, 4),
        ({"until": "decided"}, 8),
    ],
)
def test_the_seeds_that_one_plan_can_get(given, seeds):
    assert reachable_seeds(of(**given), 20) == seeds
