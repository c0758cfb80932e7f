"""How one call of a model is timed, on a CPU and on a CUDA device."""

from __future__ import annotations

import copy
import gc
import inspect
import resource
import time
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

_NAP_S = 0.0005
_RECENT = 0.05  # weight of the last call in the share of preempted ones
_MANY = 100_000  # models compiled in one process
_WARM_GRAPH = 3  # calls before a capture, as torch's own documentation has it
_LAUNCHED_MS = 100.0  # by then a model is launched, some ten thousand kernels; a longer call is one of a busy device


class Timer(Protocol):
    """Times one call."""

    def __call__(self, call: Call) -> Sample:
        """Run `call` once."""
        ...


class CpuTimer:
    """Times a call on the host, and notices when another process took the core meanwhile.

    The kernel counts the times it took the core from this process for another's sake; a call during which that happened
    shows the other's work. Once that is the rule, a nap before each call gives it a time slice of its own: with five
    busy processes on two cores, the share of undisturbed calls of 2 ms rose from 2 % to 80 %. Where it is not the rule
    there are no naps: other processes empty the caches meanwhile, which makes a short call noisier.

    A call longer than a time slice is always preempted on such a machine. With one thread, the time such a call had the
    core stands for its milliseconds; the wall time beside it is what it took.
    """

    def __init__(self) -> None:
        self._preempted, self._naps = 0.0, False

    def __call__(self, call: Call) -> Sample:
        """Run `call` once."""
        if self._naps:
            time.sleep(_NAP_S)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        start, core = time.perf_counter_ns(), time.thread_time_ns()
        call()
        core, wall_ms = time.thread_time_ns() - core, (time.perf_counter_ns() - start) / 1e6
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before
        self._preempted += _RECENT * (preempted - self._preempted)
        self._naps = self._naps or self._preempted > 0.5
        if not preempted:
            return Sample(wall_ms, wall_ms)
        return Sample(core / 1e6 if torch.get_num_threads() == 1 else wall_ms, wall_ms, PREEMPTED)


class CudaTimer:
    """Times a call between device events, with the L2 cache overwritten before, outside of the timed span.

    Args:
        device: The CUDA device.
        nvml: The driver's view of it, if there is one.
    """

    def __init__(self, device: torch.device, nvml: Nvml | None) -> None:
        self._device, self._nvml = device, nvml
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
        """Return the time the device works for `call` alone, launched while the device was kept busy.

        Args:
            call: What to run.
            wall_ms: What it takes on the host; the device is kept busy for twice as long, at about 1 to 2 GHz, but
                no longer than any launch takes.
        """
        self._flush.zero_()
        torch.cuda.synchronize(self._device)
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
    """Without gradients and garbage collection, and on a CPU with denormals flushed to zero; undone afterwards.

    Args:
        device: Where models run.
        threads: Of the CPU; as they are if None.
    """
    before = torch.get_num_threads()
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
    """Return a call of a copy of `model`, in evaluation mode on the device of `x`, run once already.

    Args:
        model: Any module; not touched.
        x: (B, ...), the input of every call.
        mode: "eager", "compile" or "cudagraph".
        amp: "none", "bfloat16" or "float16".
        channels_last: Memory format of the weights.
    """
    twin = copy.deepcopy(model).eval().to(x.device)
    if channels_last:
        twin = twin.to(memory_format=torch.channels_last)
    forward: Callable[[Tensor], Any] = _compiled(twin) if mode == "compile" else twin
    dtype = torch.float16 if amp == "float16" else torch.bfloat16
    graphed = mode == "cudagraph"

    def call() -> Any:
        # a graph would keep the addresses of casts that the cache has freed
        with torch.autocast(x.device.type, dtype, enabled=amp != "none", cache_enabled=not graphed):
            return forward(x)

    with _any_number_compiled() if mode == "compile" else nullcontext():
        call()
    return _captured(call) if graphed else call


def _compiled(model: nn.Module) -> Callable[[Tensor], Any]:
    """Compile one of many models of a class, apart from the others where this torch can."""
    known = inspect.signature(torch.compile).parameters
    apart: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
    return torch.compile(model, dynamic=False, **apart)


@contextmanager
def _any_number_compiled() -> Iterator[None]:
    """Let torch compile more than 8 models of a class: of the ninth on it runs the rest eagerly, with a log line."""
    with torch._dynamo.config.patch(recompile_limit=_MANY, accumulated_recompile_limit=_MANY):
        yield


def _captured(call: Call) -> Call:
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # torch's own side stream stays on the first device used
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_GRAPH):
            call()
        try:
            with torch.cuda.graph(graph, stream=side):
                call()
        except RuntimeError as error:
            first = error.__context__ or error  # a capture that broke fails again when it is ended
            if isinstance(first, torch.OutOfMemoryError):
                raise first from None
            raise InputError(
                f"this model cannot be captured in a CUDA graph ({str(first).splitlines()[0]}); use mode='eager'"
            ) from error
    torch.cuda.current_stream().wait_stream(side)

    def replay(alive: Call = call) -> None:  # `alive` keeps the weights that the graph reads
        graph.replay()

    return replay
