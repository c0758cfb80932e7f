import pytest
import timm
import torch

import nasbench as nb
from nasbench.backbones import create_backbone, slots
from nasbench.backbones.dense import create_dense, slots_with_necks
from nasbench.errors import PlanError, UnsupportedError
from nasbench.library.expression import parse
from nasbench.library.heads import attach_head
from nasbench.library.modules import list_modules, module_spec
from nasbench.library.plan import Plan, is_reached
from nasbench.measurement.costs.plan_costs import PlanCosts

HOSTS = {"test_resnet": (3, 64, 64), "test_vit": (3, 160, 160), "test_convnext": (3, 64, 64), "patchtst": (96, 7)}
PLANS = [
    "se",
    {"stage1": "eca >> dual_pool"},
    {"stage1": "se + eca", "stage2": "select(se, eca, sk)"},
    {"stage2": "gate(depthwise_separable, agent_attention(agents=9))"},
    {"stage2": "channel_attention"},
    {"stage1": "none + self_attention"},
]


@pytest.fixture(scope="module", params=[(h, i) for h in HOSTS for i in (True, False)], ids=str)
def host(request):
    name, identity_init = request.param
    size = HOSTS[name]
    model = create_backbone(name, input_size=size)
    places = slots(model, size)
    return model, size, identity_init, places, PlanCosts(model, places, input_size=size, identity_init=identity_init)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_sum_of_the_parts_is_the_whole(host, plan):
    model, size, identity_init, places, costs = host
    resolved = Plan.of(plan).resolve([slot.name for slot in places])
    added = costs(resolved)
    whole = nb.measure(nb.insert(model, resolved, input_size=size, identity_init=identity_init), input_size=size)
    for name in ("params", "macs", "elementwise_flops", "activations"):
        assert getattr(added, name) == getattr(whole, name), name
    assert added.columns["exact"] == whole.exact


def test_each_series_by_itself_is_the_whole_too():
    plan = {"stage2": "gated_tcn >> cbam"}
    model = create_backbone("mtgnn", input_size=(96, 7))
    costs = PlanCosts(model, slots(model, (96, 7)), input_size=(96, 7), identity_init=True)
    whole = nb.measure(nb.insert(model, plan, input_size=(96, 7)), input_size=(96, 7))
    added = costs(Plan.of(plan))
    assert (added.params, added.macs, added.elementwise_flops) == (whole.params, whole.macs, whole.elementwise_flops)


def test_the_bare_backbone_costs_what_it_costs(host):
    model, size, _, _, costs = host
    assert costs(Plan.of(None)).macs == nb.measure(model, input_size=size).macs


def test_parts_are_counted_once(host, monkeypatch):
    _, _, _, places, costs = host
    plan = Plan.of("gate(se, eca)").resolve([slot.name for slot in places])
    first = costs(plan)
    monkeypatch.setattr("nasbench.measurement.costs.plan_costs.count", lambda *a: pytest.fail("counted again"))
    assert costs(plan) == first


def test_what_does_not_fit_is_said(host):
    _, _, _, places, costs = host
    with pytest.raises(UnsupportedError):
        costs(Plan.of("self_attention(heads=7)").resolve([slot.name for slot in places]))


def test_the_host_is_not_touched():
    model = create_backbone("test_resnet")
    PlanCosts(model, slots(model, (3, 64, 64)), input_size=(3, 64, 64), identity_init=True)
    assert not any(m._forward_hooks for m in model.modules())
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


SMALL = {  # of each way to compute: dense, shuffled, several branches, windows, tokens, pyramids
    "convnext_atto": 64, "densenet121": 64, "edgenext_xx_small": 64, "efficientnet_b0": 64,
    "efficientformer_l1": 224, "fastvit_t8": 64, "hrnet_w18_small": 64, "levit_128s": 224, "mixer_s32_224": 224,
    "mobilevit_xxs": 64, "mvitv2_tiny": 224, "pvt_v2_b0": 64, "swin_tiny_patch4_window7_224": 224,
    "vit_tiny_patch16_224": 224, "xcit_nano_12_p16_224": 224,
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in SMALL if timm.is_model(n)])
def test_bare_plus_module_is_the_whole_in_many_families(name):
    size = (3, SMALL[name], SMALL[name])
    with torch.device("meta"):
        model = create_backbone(name, input_size=size)
    places = slots(model, size)
    plan = Plan.of("eca >> depthwise_separable").resolve([slot.name for slot in places])
    costs = PlanCosts(model, places, input_size=size, identity_init=True)
    added = costs(plan)
    whole = nb.measure(nb.insert(model, plan, input_size=size), input_size=size)
    assert (added.params, added.macs, added.activations) == (whole.params, whole.macs, whole.activations)
    assert whole.macs > costs.bare.macs
    assert whole.exact


SMALL_HEADS = {
    "detr": "detr(width=16, layers=1, hidden=16, queries=4)",
    "deformable_detr": "deformable_detr(width=16, layers=1, hidden=16, queries=4)",
    "fcos": "fcos(convs=1)",
}
DENSE_HEADS = [n for n in list_modules(kind="head") if {"segmentation", "detection"} & set(module_spec(n).tasks)]


@pytest.mark.parametrize("name", DENSE_HEADS)
def test_the_parts_of_a_dense_model_are_the_whole(name):
    """With every head, without a neck and with one of the plan: a module in each slot, some without a gate."""
    head, size = SMALL_HEADS.get(name, name), (3, 64, 64)
    host = create_dense("test_resnet", input_size=size, head=head)
    neck = {"fcn": "asff", "yolo": "pan(width=16)"}.get(name, "fpn(width=16)")
    places = slots_with_necks(host, size, [parse(neck)])

    def attach(bare):
        return attach_head(bare, head, num_classes=5)

    costs = PlanCosts(host, places, input_size=size, identity_init=True, attach=attach)
    for chosen in ("none", neck):
        live = [slot.name for slot in places if is_reached(slot, chosen) and slot.name != "neck"]
        plan = Plan.of({"neck": chosen, **{slot: ("se", "eca >> se")[k % 2] for k, slot in enumerate(live)}})
        assert set(plan) == {*live, *(["neck"] if chosen != "none" else [])}
        whole = nb.measure(attach(nb.insert(host, plan, input_size=size)), input_size=size)
        parts = costs(plan)
        for figure in ("params", "macs", "elementwise_flops", "activations"):
            assert getattr(parts, figure) == getattr(whole, figure), (chosen, figure)


def test_a_plan_in_a_dead_slot_has_no_cost():
    host = create_dense("test_resnet", input_size=(3, 64, 64), head="fcn")
    costs = PlanCosts(host, slots(host, (3, 64, 64)), input_size=(3, 64, 64), identity_init=True)
    with pytest.raises(PlanError, match=r"slot level3: with no neck, .* head fcn"):
        costs(Plan.of({"level3": "se"}))
    necked = costs(Plan.of({"neck": "fpn(width=8)", "stage4": "se"}))  # live with this neck, though not without it
    assert necked.macs > costs(Plan.of({"neck": "fpn(width=8)"})).macs
