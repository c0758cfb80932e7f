import pytest

from nasbench.errors import ExpressionError, PlanError, UnknownNameError
from nasbench.library.plan import Plan

SLOTS = ["stage1.block1", "stage1", "stage2", "stage10"]


def test_every_form_of_a_plan_is_the_same_plan():
    plan = Plan.of({"stage2": "se(reduction=16)", "stage1": "none"})
    assert plan == Plan.of('{"stage2": "se"}') == Plan.of(plan)
    assert plan.text == '{"stage2": "se"}'
    assert Plan.of(plan.text).hash == plan.hash
    assert len({plan, Plan.of('{"stage2": "se"}')}) == 1


def test_slots_stand_in_natural_order():
    assert list(Plan.of({"stage10": "se", "stage2": "eca"})) == ["stage2", "stage10"]
    assert Plan.of({"stage10": "se", "stage2": "eca"}).hash == Plan.of({"stage2": "eca", "stage10": "se"}).hash


def test_an_expression_without_a_slot_means_every_stage():
    assert Plan.of("eca").resolve(SLOTS).text == '{"stage1": "eca", "stage2": "eca", "stage10": "eca"}'
    assert list(Plan.of("eca").resolve(["input", "trend"])) == ["input", "trend"]


def test_the_bare_backbone():
    for form in (None, "none", {}, "{}", {"stage1": "none"}):
        assert Plan.of(form).resolve(SLOTS).is_bare
        assert Plan.of(form).text == "{}"


@pytest.mark.parametrize("text", ["{", '{"stage1": 3}', '{"stage1": "se", "stage1": "eca"}', "[]{", "{" * 5000])
def test_malformed_plans(text):
    with pytest.raises((PlanError, ExpressionError)):
        Plan.of(text)


def test_faults_name_the_slot():
    with pytest.raises(UnknownNameError, match="did you mean 'stage1'"):
        Plan.of({"stag1": "se"}).resolve(SLOTS)
    with pytest.raises(UnknownNameError, match="stage1: no module named 'sse'"):
        Plan.of({"stage1": "sse"})
    with pytest.raises(PlanError, match="int"):
        Plan.of(3)
