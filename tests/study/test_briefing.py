"""What a search says before and while it trains."""

import json
import math
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from scipy.stats import t as student

import nasbench as nb
from nasbench import cli
from nasbench.cli.searching import Progress
from nasbench.evidence.noise import binomial_noise
from nasbench.evidence.power import detectable_difference
from nasbench.library.plan import Plan
from nasbench.report.next_step import next_step
from nasbench.runs.settings import SearchSettings
from nasbench.study.evaluators import pace
from nasbench.study.evaluators.pace import Pace, PaceMaker
from nasbench.study.phases import phase
from nasbench.study.phases.events import BEFORE, Event
from nasbench.study.phases.outlook import Done, outlook
from nasbench.text import duration_text


def told(events):
    """Return what was said before the first evaluation, as a list of (name, text)."""
    return [(e.message[:9].strip(), e.message[9:]) for e in events if e.stage == BEFORE]


def test_the_first_line_comes_before_torch_and_plug_ins_are_loaded(tmp_path):
    (tmp_path / "own.py").write_text("import torch\n")
    code = """
import os, sys
import nasbench as nb
def on_event(event):
    print(event.message, "torch" in sys.modules, flush=True)
    os._exit(0)
nb.search(modules=["own.py"], on_event=on_event)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "start    checking the settings, then loading torch and the data False\n"


def test_everything_that_is_going_to_be_done_is_said_in_a_few_lines(capsys, tmp_path, monkeypatch):
    """Through the command, without a terminal: plain lines of at most 80 characters until the first evaluation."""
    monkeypatch.setattr(pace, "FIRST_S", 0.0)
    monkeypatch.setattr(phase, "NARRATE_S", 0.0)
    words = "--backbone test_resnet --size 32 --no-controls --seeds 2 --set epochs=1 --set latency_s=0 --plan stage3=se"
    monkeypatch.chdir(tmp_path)
    assert cli.main(["search", *words.split(), "--out", "my run"]) == 0
    err = capsys.readouterr().err
    assert "\r" not in err
    before, _, after = err.partition("search 1/2")
    lines = before.splitlines()
    assert lines[0].startswith("start ")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 16
    names = [line[:9].strip() for line in lines if line[:9].strip()]
    assert names == ["start", "data", "note", "host", "plans", "device", "recipe", "power", "folder", "time"]
    flat = " ".join(before.split())
    for fact in (
        "data digits: 360 train, 718 val, 719 test items, 10 classes",
        "host test_resnet, input 3x32x32; modules go into stage3",
        "plans 1 given and the bare backbone, 2 seeds each: 4 trainings device",
        "device cpu (",
        "recipe 1 epoch, batch 32, adamw, learning rate 0.003 (onecycle)",
        "it is measured first, with 2 seeds of the bare backbone",
        "folder my run",
    ):
        assert fact in flat
    assert re.search(
        r"time about \d+ s: 4 more trainings of about \d+ s, then the report \(from its first 2 steps", flat
    )
    assert re.search(r"^time +about \d+ s: 3 more trainings of about \d+ s", after, re.MULTILINE)
    # 360 items in batches of 32 are 12 steps, the last with 8 items
    assert re.search(r"search ./2.*  trial 1: step 2 of 12, about \d+ s left", after)
    assert "power    this search can detect a difference of" in after
    assert "beside the report: trials.csv" in after
    assert re.search(r"next: nasbench \w+ .*'my run'", after)
    # the same run, further, without its backbone and task
    assert cli.main(["search", "--out", "my run", "--seeds", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    rows, again = json.loads(out)["data"]["rows"], " ".join(err.split())
    assert "2 seeds each" not in again
    assert "3 seeds each: 6 trainings; 4 stored already" in again
    assert "time about" in again
    assert re.search(r"2 more trainings of about \d+ s", again)
    assert [row["seeds"] for row in rows] == [3, 3]
    # once more: nothing is left to train, and the power is said only once
    assert cli.main(["search", "--out", "my run"]) == 0
    err = capsys.readouterr().err
    assert len(re.findall(r"^power ", err, re.MULTILINE)) == 1
    assert "0 more trainings" in " ".join(err.split())


def test_the_bare_backbone_alone_is_evaluated_once(tmp_path):
    """Unless the user asks for seeds."""
    events, calls = [], []

    def evaluate(plan, seed):
        calls.append(seed)
        return {"score": seed / 10}

    def search(out, **more):
        return nb.search(
            "tiny", evaluate=evaluate, objectives={"score": "maximize"}, trials=1, out=tmp_path / out,
            on_event=events.append, **more,
        )  # fmt: skip

    run = search("once")
    said = dict(told(events))
    assert calls == [0]
    assert "1 evaluation" in said["plans"]
    assert said["power"] == "only the bare backbone is evaluated, so nothing is compared; a larger --trials tries plans"
    assert next_step(run, Path("once"))[0][:4] == ["search", "--out", "once", "--trials"]
    calls.clear()
    search("thrice", seeds=3)
    assert calls == [0, 1, 2]


def test_a_function_is_not_told_about_data_and_recipe(tmp_path):
    events = []
    nb.search(
        "tiny", evaluate=lambda plan, seed: {"score": len(plan) + seed / 10}, objectives={"score": "maximize"},
        trials=3, refine=3, out=tmp_path / "r", on_event=events.append,
    )  # fmt: skip
    said = dict(told(events))
    assert list(said) == ["start", "host", "plans", "device", "power", "folder", "time", "limit"]
    assert said["plans"].endswith("(auto), then up to 3 evaluations with further seeds")
    assert said["device"] == "none, no model is trained"
    assert said["time"].endswith("at most 5 more evaluations of about 1 s, then the report")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"objectives": {"macs": "minimize"}}, "every objective is a cost, and costs are exact"),
        ({"seeds": 1}, "one evaluation of each plan, so there will be no verdicts; --seeds 3 gives verdicts"),
        ({}, "not known yet; it is measured first, with 3 seeds of the bare backbone"),
    ],
)
def test_what_the_search_can_tell_apart(tmp_path, change, line):
    events = []
    nb.search(
        plans=["se"], evaluate=lambda plan, seed: {"score": len(plan) + seed, "macs": 1.0},
        out=tmp_path / "r", on_event=events.append, **{"objectives": {"score": "maximize"}, **change},
    )  # fmt: skip
    assert dict(told(events[:6]))["power"] == line


def test_noise_before_any_training_is_that_of_independent_draws():
    """N 400, p 0.9: W = 0.09, s² = W/N = 0.000225, V = 0.2·W/N; MDE(5) = (t(.975, ν) + t(.8, ν))·√(V + 2s²/5)."""
    noise = binomial_noise(0.9, 400, 16)
    assert noise.seed_variance == pytest.approx(0.000225)
    error = math.sqrt(0.2 * 0.000225 + 2 * 0.000225 / 5)
    least = detectable_difference(5, noise)
    high, low = ((student.ppf(0.975, nu) + student.ppf(0.8, nu)) * error for nu in (16, 1000))
    assert low < least < high


def test_the_pace_leaves_out_the_first_step_and_is_told_every_ten_seconds():
    """A first step of 5 s, then steps of 0.5 s, of 100 in total: the first report after 2 s, the next after 10 s."""
    now, heard = [0.0], []
    maker = PaceMaker(100, heard.append, clock=lambda: now[0])
    for step in range(1, 40):
        now[0] += 5.0 if step == 1 else 0.5
        maker.step(step)
    assert heard == [Pace(5, 100, 0.5), Pace(25, 100, 0.5)]
    assert (heard[0].left_s, heard[0].training_s) == (47.5, 50.0)


GIVEN = ("stage1=se", "stage1=cbam", "stage1=eca")


def problem_of(plans, given=(), macs=lambda plan: 100.0, **settings):
    """A problem whose plans have these MACs. The space has 100 plans with one module each, or the given ones."""
    space = Given(given) if given else SimpleNamespace(count=100, sample=lambda rng: Plan.of("stage1=se"))
    return SimpleNamespace(
        settings=SearchSettings(plans=given, **settings), plans=plans, task="digits", is_refined=True,
        space=space,
        evaluator=SimpleNamespace(plan_costs=object(), known=lambda plan: {"macs": macs(plan)}),
    )  # fmt: skip


class Given(list):
    """A list of plans, as a space."""

    def __init__(self, plans):
        super().__init__(map(Plan.of, plans))

    @property
    def count(self):
        return len(self)


@pytest.mark.parametrize(("capacity", "latency_s", "total"), [(2, 0, "10 min"), (1, 20, "19 min")])
def test_how_long_a_search_may_take(capacity, latency_s, total):
    """3 plans and the bare backbone with 5 seeds are 20 trainings. 19 of 60 s take 10 min on two workers."""
    problem = problem_of(plans=3, given=GIVEN, latency_s=latency_s, controls=False)
    then = "then 20 s for latencies and the report" if latency_s else "then the report"
    told = outlook(problem, Done(explored=1), 60.0, capacity)
    assert told == f"about {total}: 19 more trainings of about 60 s, {then}"


def test_controls_of_given_plans_are_part_of_the_time():
    """3 plans with 2 seeds each: 8 trainings and up to 6 controls. One training and two controls are done."""
    problem = problem_of(plans=3, given=GIVEN, latency_s=0, seeds=2)
    assert outlook(problem, Done(), 10.0, 1).startswith("about 2 min: 8 more trainings and 6 controls of about 10 s,")
    told = outlook(problem, Done(4, 4, 2), 10.0, 1)
    assert told == "about 40 s: 0 more trainings and 4 controls of about 10 s, then the report"
    assert "control" not in outlook(problem_of(plans=23, latency_s=0), Done(), 10.0, 1)


@pytest.mark.parametrize(("given", "plans"), [(GIVEN, 3), ((), 3)])
def test_plans_with_more_macs_take_longer(given, plans):
    """Each plan has 3 times the MACs of the bare backbone: of 4 evaluations, one takes 10 s and three take 30 s."""
    problem = problem_of(plans, given, lambda plan: 300.0 if plan else 100.0, latency_s=0, controls=False, seeds=2)
    assert "of about 25 s (by the MACs of the plans, 3.0 times the bare backbone's)" in outlook(
        problem, Done(), 10.0, 1
    )


def test_modules_without_costs_do_not_end_the_outlook():
    def macs(plan):
        raise RuntimeError("a module of the user")

    assert "of about 10 s, then" in outlook(problem_of(3, GIVEN, macs, latency_s=0), Done(), 10.0, 1)


def test_a_time_limit_ends_the_outlook():
    text = outlook(problem_of(plans=23, time_s=1800.0, latency_s=0), Done(), 600.0, 1)
    assert text == "about 30 min, the time limit (at most 34 more trainings of about 10 min, then the report)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (172_800, "2 days")],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text


def test_a_line_says_that_it_is_still_loading(monkeypatch):
    """Until the second event, and not after it."""
    monkeypatch.setattr("nasbench.cli.searching._LOADING_S", 0.001)
    lines, told_twice = [], threading.Event()
    with Progress() as progress:
        monkeypatch.setattr(progress, "note", lambda line: (lines.append(line), len(lines) > 1 and told_twice.set()))
        progress.on_event(Event(BEFORE, 0, 0, "start    loading torch"))
        assert told_twice.wait(60)
        progress.on_event(Event(BEFORE, 0, 0, "data     digits"))
        progress._loading.join(60)
    assert lines == ["start    loading torch", "         still loading (1 s)", "data     digits"]


def test_lines_say_how_long_their_stage_will_take(monkeypatch, capsys):
    """Four trainings of 30 s: after the second, two are left. A stage that begins anew is measured anew."""
    now = [0.0]
    monkeypatch.setattr("nasbench.cli.searching.time", SimpleNamespace(monotonic=lambda: now[0]))
    with Progress() as progress:
        for done in (1, 2, 3, 4, 1):
            now[0] += 30
            progress.on_event(Event("seeds", done, 4, "trained"))
    lines = capsys.readouterr().err.splitlines()
    left = ["", " (60 s left)", " (30 s left)", "", ""]
    assert lines == [f"seeds {done}/4{text}  trained" for done, text in zip((1, 2, 3, 4, 1), left, strict=True)]
