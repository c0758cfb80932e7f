"""One choice for several slots (`same`), and spaces that list their plans: counts by hand, sets by brute force."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.backbones import Slot
from nasbench.errors import SpaceError
from nasbench.library.expression import NONE
from nasbench.library.plan import BARE, Plan
from nasbench.spaces import GivenPlans, Space
from nasbench.spaces._rules import Same
from nasbench.study.samplers import Knowledge, initial_plans, make_sampler

SLOTS = [
    Slot(name, channels, (8, 8), "NCHW", f"m{i}")
    for i, (name, channels) in enumerate([("stage1.block1", 8), ("stage1", 8), ("stage2", 16), ("stage3", 16)])
]
STAGES = ("stage1", "stage2", "stage3")
FEW = {"variants": ["se", "eca", "dual_pool"], "same": True}


def resolve(slots=SLOTS, **written):
    return Space.from_dict({**FEW, **written}).resolve(slots)


def test_by_hand_none_or_one_of_three_everywhere():
    resolved = resolve()
    assert resolved.count == 4
    assert {plan.typed for plan in resolved} == {
        "none", *(f"stage1={m}; stage2={m}; stage3={m}" for m in ("se", "eca", "dual_pool"))
    }  # fmt: skip
    assert resolved.parameters == {
        "stage1.composition": ("none", "a"), "stage1.a": ("se", "eca", "dual_pool"),
    }  # fmt: skip
    assert Plan.of("se").resolve(STAGES) in resolved
    assert Plan.of("stage1=se") not in resolved
    assert resolved.params(Plan.of("stage1=se")) is None


def test_by_hand_compositions_and_quotas():
    # none, 3 singles, and sums of 2 of 3 with repetition: 1 + 3 + 6
    assert resolve(compositions=["none", "a", "a + b"]).count == 10
    # a single module is held 3 times in all, a sum 6 times
    assert resolve(compositions=["none", "a", "a + b"], quotas=[{"max": 3}]).count == 4
    assert resolve(compositions=["none", "a", "a + b"], quotas=[{"min": 4}]).count == 6
    # se and eca are global, dual_pool is not: the plans with a global module at stage2 and stage3
    assert resolve(quotas=[{"property": "globality", "slots": "stage[23]", "min": 2}]).count == 2


def test_groups_are_joined_by_product():
    """Blocks hold one choice and stages another, although they alternate in network order: 3 * 4."""
    slots = [Slot(name, 8, (8, 8), "NCHW", name) for name in ("stage1.block1", "stage1", "stage2.block1", "stage2")]
    blocks = {"slots": "stage*.block*", "variants": ["se", "eca"], "same": True, "quotas": [{"max": 2}]}
    stages = {"slots": "stages", "variants": ["se", "eca", "dual_pool"], "same": True}
    both = Space.from_dict({"product": [blocks, stages]}).resolve(slots)
    assert both.count == len(set(both)) == 12
    assert both.same == (("stage1.block1", "stage2.block1"), ("stage1", "stage2"))
    bounded = Space.from_dict({"base": {"product": [blocks, stages]}, "quotas": [{"max": 2}]}).resolve(slots)
    assert bounded.count == 1 + 2 + 3, "each module stands twice, so one of the groups is empty"


def test_what_does_not_fit_all_slots_is_left_out_with_the_reason():
    mixed = [Slot("stage1", 8, (8, 8), "NCHW", "a"), Slot("stage2", 8, (12,), "NLC", "b")]
    resolved = resolve(mixed, variants=["se", "cbam"])
    assert [each.variants for each in resolved.slots] == [tuple(Plan.of("x=se").values())] * 2
    assert resolved.excluded[0][:2] == ("stage2", "cbam")
    with pytest.raises(
        SpaceError, match=r"stage1, stage2 must have the same expression \(same: true\), but none fits all.*2-D"
    ):
        resolve(mixed, variants=["cbam"])


def test_the_identity_tells_which_slots_share_a_choice():
    identities = [
        resolve(slots=slots).identity if slots != "free" else resolve(same=False).identity
        for slots in (SLOTS, SLOTS[:3], SLOTS[:2], "free")
    ]
    assert len({str(identity) for identity in identities}) == 4
    assert identities[0]["same"] == [list(STAGES)]
    assert "same" not in identities[3]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"overrides": [{"slots": "stage1", "variants": ["se"]}]}, "product"),
        ({"only": {"slots": "stage3"}}, "stage1, stage2, stage3 must have the same expression"),
        ({"same": "sometimes"}, "same: .*bool"),
    ],
)
def test_what_one_choice_cannot_do(written, words):
    with pytest.raises(SpaceError, match=words):
        resolve(**written)
    with pytest.raises(SpaceError, match="same is only for a space with variants"):
        Space.from_dict({"base": "tiny", "same": True})


SAME = st.fixed_dictionaries(
    {
        "variants": st.lists(
            st.sampled_from(["se", "eca", "dual_pool", "self_attention", "gate(se, mixconv)"]),
            min_size=1,
            max_size=3,
            unique=True,
        ),
        "compositions": st.lists(
            st.sampled_from(["none", "a", "b", "a >> b", "a + b", "gate(a, b)", "se >> a"]),
            min_size=1,
            max_size=3,
            unique=True,
        ),
        "distinct_properties": st.booleans(),
        "slots": st.sampled_from([["stage1"], ["stage1", "stage3"], ["stages"], ["*"]]),
        "quotas": st.sampled_from([[], [{"max": 3}], [{"property": "globality", "slots": "stage1", "min": 1}]]),
    }
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(SAME)
def test_every_plan_holds_one_expression_in_all_its_slots(written):
    try:
        resolved = Space.from_dict({**written, "same": True}).resolve(SLOTS)
    except SpaceError:  # quotas that leave nothing
        return
    free = Space.from_dict(written).resolve(SLOTS)
    names = [slot.slot for slot in free.slots]
    plans = list(resolved)
    assert set(plans) == {plan for plan in free if len({plan.get(name, NONE) for name in names}) == 1}
    assert resolved.count == len(plans) == len(set(plans))
    every = itertools.product(*resolved.parameters.values())
    spelt = {resolved.plan(dict(zip(resolved.parameters, setting, strict=True))) for setting in every}
    assert spelt >= set(plans), "the flat choices spell every plan"
    if not written["quotas"]:
        assert spelt == set(plans)
    rng = random.Random(0)
    assert all(resolved.sample(rng) in resolved for _ in range(20))
    for plan in plans[:20]:
        assert resolved.plan(resolved.params(plan)) == plan
        near = list(resolved.neighbours(plan))
        assert plan not in near
        assert len(set(near)) == len(near)
        assert set(near) <= set(plans)
        assert all(plan in set(resolved.neighbours(other)) for other in near)


@settings(max_examples=30, deadline=None)
@given(SAME, SAME, st.booleans(), st.booleans())
def test_a_union_with_one_choice_is_the_union_of_the_sets(one, other, same_one, same_other):
    try:
        a = Space.from_dict({**one, "same": same_one})
        b = Space.from_dict({**other, "same": same_other})
        expected = set(a.resolve(SLOTS)) | set(b.resolve(SLOTS))
    except SpaceError:
        return
    union = (a | b).resolve(SLOTS)
    assert set(union) == expected
    assert union.count == len(expected)
    for plan in itertools.islice(union, 20):
        assert union.plan(union.params(plan)) == plan


def test_counting_tries_each_expression_once_a_slot(monkeypatch):
    """After the first slot only one expression can follow. To try all after each would be quadratic in them."""
    steps = []
    step = Same.step
    monkeypatch.setattr(Same, "step", lambda self, *given: steps.append(given) or step(self, *given))
    resolved = resolve(compositions=["none", "a", "a >> b", "a + b", "gate(a, b)"])
    expressions = len(resolved.slots[0].combinations.expressions)
    assert resolved.count == expressions == 1 + 3 + 9 + 6 + 9
    assert len(steps) == 3 * expressions


@pytest.mark.parametrize("name", ["auto", "gp", "tpe", "nsga2", "random", "grid", "local"])
def test_every_sampler_stays_inside(name):
    import optuna

    resolved = resolve(variants=["se", "eca", "dual_pool", "sk", "mixconv"], compositions=["none", "a", "a >> b"])
    knowledge = Knowledge(resolved, {"score": "maximize"})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for number in range(10):
        study.sampler = make_sampler(name, seed=0, number=number, knowledge=knowledge)
        trial = study.ask({n: optuna.distributions.CategoricalDistribution(v) for n, v in resolved.parameters.items()})
        plan = resolved.plan(trial.params)
        assert plan in resolved
        study.tell(trial, float(len(plan.text)))


def test_what_samplers_see_of_one_choice():
    resolved = resolve()
    knowledge = Knowledge(resolved, {"score": "maximize"})
    first = initial_plans(resolved, lambda plan: {})
    assert first[0] == BARE
    assert {plan.typed for plan in first[1:]} == {plan.typed for plan in resolved if not plan.is_bare}
    bare, se = BARE, Plan.of("se").resolve(STAGES)
    assert {p for p in knowledge.near(bare, random.Random(0), 50)} == set(resolved) - {BARE}
    free = Knowledge(resolve(same=False), {"score": "maximize"})
    # as many columns of placement as one slot needs, not three times as many
    blocks, in_free = knowledge.features([bare, se]), free.features([bare, se])
    assert blocks[0].shape[1] * 3 == in_free[0].shape[1]
    assert not np.allclose(blocks[0][0], blocks[0][1])


# -- spaces that list their plans --------------------------------------------------------------------------------------


def listed(*plans, slots=SLOTS):
    return Space.from_dict({"plans": list(plans)}).resolve(slots)


def test_a_space_that_lists_its_plans_holds_exactly_these():
    resolved = listed("se", "stage3: eca >> se; stage1=cbam", {"stage2": "eca"}, "stage1=se\nstage2=se\nstage3=se")
    assert isinstance(resolved, GivenPlans)
    wanted = {"stage1=se; stage2=se; stage3=se", "stage1=cbam; stage3=eca >> se", "stage2=eca"}
    assert {plan.typed for plan in resolved} == wanted
    assert [plan.typed for plan in resolved.plans] == [
        "stage1=se; stage2=se; stage3=se", "stage1=cbam; stage3=eca >> se", "stage2=eca"
    ]  # fmt: skip
    assert resolved.count == 3, "the first and the last are one plan"
    assert BARE not in resolved
    assert Plan.of("stage1=se") not in resolved
    assert [slot.slot for slot in resolved.slots] == list(STAGES)
    assert [slot.compositions for slot in resolved.slots] == [("none", "a")] * 3
    assert {resolved.sample(random.Random(i)).typed for i in range(40)} == wanted
    assert resolved.sample_unseen(random.Random(0), {p.hash for p in resolved}) is None


def test_a_list_has_no_choices_so_that_more_plans_can_join_it():
    one, two = listed("se"), listed("se", "stage2=eca")
    assert one.parameters == two.parameters == {}
    assert one.identity == two.identity
    assert one.params(next(iter(one))) == {}
    assert one.params(Plan.of("stage2=eca")) is None


def test_the_bare_backbone_may_be_listed():
    assert list(listed("none")) == [BARE]
    assert set(listed("se", {})) == {BARE, Plan.of("se").resolve(STAGES)}


def test_a_list_can_be_part_of_other_spaces():
    union = Space.from_dict({"union": [{"plans": ["se"]}, FEW]}).resolve(SLOTS)
    assert union.count == 4, "se everywhere is in both"
    wider = Space.from_dict({"union": [{"plans": ["stage2=sk"]}, FEW]}).resolve(SLOTS)
    assert wider.count == 5
    assert Plan.of("stage2=sk") in wider
    assert wider.plan(wider.params(Plan.of("stage2=sk"))).typed == "stage2=sk"
    assert union.identity != wider.identity


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"plans": ["sse"]}, "plans.0: .*'se'"),
        ({"plans": ["stage1=se; stage1=eca"]}, "twice"),
        ({"plans": [3]}, "a plan is a dict"),
        ({"plans": []}, "has either variants"),
        ({"plans": ["se"], "variants": ["se"]}, "has plans and variants"),
        ({"plans": ["se"], "slots": ["stage1"]}, "slots is only for a space with variants"),
        ({"plans": ["se"], "quotas": [{"max": 1}]}, "a list of plans cannot be narrowed"),
    ],
)
def test_malformed_lists(written, words):
    with pytest.raises(SpaceError, match=words):
        Space.from_dict(written)


def test_a_plan_that_does_not_fit_is_named():
    with pytest.raises(SpaceError, match="plan stage9=se: no slot named 'stage9'; did you mean 'stage"):
        listed("eca", "stage9=se")
    series = [Slot("stage1", 8, (12,), "NLC", "a")]
    with pytest.raises(SpaceError, match=r"plan cbam does not fit slot stage1: .*2-D"):
        listed("se", "cbam", slots=series)
