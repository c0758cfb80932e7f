"""The mask decoder: points and losses worked out by hand, and its layers step by step."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from support.modules import randomised
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_head
from nasbench.ops.point_masks import centre_point, dice_loss, draw_point, focal_loss, mask_iou

SMALL = {"width": 16, "heads": 2, "hidden": 8}


def build(**hyper: object) -> nn.Module:
    head = create_head("mask_decoder", [8, 12], num_classes=1, strides=[8, 16], **{**SMALL, **hyper})
    return randomised(head, 0.3)


def given(batch: int = 2) -> tuple[list[Tensor], dict[str, Tensor]]:
    torch.manual_seed(1)
    maps = [torch.randn(batch, c, 48 // s, 64 // s, dtype=torch.float64) for c, s in ((8, 8), (12, 16))]
    point = torch.tensor([[10.0, 20.0], [50.0, 5.0]], dtype=torch.float64)[:batch]
    return maps, {"image": torch.zeros(batch, 3, 48, 64), "point": point}


def test_points_of_a_mask():
    mask = torch.zeros(6, 9, dtype=torch.int64)
    mask[1:6, 2:7] = 1  # the lowest row lies at the border of the image, so the middle is row 3, column 4
    assert centre_point(mask).tolist() == [4.5, 3.5]
    mask[0] = 255  # void is outside
    assert centre_point(mask).tolist() == [4.5, 3.5]
    draws = {tuple(draw_point(mask, torch.Generator().manual_seed(seed)).tolist()) for seed in range(300)}
    assert draws == {(x + 0.5, y + 0.5) for x in range(2, 7) for y in range(1, 6)}


def test_losses_by_hand():
    logits = torch.tensor([[[[2.0, -1.0, 0.5]], [[-1.0, -1.0, 9.0]]]])  # two masks of three pixels
    target = torch.tensor([[[1, 0, 255]]])
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0)]
    right = 0.25 * (1 - p[0]) ** 2 * -math.log(p[0]), 0.75 * p[1] ** 2 * -math.log(1 - p[1])
    wrong = 0.25 * (1 - p[1]) ** 2 * -math.log(p[1])
    focal = [sum(right) / 2, (wrong + right[1]) / 2]
    assert focal_loss(logits, target)[0].tolist() == pytest.approx(focal)
    dice = [1 - (2 * p[0] + 1) / (p[0] + p[1] + 2), 1 - (2 * p[1] + 1) / (2 * p[1] + 2)]
    assert dice_loss(logits, target)[0].tolist() == pytest.approx(dice)
    assert mask_iou(logits, target)[0].tolist() == [1, 0]
    # of masks 1 to 3 the last one is the best. The IoU of each is learned. Mask 0 does not count
    raw = {"masks": torch.cat([logits[:, 1:], logits[:, 1:], logits[:, 1:], logits[:, :1]], dim=1)}
    raw["iou"] = torch.tensor([[7.0, 0.3, 0.0, 0.5]])
    expected = 20 * focal[0] + dice[0] + (0.3**2 + 0 + 0.5**2) / 3
    assert build().loss(raw, target).item() == pytest.approx(expected)


def test_decode_takes_the_mask_of_the_largest_predicted_iou():
    masks = torch.stack([torch.full((2, 2), value) for value in (9.0, -1.0, 1.0, -2.0)]).expand(2, 4, 2, 2)
    raw = {"masks": masks, "iou": torch.tensor([[9.0, 0.1, 0.8, 0.2], [9, 0.5, 0.1, 0.1]])}
    assert build().decode(raw, [(2, 2)] * 2).tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]]


def attend(layer: nn.Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    parts = []
    q, k, v = layer.query(queries), layer.key(keys), layer.value(values)
    width = q.shape[-1] // layer.heads
    for h in range(layer.heads):
        own = slice(h * width, (h + 1) * width)
        scores = q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(width)
        parts.append(scores.softmax(-1) @ v[..., own])
    return layer.proj(torch.cat(parts, -1))


def test_it_is_its_formula():
    head, (maps, inputs) = build(), given()
    x = F.conv2d(maps[1], head.project.weight, head.project.bias)  # stride 16
    images = x.flatten(2).transpose(1, 2)

    def fourier(x: float, y: float) -> Tensor:
        angles = 2 * math.pi * ((2 * x - 1) * head.features[0] + (2 * y - 1) * head.features[1])
        return torch.cat([angles.sin(), angles.cos()])

    places = torch.stack([fourier((c + 0.5) / 4, (r + 0.5) / 3) for r in range(3) for c in range(4)])
    points = [fourier(x / 64, y / 48) + head.point_label.weight[0] for x, y in inputs["point"].tolist()]
    learned = torch.cat([head.iou_token.weight, head.mask_tokens.weight])
    first = torch.stack([torch.cat([learned, point[None]]) for point in points])
    tokens = first
    for index, layer in enumerate(head.layers):
        if index == 0:
            tokens = layer.norm_attend(attend(layer.attend, tokens, tokens, tokens))
        else:
            tokens = layer.norm_attend(tokens + attend(layer.attend, tokens + first, tokens + first, tokens))
        tokens = layer.norm_read(tokens + attend(layer.read, tokens + first, images + places, images))
        tokens = layer.norm_mix(tokens + layer.mix(tokens))
        images = layer.norm_write(images + attend(layer.write, images + places, tokens + first, tokens))
    tokens = head.last_norm(tokens + attend(head.last, tokens + first, images + places, images))
    up, norm, _, again, _ = head.enlarge
    fine = F.conv_transpose2d(images.transpose(1, 2).view(2, 16, 3, 4), up.weight, up.bias, stride=2)
    fine = F.layer_norm(fine.movedim(1, -1), (4,), norm.weight, norm.bias).movedim(-1, 1)
    fine = F.gelu(F.conv_transpose2d(F.gelu(fine), again.weight, again.bias, stride=2))
    raw = head(maps, inputs)
    for i in range(4):
        mask = (head.weigh[i](tokens[:, 1 + i])[:, :, None, None] * fine).sum(1, keepdim=True)
        assert torch.allclose(raw["masks"][:, i : i + 1], F.interpolate(mask, (48, 64), mode="bilinear"))
    assert torch.allclose(raw["iou"], head.rate(tokens[:, 0]))


def test_the_decoder_has_the_size_of_sams():
    head = create_head("mask_decoder", [256], num_classes=1, strides=[16])
    full, half, norm = 4 * (256 * 256 + 256), 4 * 256 * 128 + 3 * 128 + 256, 512
    layer = full + 2 * half + 2 * 256 * 2048 + 2048 + 256 + 4 * norm
    mlps = 4 * (2 * 65792 + 257 * 32) + 2 * 65792 + 257 * 4
    enlarge = 256 * 64 * 4 + 64 + 2 * 64 + 64 * 32 * 4 + 32
    sam = 2 * layer + half + norm + 5 * 256 + mlps + enlarge
    assert sam == 4058340  # the mask decoder of the published models
    assert sum(p.numel() for p in head.parameters()) == sam + 256 * 256 + 256 + 256  # and projection, point label


@pytest.mark.parametrize("hyper", [{"width": 20}, {"width": 16, "heads": 3}])
def test_it_says_which_widths_it_serves(hyper: dict):
    with pytest.raises(UnsupportedError, match=r"multiples of 8|heads is 3"):
        build(**hyper)
