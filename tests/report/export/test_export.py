"""Exported models run without nasbench and give the same output, bit for bit; the tables hold what the run holds."""

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml

import nasbench as nb
from nasbench import cli
from nasbench.backbones import create_backbone, stems_for
from nasbench.backbones.insertion import slots_of
from nasbench.errors import InputError, RunError, UnsupportedError
from nasbench.library.modules import module_specs
from nasbench.library.plan import Plan
from nasbench.report.export import export_trial
from nasbench.report.export.inline import Inliner
from nasbench.report.export.model_card import card_metadata
from nasbench.report.export.source import model_source
from nasbench.report.export.table import table_text
from nasbench.tasks._series import calendar

USER = '''
"""A user's module, with a helper beside it."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nasbench as nb
from nasbench.ops.nd import conv as pointwise

SCALE = 0.5


def conv(x):  # the name of a layer of nasbench, for something else
    return x * SCALE


@nb.register_module(name="mine", properties=("locality",), paper="none", space={"width": (1, 2)}, dims=(1, 2))
class Mine(nn.Module):
    """Two layers."""

    def __init__(self, channels: int, *, dims: int = 2, width: int = 1) -> None:
        super().__init__()
        self.inner = pointwise(dims, channels, channels)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x + conv(F.relu(self.inner(x))) * self.width
'''


def loaded(source: str, name: str) -> ModuleType:
    """Execute source as a module."""
    assert "import nasbench" not in source
    assert "from nasbench" not in source
    module = ModuleType(name)
    module.__file__ = str(Path.cwd() / "model.py")
    sys.modules[name] = module
    try:
        exec(compile(source, name, "exec"), module.__dict__)
    finally:
        del sys.modules[name]
    return module


def same(backbone, plan, size, *, identity_init=False, **kwargs):
    """Write a model down, build it from its source, and compare."""
    torch.manual_seed(0)
    bare = create_backbone(backbone, input_size=size, **kwargs)
    model = nb.insert(bare, plan, input_size=size, identity_init=identity_init).eval()
    source = model_source(
        backbone,
        Plan.of(plan).resolve([slot.name for slot in slots_of(model)]),
        slots_of(model),
        input_size=size,
        model_kwargs=kwargs,
        identity_init=identity_init,
        title="a test",
    )
    written = loaded(source, "written").build().eval()
    assert list(written.state_dict()) == list(model.state_dict())
    written.load_state_dict(model.state_dict())
    x = torch.randn(2, *size)
    with torch.no_grad():
        outputs = []
        for each in (model, written):
            torch.manual_seed(0)
            outputs.append(each(x))
    assert torch.equal(*outputs)
    return source


SPECS = [spec for spec in module_specs() if spec.kind != "neck"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_module_of_the_library(spec):
    expression = f"{spec.name}(se, eca)" if spec.kind == "fusion" else spec.name
    if 2 in spec.dims:
        same("test_resnet", {"stage2": expression}, (3, 32, 32), num_classes=3)
    else:
        same("patchtst", {"stage1": expression}, (24, 2), horizon=4)


@pytest.mark.parametrize(
    ("backbone", "size", "plan"),
    [
        ("test_vit", (3, 64, 64), "gate(se, eca) >> cbam"),
        ("test_convnext", (3, 64, 64), "se + eca(kernel=5)"),
        ("swin_tiny_patch4_window7_224", (3, 64, 64), {"stage4": "none >> se"}),
        ("test_resnet", (3, 64, 64), {"stage1.block1": "select(se, eca, cbam)"}),
        ("dlinear", (24, 3), {}),
    ],
)
@pytest.mark.parametrize("identity_init", [True, False])
def test_hosts_and_expressions(backbone, size, plan, identity_init):
    kwargs = {"horizon": 4} if len(size) == 2 else {"num_classes": 3}
    same(backbone, plan, size, identity_init=identity_init, **kwargs)


@pytest.mark.parametrize(("argument", "value"), [("horizon", 4), ("num_classes", 3)])
def test_every_stem(argument, value):
    for name in stems_for(argument):
        # A network that classifies short series has fewer stages than one that forecasts.
        slots = nb.slots(create_backbone(name, input_size=(24, 3), **{argument: value}), input_size=(24, 3))
        same(name, {slots[-1].name: "gated_tcn + se"} if slots else {}, (24, 3), **{argument: value})


def test_a_users_module_and_backbone(tmp_path, clean_registry):
    from nasbench.library import plugins

    (tmp_path / "mine.py").write_text(USER)
    (tmp_path / "host.py").write_text(
        textwrap.dedent("""
        from torch import nn
        WIDTH = 8
        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())
        def build(num_classes=3):
            return nn.Sequential(block(3, WIDTH), block(WIDTH, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                 nn.Linear(16, num_classes))
        """)
    )
    plugins.load_path(tmp_path / "mine.py")
    source = same(f"{tmp_path}/host.py:build", "mine(width=2) >> se", (3, 32, 32), num_classes=4)
    assert "register_module" not in source
    assert "def conv_2(" in source  # nasbench's layer, told apart from the user's function
    assert str(tmp_path) not in source


def test_what_cannot_be_written_down_is_said():
    namespace = {"__name__": "nowhere", "nn": torch.nn}
    exec("class Odd(nn.Module):\n    pass", namespace)
    sys.modules["nowhere"] = ModuleType("nowhere")
    try:
        with pytest.raises(UnsupportedError, match="cannot be read"):
            Inliner().need(namespace["Odd"])
    finally:
        del sys.modules["nowhere"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_data):
    folder = tmp_path_factory.mktemp("export") / "run"
    return nb.search(
        {"variants": ["se", "eca"], "slots": ["stage1"], "compositions": ["none", "a"]},
        backbone="test_resnet", task="digits", trials=3, seeds=1, size=32, keep="all", latency_s=0,
        training={"epochs": 1}, out=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python with torch and timm, and without nasbench."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    missing = [python, "-c", "import importlib.util as u; assert u.find_spec('torch'); print(u.find_spec('nasbench'))"]
    answer = subprocess.run(missing, capture_output=True, text=True, check=True, cwd=folder).stdout.strip()
    if answer != "None":
        pytest.skip("nasbench is installed as a copy, beside torch")
    return python


def test_a_stranger_can_use_it(run, bare_python, tmp_path):
    number = int(run.trials()["number"].max())
    out = export_trial(run, number, tmp_path / "out", onnx=True)
    names = {"README.md", "config.json", "example.py", "model.onnx", "model.py", "model.safetensors"}
    assert names | {"requirements.txt"} == {file.name for file in out.iterdir()}
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = run.build(number)(x)
    torch.save((x, expected), tmp_path / "pair.pt")
    code = (
        "import runpy, sys, torch; from model import load; x, y = torch.load(sys.argv[1]); torch.set_num_threads(1);"
        "assert torch.equal(load()(x), y); print('same'); sys.argv[:] = ['example.py'];"
        "runpy.run_path('example.py', run_name='__main__'); assert 'nasbench' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    words = ["-c", code, tmp_path / "pair.pt"]
    done = subprocess.run([bare_python, *words], cwd=out, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    same, *likeliest = done.stdout.splitlines()
    assert same == "same"
    assert len(likeliest) == 5  # the five likeliest digits
    config = json.loads((out / "config.json").read_text())
    assert config["input_size"] == [3, 32, 32]
    assert config["preprocessing"]["size"] == 32
    card = (out / "README.md").read_text()
    assert f"trial {number} of" in card
    assert f"{int(run.trials().params.iloc[-1]):,}" in card


def test_the_folder_is_a_repository_of_the_hub(run, tmp_path):
    """The card is read by the Hub's library, and timm itself loads the bare network from the folder."""
    from huggingface_hub import ModelCard

    bare, best = (
        export_trial(run, number, tmp_path / f"out{number}") for number in (0, int(run.trials().number.max()))
    )
    card = ModelCard.load(bare / "README.md")
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.metrics == ["accuracy"]
    result = next(each for each in card.data.eval_results if each.dataset_split == "validation")
    row = run.trials().set_index("number").loc[0]
    assert (result.dataset_name, result.metric_type) == ("digits", "accuracy")
    compared = run.finalists().set_index("number")
    assert result.metric_value == pytest.approx(compared.accuracy.get(0, row.accuracy))
    model = timm.create_model(f"local-dir:{bare}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == [str(digit) for digit in range(10)]
    assert "license" not in json.loads((bare / "config.json").read_text())["pretrained_cfg"]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), run.build(0)(x))
    # timm knows no inserted modules: it must refuse the weights instead of leaving some out
    assert ModelCard.load(best / "README.md").data.library_name == "pytorch"
    with pytest.raises(RuntimeError, match=r"Unexpected key.*nasbench"):
        timm.create_model(f"local-dir:{best}", pretrained=True)


def test_a_card_tells_intervals_and_no_folders():
    settings = SimpleNamespace(
        task="folder:/home/me/my flowers", backbone="resnet18.a1_in1k", pretrained=True, learn="supervised"
    )
    run = SimpleNamespace(settings=settings, path=Path("runs/one"))
    config = {"kind": "classification", "plan": {"stage1": "se"}, "run": {"trial": 3}, "architecture": "resnet18"}
    row = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": float("nan"), "seeds": 3}
    card = {"row": row, "metric": "accuracy", "test": {"loss": float("nan"), "accuracy": 0.875}}
    text = card_metadata(run, config, card)
    told = yaml.safe_load(text)
    assert "/home" not in text
    assert told["base_model"] == "timm/resnet18.a1_in1k"
    assert "license" not in told
    validation, test = told["model-index"][0]["results"]
    assert validation["dataset"] == {"name": "my flowers", "type": "my-flowers", "split": "validation"}
    assert validation["metrics"][0] == {
        "type": "accuracy", "value": 0.9, "name": "validation accuracy, mean of 3 seeds", "args": {"seeds": 3}
    }  # fmt: skip
    assert [metric["value"] for metric in test["metrics"]] == [0.875]  # a metric without a value is left out
    row["accuracy_high"] = 0.95
    (metric,) = yaml.safe_load(card_metadata(run, config, card))["model-index"][0]["results"][0]["metrics"]
    assert metric["name"] == "validation accuracy, mean of 3 seeds (95 %: 0.85 to 0.95)"
    assert metric["args"] == {"seeds": 3, "low": 0.85, "high": 0.95, "confidence": 0.95}
    settings.task = "timm:hfds/org/flowers"
    assert yaml.safe_load(card_metadata(run, config, card))["datasets"] == ["org/flowers"]


@pytest.mark.parametrize("backbone", ["informer", "patchtst"])
def test_only_a_stem_with_covariates_gets_them(backbone):
    """A run with covariates has them for every stem, but not every stem has the argument."""
    source = same(backbone, {"stage1": "se"}, (24, 1), horizon=6, covariates=4)
    assert ("covariates=4" in source) == (backbone == "informer")


def test_forecasts(tmp_path, bare_python, small_data):
    run = nb.search(
        {"variants": ["se"], "slots": ["stage1"], "compositions": ["none", "a"]},
        backbone="patchtst", task="co2", trials=2, seeds=1, lookback=24, horizon=6, keep="all", latency_s=0,
        training={"epochs": 1}, out=tmp_path / "run",
    )  # fmt: skip
    out = export_trial(run, int(run.trials()["number"].max()), tmp_path / "out")
    done = subprocess.run([bare_python, "example.py"], cwd=out, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1 + 6
    assert "co2" in done.stdout.splitlines()[0].lower()


def test_the_calendar_goes_along(tmp_path, bare_python):
    """The example gives a model of covariates the marks that nasbench gives it."""
    dates = pd.date_range("2024-01-01", periods=240, freq="3h")
    steps = np.arange(240)[:, None]
    frame = pd.DataFrame(np.sin(steps / 4) + steps / [50, 80], index=dates, columns=["a", "b"])
    frame.to_csv(tmp_path / "d.csv", index_label="date")
    run = nb.search(
        {"variants": ["se"], "slots": ["stage1"], "compositions": ["none", "a"]}, backbone="informer",
        task=f"csv:{tmp_path / 'd.csv'}", covariates=True, trials=1, seeds=1, lookback=24, horizon=6, keep="all",
        latency_s=0, training={"epochs": 1}, out=tmp_path / "run",
    )  # fmt: skip
    out = export_trial(run, 0, tmp_path / "out")
    done = subprocess.run([bare_python, "example.py", tmp_path / "d.csv"], cwd=out, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    told = np.array([[float(cell) for cell in line.split(",")] for line in done.stdout.splitlines()[1:]])
    prepared = json.loads((out / "config.json").read_text())["preprocessing"]
    mean, std = np.array(prepared["mean"]), np.array(prepared["std"])
    window = torch.from_numpy((frame.to_numpy()[-24:] - mean) / std).float()[None]
    marks = torch.from_numpy(calendar(pd.date_range(dates[-24], periods=30, freq="3h"))).float()[None]
    with torch.no_grad():
        model = run.build(0).eval()
        scaled, without = model(window, marks)[0].numpy(), model(window)[0].numpy()
    assert np.allclose(told, scaled * std + mean, rtol=1e-4)
    assert not np.allclose(scaled, without, rtol=1e-3)


def test_refusals(run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        export_trial(run, 0, tmp_path / "full")
    with pytest.raises(InputError, match="no trial 99"):
        export_trial(run, 99, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for words in (["--trial", "1"], [], ["--trial", "1", "--format", "csv"], ["--format", "csvv"]):
        assert cli.main(["export", str(run.path), *words]) == 4
    assert "did you mean 'csv'" in capsys.readouterr().err


def test_a_function_has_no_model(tmp_path):
    run = nb.search(
        {"variants": ["se"]}, backbone="test_resnet", trials=1,
        objectives={"score": "maximize"}, evaluate=lambda plan: {"score": 1.0}, out=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(RunError, match="function"):
        export_trial(run, 0, tmp_path / "out")


def test_the_table_in_four_formats(run, capsys, tmp_path):
    table = run.trials()
    texts = {}
    for form in ("csv", "json", "md", "latex"):
        assert cli.main(["export", str(run.path), "--format", form]) == 0
        texts[form] = capsys.readouterr().out
    again = pd.read_csv(pd.io.common.StringIO(texts["csv"]))
    assert list(again.columns) == list(table.columns)
    assert again["macs"].tolist() == table["macs"].tolist()
    assert [row["plan"] for row in json.loads(texts["json"])["data"]] == table["plan"].tolist()
    assert len(texts["md"].splitlines()) == 2 + len(table)
    assert "\\toprule" in texts["latex"]
    assert cli.main(["export", str(run.path), "--format", "md", "--out", str(tmp_path / "t.md")]) == 0
    assert (tmp_path / "t.md").read_text().strip() == texts["md"].strip()


def test_tables_by_hand():
    table = pd.DataFrame({"plan_a": ["a | b_c", "50 %"], "x": [0.123456789, float("nan")]})
    assert table_text(table, "md") == "| plan_a | x |\n| --- | --: |\n| a \\| b_c | 0.123457 |\n| 50 % |  |\n"
    latex = table_text(table, "latex")
    assert r"plan\_a" in latex
    assert r"50 \%" in latex
    assert json.loads(table_text(table, "json"))["data"][1] == {"plan_a": "50 %", "x": None}
