"""A study cannot be hurt by the code of a module, a function or a callback, whatever this code does."""

import copy
import os
import pickle
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import nasbench as nb
from nasbench import cli
from nasbench.errors import EvaluationError, ExpressionError, PluginError, RunError, UnknownNameError
from nasbench.library.plugins import load_python_file
from nasbench.library.surroundings import surroundings_kept
from nasbench.runs.run import load_run
from nasbench.study.evaluators.asked import AskedEvaluator
from nasbench.study.evaluators.base import Request

TINY = {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
"""9 plans."""


def run_search(out, evaluate, trials=9, **more):
    options = {"objectives": {"accuracy": "maximize", "cost": "minimize"}, "sampler": "random", "seeds": 1, **more}
    return nb.search(TINY, backbone="test_resnet", evaluate=evaluate, trials=trials, out=out, **options)


def score(plan):
    return {"accuracy": float(len(str(plan))), "cost": float(len(plan))}


# -- global state ------------------------------------------------------------------------------------------------------


def _ignore_all_warnings():
    warnings.simplefilter("ignore")
    warnings.showwarning = print


MEDDLERS = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "gradient mode": lambda: torch.set_grad_enabled(False),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn": lambda: setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "threads": lambda: torch.set_num_threads(3),
    "torch generator": lambda: torch.manual_seed(12345),
    "numpy generator": lambda: np.random.seed(12345),
    "random": lambda: random.seed(12345),
    "numpy errors": lambda: np.seterr(all="raise"),
    "working directory": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    "environment": os.environ.clear,
    "environment variable": lambda: os.environ.update(OMP_NUM_THREADS="7", NASBENCH_TEST="1"),
    "stdout": lambda: setattr(sys, "stdout", None),
    "stderr": lambda: setattr(sys, "stderr", None),
    "warnings": _ignore_all_warnings,
    "sys.path": sys.path.clear,
    "recursion limit": lambda: sys.setrecursionlimit(5000),
    "SIGINT": lambda: signal.signal(signal.SIGINT, lambda *_: None),
    "SIGTERM": lambda: signal.signal(signal.SIGTERM, lambda *_: None),
}


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def seen():
    """All that a plan can see of what the meddlers change."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": str(torch.empty(()).device),
        "grad": torch.is_grad_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": torch.backends.cudnn.benchmark,
        "autocast": torch.is_autocast_enabled("cpu"),
        "threads": torch.get_num_threads(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "numpy position": np.random.get_state()[2],
        "random": random.getstate(),
        "numpy errors": np.geterr(),
        "folder": os.getcwd(),
        "umask": umask(),
        "environment": dict(os.environ),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
    }


@pytest.mark.parametrize("meddler", MEDDLERS)
def test_the_next_plan_sees_what_the_last_saw(meddler):
    before, said = seen(), []

    def evaluate(plan):
        said.append(seen())
        MEDDLERS[meddler]()
        if seen() == said[-1]:
            raise AssertionError("the meddler changes nothing")
        return score(plan)

    evaluator = AskedEvaluator(evaluate, ["accuracy"])
    with surroundings_kept():  # so that a failure of this test does not reach other tests
        states = [evaluator.evaluate(Request("{}", "none", 0)).state for _ in range(2)]
        assert states == ["complete", "complete"]
        assert said[0] == said[1] == before == seen()


def test_a_closed_stream_is_opened_again():
    code = "import sys; from nasbench.library.surroundings import surroundings_kept\n"
    code += "with surroundings_kept():\n    sys.stdout.close()\nprint('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "still here\n"


def test_a_failed_plan_leaves_nothing_behind_either():
    def evaluate(plan):
        torch.set_default_dtype(torch.float64)
        raise ValueError("no")

    assert AskedEvaluator(evaluate, ["accuracy"]).evaluate(Request("{}", "none", 0)).reason == "ValueError: no"
    assert torch.get_default_dtype() == torch.float32


def test_a_working_directory_that_was_removed(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert AskedEvaluator(score, ["accuracy"]).evaluate(Request("{}", "none", 0)).is_complete


def test_the_run_folder_stays_where_it_was(tmp_path, monkeypatch):
    """Relative `--out`, and a callback that changes the working directory: no evaluation restores that."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run = run_search("r", score, on_event=lambda event: os.chdir(tmp_path / "elsewhere"))
    assert len(run.trials()) == 9
    assert (tmp_path / "r" / "trials.csv").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


MEDDLING_MODULE = '''
import os
import torch
from torch import nn
import nasbench as nb

@nb.register_module(name="meddling", properties=("locality",), paper="none", dims=(2,))
class Meddling(nn.Module):
    """Changes what it should not."""

    def __init__(self, channels, *, dims=2):
        super().__init__()
        torch.set_grad_enabled(False)
        os.chdir("/")
        torch.manual_seed(1)

    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        return x
'''


@pytest.mark.usefixtures("small_data")
def test_a_meddling_module_does_not_hurt_other_plans(tmp_path, monkeypatch):
    """Its costs are counted before the search, in the search's own process, and its model is built there too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meddling.py").write_text(MEDDLING_MODULE)
    run = nb.search(
        plans=["meddling", "se", "eca"], backbone="test_resnet", task="digits", modules=["meddling.py"], size=32,
        training={"epochs": 1}, seeds=1, latency_s=0, controls=False, out="r",
    )  # fmt: skip
    assert set(run.trials()["state"][run.trials()["plan"].str.contains("se|eca")]) == {"complete"}
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    before = torch.get_rng_state()
    run.build(0)
    assert torch.equal(torch.get_rng_state(), before), "building a model reseeds the caller's generator"


# -- exceptions --------------------------------------------------------------------------------------------------------


class UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class OddError(BaseException):
    pass


RAISED = {
    "sys.exit(0)": (SystemExit(0), "it ends the process with sys.exit(0)"),
    "no text": (UnreadableError(), "UnreadableError: its message cannot be read"),
    "odd kind": (EvaluationError(UnreadableError()), "EvaluationError: its message cannot be read"),
    "GeneratorExit": (GeneratorExit(), "GeneratorExit: no message"),
    "own BaseException": (OddError("odd"), "OddError: odd"),
}


@pytest.mark.parametrize("raised", RAISED)
def test_whatever_a_plan_raises_only_the_plan_fails(tmp_path, raised):
    error, reason = RAISED[raised]

    def evaluate(plan):
        if plan == {"stage1": "se"}:
            raise copy.copy(error)
        return score(plan)

    rows = run_search(tmp_path / "r", evaluate).trials()
    assert rows["state"].value_counts().to_dict() == {"complete": 8, "failed": 1}
    assert rows["reason"][rows["state"] == "failed"].item().startswith(reason)


def test_ctrl_c_is_not_a_failed_trial(tmp_path):
    """Nobody can tell it from a function that raises KeyboardInterrupt itself."""

    def evaluate(plan):
        if plan == {"stage1": "se"}:
            raise KeyboardInterrupt
        return score(plan)

    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path / "r", evaluate)
    run_search(tmp_path / "r", score)
    assert len(load_run(tmp_path / "r").trials()) == 9


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize("place", ["torch.set_grad_enabled(False)", "torch.set_default_dtype(torch.float64)"])
@pytest.mark.parametrize("fault", ["raise SystemExit(0)", "raise RuntimeError('broken')"])
def test_a_module_that_fails_wherever_it_is_run(tmp_path, monkeypatch, place, fault):
    """In its constructor or in its forward: both run before the search too, to fit the space and to count costs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing.py").write_text(MEDDLING_MODULE.replace(place, fault).replace("meddling", "failing"))
    run = nb.search(
        {"variants": ["failing", "se"], "slots": ["stage1"]}, backbone="test_resnet", task="digits", size=32,
        modules=["failing.py"], training={"epochs": 1}, seeds=1, latency_s=0, controls=False, trials=3, out="r",
    )  # fmt: skip
    rows = run.trials().set_index("plan")
    states = rows["state"].to_dict()
    excluded = [reason for _, module, reason in run.config["space"]["excluded"] if module == "failing"]
    if excluded:  # it cannot even be built, so no plan has it, and the report says why
        assert "module failing cannot be built" in excluded[0]
    else:  # rejected where the count of costs cannot tell the fault from a module that does not fit
        assert states.pop('{"stage1": "failing"}') in ("failed", "rejected")
    assert states == {"{}": "complete", '{"stage1": "se"}': "complete"}


@pytest.mark.parametrize(
    "text", ["import sys\nsys.exit(0)\n", "raise SystemExit\n", "class E(BaseException): ...\nraise E('x')\n"]
)
def test_a_plugin_file_that_exits(tmp_path, capsys, text):
    (tmp_path / "plugin.py").write_text(text)
    with pytest.raises(PluginError, match=r"plugin\.py:[12]"):
        load_python_file(tmp_path / "plugin.py")
    for command in (["modules", "--modules"], ["check"]):
        assert cli.main([*command, str(tmp_path / "plugin.py")]) == 4
        assert "plugin.py:" in capsys.readouterr().err


def test_exits_of_modules_that_commands_run(tmp_path, capsys):
    source = MEDDLING_MODULE.replace("torch.set_grad_enabled(False)", "").replace('os.chdir("/")', "")
    (tmp_path / "leaving.py").write_text(
        source.replace("torch.set_default_dtype(torch.float64)", "raise SystemExit(0)").replace("meddling", "leaving")
    )
    assert cli.main(["check", str(tmp_path / "leaving.py")]) == 1
    assert "SystemExit" in capsys.readouterr().out
    command = ["measure", "test_resnet", "--plan", "stage1=leaving", "--size", "32", "--modules"]
    assert cli.main([*command, str(tmp_path / "leaving.py")]) == 4
    assert "sys.exit" in capsys.readouterr().err


def test_a_backbone_function_that_exits(tmp_path, capsys):
    (tmp_path / "own.py").write_text("import sys\ndef build(num_classes=10):\n    sys.exit(0)\n")
    assert cli.main(["slots", f"{tmp_path / 'own.py'}:build", "--size", "32"]) == 4
    assert "cannot be built: SystemExit: 0" in capsys.readouterr().err


# -- callbacks, warnings, pickles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError("the pager is gone"), KeyError("the pager is gone"), ValueError("the pager is gone")]
)
def test_a_callback_that_fails(tmp_path, error):
    """Its own message is kept, and nobody thinks that a file cannot be written or that the journal is damaged."""

    def listen(event):
        if event.done == 4:
            raise error

    with pytest.raises(
        RunError, match=rf"^on_event failed: {type(error).__name__}: .*the pager is gone.*same call resumes"
    ):
        run_search(tmp_path / "r", score, on_event=listen)
    assert len(run_search(tmp_path / "r", score).trials()) == 9


def test_the_command_gives_back_how_warnings_are_shown(capsys):
    before = warnings.showwarning
    assert cli.main(["--version"]) == 0
    assert cli.main(["show", "no-such-module"]) == 4
    assert warnings.showwarning is before


def test_suggest_leaves_the_callers_generators(tmp_path):
    from nasbench.report.suggestion import suggest

    torch.manual_seed(7)
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].tolist()
    suggest("test_resnet", input_size=(3, 32, 32))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == legacy


@pytest.mark.parametrize(
    "error",
    [
        UnknownNameError("module", "see", ["se", "eca"], "`nasbench modules` lists all"),
        ExpressionError("unexpected )", "se)", 2),
        EvaluationError("no", kind="nan"),
        RunError("no run"),
    ],
)
def test_errors_are_the_same_after_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


# -- forks and locks ---------------------------------------------------------------------------------------------------

FORKING = """
import os, sys, time
import nasbench as nb

def evaluate(plan):
    if len(plan) == 2:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        print(child, flush=True)
        time.sleep(60)
    return {"accuracy": float(len(str(plan))), "cost": float(len(plan))}

nb.search(
    {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}, backbone="test_resnet", evaluate=evaluate, trials=9,
    objectives={"accuracy": "maximize", "cost": "minimize"}, sampler="random", seeds=1, out=sys.argv[1],
    report=False,
)
"""


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """The search is killed, the child that its function forked lives on: the folder is free."""
    search = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True
    )
    assert search.stdout is not None
    child = int(search.stdout.readline())
    try:
        search.kill()
        search.wait()
        os.kill(child, 0)  # it lives
        assert len(run_search(tmp_path / "r", score).trials()) == 9
    finally:
        os.kill(child, signal.SIGKILL)
        search.stdout.close()


def test_a_forked_child_that_returns_is_no_second_search(tmp_path):
    calls = tmp_path / "calls"

    def evaluate(plan):
        with calls.open("a") as file:
            file.write(f"{os.getpid()} {plan}\n")
        if plan == {"stage1": "se"}:
            child = os.fork()
            if child:
                os.waitpid(child, 0)
        return score(plan)

    run = run_search(tmp_path / "r", evaluate)
    lines = calls.read_text().splitlines()
    assert len(lines) == len(run.trials()) == 9
    assert {line.split()[0] for line in lines} == {str(os.getpid())}


@pytest.mark.parametrize("name", ["", "x" * 101, "a\ud800", "a\nb"])
def test_an_objective_that_no_table_can_show_leaves_no_folder(tmp_path, name):
    with pytest.raises(nb.errors.InputError, match="characters that can be printed"):
        run_search(tmp_path / "run", lambda plan: {name: 1.0, "cost": 1.0}, objectives={name: "maximize"})
    assert not (tmp_path / "run").exists()


def test_a_function_reads_the_arguments_of_its_script_in_a_worker_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "7"])

    def evaluate(plan):
        return {"accuracy": float(sys.argv[1]), "cost": 1.0}

    run = run_search(tmp_path / "run", evaluate, trials=2, workers=2)
    assert set(run.trials()["accuracy"]) == {7.0}
