"""Runs of segmentation and detection from end to end: search, report, export, advice, a full training."""

import json
import runpy
import sys
from types import ModuleType

import pytest
import torch
from PIL import ExifTags, Image
from support.demos import problem_of
from torch import nn

import nasbench as nb
from nasbench import cli
from nasbench.backbones.dense import with_neck
from nasbench.backbones.insertion import host_of, plan_of, slots_of
from nasbench.errors import InputError
from nasbench.library import plugins
from nasbench.library.expression import parse
from nasbench.library.modules import list_modules, module_spec
from nasbench.library.plan import Plan
from nasbench.ops.headed import DenseModel
from nasbench.report.export import export_trial
from nasbench.report.export.source import DenseParts, model_source
from nasbench.report.gradcam import gradcam
from nasbench.report.questions import question_of
from nasbench.report.suggestion import suggest
from nasbench.runs.models import ModelBuilder
from nasbench.study.full_training import train_fully
from nasbench.study.problem import make_problem
from nasbench.tasks import create_task

PLAN = {"neck": "fpn(width=32)", "stage2": "se", "level1": "eca"}
HEADS = {"scenes-segment": "fcn(max_stride=8)", "scenes-detect": "fcos(convs=1)"}
METRICS = {"scenes-segment": "miou", "scenes-detect": "ap"}


@pytest.fixture(scope="module", params=HEADS)
def run(request, tmp_path_factory, small_scenes):
    return nb.search(
        plans=[PLAN], task=request.param, head=HEADS[request.param], seeds=1, latency_s=0, controls=False, keep="all",
        training={"epochs": 1, "batch_size": 6}, out=tmp_path_factory.mktemp("dense") / "run",
    )  # fmt: skip


def test_a_search(run):
    trials = run.trials()
    assert trials["state"].tolist() == ["complete", "complete"]
    assert trials[METRICS[run.settings.task]].between(0, 1).all()
    model = run.build(1)
    costs = nb.measure(model, input_size=(3, 96, 96))
    assert trials.loc[1, ["params", "macs"]].tolist() == [costs.params, costs.macs]
    page = run.report().read_text()
    assert "level1" in page
    # Without a neck, the head of scenes-segment reads only the level after stage2. Detection has a neck.
    assert ("stage3, stage4: these stages are run" in page) == (run.settings.task == "scenes-segment")


def test_an_export_gives_the_same_result_on_a_real_item(run, tmp_path, capsys, monkeypatch):
    out = export_trial(run, 1, tmp_path / "out", onnx=run.settings.task == "scenes-detect")
    config = json.loads((out / "config.json").read_text())
    assert (config["neck"], config["head"]) == ("fpn(width=32)", run.settings.head)
    source = (out / "model.py").read_text()
    assert "nasbench." not in source.replace("`nasbench", "")
    assert "def loss" not in source
    monkeypatch.syspath_prepend(out)
    monkeypatch.setattr(sys, "argv", ["example.py"])
    try:
        runpy.run_path(str(out / "example.py"))
        *shown, compared = capsys.readouterr().out.splitlines()
        with Image.open(out / "example.png") as image:
            exif = image.getexif()
            exif[ExifTags.Base.Orientation] = 6  # stored on its side
            image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
        monkeypatch.setattr(sys, "argv", ["example.py", str(tmp_path / "turned.png")])
        runpy.run_path(str(out / "example.py"))
        assert capsys.readouterr().out.splitlines() == shown
    finally:
        sys.modules.pop("model")
    assert compared in (
        "pixels with another class than from the original model: 0 of 9216",
        "boxes differ from those of the original model by at most 0 pixels",
    )
    if config["kind"] == "detection":
        import onnxruntime

        session = onnxruntime.InferenceSession(out / "model.onnx")
        raw = [output.name for output in session.get_outputs()]
        assert raw == ["cls_logits", "bbox_regression", "bbox_ctrness", "anchors_0", "anchors_1", "anchors_2"]


def test_an_export_without_the_data(run, tmp_path, monkeypatch, capsys):
    from nasbench.runs import data

    def gone(*args):
        raise InputError("it is gone")

    monkeypatch.setattr(data, "make_task", gone)
    out = export_trial(run, 0, tmp_path / "out")
    assert not list(out.glob("example*.png"))
    assert "it is gone" in capsys.readouterr().err


def test_advice_and_properties(run, capsys):
    advice = suggest(run.path)
    # Without a neck, the head of scenes-segment reads only the level after stage2.
    read = 2 if run.settings.task == "scenes-segment" else 4
    assert [row.slot for row in advice.measured] == ["stage1", "stage2", "stage3", "stage4"][:read]
    assert advice.search_options.endswith(f"--head '{run.settings.head}'")
    assert cli.main(["fingerprint", str(run.path), "--trial", "1", "--inputs", "1", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["data"]
    assert [row["slot"] for row in measured] == ["stage2", "level1"]


def test_grad_cam(run):
    asked, model = question_of(run.task(), "cpu"), run.build(1)
    maps, guesses = gradcam(model, asked.images, slots_of(model), asked.of(model))
    assert maps.shape == (6, 96, 96)
    assert (maps.min() >= 0, maps.max() <= 1) == (True, True)
    assert len(guesses) == len(asked.classes) == 6


class Fixed(nn.Module):
    """A head that decodes its outputs as it is told."""

    def __init__(self, decode):
        super().__init__()
        self.decode = decode


def test_the_question_about_pixels(small_scenes):
    """The score is the mean logit of the largest digit over its own pixels."""
    task = create_task("scenes-segment")
    asked = question_of(task, "cpu")
    masks = [task.truth(int(index))["mask"] for index in task.indices["test"]]
    assert asked.classes == [int(mask[mask > 0].bincount().argmax()) for mask in masks]
    logits = torch.full((6, 11, 96, 96), -7.0)
    for image, (mask, each) in enumerate(zip(masks, asked.classes, strict=True)):
        logits[image, each][mask == each] = float(image)
    head = Fixed(lambda outputs, sizes: outputs["logits"].argmax(1))
    scores, guesses = asked.answer(DenseModel(nn.Identity(), head), {"logits": logits})
    assert scores.tolist() == [0, 1, 2, 3, 4, 5]
    assert guesses == asked.classes


def test_the_question_about_boxes(small_scenes):
    """The score is that of the box nearest to the largest digit, and 0 if no box touches it."""
    task = create_task("scenes-detect")
    asked, truths = question_of(task, "cpu"), [task.truth(int(index)) for index in task.indices["test"]]
    largest = [int(truth["areas"].argmax()) for truth in truths]
    assert asked.classes == [int(truth["labels"][place]) for truth, place in zip(truths, largest, strict=True)]
    found = [
        {
            "boxes": torch.from_numpy(truth["boxes"]),
            "scores": torch.arange(len(truth["labels"])) / 10,
            "labels": torch.from_numpy(truth["labels"]),
        }
        for truth in truths
    ]
    found[0]["boxes"] = found[0]["boxes"] + 200
    scores, guesses = asked.answer(DenseModel(nn.Identity(), Fixed(lambda outputs, sizes: found)), None)
    assert torch.allclose(scores, torch.tensor([0, *(place / 10 for place in largest[1:])]))
    assert guesses == [None, *asked.classes[1:]]


def test_a_full_training(run):
    done = train_fully(run, 1, epochs=1)
    assert done.metric == METRICS[run.settings.task]
    again = run.trials().set_index("number")[done.metric]  # the run trained one epoch too
    assert done.table.set_index("model")[done.metric].to_dict() == {"bare": again[0], "trial 1": again[1]}


OWN = """
import torch.nn.functional as F
from torch import nn

import nasbench as nb
from nasbench.tasks.mask_source import scene_masks
from nasbench.tasks.segmentation import SegmentationTask


@nb.register_module(name="each_level", kind="neck", dims=2)
class EachLevel(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(count, 16, 1) for count in channels)

    def forward(self, maps):
        return [conv(x) for conv, x in zip(self.convs, maps)]


@nb.register_module(name="pointwise", kind="head", tasks=("segmentation",), dims=2)
class Pointwise(nn.Module):
    def __init__(self, channels, *, num_classes):
        super().__init__()
        self.classify = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, maps, inputs):
        return {"logits": F.interpolate(self.classify(maps[0]), inputs.shape[2:], mode="bilinear")}

    def loss(self, raw, targets):
        return F.cross_entropy(raw["logits"], targets, ignore_index=255)

    def decode(self, raw, sizes):
        return raw["logits"].argmax(1)


class Task(SegmentationTask):
    neck = "fpn(width=16)"

    def __init__(self, size=None, head=None, seed=0):
        super().__init__("own", scene_masks(), size=size or 64, head=head or "pointwise", seed=seed)
"""


def test_a_task_of_one_s_own_with_a_head_and_a_neck_in_the_same_file(tmp_path, small_scenes, clean_registry):
    """A process that never loaded the file builds the models again, from the copy in the run."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    nb.search(
        plans=["neck=each_level; level1=se"], task=f"{file}:Task", seeds=1, latency_s=0, controls=False, keep="all",
        training={"epochs": 1, "batch_size": 6}, out=tmp_path / "run",
    )  # fmt: skip
    file.unlink()
    for name in ("pointwise", "each_level"):
        clean_registry._entries.pop(name)
    plugins._loaded.clear()
    run = nb.load_run(tmp_path / "run")
    costs = nb.measure(run.build(1), input_size=(3, 64, 64))
    assert run.trials().loc[1, ["params", "macs"]].tolist() == [costs.params, costs.macs]
    run.report()
    assert (run.path / "figures" / "found.csv").is_file()
    config = json.loads((export_trial(run, 1, tmp_path / "out") / "config.json").read_text())
    assert (config["neck"], config["head"]) == ("each_level", "pointwise")


# A head that also reads a point belongs to no task of images alone, and one that enlarges images has no such host.
OF_IMAGES = [
    name
    for name in list_modules(kind="head")
    if not {"point_segmentation", "super-resolution"} & set(module_spec(name).tasks)
]


@pytest.mark.parametrize("head", OF_IMAGES)
def test_the_source_of_every_head(head, monkeypatch):
    """The source of a model builds a model of the same outputs and the same decoded results."""
    size, known = (3, 64, 64), {"num_classes": 3}
    builder = ModelBuilder("test_resnet", size, known, head=head)
    *_, level = with_neck(builder.host(), parse("pan(width=32)")).find_slots(size)  # the coarsest that the head reads
    plan = {"neck": "pan(width=32)", level.name: "gate(se, eca)"}
    model = builder.build(Plan.of(plan)).eval()
    host = host_of(model)
    source = model_source(
        "test_resnet", plan_of(model), slots_of(model), input_size=size, model_kwargs=known, identity_init=False,
        title="a test", dense=DenseParts(host, "none", head),
    )  # fmt: skip
    written = ModuleType("written")
    written.__file__ = "model.py"
    monkeypatch.setitem(sys.modules, "written", written)  # dataclasses look up their module by name
    exec(compile(source, "written", "exec"), written.__dict__)
    twin = written.build().eval()
    assert list(twin.state_dict()) == list(model.state_dict())
    twin.load_state_dict(model.state_dict())
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = [each.head.decode(each(x), [size[1:]] * 2) for each in (model, twin)]
    torch.testing.assert_close(*decoded, rtol=0, atol=0)


@pytest.mark.parametrize(("demo", "plans"), [("segment", 2), ("detect", 2)])
def test_a_demo_is_a_search_of_given_plans(demo, plans, small_scenes, monkeypatch, tmp_path):
    """Its slots, neck, head and settings are those of its host. It is not trained here."""
    problem = problem_of(demo, monkeypatch, tmp_path / "run")
    assert problem.space.count == plans
    twin = make_problem(problem.settings)  # a worker offers the same slots
    assert (twin.space.identity, twin.slots) == (problem.space.identity, problem.slots)


def test_hosts_with_a_neck_and_a_head(small_scenes, capsys):
    words = ["--task", "scenes-segment", "--neck", "fpn(width=32)", "--json"]
    assert cli.main(["slots", "test_resnet", *words]) == 0
    told = capsys.readouterr()
    assert "do not reach the head" not in told.err
    slots = {row["name"]: row for row in json.loads(told.out)["data"]}
    assert "neck" not in slots  # --neck is the neck of every plan
    assert slots["level1"]["channels"] == 32
    assert cli.main(["measure", "test_resnet", *words, "--plan", "level1=se"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["neck"], data["head"]) == ("fpn(width=32)", "fcn")
    own = sum(p.numel() for p in nb.create_module("se", channels=32).parameters())
    assert data["added"]["params"] == own + 1  # its gate
    timed = ["profile", "test_resnet", *words, "--plan", "level1=se", "--time", "0.1s", "--device", "cpu"]
    assert cli.main(timed) == 0
    (measurement,) = json.loads(capsys.readouterr().out)["data"]["measurements"]
    assert [row["slot"] for row in measurement["slots"][0]["rows"]] == ["level1", "whole"]

    assert cli.main(["slots", "test_resnet", *words[:2], "--json"]) == 0
    assert (
        "note: stage3, stage4: these stages are run, and counted in the costs, but without a neck they do not reach "
        in (capsys.readouterr().err)
    )


HOST_WITH_NECK = ["measure", "test_resnet", "--task", "scenes-segment", "--neck", "fpn"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slots", "test_resnet", "--neck", "fpn"], "only together with --task"),
        (["slots", "test_resnet", "--task", "digits"], "leave --task out for a classification task"),
        (["measure", "test_resnet", "--task", "scenes-segment", "--head", "fcos"], "fcos is a head for detection"),
        (["profile", "test_resnet", "--task", "scenes-segment", "--space", "segmentation"], "cannot be combined"),
        (["slots", "test_resnet", "--set", "ignore=3"], "only together with --task"),
        (["slots", "test_resnet", "--task", "scenes-segment", "--set", "epochs=3"], "those of the data: size, "),
        (["slots", "test_resnet", "--task", "scenes-segment", "--set", "ignore=3"], "does not use ignore"),
        (["search", "--task", "digits", "--plan", "se", "--head", "linear"], "head (the backbone ends its models)"),
        (["measure", "sr_residual", "--task", "photos-sr", "--scale", "5"], "scale must be one of 2, 3, 4"),
        (["profile", "test_resnet", "--task", "scenes-segment", "--space", "tiny", "--fill", "linear"], "task cannot"),
        ([*HOST_WITH_NECK, "--plan", "neck=pan"], "--neck fpn is the neck of every plan; leave out --neck, or "),
        (["search", *HOST_WITH_NECK[2:], "--plan", "neck=pan"], "--neck fpn is the neck of every plan"),
        (["search", "--task", "scenes-detect", "--plan", "se", "--proxy", "synflow"], "leave it out, or choose naswot"),
        (["search", "--task", "scenes-detect", "--plan", "se", "--head", "se"], "se is a module, not a head"),
    ],
)
def test_refusals(words, message, small_scenes, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 4
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
