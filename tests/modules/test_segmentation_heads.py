"""Heads of segmentation: against torchvision, torch's functions step by step, and values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from support.modules import randomised
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from nasbench.errors import ExpressionError, UnsupportedError
from nasbench.library.expression import parse
from nasbench.library.modules import create_head, create_module, list_modules

CHANNELS, STRIDES = [8, 12, 16], [4, 8, 16]
HEADS = list_modules(kind="head")
SEGMENTATION = ["danet_head", "fcn", "semantic_fpn"]


def build(name: str, **hyper: object) -> nn.Module:
    return randomised(create_head(name, CHANNELS, num_classes=3, strides=STRIDES, **hyper), 0.3)


def pyramid(size: tuple[int, int] = (32, 48)) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(1)
    maps = [
        torch.randn(2, c, *(-(-side // stride) for side in size), dtype=torch.float64)
        for c, stride in zip(CHANNELS, STRIDES, strict=True)
    ]
    return maps, torch.zeros(2, 3, *size)


def test_linear_is_a_classifier_of_averages():
    head, (maps, inputs) = build("linear"), pyramid()
    pooled = torch.cat([x.mean((2, 3)) for x in maps], 1)
    raw = head(maps, inputs)
    assert torch.allclose(raw["logits"], pooled @ head.classify.weight.T + head.classify.bias)
    assert head.decode(raw, []) is raw["logits"]
    # the cross-entropy of equal logits of three classes
    assert float(head.loss({"logits": torch.zeros(2, 3)}, torch.tensor([0, 2]))) == pytest.approx(math.log(3))


@pytest.mark.parametrize(("max_stride", "level"), [(8, 1), (16, 2), (32, 2), (4, 0), (2, 0)])
def test_fcn_is_torchvisions_at_the_level_of_its_stride(max_stride: int, level: int):
    head, (maps, inputs) = build("fcn", max_stride=max_stride), pyramid()
    oracle = FCNHead(CHANNELS[level], 3).double().eval()
    oracle.load_state_dict(head.layers.state_dict())
    expected = F.interpolate(oracle(maps[level]), (32, 48), mode="bilinear", align_corners=False)
    assert torch.allclose(head(maps, inputs)["logits"], expected)


def gn_block(block: nn.Sequential, index: int, x: Tensor) -> Tensor:
    conv, norm = block[index], block[index + 1]
    assert conv.bias is None
    y = F.conv2d(x, conv.weight, padding=1)
    return F.group_norm(y, norm.num_groups, norm.weight, norm.bias).relu()


@pytest.mark.parametrize("size", [(32, 48), (29, 43)])
def test_semantic_fpn_is_its_formula(size: tuple[int, int]):
    head, (maps, inputs) = build("semantic_fpn", width=64), pyramid(size)
    total = gn_block(head.branches[0], 0, maps[0])  # stride 4: one convolution, no doubling
    side = total.shape[2:]
    for level in (1, 2):
        y = maps[level]
        for step in range(level):  # stride 8 is doubled once, stride 16 twice
            y = F.interpolate(gn_block(head.branches[level], 4 * step, y), scale_factor=2, mode="bilinear")
        total = total + F.interpolate(y, side, mode="bilinear")
    assert [branch[1].num_groups for branch in head.branches] == [32, 32, 32]
    expected = F.interpolate(F.conv2d(total, head.classify.weight, head.classify.bias), size, mode="bilinear")
    assert torch.allclose(head(maps, inputs)["logits"], expected)


def test_semantic_fpn_sums_at_stride_4_where_the_finest_level_is_coarser():
    head = create_head("semantic_fpn", [4, 4], num_classes=2, strides=[8, 32], width=8)
    assert [sum(isinstance(layer, nn.Upsample) for layer in branch) for branch in head.branches] == [1, 3]
    head.classify = nn.Identity()
    seen: list[torch.Size] = []
    head.classify.register_forward_hook(lambda _module, _inputs, y: seen.append(y.shape))
    head([torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 2, 2)], torch.zeros(1, 3, 64, 64))
    assert seen == [(1, 8, 16, 16)]


@pytest.mark.parametrize("strides", [[2, 4], [6, 12], [4, 12]])
def test_semantic_fpn_refuses_strides_that_doubling_does_not_reach(strides: list[int]):
    with pytest.raises(UnsupportedError, match=r"allowed: 4, 8, 16, 32"):
        create_head("semantic_fpn", [4, 4], num_classes=2, strides=strides)


def bn_block(layers: nn.Sequential, x: Tensor) -> Tensor:
    conv, norm, _ = layers
    y = F.conv2d(x, conv.weight, padding=1)
    return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


def test_danet_head_is_its_formula():
    head, (maps, inputs) = build("danet_head"), pyramid()
    x, results = maps[1], {}  # stride 8
    for key, name in (("position", "position_attention"), ("channel", "channel_attention")):
        first, attention, second = getattr(head, key)
        module = create_module(name, 3).double()  # 12 // 4
        module.attention.load_state_dict(attention.state_dict())
        results[key] = bn_block(second, module(bn_block(first, x)))
    results["logits"] = results["position"] + results["channel"]
    raw = head(maps, inputs)
    for key, last in (
        ("logits", head.classify_sum),
        ("position", head.classify_position),
        ("channel", head.classify_channel),
    ):
        y = F.conv2d(results[key], last[1].weight, last[1].bias)
        assert torch.allclose(raw[key], F.interpolate(y, (32, 48), mode="bilinear")), key
        assert (type(last[0]), last[0].p) == (nn.Dropout2d, 0.1)


def test_danet_head_starts_without_attention_and_trains_three_results():
    head = create_head("danet_head", CHANNELS, num_classes=3, strides=STRIDES)
    assert [part[1].gamma.item() for part in (head.position, head.channel)] == [0, 0]
    mask = torch.zeros(1, 1, 1, dtype=torch.int64)
    raw = {"logits": torch.zeros(1, 3, 1, 1), "position": torch.tensor([50.0, 0, 0]).view(1, 3, 1, 1)}
    raw["channel"] = torch.tensor([0.0, 7.0, 0]).view(1, 3, 1, 1)
    # log 3 for equal logits, 0 for a sure one, log(e^7 + 2) for a wrong one
    assert float(head.loss(raw, mask)) == pytest.approx(math.log(3) + math.log(math.exp(7) + 2))
    assert head.decode({**raw, "logits": raw["channel"]}, []).tolist() == [[[1]]]


@pytest.mark.parametrize("name", SEGMENTATION)
def test_void_pixels_do_not_count(name: str):
    head = build(name)
    weight = 3 if name == "danet_head" else 1
    logits = torch.zeros(2, 3, 2, 2)
    logits[0, 1, 0, 0] = 9.0
    raw = {"logits": logits, "position": logits, "channel": logits}
    mask = torch.full((2, 2, 2), 255)
    assert float(head.loss(raw, mask)) == 0
    mask[0, 0, 0], mask[1, 1, 1] = 1, 0
    # two labelled pixels: one almost sure and right, one undecided
    expected = (math.log(1 + 2 * math.exp(-9)) + math.log(3)) / 2
    assert float(head.loss(raw, mask)) == pytest.approx(weight * expected)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_decode_gives_the_class_of_the_largest_logit(name: str):
    mask = torch.randint(3, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    raw = {"logits": F.one_hot(mask, 3).permute(0, 3, 1, 2).float()}
    assert torch.equal(build(name).decode(raw, [(5, 7)] * 2), mask)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_no_part_of_a_chain(name: str):
    with pytest.raises(ExpressionError, match="is a head, which takes a whole pyramid"):
        parse(f"se >> {name}")
    with pytest.raises(UnsupportedError, match="create_head"):
        create_module(name, 64)


def test_heads_are_listed_by_kind_alone():
    assert set(SEGMENTATION) < set(HEADS)
    assert not set(HEADS) & set(list_modules())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "se"}, "se is a module, not a head; the heads are"),
        ({"name": "fpn"}, "fpn is a neck, not a head"),
        ({"strides": [8, 4, 16]}, "one stride a level, fine to coarse"),
        ({"strides": [4, 8]}, "one stride a level, fine to coarse"),
        ({"num_classes": 0}, "num_classes must be a positive whole number, got 0"),
        ({"channels": []}, "head fcn needs a list of channel counts"),
        ({"channels": 64}, "head fcn needs a list of channel counts"),
        ({"max_stride": 0}, "head fcn: max_stride is 0; allowed: a whole number, at least 1"),
        ({"depth": 2}, "hyper-parameter of fcn"),
    ],
)
def test_create_head_says_what_it_needs(given: dict, message: str):
    with pytest.raises(ValueError, match=message):
        create_head(**{"name": "fcn", "channels": CHANNELS, "num_classes": 3, "strides": STRIDES, **given})
