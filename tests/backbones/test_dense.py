"""Dense hosts: levels, slots, necks in plans, heads, and the way back."""

import pytest
import torch

import nasbench as nb
from nasbench.backbones.dense import create_dense, slots_with_necks
from nasbench.backbones.insertion import bare_state_dict, freeze_backbone, insert, plan_of, remove
from nasbench.errors import PlanError
from nasbench.library.expression import parse
from nasbench.library.heads import attach_head

SIZE = (3, 96, 96)


@pytest.fixture(scope="module")
def host():
    torch.manual_seed(0)
    return create_dense("test_resnet", "fpn(width=32)", input_size=SIZE).eval()


def image():
    return torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(0))


def test_slots_are_stages_then_neck_then_levels(host):
    found = {slot.name: slot for slot in nb.slots(host, SIZE) if "block" not in slot.name}
    assert list(found) == ["stage1", "stage2", "stage3", "stage4", "neck", "level1", "level2", "level3"]
    assert found["neck"].levels == (48, 192, 96)
    assert [found[f"level{k}"].size for k in (1, 2, 3)] == [(12, 12), (6, 6), (3, 3)]
    assert {found[f"level{k}"].channels for k in (1, 2, 3)} == {32}
    bare = [(slot.name, slot.size) for slot in nb.slots("test_resnet", SIZE) if "block" not in slot.name]
    assert [(name, slot.size) for name, slot in found.items() if name.startswith("stage")] == bare


@pytest.mark.parametrize(("name", "size", "strides"), [
    ("resnet18", (3, 128, 160), (4, 8, 16, 32)), ("test_vit", (3, 160, 160), (4, 8, 16, 32)),
    ("test_convnext", (3, 96, 64), (8, 16, 32)), ("vit_tiny_r_s16_p8_224", (3, 224, 224), (8, 16, 32)),
])  # fmt: skip
def test_levels_have_the_strides_they_say(name, size, strides):
    with torch.device("meta"):
        made = create_dense(name, input_size=size)
    assert made.strides == strides
    assert [shape[2:] for shape in made.level_shapes(size)] == [(size[1] // s, size[2] // s) for s in strides]


def test_a_plan_changes_nothing_at_first_but_its_neck(host):
    maps = host(image())
    model = insert(host, {"stage2": "se", "level1": "eca"}, input_size=SIZE)
    assert all(torch.equal(a, b) for a, b in zip(model(image()), maps, strict=True))
    necked = insert(host, {"neck": "pan(width=16)", "level2": "cbam"}, input_size=SIZE)
    assert [m.shape[1] for m in necked(image())] == [16, 16, 16]
    assert plan_of(necked).text == '{"level2": "cbam", "neck": "pan(width=16)"}'


def test_remove_gives_the_host_back(host):
    model = attach_head(insert(host, {"neck": "asff", "stage1": "se"}, input_size=SIZE), "fcn", num_classes=4)
    back = remove(model)
    assert all(torch.equal(a, b) for a, b in zip(back(image()), host(image()), strict=True))
    assert bare_state_dict(model).keys() == host.state_dict().keys()


def test_a_head_gets_the_levels_of_the_neck(host):
    model = attach_head(insert(host, {"neck": "pan(width=64)"}, input_size=SIZE), "fcos(convs=2)", num_classes=3)
    raw = model(image())
    assert raw["cls_logits"].shape == (2, 12 * 12 + 6 * 6 + 3 * 3, 3)
    segmented = attach_head(create_dense("test_resnet", input_size=SIZE), "fcn", num_classes=4).eval()(image())
    assert segmented["logits"].shape == (2, 4, 96, 96)


def test_every_slot_reaches_the_head(host):
    plan = dict.fromkeys((s.name for s in nb.slots(host, SIZE) if s.name != "neck"), "se")
    model = attach_head(insert(host, plan, input_size=SIZE), "fcos(convs=1)", num_classes=3)
    raw = model(image())
    (raw["cls_logits"].sum() + raw["bbox_regression"].sum() + raw["bbox_ctrness"].sum()).backward()
    for name, parameter in model.named_parameters():
        assert ("gate" not in name) or parameter.grad.abs() > 0, name


def test_frozen_backbones_train_neck_and_head(host):
    model = freeze_backbone(attach_head(insert(host, {"stage1": "se"}, input_size=SIZE), "fcn", num_classes=3))
    trained = {
        name.split(".")[1] if name.startswith("host") else "head"
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    assert trained == {"neck", "head", "nasbench"}


@pytest.mark.parametrize(("plan", "message"), [
    ({"stage1": "fpn"}, "fpn is a neck.*slot `neck`"), ({"neck": "se"}, "takes one neck"),
    ({"stage1": "fcn"}, "fcn is a head"), ({"neck": "fpn >> pan"}, "stands alone"), ({"level9": "se"}, "level3"),
])  # fmt: skip
def test_what_does_not_fit_is_said(host, plan, message):
    with pytest.raises(nb.errors.NasbenchError, match=message):
        insert(host, plan, input_size=SIZE)


def test_what_is_no_head(host):
    with pytest.raises(PlanError, match=r"se is a module, not a head; the heads are .*fcos"):
        attach_head(host, "se", num_classes=3)


STAGES = ["stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize(("head", "neck", "names"), [
    # fcn reads the level of stride 8, detr the coarsest. Without a neck, what comes later in the network is dead.
    ("fcn", "none", ["stage1", "stage2", "neck", "level1"]), ("fcn", "fpn(width=8)", [*STAGES, "neck", "level1"]),
    ("fcn(max_stride=16)", "none", ["stage1", "stage2", "stage3", "neck", "level2"]),
    ("detr(width=16, layers=1)", "none", [*STAGES, "neck", "level3"]),
    ("semantic_fpn", "none", [*STAGES, "neck", "level1", "level2", "level3"]),
    (None, "none", [*STAGES, "neck", "level1", "level2", "level3"]),
])  # fmt: skip
def test_only_slots_that_the_head_depends_on_are_listed(head, neck, names):
    made = create_dense("test_resnet", neck, input_size=SIZE, head=head)
    found = [slot.name for slot in nb.slots(made, SIZE)]
    assert [name for name in found if "block" not in name] == names
    blocks = [f"{name}.block1" for name in names if name.startswith("stage")]
    assert [name for name in found if "block" in name] == blocks  # each of its stages is one block


def test_which_slots_are_live_depends_on_the_neck_of_the_plan():
    made = create_dense("test_resnet", input_size=SIZE, head="fcn")
    with pytest.raises(PlanError, match=r"slot stage4: with no neck, .* the head fcn; the slots that do are stage1"):
        insert(made, {"stage4": "se"}, input_size=SIZE)
    with pytest.raises(PlanError, match=r"slot level2: with neck fpn\(width=8\), .* head fcn"):
        insert(made, {"level2": "se", "neck": "fpn(width=8)"}, input_size=SIZE)
    assert list(plan_of(insert(made, "se", input_size=SIZE))) == ["stage1", "stage2"]
    plan = {"neck": "fpn(width=8)", "stage4": "se"}
    model = attach_head(insert(made, plan, input_size=SIZE), "fcn", num_classes=3)
    model(image())["logits"].sum().backward()
    gates = {name: p.grad for name, p in model.named_parameters() if name.endswith("gate")}
    assert list(gates) == ["host.nasbench.stage4.gate"]
    assert all(grad.abs() > 0 for grad in gates.values())


def test_slots_say_with_which_necks_they_are_live():
    made = create_dense("test_resnet", input_size=SIZE, head="fcn")
    necks = [parse("fpn(width=8)"), parse("pan(width=8)")]
    found = {slot.name: slot.necks for slot in slots_with_necks(made, SIZE, necks) if "block" not in slot.name}
    both = ("fpn(width=8)", "pan(width=8)")
    assert found == {"stage1": None, "stage2": None, "stage3": both, "stage4": both, "neck": None, "level1": None}
