"""Worker processes on this machine: fresh interpreters, each with a pipe of its own to the search.

They are started as commands, not through `multiprocessing`, which would run the user's script again in each of them
unless it is guarded. No lock is shared: a worker killed at any moment blocks no other.
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

__all__ = ["Processes"]

_ENDING_S = 10
"""Seconds a worker that has closed its pipe is given to end."""

_LOOK_S = 1.0
"""Seconds between two looks at whether the workers live: a process one of them started may hold its pipe open."""

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from nasbench.study.engines.worker import main; main({descriptor}, {parent})"
)


class Processes(Pool):
    """An engine of worker processes.

    Args:
        workplaces: What each worker builds its evaluator from; as many as there are to be workers.
        timeout_s: Seconds after which a request counts as hung and its worker is killed; None lets it run.
        max_requests: Requests after which a worker is replaced.

    Raises:
        InputError: If a function that evaluates cannot be sent to another process.
    """

    def __init__(
        self, workplaces: Sequence[Workplace], *, timeout_s: float | None = None, max_requests: int = MAX_REQUESTS
    ) -> None:
        written = [workplace.to_bytes() for workplace in workplaces]
        environment = {**os.environ, **threads_for(len(written)), "PYTHONWARNINGS": ",".join(sys.warnoptions)}

        def start(number: int) -> Worker:
            return _Process(written[number], environment)

        super().__init__(start, _with_news, len(written), timeout_s=timeout_s, max_requests=max_requests)


class _Process:
    """One worker process and our end of its pipe."""

    def __init__(self, workplace: bytes, environment: dict[str, str]) -> None:
        self.pipe, theirs = Pipe()
        program = _PROGRAM.format(path=sys.path, descriptor=theirs.fileno(), parent=os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a user's code prints is narration: stdout is for data
            env=environment,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C is for the search, which then ends its workers
        )
        theirs.close()
        self._send(workplace)

    def give(self, request: Request) -> None:
        self._send(pickle.dumps(request))

    def take(self) -> Ready | Evaluation | Lost | Broken:
        try:
            if self.has_ended() and not self.pipe.poll():
                raise EOFError
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):  # it is ending; how, is seen in a moment
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_S)
            self.kill()
            return Lost(f"its process {_ending(self._process.wait())}")

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill it with all the processes it started, those that outlived it too."""
        if self.pipe.closed:
            return
        with suppress(ProcessLookupError, PermissionError):  # none is left; macOS says so by the second
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self.pipe.close()

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # it died; `take` tells
            self.pipe.send_bytes(data)


def _with_news(workers: Sequence[Worker], timeout_s: float | None) -> Sequence[Worker]:
    by_pipe = {worker.pipe: worker for worker in workers if isinstance(worker, _Process)}
    pause = _LOOK_S if timeout_s is None else min(_LOOK_S, timeout_s)
    news = [by_pipe[pipe] for pipe in pipes.wait(list(by_pipe), pause)]  # type: ignore[index]
    return news or [worker for worker in by_pipe.values() if worker.has_ended()]


def _ending(status: int) -> str:
    """Say how a process ended."""
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL; by the system, where memory ran out)"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"
