"""The command as a person types it: exit codes, streams, JSON, messages."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import data

from nasbench.cli import console
from nasbench.errors import InputError
from nasbench.runs.command_line import command_line
from nasbench.runs.settings import SearchSettings
from nasbench.text import duration_s, human


def test_help_needs_no_torch():
    code = """import sys, nasbench.cli as c
c.main(['--help'])
print([name for name in ('torch', 'rich', 'pydantic') if name in sys.modules])
c.main(['search', '--help'])
print([name for name in ('torch', 'rich', 'pandas') if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]


def test_help_lists_what_is_built(nasbench):
    _, out, _ = nasbench("--help")
    listed = re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE)
    assert {"modules", "show", "slots", "spaces", "measure", "search", "report", "runs"} <= set(listed)


@pytest.mark.parametrize("command", ["modules", "show", "slots", "spaces", "measure", "search", "report", "runs"])
def test_every_command_has_help_with_an_example(nasbench, command):
    code, out, _ = nasbench(command, "--help")
    assert code == 0
    assert f"Example: nasbench {command}" in " ".join(out.split())


def test_search_has_an_option_for_each_setting_that_names_one(nasbench):
    _, out, _ = nasbench("search", "--help")
    for name in SearchSettings.model_fields:
        how = command_line(name)
        assert re.search(rf"^  {how.option}[ ,]", out, re.MULTILINE) or not how.option, name
    for line in (
        r"  --trials <int>  +Number of distinct plans to evaluate",
        r"  --time 30m  +Time after",
        r"  --objective <list\[str\]>  +",
        r"  --controls / --no-controls  +For each plan",
        r"  --latency-profile FILE  +",
        r"  --pretrained  +Start",
        r"  --out DIR  +",
    ):
        assert re.search(f"^{line}", out, re.MULTILINE), line
    assert "auto, gp, tpe, nsga2, random, grid, local" in " ".join(out.split())


def test_tabulate_takes_what_a_search_of_all_plans_leaves_open(nasbench):
    _, out, _ = nasbench("tabulate", "--help")
    assert set(re.findall(r"^  (--[a-z]+)", out, re.MULTILINE)) == {
        "--backbone", "--task", "--seed", "--seeds", "--size", "--lookback", "--horizon", "--fill", "--dates",
        "--series", "--target", "--head", "--neck", "--scale", "--objective", "--device", "--modules", "--workers",
        "--out", "--set", "--json", "--force", "--help", "--learn", "--groups",
    }  # fmt: skip
    assert "Number of seeds for each plan; 1 by default." in " ".join(out.split())


def test_options_reach_the_search_as_settings(nasbench, monkeypatch):
    told = {}

    def listen(**given):
        told.update(given)
        raise InputError("heard")

    monkeypatch.setattr("nasbench.study.search.search", listen)
    words = "tiny --backbone b --trials 4 --time 2m --objective mse --objective macs --no-controls --pretrained"
    code, _, err = nasbench("search", *words.split(), "--set", "keep=all", "--set", "epochs=2", "--out", "runs/a")
    assert (code, err) == (4, "error: heard\n")
    assert told.pop("on_event")
    assert told == {
        "space": "tiny", "backbone": "b", "trials": "4", "time_s": 120.0, "objectives": ["mse", "macs"],
        "controls": False, "pretrained": True, "keep": "all", "training": {"epochs": "2"}, "out": Path("runs/a"),
        "config": None, "origin": "command line", "report": False,
    }  # fmt: skip


def test_version(nasbench):
    code, out, _ = nasbench("--version")
    assert (code, out) == (0, "nasbench 0.1.0\n")


def test_modules(nasbench):
    code, out, _ = nasbench("modules", "*attention*", "--property", "globality", "--dims", "2", "--json")
    rows = data(out)
    assert code == 0
    assert "coord_attention" in [row["name"] for row in rows]
    assert all("globality" in row["properties"] and 2 in row["dims"] for row in rows)
    code, out, err = nasbench("modules", "se")
    assert code == 0
    assert "512" in out
    assert "nasbench show" in err


def test_show(nasbench):
    code, out, _ = nasbench("show", "se")
    assert code == 0
    assert "512 params" in out
    assert "reduction = 16" in out
    code, out, _ = nasbench("show", "fpn", "--json")
    assert data(out)["kind"] == "neck"


def test_slots(nasbench):
    code, out, _ = nasbench("slots", "resnet18", "--size", "64", "--json")
    rows = {row["name"]: row for row in data(out)}
    assert code == 0
    assert rows["stage3"]["channels"] == 256
    assert rows["stage3"]["size"] == [4, 4]
    assert "stage3.block2" in rows
    _, out, _ = nasbench("slots", "dlinear")
    assert "seasonal" in out


def test_spaces(nasbench):
    code, out, _ = nasbench("spaces", "five-properties", "--backbone", "test_resnet", "--size", "64", "--json")
    assert code == 0
    assert data(out)[0]["plans"] > 10**6
    code, out, _ = nasbench("spaces", "forecasting")
    assert code == 0
    assert "gated_tcn" in out
    assert "cbam" not in out


def test_measure(nasbench):
    code, out, _ = nasbench("measure", "resnet18", "--plan", '{"stage4": "se"}', "--size", "64", "--json")
    bare, plan = data(out)["rows"]
    assert code == 0
    assert bare["params"] == 11_689_512
    assert plan["params"] - bare["params"] == 2 * 512 * 512 // 16 + 1  # W1 and W2, and the gate of the identity start
    assert bare["exact"]
    assert bare["macs"] == 148_557_824
    code, out, _ = nasbench("measure", "test_resnet", "--plan", "eca >> triplet_attention", "--size", "64")
    assert "1 MAC = 1 multiply-add" in out
    assert "ratio" in out


def test_measure_without_a_training_step(nasbench):
    # at stage 4 a map of 32x32 has one position, so batch norm cannot train on a batch of one
    code, out, _ = nasbench("measure", "test_resnet", "--plan", "{}", "--size", "32")
    assert code == 0
    [step] = [line for line in out.splitlines() if line.startswith("peak memory, training step")]
    assert step.split()[-4:] == ["-"] * 4  # bare, plan, added, ratio
    assert "--batch 2" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "sse"], "did you mean 'se'"),
        (["slots", "resnet81"], "did you mean"),
        (["measure", "resnet18", "--plan", "se >> [eca]"], "column 7"),
        (["measure", "resnet18", "--plan", '{"stage9": "se"}'], "stage1"),
        (["measure", "resnet18", "--plan", '{"stage1": '], "not valid JSON"),
        (["measure", "patchtst", "--plan", "cbam"], "2-D"),
        (["measure", "resnet18", "--size", "0"], "--size 0: expected a whole number from 1 to 16,384"),
        (["spaces", "five-propertys"], "did you mean 'five-properties'"),
        (["search", "--task", "digit"], "did you mean 'digits'"),
        (["search", "--backbone", "patchtst", "--task", "digits"], "needs a timm model"),
        (["search", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["search", "--set", "epochs=few"], "epochs='few'"),
        (["search", "--seeds", "2", "--set", "seeds=3"], "seeds is given by an option and by --set seeds=3"),
        (["search", "five-properties", "--set", "space=tiny"], "space is given by an option and by --set"),
        (["search", "--set", "controls=maybe"], "controls='maybe'"),
        (["search", "--set", "objectives=acuracy,macs"], "did you mean 'accuracy'"),
        (["tabulate", "tiny", "--set", "sampler=random"], "sampler: a tabulation evaluates every plan"),
        (["tabulate", "tiny", "--set", "seeds=0"], "seeds='0'"),
        (["search", "--constraint", "parms<=1.1x"], "did you mean 'params'"),
        (["search", "--objective", "acuracy"], "did you mean 'accuracy'"),
        (["search", "--time", "soon"], "duration"),
        (["search", "--device", "cuda:7"], "no device"),
        (["search", "--modules", "nowhere"], "nowhere"),
        (["search", "--trials", "many"], "trials"),
        (["search", "--trails", "3"], "--trials"),
        (["serch"], "search"),
        (["report", "nowhere"], "no run at"),
        (["modules", "--property", "localty"], "locality"),
    ],
)
def test_bad_input_is_exit_code_4_and_a_message(nasbench, tmp_path, arguments, words):
    code, out, err = nasbench(*arguments)
    assert code == 4
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "runs").exists()


def test_nothing_matched_is_exit_code_5(nasbench):
    assert nasbench("modules", "zzz*")[0] == 5
    assert nasbench("runs")[0] == 5


def test_an_internal_error_is_exit_code_3(nasbench, monkeypatch):
    monkeypatch.setattr("nasbench.library.modules.module_specs", lambda *a, **k: 1 / 0)
    code, _, err = nasbench("modules")
    assert code == 3
    assert "ZeroDivisionError" in err
    assert "bug in nasbench" in err


def test_a_reader_that_has_read_enough_is_no_error(nasbench, monkeypatch):
    """As `nasbench modules | head -1`."""

    def closed(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("nasbench.library.modules.module_specs", closed)
    code, _, err = nasbench("modules")
    assert (code, err) == (0, "")


def test_a_full_disk_is_not_a_bug(nasbench, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nasbench.library.modules.module_specs", full)
    code, _, err = nasbench("modules")
    assert (code, err) == (4, "error: cannot write the output: No space left on device\n")


def test_interrupted_is_exit_code_2(nasbench, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nasbench.study.search.search", stop)
    code, _, err = nasbench("search")
    assert code == 2
    assert "saved" in err


def test_a_real_search_from_the_command_line(nasbench, tmp_path, small_data):
    arguments = [
        "search",
        "--backbone",
        "test_resnet",
        "--task",
        "digits",
        "--trials",
        3,
        "--seeds",
        2,
        "--sampler",
        "random",
    ]
    code, out, err = nasbench(*arguments, "--set", "epochs=1", "--set", "latency_s=1", "--out", "runs/try")
    assert code == 0
    assert "front" in out
    assert err.splitlines()[-1].startswith("report: runs/try/report.html")
    for name in (
        "config.yaml",
        "environment.json",
        "journal.log",
        "trials.jsonl",
        "trials.csv",
        "front.csv",
        "report.html",
    ):
        assert (tmp_path / "runs/try" / name).is_file(), name
    code, out, _ = nasbench("runs", "--json")
    assert data(out)[0]["state"] == "done"
    code, out, _ = nasbench("report", "runs/try", "--json")
    assert code == 0
    assert data(out)["rows"][0]["seeds"] == 2
    code, out, err = nasbench(*arguments, "--set", "epochs=2", "--out", "runs/try")
    assert code == 4
    assert "training.epochs: 1 there, 2 now" in err


def test_a_users_module_from_a_file(nasbench, tmp_path):
    (tmp_path / "mine.py").write_text("import torch\nraise ValueError('unfinished')\n")
    code, _, err = nasbench("modules", "--modules", "mine.py")
    assert code == 4
    assert "mine.py:2: ValueError: unfinished" in err


def test_no_colour_where_it_is_not_a_terminal(nasbench, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    code, out, err = nasbench("modules", "se")
    assert code == 0
    assert "\x1b" not in out + err


def test_durations():
    assert [duration_s(t) for t in ("90", "90s", "1.5m", "2h")] == [90, 90, 90, 7200]
    for wrong in ("", "soon", "-3m", "0s", "3w"):
        with pytest.raises(InputError):
            duration_s(wrong)


def test_numbers_for_people():
    assert [human(v) for v in (512, 11_689_512, 1.82e9)] == ["512", "11.7 M", "1.82 G"]


def test_json_has_no_nan(capsys):
    console.print_json("x", {"a": float("nan"), "b": [float("inf"), 1.0]})
    assert json.loads(capsys.readouterr().out)["data"] == {"a": None, "b": [None, 1.0]}
