"""A fault of a module inside a model names plan, slot, module and line."""

import re

import pytest
import torch

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError
from nasbench.library import plugins
from nasbench.library.faults import fault_place, fault_text

OWN = '''import torch
from torch import nn

import nasbench as nb


@nb.register_module(name="raises", properties=(), paper="", dims=(1, 2))
class Raises(nn.Module):
    """Fail where it matters: `(B, C, *S) -> (B, C, *S)`."""

    def __init__(self, channels: int, *, deep: bool = False):
        super().__init__()
        self.deep = deep
        self.norm = nn.Conv2d(channels + 1, channels, 1)

    def forward(self, x):
        return self.norm(x) if self.deep else self.fail(x)

    def fail(self, x):
        raise ValueError("boom")


@nb.register_module(name="shrinks", properties=(), paper="", dims=(1, 2))
class Shrinks(nn.Module):
    """Return another shape: `(B, C, *S) -> (B, C, ...)`."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x):
        return x[..., 1:]
'''


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    plugins.load_path(file)
    return file


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("stage2=raises", r"plan stage2=raises, slot stage2, module raises \(own.py:20\): ValueError: boom"),
        ("stage2=eca >> raises", r"plan stage2=eca >> raises, slot stage2, module raises \(own.py:20\): ValueError"),
        ("stage2=raises(deep=True)", r"slot stage2, module raises \(own.py:17\): RuntimeError: .*channels"),
        (
            "stage1=se; stage2=shrinks",
            r"plan stage1=se; stage2=shrinks, slot stage2: ValueError: the module returns \(2, 48, 4, 3\) for "
            r"\(2, 48, 4, 4\), but must keep the shape",
        ),
    ],
)
@pytest.mark.parametrize("identity_init", [True, False])
def test_a_fault_in_a_model_names_its_place(own, plan, words, identity_init):
    model = nb.insert("test_resnet", plan, input_size=(3, 32, 32), identity_init=identity_init).eval()
    with pytest.raises((ValueError, RuntimeError)) as caught:
        model(torch.zeros(2, 3, 32, 32))
    assert re.search(words, fault_text(caught.value))
    if "shrinks" not in plan:  # a count is made from a trace, in which shapes are symbols
        with pytest.raises(InputError, match=r"fails on inputs.*slot stage2"):
            nb.measure(model, input_size=(3, 32, 32))


def test_other_faults_have_no_place():
    with pytest.raises(RuntimeError) as caught:
        nb.insert("test_resnet", "se", input_size=(3, 32, 32))(torch.zeros(2, 1, 32, 32))
    assert fault_place(caught.value) == ""


@pytest.mark.parametrize("plan", ["stage2=raises", "stage2=shrinks"])
def test_commands_say_it_too(own, plan, capsys):
    base = ["--modules", str(own), "--size", "32", "--plan", plan]
    for command in (["measure", "test_resnet"], ["profile", "test_resnet", "--device", "cpu", "--time", "0.1"]):
        assert cli.main([*command, *base]) == 4
        err = capsys.readouterr().err
        assert f"plan {plan}, slot stage2" in err
        assert "Traceback" not in err


def test_a_trial_says_it_too(own, tmp_path, small_data):
    run = nb.search(
        plans=["stage2=raises", "stage2=shrinks"], backbone="test_resnet", size=32, seeds=1, latency_s=0,
        training={"epochs": 1}, modules=[str(own)], out=tmp_path / "run",
    )  # fmt: skip
    reasons = run.trials().set_index("plan")["reason"]
    assert reasons['{"stage2": "raises"}'].startswith("plan stage2=raises, slot stage2, raises: ")
    assert "must keep the shape" in reasons['{"stage2": "shrinks"}']
