"""A plan as a diagram: slots and modules, and nothing lost of the expression."""

import pytest

from nasbench.library.expression import parse
from nasbench.library.plan import Plan
from nasbench.report.diagram import Part, Place, diagram_of, drawn_in


def module(name):
    return Part(name, "module")


def test_consecutive_slots_with_one_expression_share_it():
    text = Plan.of({"stage1": "se", "stage2": "se", "stage3": "eca >> se", "stage10": "se"}).text
    assert diagram_of(text) == (
        Place(("stage1", "stage2"), (module("se"),)),
        Place(("stage3",), (module("eca"), Part(">>", "sign"), module("se"))),
        Place(("stage10",), (module("se"),)),
    )


@pytest.mark.parametrize(
    "expression",
    [
        "se(reduction=4)",
        "(eca >> se) + sk",
        "eca + se >> sk",
        "gate(none, eca >> se) >> cbam",
        "(cbam >> (eca + gate(se, sk))) + sk",
    ],
)
def test_the_texts_of_the_parts_are_the_expression(expression):
    (place,) = diagram_of(Plan.of({"stage1": expression}).text)
    assert parse(" ".join(part.text for part in place.parts)) == parse(expression)


def test_fusions_are_drawn_apart_from_modules():
    (place,) = diagram_of('{"stage1": "gate(se, eca)"}')
    assert [part.text for part in place.parts if part.kind == "fusion"] == ["gate"]
    assert {part.text for part in place.parts if part.kind == "module"} == {"se", "eca"}


def test_nothing_is_drawn_of_the_bare_backbone_and_of_unknown_modules():
    assert diagram_of("{}") == ()
    assert diagram_of('{"stage1": "nobody_has_this"}') == ()


def test_a_sentence_with_a_plan_in_it():
    short, long = diagram_of('{"stage1": "se"}'), diagram_of('{"stage1": "se", "stage2": "eca"}')
    named = {"stage1=se (trial 1)": short, "stage1=se; stage2=eca (trial 2)": long}
    told = list(drawn_in("Best is stage1=se; stage2=eca (trial 2), not stage1=se (trial 1).", named))
    assert [piece for piece in told if piece] == ["Best is ", long, " (trial 2), not ", short, " (trial 1)."]
    assert list(drawn_in("No plan.", named)) == ["No plan."]
