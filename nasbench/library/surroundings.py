"""Protect a process from modules and functions of other authors, which can change its global state.

For example, if a module changed torch's default dtype and nothing restored the dtype, all later plans would fail. This
file imports no torch, so that a process that only calls a user's function starts quickly.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["surroundings_kept"]

_State = tuple[Callable[[], Any], Callable[[Any], object]]
"""A part of the process's global state: a function that reads it, and a function that writes a read value back."""


@contextmanager
def surroundings_kept() -> Iterator[None]:
    """Restore the global state of this process on exit, whatever the code inside the `with` block has changed.

    If torch was imported before the block, these parts of its state are restored: random generators, default dtype and
    device, gradient mode, anomaly detection, autocast, deterministic algorithms, precision of matrix products, flags of
    cuDNN, number of threads. If NumPy was imported before: its random generator and its handling of floating-point
    errors.

    Always restored are the working directory, the umask, `os.environ`, `random`, the standard streams, the filters and
    the hook of `warnings`, `sys.path`, the recursion limit, and whether the garbage collector is enabled. In the main
    thread, the signal handlers are restored too.
    """
    before = []
    for read, write in _states():
        # torch has two interfaces to some flags, and refuses to read a flag through the old one if it was set through
        # the new one. Such a flag is not restored.
        with suppress(Exception):
            before.append((read, write, read()))
    try:
        yield
    finally:
        for read, write, value in before:
            # A part that cannot be restored, such as a working directory that was removed, must not end the study.
            with suppress(Exception):
                if _differs(read(), value):
                    write(value)


def _differs(now: Any, before: Any) -> bool:
    try:
        return bool(now != before)
    # The states of random generators contain arrays, for which `!=` gives no single truth value. They are then written
    # back in any case.
    except (RuntimeError, ValueError):
        return True


def _states() -> Sequence[_State]:
    states: list[_State] = [
        (_working_directory, _change_directory),
        (lambda: dict(os.environ), _set_environment),
        (random.getstate, random.setstate),
        (_streams, _set_streams),
        (_umask, os.umask),
        (lambda: (list(warnings.filters), warnings.showwarning), _set_warnings),
        (lambda: list(sys.path), lambda paths: sys.path.__setitem__(slice(None), paths)),
        (sys.getrecursionlimit, sys.setrecursionlimit),
        (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    ]
    if threading.current_thread() is threading.main_thread():  # in other threads, Python refuses to set a handler
        states.append((_signal_handlers, _set_signal_handlers))
    if (numpy := sys.modules.get("numpy")) is not None:
        states += [
            (numpy.random.get_state, numpy.random.set_state),
            (numpy.geterr, lambda modes: numpy.seterr(**modes)),
        ]
    if (torch := sys.modules.get("torch")) is not None:
        states += _torch_states(torch)
    return states


def _torch_states(torch: Any) -> Sequence[_State]:
    cudnn, cuda = torch.backends.cudnn, torch.cuda
    states: list[_State] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        # torch also reports the CPU if no default device was set. None restores this state. An explicit CPU would make
        # every call that creates a tensor slower.
        (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda modes: torch.autograd.set_detect_anomaly(*modes),
        ),
        (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda modes: torch.use_deterministic_algorithms(modes[0], warn_only=modes[1]),
        ),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_rng_state, torch.set_rng_state),
        *(_attribute(cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
        *(_autocast(torch, device) for device in ("cpu", "cuda")),
    ]
    if cuda.is_initialized():
        states.append((cuda.get_rng_state_all, cuda.set_rng_state_all))
    return states


def _attribute(owner: Any, name: str) -> _State:
    return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value))


def _autocast(torch: Any, device: str) -> _State:
    def write(state: tuple[bool, Any]) -> None:
        torch.set_autocast_enabled(device, state[0])
        torch.set_autocast_dtype(device, state[1])

    return (lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))), write


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


def _change_directory(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _streams() -> tuple[Any, ...]:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return (*streams, *(getattr(stream, "closed", False) for stream in streams))


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams[:3]
    _reopen("stdout", 1, streams[4])
    _reopen("stderr", 2, streams[5])


def _reopen(name: str, descriptor: int, was_closed: bool) -> None:
    """Open a standard stream again if it was closed since then.

    This is possible because closing one of Python's own streams leaves its file descriptor open.
    """
    stream: Any = getattr(sys, name)
    if stream is not None and stream is getattr(sys, f"__{name}__") and stream.closed and not was_closed:
        stream = open(descriptor, "w", encoding=stream.encoding, closefd=False)  # noqa: SIM115  # stays open
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _umask() -> int:
    # Linux reports the umask in a file. Elsewhere a process must set another umask to learn its own. 0o077 is set,
    # because a file that another thread creates at that moment is then private.
    with suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_warnings(state: tuple[list[Any], Any]) -> None:
    # `warnings.catch_warnings` is not used. After it, Python would show the same warning again for each plan.
    warnings.filters[:] = state[0]  # type: ignore[index]
    warnings.showwarning = state[1]


def _signal_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_signal_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        # None stands for a handler that was not installed from Python, so Python cannot install it again.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
