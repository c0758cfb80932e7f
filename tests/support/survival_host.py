"""Runs searches that are to be killed: a process that imports everything once and forks one for each search.

`Host` is the tests' end of it. The process reads a line of JSON an order and answers each with a line: "start" with the
process id of a search, "wait" with the exit status of one (negative: the signal that killed it), "rest" with whether
everything that any of them started is gone. Orphans of a killed search become children of this process (a subreaper),
so it knows.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path


class Host:
    """Starts searches, and tells how they ended."""

    def __init__(self):
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads},
        )  # fmt: skip

    def start(self, log, **order):
        """Start a search whose output goes to the file `log`; return its process id."""
        return int(self._order(start={**order, "log": str(log)}))

    def wait(self, search):
        """Wait for the end of a search; return its exit code."""
        return int(self._order(wait=search))

    def rest(self):
        """Whether everything that the searches started is gone, within 20 seconds."""
        return self._order(rest=None) == "gone"

    def run(self, log, **order):
        """Run a search to its end, and see that nothing of it is left; return its exit code."""
        status = self.wait(self.start(log, **order))
        assert self.rest()
        return status

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _order(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
"""100 plans."""

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def evaluator(calls, pause_s, deadly=None, *, items=False):
    """Return a function that notes that it was called, then works for a while; a deadly module kills its process.

    On its first seed it always scores the same. On further ones, which it notes beside the plan, luck adds to it.
    """

    def evaluate(plan, seed=0):
        import os
        import random
        import signal
        import time

        if deadly is not None and deadly in str(plan):
            os.kill(os.getpid(), signal.SIGKILL)
        file = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, (str(plan) + (f" {seed}" if seed else "") + "\n").encode())
        os.close(file)
        time.sleep(pause_s)
        text = " ".join(plan.values())
        luck = random.Random(f"{plan} {seed}").gauss(0, 0.01) if seed else 0.0
        accuracy = 1 - 1 / (1 + len(text)) + luck
        found = {"accuracy": accuracy, "cost": float(text.count("+") + len(plan))}
        return {**found, "items": [accuracy] * 3} if items else found

    return evaluate


def learner(calls, pause_s):
    """Return a function for a search by halving, which notes plan and epochs; the longer text is the better plan."""
    answer = evaluator(calls, pause_s)

    def evaluate(plan, epochs):
        import os

        file = os.open(calls + "-epochs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{plan} {epochs}\n".encode())
        os.close(file)
        found = answer(plan)
        return {"accuracy": found["accuracy"] - 0.2 / epochs, "cost": 1.0}

    return evaluate


def kill_in_write(name, at, share):
    """Have this process kill itself in its write number `at` to a file of this name, a share of the bytes written."""
    write, left = os.write, [at]

    def deadly(descriptor, data):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == name:
            left[0] -= 1
            if left[0] == 0:
                write(descriptor, bytes(data)[: int(len(data) * share)])
                os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, data)

    os.write = deadly


def search(order):
    """Search as ordered and return the exit code."""
    import nasbench as nb
    import nasbench.runs.shared_ledger
    import nasbench.study.driver
    import nasbench.study.engines
    from nasbench.cli import main

    for name, seconds in order.get("sharing", {}).items():
        setattr(nasbench.runs.shared_ledger, name, seconds)
    os.environ.update(order.get("environment", {}))
    if "head_s" in order:
        import nasbench.study.engines.on_ray as on_ray

        on_ray.HEAD_S, on_ray._ASK_HEAD_S = order["head_s"], order["head_s"] / 4
    if order.get("inline"):  # quicker than a worker of its own, where no heartbeat is missed
        nasbench.study.driver.make_engine = lambda settings, evaluator, apart: nasbench.study.engines.Inline(evaluator)
    if "deadly" in order:
        kill_in_write(**order["deadly"])
    if "largest_file" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], resource.RLIM_INFINITY))
    if "command" in order:
        return main(order["command"])
    try:
        nb.search(
            SPACE, backbone="test_resnet",
            evaluate=learner(order["calls"], order.get("pause_s", 0.01))
            if "halving" in order["search"]
            else evaluator(
                order["calls"], order.get("pause_s", 0.01), order.get("deadly_module"), items=order.get("items", False)
            ),
            objectives={"accuracy": "maximize", "cost": "minimize"}, sampler="random",
            on_event=lambda event: sys.stderr.write(f"{event.stage} {event.message}\n") if "narrate" in order else None,
            **{"seeds": 1, "report": False, **order["search"]},
        )  # fmt: skip
    except nb.errors.NasbenchError as error:
        if "uncaught" in order:  # as if this ended the program
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 2
    return 0


def main():
    """Serve orders until the pipe is closed."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # What each search would import and load anew is there before it is forked.
    import pandas  # noqa: F401

    import nasbench as nb
    import nasbench.cli
    import nasbench.study.driver
    from nasbench.library.modules import module_specs

    module_specs()
    nb.slots("test_resnet", input_size=(3, 32, 32))
    for line in sys.stdin:
        ((verb, order),) = json.loads(line).items()
        if verb == "start":
            answer = start(order)
        elif verb == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
        else:
            answer = "gone" if all_gone() else "some are left"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def start(order):
    """Fork a search and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 70
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 2)
        os.dup2(log, 1)
        code = search(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def all_gone():
    """Reap what a search left behind; False where something of it still runs after 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return True
    return False


if __name__ == "__main__":
    main()
