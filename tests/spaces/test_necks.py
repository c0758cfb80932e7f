"""Spaces over slots that only reach the output with some necks: counts by hand, draws, neighbours and given plans."""

import random

import pytest

from nasbench.backbones import Slot
from nasbench.errors import SpaceError
from nasbench.library.plan import BARE, Plan
from nasbench.spaces import load_space

SLOTS = [
    Slot("stage1", 8, (8, 8), "NCHW", "a"),
    Slot("stage2", 16, (4, 4), "NCHW", "b", necks=("fpn(width=8)",)),
    Slot("neck", 8, (8, 8), "NCHW", "neck", levels=(8, 16)),
    Slot("level1", 8, (8, 8), "NCHW", "levels.0"),
    Slot("level2", 8, (4, 4), "NCHW", "levels.1", necks=("pan(width=8)",)),
]
NECKS = {"slots": ["neck"], "variants": ["fpn(width=8)", "pan(width=8)"]}
ALL = {"variants": ["se"], "slots": ["*"], "overrides": [NECKS]}


def resolved(space):
    return load_space(space).resolve(SLOTS)


def test_plans_are_counted_by_hand():
    """stage1 and level1 are free: 4. Without a neck nothing else; with fpn stage2 too: 8; with pan level2 too: 8."""
    space = resolved(ALL)
    plans = list(space)
    assert space.count == len(set(plans)) == 4 + 8 + 8
    assert all(("stage2" not in p or p.neck == "fpn(width=8)") and ("level2" not in p or p.neck == "pan(width=8)")
               for p in plans)  # fmt: skip


def test_no_draw_and_no_neighbour_is_dead():
    space, rng = resolved(ALL), random.Random(0)
    plans = set(space)
    assert all(space.sample(rng) in plans for _ in range(50))
    for plan in plans:
        near = list(space.neighbours(plan))
        assert set(near) <= plans
        assert all(plan in space.neighbours(each) for each in near)
    assert Plan.of({"stage2": "se"}) not in space
    assert BARE in space


@pytest.mark.parametrize(("space", "slots", "count"), [
    # no neck in the space: the slots that need one are not offered
    ({"variants": ["se"], "slots": ["*"], "overrides": [{"slots": ["neck"], "compositions": ["none"]}]},
     ["stage1", "neck", "level1"], 4),
    ({"variants": ["se"], "slots": ["stages", "level*"], "same": True}, ["stage1", "level1"], 2),
    ({"base": ALL, "only": {"exclude": ["pan"]}}, ["stage1", "stage2", "neck", "level1"], 4 + 8),
    ({"union": [{"variants": ["se"], "slots": ["stages"]}, NECKS]}, ["stage1", "stage2", "neck"], 2 + 2),
])  # fmt: skip
def test_spaces_offer_what_their_necks_reach(space, slots, count):
    found = resolved(space)
    assert [each.slot for each in found.slots] == slots
    assert found.count == count


def test_one_expression_for_every_stage_goes_to_the_live_stages():
    space = resolved({"plans": ["se", "stages=se; neck=fpn(width=8)"]})
    assert {plan.typed for plan in space} == {"stage1=se", "neck=fpn(width=8); stage1=se; stage2=se"}
    with pytest.raises(SpaceError, match="stage2"):
        resolved({"plans": ["stage2=se"]})
