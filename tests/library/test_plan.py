import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasbench.errors import ExpressionError, InputError, PlanError, UnknownNameError
from nasbench.library.plan import Plan

SLOTS = ["stage1.block1", "stage1", "stage2", "stage10"]


def test_every_form_of_a_plan_is_the_same_plan():
    plan = Plan.of({"stage2": "se(reduction=16)", "stage1": "none"})
    assert plan == Plan.of('{"stage2": "se"}') == Plan.of(plan)
    assert plan.text == '{"stage2": "se"}'
    assert Plan.of(plan.text).hash == plan.hash
    assert len({plan, Plan.of('{"stage2": "se"}')}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "stage3=agent_attention; stage4=se(reduction=4) >> eca",
        "stage3: agent_attention; stage4: se(reduction=4) >> eca",
        "stage4 = se(reduction=4)>>eca\nstage3 = agent_attention\n",
        "\r\n stage3:agent_attention ;; stage4=se( reduction=4 ) >> eca;stage1=none;",
        "stage3=agent_attention\nstage4=se(\n  reduction=4\n) >> eca",
        '{"stage4": "se(reduction=4) >> eca", "stage3": "agent_attention"}',
    ],
)
def test_the_forms_that_are_typed_are_one_plan(text):
    plan = Plan.of(text)
    assert plan.text == '{"stage3": "agent_attention", "stage4": "se(reduction=4) >> eca"}'
    assert plan.typed == "stage3=agent_attention; stage4=se(reduction=4) >> eca"


def test_an_equals_sign_or_a_semicolon_in_brackets_or_quotes_belongs_to_the_expression():
    assert Plan.of("se(reduction=4)").typed == "se(reduction=4)"
    assert Plan.of("stage1.block2=gate(se(reduction=4), sk(kernels=(3, 7)))").typed == (
        "stage1.block2=gate(se(reduction=4), sk(kernels=(3, 7)))"
    )
    with pytest.raises(ExpressionError, match=r"stage1: .*position is 'a;b=c:\(d'"):
        Plan.of("stage1=self_attention(position='a;b=c:(d')")


def test_an_expression_for_every_stage_may_stand_beside_others():
    plan = Plan.of("stage2=none; se; stage1=eca")
    assert plan.typed == "se; stage1=eca; stage2=none"
    assert plan.resolve(SLOTS).typed == "stage1=eca; stage10=se"
    assert Plan.of(plan.text).resolve(SLOTS) == plan.resolve(SLOTS)


SLOT = st.sampled_from(["stage1", "stage2", "stage10", "stage1.block1", "level2", "neck", "embed-1", "stages"])
EXPRESSION = st.sampled_from(
    ["none", "se", "se(reduction=4)", "eca >> se", "gate(se, sk(kernels=(3, 7)))", "eca + timm/gc", "conv_attention"]
)
SPACE = st.sampled_from(["", " ", "  "])


@given(st.dictionaries(SLOT, EXPRESSION, min_size=1), st.data())
def test_all_forms_of_any_plan_round_trip(written, data):
    plan = Plan.of(written)
    pieces = []
    for slot, expression in written.items():
        mark = data.draw(st.sampled_from("=:"))
        piece = f"{slot}{data.draw(SPACE)}{mark}{data.draw(SPACE)}{expression}"
        pieces.append(expression if slot == "stages" and data.draw(st.booleans()) else piece)
    typed = data.draw(st.sampled_from([";", "; ", "\n", "\r\n", " ;\n"])).join(pieces)
    for form in (typed, json.dumps(written), plan.text, plan.typed, plan):
        assert Plan.of(form) == plan
        assert Plan.of(form).hash == plan.hash
        assert Plan.of(form).resolve([*written, "stage4"]) == plan.resolve([*written, "stage4"])


MARKS = st.lists(st.sampled_from([*"=:;\n\r\"'\\(){}[],>+*/. aé1", "stage1", "se", "none", "gate", " >> "])).map(
    "".join
)


@given(st.one_of(st.text(), MARKS))
def test_garbage_is_a_plan_or_a_clear_error(text):
    try:
        plan = Plan.of(text)
    except InputError:
        return
    assert Plan.of(plan.typed) == plan


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage1=se; stage1: eca", ["stage1", "twice"]),
        ("se; eca", ["two expressions without a slot", "stage3=agent_attention"]),
        ("stage1=", ["stage1 has no expression", "stage1=none"]),
        ("stage2", ["stage2 has no expression", "stage2=se"]),
        ("=se", ["not the name of a slot"]),
        ("eca >> se = 3", ["'eca >> se'", "not the name of a slot"]),
        ("stage1 se", ["malformed", "stage3=agent_attention"]),
        ("stage1==se", ["stage1: malformed"]),
        ("{'stage1': 'se'}", ["JSON", "stage3=agent_attention"]),
        ("stage1=sse", ["stage1: no module named 'sse'", "'se'"]),
        ("stage1=se(reductoin=4)", ["stage1: no hyper-parameter of se named 'reductoin'", "'reduction'"]),
    ],
)
def test_a_fault_in_what_was_typed_is_named(text, words):
    with pytest.raises(InputError) as fault:
        Plan.of(text)
    assert [word for word in words if word not in str(fault.value)] == []


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
