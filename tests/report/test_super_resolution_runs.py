"""Runs of super-resolution from end to end: search, report, export, a table."""

import json
import runpy
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import nasbench as nb
from nasbench import cli
from nasbench.backbones.insertion import host_of, slots_of
from nasbench.errors import InputError
from nasbench.library.plan import Plan
from nasbench.report.enlarged import BICUBIC, TRUTH, details_of
from nasbench.report.export import export_trial
from nasbench.report.export.source import DenseParts, model_source
from nasbench.runs.models import ModelBuilder
from nasbench.tasks import create_task

NETWORK = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for split, count in {"train": 3, "val": 3, "test": 3}.items():
        (place / split).mkdir()
        for number in range(count):
            small = Image.fromarray(draw.integers(0, 256, (12, 11 + number, 3), dtype=np.uint8))
            small.resize((44, 50), Image.Resampling.BICUBIC).save(place / split / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("sr")
    (place / "network.py").write_text(NETWORK)
    return nb.search(
        plans=["level1=eca"], task=f"sr:{folder}", backbone=f"{place / 'network.py'}:build", scale=2, size=24, seeds=2,
        latency_s=0, controls=False, keep="all", training={"epochs": 1, "batch_size": 4}, out=place / "run",
    )  # fmt: skip


def test_a_search_and_its_report(run):
    trials = run.trials()
    assert trials["state"].tolist() == ["complete"] * 4
    costs = nb.measure(run.build(1), input_size=(3, 12, 12))
    assert trials.loc[1, ["params", "macs"]].tolist() == [costs.params, costs.macs]
    text = run.report().read_text()
    assert "bicubic" in text
    assert "Details of test images, enlarged 2 times" in text
    assert json.loads((run.path / "test.json").read_text())["naive"]["bicubic"].keys() == {"psnr", "ssim"}


def test_an_export_gives_the_same_image(run, tmp_path, capsys, monkeypatch):
    out = export_trial(run, 1, tmp_path / "out", onnx=True)
    assert json.loads((out / "config.json").read_text())["onnx_input_size"] == [-1, 3, -1, -1]
    import onnxruntime

    session = onnxruntime.InferenceSession(out / "model.onnx")
    model = run.build(1)
    for size in ((1, 3, 16, 48), (2, 3, 32, 16)):
        x = torch.rand(size)
        with torch.no_grad():
            expected = model(x)["image"]
        assert np.allclose(session.run(None, {"input": x.numpy()})[0], expected, atol=1e-5)
    source = (out / "model.py").read_text()
    assert "nasbench." not in source.replace("`nasbench", "")
    monkeypatch.syspath_prepend(out)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example.py"])
    try:
        runpy.run_path(str(out / "example.py"))
    finally:
        sys.modules.pop("model")
    said, compared = capsys.readouterr().out.splitlines()
    assert said == "22 x 25 pixels enlarged 2 times: large.png"
    assert compared == "pixels differ from those of the original model by at most 0 grey levels"
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (44, 50)


def test_the_exported_source_of_the_stem(monkeypatch):
    """The plain source computes what the model computes, which has the weights of the source."""
    builder = ModelBuilder("sr_residual", (3, 8, 8), {"scale": 3}, head="pixel_shuffle")
    plan = Plan.of({"stage1.block2": "none + dual_aggregation", "level1": "eca"})
    model = builder.build(plan).eval()
    nn.init.normal_(model.head.expand.weight, std=0.1)
    parts = DenseParts(host_of(model), "none", "pixel_shuffle")
    source = model_source(
        "sr_residual", plan, slots_of(model), input_size=(3, 8, 8), model_kwargs={"scale": 3}, identity_init=False,
        title="a model", dense=parts,
    )  # fmt: skip
    module = ModuleType("written")
    monkeypatch.setitem(sys.modules, "written", module)  # dataclasses look up their module by name
    exec(compile(source.replace("__file__", "'x'"), "written", "exec"), module.__dict__)
    written = module.build().eval()
    written.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 9, 11)
    assert torch.equal(written(x)["image"], model(x)["image"])


class Shifted(nn.Module):
    """Predicts the truth, but one square of the image is brighter."""

    def __init__(self, task, number, by):
        super().__init__()
        self.task, self.number, self.by, self.seen, self.head = task, number, by, -1, self

    def forward(self, x):
        self.seen += 1
        return x

    def decode(self, raw, sizes):
        _, large = self.task.pair("test", self.seen)
        changed = large.clone().int()
        if self.seen == self.number:
            changed[:, 16:48, 8:40] += self.by
        return [changed.clamp(0, 255).to(torch.uint8)]


def test_details_are_where_the_plans_differ_most(folder):
    task = create_task(f"sr:{folder}", size=24)
    first, *_ = details_of(task, {"bare": Shifted(task, 1, 0), "other": Shifted(task, 1, -60)}, "cpu")
    assert (first.image, first.row, first.column) == (1, 16, 8)
    assert list(first.pixels) == [BICUBIC, "bare", "other", TRUTH]
    assert first.psnr("bare") == float("inf")
    assert first.psnr("other") > 10


def test_commands(capsys):
    assert cli.main(["slots", "sr_residual", "--task", "photos-sr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"][-1]["name"] == "level1"
    assert cli.main(["slots", "test_resnet", "--task", "photos-sr"]) == 4
    assert "a super-resolution task needs one of sr_residual" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "photos-sr", "backbone": "resnet18"}, "needs one of sr_residual"),
        (
            {"task": "digits", "backbone": "sr_residual"},
            "does not fit task 'digits': a classification task needs a timm model",
        ),
        ({"task": "photos-sr", "scale": 5}, "scale must be one of 2, 3, 4, got 5"),
        ({"task": "photos-sr", "neck": "fpn"}, "does not use neck"),
        ({"task": "photos-sr", "head": "fcn"}, "the heads for super-resolution are pixel_shuffle"),
        ({"task": "digits", "scale": 2}, "does not use scale"),
    ],
)
def test_refused(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        nb.search(trials=1, out=tmp_path / "run", **settings)
