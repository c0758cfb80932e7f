"""`check` of a user's backbone: what it is for is told by a task, or by the names of its arguments."""

import pytest

from nasbench.testing import check_file

SOURCE = """
from torch import nn


class Images(nn.Sequential):
    def __init__(self):
        super().__init__(*(nn.Sequential(nn.Conv2d(i, 8, 3, padding=1), nn.ReLU()) for i in (3, 8)))


class Series(nn.Module):
    def __init__(self, series, outputs, steps=None):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Conv1d(i, 8, 3, padding=1), nn.ReLU()) for i in (series, 8)
        )
        self.last, self.steps = nn.Linear(8, outputs), steps

    def forward(self, x):
        known = x.isfinite().all(-1)[:, None].float()
        x = self.second(self.first(x.nan_to_num(0.0).transpose(1, 2))) * known
        y = self.last(x.sum(-1) / known.sum(-1))
        return y if self.steps is None else y.reshape(len(x), self.steps, -1)


def enlarge():
    return Images()


def classify(input_size, num_classes, padded=False):
    return Series(input_size[1], num_classes)


def forecast(input_size, horizon):
    return Series(input_size[1], horizon * input_size[1], horizon)


def lost(input_size, num_classes, padded=False):
    class Lost(Series):
        def forward(self, x):
            return self.last(self.second(self.first(x.transpose(1, 2))).mean(-1))

    return Lost(input_size[1], num_classes)
"""


@pytest.mark.parametrize(
    ("name", "task", "size"),
    [
        ("classify", None, "96x7"), ("forecast", None, "96x7"), ("classify", "digits-rows", "8x8"),
        ("enlarge", "photos-sr", "3x24x24"),
    ],
)  # fmt: skip
def test_what_a_backbone_is_for(tmp_path, name, task, size):
    (tmp_path / "own.py").write_text(SOURCE)
    results = check_file(f"{tmp_path / 'own.py'}:{name}", task=task)
    assert [(result.check, result.message) for result in results if not result.passed] == []
    assert (len(results), {result.variant for result in results}) == (8, {size})


def test_what_fails(tmp_path):
    (tmp_path / "own.py").write_text(SOURCE)
    *_, shape = check_file(f"{tmp_path / 'own.py'}:enlarge")
    assert shape.message.endswith(
        "(B, 8, 64, 64), expected (B, num_classes); give the task that the backbone is for: --task TASK"
    )
    *_, finite = check_file(f"{tmp_path / 'own.py'}:lost")
    assert finite.message == "the output is not finite"
