"""Quotas: counts, draws and neighbours against brute force over every setting of the parameters."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from nasbench import backbones
from nasbench.backbones import Slot
from nasbench.errors import SpaceError
from nasbench.library.modules import module_spec
from nasbench.library.plan import Plan
from nasbench.spaces import Quota, Space, load_space

SLOTS = [Slot(f"stage{k}", 8, (8, 8), "NCHW", f"m{k}") for k in (1, 2, 3)]
SMALL = {"variants": ["se", "dual_pool", "self_attention"], "compositions": ["none", "a", "a + b"]}


def resolve(**written):
    return Space.from_dict({**SMALL, **written}).resolve(SLOTS)


def every_setting(resolved):
    """Every plan that any setting of the parameters gives, quotas or not."""
    choices = itertools.product(*resolved.parameters.values())
    return {resolved.plan(dict(zip(resolved.parameters, each, strict=True))) for each in choices}


PLACES = {"stage1": ["stage1"], "*": ["stage1", "stage2", "stage3"], "stage[23]": ["stage2", "stage3"]}


def within(plan, quota):
    """A quota, read anew: modules alone are counted, and slots with a matching module or fusion."""

    def matching(specs):
        return sum(quota.get("property", "any") in (*spec.properties, "any") for spec in specs)

    filled = [plan[slot] for slot in PLACES[quota.get("slots", "*")] if slot in plan]
    if quota.get("count") == "slots":
        total = sum(bool(matching(expression.specs())) for expression in filled)
    else:
        total = sum(matching(module_spec(leaf.name) for leaf in expression.leaves()) for expression in filled)
    return quota.get("min", 0) <= total <= quota.get("max", 99)


def test_by_hand_at_most_one_module():
    """None of 3 slots, or one of them with one of 3 variants: 1 + 3 * 3."""
    assert resolve(quotas=[{"max": 1}]).count == 10


def test_by_hand_at_least_one_global_module_and_nothing_quadratic_first():
    resolved = resolve(
        compositions=["none", "a"],
        quotas=[{"property": "globality", "min": 1}, {"min_cost_order": 2, "slots": "stage1", "max": 0}],
    )
    # stage1: none, se, dual_pool; the others 4 each: 48 in all, of which 2 * 2 * 2 have no global module
    assert resolved.count == 48 - 8
    assert Plan.of(None) not in resolved
    assert Plan.of({"stage1": "self_attention"}) not in resolved
    assert Plan.of({"stage2": "self_attention"}) in resolved


def test_what_a_quota_counts():
    def used(expression, **quota):
        return Quota.model_validate({"max": 9, **quota}).of(Plan.of({"x": expression})["x"])

    expression = "cross_attention(se, self_attention) >> gate(dual_pool, se)"
    assert used(expression) == 4
    assert used(expression, count="fusions") == 2
    assert used(expression, count="parts") == 6
    assert used(expression, count="slots") == 1
    assert used(expression, modules="se") == 2
    assert used(expression, property="globality") == 3
    assert used(expression, min_cost_order=2) == 2, "a quadratic fusion costs as a module does"
    assert used(expression, min_cost_order=2, count="modules") == 1
    assert used("dual_pool", property="globality", count="slots") == 0


QUOTAS = st.fixed_dictionaries(
    {},
    optional={
        "property": st.sampled_from(["globality", "locality"]),
        "slots": st.sampled_from(["stage1", "*", "stage[23]"]),
        "count": st.sampled_from(["modules", "slots"]),
        "min": st.integers(0, 3),
        "max": st.integers(0, 4),
    },
).filter(lambda q: ("min" in q or "max" in q) and q.get("min", 0) <= q.get("max", 99))
SPACES = st.fixed_dictionaries(
    {
        "variants": st.lists(
            st.sampled_from(["se", "eca", "dual_pool", "self_attention", "mixconv", "gate(se, mixconv)"]),
            min_size=1,
            max_size=3,
            unique=True,
        ),
        "compositions": st.lists(
            st.sampled_from(["none", "a", "b", "a >> b", "a + b", "gate(a, b)", "se >> a", "cross_attention(a, b)"]),
            min_size=1,
            max_size=3,
            unique=True,
        ),
        "distinct_properties": st.booleans(),
        "slots": st.sampled_from([["stage1"], ["stage1", "stage3"], ["stage[12]"]]),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPACES, st.lists(QUOTAS, max_size=3))
def test_the_count_is_that_of_brute_force(written, quotas):
    free = Space.from_dict(written).resolve(SLOTS)
    there = {slot.slot for slot in free.slots}
    quotas = [q for q in quotas if q.get("slots") != "stage1" or "stage1" in there]
    expected = {plan for plan in every_setting(free) if all(within(plan, quota) for quota in quotas)}
    space = Space.from_dict({**written, "quotas": quotas})
    if not expected:
        with pytest.raises(SpaceError, match="no plan is within"):
            space.resolve(SLOTS)
        return
    resolved = space.resolve(SLOTS)
    plans = list(resolved)
    assert resolved.count == len(plans) == len(set(plans))
    assert set(plans) == expected
    assert [resolved.at(i) for i in range(resolved.count)] == plans
    for plan in every_setting(free):
        assert (plan in resolved) == (plan in expected)
        params = resolved.params(plan)
        assert params is not None
        assert resolved.plan(params) == plan


@settings(max_examples=25, deadline=None)
@given(SPACES, st.lists(QUOTAS.filter(lambda q: q.get("slots") != "stage1"), max_size=1))
def test_neighbours_are_symmetric_and_inside(written, quotas):
    try:
        resolved = Space.from_dict({**written, "quotas": quotas}).resolve(SLOTS)
    except SpaceError:
        return
    plans = list(resolved)[:150]
    near = {plan: list(resolved.neighbours(plan)) for plan in plans}
    for plan, found in near.items():
        assert len(set(found)) == len(found)
        assert plan not in found
        for other in found:
            assert other in resolved
            assert sum(plan.get(slot) != other.get(slot) for slot in ("stage1", "stage2", "stage3")) == 1
            assert plan in (near.get(other) or list(resolved.neighbours(other)))


def test_neighbours_by_hand():
    resolved = resolve(variants=["se", "eca"], compositions=["none", "a", "a >> b", "gate(a, b)"], slots=["stage1"])

    def near(expression):
        return {str(plan.get("stage1", "none")) for plan in resolved.neighbours(Plan.of(expression))}

    assert near({"stage1": "se"}) == {
        "none",  # emptied
        "eca",  # another variant
        *("se >> se", "se >> eca", "gate(se, se)", "gate(se, eca)"),  # a further module
    }
    assert near({"stage1": "se >> eca"}) == {"none", "se", "eca >> eca", "se >> se", "gate(se, eca)"}
    assert len(near(None)) == resolved.count - 1, "an empty slot can be filled with anything"
    assert near({"stage2": "se"}) == set(), "a slot that the space does not have"


def test_neighbours_of_a_plan_outside_lead_into_the_space():
    resolved = resolve(compositions=["none", "a"], quotas=[{"property": "globality", "min": 1, "max": 1}])
    bare = Plan.of(None)
    assert bare not in resolved
    assert resolved.params(bare) is not None, "the parameters can spell it, which a study needs"
    assert set(resolved.neighbours(bare)) == {
        Plan.of({f"stage{k}": name}) for k in (1, 2, 3) for name in ("se", "self_attention")
    }


@pytest.mark.parametrize(
    "quotas", [[], [{"property": "globality", "min": 1}, {"max": 2}], [{"count": "slots", "min": 1, "max": 1}]]
)
def test_sampling_is_uniform_over_distinct_plans(quotas):
    resolved = resolve(variants=["se", "dual_pool"], slots=["stage1", "stage2"], quotas=quotas)
    rng = random.Random(1)
    counts = Counter(resolved.sample(rng).hash for _ in range(200 * resolved.count))
    assert set(counts) == {plan.hash for plan in resolved}
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_the_unseen_of_a_space_with_quotas_are_drawn_to_the_last_one():
    resolved = resolve(quotas=[{"max": 2}, {"property": "locality", "min": 1}])
    rng, seen = random.Random(0), {Plan.of(None).hash}  # the bare backbone is evaluated, and lies outside
    while (plan := resolved.sample_unseen(rng, seen)) is not None:
        assert plan in resolved
        assert plan.hash not in seen
        seen.add(plan.hash)
    assert len(seen) == resolved.count + 1


def test_a_large_space_is_counted_and_drawn_without_enumerating_it():
    """Of 10^9 plans and more, those of exactly so many modules, by a generating polynomial."""
    host = backbones.slots("resnet18", input_size=(3, 64, 64))
    five = load_space("five-properties")
    options = five.resolve(host).slots[0].options
    by_modules = Counter(len(list(e.leaves())) for e in options)
    polynomial = [1]
    for _ in range(4):
        grown = [0] * (len(polynomial) + 2)
        for power, ways in enumerate(polynomial):
            for more, each in by_modules.items():
                grown[power + more] += ways * each
        polynomial = grown
    free = five.resolve(host)
    assert free.count == sum(polynomial) == len(options) ** 4 > 10**9
    for low, high in ((0, 1), (3, 3), (5, 8), (8, 8)):
        resolved = five.with_quotas({"min": low, "max": high}).resolve(host)
        assert resolved.count == sum(polynomial[low : high + 1])
        rng = random.Random(0)
        for plan in (resolved.sample(rng) for _ in range(20)):
            assert low <= sum(len(list(expression.leaves())) for expression in plan.values()) <= high
            assert next(resolved.neighbours(plan)) in resolved
    assert free.at(0) != free.at(free.count - 1)
    for index in (-1, free.count):
        with pytest.raises(IndexError):
            free.at(index)


def test_quotas_of_many_slots_stay_countable():
    """30 slots with a sum each of several quotas: sums are forgotten once they cannot break a bound any more."""
    slots = [Slot(f"stage{k}", 8, (4, 4), "NCHW", f"m{k}") for k in range(1, 31)]
    space = {"variants": ["se", "dual_pool"], "quotas": [{"max": 2}]}
    assert Space.from_dict(space).resolve(slots).count == 1 + 30 * 2 + 30 * 29 // 2 * 4
    space["quotas"] = [{"min": 30, "max": 99}]
    assert Space.from_dict(space).resolve(slots).count == 2**30
    heavy = [{"modules": name, "min": 4, "max": 15} for name in ("se", "dual_pool", "eca", "mixconv", "self_attention")]
    with pytest.raises(SpaceError, match="states to count"):
        Space.from_dict({"variants": [q["modules"] for q in heavy], "quotas": heavy}).resolve(slots)


@pytest.mark.parametrize(
    ("quota", "word"),
    [
        ({"property": "globality"}, "needs `min`, `max` or both"),
        ({"min": 3, "max": 2}, "no plan can satisfy a quota of at least 3 and at most 2"),
        ({"maxx": 2}, "no key of a quota named 'maxx'; did you mean 'max'"),
        ({"max": -1}, "quotas.0.max.*greater than or equal to 0, got -1"),
        ({"property": "globalty", "max": 1}, "quotas.0.property.0: .*did you mean 'globality'"),
        ({"modules": "sse", "max": 1}, "did you mean 'se'"),
        ({"count": "module", "max": 1}, "'modules'"),
        ({"slots": "stage9", "max": 1}, "quotas: no slot matches stage9; the backbone has stage1"),
        ("globality", "a quota is a mapping with the keys modules"),
        ({"min": 7}, "no plan is within"),
    ],
)
def test_wrong_quotas_are_named(quota, word):
    with pytest.raises(SpaceError, match=word):
        resolve(quotas=[quota])


def test_quotas_are_part_of_what_a_space_is():
    free, bound = resolve(), resolve(quotas=[{"max": 2}])
    assert free.identity == {name: list(choices) for name, choices in free.parameters.items()}
    assert bound.identity == free.identity | {"narrowed": {"quotas": [{"max": 2}]}}
    assert free.parameters == bound.parameters


def test_neighbours_where_equal_properties_are_reduced():
    """`se` as what `se >> eca` is reduced to is no `se >> eca`: its neighbours are those of a module alone."""
    written = {"variants": ["se", "eca", "dual_pool"], "distinct_properties": True, "slots": ["stage1"]}
    resolved = Space.from_dict({**written, "compositions": ["none", "a", "a >> b"]}).resolve(SLOTS)

    def near(text):
        return {str(plan.get("stage1", "none")) for plan in resolved.neighbours(Plan.of({"stage1": text}))}

    assert near("se") == {"none", "eca", "dual_pool", "se >> dual_pool"}
    assert near("eca >> dual_pool") == {"none", "eca", "se >> dual_pool"}
    # where a module alone comes by reduction only, it has the neighbours of what it is reduced from
    resolved = Space.from_dict({**written, "compositions": ["a >> b"]}).resolve(SLOTS)
    assert near("se") == {"eca", "se >> dual_pool", "dual_pool >> se", "dual_pool >> eca"}
