"""Searches on a Ray cluster of several nodes: whatever of it is lost, nothing finished is lost or done twice."""

import json
import os
import re
import signal
import sys
import time
from collections import Counter
from importlib.util import find_spec

import pytest
from support.ray_cluster import RayCluster

import nasbench as nb
from nasbench.errors import InputError, NasbenchError
from nasbench.runs.run import load_run
from nasbench.study.engines import pool
from nasbench.study.phases import phase

pytestmark = [
    pytest.mark.usefixtures("functions_by_value"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray"),
]

SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a"], "slots": ["stage1"]}
"""4 plans."""


def score(plan):
    text = " ".join(plan.values())
    return {"accuracy": 1 - 1 / (1 + len(text)), "cost": float(text.count("+") + len(plan))}


def search(out, trials=4, evaluate=score, **more):
    options = {"objectives": {"accuracy": "maximize", "cost": "minimize"}, "sampler": "random", "seeds": 1, **more}
    return nb.search(SPACE, backbone="test_resnet", evaluate=evaluate, trials=trials, out=out, engine="ray", **options)


@pytest.fixture(scope="module")
def nodes():
    """A head and a node with 2 CPUs."""
    cluster = RayCluster()
    try:
        cluster.start_head()
        cluster.start_node()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(nodes):
    """The same cluster, joined by this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in nodes.environment.items():
            patch.setenv(name, value)
        import ray  # imported here, because it reads the variables when it is imported

        ray.init(log_to_driver=False, logging_level="error")
        yield ray
        ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_on_ray(tmp_path, cluster):
    """A worker that is killed is replaced and its trial done once more; one that hangs is ended."""
    calls = tmp_path / "calls"

    def moody(plan):
        import os
        import signal
        import time

        with open(calls, "a") as file:
            file.write(json.dumps(plan) + "\n")
        if "eca" in str(plan):
            time.sleep(1000)
        if "dual_pool" in str(plan) and calls.read_text().count(json.dumps(plan) + "\n") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(plan)

    run = search(tmp_path / "r", evaluate=moody, workers=2, trial_cpus=0.5, trial_timeout_s=2.0)
    rows = run.trials().set_index("plan")
    assert rows["state"].to_dict() == {
        "{}": "complete",
        '{"stage1": "se"}': "complete",
        '{"stage1": "eca"}': "failed",
        '{"stage1": "dual_pool"}': "complete",
    }
    assert rows["reason"]['{"stage1": "eca"}'].startswith("timeout")
    asked = Counter(calls.read_text().splitlines())
    assert asked['{"stage1": "dual_pool"}'] == 2
    assert cluster.is_initialized(), "a cluster that was there is left alone"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_cluster_that_others_have_taken_is_not_waited_for_without_end(tmp_path, cluster, monkeypatch):
    @cluster.remote(num_cpus=2)
    class Other:
        def here(self):
            return True

    other = Other.remote()
    assert cluster.get(other.here.remote())
    monkeypatch.setattr(pool, "START_S", 2.0)
    monkeypatch.setattr(phase, "NARRATE_S", 0.5)
    said = []
    with pytest.raises(NasbenchError, match=r"no worker became ready within 2 s.*needs 1 CPU.*has 0 of 2 CPU free"):
        search(tmp_path / "r", on_event=lambda event: said.append(event.message))
    assert any("0 of 2 CPU" in line for line in said)
    cluster.kill(other)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer(tmp_path, monkeypatch, address):
    """Ray itself waits for it for minutes."""
    from nasbench.study.engines.on_ray import _cluster

    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConnectionRefusedError):
        _cluster()
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert _cluster() is None
    record = tmp_path / "ray" / "ray_current_cluster"
    record.parent.mkdir()
    record.write_text(address)
    assert _cluster() == "local"


def test_ray_says_what_the_cluster_lacks(tmp_path, cluster):
    with pytest.raises(InputError, match=r"needs 64 CPU, but the Ray cluster has only 2.*trial_cpus"):
        search(tmp_path / "r", trial_cpus=64)


# -- parts that are lost -----------------------------------------------------------------------------------------------


def begun(calls):
    return calls.read_text().splitlines() if calls.exists() else []


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_lost_parts(tmp_path, nodes, search_host):
    """One search loses its driver twice, a node and the head. What was running then is done again, nothing else.

    The head is stopped first and killed only afterwards, because a stopped process still accepts connections.
    """
    folder, calls, log = tmp_path / "run", tmp_path / "calls", tmp_path / "log"
    order = {
        "calls": str(calls), "environment": nodes.environment, "head_s": 1.0, "pause_s": 0.3,
        "search": {"out": str(folder), "trials": 20, "workers": 2, "engine": "ray"}, "uncaught": True, "narrate": True,
    }  # fmt: skip
    before = {}

    def start(more):
        """Start the search, and wait until it has begun this many evaluations of its own."""
        there = len(begun(calls))
        search = search_host.start(log, **order)
        wait_for(lambda: len(begun(calls)) >= there + more)
        return search

    def check_finished():
        now = {evaluation.number: evaluation for evaluation in load_run(folder).evaluations()}
        assert len(now) > len(before)
        assert all(now[number] == evaluation for number, evaluation in before.items()), "something finished is lost"
        before.update(now)

    nodes.start_node(wait=False)  # it joins during the first search
    for number in (signal.SIGKILL, signal.SIGTERM):
        driver = start(3)
        os.kill(driver, number)
        assert search_host.wait(driver) == -number, log.read_text()
        wait_for(lambda: not nodes.actors())  # no worker outlives its search for long
        check_finished()
    assert len((folder / "trials.csv").read_text().splitlines()) == 1 + len(before), "the tables were not written"

    driver = start(4)
    nodes.kill(nodes.actors()[0])
    there = len(begun(calls))
    wait_for(lambda: len(begun(calls)) >= there + 3)
    nodes.stop(nodes.sessions[0])
    assert search_host.wait(driver) == 4, log.read_text()
    assert "does not answer; waiting up to 1 s for it" in log.read_text()
    told = log.read_text().splitlines()[-1]  # of the traceback
    assert re.search(r"InputError: the head of the Ray cluster at \S+ is lost: it has not answered for 1 s", told), told
    assert "start Ray again on all nodes, and the same command resumes the search" in told
    check_finished()

    for session in list(nodes.sessions):
        nodes.kill(session)
    nodes.start_head(cpus=2)
    assert search_host.run(log, **{**order, "pause_s": 0.01}) == 0, log.read_text()
    check_finished()
    rows = load_run(folder).trials()
    assert len(rows) == rows["plan_hash"].nunique() == 20
    assert set(rows["state"]) == {"complete"}
    asked = Counter(begun(calls))
    assert len(asked) == 20
    assert sum(asked.values()) <= 20 + 3 * 2, "each loss repeats at most what its two workers did"
