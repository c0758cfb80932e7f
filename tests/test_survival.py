"""Searches that are killed at any moment, and resumed: nothing finished is lost, nothing done twice, no process left."""

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

from nasbench.ledger import evaluation_of
from nasbench.plan import Plan
from nasbench.runs import load_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

HOST = Path(__file__).with_name("survival_host.py")


class Host:
    """Our end of a survival host: starts a search, watches it, kills it."""

    def __init__(self):
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HOST)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads},
        )  # fmt: skip

    def start(self, folder, **order):
        self.log = folder.with_suffix(".log")
        self.process.stdin.write(json.dumps({**order, "log": str(self.log)}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self):
        """Wait for the end of the search and of everything it started; return its exit code."""
        status = int(self.process.stdout.readline())
        assert self.process.stdout.readline() == "gone\n"
        return status

    def run(self, folder, **order):
        self.start(folder, **order)
        return self.status()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def host():
    one = Host()
    yield one
    one.close()


def lines_of(file):
    return file.read_text().splitlines() if file.exists() else []


def finished_in(folder):
    """The evaluations that are in the journal, by number."""
    if not (folder / "config.yaml").exists():
        return {}
    return {r.number: r.evaluation for r in load_run(folder).records()}


def check_end(folder, calls, trials):
    """What must hold once a search that was killed has come to its end."""
    run = load_run(folder)
    ledger = run.ledger()
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
    folder, calls, trials, kills = tmp_path / "run", tmp_path / "calls", 40, 5
    order = order_for(tmp_path, workers, trials)
    before = {}
    for kill in range(kills):
        reached = len(lines_of(calls)) + rng.randint(workers + 1, (trials - 2 * workers) // kills)
        search = host.start(folder, **order)
        while len(lines_of(calls)) < reached and Path(f"/proc/{search}/stat").read_text().split()[2] != "Z":
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(search, signal.SIGKILL)
        assert host.status() == -signal.SIGKILL, host.log.read_text()
        after = finished_in(folder)
        assert all(after[number] == evaluation for number, evaluation in before.items()), f"lost by kill {kill}"
        before = after
    assert host.run(folder, **order) == 0, host.log.read_text()
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
    folder, trials = tmp_path / "run", 60
    order = order_for(tmp_path, workers, trials, pause_s=0.0)
    before = {}
    for name, at, share in DEADLY:
        deadly = {"name": name, "at": at, "share": share}
        assert host.run(folder, **order, deadly=deadly) == -signal.SIGKILL, f"{deadly}: {host.log.read_text()}"
        after = finished_in(folder)
        assert all(after[number] == evaluation for number, evaluation in before.items()), f"lost by {deadly}"
        before = after
    assert host.run(folder, **order) == 0, host.log.read_text()
    check_end(folder, tmp_path / "calls", trials)
