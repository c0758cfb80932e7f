"""Searches killed at any moment, and resumed: nothing finished is lost, nothing done twice, no process is left."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from nasbench.library.plan import Plan
from nasbench.runs.ledger import evaluation_of
from nasbench.runs.run import load_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")


@pytest.fixture
def host(search_host):
    return search_host


def lines_of(file):
    return file.read_text().splitlines() if file.exists() else []


def alive(process):
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def finished_in(folder):
    """The evaluations that are in the journal, by number."""
    if not (folder / "config.yaml").exists():
        return {}
    return {e.number: e for e in load_run(folder).evaluations()}


def check_end(folder, calls, trials):
    """What must hold once a search that was killed has come to its end."""
    run = load_run(folder)
    ledger = run.journal.ledger()
    claims = [t for t in ledger.trials() if "claim" in t.user_attrs]
    evaluations = [evaluation_of(t) for t in claims]
    assert None not in evaluations, "a claim was left unfinished"
    assert {e.state for e in evaluations} == {"complete"}
    hashes = [e.plan_hash for e in evaluations]
    assert len(set(hashes)) == len(hashes) == trials, "a plan stands twice, or one is missing"
    asked = Counter(lines_of(calls))
    assert len(asked) == trials
    attempts = {t.user_attrs["plan"]: t.user_attrs.get("attempts", 1) for t in claims}
    for text, times in asked.items():
        plan = Plan.of(eval(text))
        assert times <= attempts[plan.text], "a trial was begun more often than it was queued"
    assert all(json.loads(line) for line in lines_of(folder / "journal.log"))
    views = [json.loads(line) for line in lines_of(folder / "trials.jsonl")]
    rows = run.trials()
    assert [(v["number"], v["plan_hash"], v["accuracy"], v["cost"]) for v in views] == list(
        rows[["number", "plan_hash", "accuracy", "cost"]].itertuples(index=False, name=None)
    )
    assert (folder / "trials.csv").read_text() == rows.to_csv(index=False)


def order_for(tmp_path, workers, trials, **more):
    calls = tmp_path / "calls"
    settings = {"out": str(tmp_path / "run"), "workers": workers, "trials": trials}
    return {"calls": str(calls), "search": settings, **more}


@pytest.mark.parametrize(("workers", "seed"), [(1, 0), (4, 1)])
def test_killed_at_random_moments(tmp_path, host, workers, seed):
    """Five kills each, at moments spread over the search, then resumed to the end."""
    rng = random.Random(seed)
    folder, calls, log, trials, kills = tmp_path / "run", tmp_path / "calls", tmp_path / "log", 40, 5
    order = order_for(tmp_path, workers, trials)
    before = {}
    for kill in range(kills):
        reached = len(lines_of(calls)) + rng.randint(workers + 1, (trials - 2 * workers) // kills)
        search = host.start(log, **order)
        while len(lines_of(calls)) < reached and alive(search):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(search, signal.SIGKILL)
        assert host.wait(search) == -signal.SIGKILL, log.read_text()
        assert host.rest(), "a process is left"
        after = finished_in(folder)
        assert all(after[number] == evaluation for number, evaluation in before.items()), f"lost by kill {kill}"
        assert len(after) >= len(set(lines_of(calls))) - workers, "more was lost than what was running"
        before = after
    assert host.run(log, **order) == 0, log.read_text()
    assert all(finished_in(folder)[number] == evaluation for number, evaluation in before.items())
    check_end(folder, calls, trials)


DEADLY = [
    ("journal.log", 1, 0.5),  # the study's first line
    ("journal.log", 3, 0.0),  # holding the lock, nothing written of the first claim
    ("journal.log", 3, 0.5),  # half a claim
    ("journal.log", 4, 0.0),  # holding the lock, nothing written of the first evaluation
    ("journal.log", 8, 0.3),  # within the evaluation
    ("journal.log", 8, 0.95),  # the evaluation is whole, the end of its trial torn
    ("journal.log", 8, 1.0),  # all written, the lock still held
    ("trials.jsonl", 3, 0.0),  # between the two files
    ("trials.jsonl", 3, 0.5),  # within the second
    ("trials.jsonl", 3, 1.0),
]


@pytest.mark.parametrize("workers", [1, 4])
def test_killed_in_the_midst_of_a_write(tmp_path, host, workers):
    """Killed at each of these writes in turn, each time further on, then resumed to the end."""
    folder, log, trials = tmp_path / "run", tmp_path / "log", 60
    order = order_for(tmp_path, workers, trials, pause_s=0.0)
    before = {}
    for name, at, share in DEADLY:
        deadly = {"name": name, "at": at, "share": share}
        assert host.run(log, **order, deadly=deadly) == -signal.SIGKILL, f"{deadly}: {log.read_text()}"
        after = finished_in(folder)
        assert all(after[number] == evaluation for number, evaluation in before.items()), f"lost by {deadly}"
        before = after
    assert host.run(log, **order) == 0, log.read_text()
    check_end(folder, tmp_path / "calls", trials)


@pytest.mark.parametrize(
    ("workers", "sent", "status"),
    [
        (1, signal.SIGINT, 2),
        (2, signal.SIGINT, 2),
        (1, signal.SIGTERM, -signal.SIGTERM),
        (2, signal.SIGHUP, -signal.SIGHUP),
    ],
)
def test_interrupted(tmp_path, host, workers, sent, status):
    """All finished work is saved, its views are there, no worker is left, and the same call continues.

    After Ctrl-C the search ends with its own exit code. Another signal ends it, after the views were written.
    """
    folder, calls, log = tmp_path / "run", tmp_path / "calls", tmp_path / "log"
    order = order_for(tmp_path, workers, 30, pause_s=0.05)
    search = host.start(log, **order)
    while len(lines_of(calls)) < 8 and alive(search):
        time.sleep(0.005)
    os.kill(search, sent)
    assert host.wait(search) == status, log.read_text()
    if sent != signal.SIGINT:
        assert log.read_text().startswith(f"ended by {sent.name}; all finished work is saved")
    assert host.rest()
    finished = finished_in(folder)
    assert 5 <= len(finished) < 30
    assert len(lines_of(folder / "trials.csv")) == len(lines_of(folder / "trials.jsonl")) + 1 == len(finished) + 1
    assert host.run(log, **order) == 0, log.read_text()
    check_end(folder, calls, 30)


def test_the_command_interrupted(tmp_path, host, image_folder):
    """`nasbench search` ends with exit code 2, says that its state is saved; the same command goes on."""
    folder, log = tmp_path / "run", tmp_path / "log"
    command = ["search", "tiny", "--backbone", "test_resnet", "--task", image_folder, "--size", "32"]
    command += ["--trials", "8", "--seeds", "1", "--set", "epochs=1", "--set", "latency_s=0", "--sampler", "random"]
    command += ["--out", str(folder)]
    search = host.start(log, command=command)
    while not lines_of(folder / "trials.jsonl") and alive(search):
        time.sleep(0.01)
    os.kill(search, signal.SIGINT)
    assert host.wait(search) == 2, log.read_text()
    assert log.read_text().splitlines()[-1].startswith("interrupted; all finished work is saved")
    assert "\x1b" not in log.read_text()
    before = finished_in(folder)
    assert before
    assert host.wait(host.start(log, command=command)) == 0, log.read_text()
    after = finished_in(folder)
    assert len({evaluation.plan_hash for evaluation in after.values()}) == len(after) == 8
    assert all(after[number] == evaluation for number, evaluation in before.items())


def test_a_module_that_kills_its_process(tmp_path, host):
    """With one worker it takes the search along, twice; then it is tried in a process of its own, and has failed."""
    folder, log = tmp_path / "run", tmp_path / "log"
    order = order_for(tmp_path, 1, 20, deadly_module="eca")
    for _ in range(2):
        assert host.run(log, **order) == -signal.SIGKILL
    assert host.run(log, **order) == 0, log.read_text()
    rows = load_run(folder).trials()
    assert len(rows) == rows["plan_hash"].nunique() == 20
    deadly = rows["plan"].str.contains("eca")
    assert (rows["state"] == "failed").tolist() == deadly.tolist()
    assert rows["reason"][deadly].str.startswith("worker died twice: its process was killed (SIGKILL").all()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KB, and what enlarges it; nothing where the system lets us mount none."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        return (
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], capture_output=True).returncode == 0
        )

    if not mount("size=400k"):
        pytest.skip("no file system can be mounted here")
    yield disk, mount
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk(tmp_path, host, small_disk):
    disk, mount = small_disk
    folder, log = disk / "run", tmp_path / "log"
    order = {"calls": str(tmp_path / "calls"), "search": {"out": str(folder), "trials": 90}}
    (disk / "ballast").write_bytes(b"x" * 200_000)
    assert host.run(log, **order) == 4
    assert log.read_text().splitlines()[-1] == (
        f"cannot write {folder}: No space left on device; "
        "finished evaluations are saved, and the same command resumes the search"
    )
    before = finished_in(folder)
    assert before
    (disk / "ballast").unlink()
    assert mount("remount,size=8m")
    assert host.run(log, **order) == 0, log.read_text()
    assert all(finished_in(folder)[number] == evaluation for number, evaluation in before.items())
    check_end(folder, tmp_path / "calls", 90)


def test_a_file_that_must_not_grow(tmp_path, host):
    """The same by a limit on the size of files, where no file system can be mounted."""
    folder, log = tmp_path / "run", tmp_path / "log"
    order = order_for(tmp_path, 1, 90)
    assert host.run(log, **order, largest_file=60_000) == 4
    assert "cannot write" in log.read_text()
    assert "File too large" in log.read_text()
    assert host.run(log, **order) == 0, log.read_text()
    check_end(folder, tmp_path / "calls", 90)


def test_a_read_only_folder(tmp_path, host, small_disk):
    disk, mount = small_disk
    log = tmp_path / "log"
    assert mount("remount,ro,size=400k")
    assert host.run(log, calls="", search={"out": str(disk / "run"), "trials": 5}) == 4
    assert log.read_text() == f"cannot write {disk / 'run'}: Read-only file system\n"
