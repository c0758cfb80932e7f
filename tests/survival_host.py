"""Runs searches that are to be killed: it imports everything once and forks a process for each order it reads.

An order is a line of JSON; answered by a line with the process id and, once that process has ended, a line with its
exit status (negative: the signal that killed it). Orphans of a killed search become children of this process
(a subreaper), so it knows when the last one is gone and says so in a third line.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
"""100 plans."""

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def evaluator(calls, pause_s):
    """Return a function that notes that it was called, then works for a while."""

    def evaluate(plan):
        import os
        import time

        file = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, (str(plan) + "\n").encode())
        os.close(file)
        time.sleep(pause_s)
        text = " ".join(plan.values())
        return {"accuracy": 1 - 1 / (1 + len(text)), "cost": float(text.count("+") + len(plan))}

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
    from nasbench.cli import main

    if "deadly" in order:
        kill_in_write(**order["deadly"])
    if "command" in order:
        return main(order["command"])
    try:
        nb.search(
            SPACE, backbone="test_resnet", evaluate=evaluator(order["calls"], order.get("pause_s", 0.01)),
            objectives={"accuracy": "maximize", "cost": "minimize"}, sampler="random", seeds=1, **order["search"],
        )  # fmt: skip
    except nb.errors.NasbenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 2
    return 0


def main():
    """Serve orders until the pipe is closed."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    import nasbench.cli
    import nasbench.errors
    import nasbench.study
    from nasbench import report  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                errors = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(errors, 2)
                os.dup2(errors, 1)
                code = search(order)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        print("gone" if all_gone() else "some are left", flush=True)


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
