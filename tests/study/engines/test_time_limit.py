"""The default time limit of an evaluation, which follows from the time of the bare backbone."""

import signal
import threading
import time

import pytest

import nasbench as nb
from nasbench.study import driver
from nasbench.study.engines import Inline
from nasbench.study.evaluators.asked import AskedEvaluator
from nasbench.study.evaluators.base import Request

TINY = {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
"""9 plans."""


def sleep(plan):
    time.sleep(1000)


def spin(plan):
    while True:
        pass


def stubborn(plan):
    try:
        time.sleep(1000)
    except Exception:
        time.sleep(1000)


def lock(plan):
    held = threading.Lock()
    held.acquire()
    held.acquire()


@pytest.mark.parametrize("hang", [sleep, spin, stubborn, lock])
def test_what_hangs_in_this_process_is_stopped(hang):
    engine = Inline(AskedEvaluator(hang, ["accuracy"]))
    assert engine.limit_time(0.1)
    engine.submit(7, Request("{}", "none", 0))
    ((ticket, answer),) = engine.wait()
    assert (ticket, answer.state, answer.reason) == (7, "failed", "timeout: still running after 0.1 s")
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_alarm_of_the_users_program_is_left_alone():
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        assert not Inline(AskedEvaluator(sleep, ["accuracy"])).limit_time(1)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_limit_is_twenty_times_the_bare_backbone(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(driver, "FEWEST_LIMIT_S", 1.0)

    def evaluate(plan):
        import time

        if plan == {"stage1": "se"}:
            time.sleep(1000)
        return {"accuracy": float(len(str(plan))), "cost": float(len(plan))}

    said = []
    run = nb.search(
        TINY, backbone="test_resnet", evaluate=evaluate, trials=9, out=tmp_path / "r", sampler="random", seeds=1,
        objectives={"accuracy": "maximize", "cost": "minimize"}, workers=workers,
        on_event=lambda event: said.append(event.message),
    )  # fmt: skip
    rows = run.trials()
    assert rows["state"].value_counts().to_dict() == {"complete": 8, "failed": 1}
    assert rows["reason"][rows["state"] == "failed"].item().startswith("timeout: still running after 1 s")
    assert sum("--trial-timeout sets another limit" in line for line in said) == 1


def test_the_limit_itself():
    """20 times the bare backbone's time, at least 10 minutes, unless another was given."""
    from types import SimpleNamespace

    limits = []
    engine = SimpleNamespace(limit_time=lambda limit_s: limits.append(limit_s) or True)
    for wall_s, given in ((1.0, None), (30.0, None), (31.0, None), (100.0, 5.0)):
        settings = SimpleNamespace(trial_timeout_s=given, trials=3)
        exploration = SimpleNamespace(bare=SimpleNamespace(wall_s=wall_s), done=1)
        driver._limit_time(SimpleNamespace(settings=settings), engine, exploration, lambda event: None)
    assert limits == [600.0, 600.0, 620.0]
