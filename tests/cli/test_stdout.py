"""stdout has the data of a command and nothing else, whatever plug-ins, libraries and child processes print."""

import json
import subprocess
import sys

import pytest
import typer
import typer.main

from nasbench import cli

NOISY = '''"""A module that prints wherever it can."""
import torch
from torch import nn

import nasbench as nb

print("printed at import")


@nb.register_module(name="noisy_scale", properties=("locality",), paper="", dims=(1, 2),
                    starts_as_identity=True)
class NoisyScale(nn.Module):
    """Multiply by a learned number: `(B, C, *S) -> (B, C, *S)`."""

    def __init__(self, channels: int):
        super().__init__()
        print("printed at construction")
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        print("printed in forward")
        return x * self.factor
'''

SMALL = ("--backbone", "test_resnet", "--size", "32", "--set", "epochs=1", "--out")
COMMANDS = {
    "check": ("noisy.py",),
    "fingerprint": ("noisy_scale", "--size", "4x4", "--inputs", "1", "--modules", "noisy.py"),
    "measure": ("test_resnet", "--plan", "noisy_scale", "--size", "32", "--modules", "noisy.py"),
    "modules": ("noisy*", "--modules", "noisy.py"),
    "profile": (
        *("test_resnet", "--plan", "stage1=noisy_scale", "--size", "32", "--time", "0.1", "--device", "cpu"),
        *("--no-slots", "--modules", "noisy.py"),
    ),
    "search": ("--plan", "noisy_scale", "--seeds", "1", "--set", "latency_s=0", "--modules", "noisy.py", *SMALL, "r"),
    "show": ("noisy_scale", "--modules", "noisy.py"),
    "spaces": ("noisy.yaml", "--backbone", "test_resnet", "--modules", "noisy.py"),
    "suggest": ("noisy_scale", "--modules", "noisy.py"),
    "tabulate": ("noisy.yaml", "--modules", "noisy.py", *SMALL, "t.parquet"),
}


def test_all_commands_that_load_plug_ins_are_here():
    group = typer.main.get_command(cli.app)
    takes = {
        name
        for name, command in group.commands.items()
        if any("--modules" in option.opts for option in command.get_params(typer.Context(command)))
    }
    assert takes | {"check"} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_prints_of_a_plug_in_go_to_stderr(nasbench, tmp_path, monkeypatch, small_data, command):
    monkeypatch.setattr("nasbench.report.build", lambda run: run.path)  # it takes seconds and prints nothing
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "noisy.yaml").write_text("slots: [stage1]\nvariants: [noisy_scale]\n")
    code, out, err = nasbench(command, *COMMANDS[command], "--json")
    assert code == 0, err
    assert json.loads(out)["schema_version"] == 1
    assert "printed at import" in err


def test_prints_past_python_go_to_stderr():
    code = """import os, sys
from nasbench.cli import console
with console.only_output_on_stdout():
    print("stream")
    os.write(1, b"descriptor\\n")
    os.system("echo child")
    console.print_text("data")
print("after")"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["data", "after"]
    assert set(done.stderr.split()) == {"stream", "descriptor", "child"}
