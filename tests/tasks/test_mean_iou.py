"""Mean IoU: by hand, beside torchmetrics, and its influence values."""

import numpy as np
import pytest
import torch

from nasbench.tasks.mean_iou import MeanIoU


def counted(pairs, classes=4):
    meter = MeanIoU(classes)
    for predictions, targets in pairs:
        meter.update(torch.as_tensor(predictions), torch.as_tensor(targets))
    return meter


def random_pairs(count=12, classes=4, seed=0):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        targets = draw.integers(0, classes - 1, (9, 7))  # the last class is only predicted
        predictions = np.where(draw.random((9, 7)) < 0.6, targets, draw.integers(0, classes, (9, 7)))
        targets[draw.random((9, 7)) < 0.1] = 255
        yield predictions, targets


def test_by_hand():
    meter = counted([([[0, 0, 1]], [[0, 1, 1]]), ([[1, 0, 0]], [[1, 255, 1]])], classes=3)
    # Five pixels have a label. Class 0: 1 right of the 3 predicted. Class 1: 2 right of the 4 that are true. Class 2
    # does not occur.
    assert meter.mean() == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert meter.pixel_accuracy() == pytest.approx(3 / 5)


def test_torchmetrics_agrees():
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    judge = MulticlassJaccardIndex(4, ignore_index=255)
    accuracy = MulticlassAccuracy(4, average="micro", ignore_index=255)
    pairs = list(random_pairs())
    for predictions, targets in pairs:
        judge.update(torch.from_numpy(predictions)[None], torch.from_numpy(targets)[None])
        accuracy.update(torch.from_numpy(predictions)[None], torch.from_numpy(targets)[None])
    assert counted(pairs).mean() == pytest.approx(float(judge.compute()), abs=1e-6)
    assert counted(pairs).pixel_accuracy() == pytest.approx(float(accuracy.compute()), abs=1e-6)


def test_weights_are_repetitions():
    pairs = list(random_pairs())
    weights = np.random.default_rng(1).integers(0, 4, len(pairs))
    repeated = [pair for pair, weight in zip(pairs, weights, strict=True) for _ in range(weight)]
    assert counted(pairs).mean(weights) == pytest.approx(counted(repeated).mean(), abs=1e-12)


def test_the_mean_of_the_influence_values_is_the_metric():
    meter = counted(random_pairs())
    assert meter.influence().mean() == pytest.approx(meter.mean(), abs=1e-12)


def test_an_influence_value_is_the_derivative():
    meter, step = counted(random_pairs()), 1e-6
    weights = np.ones(12)
    weights[3] += step
    slope = (meter.mean(weights) - meter.mean()) / step
    assert meter.influence()[3] == pytest.approx(meter.mean() + 12 * slope, abs=1e-4)


def test_without_a_label_there_is_no_number():
    assert np.isnan(counted([([[0]], [[255]])]).mean())
