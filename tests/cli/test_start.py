"""What answers at once: these commands load none of the packages that take seconds to import."""

import json
import shutil
import subprocess
import sys

import pytest
from support import ROOT

HEAVY = ("torch", "timm", "pandas", "scipy.stats", "matplotlib", "seaborn", "sklearn", "fvcore")

ANSWERS = ("runs", "modules", "modules *attention* --json", "show se", "show se --json", "spaces", "spaces tiny --json")
MISTAKES = {
    "show SE": "'se'",
    "show agent-attention": "'agent_attention'",
    "spaces tinny": "'tiny'",
    "spaces tiny --backbone resnet19": "'resnet18'",
    "slots resnet19": "'resnet18'",
    "slots ResNet-18": "'resnet18'",
    "slots patchTST": "'patchtst'",
    "measure resnet19": "'resnet18'",
    "measure resnet18 --plan ecca": "'eca'",
    "profile resnet19": "'resnet18'",
    "profile resnet18 --plan ecca": "'eca'",
    "profile resnet18 --space tinny --out profile.json": "'tiny'",
    "suggest resnet19": "'resnet18'",
    "suggest ecca": "'eca'",
    "fingerprint ecca": "'eca'",
    "search tinny": "'tiny'",
    "search --backbone resnet19": "'resnet18'",
    "search --task digitz": "'digits'",
    "search --set epoch=3": "'epochs'",
    "search --objective acuracy --task digits": "'accuracy'",
    "tabulate tinny": "'tiny'",
    "report runs/functoin": "function",
    "export runs/function --trial 99 --out x": "no trial 99",
    "train runs/function --trial 99 --epochs 1": "no trial 99",
    "compare runs/function runs/nothing": "no run at",
    "check nothing.py": "no file at",
}

CODE = f"""
import contextlib, io, json, sys
from nasbench.cli import main
told = {{}}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        code = main(command.split())
    told[command] = [code, error.getvalue(), [name for name in {HEAVY} if name in sys.modules]]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    shutil.copytree(ROOT / "tests" / "runs" / "version-0.1.0", folder / "runs")
    command = [sys.executable, "-W", "ignore", "-c", CODE, json.dumps([*ANSWERS, *MISTAKES])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_loads_nothing_heavy(told, command):
    code, _, loaded = told[command]
    assert (code, loaded) == (0, [])


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_answered_before_anything_heavy_is_loaded(told, command):
    code, error, loaded = told[command]
    assert (code, loaded) == (4, [])
    assert MISTAKES[command] in error


@pytest.mark.parametrize("name", ["nasbench", "nasbench.study.search", "nasbench.runs.run", "nasbench.spaces"])
def test_an_import_loads_nothing_heavy(name):
    code = f"import sys, {name}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
