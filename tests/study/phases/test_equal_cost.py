"""The equal-cost control: its block, the search for its width, and that no space picks it up unasked."""

import pytest
import torch

import nasbench as nb
from nasbench.backbones import create_backbone, slots
from nasbench.backbones.dense import create_dense, slots_with_necks
from nasbench.errors import SpaceError, UnsupportedError
from nasbench.library.expression import parse
from nasbench.library.modules import module_spec
from nasbench.library.plan import Plan
from nasbench.measurement.costs import count
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.spaces import Space
from nasbench.study.phases.equal_cost import MODULE, control_for

HOSTS = {"test_resnet": (3, 32, 32), "patchtst": (96, 3)}


@pytest.fixture(scope="module", params=list(HOSTS))
def host(request):
    size = HOSTS[request.param]
    model = create_backbone(request.param, input_size=size)
    places = slots(model, size)
    return model, size, places, PlanCosts(model, places, input_size=size, identity_init=False)


@pytest.mark.parametrize(("dims", "taps"), [(1, 3), (2, 9)])
def test_the_block_by_hand(dims, taps):
    """w = 5 of C = 8: (2·8 + taps·5)·5 MACs a position, as many weights, two numbers a channel of each norm."""
    block = nb.create_module(MODULE, 8, dims=dims, width=5)
    size = (2, 8, 7) if dims == 1 else (2, 8, 7, 6)
    weights = (2 * 8 + taps * 5) * 5
    assert sum(p.numel() for p in block.parameters()) == weights + 2 * (5 + 5 + 8)
    assert count(block.eval(), torch.empty(1, *size[1:])).macs == weights * torch.Size(size[2:]).numel()
    for parameter in block.branch[6].parameters():  # the way back closed: the input is left
        parameter.data.zero_()
    x = torch.randn(size)
    assert torch.equal(block(x), x)


def test_the_block_is_a_residual_of_three_convolutions():
    """One channel, every weight 1: each position's neighbourhood sum of relu(x), clipped at 0, is added to it."""
    block = nb.create_module(MODULE, 1, dims=1, width=1).eval()
    for module in block.modules():
        if isinstance(module, torch.nn.Conv1d):
            module.weight.data.fill_(1.0)
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eps = 1e-12  # 1 + this is 1 in float32; 0 itself some versions of torch refuse
    x = torch.tensor([[[1.0, -2.0, 3.0]]])
    assert block(x).tolist() == [[[1.0 + 1.0, -2.0 + 4.0, 3.0 + 3.0]]]


def test_widths():
    assert nb.create_module(MODULE, 64).branch[0].out_channels == 16
    assert nb.create_module(MODULE, 3).branch[0].out_channels == 1
    with pytest.raises(UnsupportedError, match="width"):
        nb.create_module(MODULE, 8, width=0)


@pytest.mark.parametrize("plan", ["self_attention", "mixconv", {"stage2": "depthwise_separable >> se"}], ids=str)
def test_no_width_comes_nearer(host, plan):
    model, size, places, costs = host
    if len(size) == 2 and plan == "mixconv":
        plan = "gated_tcn"
    plan = Plan.of(plan).resolve([slot.name for slot in places])
    found = control_for(plan, costs)
    assert list(found.plan) == list(plan)
    assert found.exact
    for slot in found.slots:
        added = costs(Plan({slot.slot: plan[slot.slot]})).macs - costs.bare.macs
        assert slot.plan_macs == added
        gaps = {}
        for width in range(max(1, slot.width - 2), slot.width + 3):
            other = Plan.of({slot.slot: f"{MODULE}(width={width})"})
            gaps[width] = abs(costs(other).macs - costs.bare.macs - added)
        assert min(gaps.values()) == gaps[slot.width]
    whole = nb.measure(nb.insert(model, found.plan, input_size=size, identity_init=False), input_size=size)
    assert whole.macs == costs.bare.macs + sum(slot.control_macs for slot in found.slots)
    assert found.ratio == pytest.approx((whole.macs - costs.bare.macs) / (costs(plan).macs - costs.bare.macs))
    assert 0.8 < found.ratio < 1.25
    assert found.control_params == costs(found.plan).params - costs.bare.params


def test_a_plan_that_adds_less_gets_the_smallest_block(host):
    _, _, _, costs = host
    found = control_for(Plan.of({"stage1": "eca"}), costs)
    assert found.plan.text == '{"stage1": "bottleneck(width=1)"}'
    assert found.ratio > 3
    assert found.slots[0].ratio == found.ratio


def test_a_control_is_a_plan_like_any_other(host):
    _, _, _, costs = host
    found = control_for(Plan.of({"stage1": "self_attention"}), costs)
    assert Plan.of(found.plan.text) == found.plan
    assert control_for(found.plan, costs).plan == found.plan  # what is as dear as a control is that control
    assert control_for(Plan({}), costs).plan.is_bare
    assert control_for(Plan({}), costs).ratio is None


def test_no_selector_picks_the_control_up_unasked():
    assert not module_spec(MODULE).selectable
    assert module_spec(MODULE).has("locality")

    def texts(selector):
        return [v.canonical() for v in Space.from_dict({"variants": [selector]}).expand()]

    for selector in ({"property": "locality"}, {"modules": "*"}, {"modules": ["b*", "se"]}, {"family": "kernel"}):
        assert MODULE not in texts(selector)
    with pytest.raises(SpaceError):
        texts({"modules": "bottle*"})
    assert texts({"modules": MODULE}) == [MODULE]
    assert texts("bottleneck(width=3)") == ["bottleneck(width=3)"]


def test_what_needs_the_neck_goes_to_the_finest_level_that_is_read():
    """detr reads only the coarsest level, fcn the finest; stage4 reaches fcn only through the neck."""
    size = (3, 64, 64)
    for head, at in (("fcn", "level1"), ("detr(width=16, layers=1)", "level3")):
        host = create_dense("test_resnet", input_size=size, head=head)
        places = slots_with_necks(host, size, [parse("fpn(width=32)")])
        costs = PlanCosts(host, places, input_size=size, identity_init=False)
        plan = Plan.of({"neck": "fpn(width=32)", "stage1": "mixconv", "stage4": "mixconv"})
        control = control_for(plan, costs)
        assert list(control.plan) == [at, "stage1", *(["stage4"] if head != "fcn" else [])]
        # what the slots of the plan add, added up, is what the plan adds
        assert sum(slot.plan_macs for slot in control.slots) == costs(plan).macs - costs.bare.macs
        assert 0.8 < control.ratio < 1.2
