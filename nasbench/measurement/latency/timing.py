"""Prepare one call of a model and time it, on a CPU or a CUDA device."""

from __future__ import annotations

import copy
import gc
import inspect
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nasbench.errors import InputError
from nasbench.measurement.latency.blocks import OK, PREEMPTED, SLOW_CLOCK, Sample
from nasbench.measurement.latency.nvml import Nvml

__all__ = ["Call", "CpuTimer", "CudaTimer", "Timer", "prepare_call", "quiet_process", "timer_for"]

Call = Callable[[], Any]

_SLEEP_S = 0.0005  # seconds
_RECENT = 0.05  # weight of the newest call in the moving average that estimates the share of preempted calls
_MANY = 100_000  # larger than the number of models that one process compiles
_WARM_GRAPH = 3  # number of calls before a capture, as in torch's documentation
# Enough time to launch about ten thousand kernels. In a longer call, the host spends the rest of the time waiting for
# the device, not launching kernels.
_LAUNCHED_MS = 100.0


class Timer(Protocol):
    """Times one call."""

    def __call__(self, call: Call) -> Sample:
        """Run `call` once and return its time."""
        ...


class CpuTimer:
    """A timer of calls on the host. It flags a call if another process took the core during the call.

    The operating system's kernel counts how often it preempts this process in favour of another process. The time of a
    preempted call includes the work of that other process. If most calls are preempted, the timer sleeps for a moment
    before each call, so that the call starts with a fresh time slice. With five busy processes on two cores, this
    raised the share of undisturbed calls of 2 ms from 2 % to 80 %. If most calls are not preempted, the timer does not
    sleep, because during the sleep other processes would empty the caches and make a short call noisier.

    On such a busy machine, a call that takes longer than a time slice is always preempted. If it uses one thread, the
    time for which it had the core is recorded as its time. The wall time is recorded separately.
    """

    def __init__(self) -> None:
        self._preempted, self._sleeps = 0.0, False

    def __call__(self, call: Call) -> Sample:
        """Run `call` once."""
        if self._sleeps:
            time.sleep(_SLEEP_S)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        start, core = time.perf_counter_ns(), time.thread_time_ns()
        call()
        core, wall_ms = time.thread_time_ns() - core, (time.perf_counter_ns() - start) / 1e6
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before
        self._preempted += _RECENT * (preempted - self._preempted)
        # Sleeping is never switched off again. It lowers the share of preempted calls, so a low share does not show
        # that sleeping is no longer needed.
        self._sleeps = self._sleeps or self._preempted > 0.5
        if not preempted:
            return Sample(wall_ms, wall_ms)
        # `core` counts only the time of this thread, so it is right only for calls that use one thread.
        return Sample(core / 1e6 if torch.get_num_threads() == 1 else wall_ms, wall_ms, PREEMPTED)


class CudaTimer:
    """A timer of calls between two device events. The L2 cache is overwritten before each call, outside the timed span.

    Args:
        device: The CUDA device.
        nvml: The state of the device as the driver reports it. None if it is not available.
    """

    def __init__(self, device: torch.device, nvml: Nvml | None) -> None:
        self._device, self._nvml = device, nvml
        # Twice the size of the cache, so that overwriting it removes everything of the previous call.
        bytes_ = max(2 * torch.cuda.get_device_properties(device).L2_cache_size, 2**20)
        self._flush = torch.empty(bytes_, dtype=torch.int8, device=device)
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, call: Call) -> Sample:
        """Run `call` once."""
        self._flush.zero_()
        torch.cuda.synchronize(self._device)
        ms, wall_ms = self._timed(call)
        slow = self._nvml is not None and self._nvml.slow
        return Sample(ms, wall_ms, SLOW_CLOCK if slow else OK)

    def busy_ms(self, call: Call, wall_ms: float) -> float:
        """Return how long the device works on `call`, in milliseconds, without the time in which it waits for the host.

        The device first sleeps while the host launches all kernels of the call. Then the kernels run without gaps.

        Args:
            call: The call to run.
            wall_ms: Wall time of the call on the host. The device sleeps for at least about twice this time, at clocks
                of 1 to 2 GHz. A wall time above 100 ms counts as 100 ms, because launching the kernels takes no longer.
        """
        self._flush.zero_()
        torch.cuda.synchronize(self._device)
        # The number of cycles: twice the wall time, at 2e6 cycles per millisecond.
        torch.cuda._sleep(int(2 * min(wall_ms, _LAUNCHED_MS) * 2e6))
        return self._timed(call)[0]

    def _timed(self, call: Call) -> tuple[float, float]:
        begin = time.perf_counter_ns()
        self._start.record()
        call()
        self._end.record()
        torch.cuda.synchronize(self._device)
        return self._start.elapsed_time(self._end), (time.perf_counter_ns() - begin) / 1e6


def timer_for(device: torch.device, nvml: Nvml | None) -> Timer:
    """Return the timer of a device."""
    return CudaTimer(device, nvml) if device.type == "cuda" else CpuTimer()


@contextmanager
def quiet_process(device: torch.device, threads: int | None = None) -> Iterator[None]:
    """Switch off gradients and garbage collection, and on a CPU flush denormals to zero. Restore all at the end.

    Args:
        device: The device where models run.
        threads: Number of CPU threads to use. None means the present number.
    """
    before = torch.get_num_threads()
    # torch has no getter for the handling of denormals, so it is found from a product with a denormal number.
    collects, kept = gc.isenabled(), bool(torch.tensor(1e-40) * 1 != 0)
    gc.disable()
    torch.set_num_threads(threads or before)
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_flush_denormal(not kept)
        torch.set_num_threads(before)
        if collects:
            gc.enable()


def prepare_call(model: nn.Module, x: Tensor, *, mode: str, amp: str, channels_last: bool) -> Call:
    """Return a call that runs a copy of `model` on `x`, in evaluation mode and on the device of `x`.

    The call has already run once when it is returned.

    Args:
        model: Any module. It does not change.
        x: The input of every call, (B, ...).
        mode: "eager", "compile" or "cudagraph".
        amp: Autocast: "none", "bfloat16" or "float16".
        channels_last: Whether to put the weights into the channels-last memory format.
    """
    twin = copy.deepcopy(model).eval().to(x.device)
    if channels_last:
        twin = twin.to(memory_format=torch.channels_last)
    forward: Callable[[Tensor], Any] = _compiled(twin) if mode == "compile" else twin
    dtype = torch.float16 if amp == "float16" else torch.bfloat16
    graphed = mode == "cudagraph"

    def call() -> Any:
        # Autocast caches the converted weights and frees them later. A graph would still use their addresses, so for a
        # graph this cache is off.
        with torch.autocast(x.device.type, dtype, enabled=amp != "none", cache_enabled=not graphed):
            return forward(x)

    # The first call compiles and allocates, so that timed calls need not do so.
    with _any_number_compiled() if mode == "compile" else nullcontext():
        call()
    return _captured(call) if graphed else call


def _compiled(model: nn.Module) -> Callable[[Tensor], Any]:
    """Compile one of many models of a class.

    Its recompilations are isolated from those of the others, if this version of torch supports it.
    """
    known = inspect.signature(torch.compile).parameters
    apart: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
    return torch.compile(model, dynamic=False, **apart)


@contextmanager
def _any_number_compiled() -> Iterator[None]:
    """Let torch compile more than 8 models of a class. By default it runs the ninth and later ones in eager mode."""
    with torch._dynamo.config.patch(recompile_limit=_MANY, accumulated_recompile_limit=_MANY):
        yield


def _captured(call: Call) -> Call:
    # A separate stream is used, because torch's capture stream stays on the first device that was used.
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_GRAPH):
            call()
        try:
            # A capture that breaks leaves torch's generator and memory pool in a bad state. So what would break most
            # captures, waiting for the device, is looked for first.
            with _no_waiting():
                call()
            with torch.cuda.graph(graph, stream=side):
                call()
        except RuntimeError as error:
            _renew_generator()
            # When a broken capture ends, another error is raised, which hides the first one.
            first = error.__context__ or error
            if isinstance(first, torch.OutOfMemoryError):
                raise first from None
            raise InputError(
                f"this model cannot be captured in a CUDA graph ({str(first).splitlines()[0]}); use mode='eager'"
            ) from error
    torch.cuda.current_stream().wait_stream(side)

    # `alive` refers to the weights that the graph reads, so that they are not freed.
    def replay(alive: Call = call) -> None:
        graph.replay()

    return replay


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Raise RuntimeError where the host waits for the device, as `Tensor.item` does."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it does not find all such calls
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _renew_generator() -> None:
    """Give the device's default generator a new state with equal numbers. A broken capture spoils the old one."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    fresh = torch.Generator(generator.device)
    fresh.set_state(generator.get_state())
    generator.graphsafe_set_state(fresh)
