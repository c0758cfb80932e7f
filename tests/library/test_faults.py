"""A fault of a module inside a model names plan, slot, module and line."""

import re

import pytest
import torch

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError
from nasbench.library import plugins
from nasbench.library.faults import fault_place, fault_text

OWN = '''import sys

import torch
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


@nb.register_module(name="none_back", properties=(), paper="", dims=(1, 2))
class NoneBack(nn.Module):
    """Return nothing: `(B, C, *S) -> None`."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x):
        return None


@nb.register_module(name="leaves", properties=(), paper="", dims=(1, 2))
class Leaves(nn.Module):
    """End the process: `(B, C, *S) -> (B, C, *S)`."""

    def __init__(self, channels: int, *, early: bool = False):
        super().__init__()
        if early:
            sys.exit(7)

    def forward(self, x):
        sys.exit(7)


@nb.register_module(name="unbuilt", properties=(), paper="", dims=(1, 2))
class Unbuilt(nn.Module):
    """Raise when it is built: `(B, C, *S) -> (B, C, *S)`."""

    def __init__(self, channels: int):
        super().__init__()
        {}["size"]


@nb.register_module(name="not_a_number", properties=(), paper="", dims=(1, 2))
class NotANumber(nn.Module):
    """Return values that are not finite: `(B, C, *S) -> (B, C, *S)`."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x):
        return x * float("nan")
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
        ("stage2=raises", r"plan stage2=raises, slot stage2, module raises \(own.py:22\): ValueError: boom"),
        ("stage2=eca >> raises", r"plan stage2=eca >> raises, slot stage2, module raises \(own.py:22\): ValueError"),
        ("stage2=raises(deep=True)", r"slot stage2, module raises \(own.py:19\): RuntimeError: .*channels"),
        (
            "stage1=se; stage2=shrinks",
            r"plan stage1=se; stage2=shrinks, slot stage2, module shrinks \(own.py:32\): ValueError: the module "
            r"returns \(2, 48, 4, 3\) for \(2, 48, 4, 4\), but must keep the shape",
        ),
        (
            "stage2=none_back",
            r"plan stage2=none_back, slot stage2, module none_back \(own.py:43\): ValueError: the module returns None",
        ),
        (
            "stage2=se >> shrinks",
            r"plan stage2=se >> shrinks, slot stage2, module shrinks \(own.py:32\): ValueError: the module returns",
        ),
    ],
)
@pytest.mark.parametrize("identity_init", [True, False])
def test_a_fault_in_a_model_names_its_place(own, plan, words, identity_init):
    model = nb.insert("test_resnet", plan, input_size=(3, 32, 32), identity_init=identity_init).eval()
    with pytest.raises((ValueError, RuntimeError)) as caught:
        model(torch.zeros(2, 3, 32, 32))
    assert re.search(words, fault_text(caught.value))
    if "shrinks" not in plan and "none" not in plan:  # a count is made from a trace, in which shapes are symbols
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


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("stage2=leaves", "module leaves (own.py:57): it ends the process with sys.exit(7)"),
        ("stage2=leaves(early=True)", "module leaves cannot be built with channels=48, early=True (own.py:54)"),
        ("stage2=leaves(early=True)", "it ends the process with sys.exit(7)"),
        ("stage2=unbuilt", "module unbuilt cannot be built with channels=48 (own.py:66): KeyError: 'size'"),
    ],
)
def test_measure_says_which_module_cannot_run(own, plan, words, capsys):
    assert cli.main(["measure", "test_resnet", "--modules", str(own), "--size", "32", "--plan", plan]) == 4
    err = capsys.readouterr().err
    assert f"plan {plan}, slot stage2" in err
    assert words in err


def test_a_trial_names_a_module_that_leaves_or_returns_nan(own, tmp_path, small_data):
    run = nb.search(
        plans=["stage2=leaves", "stage2=not_a_number"], backbone="test_resnet", size=32, seeds=1, latency_s=0,
        training={"epochs": 1}, modules=[str(own)], out=tmp_path / "run",
    )  # fmt: skip
    reasons = run.trials().set_index("plan")["reason"]
    leaves = reasons['{"stage2": "leaves"}']
    assert leaves.startswith("plan stage2=leaves, slot stage2, leaves: ")
    assert "module leaves (own.py:57): it ends the process with sys.exit(7)" in leaves
    assert "slot stage2, not_a_number gives values that are not finite" in reasons['{"stage2": "not_a_number"}']


def test_a_trial_says_it_too(own, tmp_path, small_data):
    run = nb.search(
        plans=["stage2=raises", "stage2=shrinks"], backbone="test_resnet", size=32, seeds=1, latency_s=0,
        training={"epochs": 1}, modules=[str(own)], out=tmp_path / "run",
    )  # fmt: skip
    reasons = run.trials().set_index("plan")["reason"]
    assert reasons['{"stage2": "raises"}'].startswith("plan stage2=raises, slot stage2, raises: ")
    assert "must keep the shape" in reasons['{"stage2": "shrinks"}']
