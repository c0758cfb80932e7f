"""Union, product and restriction as identities of sets of plans."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.backbones import Slot
from nasbench.errors import SpaceError, UnknownNameError
from nasbench.library.modules import module_spec
from nasbench.library.plan import Plan
from nasbench.spaces import Space, load_space

SLOTS = [Slot(f"stage{k}", 8, (8, 8), "NCHW", f"m{k}") for k in (1, 2, 3)]


def plans(space):
    resolved = space.resolve(SLOTS)
    found = list(resolved)
    assert len(found) == resolved.count == len(set(found))
    return set(found)


SPACES = st.fixed_dictionaries(
    {
        "variants": st.lists(
            st.sampled_from(["se", "eca", "dual_pool", "self_attention", "none"]), min_size=1, max_size=3, unique=True
        ),
        "compositions": st.sampled_from(
            [["none", "a"], ["a"], ["none", "a >> b"], ["a", "gate(a, b)"], ["none", "se + a", "cross_attention(a, b)"]]
        ),
        "distinct_properties": st.booleans(),
        "slots": st.sampled_from([["stage1"], ["stage1", "stage2"], ["stage2"]]),
        "quotas": st.sampled_from([[], [{"max": 1}], [{"property": "globality", "min": 1}]]),
    }
)


def as_list(value):
    return [value] if isinstance(value, str) else value


def read(written):
    try:
        space = Space.from_dict(written)
        space.resolve(SLOTS)
    except SpaceError:  # quotas that leave nothing
        return None
    return space


@settings(max_examples=60, deadline=None)
@given(SPACES, SPACES)
def test_a_union_holds_the_plans_of_both_and_no_others(one, other):
    a, b = read(one), read(other)
    if a is None or b is None:
        return
    union = (a | b).resolve(SLOTS)
    expected = plans(a) | plans(b)
    assert set(union) == expected
    assert union.count == len(expected)
    assert plans(b | a) == expected
    for plan in expected:
        assert plan in union
        assert union.plan(union.params(plan)) == plan, "the flat choices hold both"
        for near in union.neighbours(plan):
            assert near in expected


def test_a_union_does_not_mix_its_parts():
    light = Space.from_dict({"variants": ["se"]})
    heavy = Space.from_dict({"variants": ["self_attention"]})
    both = (light | heavy).resolve(SLOTS)
    assert both.count == 2**3 + 2**3 - 1, "the bare backbone is in both, and one plan"
    mixed = Plan.of({"stage1": "se", "stage2": "self_attention"})
    assert mixed not in both
    assert both.params(mixed) is not None, "the flat choices can spell it"
    rng = random.Random(0)
    assert all(both.sample(rng) in both for _ in range(100))


@settings(max_examples=60, deadline=None)
@given(
    SPACES,
    st.fixed_dictionaries(
        {},
        optional={
            "slots": st.sampled_from(["stage1", "stage*"]),
            "property": st.sampled_from(["globality", "locality"]),
            "modules": st.sampled_from(["se", "*e*", ["se", "dual_pool"]]),
            "exclude": st.sampled_from(["eca", "d*"]),
            "max_cost_order": st.sampled_from([1, 2]),
        },
    ),
)
def test_a_restriction_keeps_the_plans_that_use_nothing_else(written, only):
    space = read(written)
    if space is None or (only.get("slots") == "stage1" and written["slots"] == ["stage2"]):
        return

    everything = {"se", "eca", "dual_pool", "self_attention"}
    named = {"se": {"se"}, "*e*": everything - {"dual_pool"}, "se,dual_pool": {"se", "dual_pool"}, "": everything}
    left_out = {"eca": {"eca"}, "d*": {"dual_pool"}, "": set()}
    allowed = named[",".join(as_list(only.get("modules", "")))] - left_out[only.get("exclude", "")]

    def kept(plan):
        specs = [spec for expression in plan.values() for spec in expression.specs()]
        leaves = [module_spec(leaf.name) for expression in plan.values() for leaf in expression.leaves()]
        return (
            {spec.name for spec in leaves} <= allowed
            and all(only.get("property") in (None, *spec.properties) for spec in leaves)
            and all(spec.cost_order <= only.get("max_cost_order", 2) for spec in specs)
            and (only.get("slots") != "stage1" or set(plan) <= {"stage1"})
        )

    expected = {plan for plan in plans(space) if kept(plan)}
    if not expected:
        with pytest.raises(SpaceError, match="no plan is within"):
            space.restrict(**only).resolve(SLOTS)
        return
    restricted = space.restrict(**only).resolve(SLOTS)
    assert set(restricted) == expected
    for plan in expected:
        assert restricted.plan(restricted.params(plan)) == plan


def test_a_restriction_shortens_the_flat_choices_too():
    space = Space.from_dict({"variants": ["se", "eca", "self_attention"], "compositions": ["none", "a", "gate(a, b)"]})
    narrow = space.restrict(slots=["stage1", "stage3"], max_cost_order=1).resolve(SLOTS)
    assert list(narrow.parameters) == [f"stage{k}.{p}" for k in (1, 3) for p in ("composition", "a", "b")]
    assert narrow.parameters["stage1.a"] == ("se", "eca")


def test_a_product_puts_spaces_side_by_side():
    first = Space.from_dict({"variants": ["se", "eca"], "slots": "stage1"})
    rest = Space.from_dict({"variants": ["dual_pool"], "slots": ["stage[23]"], "quotas": [{"max": 1}]})
    product = first * rest
    expected = {Plan({**one, **other}) for one in plans(first) for other in plans(rest)}
    assert plans(product) == plans(rest * first) == expected
    assert len(expected) == 3 * 3
    assert [slot.slot for slot in product.resolve(SLOTS).slots] == ["stage1", "stage2", "stage3"]
    with pytest.raises(SpaceError, match="two spaces of the product fill slot stage1"):
        (first * first).resolve(SLOTS)


def test_a_product_of_restricted_spaces_and_quotas_over_both():
    """A slot that one space may not fill is free for the other; a quota of the whole counts in both."""
    se = Space.from_dict({"variants": ["se", "eca"]})
    attention = Space.from_dict({"variants": ["self_attention"]})
    product = se.restrict(slots="stage1") * attention.restrict(slots=["stage2", "stage3"])
    assert product.resolve(SLOTS).count == 3 * 2 * 2
    bound = product.with_quotas({"count": "slots", "max": 1})
    assert plans(bound) == {p for p in plans(product) if len(p) <= 1}
    assert bound.resolve(SLOTS).count == 1 + 2 + 1 + 1
    deeper = (bound | se.with_quotas({"min": 3})).restrict(exclude="eca")
    assert deeper.resolve(SLOTS).count == 1 + 1 + 1 + 1 + 1


def test_spaces_of_spaces_are_written_in_files(tmp_path):
    (tmp_path / "light.yaml").write_text("variants: [se, eca]\n")
    whole = tmp_path / "whole.yaml"
    whole.write_text(
        "description: light, or one fusion\n"
        "union:\n  - light.yaml\n  - base: fusion\n    only: {slots: stage1, modules: [se, dual_pool]}\n"
        "quotas: [{max: 2}]\n"
    )
    space = load_space(whole)
    assert space.name == "whole"
    assert [part.name for part in space.parts] == ["light", "unnamed"]
    light = {p for p in plans(load_space(tmp_path / "light.yaml")) if len(p) <= 2}
    fused = {p for p in plans(load_space("fusion").restrict(slots="stage1", modules=["se", "dual_pool"]))}
    assert plans(space) == light | fused
    again = Space.from_dict(space.model_dump(mode="json"))
    assert plans(again) == plans(space)
    assert again == space
    assert again.resolve(SLOTS).identity == space.resolve(SLOTS).identity


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("union: [self]", "no space named 'self'"),
        ("union: [mine.yaml]", "includes itself: mine > mine"),
        ("base: other.yaml", "includes itself: mine > other > mine"),
        ("union: [five-propertys]", "did you mean 'five-properties'"),
        ("base: nowhere.yaml", "cannot read space nowhere.yaml"),
        ("{base: tiny, variants: [se]}", "has either variants, or base.*has base and variants"),
        ("quotas: [{max: 1}]", "has none of these"),
        ("{union: [tiny, fusion], slots: stage1}", "slots is only for a space with variants"),
        ("{base: tiny, only: {slot: stage1}}", "did you mean 'slots'"),
        ("{base: tiny, only: {modules: sse}}", "only: .*did you mean 'se'"),
        ("{base: tiny, only: [se]}", "a restriction is a mapping"),
        ("{base: {variants: [sse]}}", "base: .*did you mean 'se'"),
        ("{bsae: tiny}", "did you mean .*'base'"),
        ("{base: 5}", "a space is a mapping"),
    ],
)
def test_malformed_spaces_of_spaces(tmp_path, text, word):
    (tmp_path / "other.yaml").write_text("base: mine.yaml\n")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SpaceError, match=word) as caught:
        load_space(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert not isinstance(caught.value, UnknownNameError)


def test_operators_take_spaces_alone():
    with pytest.raises(TypeError):
        _ = Space.from_dict({"variants": ["se"]}) | "fusion"
    with pytest.raises(TypeError):
        _ = Space.from_dict({"variants": ["se"]}) * 2
    with pytest.raises(SpaceError, match="did you mean 'max_cost_order'"):
        Space.from_dict({"variants": ["se"]}).restrict(max_costorder=1)


def test_a_union_spells_what_one_of_its_parts_reduces():
    """`se >> eca` is `se` in one part, in which nothing else gives `se` alone; the other part never has it alone."""
    written = {"variants": ["se", "eca"], "slots": "stage1"}
    reducing = Space.from_dict({**written, "compositions": ["none", "a >> b"], "distinct_properties": True})
    plain = Space.from_dict({**written, "compositions": ["none", "dual_pool >> a"]})
    union = (reducing | plain).resolve(SLOTS)
    texts = {str(plan.get("stage1", "none")) for plan in union}
    assert texts == {"none", "se", "eca", "dual_pool >> se", "dual_pool >> eca"}
    assert all(union.plan(union.params(plan)) == plan for plan in union)


def test_a_restriction_keeps_a_module_that_only_a_forbidden_fusion_gives():
    written = {"variants": ["se", "eca", "dual_pool"], "slots": "stage1", "distinct_properties": True}
    space = Space.from_dict({**written, "compositions": ["none", "cross_attention(a, b)"]})
    restricted = space.restrict(max_cost_order=1).resolve(SLOTS)
    assert {str(plan.get("stage1", "none")) for plan in restricted} == {"none", "se", "eca", "dual_pool"}
    assert all(restricted.plan(restricted.params(plan)) == plan for plan in restricted)


def test_a_slot_that_only_one_part_fills_can_be_empty_in_the_union():
    must = Space.from_dict({"variants": ["se"], "compositions": ["a"], "slots": "stage1"})
    other = Space.from_dict({"variants": ["eca"], "compositions": ["a"], "slots": "stage2"})
    union = (must | other).resolve(SLOTS)
    assert set(union) == {Plan.of({"stage1": "se"}), Plan.of({"stage2": "eca"})}
    assert all(union.plan(union.params(plan)) == plan for plan in union)
