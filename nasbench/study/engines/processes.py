"""The engine whose workers are processes on this machine. Each is a new Python interpreter with a pipe to the search.

The processes are started as commands, not through `multiprocessing`. `multiprocessing` would execute the user's script
again in each worker, unless the script has an `if __name__ == "__main__"`. Workers share no lock, so a killed worker
never blocks the others.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing import connection as pipes

from nasbench.runs.evaluation import Evaluation
from nasbench.study.engines._base import Lost
from nasbench.study.engines.pool import MAX_REQUESTS, Broken, Pool, Ready, Worker
from nasbench.study.engines.workplace import Workplace, threads_for
from nasbench.study.evaluators.base import Request
from nasbench.study.evaluators.pace import Pace

__all__ = ["Processes"]

_ENDING_S = 10
"""Seconds for which to wait until a worker that has closed its pipe ends by itself."""

_LOOK_S = 1.0
"""Seconds between two checks whether the workers are alive.

A closed pipe does not show every dead worker: a process that the worker started can still have the pipe open.
"""

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from nasbench.study.engines.worker import main; main({descriptor}, {parent})"
)


class Processes(Pool):
    """An engine whose workers are processes on this machine.

    Args:
        workplaces: For each worker, the description from which it builds its evaluator.
        timeout_s: Seconds after which a request is considered hung and its worker is killed. None for no limit.
        max_requests: Number of requests after which a worker is replaced.

    Raises:
        InputError: If the user's function cannot be sent to another process.
    """

    def __init__(
        self, workplaces: Sequence[Workplace], *, timeout_s: float | None = None, max_requests: int = MAX_REQUESTS
    ) -> None:
        # pickled here, so that there is an error at once if an evaluator cannot be sent
        written = [workplace.to_bytes() for workplace in workplaces]
        environment = {**os.environ, **threads_for(len(written)), "PYTHONWARNINGS": ",".join(sys.warnoptions)}

        def start(number: int) -> Worker:
            return _Process(written[number], environment)

        super().__init__(start, _with_news, len(written), timeout_s=timeout_s, max_requests=max_requests)


class _Process:
    """One worker process, and the end of its pipe that the search uses."""

    def __init__(self, workplace: bytes, environment: dict[str, str]) -> None:
        self.pipe, theirs = Pipe()
        program = _PROGRAM.format(path=sys.path, descriptor=theirs.fileno(), parent=os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=2,  # to stderr, because a user's code can print, and stdout of the search is for data
            env=environment,
            pass_fds=[theirs.fileno()],
            process_group=0,  # a group of its own: Ctrl-C then reaches only the search, which ends its workers
        )
        theirs.close()  # now only the worker has this end open, so the pipe closes when the worker dies
        self._send(workplace)

    def give(self, request: Request) -> None:
        self._send(pickle.dumps(request))

    def take(self) -> Ready | Evaluation | Lost | Broken | Pace:
        try:
            if self.has_ended() and not self.pipe.poll():
                raise EOFError
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):  # the worker is ending, and its exit status is not known yet
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_S)
            self.kill()
            return Lost(f"its process {_ending(self._process.wait())}")

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the worker and all processes that it started, including those that outlive it."""
        if self.pipe.closed:  # the worker was killed already, and another process may have its id now
            return
        with suppress(ProcessLookupError, PermissionError):  # no process is left; macOS raises the second
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self.pipe.close()

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # the worker is dead, and `take` will return `Lost`
            self.pipe.send_bytes(data)


def _with_news(workers: Sequence[Worker], timeout_s: float | None) -> Sequence[Worker]:
    by_pipe = {worker.pipe: worker for worker in workers if isinstance(worker, _Process)}
    pause = _LOOK_S if timeout_s is None else min(_LOOK_S, timeout_s)
    news = [by_pipe[pipe] for pipe in pipes.wait(list(by_pipe), pause)]  # type: ignore[index]
    return news or [worker for worker in by_pipe.values() if worker.has_ended()]


def _ending(status: int) -> str:
    """Return how a process ended, as text."""
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL, which the system sends when memory runs out)"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"
