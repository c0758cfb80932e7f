"""Average precision: by hand, beside faster-coco-eval, and its influence values."""

import contextlib
import io

import numpy as np
import pytest

from nasbench.tasks.average_precision import AveragePrecision, Objects

CLASSES = 3


def objects(boxes, labels, **more):
    return Objects.of({"boxes": boxes, "labels": labels, **more})


def counted(images, classes=CLASSES):
    meter = AveragePrecision(classes)
    for found, truth in images:
        meter.update(*found, truth)
    return meter


def random_images(count=12, seed=0, *, special=False):
    """Yield detections around the objects and elsewhere, with crowds and ignored objects where `special`."""
    draw = np.random.default_rng(seed)

    def boxes(n):
        corner = draw.uniform(0, 150, (n, 2))
        return np.concatenate([corner, corner + draw.uniform(8, 140, (n, 2))], axis=1)

    for _ in range(count):
        n = int(draw.integers(0, 6))
        truth, labels = boxes(n), draw.integers(0, CLASSES, n)
        near = np.concatenate([truth + draw.normal(0, 4, (n, 4)) for _ in range(2)])
        found = np.concatenate([near, boxes(4)])
        kinds = np.concatenate([labels, labels, draw.integers(0, CLASSES, 4)])
        flip = draw.random(len(kinds)) < 0.2
        kinds = np.where(flip, draw.integers(0, CLASSES, len(kinds)), kinds)
        more = {"crowd": draw.random(n) < 0.3} if special else {}
        yield (found, draw.random(len(found)), kinds), objects(truth, labels, **more)


def judged(images):
    """Return AP, AP50 and AP by size as faster-coco-eval computes them."""
    from faster_coco_eval import COCO, COCOeval_faster

    annotations, results, ids = [], [], []
    for number, ((found, scores, kinds), truth) in enumerate(images, start=1):
        ids.append({"id": number, "width": 400, "height": 400})
        for box, label, crowd, area in zip(truth.boxes, truth.labels, truth.crowd, truth.areas, strict=True):
            x, y, right, bottom = box.tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1, "iscrowd": int(crowd)}
                | {"bbox": [x, y, right - x, bottom - y], "area": float(area)}
            )
        for (x, y, right, bottom), score, label in zip(found.tolist(), scores, kinds, strict=True):
            box = [x, y, right - x, bottom - y]
            results.append({"image_id": number, "category_id": int(label) + 1, "bbox": box, "score": float(score)})
    categories = [{"id": label + 1, "name": str(label)} for label in range(CLASSES)]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO({"images": ids, "annotations": annotations, "categories": categories})
        judge = COCOeval_faster(data, data.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return np.array(judge.stats[[0, 1, 3, 4, 5]], dtype=float)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_faster_coco_eval_agrees(seed, special):
    images = list(random_images(seed=seed, special=special))
    meter = counted(images)
    ours = [
        meter.mean(),
        meter.mean(thresholds=slice(0, 1)),
        *(meter.mean(area=a) for a in ("small", "medium", "large")),
    ]
    theirs = judged(images)
    assert np.nan_to_num(ours, nan=-1) == pytest.approx(theirs, abs=1e-6)


def test_by_hand():
    box = [[0.0, 0.0, 10.0, 10.0]]
    right = (np.array(box), np.array([0.9]), np.array([0]))
    wrong_first = (np.array([[50.0, 50, 60, 60], *box]), np.array([0.9, 0.8]), np.array([0, 0]))
    assert counted([(right, objects(box, [0]))]).mean() == 1
    assert counted([(wrong_first, objects(box, [0]))]).mean() == pytest.approx(0.5)
    # Of two objects one is found: precision 1 at the 51 recalls from 0 to .5, and 0 at the rest.
    assert counted([(right, objects([*box, [50, 50, 60, 60]], [0, 0]))]).mean() == pytest.approx(51 / 101)
    # IoU 0.8 (of 100 and 125): right at the thresholds .5, .55 ... .8, which are seven of ten.
    loose = (np.array([[0.0, 0.0, 10.0, 12.5]]), np.array([0.9]), np.array([0]))
    assert counted([(loose, objects(box, [0]))]).mean() == pytest.approx(0.7)


def test_a_detection_of_an_ignored_object_is_neither_right_nor_wrong():
    box, other = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]
    found = (np.array([other, box]), np.array([0.9, 0.8]), np.array([0, 0]))
    assert counted([(found, objects([box, other], [0, 0], ignored=[False, True]))]).mean() == 1


def test_an_empty_image_counts_its_false_detections():
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    good = ((box, np.array([0.5]), np.array([0])), objects(box, [0]))
    empty = ((box, np.array([0.9]), np.array([0])), objects([], []))
    assert counted([good, empty]).mean() == pytest.approx(0.5)
    assert np.isnan(counted([empty]).mean())


def test_weights_are_repetitions():
    images = list(random_images(seed=4))
    weights = np.random.default_rng(1).integers(0, 4, len(images))
    repeated = [image for image, weight in zip(images, weights, strict=True) for _ in range(weight)]
    assert counted(images).mean(weights=weights) == pytest.approx(counted(repeated).mean(), abs=1e-12)


def test_the_influence_values_are_those_of_images_left_out():
    images = list(random_images(seed=5))
    meter = counted(images)
    values = meter.influence()
    assert values.mean() == pytest.approx(meter.mean(), abs=1e-12)
    left_out = np.array([counted(images[:i] + images[i + 1 :]).mean() for i in range(len(images))])
    assert values == pytest.approx(meter.mean() + (len(images) - 1) * (left_out.mean() - left_out), abs=1e-12)


def test_a_class_of_one_image_keeps_its_value_where_that_image_is_left_out():
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    first = ((box, np.array([0.5]), np.array([0])), objects(box, [0]))
    second = ((box, np.array([0.9]), np.array([0])), objects(box, [1]))
    # AP is .5 for class 0 and 0 for class 1. Without the second image class 0 has 1; without the first it keeps .5.
    assert counted([first, second]).influence().tolist() == pytest.approx([0.375, 0.125])


@pytest.mark.parametrize("name", ["all", "small", "medium", "large"])
def test_the_sizes_that_occur(name):
    side = {"all": 5, "small": 5, "medium": 50, "large": 120}[name]
    meter = counted([((np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)), objects([[0, 0, side, side]], [0]))])
    assert name in meter.sizes()
    assert len(meter.sizes()) == 2
