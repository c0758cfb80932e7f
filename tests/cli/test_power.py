"""`nasbench power`: figures on stdout, errors with the exit codes of the contract."""

import json

import pytest
from support.recorded_run import Recorder


@pytest.fixture
def run(tmp_path):
    recorder = Recorder(tmp_path / "run")
    for seed, score in enumerate((0.89, 0.90, 0.91)):
        recorder.add(None, score, seed)
    recorder.add({"stage1": "se"}, 0.95)
    return recorder.run


def test_what_it_prints(nasbench, run):
    code, out, err = nasbench("power", run.path)
    assert code == 0
    assert out == f"{run.power()}\n"
    assert f"next: nasbench power {run.path} --effect D" in err
    code, out, err = nasbench("power", run.path, "--effect", 0.02)
    assert code == 0
    assert out.splitlines()[-1] == run.power(0.02).decides
    assert "--refine" in err


def test_json(nasbench, run):
    code, out, _ = nasbench("power", run.path, "--effect", "0.02", "--json")
    document = json.loads(out)
    assert (code, document["kind"]) == (0, "power")
    power = run.power(0.02)
    assert document["data"]["seeds_needed"] == power.seeds_needed
    assert document["data"]["items_needed"] is None
    assert {int(seeds): value for seeds, value in document["data"]["detectable"].items()} == power.detectable


@pytest.mark.parametrize("effect", ["0", "-1", "nan", "much"])
def test_a_wrong_effect(nasbench, run, effect):
    code, out, err = nasbench("power", run.path, "--effect", effect)
    assert (code, out) == (4, "")
    assert "--effect" in err


def test_runs_that_cannot_tell(nasbench, tmp_path):
    Recorder(tmp_path / "once").add(None, 0.9)
    Recorder(tmp_path / "costs", objectives=("macs", "params")).add(None, 1.0, params=1.0)
    for name, words in (("once", "--refine 2"), ("costs", "is a cost"), ("none", "no run at")):
        code, out, err = nasbench("power", tmp_path / name)
        assert (code, out) == (4, "")
        assert words in err
