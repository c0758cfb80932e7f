"""A task with an `attach` of its own, from its check to the export of a model."""

import runpy
import sys
from dataclasses import replace

import pytest
from torch import nn

import nasbench as nb
from nasbench import cli
from nasbench.backbones.insertion import host_of, slots_of
from nasbench.errors import PluginError, RunError, UnsupportedError
from nasbench.library import plugins
from nasbench.measurement.properties.fingerprint import fingerprint_plan
from nasbench.report.export import export_trial
from nasbench.report.gradcam import gradcam
from nasbench.report.questions import question_of
from nasbench.study.full_training import train_fully
from nasbench.tasks import create_task

OWN = """
from pathlib import Path

from torch import nn
from torch.nn import functional as F

from nasbench.tasks import ImageTask
from nasbench.tasks._image_sources import digits

DATA = Path({folder!r}) / "data.txt"


class Two(nn.Module):
    def __init__(self, host, width, classes):
        super().__init__()
        self.inner = nn.ModuleDict({{"host": host}})
        self.mlp = nn.Sequential(nn.Linear(host.num_features, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        features = self.inner["host"](x)
        return {{"logits": self.mlp(features), "features": [features]}}


class Task(ImageTask):
    width = 7

    def __init__(self, *, seed=0):
        self.text = DATA.read_text()
        super().__init__("mine", digits(), size=32, held_out={{"test": 719, "val": 718}}, seed=seed)

    def attach(self, host):
        host.reset_classifier(0)
        return Two(host, self.width, self.model_kwargs["num_classes"])

    def loss(self, model, outputs, targets):
        return F.cross_entropy(outputs["logits"], targets) + 0.01 * model.mlp[0].weight.square().mean()

    def predictions(self, model, outputs, targets):
        return outputs["logits"]


class Apart(Task):
    def attach(self, host):
        return nn.Linear(3, 2)


class Failing(Task):
    def attach(self, host):
        return self.nothing


class Calling(Task):
    def attach(self, host):
        return Two(self.bare(host), 3, 10)

    def bare(self, host):
        host.reset_classifier(0)
        return host


class Inheriting(Task):
    def attach(self, host):
        return super().attach(host)
"""

CHEAP = {"seeds": 2, "latency_s": 0, "controls": False, "keep": "all", "training": {"epochs": 1}}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "data.txt").write_text("data")
    (folder / "own.py").write_text(OWN.format(folder=str(folder)))
    return folder / "own.py"


@pytest.fixture(scope="module")
def run(file):
    return nb.search(plans=["stage2=se", "stage3=eca"], task=f"{file}:Task", out=file.parent / "run", **CHEAP)


@pytest.fixture
def without_data(file):
    (file.parent / "data.txt").rename(file.parent / "gone.txt")
    plugins._loaded.clear()
    yield
    (file.parent / "gone.txt").rename(file.parent / "data.txt")


def test_the_models_of_a_search(run):
    trials = run.trials()
    assert trials["state"].tolist() == ["complete"] * 6  # two seeds of each
    assert run.config["task"]["attaches_itself"]
    for row in trials.drop_duplicates("plan").itertuples():
        model = run.build(row.number)
        costs = nb.measure(model, input_size=(3, 32, 32))
        assert (row.params, row.macs) == (costs.params, costs.macs)
    assert [tuple(layer.weight.shape) for layer in model.mlp[::2]] == [(7, 96), (10, 7)]
    assert host_of(model) is model.inner["host"]
    assert [slot.name for slot in slots_of(model)][:2] == ["stage1.block1", "stage1"]
    assert list(fingerprint_plan(model, inputs=1, exact=False)) == ["stage3"]


def test_it_resumes(run, file):
    before = (run.path / "trials.jsonl").read_bytes()
    again = nb.search(plans=["stage2=se", "stage3=eca"], task=f"{file}:Task", out=run.path, **CHEAP)
    assert (again.path / "trials.jsonl").read_bytes() == before


def test_the_report_has_grad_cam(run):
    assert "leaves out" not in run.report().read_text()
    assert (run.path / "figures" / "grad-cam.csv").is_file()
    asked, model = question_of(run.task(), "cpu"), run.build(1)
    maps, _ = gradcam(model, asked.images, slots_of(model), asked.of(model))
    assert maps.max() == pytest.approx(1)


def test_an_export_has_attach_as_a_function(run, tmp_path, capsys, monkeypatch):
    out = export_trial(run, 1, tmp_path / "out")
    source = (out / "model.py").read_text()
    assert "class Two" in source
    assert "class Task" not in source
    assert "(SimpleNamespace(width=7, model_kwargs={'num_classes': 10}), model)" in source
    monkeypatch.syspath_prepend(out)
    try:
        runpy.run_path(str(out / "example.py"), run_name="__main__")
    finally:
        sys.modules.pop("model")
    assert capsys.readouterr().out.splitlines()[-2:] == ["output.logits: (1, 10)", "output.features.0: (1, 96)"]


def test_a_full_training(run):
    assert train_fully(run, 1, epochs=1, seeds=[0]).table["accuracy"].between(0, 1).all()


def test_without_the_data_only_the_models_are_missing(run, without_data, tmp_path):
    opened = nb.load_run(run.path)
    for needs in (opened.builder, lambda: opened.build(1), lambda: export_trial(opened, 1, tmp_path / "out")):
        with pytest.raises(RunError, match=r"No such file.*has an `attach` of its own, so the models"):
            needs()
    assert not (tmp_path / "out").exists()
    with pytest.warns(UserWarning, match=r"keeps Grad-CAM of .* has an `attach` of its own"):
        opened.report()
    assert len(opened.front())


def test_a_frozen_backbone_trains_what_is_attached(run):
    model = replace(run.builder(), freeze=True).build(run.plan_of(1))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"mlp", "inner"}
    assert {name.split(".")[2] for name in trained if name.startswith("inner")} == {"nasbench"}


def test_check(file, capsys):
    assert cli.main(["check", f"{file}:Task", "--json"]) == 0
    assert cli.main(["check", f"{file}:Apart", "--json"]) == 1
    assert "returns a Linear without the host" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "words"), [("Apart", "a child"), ("Failing", "fails: AttributeError")])
def test_an_attach_that_breaks_the_contract(file, name, words, capsys, tmp_path):
    assert cli.main(["search", "--plan", "se", "--task", f"{file}:{name}", "--out", str(tmp_path / "run")]) == 4
    assert words in capsys.readouterr().err
    with pytest.raises(PluginError, match=words):
        create_task(f"{file}:{name}").model_of(nn.Identity())


@pytest.mark.parametrize(
    ("name", "words"), [("Calling", r"reads `self.bare`, a method"), ("Inheriting", "in its class")]
)
def test_an_attach_that_is_no_plain_source(file, name, words, tmp_path):
    run = nb.search(plans=["stage2=se"], task=f"{file}:{name}", out=tmp_path / "run", **(CHEAP | {"seeds": 1}))
    assert run.trials()["state"].tolist() == ["complete"] * 2
    with pytest.raises(UnsupportedError, match=words):
        export_trial(run, 1, tmp_path / "out")
