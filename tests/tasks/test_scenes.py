"""The embedded scenes: counts, boxes tight around ink, little overlap, splits of their own digits."""

import hashlib

import numpy as np

from nasbench.tasks.scenes import COUNTS, scenes


def every():
    return [scene for of_split in scenes().values() for scene in of_split]


def test_counts():
    assert {split: len(of_split) for split, of_split in scenes().items()} == COUNTS
    counts = np.bincount([len(scene.labels) for scene in every()])
    assert counts[0] == 0
    assert len(counts) == 6
    assert (counts[1:] > 50).all()


def test_boxes_are_inside_and_hold_ink_of_their_class():
    for scene in every():
        for (x1, y1, x2, y2), label in zip(scene.boxes.astype(int), scene.labels, strict=True):
            assert 0 <= x1 < x2 <= 96
            assert 0 <= y1 < y2 <= 96
            assert (scene.mask[y1:y2, x1:x2] == label + 1).any()
        assert set(np.unique(scene.mask)) <= {0, *(scene.labels + 1)}


def test_no_two_boxes_overlap_much():
    from torch import from_numpy
    from torchvision.ops import box_iou

    for scene in every():
        overlaps = box_iou(from_numpy(scene.boxes), from_numpy(scene.boxes))
        assert overlaps.fill_diagonal_(0).max() <= 0.1


def test_all_classes_are_in_each_split():
    for of_split in scenes().values():
        assert set(np.concatenate([scene.labels for scene in of_split])) == set(range(10))


def test_they_are_the_same_everywhere():
    digest = hashlib.sha256()
    for scene in every():
        for part in (scene.image, scene.mask, scene.boxes, scene.labels):
            digest.update(np.ascontiguousarray(part).tobytes())
    assert digest.hexdigest()[:16] == "d1689bff56b1e9ad"
