"""Heads of detection: losses and matchings worked out by hand, decoding as the inverse, and torchvision's FCOS."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict

import pytest
import torch
from support.modules import randomised
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import box_convert, generalized_box_iou

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_head, create_module
from nasbench.ops.deformable import PyramidDeformableAttention
from nasbench.ops.detection import best_detections
from nasbench.ops.set_prediction import box_losses, match, pixel_boxes, unit_boxes

CHANNELS, STRIDES, SIZE = [32, 32], [8, 16], (48, 64)
DETR = {"width": 16, "heads": 2, "queries": 6, "layers": 2, "hidden": 16}
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
TARGETS = [
    {"boxes": torch.tensor([[4.0, 8, 20, 40], [30, 10, 62, 26]]), "labels": torch.tensor([2, 0])},
    {"boxes": torch.tensor([[10.0, 2, 18, 12]]), "labels": torch.tensor([1])},
]


def build(name: str, **hyper: object) -> nn.Module:
    return create_head(name, CHANNELS, num_classes=3, strides=STRIDES, **hyper)


def pyramid(batch: int = 2) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(1)
    maps = [torch.randn(batch, c, SIZE[0] // s, SIZE[1] // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    return maps, torch.zeros(batch, 3, *SIZE)


def sorted_rows(detections: dict[str, Tensor]) -> list[list[float]]:
    return sorted(
        [*box, float(label)] for box, label in zip(detections["boxes"].tolist(), detections["labels"], strict=True)
    )


# -- boxes -------------------------------------------------------------------------------------------------------------


def test_best_detections_by_hand():
    boxes = torch.tensor([[-5.0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 90, 30]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.0, 0.7]])
    found = best_detections(boxes, scores, (25, 40), min_score=0.05, max_iou=0.5)
    # box 1 is suppressed by box 0 in class 0 and suppresses it in class 1. Boxes end at the sides of the image.
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [20, 20, 40, 25], [0, 0, 10, 11]]
    assert found["labels"].tolist() == [0, 1, 1]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.3])
    every = best_detections(boxes, scores, (25, 40))
    assert every["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.3, 0.1])  # no suppression, and above 0


def test_units_and_pixels_are_inverse():
    sizes = torch.tensor([[48, 64], [48, 64]])
    [first, second] = unit_boxes(TARGETS, sizes)
    assert first[0].tolist() == pytest.approx([12 / 64, 24 / 48, 16 / 64, 32 / 48])
    assert torch.allclose(pixel_boxes(first[None], sizes[:1])[0], TARGETS[0]["boxes"])
    assert second.shape == (1, 4)


# -- yolo --------------------------------------------------------------------------------------------------------------


def cells_of(head: nn.Module, rows: int, columns: int, objects: dict[str, Tensor]) -> Tensor:
    """What a perfect head of two boxes and three classes gives for a 48x64 image: the second box is responsible."""
    cells = torch.zeros(rows, columns, 13)
    for (x1, y1, x2, y2), label in zip(objects["boxes"].tolist(), objects["labels"].tolist(), strict=True):
        x, y = (x1 + x2) / 2 / 64 * columns, (y1 + y2) / 2 / 48 * rows
        cell = cells[int(y), int(x)]
        cell[5:10] = torch.tensor([x % 1, y % 1, math.sqrt((x2 - x1) / 64), math.sqrt((y2 - y1) / 48), 1.0])
        cell[10 + label] = 1
    return cells


def test_yolo_reads_the_coarsest_level_of_stride_at_most_16():
    heads = {
        stride: create_head("yolo", [8] * len(strides), num_classes=3, strides=strides).level
        for stride, strides in ((8, [4, 8, 32]), (16, [8, 16, 32]), (9, [9]))
    }
    assert heads == {8: 1, 16: 1, 9: 0}
    with pytest.raises(UnsupportedError, match="stride at most 16"):
        create_head("yolo", [8], num_classes=3, strides=[32])
    maps, inputs = pyramid()
    raw = build("yolo", boxes=3)(maps, inputs)
    assert raw["cells"].shape == (2, 3, 4, 3 * 5 + 3)
    assert raw["size"].tolist() == [[48, 64]] * 2


def test_yolo_decodes_a_perfect_output_and_has_no_loss():
    head, size = build("yolo"), torch.tensor([[48, 64]] * 2)
    raw = {"cells": torch.stack([cells_of(head, 3, 4, each) for each in TARGETS]), "size": size}
    assert float(head.loss(raw, TARGETS)) == pytest.approx(0, abs=1e-9)
    for found, objects in zip(head.decode(raw, [SIZE] * 2), TARGETS, strict=True):
        assert torch.allclose(torch.tensor(sorted_rows(found)), torch.tensor(sorted_rows(objects)), atol=1e-4)
        assert found["scores"].tolist() == pytest.approx([1.0] * len(objects["labels"]))


def test_yolo_loss_by_hand():
    head = build("yolo")
    # one cell of 48x64. The object is 32 wide and 12 high at the centre, so x = y = 0.5, √w = √0.5, √h = 0.5
    objects = {"boxes": torch.tensor([[16.0, 18, 48, 30]]), "labels": torch.tensor([1])}
    same, other = [0.5, 0.5, math.sqrt(0.5), 0.5], [0.5, 0.5, math.sqrt(0.5), math.sqrt(0.5)]
    cells = torch.tensor([*other, 0.3, *same, 0.6, 0.2, 0.9, 0.1]).view(1, 1, 1, 13)
    raw = {"cells": cells, "size": torch.tensor([[48, 64]])}
    # the second box has IoU 1, the first has 1/2. Confidence: (0.6 - 1)² and half of 0.3². Classes: 0.2², 0.1², 0.1²
    expected = 0.4**2 + 0.5 * 0.3**2 + 0.2**2 + 0.1**2 + 0.1**2
    assert float(head.loss(raw, [objects])) == pytest.approx(expected)
    # without the second box the first is responsible: 5 (√0.5 - 0.5)², and its confidence should be its IoU
    cells[..., 5:10] = torch.tensor([0.0, 0, 0, 0, 0.6])
    expected = 5 * (math.sqrt(0.5) - 0.5) ** 2 + (0.3 - 0.5) ** 2 + 0.5 * 0.6**2 + 0.2**2 + 0.1**2 + 0.1**2
    assert float(head.loss(raw, [objects])) == pytest.approx(expected)
    assert float(head.loss(raw, [NOTHING])) == pytest.approx(0.5 * (0.3**2 + 0.6**2))  # classes do not count


def test_yolo_learns_the_smallest_object_of_a_cell():
    head = build("yolo")
    both = {"boxes": torch.tensor([[20.0, 18, 30, 30], [0, 0, 60, 46]]), "labels": torch.tensor([1, 2])}
    small = {key: value[:1] for key, value in both.items()}
    raw = {"cells": torch.rand(1, 1, 1, 13), "size": torch.tensor([[48, 64]])}
    assert torch.equal(head.loss(raw, [both]), head.loss(raw, [small]))


def test_yolo_passes_no_gradient_through_the_iou():
    head = build("yolo")
    cells = torch.rand(1, 1, 1, 13, requires_grad=True)
    objects = {"boxes": torch.tensor([[0.0, 0, 64, 48]]), "labels": torch.tensor([0])}
    head.loss({"cells": cells, "size": torch.tensor([[48, 64]])}, [objects]).backward()
    flat, grad = cells.detach().flatten(), cells.grad.flatten()
    best = 0 if grad[0] else 5
    assert grad[best : best + 2].tolist() == pytest.approx((10 * (flat[best : best + 2] - 0.5)).tolist())
    assert grad[best + 2 : best + 4].tolist() == pytest.approx((10 * (flat[best + 2 : best + 4] - 1)).tolist())


# -- fcos --------------------------------------------------------------------------------------------------------------


def torchvisions(head: nn.Module) -> FCOS:
    body = nn.Identity()
    body.out_channels = 32
    oracle = FCOS(
        body,
        3,
        min_size=SIZE[0],
        max_size=SIZE[1],
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
        anchor_generator=AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * 2),
        head=FCOSHead(32, 1, 3, 2),
        detections_per_img=100,
        size_divisible=16,
    )
    oracle.head.load_state_dict(head.fcos.head.state_dict())
    return oracle


def test_fcos_is_torchvisions():
    head = build("fcos", convs=2)
    for parameter in head.parameters():  # its own start finds nothing
        nn.init.normal_(parameter, std=0.1)
    oracle, (maps, inputs) = torchvisions(head), pyramid()

    class Maps(nn.Module):
        def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
            return OrderedDict((str(i), each) for i, each in enumerate(maps))

    oracle.backbone = Maps()
    raw = head(maps, inputs)
    losses = oracle.train()(list(inputs), TARGETS)
    assert torch.allclose(head.loss(raw, TARGETS), sum(losses.values()))
    for found, expected in zip(head.decode(raw, [SIZE] * 2), oracle.eval()(list(inputs)), strict=True):
        assert len(found["scores"]) > 10
        assert all(torch.allclose(found[key], expected[key]) for key in ("boxes", "scores", "labels"))


def test_fcos_brings_levels_to_one_width():
    assert all(isinstance(layer, nn.Identity) for layer in build("fcos").narrow)
    mixed = create_head("fcos", [24, 64], num_classes=3, strides=STRIDES, width=64)
    assert [type(layer) for layer in mixed.narrow] == [nn.Conv2d, nn.Identity]
    assert create_head("fcos", [24, 64], num_classes=3, strides=STRIDES).narrow[1].out_channels == 256
    with pytest.raises(UnsupportedError, match="width is 48; allowed: multiples of 32"):
        build("fcos", width=48)


def test_fcos_decodes_a_perfect_output():
    head, (maps, inputs) = build("fcos", convs=1), pyramid(1)
    raw = head(maps, inputs)
    anchors = torch.cat(raw["anchors"], dim=1)[0]
    centres, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    [box], label = torch.tensor([[5.0, 7, 29, 33]]), 2
    inside = (centres > box[:2]).all(1) & (centres < box[2:]).all(1) & (sides[:, 0] == 8)
    assert inside.sum() == 12  # columns 8 16 24, rows 8 16 24 32
    raw["cls_logits"] = torch.full_like(raw["cls_logits"], -20)
    raw["cls_logits"][0, inside, label] = 20
    distances = torch.cat([centres - box[:2], box[2:] - centres], dim=1) / sides.repeat(1, 2)
    raw["bbox_regression"], raw["bbox_ctrness"] = distances[None], torch.full_like(raw["bbox_ctrness"], 20.0)
    [found] = head.decode(raw, [SIZE])
    assert torch.allclose(found["boxes"], box[None], atol=1e-4)
    assert (found["labels"].tolist(), found["scores"].tolist()) == ([2], pytest.approx([1.0]))


# -- detr --------------------------------------------------------------------------------------------------------------


def raw_of(logits: list, boxes: list) -> dict[str, Tensor]:
    """One image of 48x64, one layer."""
    return {
        "logits": torch.tensor(logits, dtype=torch.float32)[None, None],
        "boxes": torch.tensor(boxes, dtype=torch.float32)[None, None],
        "size": torch.tensor([[48, 64]]),
    }


def test_matching_is_the_cheapest_of_all():
    torch.manual_seed(0)
    boxes, wanted = torch.rand(1, 5, 4) / 2 + 0.2, [torch.rand(3, 4) / 2 + 0.2]
    class_cost = -torch.rand(5, 3)
    [(queries, objects)] = match([class_cost], boxes, wanted)
    overlap = generalized_box_iou(*(box_convert(each, "cxcywh", "xyxy") for each in (boxes[0], wanted[0])))
    cost = class_cost + 5 * (boxes[0][:, None] - wanted[0]).abs().sum(2) - 2 * overlap
    best = min(itertools.permutations(range(5), 3), key=lambda rows: sum(cost[row, i] for i, row in enumerate(rows)))
    assert dict(zip(objects.tolist(), queries.tolist(), strict=True)) == dict(enumerate(best))


def test_box_losses_by_hand():
    # the box is right in its centre and twice as wide: L1 0.2, IoU 1/2, and the hull is the larger box, so GIoU is 1/2
    boxes, wanted = torch.tensor([[[0.5, 0.5, 0.4, 0.2]]]), [torch.tensor([[0.5, 0.5, 0.2, 0.2]])]
    pair = (torch.tensor([0]), torch.tensor([0]))
    assert float(box_losses(boxes, wanted, [pair])) == pytest.approx(5 * 0.2 + 2 * 0.5)
    # side by side with a gap of the same width: IoU 0, the hull is a third empty, so GIoU is -1/3
    boxes = torch.tensor([[[0.9, 0.5, 0.2, 0.2]]])
    assert float(box_losses(boxes, wanted, [pair])) == pytest.approx(5 * 0.4 + 2 * (1 + 1 / 3))


def test_detr_loss_by_hand():
    head = build("detr", **DETR)
    objects = {"boxes": torch.tensor([[16.0, 12, 48, 36]]), "labels": torch.tensor([1])}  # (.5, .5, .5, .5)
    raw = raw_of([[0, 2, 0, 0], [0, 0, 0, 0]], [[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.1, 0.1]])
    # query 0 is matched, query 1 has no object. The weights sum to 1.1
    right, nothing = math.log(math.exp(2) + 3) - 2, math.log(4)
    assert float(head.loss(raw, [objects])) == pytest.approx((right + 0.1 * nothing) / 1.1)
    # both have no object: the weights cancel
    assert float(head.loss(raw, [NOTHING])) == pytest.approx((right + 2 + nothing) / 2)
    # two layers are added up
    twice = {key: value.repeat(1, 2, 1, 1) for key, value in raw.items() if key != "size"}
    assert float(head.loss({**twice, "size": raw["size"]}, [objects])) == pytest.approx(
        2 * float(head.loss(raw, [objects]))
    )


def test_detr_divides_by_the_objects_of_the_batch():
    head = build("detr", **DETR)
    raw = raw_of([[0, 0, 0, 0]] * 3, [[0.5, 0.5, 0.5, 0.5], [0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.3, 0.1]])
    classes = math.log(4)  # of equal logits, whatever the weights
    one, two = ([TARGETS[i]] for i in (1, 0))
    boxes = [float(head.loss(raw, each)) - classes for each in (one, two)]
    both = {key: value.repeat(2, *[1] * (value.ndim - 1)) for key, value in raw.items()}
    assert float(head.loss(both, [*one, *two])) - classes == pytest.approx((boxes[0] + 2 * boxes[1]) / 3)


def test_detr_decodes_a_perfect_output():
    head, size = build("detr", **DETR), torch.tensor([[48, 64]])
    [wanted] = unit_boxes(TARGETS[:1], size)
    logits = torch.full((1, 1, 3, 4), -20.0)
    for query, label in enumerate([*TARGETS[0]["labels"], 3]):
        logits[0, 0, query, label] = 20
    raw = {"logits": logits, "boxes": torch.cat([wanted, torch.rand(1, 4)])[None, None], "size": size}
    assert float(head.loss(raw, TARGETS[:1])) == pytest.approx(0, abs=1e-5)
    [found] = head.decode(raw, [SIZE])
    sure = {key: value[found["scores"] > 0.5] for key, value in found.items()}
    assert torch.allclose(torch.tensor(sorted_rows(sure)), torch.tensor(sorted_rows(TARGETS[0])), atol=1e-4)
    assert len(found["scores"]) == 3  # the query without an object has a score of almost 0


@pytest.mark.parametrize("name", ["detr", "deformable_detr"])
def test_permuted_queries_change_no_loss(name: str):
    head, (maps, inputs) = randomised(build(name, **DETR), 0.2).float(), pyramid()
    plain, order = head(maps, inputs), torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        head.queries.copy_(head.queries[order].clone())
    permuted = head(maps, inputs)
    assert torch.allclose(permuted["boxes"], plain["boxes"][:, :, order], atol=1e-5)
    assert torch.allclose(head.loss(permuted, TARGETS), head.loss(plain, TARGETS), rtol=1e-4)


def test_detr_adds_positions_to_queries_and_keys_alone():
    head, (maps, _) = randomised(build("detr", **DETR), 0.2), pyramid()
    x = head.project(maps[1].double())
    tokens, places = x.flatten(2).transpose(1, 2), sinusoids(3, 4, 16)
    layer = head.encoder[0]
    attended = torch_attention(layer.attend, tokens + places, tokens + places, tokens)
    tokens = layer.attended.norm(tokens + attended)
    expected = layer.mixed.norm(tokens + layer.mix(tokens))
    assert torch.allclose(layer(x.flatten(2).transpose(1, 2), places), expected)
    first, queries = head.decoder[0], head.queries[None].expand(2, -1, -1)
    content = first.attended.norm(torch_attention(first.attend, queries, queries, torch.zeros_like(queries)))
    content = first.seen.norm(content + torch_attention(first.read, content + queries, tokens + places, tokens))
    content = first.mixed.norm(content + first.mix(content))
    assert torch.allclose(first(torch.zeros_like(queries), queries, tokens, places), content)


def sinusoids(rows: int, columns: int, width: int) -> Tensor:
    half = width // 2
    table = torch.zeros(rows, columns, width, dtype=torch.float64)
    for row, column, i in itertools.product(range(rows), range(columns), range(half)):
        rate = 10000 ** (-(i - i % 2) / half)
        wave = math.cos if i % 2 else math.sin
        table[row, column, i], table[row, column, half + i] = wave(row * rate), wave(column * rate)
    return table.flatten(0, 1)


def torch_attention(layer: nn.Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Torch's own multi-head attention with the weights of a layer."""
    width = queries.shape[-1]
    oracle = nn.MultiheadAttention(width, layer.heads, batch_first=True).double()
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([part.weight for part in (layer.query, layer.key, layer.value)]))
        oracle.in_proj_bias.copy_(torch.cat([part.bias for part in (layer.query, layer.key, layer.value)]))
    oracle.out_proj.load_state_dict(layer.proj.state_dict())
    return oracle(queries, keys, values, need_weights=False)[0]


def test_detr_has_the_size_of_the_paper():
    head = create_head("detr", [2048], num_classes=91, strides=[32])
    attention, ffn, norm = 4 * (256 * 256 + 256), 2 * 256 * 2048 + 2048 + 256, 512
    encoder, decoder = 6 * (attention + ffn + 2 * norm), 6 * (2 * attention + ffn + 3 * norm) + norm
    outside = 2048 * 256 + 256 + 100 * 256 + 257 * 92 + 2 * (256 * 256 + 256) + 257 * 4
    assert sum(p.numel() for p in head.parameters()) == encoder + decoder + outside


# -- deformable detr ---------------------------------------------------------------------------------------------------


def test_deformable_detr_starts_at_its_references_and_finds_nothing():
    head, (maps, inputs) = build("deformable_detr", **DETR).eval(), pyramid()
    raw = head(maps, inputs)
    assert raw["logits"].shape == (2, 2, 6, 3)
    # a box starts at the reference, σ(linear(position)), and both sides are σ(-2)
    reference = head.reference(head.queries[:, :16]).sigmoid()
    assert torch.allclose(raw["boxes"][1, 0, :, :2], reference, atol=1e-4)
    assert torch.allclose(raw["boxes"][..., 2:], torch.tensor(-2.0).sigmoid())
    nn.init.zeros_(head.classify.weight)
    assert torch.allclose(head(maps, inputs)["logits"].sigmoid(), torch.tensor(0.01))


def test_deformable_attention_is_its_formula():
    torch.manual_seed(0)
    layer = randomised(PyramidDeformableAttention(8, 2, 2, 3), 0.5)
    sizes, queries, references = [(4, 6), (2, 3)], torch.randn(1, 5, 8).double(), torch.rand(1, 5, 2).double()
    memory = torch.randn(1, 30, 8, dtype=torch.float64)
    out = layer(queries, references, memory, sizes)
    offsets = layer.offsets(queries).view(5, 2, 2, 3, 2)  # query, head, level, point, (x, y)
    weights = layer.weights(queries).view(5, 2, 6).softmax(-1).view(5, 2, 2, 3)
    values = layer.value(memory)[0].split([24, 6])
    expected = torch.zeros(5, 8, dtype=torch.float64)
    for query, h, level, point in itertools.product(range(5), range(2), range(2), range(3)):
        height, width = sizes[level]
        # places in pixels, whose centres lie at 0, 1, 2 ...
        x = float((references[0, query, 0] * width + offsets[query, h, level, point, 0] - 0.5).detach())
        y = float((references[0, query, 1] * height + offsets[query, h, level, point, 1] - 0.5).detach())
        for column, row in itertools.product((math.floor(x), math.floor(x) + 1), (math.floor(y), math.floor(y) + 1)):
            if 0 <= column < width and 0 <= row < height:
                share = (1 - abs(x - column)) * (1 - abs(y - row)) * weights[query, h, level, point]
                expected[query, 4 * h : 4 * h + 4] += share * values[level][row * width + column, 4 * h : 4 * h + 4]
    assert torch.allclose(out[0], layer.proj(expected))


def test_deformable_attention_starts_as_the_module_does_on_one_level():
    layer, module = PyramidDeformableAttention(32, 2, 1, 4), create_module("deformable_attention", 32)
    assert torch.equal(layer.offsets.bias, module.offsets.bias)
    module.load_state_dict(layer.state_dict())
    x = torch.randn(2, 32, 5, 7)
    centres = torch.stack(torch.meshgrid((torch.arange(7) + 0.5) / 7, (torch.arange(5) + 0.5) / 5, indexing="xy"), -1)
    tokens = x.flatten(2).transpose(1, 2)
    out = layer(tokens, centres.view(1, 35, 2).expand(2, -1, -1), tokens, [(5, 7)])
    assert torch.allclose(out.transpose(1, 2).view(2, 32, 5, 7), module(x), atol=1e-5)


def test_deformable_detr_loss_by_hand():
    head = build("deformable_detr", **DETR)
    objects = {"boxes": torch.tensor([[16.0, 12, 48, 36]]), "labels": torch.tensor([1])}
    raw = raw_of([[0, 2, 0], [0, 0, -1]], [[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.1, 0.1]])

    def focal(logit: float, wanted: bool) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -0.25 * (1 - p) ** 2 * math.log(p) if wanted else -0.75 * p**2 * math.log(1 - p)

    # the first query is matched in its class 1 alone, and its box is right
    others = [focal(0, False), focal(0, False), focal(0, False), focal(0, False), focal(-1, False)]
    assert head.loss(raw, [objects]).item() == pytest.approx(2 * (focal(2, True) + sum(others)))
    assert head.loss(raw, [NOTHING]).item() == pytest.approx(2 * (focal(2, False) + sum(others)))


def test_deformable_detr_prefers_the_surer_class():
    # two boxes at the same distance from the object: the cost of the class decides
    raw = raw_of([[0, 0, 0], [0, 1, 0]], [[0.4, 0.5, 0.5, 0.5], [0.6, 0.5, 0.5, 0.5]])
    raw["logits"].requires_grad_()
    objects = {"boxes": torch.tensor([[16.0, 12, 48, 36]]), "labels": torch.tensor([1])}
    build("deformable_detr", **DETR).loss(raw, [objects]).backward()
    # only the logit of the matched query should grow
    assert (raw["logits"].grad < 0).nonzero().tolist() == [[0, 0, 1, 1]]


def test_deformable_detr_decodes_the_best_of_all_classes():
    head, size = build("deformable_detr", **DETR), torch.tensor([[48, 64]])
    [wanted] = unit_boxes(TARGETS[:1], size)
    logits = torch.tensor([[-9.0, -9, 9], [8.0, 7, -9]])
    [found] = head.decode({"logits": logits[None, None], "boxes": wanted[None, None], "size": size}, [SIZE])
    assert found["labels"][:3].tolist() == [2, 0, 1]  # the second box is found as two classes
    assert torch.allclose(found["boxes"][:3], TARGETS[0]["boxes"][[0, 1, 1]], atol=1e-4)
    assert len(found["scores"]) == 6


def test_the_parts_of_a_tenth_of_the_rate_exist():
    head = build("deformable_detr", **DETR)
    names = [name for name, _ in head.named_parameters()]
    assert all(any(part in name for name in names) for part in head.slow_parameters)


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hyper"), [("yolo", {"width": 16}), ("fcos", {"convs": 1}), ("detr", DETR), ("deformable_detr", DETR)]
)
def test_the_order_of_objects_changes_no_loss(name: str, hyper: dict):
    head, (maps, inputs) = build(name, **hyper).eval(), pyramid()
    swapped = [{key: value.flip(0) for key, value in each.items()} for each in TARGETS]
    raw = head(maps, inputs)
    assert torch.allclose(head.loss(raw, TARGETS), head.loss(raw, swapped))


def test_yolo_averages_images():
    head, (maps, inputs) = build("yolo", width=16).eval(), pyramid()
    alone = [head.loss(head([x[i : i + 1] for x in maps], inputs[:1]), TARGETS[i : i + 1]) for i in (0, 1)]
    assert torch.allclose(head.loss(head(maps, inputs), TARGETS), sum(alone) / 2)
