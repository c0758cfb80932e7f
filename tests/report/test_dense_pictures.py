"""Pictures of masks, boxes and Grad-CAM: what is drawn, and what is left out."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from nasbench.ops.segmentation import VOID
from nasbench.report.dense_pictures import TRUTH, draw_found
from nasbench.report.gradcam import draw_gradcam

IMAGES = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(0))
BOX = [1.0, 1.0, 6.0, 6.0]


def found(*rows):
    boxes, scores, labels = zip(*rows, strict=True)
    return {"boxes": torch.tensor(boxes), "scores": torch.tensor(scores), "labels": torch.tensor(labels)}


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        (found((BOX, 0.9, 1), (BOX, 0.8, 0)), ["dog 0.90"]),  # one label a place, the best, whatever the class
        (found((BOX, 0.5, 0), ([6.0, 6.0, 9.0, 7.0], 0.7, 1)), ["dog 0.70", "cat 0.50"]),
        (found((BOX, 0.2, 0)), []),
    ],
)
def test_of_boxes_in_one_place_the_best_is_drawn_with_its_score(model, texts):
    truth = {"boxes": np.array([BOX, BOX]), "labels": np.array([0, 1])}
    figure = draw_found(IMAGES, {TRUTH: [truth], "bare": [model]}, ["cat", "dog"])
    upper, lower = figure.axes
    assert [text.get_text() for text in upper.texts] == ["cat", "dog"]
    assert [text.get_text() for text in lower.texts] == texts
    assert sum(isinstance(patch, Rectangle) for patch in lower.patches) == len(texts)
    assert not figure.legends


def test_many_boxes_get_a_legend_instead_of_texts():
    """Eight boxes have texts, nine have a legend; the other image of the picture keeps its texts."""
    many = {"boxes": np.array([[float(i), 0.0, i + 1.0, 4.0] for i in range(9)]), "labels": np.array([0] * 8 + [1])}
    few = {"boxes": many["boxes"][:8], "labels": many["labels"][:8]}
    figure = draw_found(IMAGES.expand(2, -1, -1, -1), {TRUTH: [many, few]}, ["cat", "dog"])
    assert [len(axes.texts) for axes in figure.axes] == [0, 8]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog"]


def test_a_legend_names_the_colours_of_masks():
    mask = torch.zeros(8, 10, dtype=torch.long)
    mask[2:4], mask[4:6] = 2, VOID
    figure = draw_found(IMAGES, {TRUTH: [mask], "bare": [mask * 0 + 3]}, ["background", "cat", "dog", "$cow"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dog", r"\$cow"]
    colours = figure.axes[0].images[1].get_array()
    assert colours[0, 0, 3] == colours[4, 0, 3] == 0  # the background and pixels without a label show the image
    assert tuple(colours[2, 0, :3]) == pytest.approx(legend.get_patches()[0].get_facecolor()[:3])


def test_an_empty_map_says_so():
    maps = np.stack([np.zeros((8, 10)), np.eye(8, 10)])
    figure = draw_gradcam(IMAGES.expand(2, -1, -1, -1), ["a", "b"], {"bare": maps}, {"bare": ["a", "none"]})
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes[2:]] == [["no\npositive\nevidence"], []]
