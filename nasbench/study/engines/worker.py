"""The program of a worker process. It builds its evaluator and then answers requests until the search ends.

Its first message is `Ready` or `Broken`. After that it sends one evaluation for each request, and before it the pace of
the training, a few times a minute.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

from nasbench.errors import NasbenchError
from nasbench.study.engines.pool import Broken, Ready
from nasbench.study.engines.workplace import Workplace
from nasbench.study.evaluators.base import Request
from nasbench.study.evaluators.pace import Pace

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(descriptor: int, parent: int) -> None:
    """Answer the requests of the search that arrive through the pipe `descriptor`.

    Args:
        descriptor: File descriptor of the pipe.
        parent: Process id of the search. When the search dies, this process is killed.
    """
    die_with(parent)
    pipe: Connection = Connection(descriptor)
    try:
        workplace: Workplace = pickle.loads(pipe.recv_bytes())
        evaluator = workplace.evaluator()
    except EOFError:
        return
    except Exception as error:
        # The message of a nasbench error is enough. For any other error, the traceback shows its origin.
        text = str(error) if isinstance(error, NasbenchError) else traceback.format_exc()
        pipe.send_bytes(pickle.dumps(Broken(text)))
        return
    # If the search has ended, so does this process: at its next message, as soon as the evaluation is over.
    evaluator = evaluator.watched(lambda pace: _send(pipe, pace))
    said: object = Ready()
    while True:
        try:
            pipe.send_bytes(pickle.dumps(said))
            request: Request = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        said = evaluator.evaluate(request)


def _send(pipe: Connection, pace: Pace) -> None:
    with suppress(OSError):
        pipe.send_bytes(pickle.dumps(pace))


def die_with(parent: int) -> None:
    """Let this process be killed as soon as its parent dies, even if this process hangs."""
    if sys.platform == "linux":  # the kernel kills this process, even while it hangs in native code
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # the parent had died before the lines above took effect
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
