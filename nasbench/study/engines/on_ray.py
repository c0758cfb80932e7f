"""The engine whose workers are actors on a Ray cluster. Ray places each actor on a node with enough free resources."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nasbench.errors import InputError
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.settings import SearchSettings
from nasbench.study.engines._base import Lost
from nasbench.study.engines.pool import Broken, Pool, Ready, Worker
from nasbench.study.engines.workplace import Workplace
from nasbench.study.evaluators.base import Request

__all__ = ["RayEngine", "make_ray_engine"]


HEAD_S = 30.0
"""Seconds without an answer of the cluster's head after which the search ends.

It is less than the 60 s after which Ray ends the process of the search itself, with a message about Ray alone.
"""

_ASK_HEAD_S = 5.0
"""Longest wait for workers, in seconds, before the head is asked whether it is alive, and for its answer."""


class RayEngine(Pool):
    """An engine whose workers are Ray actors. If a node is lost, its workers are replaced on nodes with free resources.

    The engine joins the cluster at `RAY_ADDRESS` or, if this is not set, the cluster that runs on this machine. If
    there is no cluster, the engine starts one that consists of this machine only. nasbench, and the paths in the
    settings, must exist on every node.

    Args:
        workplace: The description from which each worker builds its evaluator.
        size: Number of workers. If the cluster has fewer free resources, fewer workers run.
        cpus: CPU cores for each worker.
        gpus: GPUs for each worker. Fractions are allowed.
        timeout_s: Seconds after which a request is considered hung and its worker is killed. None for no limit.

    Raises:
        InputError: If Ray is not installed, or if the cluster is too small for one worker.
    """

    def __init__(
        self, workplace: Workplace, size: int, *, cpus: float = 1, gpus: float = 0, timeout_s: float | None = None
    ) -> None:
        self._ray = _import_ray()
        self._workplace = workplace.to_bytes()
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._joined = self._has_room = False
        self._head: Any = None  # Ray's connection to it, None until there is one
        self._name_of_head = ""
        self._silent_since: float | None = None  # the time since when the head does not answer
        address = os.environ.get("RAY_ADDRESS")
        where = (
            f"joining the Ray cluster at {address}" if address else "starting Ray, or joining this machine's cluster"
        )
        each = f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
        self.start_note = f"{where}: {size} worker(s) with {each} each; the first evaluation starts in about a minute"
        super().__init__(self._start_actor, self._with_news, size, timeout_s=timeout_s)

    def close(self) -> None:
        """Kill every worker, and leave the cluster if this engine joined it."""
        if self._silent_since is not None:
            # Ray would wait for the head in each of its calls. Without a head, its processes end by themselves.
            atexit.unregister(self._ray.shutdown)
            # Before Ray prints the traceback of an error that ends this process, it would report the error to the head.
            worker = self._ray._private.worker
            if sys.excepthook is worker.custom_excepthook:
                sys.excepthook = worker.normal_excepthook
            return
        super().close()
        if self._joined:
            self._ray.shutdown()
            self._joined = False

    def _start_actor(self, number: int) -> Worker:
        if not self._ray.is_initialized():
            try:
                with _own_sigterm():
                    self._ray.init(_cluster(), log_to_driver=False, logging_level="warning", configure_logging=False)
            except Exception as error:  # Ray raises many types of errors, also if its start takes too long
                address = os.environ.get("RAY_ADDRESS", "this machine")
                # Ray sends its token to a cluster at RAY_ADDRESS only with RAY_AUTH_MODE=token. Its own message does
                # not say this.
                hint = "; if the cluster asks for a token, set RAY_AUTH_MODE=token" if _needs_mode() else ""
                raise InputError(f"no Ray cluster can be joined or started at {address}: {error}{hint}") from None
            self._joined = True
        if not self._has_room:  # for an actor that fits on no node, Ray would wait forever
            self._check_room()
            self._has_room = True
            if not self._ray.util.client.ray.is_connected():  # a Ray client may be unable to reach the head
                address = self._ray.get_runtime_context().gcs_address
                self._head = self._ray._raylet.GcsClient(address=address)
                self._name_of_head = f"the head of the Ray cluster at {address}"
        while not self._head_answers():
            time.sleep(1)
        # max_restarts=0, because the pool replaces dead workers. An actor that Ray itself restarted would have no
        # evaluator.
        actor = self._ray.remote(_Actor).options(**self._resources, max_restarts=0)
        return _RayWorker(self._ray, actor.remote(), self._workplace)

    def _check_room(self) -> None:
        there = self._ray.cluster_resources()
        for name, wanted in (("CPU", self._resources["num_cpus"]), ("GPU", self._resources["num_gpus"])):
            if wanted > there.get(name, 0):
                raise InputError(
                    f"an evaluation needs {wanted:g} {name}, but the Ray cluster has only {there.get(name, 0):g}: "
                    f"lower trial_{name.lower()}s (--set trial_{name.lower()}s=...)"
                )

    def held_up(self) -> str:
        """Return why the queued requests do not start. See `Engine.held_up`."""
        if not (reason := super().held_up()):
            return ""
        if not self._head_answers():
            return f"{reason}: {self._name_of_head} does not answer"
        there, free = self._ray.cluster_resources(), self._ray.available_resources()
        rooms = [f"{free.get(name, 0):g} of {there.get(name, 0):g} {name}" for name in ("CPU", "GPU") if name in there]
        wanted = f"{self._resources['num_cpus']:g} CPU and {self._resources['num_gpus']:g} GPU"
        return f"{reason}: each needs {wanted}; the Ray cluster has {', '.join(rooms)} free"

    def _with_news(self, workers: Sequence[Worker], timeout_s: float | None) -> Sequence[Worker]:
        by_answer = {worker.answer: worker for worker in workers if isinstance(worker, _RayWorker) and worker.answer}
        if not by_answer:
            return []
        # Ray waits forever for workers of a cluster whose head is lost. So the wait is cut into pieces.
        pause = _ASK_HEAD_S if timeout_s is None else min(timeout_s, _ASK_HEAD_S)
        done, _ = self._ray.wait(list(by_answer), num_returns=1, timeout=pause)
        if not done:
            self._head_answers()
        return [by_answer[answer] for answer in done]

    def _head_answers(self) -> bool:
        """Whether the head of the cluster answers. Ray's own calls would wait for it and then end this process.

        Raises:
            InputError: If it has not answered for `HEAD_S` seconds.
        """
        try:
            if self._head is not None:
                # A connection alone proves nothing: the kernel accepts it even for a process that is stopped.
                self._head.check_alive([], timeout=_ASK_HEAD_S)
        except (self._ray.exceptions.RayError, OSError) as error:
            now = time.monotonic()
            if self._silent_since is None:
                self._silent_since = now
                self.tell(f"{self._name_of_head} does not answer; waiting up to {HEAD_S:g} s for it")
            if now - self._silent_since < HEAD_S:
                return False
            raise InputError(
                f"{self._name_of_head} is lost: it has not answered for {HEAD_S:g} s ({error}). Finished evaluations "
                "are saved; start Ray again on all nodes, and the same command resumes the search"
            ) from None
        self._silent_since = None
        return True


class _Actor:
    """The worker on the cluster: an actor that evaluates requests."""

    def start(self, workplace: bytes, folder: str) -> Ready:
        if os.path.isdir(folder):  # that of the search, so that relative paths in its settings are valid
            os.chdir(folder)
        place: Workplace = pickle.loads(workplace)
        self._evaluator = place.evaluator()
        return Ready()

    def evaluate(self, request: Request) -> Evaluation:
        return self._evaluator.evaluate(request)


class _RayWorker:
    """The engine's side of an actor: it sends requests to the actor and receives the answers."""

    def __init__(self, ray: Any, actor: Any, workplace: bytes) -> None:
        self._ray, self._actor = ray, actor
        self._ready = False
        self.answer: Any = actor.start.remote(workplace, os.getcwd())

    def give(self, request: Request) -> None:
        self._ready = True
        self.answer = self._actor.evaluate.remote(request)

    def take(self) -> Ready | Evaluation | Lost | Broken:
        answer, self.answer = self.answer, None
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            return Lost(str(error)) if self._ready else Broken(str(error))
        except self._ray.exceptions.RayError:  # the actor died, or the node died on which the answer was stored
            return Lost("its process, or its node, was lost")

    def kill(self) -> None:
        self._ray.kill(self._actor, no_restart=True)


def make_ray_engine(workplace: Workplace, settings: SearchSettings) -> RayEngine:
    """Return the Ray engine that the settings of a search request."""
    device = workplace.device or "cpu"
    gpus = settings.trial_gpus
    if gpus is None:
        gpus = 1.0 if device.startswith("cuda") else 0.0
    # "cuda" without an index, because Ray makes only its own GPU visible to each worker
    place = workplace.on("cuda" if gpus else "cpu")
    return RayEngine(place, settings.workers, cpus=settings.trial_cpus, gpus=gpus, timeout_s=settings.trial_timeout_s)


def _cluster() -> str | None:
    """Return the address of the cluster to join. None if Ray is to choose.

    Ray waits several minutes for a cluster that does not answer. So the cluster that Ray would choose is checked here
    first.

    Raises:
        OSError: If no cluster answers at `RAY_ADDRESS`.
    """
    if named := os.environ.get("RAY_ADDRESS"):
        _call(named)
        return None
    # Ray writes the address of the cluster on this machine to this file
    record = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        if record.is_file():
            _call(record.read_text().strip())
    except OSError:  # the cluster does not run any more, but was killed and did not remove its file
        return "local"
    return None


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM. `ray.init` installs one that calls `sys.exit`, so the search could not be saved."""
    handler = signal.getsignal(signal.SIGTERM)

    def give_back() -> None:
        # None stands for a handler that was not installed from Python, so Python cannot install it again.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)

    try:
        yield
    except SystemExit:  # a signal was received while Ray started
        give_back()
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        give_back()


def _needs_mode() -> bool:
    """Whether Ray would join the cluster at `RAY_ADDRESS` without sending a token."""
    return "RAY_ADDRESS" in os.environ and "RAY_AUTH_MODE" not in os.environ


def _call(address: str) -> None:
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:  # they are missing in "auto" and "local"
        socket.create_connection((place.hostname, place.port), timeout=10).close()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("the ray engine needs the package ray: pip install nasbench[ray]") from None
    return ray
