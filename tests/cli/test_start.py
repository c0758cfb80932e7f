"""What answers at once: these commands load none of the packages that take seconds to import."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from support import ROOT

from nasbench.backbones.slot_cache import slots_by_name
from nasbench.objectives import PROXY_NAMES
from nasbench.training.proxies import PROXIES

HEAVY = ("torch", "timm", "pandas", "scipy.stats", "matplotlib", "seaborn", "sklearn", "fvcore")

MODULE = ROOT / "modules" / "channel" / "se.py"
"""A file that defines neither a task nor a function that builds."""

ANSWERS = ("runs", "modules", "modules *attention* --json", "show se", "show se --json", "spaces", "spaces tiny --json")
MISTAKES = {
    "show SE": "'se'",
    "show agent-attention": "'agent_attention'",
    "show Squeeze-Excitation": "it is called 'se' here",
    "slots resnet18.a1_in1kk": "'resnet18.a1_in1k'",
    "search --backbone resnet18.a1_in1kk --task digits": "'resnet18.a1_in1k'",
    "search --backbone nothing.py:build": "no file at",
    "search --task nothing.py:Task": "no file at",
    "search --sampler randm": "'random'",
    "search --log tensorbord": "'tensorboard'",
    "search --plan ecca": "'eca'",
    "search --plan se --plan stage3=ecca": "stage3: no module named 'ecca'",
    "search --plan stage3=se;stage3=eca": "twice",
    "search tiny --plan se": "leave out space, or leave out the plans",
    "search --plan se --sampler random --trials 9": "sampler (command line), trials (command line)",
    "measure resnet18 --plan stage3=ecca": "stage3: no module named 'ecca'",
    "profile resnet18 --plan stage3:": "stage3 has no expression",
    "search --set epochs=three": "epochs='three'",
    "search --constraint parms<=1.1x --task digits": "'params'",
    "search --storage foo://bar": "not of the form postgresql://",
    "search --reuse runs/nothing": "no run at",
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
    "check se": "nasbench check ",
    "show se(reduction=4)": "`nasbench show se`",
    "spaces FIVE": "'five-properties'",
    "search --space tiny": "SPACE is an argument",
    "search --device cudaa": "'cuda'",
    "search --checkpoint nothing.pt": "no checkpoint at nothing.pt",
    "search --latency-profile nothing.json": "cannot read device profile nothing.json",
    "search --task csv:nothing.csv": "no CSV file at",
    "search --task ett:nothing.csv": "no CSV file at",
    "search --task tar:nothing.tar": "no tar file at",
    "search --task folder:nothing": "no folder at",
    "search --task table:nothing.parquet": "no table at",
    "search --task torchvision:CIFAR11": "'CIFAR10'",
    "search --task cifar10": "'torchvision:CIFAR10'",
    "search --task mnist": "'torchvision:MNIST'",
    "search --task nothing": "table:FILE",
    "search --set optimizer=adamv": "'adam'",
    f"search --task {MODULE}:Task": "SqueezeExcitation",
    f"search --backbone {MODULE}:build": "SqueezeExcitation",
    'measure test_resnet --size 32 --plan {"stage9":"se"}': "'stage4'",
    'profile test_resnet --size 32 --plan {"stage9":"se"}': "'stage4'",
    "profile test_resnet --mode quick": "'quick'; known: compile, cudagraph, eager",
    "profile test_resnet --amp half": "'half'; known: bfloat16, float16, none",
    "profile test_resnet --device cudaa": "'cuda'",
    "doctor --device cudaa": "'cuda'",
    "export runs/function --format xlsx": "known: csv, json, latex, md",
}
NO_MATCH = {"modules SE": "'se'", "modules *Attention*": "'self_attention'"}
TABLES = ("export runs/function --format csv", "compare runs/function runs/again")
"""Commands that need pandas and nothing else. They come last in the process, which has it loaded from then on."""

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
    recorded = ROOT / "tests" / "runs" / "version-0.1.0"
    shutil.copytree(recorded, folder / "runs")
    shutil.copytree(recorded / "function", folder / "runs" / "again")
    command = [sys.executable, "-W", "ignore", "-c", CODE, json.dumps([*ANSWERS, *MISTAKES, *NO_MATCH, *TABLES])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        slots_by_name("test_resnet", (3, 32, 32))  # stored, as any command on these slots would have left them
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert sorted(path.name for path in folder.iterdir()) == ["runs"], "a refused command leaves nothing behind"
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["again", "co2", "function", "halving"]
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_loads_nothing_heavy(told, command):
    code, _, loaded = told[command]
    assert (code, loaded) == (0, [])


@pytest.mark.parametrize("command", [*MISTAKES, *NO_MATCH])
def test_a_mistake_is_answered_before_anything_heavy_is_loaded(told, command):
    code, error, loaded = told[command]
    assert (code, loaded) == (4 if command in MISTAKES else 5, [])
    assert (MISTAKES | NO_MATCH)[command] in error


@pytest.mark.parametrize("command", TABLES)
def test_a_table_takes_pandas_alone(told, command):
    code, _, loaded = told[command]
    assert (code, loaded) == (0, ["pandas"])


@pytest.mark.parametrize("name", ["nasbench", "nasbench.study.search", "nasbench.runs.run", "nasbench.spaces"])
def test_an_import_loads_nothing_heavy(name):
    code = f"import sys, {name}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_damaged_run_does_not_hide_the_others(nasbench, tmp_path):
    shutil.copytree(ROOT / "tests" / "runs" / "version-0.1.0", tmp_path / "runs")
    (tmp_path / "runs" / "halving" / "config.yaml").write_text("settings: [")
    code, out, _ = nasbench("runs", str(tmp_path / "runs"))
    assert code == 1
    assert "function" in out
    assert "co2" in out
    assert "unreadable: " in out
    assert "halving/config.yaml" in out.replace("\n", "")


def test_spaces_are_counted_anew_after_a_module_was_edited(tmp_path):
    """In a copy of the tree: a new channel gate joins the space of channel gates."""
    for name in ("nasbench", "modules", "search_spaces", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    gate = (tmp_path / "modules" / "channel" / "se.py").read_text()
    (tmp_path / "modules" / "channel" / "mine.py").write_text(gate.replace('name="se"', 'name="mine"'))
    code = "import sys; from nasbench.cli import main; main(['spaces', 'channel-gates', '--json']); print('torch' in sys.modules)"  # noqa: E501
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    *document, loaded = done.stdout.strip().splitlines()
    (row,) = json.loads("\n".join(document))["data"]
    recorded = json.loads((ROOT / "search_spaces" / "overview.json").read_text())["spaces"]["channel-gates"]
    assert "mine" in row["variants"]
    assert "mine" not in recorded["variants"]
    assert row["plans"] > recorded["plans"]
    assert loaded == "True"


def test_the_names_that_need_no_torch_are_those_that_exist():
    assert tuple(PROXIES) == PROXY_NAMES


def test_a_space_of_the_project_is_listed_without_its_modules(nasbench, tmp_path, monkeypatch):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_text("description: of my own\nvariants: [not_loaded]\n")
    monkeypatch.chdir(tmp_path)
    code, out, error = nasbench("spaces")
    assert code == 0
    assert "of my own" in out
    assert "`nasbench spaces mine`" in error
