"""Measure the latency of models side by side, with intervals and verdicts.

The models, one of which is the reference, take turns in randomised blocks. The main result is the median over blocks of
the log-ratio to the reference. If something slows the machine for some time, it slows a model and the reference, so
their ratio hardly changes. The absolute latency is a median in milliseconds. It is valid only for its scenario.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import DeviceError, EvaluationError, InputError, NasbenchError, UnknownNameError, out_of_memory
from nasbench.library.faults import fault_text
from nasbench.measurement.latency.blocks import Runner, run_blocks, warm_up
from nasbench.measurement.latency.device_lock import DeviceLock, device_lock
from nasbench.measurement.latency.devices import usable_device
from nasbench.measurement.latency.intervals import Verdict
from nasbench.measurement.latency.nvml import Nvml
from nasbench.measurement.latency.samples import Latency, Profile, settled
from nasbench.measurement.latency.scenario import Scenario, check_mode, check_threads
from nasbench.measurement.latency.timing import Call, CudaTimer, prepare_call, quiet_process, timer_for

__all__ = [
    "DeviceLock", "Latency", "Profile", "Scenario", "Verdict", "check_device", "device_lock", "profile",
    "profile_batches",
]  # fmt: skip

_WARM_UP_SHARE = 0.25  # largest share of the time that the warm-up may take
_BUSY_CALLS = 5  # number of calls whose median gives the time for which the GPU works
_MANY_NUMBERS = 2**59  # a tensor with more elements exceeds the address space


def profile(
    models: Mapping[str, nn.Module],
    *,
    input_size: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    reference: str | None = None,
    time_s: float = 20.0,
    resolution: float = 0.01,
    confidence: float = 0.99,
    mode: str = "eager",
    amp: str = "none",
    channels_last: bool = False,
    threads: int | None = None,
    seed: int = 0,
    max_blocks: int | None = None,
) -> Profile:
    """Measure the latency of models side by side, in evaluation mode. The models do not change.

    The function holds the device's lock. It waits until no other measurement runs, and until training in other
    processes has released the device.

    Args:
        models: The models by name. Copies of all of them are on the device at the same time.
        input_size: Shape of one input, without the batch dimension.
        batch_size: Number of inputs in the batch.
        device: "cpu", "cuda", "cuda:1", or "auto".
        reference: Name of the model with which the others are compared. None means the first model.
        time_s: Seconds for warm-up and blocks. Copying, compiling and waiting for the device take additional time.
        resolution: The measurement stops as soon as every ratio has an interval with at most this half-width, as a
            fraction: 0.01 is 1 %.
        confidence: Confidence level of the intervals.
        mode: "eager", "compile" (torch.compile) or "cudagraph".
        amp: Autocast: "none", "bfloat16" or "float16".
        channels_last: Whether to use the channels-last memory format, for images.
        threads: Number of CPU threads during the measurement. None means torch's present number.
        seed: Seed of the input and of the orders in the blocks.
        max_blocks: Largest number of blocks. None means no limit.

    Returns:
        The scenario, the raw samples and everything computed from them.

    Raises:
        DeviceError: If this machine does not have the device, or the device has too little memory.
        UnknownNameError: If the reference is not one of the models.
        InputError: If an argument is impossible, or a model fails on the input.

    Example:
        >>> import timm
        >>> bare = timm.create_model("test_resnet")
        >>> measured = profile({"bare": bare, "again": bare}, input_size=(3, 32, 32), time_s=1)
        >>> [row.name for row in measured.rows], measured["bare"].ratio
        (['bare', 'again'], 1.0)
    """
    place = check_device(device, input_size, mode=mode, amp=amp, channels_last=channels_last)
    reference = _check(models, reference, input_size, batch_size)
    _check_figures(time_s=time_s, resolution=resolution, confidence=confidence, max_blocks=max_blocks, threads=threads)
    check_threads(threads)
    nvml = Nvml.open(place) if place.type == "cuda" else None
    dtype = next((p.dtype for m in models.values() for p in m.parameters() if p.is_floating_point()), torch.float32)
    options = {"mode": mode, "amp": amp, "channels_last": channels_last}
    given = {**options, "input_size": tuple(input_size), "batch_size": batch_size}
    with device_lock(place), _too_small(place, batch_size, len(models)), _current(place), quiet_process(place, threads):
        x = _input((batch_size, *input_size), dtype, place, seed, channels_last)
        calls = {name: _prepare(name, model, x, options) for name, model in models.items()}
        timer, scenario = timer_for(place, nvml), Scenario.now(place, dtype, nvml, given)
        measured = measure_runners(
            {name: partial(timer, call) for name, call in calls.items()},
            scenario=scenario,
            reference=reference,
            time_s=time_s,
            resolution=resolution,
            confidence=confidence,
            seed=seed,
            max_blocks=max_blocks,
        )
        if isinstance(timer, CudaTimer):  # this comes after the blocks, so that it does not disturb them
            state = nvml.state() if nvml else {}
            measured = dataclasses.replace(measured, busy_ms=_busy(timer, calls, measured), gpu_after=state)
        return measured


def profile_batches(
    models: Mapping[str, nn.Module], batch_sizes: Sequence[int], **options: Any
) -> dict[int, Profile | DeviceError]:
    """Profile at several batch sizes. If a batch does not fit into memory, its result is an error.

    Args:
        models: The models by name, as for `profile`.
        batch_sizes: Batch sizes in the order in which they are tried.
        options: Further options of `profile`.

    Returns:
        For each batch size, the profile or the error.

    Raises:
        InputError: For the same reasons as `profile`, except for too little memory.
    """
    usable_device(options.get("device", "cpu"))
    by_size: dict[int, Profile | DeviceError] = {}
    for size in batch_sizes:
        try:
            by_size[size] = profile(models, batch_size=size, **options)
        except DeviceError as error:
            # A new error is made, because the frames of the original one hold the models and the input.
            by_size[size] = DeviceError(str(error))
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    return by_size


def measure_runners(
    runners: Mapping[str, Runner],
    *,
    scenario: Scenario,
    reference: str,
    time_s: float,
    resolution: float,
    confidence: float,
    seed: int,
    max_blocks: int | None,
    now: Callable[[], float] = time.perf_counter,
) -> Profile:
    """Warm up, run the blocks and return the profile. `profile` calls this when the models are on the device."""
    begin = now()
    rounds, steady = warm_up(runners, now=now, until=begin + _WARM_UP_SHARE * time_s)
    blocks, stopped = run_blocks(
        runners,
        seed=seed,
        now=now,
        until=begin + time_s,
        max_blocks=max_blocks,
        settled=lambda so_far: settled(so_far, reference, resolution, confidence),
    )
    names = list(runners)  # in the order of the caller, because the blocks have another order
    return Profile(
        scenario=scenario,
        reference=reference,
        blocks=blocks.ordered(names),
        stopped=stopped,
        resolution=resolution,
        confidence=confidence,
        warm_up_rounds=rounds,
        steady=steady,
        wall_s=now() - begin,
    )


def _busy(timer: CudaTimer, calls: Mapping[str, Call], measured: Profile) -> dict[str, float]:
    walls = {row.name: row.wall_ms for row in measured.rows if row.samples}
    busy = {name: [timer.busy_ms(calls[name], wall) for _ in range(_BUSY_CALLS)] for name, wall in walls.items()}
    return {name: sorted(times)[_BUSY_CALLS // 2] for name, times in busy.items()}


def _prepare(name: str, model: nn.Module, x: Tensor, options: Mapping[str, object]) -> Call:
    try:
        with out_of_memory():
            return prepare_call(model, x, **options)  # type: ignore[arg-type]
    except NasbenchError:
        raise
    except (Exception, SystemExit) as error:  # a module can raise anything
        raise InputError(f"model {name!r} fails on an input of shape {tuple(x.shape)}: {fault_text(error)}") from error


def _input(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int, channels_last: bool) -> Tensor:
    if (numbers := math.prod(shape)) > _MANY_NUMBERS:  # torch has no exception class for this
        raise MemoryError(f"an input of {numbers:.0e} numbers")
    x = torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@contextmanager
def _too_small(device: torch.device, batch_size: int, models: int) -> Iterator[None]:
    try:
        with out_of_memory():
            yield
    except EvaluationError as error:
        raise DeviceError(
            f"{device} has too little memory for {models} models at batch size {batch_size} ({error.reason}); "
            "give a smaller batch_size, or fewer models at once"
        ) from error


def _current(device: torch.device) -> torch.cuda.device | nullcontext[None]:
    # Events, streams and graphs are made on the current CUDA device, which may be another one.
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _check(models: Mapping[str, nn.Module], reference: str | None, input_size: Sequence[int], batch_size: int) -> str:
    if not models:
        raise InputError("there is no model to profile; give a mapping of names to modules")
    for name, model in models.items():
        if not isinstance(model, nn.Module):
            raise InputError(f"models[{name!r}] is a {type(model).__name__}; give a torch.nn.Module")
        if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
            raise InputError(f"models[{name!r}] is on the meta device, which computes nothing; build it on the CPU")
    for size in (*input_size, batch_size):
        if not isinstance(size, int) or size < 1:
            raise InputError(f"input_size {input_size!r} and batch_size {batch_size!r} are positive whole numbers")
    reference = next(iter(models)) if reference is None else reference
    if reference not in models:
        raise UnknownNameError("model", reference, models, "the reference is one of those profiled")
    return reference


def _check_figures(*, time_s: float, resolution: float, confidence: float, **counts: int | None) -> None:
    if not 0 < time_s < float("inf"):
        raise InputError(f"time_s is a positive number of seconds, got {time_s!r}")
    if not 0 < resolution < 1 or not 0 < confidence < 1:
        raise InputError(f"resolution and confidence lie between 0 and 1, got {resolution!r} and {confidence!r}")
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name} is at least 1, got {count!r}")


def check_device(
    name: str | torch.device,
    input_size: Sequence[int],
    *,
    mode: str = "eager",
    amp: str = "none",
    channels_last: bool = False,
) -> torch.device:
    """Return the device with this name, after checking that `profile` can measure on it with these options.

    Raises:
        DeviceError: If this machine does not have the device, or if the device does not support an option.
        InputError: If an option is not allowed, or does not fit the input.
    """
    check_mode(mode, amp)
    device = usable_device(name)
    if device.type == "cpu" and mode == "cudagraph":
        raise DeviceError("mode='cudagraph' needs a CUDA device, not cpu; use mode='eager' or 'compile'")
    if device.type == "cpu" and amp == "float16":
        raise DeviceError("amp='float16' needs a CUDA device, not cpu; amp='bfloat16' works on every device")
    if channels_last and len(input_size) != 3:
        raise InputError(f"channels_last is for images, (C, H, W); the input has the size {tuple(input_size)}")
    return device
