"""Odd values of options end in a clear error and exit code 4, before anything is measured or written."""

import os

import pytest

import nasbench as nb
from nasbench.report.assembly import _known_test_figures
from nasbench.report.notes import notes_of
from nasbench.runs.damage import damage_of
from nasbench.runs.run import load_run

TINY = {"variants": ["se", "eca"], "slots": ["stage1"]}


def small_run(folder):
    """A run whose function returns a latency."""
    return nb.search(
        TINY, backbone="test_resnet", trials=3, out=folder, seeds=1, sampler="random",
        evaluate=lambda plan: {"accuracy": float(len(str(plan))), "latency_ms": 1.0 + len(plan)},
        objectives={"accuracy": "maximize", "latency_ms": "minimize"},
    )  # fmt: skip


SEARCH = ("search", "tiny", "--backbone", "test_resnet", "--size", "32", "--out", "r")

ODD = {
    "a folder for the table": (("export", "run", "--format", "csv", "--out", "folder"), "'folder' is a folder"),
    "here for the table": (("export", "run", "--format", "csv", "--out", "."), "'.' is a folder"),
    "below a file": (("export", "run", "--format", "csv", "--out", "file.txt/x"), "cannot write file.txt/x"),
    "a long name": (("export", "run", "--format", "csv", "--out", "a" * 300), "File name too long"),
    "here for latency": (("profile", "test_resnet", "--size", "32", "--out", "."), "'.' is a folder"),
    "here for a space": (("suggest", "se", "--out", "."), "'.' is a folder"),
    "the root for a space": (("suggest", "se", "--out", "/"), "'/' is a folder"),
    "a long backbone": (("suggest", "a" * 300), "no module, backbone or run named"),
    "a long plug-in": (("modules", "--modules", "a" * 300), "File name too long"),
    "threads": (("profile", "test_resnet", "--size", "32", "--threads", "99999"), f"{os.cpu_count()} cores"),
    "a huge map": (("fingerprint", "se", "--size", "100000x100000"), "10,000,000,000 positions"),
    "a huge Jacobian": (("fingerprint", "se", "--size", "1000x1000", "--exact"), "at no more than 16,384"),
    "runs of a file": (("runs", "file.txt"), "file.txt is a file"),
    "workers": ((*SEARCH, "--workers", "100000"), "expected a whole number from 1 to 1,000"),
    "mixup of a forecast": (
        ("search", "--backbone", "patchtst", "--task", "co2", "--set", "mixup=0.2", "--out", "r"),
        "mixup must be 0: co2 is a forecasting task",
    ),
    "float16 on a CPU": ((*SEARCH, "--set", "amp=float16", "--device", "cpu"), "amp=float16 needs a CUDA device"),
}


@pytest.fixture
def here(tmp_path):
    """A folder with a run and odd files, where the commands are run."""
    small_run(tmp_path / "run")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("hello\n")
    return tmp_path


def test_odd_values(nasbench, here):
    before = {path for path in here.rglob("*") if path.suffix not in (".lock", ".pyc") and path.name != "__pycache__"}
    for name, (command, said) in ODD.items():
        code, out, err = nasbench(*command)
        assert code == 4, f"{name}: {err}"
        assert said in err, f"{name}: {err}"
        assert "Traceback" not in err, name
        assert not out, name
    after = {path for path in here.rglob("*") if path.suffix not in (".lock", ".pyc") and path.name != "__pycache__"}
    assert after == before, "a wrong setting leaves nothing behind"


def test_the_notes_about_latency_that_a_function_returns(tmp_path):
    run = small_run(tmp_path / "run")
    notes = list(notes_of(run, run.finalists(), None, {}))
    assert "Latency was not measured by nasbench. The evaluated function returned it." in notes


DAMAGED = (
    *("[]", "null", "{", '{"plans": []}'),
    '{"plans": {"x": 1}, "naive": {}}',
    '{"plans": {}, "naive": {"x": {"a": "b"}}}',
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_test_json(tmp_path, text):
    run = small_run(tmp_path / "run")
    (tmp_path / "run" / "test.json").write_text(text)
    again = load_run(run.path)
    assert _known_test_figures(again) == {"plans": {}, "naive": {}}
    assert "test.json" in " ".join(damage_of(again))
