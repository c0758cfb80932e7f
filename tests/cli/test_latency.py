"""`nasbench profile` and `nasbench doctor` as a person types them."""

from __future__ import annotations

import json
import shlex

import pytest
from support.commands import data

from nasbench.measurement.latency import device_lock as locks
from nasbench.measurement.latency import doctor as examination
from nasbench.measurement.latency.profiler import Profile
from nasbench.measurement.latency.scenario import MODES

BARE = ("profile", "test_resnet", "--size", "32", "--device", "cpu")
HUGE = ("--size", "16384", "--batch", "65536")  # the largest that can be asked for: 211 TB

SPACE = """\
name: small
slots: [stage3]
compositions: ["none", "a", "a >> b"]
variants: [eca, se]
"""


@pytest.fixture
def nasbench(nasbench, tmp_path, monkeypatch):
    """The command with locks of its own, and a space in its folder."""
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "small.yaml").write_text(SPACE)
    return nasbench


def test_plans_beside_the_bare_backbone_and_slot_by_slot(nasbench, tmp_path):
    plans = ("--plan", '{"stage2": "eca", "stage3": "gate(se, eca)"}', "--plan", "none")
    code, out, err = nasbench(*BARE, *plans, "--time", "1", "--out", "out/raw.json")
    assert code == 0
    for word in ("bare", "median ms", "SLOWER", "stopped after", "scenario: cpu (", "batch 1", "slot by slot", "whole"):
        assert word in out
    assert out.count("slot by slot") == 1  # a plan that changes nothing has no slots
    assert "at most 2 s" in err
    [one] = json.loads((tmp_path / "out/raw.json").read_text())["data"]["measurements"]
    again = Profile.from_dict(one["profile"])
    assert [row["latency_ms"] for row in one["rows"]] == [row.latency_ms for row in again.rows]
    assert [row["slot"] for row in one["slots"][0]["rows"]] == ["stage2", "stage3", "whole"]


def test_json_has_every_figure_of_every_batch_size_that_fits(nasbench):
    code, out, err = nasbench(
        *("profile", "test_resnet", "--size", 2048, "--device", "cpu", "--plan", "se", "--batch", 65536, "--batch", 1),
        *("--time", "0.5", "--no-slots", "--json"),
    )
    found = data(out)
    assert code == 1  # done, but one was not measured
    assert found["input_size"] == [3, 2048, 2048]
    huge, one = found["measurements"]
    assert huge["batch_size"] == 65536
    assert "too little memory" in huge["error"]
    assert "too little memory" in err
    assert (one["batch_size"], one["reference"], one["slots"]) == (1, "bare", [])
    assert [row["name"] for row in one["rows"]] == ["bare", "se"]
    assert {"latency_ms", "low_ms", "ratio_high", "verdict", "samples", "discarded", "rank"} <= set(one["rows"][1])
    assert one["stopped"] in ("time", "resolution")
    told = {"device", "batch_size", "dtype", "amp", "tf32", "channels_last", "mode", "input_size", "threads", "cache"}
    told |= {"denormals", "load_average", "versions", "gpu", "date"}
    assert told <= set(one["scenario"])
    assert one["warm_up_rounds"] >= 1


def test_options_reach_the_measurement(nasbench):
    options = ("--amp", "bfloat16", "--channels-last", "--threads", "1", "--seed", "3", "--time", "0.2")
    code, out, _ = nasbench(*BARE, *options, "--json")
    [one] = data(out)["measurements"]
    scenario = one["scenario"]
    assert code == 0
    assert (scenario["amp"], scenario["channels_last"], scenario["threads"]) == ("bfloat16", True, 1)
    code, out, _ = nasbench("profile", "dlinear", "--lookback", "24", "--series", "3", "--time", "0.2", "--json")
    assert data(out)["input_size"] == [24, 3]


def test_a_device_profile_is_made_and_gone_on_with(nasbench, tmp_path):
    command = (*BARE, "--space", "small.yaml", "--time", "0.3", "--held-out", "2", "--out", "devices/here.json")
    code, out, err = nasbench(*command)
    assert code == 0
    assert "estimate: at most 2 s" in err
    assert "0 of 5 plans measured" in err
    assert "--latency-profile devices/here.json" in err
    assert "a >> b" in out
    assert "Kendall's tau" in out
    before = (tmp_path / "devices/here.json").read_bytes()
    code, out, err = nasbench(*command, "--json")
    assert code == 0
    assert "plans measured" not in err  # there was nothing left to do
    assert (tmp_path / "devices/here.json").read_bytes() == before
    found = data(out)
    assert {row["name"] for row in found["added"]} == {"eca", "se", "a >> b"}
    assert found["quality"]["plans"] == 2
    assert found["scenario"]["batch_size"] == 1
    code, _, err = nasbench(*command, "--batch", "4")
    assert (code, "batch_size: 1 there, 4 now" in err) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("profile",), "give one of: BACKBONE"),
        (("profile", "resnet81"), "did you mean"),
        ((*BARE[:4], "--device", "cuda:99"), "no device 'cuda:99' here; there is cpu"),
        ((*BARE, "--plan", "sse"), "did you mean 'se'"),
        ((*BARE, "--time", "soon"), "not a duration"),
        ((*BARE, "--mode", "quick"), "known: compile, cudagraph, eager"),
        ((*BARE, "--mode", "cudagraph"), "use mode='eager' or 'compile'"),
        ((*BARE, "--amp", "float16"), "bfloat16"),
        (("profile", "test_resnet", "--device", "cpu", *HUGE, "--time", "0.1"), "too little memory"),
        ((*BARE, "--batch", 10**12, "--time", "0.1"), "a whole number from 1 to 65,536"),
        ((*BARE, "--space", "small.yaml"), "--out FILE.json"),
        ((*BARE, "--space", "small.yaml", "--plan", "se", "--out", "d.json"), "--plan cannot be combined with --space"),
        ((*BARE, "--space", "small.yaml", "--batch", "1", "--batch", "8", "--out", "d.json"), "one --batch at a time"),
        ((*BARE, "--space", "smal", "--out", "d.json"), "no space named 'smal'"),
        ((*BARE, "--held-out", "4"), "--held-out cannot be combined with plans"),
        (("profile", "--run", "runs/none"), "--run needs --front"),
        (("profile", "--run", "runs/none", "--front"), "no run at runs/none"),
        (("profile", "test_resnet", "--run", "runs/none", "--front"), "BACKBONE cannot be combined with --run"),
        (("doctor", "--device", "cuda:99"), "there is cpu"),
        (
            ("search", "small.yaml", "--backbone", "test_resnet", "--size", "32", "--latency-profile", "x.json"),
            "x.json",
        ),
        (("search", "small.yaml", "--backbone", "test_resnet", "--latency-profile", "small.yaml"), "is not valid JSON"),
    ],
)
def test_what_is_wrong_is_one_clear_error(nasbench, arguments, words):
    code, out, err = nasbench(*arguments)
    assert code == 4, err
    assert words in err
    assert "Traceback" not in err
    assert "at most" not in err or "too little memory" in err  # what cannot be measured takes no time
    assert out == ""


def test_doctor_tells_rates_with_intervals_and_the_scenario(nasbench):
    code, out, err = nasbench("doctor", "--device", "cpu", "--time", "2", "--json")
    found = data(out)
    assert code in (0, 1)  # a loaded machine may not find 5 % in so little time
    assert found["versions"]["torch"]
    [cpu] = found["devices"]
    assert (cpu["device"], cpu["trials"]) == ("cpu", 40)
    for rate, interval in (("aa_same_rate", "aa_same_interval"), ("power_5pct", "power_5pct_interval")):
        assert 0 <= cpu[interval][0] <= cpu[rate] <= cpu[interval][1] <= 1
    assert cpu["scenario"]["threads"] == 1
    assert cpu["supports"]["eager"] == cpu["supports"]["bfloat16"] == ""
    assert "CUDA" in cpu["supports"]["cudagraph"]
    assert bool(code) == bool(cpu["faults"])
    assert "40 trials" in err


def test_doctor_prints_a_table_and_says_what_is_wrong(nasbench, monkeypatch):
    fine = {
        "aa_same_rate": 1.0,
        "aa_same_interval": [0.91, 1.0],
        "power_5pct": 0.9,
        "power_5pct_interval": [0.77, 0.96],
    }
    blind = {**fine, "power_5pct": 0.25, "power_5pct_interval": [0.14, 0.4], "faults": ["5 % is found too rarely"]}
    rest = {"device": "cpu", "trials": 40, "aa_sd": 0.002, "settled_share": 1.0, "resolution": 0.015, "wall_s": 33.0}
    rest |= {"discarded_share": 0.1, "scenario": {"device_name": "made up"}, "scenario_text": "cpu, batch 1"}
    for found, code in (({**fine, "faults": []}, 0), (blind, 1)):
        monkeypatch.setattr(examination, "examine", lambda *_, found=found, **__: {**rest, **found})
        answer, out, err = nasbench("doctor", "--device", "cpu")
        assert answer == code
        for words in (
            "91 to 100 %",
            "at least 95 %",
            "at least 80 %",
            "not cudagraph",
            "scenario: cpu, batch 1",
            "torch",
        ):
            assert words in out
        assert ("too rarely" in err) == bool(code)


def test_a_command_that_waits_for_the_device_says_so(nasbench, monkeypatch):
    import threading

    monkeypatch.setattr(locks, "PATIENCE_S", 0.05)
    holder, told, held = locks.device_lock("cpu"), threading.Event(), threading.Event()

    def hold():  # the locks do not tell threads from processes
        with holder:
            held.set()
            told.wait(60)

    narrate = locks.narrate
    monkeypatch.setattr(locks, "narrate", lambda text: (narrate(text), told.set()))
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    code, out, err = nasbench(*BARE, "--time", "0.2")
    thread.join()
    assert code == 0
    assert "waiting for the device's lock" in err
    assert "-cpu.lock" in err
    assert "median ms" in out


@pytest.mark.parametrize("command", ["profile", "doctor"])
def test_help_has_an_example_that_works(nasbench, command, monkeypatch):
    code, out, _ = nasbench(command, "--help")
    assert code == 0
    lines = " ".join(out.split())
    example = lines[lines.index("Example: nasbench") :].removeprefix("Example: nasbench ")
    example = example.split(" A device profile:")[0].split(" Options")[0].split(" Arguments")[0]
    assert nasbench(*shlex.split(example))[0] in (0, 1)
    assert MODES == ("eager", "compile", "cudagraph")
