"""What is checked of a search by name alone, and what is left to a user's own files."""

import pytest

from nasbench.errors import InputError, UnknownNameError
from nasbench.runs.settings import SearchSettings
from nasbench.study.names import check_names
from nasbench.study.problem import make_problem


def settings(**given):
    return SearchSettings.model_validate(given)


def test_the_recipe_of_a_users_task_may_have_settings_of_its_own(tmp_path):
    task = tmp_path / "task.py"
    task.write_text("class Mine: ...")
    check_names(settings(task=f"{task}:Mine", training={"temperature": 2.0}))
    with pytest.raises(UnknownNameError, match="temperature"):
        check_names(settings(task="digits", training={"temperature": 2.0}))


@pytest.mark.parametrize("trains", [True, False])
def test_a_value_that_no_recipe_takes_is_refused(trains):
    with pytest.raises(InputError, match="epochs=0"):
        check_names(settings(task="digits", training={"epochs": 0}), trains=trains)


def test_a_function_names_its_own_metrics():
    given = settings(objectives={"score": ""}, constraints=["score>=1"])
    check_names(given, trains=False)
    with pytest.raises(UnknownNameError, match="score"):
        check_names(given)


@pytest.mark.parametrize("task", ["photos-sr", "scenes-segment", "scenes-detect"])
def test_resolved_settings_are_those_of_the_same_search(task):
    """A worker and the command that reproduces a run get the resolved settings."""
    first = make_problem(SearchSettings(task=task))
    again = make_problem(SearchSettings.model_validate(first.settings.model_dump(mode="json")))
    assert [slot.name for slot in again.slots] == [slot.name for slot in first.slots]
    assert again.identity == first.identity
