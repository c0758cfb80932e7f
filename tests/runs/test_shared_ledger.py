"""Several drivers on one study in a real PostgreSQL server that this file starts."""

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

import nasbench as nb
from nasbench.errors import InputError, RunError
from nasbench.runs import database, shared_ledger
from nasbench.runs.database import open_database
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import load_run
from nasbench.runs.schema import FINALISTS
from nasbench.runs.shared_ledger import SharedLedger, pack_items, unpack_items
from nasbench.runs.storage import quiet

SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
DIRECTIONS = {"accuracy": "maximize", "cost": "minimize"}


@pytest.fixture
def server(postgresql):
    """The URL of the server."""
    return postgresql.url


@pytest.fixture
def study(server, request):
    """The storage, and the name of a study of this test alone."""
    opened = open_database(server)
    with quiet():
        optuna.create_study(storage=opened, study_name=request.node.name, directions=list(DIRECTIONS.values()))
    return opened, request.node.name


def evaluation(plan, accuracy=0.5):
    return Evaluation(plan, plan, 0, 0, "complete", metrics={"accuracy": accuracy, "cost": 1.0})


def ledgers(study, *names):
    return [SharedLedger(study[0], study[1], DIRECTIONS, name) for name in names]


def test_of_two_claims_the_first_stands(study):
    a, b = ledgers(study, "a", "b")
    number = a.claim_trial("plan", {})
    assert number is not None
    assert b.claim_trial("plan", {}) is None
    assert b.claim_trial("other", {}) is not None
    assert [t.state for t in a.trials()] == [TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING]
    assert a.close_trial(number, evaluation("plan"))
    assert b.claim_trial("plan", {}) is None, "finished is taken too"


def test_the_budget_is_counted_over_all(study):
    a, b = ledgers(study, "a", "b")
    a.budget = b.budget = 3
    claimed = [ledger.claim_trial(f"plan {i}", {}) for i, ledger in enumerate([a, b, a, b, a])]
    assert [number is not None for number in claimed] == [True, True, True, False, False]


def test_claims_at_the_same_time(study):
    """Four drivers claim 30 plans each in their own order: every plan once, the budget exactly."""
    names, budget, got = "abcd", 20, []
    start = threading.Barrier(len(names))

    def drive(name):
        (ledger,) = ledgers(study, name)
        ledger.budget = budget
        start.wait()
        order = list(np.random.default_rng(ord(name)).permutation(30))
        got.extend((f"plan {i}", number) for i in order if (number := ledger.claim_trial(f"plan {i}", {})) is not None)

    threads = [threading.Thread(target=drive, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(Counter(plan for plan, _ in got).values()) == 1
    assert len(got) == budget


def test_news_are_what_others_wrote(study):
    a, b = ledgers(study, "a", "b")
    assert a.new_trials() == b.new_trials() == []
    number = b.claim_trial("plan", {"plan": "plan"})
    assert [(t.number, t.state) for t in a.new_trials()] == [(number, TrialState.RUNNING)]
    assert b.new_trials() == a.new_trials() == []
    assert a.others_running()
    assert not b.others_running()
    b.close_trial(number, replace(evaluation("plan"), items=np.array([0.0, 1.0, 0.25])))
    (trial,) = a.new_trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [0.5, 1.0]
    assert unpack_items(trial.user_attrs["items"]).tolist() == [0.0, 1.0, 0.25]
    assert not a.others_running()


def test_the_dead_are_replaced_and_the_slow_lose(study, monkeypatch):
    a, b = ledgers(study, "a", "b")
    number = b.claim_trial("plan", {"plan": "plan"})
    a.new_trials()
    monkeypatch.setattr(shared_ledger, "BEAT_S", 0.0)
    for _ in range(3):
        b.beat()
        assert a.new_trials() == []
    monkeypatch.setattr(shared_ledger, "DEAD_S", 0.0)
    (left,) = a.new_trials()
    assert (left.number, left.state, left.user_attrs["abandoned"]) == (number, TrialState.FAIL, True)
    assert not a.is_claimed("plan")
    again = a.claim_trial("plan", {"plan": "plan"})
    assert again is not None
    assert not b.close_trial(number, evaluation("plan", 0.9)), "it was given up as dead"
    assert a.close_trial(again, evaluation("plan", 0.7))
    assert [t.values for t in a.trials() if t.state == TrialState.COMPLETE] == [[0.7, 1.0]]


def test_whoever_did_not_look_for_a_while_takes_nobody_for_dead(study, monkeypatch):
    """As while the database was away, when no driver could give a sign of life."""
    a, b = ledgers(study, "a", "b")
    b.claim_trial("plan", {"plan": "plan"})
    a.new_trials()
    monkeypatch.setattr(shared_ledger, "DEAD_S", 0.0)
    monkeypatch.setattr(shared_ledger, "DEAF_S", 0.0)
    assert a.new_trials() == []
    monkeypatch.setattr(shared_ledger, "DEAF_S", 30.0)
    assert len(a.new_trials()) == 1


def test_a_server_that_is_restarted_is_waited_for(study, postgresql):
    (a,) = ledgers(study, "a")
    number = a.claim_trial("plan", {"plan": "plan"})
    postgresql.stop()
    later = threading.Timer(1.0, postgresql.start)
    later.start()
    assert a.close_trial(number, replace(evaluation("plan"), items=np.array([1.0])))
    later.join()
    assert a.trial(number).values == [0.5, 1.0]


def test_a_server_that_stays_away_is_an_error_in_the_end(study, postgresql, monkeypatch):
    (a,) = ledgers(study, "a")
    monkeypatch.setattr(database, "OUTAGE_S", 0.0)
    postgresql.stop()
    try:
        with pytest.raises(optuna.exceptions.StorageInternalError) as caught:
            a.trials()
    finally:
        postgresql.start()
    assert "connection failed: " in database.database_fault(caught.value)
    assert a.trials() == []


def test_a_plan_left_by_the_dead_keeps_its_place_in_the_budget(study, monkeypatch):
    a, b = ledgers(study, "a", "b")
    a.budget = b.budget = 1
    b.claim_trial("plan", {})
    a.new_trials()
    monkeypatch.setattr(shared_ledger, "DEAD_S", 0.0)
    a.new_trials()
    assert a.claim_trial("another", {}) is None
    assert a.claim_trial("plan", {}) is not None


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=50))
@settings(deadline=None)
def test_items_survive_the_database(values):
    assert unpack_items(pack_items(np.array(values))).tolist() == values


def test_two_drivers_one_of_them_killed(tmp_path, server, search_host):
    """The first is killed for good while it evaluates; the second finishes the whole study, that plan included."""
    calls = tmp_path / "calls"

    def start(name):
        settings = {"out": str(tmp_path / name), "storage": server, "trials": 16}
        impatient = {"BEAT_S": 0.2, "DEAD_S": 3.0}
        log = tmp_path / f"{name}.log"
        return search_host.start(log, calls=str(calls), pause_s=0.3, search=settings, sharing=impatient)

    first, second = start("first"), start("second")
    while not calls.exists() or len(calls.read_text().splitlines()) < 4:
        time.sleep(0.02)
    os.kill(first, signal.SIGKILL)
    assert search_host.wait(first) == -signal.SIGKILL
    assert search_host.wait(second) == 0, (tmp_path / "second.log").read_text()
    assert search_host.rest()
    run = load_run(tmp_path / "second")
    rows = run.trials()
    assert len(rows) == rows["plan_hash"].nunique() == 16
    asked = Counter(calls.read_text().splitlines())
    assert len(asked) == 16
    assert sum(asked.values()) <= 17, "only what the first was evaluating may have been asked again"
    lines = [json.loads(line) for line in (tmp_path / "second" / "trials.jsonl").read_text().splitlines()]
    assert [line["plan_hash"] for line in lines] == rows["plan_hash"].tolist()


def test_a_search_joins_what_is_there(tmp_path, server):
    def search(name, trials, calls):
        return nb.search(
            SPACE, backbone="test_resnet", trials=trials, out=tmp_path / name, storage=server, sampler="random",
            objectives=DIRECTIONS, seed=5, seeds=1,
            evaluate=lambda plan: {"accuracy": float(len(str(plan))), "cost": float(len(plan))},
            on_event=lambda event: calls.append(event.message),
        )  # fmt: skip

    one, two = [], []
    first = search("a", 4, one).trials()["plan"].tolist()
    second = search("b", 6, two).trials()["plan"].tolist()
    assert len(second) == len(set(second)) == 6
    assert second[:4] == first
    assert len([message for message in two if message.startswith("trial")]) == 2


def test_two_drivers_share_a_race_and_one_is_killed(tmp_path, server, search_host):
    """No plan and seed twice, the budget exactly, what the killed one was training included."""
    calls = tmp_path / "calls"

    def start(name):
        settings = {"out": str(tmp_path / name), "storage": server, "trials": 8, "seed": 7, "seeds": 8, "refine": 8}
        impatient = {"BEAT_S": 0.2, "DEAD_S": 3.0}
        log = tmp_path / f"{name}.log"
        return search_host.start(log, calls=str(calls), pause_s=0.2, items=True, search=settings, sharing=impatient)

    first, second = start("first"), start("second")
    while not calls.exists() or len(calls.read_text().splitlines()) < 8 + 4:
        time.sleep(0.02)
    os.kill(first, signal.SIGKILL)
    assert search_host.wait(first) == -signal.SIGKILL
    assert search_host.wait(second) == 0, (tmp_path / "second.log").read_text()
    assert search_host.rest()
    run = load_run(tmp_path / "second")
    further = [(one.plan, one.seed) for one in run.journal.evaluations(FINALISTS)]
    assert len(further) == len(set(further)) == 8
    assert run.trials()["plan"].nunique() == 8
    asked = Counter(calls.read_text().splitlines())
    assert len(asked) == 8 + 8
    assert sum(asked.values()) <= 8 + 8 + 1, "only what the first was evaluating may have been asked again"
    assert all(run.folder.items_file(row.plan_hash, row.seed).is_file() for row in run.trials().itertuples())


@pytest.mark.parametrize("killed", [False, True])
def test_two_drivers_share_a_search_by_halving(tmp_path, server, search_host, killed):
    """Each rung is trained once, the best plan in full, and all trials end; what a killed driver trained counts."""
    calls, trials = tmp_path / "calls", 9

    def start(name):
        settings = {
            "out": str(tmp_path / name), "storage": server, "trials": trials, "seed": 11 + killed,
            "halving": 2, "training": {"epochs": 4},
        }  # fmt: skip
        more = {"inline": True, "sharing": {"BEAT_S": 0.2, "DEAD_S": 3.0}, "pause_s": 0.05}
        return search_host.start(tmp_path / f"{name}.log", calls=str(calls), search=settings, **more)

    first, second = start("first"), start("second")
    if killed:
        while not calls.exists() or len(calls.read_text().splitlines()) < 7:
            time.sleep(0.01)
        os.kill(first, signal.SIGKILL)
    assert search_host.wait(first) == (-signal.SIGKILL if killed else 0), (tmp_path / "first.log").read_text()
    assert search_host.wait(second) == 0, (tmp_path / "second.log").read_text()
    assert search_host.rest()
    rows = load_run(tmp_path / "second").trials()
    assert len(rows) == rows["plan_hash"].nunique() == trials
    assert set(rows["state"]) == {"complete", "rejected"}
    trained = Counter(Path(f"{calls}-epochs").read_text().splitlines())
    assert sum(trained.values()) - len(trained) <= killed, "only what the first was training may be trained again"
    plans = [
        Counter(text.rpartition(" ")[0] for text in trained if text.endswith(f" {epochs}")) for epochs in (1, 2, 4)
    ]
    assert len(plans[0]) == trials - 1, "all but the bare backbone began at the first rung"
    assert len(plans[1]) >= (trials - 1) // 2
    assert len(plans[2]) >= 1 + (trials - 1) // 4
    assert max(plans[0], key=lambda text: len(" ".join(eval(text).values()))) in plans[2], "the best is trained in full"
    done = (rows["state"] == "complete").sum()
    assert len(plans[2]) - killed <= done <= len(plans[2]), "a promotion that was lost need not be the right one later"


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("sqlite:///study.db", InputError, "postgresql://user"),
        ("nonsense", InputError, "postgresql://user"),
        ("postgresql://nobody@127.0.0.1:1/none", RunError, "cannot use the database"),
    ],
)
def test_what_is_no_database(url, error, said):
    if error is RunError:
        pytest.importorskip("psycopg")
    with pytest.raises(error, match=said):
        open_database(url)
