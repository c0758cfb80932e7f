"""Engines: every job is answered once, whatever its plan does to the process that evaluates it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from nasbench.errors import InputError, NasbenchError
from nasbench.runs.evaluation import Evaluation
from nasbench.study.engines import Inline, Lost, make_engine, pool, worker_devices
from nasbench.study.engines.processes import Processes
from nasbench.study.engines.workplace import Workplace, threads_for
from nasbench.study.evaluators.asked import AskedEvaluator
from nasbench.study.evaluators.base import Request

pytestmark = pytest.mark.usefixtures("functions_by_value")


def request(plan="{}", seed=0):
    return Request(plan, f"hash of {plan}", seed, {"score": 1.0})


def named(*names):
    return [request(f'{{"stage1": "{name}"}}') for name in names]


def places(function, workers=1):
    return [Workplace({}, AskedEvaluator(function, ["score"]), "cpu")] * workers


def answers(engine, jobs):
    """Submit jobs and wait for all of their answers, by ticket."""
    found = {}
    for ticket, one in enumerate(jobs):
        engine.submit(ticket, one)
    while len(found) < len(jobs):
        new = dict(engine.wait(60))
        assert new, "no answer within a minute"
        assert not set(new) & set(found), "answered twice"
        found |= new
    assert engine.wait(0) == []
    return [found[ticket] for ticket in range(len(jobs))]


def whoami(plan):
    import os

    return {"score": 1.0, "pid": float(os.getpid())}


def moody(plan):
    """What a plan's name says happens."""
    import os
    import re
    import signal
    import sys
    import time

    match plan.get("stage1"):
        case "raises":
            raise ZeroDivisionError("no good")
        case "nan":
            return {"score": float("nan")}
        case "hangs":
            time.sleep(1000)
        case "spins":
            re.match(r"(a+)+b", "a" * 60)  # in C, and it keeps the interpreter's lock
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
        case "calls exit":
            sys.exit(3)
        case "prints":
            print("narration of a user's module")  # noqa: T201
    return {"score": 1.0}


def states(found):
    return [one.reason if isinstance(one, Lost) else (one.state, one.reason) for one in found]


def test_the_engine_in_the_process_itself():
    with Inline(AskedEvaluator(whoami, ["score"])) as engine:
        (result,) = answers(engine, [request()])
        assert result.metrics["pid"] == os.getpid()
        assert engine.wait() == []


def test_workers_share_the_jobs(tmp_path):
    """Both workers are needed: the first two jobs wait for one another."""

    def meets(plan):
        import pathlib
        import time

        if plan:
            folder = pathlib.Path(plan["folder"])
            (folder / plan["name"]).touch()
            while len(list(folder.iterdir())) < 2:
                time.sleep(0.01)
        return whoami(plan)

    with Processes(places(meets, 2)) as engine:
        assert engine.capacity == 2
        jobs = [request(f'{{"folder": "{tmp_path}", "name": "{name}"}}') for name in "ab"]
        found = answers(engine, [*jobs, *[request() for _ in range(6)]])
    pids = {one.metrics["pid"] for one in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_what_comes_back_is_what_was_asked():
    with Processes(places(lambda plan, seed: {"score": 10.0 * len(plan) + seed})) as engine:
        found = answers(engine, [request(seed=3), *named("se"), request(seed=5)])
    assert [one.metrics["score"] for one in found] == [3.0, 10.0, 5.0]
    assert [one.plan_hash for one in found] == [
        "hash of {}",
        'hash of {"stage1": "se"}',
        "hash of {}",
    ]


def test_no_plan_stops_the_engine(capfd):
    """Two workers; each fault is answered for its own job, and the jobs after it are done."""
    with Processes(places(moody, 2), timeout_s=1.0) as engine:
        found = answers(
            engine, named("raises", "nan", "hangs", "fine", "spins", "killed", "exits", "prints", "calls exit")
        )
    failed = [one.reason for one in found if isinstance(one, Evaluation) and one.state == "failed"]
    assert failed[:2] == ["ZeroDivisionError: no good", "nan: score is not finite"]
    assert failed[2:4] == ["timeout: still running after 1 s, so its process was killed"] * 2
    assert failed[4:] == ["it ends the process with sys.exit(3)"]
    lost = [one.reason for one in found if isinstance(one, Lost)]
    assert lost == [
        "its process was killed (SIGKILL, which the system sends when memory runs out)",
        "its process ended by itself with status 3",
    ]
    assert [isinstance(one, Lost) for one in found] == [False] * 5 + [True, True, False, False]
    assert [found[3].state, found[7].state] == ["complete"] * 2
    out, err = capfd.readouterr()
    assert out == "", "stdout is for data"
    assert "narration of a user's module" in err


def test_the_time_a_worker_takes_to_start_is_no_evaluations():
    class SlowToStart:
        def __call__(self, plan):
            return {"score": 1.0}

        def __setstate__(self, state):
            import time

            time.sleep(1.0)

        def __getstate__(self):
            return {"slow": True}

    with Processes(places(SlowToStart()), timeout_s=0.5) as engine:
        (result,) = answers(engine, [request()])
    assert result.state == "complete"


def test_a_worker_is_replaced_before_what_it_leaks_adds_up():
    with Processes(places(whoami), max_requests=2) as engine:
        found = answers(engine, [request() for _ in range(5)])
    pids = [one.metrics["pid"] for one in found]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]


def test_wait_gives_up_after_its_time():
    with Processes(places(moody)) as engine:
        engine.submit(7, *named("hangs"))
        assert engine.wait(0.2) == []


def test_a_dead_worker_whose_child_holds_its_pipe_open(tmp_path):
    """As the loader processes of a module do when the system kills the worker: the pipe alone would never tell."""

    def dies_before_its_child(plan):
        import os
        import pathlib
        import signal
        import time

        child = os.fork()
        if child == 0:
            time.sleep(1000)
        pathlib.Path(plan["note"]).write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)

    note = tmp_path / "pid"
    with Processes(places(dies_before_its_child)) as engine:
        (answer,) = answers(engine, [request(f'{{"note": "{note}"}}')])
    assert isinstance(answer, Lost)
    assert "SIGKILL" in answer.reason
    assert _gone(int(note.read_text()))


def test_workers_that_never_get_ready_are_not_waited_for_without_end(monkeypatch):
    class Stuck:
        def __call__(self, plan):
            return {"score": 1.0}

        def __setstate__(self, state):
            import time

            time.sleep(1000)

        def __getstate__(self):
            return {"slow": True}

    monkeypatch.setattr(pool, "START_S", 1.0)
    with Processes(places(Stuck(), 2)) as engine:
        assert engine.held_up() == ""
        engine.submit(0, request())
        assert engine.wait(0.1) == []
        assert engine.held_up() == "2 worker(s) starting, none of them ready yet"
        with pytest.raises(NasbenchError, match="no worker became ready within 1 s"):
            engine.wait()


def test_closing_leaves_no_process_behind(tmp_path):
    def starts_another(plan):
        import pathlib
        import subprocess
        import time

        child = subprocess.Popen(["sleep", "1000"])
        pathlib.Path(plan["note"]).write_text(f"{child.pid}\n")
        time.sleep(1000)

    note = tmp_path / "pid"
    with Processes(places(starts_another)) as engine:
        engine.submit(0, request(f'{{"note": "{note}"}}'))
        while not note.exists() or not note.read_text().endswith("\n"):
            assert engine.wait(0.05) == []
    assert _gone(int(note.read_text()))


def _gone(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split()[2] == "Z":  # killed; whoever adopted it has not looked yet
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_what_cannot_be_sent_is_refused_before_anything_starts():
    lock = threading.Lock()
    with pytest.raises(InputError, match=r"cannot be sent to worker processes.*lock.*workers=1"):
        Processes(places(lambda plan: {"score": float(lock.locked())}))


class Explodes:
    """Refuses to be unpickled."""

    def __init__(self, how):
        self.how = how

    def __call__(self, plan):
        return {"score": 1.0}

    def __reduce__(self):
        return explode, (self.how,)


def explode(how):
    if how == "raises":
        raise ValueError("cannot be built")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("how", "said"), [("raises", "could not start.*cannot be built"), ("dies", "die before they")])
def test_workers_that_cannot_start_are_no_endless_loop(how, said):
    with Processes(places(Explodes(how))) as engine, pytest.raises(NasbenchError, match=f"(?s){said}"):
        answers(engine, [request()])


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("auto", "cuda:0", ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", "cuda:1", ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", "cuda:1", ["cuda:1"] * 3),
        ("auto", "cpu", ["cpu"] * 3),
        ("cpu", "cpu", ["cpu"] * 3),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(monkeypatch, asked, device, expected):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert worker_devices(asked, device, 3) == expected


def test_the_engine_tells_its_workers_their_devices(monkeypatch):
    """The evaluator's own device has an index even where all of them are meant."""
    from types import SimpleNamespace

    from nasbench.runs.settings import SearchSettings

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    given = []
    monkeypatch.setattr("nasbench.study.engines.processes.Processes", lambda places, **_: given.extend(places))
    monkeypatch.setattr(
        "nasbench.study.engines.on_ray.RayEngine", lambda place, *_, **more: given.append((place, more))
    )
    evaluator = SimpleNamespace(device="cuda:0", is_portable=False)
    make_engine(SearchSettings(workers=2), evaluator)
    assert [place.device for place in given] == ["cuda:0", "cuda:1"]
    given.clear()
    make_engine(SearchSettings(workers=2, engine="ray"), evaluator)
    ((place, more),) = given
    assert (place.device, more["gpus"]) == ("cuda", 1.0)


def test_a_script_without_a_main_guard(tmp_path):
    """multiprocessing's own workers would run the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from nasbench.study.evaluators.asked import AskedEvaluator
            from nasbench.study.evaluators.base import Request
            from nasbench.study.engines.processes import Processes
            from nasbench.study.engines.workplace import Workplace

            print("begun")
            factor = 2.0
            def evaluate(plan):
                return {"score": factor * helper()}
            def helper():
                return 21.0
            with Processes([Workplace({}, AskedEvaluator(evaluate, ["score"]), "cpu")] * 2) as engine:
                engine.submit(0, Request("{}", "h", 0))
                print(engine.wait()[0][1].metrics)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "begun\n{'score': 42.0}\n", done.stderr


def test_a_worker_that_asks_a_function_needs_no_torch():
    def loaded(plan):
        import sys

        return {"score": float("torch" in sys.modules)}

    with Processes(places(loaded)) as engine:
        (result,) = answers(engine, [request()])
    assert result.metrics["score"] == 0.0


def test_cores_are_shared_unless_the_user_said_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert threads_for(1)["OMP_NUM_THREADS"] == str(cores)
    assert threads_for(10 * cores)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert threads_for(2)["OMP_NUM_THREADS"] == threads_for(2)["MKL_NUM_THREADS"] == "7"
