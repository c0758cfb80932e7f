"""`nasbench init` makes a project whose search runs; `nasbench check` finds what breaks the contracts."""

import json

import pytest
import torch
from torch import nn

from nasbench import cli
from nasbench.errors import InputError
from nasbench.tasks import ImageTask, create_task
from nasbench.tasks._image_sources import digits
from nasbench.testing import check_backbone, check_file, check_task

BACKBONE = """
from collections import OrderedDict
from types import SimpleNamespace

import torch
from torch import nn


def stage(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())


def build(num_classes=10):
    return nn.Sequential(stage(3, 8), stage(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))


def deaf(num_classes=10):
    return nn.Sequential(stage(3, 8), stage(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def seven(num_classes):
    return build(7)


def fixed():
    return build(5)


def sized(input_size):
    return build(4)


def both(input_size, horizon=None, num_classes=10):
    return build(num_classes)


def anything(**kwargs):
    return build(kwargs["num_classes"])


class Named(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.body, self.answer = build(), answer

    def forward(self, x):
        return self.answer(logits=self.body(x))


def ordered():
    return Named(OrderedDict)


def plain():
    return Named(SimpleNamespace)


class Noisy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = build(num_classes)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.body(x) + torch.rand(1)


def noisy(num_classes=10):
    return Noisy(num_classes)
"""


def test_a_new_project_works_at_once(tmp_path, monkeypatch, capsys, clean_registry, small_data):
    assert cli.main(["init", str(tmp_path / "mine")]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    assert cli.main(["show", "channel_scale"]) == 0
    assert cli.main(["check", "modules/channel_scale.py"]) == 0
    assert "channel_scale" in capsys.readouterr().out
    words = ["--trials", "3", "--seeds", "1", "--size", "32", "--set", "epochs=1", "--set", "latency_s=0"]
    assert cli.main(["search", "--config", "run.yaml", "--out", "runs/one", *words, "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["spaces", "mine", "--backbone", "test_resnet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"][0]["plans"] == (1 + 5 + 25) ** 4
    assert cli.main(["init"]) == 4  # nothing is written over
    assert "already; choose another folder" in capsys.readouterr().err


def failed(results):
    return {result.check: result.message for result in results if not result.passed}


def test_a_backbone(tmp_path):
    file = tmp_path / "host.py"
    file.write_text(BACKBONE)
    results = check_file(f"{file}:build", size=32)
    assert failed(results) == {}
    assert len(results) == 8
    deaf = failed(check_file(f"{file}:deaf", size=32))["gives the output asked for"]
    assert "the output is (B, 10), expected (B, 7); give the task" in deaf
    seven = failed(check_file(f"{file}:seven", size=32))["gives the output asked for"]  # the probe of `check` by chance
    assert seven == "with num_classes=8, the output is (B, 7), expected (B, 8)"
    found = failed(check_file(f"{file}:noisy", size=32))
    assert "differ" in found["repeats itself in eval mode"]
    assert "unused" in found["trains every parameter"]


@pytest.mark.parametrize("function", ["fixed", "sized", "both", "anything"])
def test_a_backbone_gets_the_arguments_that_it_names(function, tmp_path):
    file = tmp_path / "host.py"
    file.write_text(BACKBONE)
    assert failed(check_file(f"{file}:{function}", size=32)) == {}


@pytest.mark.parametrize(("function", "kind"), [("ordered", "OrderedDict"), ("plain", "SimpleNamespace")])
def test_an_output_in_the_manner_of_hugging_face_is_refused(function, kind, tmp_path, small_data, capsys):
    file, out = tmp_path / "host.py", tmp_path / "run"
    file.write_text(BACKBONE)
    words = f"forward returns {kind}; return a tensor (B, num_classes), here its `logits`"  # no argument num_classes
    assert failed(check_file(f"{file}:{function}", size=32)) == {"gives the output asked for": words}
    search = ["search", "--backbone", f"{file}:{function}", "--plan", "se", "--size", "32", "--out", str(out)]
    assert cli.main(search) == 4
    assert f"forward returns {kind}; return a tensor" in capsys.readouterr().err
    assert not out.exists()


def test_a_wrong_number_of_outputs_is_refused_before_anything_is_written(tmp_path, small_data, capsys):
    file, out = tmp_path / "host.py", tmp_path / "run"
    file.write_text(BACKBONE)
    search = ["search", "--backbone", f"{file}:seven", "--plan", "se", "--size", "32", "--out", str(out)]
    assert cli.main(search) == 4
    assert f"{file}:seven: the output is (B, 7), expected (B, 10)" in capsys.readouterr().err
    assert not out.exists()


def test_a_stem_is_a_backbone_too():
    assert failed(check_backbone("patchtst", input_size=(24, 2), num_classes=None, horizon=4)) == {}


class Good(ImageTask):
    def __init__(self):
        super().__init__("good", digits(), size=16)


class Short(Good):
    def eval_batches(self, split, batch_size, *, device="cpu"):
        yield from list(super().eval_batches(split, batch_size, device=device))[:-1]


class Restless(Good):
    def train_batches(self, batch_size, **options):
        for x, y in super().train_batches(batch_size, **options):
            yield x + torch.randn(()), y


class Still(Good):
    def train_batches(self, batch_size, *, epoch, **options):
        yield from super().train_batches(batch_size, epoch=0, **options)


class Detached(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) * float("nan")


class Wrong(Good):
    def evaluate(self, outputs, targets):
        metrics, items = super().evaluate(outputs, targets)
        return {**metrics, "accuracy": metrics["accuracy"] + 0.1}, items


class Forgetful(Good):
    def describe(self):
        return {**super().describe(), "now": torch.rand(1).item()}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Short, "`splits` declares"),
        (Restless, "training batches differ"),
        (Still, "same order"),
        (Detached, "finite scalar"),
        (Wrong, "mean over items"),
        (Forgetful, "describe() differs"),
    ],
)
def test_a_task_that_breaks_the_contract(task, words):
    assert words in " ".join(failed(check_task(task())).values())


def test_tasks_that_keep_it():
    assert failed(check_task(Good())) == {}
    assert failed(check_task(create_task("co2", lookback=24, horizon=4))) == {}


def test_the_command(tmp_path, capsys):
    file = tmp_path / "task.py"
    file.write_text(
        "from nasbench.tasks import ImageTask\nfrom nasbench.tasks._image_sources import digits\n"
        "class Mine(ImageTask):\n    def __init__(self):\n        super().__init__('mine', digits(), size=16)\n"
        "class Bad(Mine):\n    def describe(self):\n        return {'x': object()}\n"
    )
    assert cli.main(["check", str(file), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["data"]
    assert [row["passed"] for row in rows].count(False) == 1
    assert cli.main(["check", f"{file}:Mine"]) == 0
    assert cli.main(["check", f"{file}:Mina"]) == 4
    assert "did you mean 'Mine'" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "none.py")]) == 4
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert cli.main(["check", str(tmp_path / "empty.py")]) == 5


@pytest.mark.parametrize("name", ["Plain", "Unregistered", "LIMIT", "Task", "Absent"])
def test_a_name_that_is_of_no_kind_is_one_error_that_says_what_each_kind_is(tmp_path, capsys, name):
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\nfrom nasbench.tasks import Task\nLIMIT = 5\nclass Plain:\n    pass\n"
        "class Unregistered(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
    )
    assert cli.main(["check", f"{file}:{name}"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    for words in (
        name,
        "@nasbench.register_module",
        "a function that returns an nn.Module",
        "subclass of nasbench.tasks",
    ):
        assert words in err
    assert err.count("\n") == 1


def test_a_class_of_models_without_needed_arguments_is_a_backbone(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    )
    assert [result.check for result in check_file(f"{file}:Net")] == ["builds", "gives the output asked for"]


def test_a_task_without_its_base_is_named(tmp_path):
    (tmp_path / "own.py").write_text("class Task:\n    pass\n")
    with pytest.raises(InputError, match=r"Task must be a subclass of nasbench\.tasks\.Task") as caught:
        check_file(str(tmp_path / "own.py"))
    assert caught.value.exit_code == 4
