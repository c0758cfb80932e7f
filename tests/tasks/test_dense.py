"""Tasks of segmentation and detection: batches, augmentation that keeps truth and image together, metrics."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nasbench.backbones.dense import create_dense
from nasbench.errors import DataError
from nasbench.tasks._base import SPLITS
from nasbench.tasks.annotated import AnnotatedImages
from nasbench.tasks.box_source import scene_boxes
from nasbench.tasks.detection import DetectionTask
from nasbench.tasks.mask_source import scene_masks
from nasbench.tasks.recipe import Recipe
from nasbench.tasks.segmentation import SegmentationTask
from nasbench.testing import check_task
from nasbench.training.loop import train

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)


def striped(count=10, height=48, width=80):
    """Images whose colour tells the class of each pixel, and one rectangle of class 1 in each."""
    draw = np.random.default_rng(0)
    masks, boxes = [], []
    for _ in range(count):
        x, y = int(draw.integers(0, width - 40)), int(draw.integers(0, height - 24))
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[y : y + 20, x : x + 36] = 1
        masks.append(mask)
        boxes.append(np.array([[x, y, x + 36, y + 20]], dtype=np.float32))
    return masks, boxes


def source(truth, **more):
    masks, _ = striped()
    given = {"train": np.arange(6), "val": np.arange(6, 8), "test": np.arange(8, 10)}
    return AnnotatedImages(
        names=[str(i) for i in range(10)], image=lambda i: Image.fromarray(COLOURS[masks[i]]), truth=truth,
        classes=("ground", "thing"), given=given, **more,
    )  # fmt: skip


def masks_of(**more):
    masks, _ = striped()
    return source(lambda i: masks[i], **more)


def boxes_of():
    _, boxes = striped()
    nothing = np.zeros(1, dtype=bool)
    return source(
        lambda i: {
            "boxes": boxes[i], "labels": np.array([1]), "crowd": nothing, "ignored": nothing, "areas": np.array([720.0])
        }
    )  # fmt: skip


MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop"])
def test_a_mask_stays_with_its_image(augmentation):
    task = SegmentationTask("x", masks_of(), size=80, head="fcn", mean=MEAN, std=STD)
    assert task.input_size == (3, 64, 96)
    for x, y in task.train_batches(3, seed=0, epoch=1, augmentation=augmentation):
        assert x.shape == (3, 3, 64, 96)
        assert y.shape == (3, 64, 96)
        inside = y != 255
        red = x[:, 0] > 0.5
        assert ((y == 1) == red)[inside].float().mean() > 0.98  # a rim of interpolated colour
        assert not inside[:, 48:].any()


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop"])
def test_a_box_stays_with_its_object(augmentation):
    task = DetectionTask("x", boxes_of(), size=80, head="fcn", mean=MEAN, std=STD)
    for x, targets in task.train_batches(3, seed=0, epoch=1, augmentation=augmentation):
        for image, target in zip(x, targets, strict=True):
            rows, columns = (image[0] > 0.5).nonzero(as_tuple=True)
            red = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert target["boxes"][0].tolist() == pytest.approx([float(side) for side in red], abs=1.5)
            assert target["labels"].tolist() == [1]


def test_the_batches_depend_on_seed_epoch_and_item_only():
    task = DetectionTask("x", boxes_of(), size=80, head="fcos")

    def batches(seed, epoch, size=3):
        found = [x for x, _ in task.train_batches(size, seed=seed, epoch=epoch, augmentation="crop")]
        return torch.cat(found)

    assert torch.equal(batches(0, 1), batches(0, 1))
    assert torch.equal(batches(0, 1), batches(0, 1, size=2))
    assert not torch.equal(batches(0, 1), batches(0, 2))
    assert not torch.equal(batches(0, 1), batches(1, 1))


class Oracle(nn.Module):
    """A model whose head decodes to what it was given."""

    def __init__(self, found):
        super().__init__()
        self.head = self
        self.found = found

    def decode(self, outputs, sizes):
        return self.found


@pytest.mark.parametrize("size", [80, 40, 160])
def test_a_perfect_mask_is_perfect_at_the_original_size(size):
    task = SegmentationTask("x", masks_of(), size=size, head="fcn")
    meter = task.meter("val")
    for _, targets in task.eval_batches("val", 2):
        grown = [torch.full(task.input_size[1:], 7) for _ in targets]
        for canvas, index in zip(grown, task.indices["val"], strict=True):
            fitted = task.fitted_truth(int(index), task._fitted(int(index)))
            canvas[: fitted.shape[0], : fitted.shape[1]] = torch.as_tensor(fitted).long()
        meter.update(task.predictions(Oracle(grown), None, targets), targets)
    metrics, items = meter.result()
    assert metrics["miou"] == (1 if size >= 80 else pytest.approx(1, abs=0.15))
    assert items.mean() == pytest.approx(metrics["miou"])


def test_perfect_boxes_are_perfect_at_the_original_size():
    task = DetectionTask("x", boxes_of(), size=160, head="fcos")
    meter = task.meter("val")
    for _, targets in task.eval_batches("val", 2):
        found = [
            {"boxes": torch.from_numpy(t["boxes"]) * 2, "scores": torch.ones(1), "labels": torch.ones(1).long()}
            for t in targets
        ]
        meter.update(task.predictions(Oracle(found), None, targets), targets)
    metrics, items = meter.result()
    assert metrics == {"ap": 1, "ap50": 1, "ap_small": 1}
    assert items.tolist() == [1, 1]


def test_void_has_one_number():
    masks, _ = striped()
    masks = [np.where(mask == 1, 9, mask) for mask in masks]
    task = SegmentationTask("x", source(lambda i: masks[i], void=9), size=80, head="fcn")
    _, y = next(iter(task.train_batches(6, seed=0, epoch=1)))
    assert set(y.unique().tolist()) == {0, 255}


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        (SegmentationTask, lambda truth: {"val": truth * 0 + 255}, "no pixels with a label in val"),
        (SegmentationTask, lambda truth: {"train": truth * 0 + 255}, "no pixels with a label in train"),
        (SegmentationTask, lambda truth: {"val": truth + 1}, "6: its mask has values from 1 to 2.*0 to 1"),
        (SegmentationTask, lambda truth: {"test": truth.T}, r"8 is .h, w. = \(48, 80\), but its mask \(80, 48\)"),
        (
            DetectionTask,
            lambda truth: {"test": {**truth, "ignored": ~truth["ignored"]}},
            "no objects in test",
        ),
        (SegmentationTask, lambda truth: {split: truth * 0 + 255 for split in SPLITS}, "no pixels with a label, so"),
    ],
)
def test_truths_that_cannot_be_used_are_refused(kind, changed, message):
    data = masks_of() if kind is SegmentationTask else boxes_of()
    split = ["train"] * 6 + ["val"] * 2 + ["test"] * 2

    def truth(i):
        return changed(data.truth(i)).get(split[i], data.truth(i))

    with pytest.raises(DataError, match=message):
        kind("x", dataclasses.replace(data, truth=truth), size=80, head="fcn")


def test_splits_without_one_for_training_are_refused():
    with pytest.raises(DataError, match="splits for val, but none for train"):
        SegmentationTask("x", dataclasses.replace(masks_of(), given={"val": np.arange(10)}), size=80, head="fcn")


def test_splits_that_are_not_given_are_drawn():

    images = masks_of()
    task = SegmentationTask(
        "x", AnnotatedImages(images.names, images.image, images.truth, images.classes, {}), size=80, head="fcn"
    )
    assert task.splits == {"train": 6, "val": 2, "test": 2}
    assert "drawn at random, seed 0" in task.notes[0]


@pytest.mark.parametrize(("task", "make"), [(SegmentationTask, scene_masks), (DetectionTask, scene_boxes)])
def test_the_embedded_scenes(task, make):
    made = task("scenes", make(), size=96, head="fcn")
    assert made.input_size == (3, 96, 96)
    assert made.splits == {"train": 400, "val": 200, "test": 200}
    assert made.describe()["data_sha256"] == task("scenes", make(), size=96, head="fcn").describe()["data_sha256"]


@pytest.mark.parametrize(("task", "make", "head"), [
    (SegmentationTask, masks_of, "fcn"), (DetectionTask, boxes_of, "fcos(convs=1)"), (DetectionTask, boxes_of, "yolo"),
    (SegmentationTask, masks_of, "semantic_fpn(width=32)"),
])  # fmt: skip
def test_they_keep_the_contract_of_tasks(task, make, head):
    for result in check_task(task("x", make(), size=80, head=head)):
        assert result.passed, result


@pytest.mark.parametrize(("task", "make", "head"), [
    (SegmentationTask, masks_of, "fcn"), (DetectionTask, boxes_of, "fcos(width=32, convs=1)")
])  # fmt: skip
def test_they_are_trained_and_learn(task, make, head):
    made = task("x", make(), size=80, head=head, mean=MEAN, std=STD)
    torch.manual_seed(0)
    model = made.attach(create_dense("test_resnet", "fpn(width=32)", input_size=made.input_size))
    recipe = Recipe(epochs=20, batch_size=3, learning_rate=3e-3, clip_grad=1.0)
    result = train(model, made, recipe, seed=0)
    assert result.metrics[made.metric] > (0.65 if made.kind == "segmentation" else 0.3), result.metrics
    assert result.per_item.mean() == pytest.approx(result.metrics[made.metric])
