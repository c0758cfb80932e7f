"""The latency profiler: its statistics on synthetic machines, real tiny models end to end, and the device's lock."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import random
import subprocess
import sys
import threading
import time
import types
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from nasbench.errors import DeviceError, InputError, UnknownNameError
from nasbench.measurement.latency import blocks as block_runner
from nasbench.measurement.latency import device_lock as locks
from nasbench.measurement.latency import profiler, timing
from nasbench.measurement.latency.blocks import OK, PREEMPTED, SLOW_CLOCK, Blocks, Sample
from nasbench.measurement.latency.devices import usable_device
from nasbench.measurement.latency.intervals import median_interval, verdict
from nasbench.measurement.latency.nvml import Nvml
from nasbench.measurement.latency.profiler import Profile, device_lock, measure_runners, profile
from nasbench.measurement.latency.scenario import Scenario

SCENARIO = Scenario(device="cpu", device_name="synthetic", input_size=(1,), batch_size=1)


@pytest.fixture(autouse=True)
def lock_folder(tmp_path, monkeypatch):
    """Locks of this test's own: no test waits for another process's measurement."""
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


class Machine:
    """A machine whose clock is made up: calls take their time, with noise, outliers and whatever `speed` says."""

    def __init__(self, seed=0, noise=0.03, speed=lambda t: 1.0, flaw=lambda rng: OK):
        self.rng, self.noise, self.speed, self.flaw, self.t = random.Random(seed), noise, speed, flaw, 0.0

    def runner(self, ms):
        def run():
            took = ms * self.speed(self.t) * math.exp(self.rng.gauss(0, self.noise))
            took *= 3 if self.rng.random() < 0.05 else 1
            self.t += took / 1e3
            return Sample(took, took, self.flaw(self.rng))

        return run

    def measure(self, times, *, reference=None, time_s=20.0, resolution=0.01, max_blocks=None, seed=0):
        return measure_runners(
            {name: self.runner(ms) for name, ms in times.items()},
            scenario=SCENARIO,
            reference=reference or next(iter(times)),
            time_s=time_s,
            resolution=resolution,
            confidence=0.99,
            seed=seed,
            max_blocks=max_blocks,
            now=lambda: self.t,
        )


# -- statistics --------------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_a_bootstrap():
    values = np.random.default_rng(0).standard_normal(101)
    resamples = np.random.default_rng(1).choice(values, (40_000, 101))
    low, high = np.quantile(np.median(resamples, axis=1), (0.025, 0.975), method="nearest")
    ordered = np.sort(values)
    rank = {float(value): i for i, value in enumerate(ordered)}
    found = median_interval(values, 0.95)
    assert found[0] == np.median(values)
    assert abs(rank[found[1]] - rank[float(low)]) <= 1
    assert abs(rank[found[2]] - rank[float(high)]) <= 1


def test_the_interval_mirrors_when_the_sign_changes_and_covers_the_median():
    rng = np.random.default_rng(2)
    covered = 0
    for n in [*range(8, 40)] * 10:
        values = rng.laplace(size=n)
        median, low, high = median_interval(values, 0.95)
        mirrored = median_interval(-values, 0.95)
        assert mirrored == (-median, -high, -low)
        covered += low <= 0 <= high
    assert 0.92 <= covered / 320 <= 0.99


def test_the_interval_of_nothing_and_of_gaps():
    assert all(math.isnan(value) for value in median_interval([], 0.99))
    assert median_interval([math.nan, 3.0, math.nan], 0.99) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("low", "high", "pairs", "expected"),
    [
        (-0.005, 0.006, 50, "SAME"),
        (0.001, 0.008, 50, "SAME"),  # apart from 0, but nowhere further than the resolution
        (-0.002, 0.017, 50, "SAME"),  # holds 0 and is narrow enough
        (-0.002, 0.019, 50, "UNDECIDED"),  # holds 0, too wide
        (0.002, 0.019, 50, "SLOWER"),
        (-0.3, -0.001, 50, "FASTER"),
        (-0.3, 0.4, 50, "UNDECIDED"),
        (0.04, 0.06, 7, "UNDECIDED"),  # too few pairs
        (0.04, 0.06, 8, "SLOWER"),
        (math.nan, math.nan, 50, "UNDECIDED"),
    ],
)
def test_the_verdict_by_hand(low, high, pairs, expected):
    assert verdict(((low + high) / 2, low, high), pairs, 0.01) == expected
    flipped = {"FASTER": "SLOWER", "SLOWER": "FASTER"}.get(expected, expected)
    assert verdict((-(low + high) / 2, -high, -low), pairs, 0.01) == flipped


def test_identical_models_are_the_same_and_five_percent_is_found():
    found = [Machine(seed).measure({"bare": 1.0, "twin": 1.0, "slow": 1.05}, seed=seed) for seed in range(40)]
    assert sum(p["twin"].verdict == "SAME" for p in found) >= 38
    assert sum(p["slow"].verdict == "SLOWER" for p in found) == 40
    assert all(p.stopped == "resolution" for p in found)
    errors = [math.log(p["twin"].ratio) for p in found]
    assert np.std(errors) < 0.005


def test_drift_and_bursts_cancel_in_the_ratio():
    def speed(t):  # the machine gets three times slower, and is busy with something else every other half second
        return (1 + t / 2) * (1.7 if int(2 * t) % 2 else 1.0)

    machine = Machine(noise=0.01, speed=speed)
    p = machine.measure({"bare": 2.0, "slow": 2.1}, time_s=4, resolution=1e-4)
    assert p.stopped == "time"
    assert p["slow"].ratio == pytest.approx(1.05, abs=0.003)
    assert p["slow"].ratio_low <= 1.05 <= p["slow"].ratio_high
    first, last = np.array_split(np.array(p.samples["bare"]), 2)
    assert np.median(last) > 1.3 * np.median(first)  # one after the other would have been off by this much


@pytest.mark.parametrize("times", [(1.0, 1.0), (1.0, 1.05), (1.0, 0.9)])
def test_swapping_the_order_does_not_change_a_verdict(times):
    a, b = times
    there = Machine(3).measure({"a": a, "b": b})
    back = Machine(4).measure({"b": b, "a": a}, reference="a", seed=9)
    assert there["b"].verdict == back["b"].verdict
    flipped = {"FASTER": "SLOWER", "SLOWER": "FASTER"}
    for p in (there, back):
        assert p.compare("a", "b") == flipped.get(p.compare("b", "a"), p.compare("b", "a"))
        assert p.ratio("a", "b")[0] == pytest.approx(1 / p.ratio("b", "a")[0])
        assert p["a"].verdict == "SAME" if p.reference == "a" else True


def test_two_plans_are_compared_with_each_other():
    p = Machine(5).measure({"bare": 1.0, "x": 1.2, "y": 1.3})
    assert p.compare("x", "y") == "FASTER"
    assert p.ratio("y", "x")[0] == pytest.approx(1.3 / 1.2, rel=0.01)
    with pytest.raises(UnknownNameError, match="'z'"):
        p.compare("x", "z")


def test_the_absolute_figure_is_the_median_with_quartiles():
    p = Machine(noise=0.0).measure({"bare": 4.0})
    assert (p["bare"].latency_ms, p["bare"].q25_ms, p["bare"].q75_ms) == pytest.approx((4.0, 4.0, 4.0))
    assert p["bare"].wall_ms == pytest.approx(4.0)
    assert (p["bare"].ratio, p["bare"].verdict, p["bare"].launch_bound) == (1.0, "SAME", None)
    assert p["bare"].low_ms <= 4.0 <= p["bare"].high_ms


def test_it_says_why_it_stopped():
    times = {"bare": 1.0, "other": 1.1}
    assert Machine().measure(times).stopped == "resolution"
    assert Machine(noise=0.5).measure(times, time_s=0.2).stopped == "time"
    few = Machine().measure(times, max_blocks=5)
    assert (few.stopped, len(few.blocks), few["other"].verdict) == ("blocks", 5, "UNDECIDED")
    cold = Machine(flaw=lambda rng: SLOW_CLOCK).measure(times, time_s=1e6)
    assert (cold.stopped, len(cold.blocks), cold["other"].samples) == ("no accepted samples", 200, 0)
    assert (cold["other"].verdict, cold["other"].discarded) == ("UNDECIDED", 200)
    assert math.isnan(cold["other"].latency_ms)


def test_an_interval_reached_is_as_narrow_as_asked():
    p = Machine(noise=0.05).measure({"bare": 1.0, "x": 1.1, "y": 1.0}, resolution=0.02)
    for row in p.rows:
        assert math.log(row.ratio_high / row.ratio_low) <= 0.04


def test_flawed_samples_are_left_out_and_counted():
    blocks = Blocks()
    for i in range(12):
        flaw = PREEMPTED if i < 4 else OK
        blocks.add({"a": Sample(9.0 if flaw else 1.0, 1.0, flaw), "b": Sample(1.0, 1.0)})
    p = Profile(SCENARIO, "a", blocks, "time")
    assert (p["a"].samples, p["a"].discarded, p["a"].latency_ms) == (8, 4, 1.0)
    assert (p["b"].samples, p["b"].ratio) == (12, 1.0)


def test_preempted_samples_count_where_hardly_any_other_is_left_but_a_slow_clock_never_does():
    def flaws(*given):
        blocks = Blocks()
        for flaw in given:
            blocks.add({"a": Sample(1.0, 1.0, flaw)})
        return blocks.accepted("a")

    assert flaws(*[OK] * 8, *[PREEMPTED] * 90) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert flaws(*[OK] * 7, *[PREEMPTED] * 2) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert flaws(SLOW_CLOCK, *[PREEMPTED] * 5) == [1, 2, 3, 4, 5]
    assert flaws(SLOW_CLOCK, SLOW_CLOCK) == []


def test_each_block_runs_every_candidate_once_in_an_order_of_its_own():
    ran = []
    runners = {name: (lambda name=name: ran.append(name) or Sample(1.0, 1.0)) for name in "abc"}
    block_runner.run_blocks(runners, seed=0, now=lambda: 0.0, until=1.0, max_blocks=60, settled=lambda blocks: False)
    orders = [tuple(ran[i : i + 3]) for i in range(0, 180, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) == 6


def test_warm_up_lasts_until_no_trend_shows():
    def runner(ms_of_call):
        calls = iter(range(10_000))
        return {"a": lambda: Sample(0.0, ms_of_call(next(calls)))}

    never = {"now": lambda: 0.0, "until": 1.0}
    assert block_runner.warm_up(runner(lambda i: 1.0), **never) == (20, True)
    rounds, steady = block_runner.warm_up(runner(lambda i: 1 + max(0, 60 - i) / 20), **never)
    assert steady
    assert 60 <= rounds <= 85
    assert block_runner.warm_up(runner(lambda i: 1.0), now=lambda: 2.0, until=1.0) == (1, False)


def test_the_trend_of_a_warm_up_is_that_of_kendalls_exact_test():
    """Windows of 20 rounds, from without a drift to one of a tenth of the noise per round."""
    draw, found = np.random.default_rng(0), []
    for drift in np.linspace(0, 0.1, 200):
        window = 10 + drift * np.arange(20) + draw.normal(size=20)
        first, second = np.median(window[:10]), np.median(window[10:])
        steady = abs(first - second) <= 0.01 * second or kendalltau(range(20), window).pvalue > 0.05
        totals, clock = iter(window), iter(range(1, 21))
        runners = {"one": lambda totals=totals: Sample(0.0, float(next(totals)))}
        assert block_runner.warm_up(runners, now=lambda clock=clock: next(clock), until=20) == (20, steady)
        found.append(steady)
    assert 20 < sum(found) < 180


def test_ranks_are_shared_by_what_is_not_told_apart():
    p = Machine(7).measure({"slow": 1.3, "bare": 1.0, "twin": 1.0, "slower": 1.5}, reference="bare")
    assert p.ranks() == {"bare": 1, "twin": 1, "slow": 3, "slower": 4}
    unsure = Machine(8, noise=0.5).measure({"bare": 1.0, "x": 1.05}, max_blocks=10)
    assert set(unsure.ranks().values()) == {1}


def test_every_figure_can_be_computed_again_from_what_is_stored():
    p = Machine(6).measure({"bare": 1.0, "x": 1.1}, max_blocks=50)
    text = json.dumps(p.to_dict(), allow_nan=False)
    again = Profile.from_dict(json.loads(text))
    assert again.rows == p.rows
    assert again == p
    by_hand = np.median(np.log(p.samples["x"]) - np.log(p.samples["bare"]))
    assert p["x"].ratio == pytest.approx(math.exp(by_hand))
    frame = p.frame()
    assert list(frame["name"]) == ["bare", "x"]
    assert frame["ratio"][1] == p["x"].ratio
    with pytest.raises(InputError, match="measure it again"):
        Profile.from_dict({"schema_version": 99})


# -- real models -------------------------------------------------------------------------------------------------------


def tiny(layers=2):
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers)], nn.BatchNorm2d(3))


def test_tiny_models_end_to_end_untouched():
    bare, deep = tiny().train(), tiny(12).train()
    before = {key: value.clone() for key, value in bare.state_dict().items()}
    p = profile({"bare": bare, "deep": deep}, input_size=(3, 8, 8), batch_size=2, time_s=5, max_blocks=40)
    assert [row.name for row in p.rows] == ["bare", "deep"]
    assert p["deep"].verdict == "SLOWER"
    assert p["deep"].ratio > 1.5
    assert bare.training
    assert all(torch.equal(value, before[key]) for key, value in bare.state_dict().items())
    assert p.scenario.batch_size == 2
    assert p.scenario.threads == torch.get_num_threads()
    assert p.scenario.versions["torch"] == torch.__version__
    for word in ("cpu", "batch 2", "3x8x8", "float32", "eager", "1 thread", "cache interleaved"):
        assert word in p.scenario.text
    assert Profile.from_dict(json.loads(json.dumps(p.to_dict()))).scenario == p.scenario


@pytest.mark.parametrize("options", [{"amp": "bfloat16"}, {"channels_last": True}, {"mode": "compile"}])
def test_modes_reach_the_model(options, monkeypatch):
    seen = {}

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            seen.update(dtype=y.dtype, last=x.is_contiguous(memory_format=torch.channels_last), training=self.training)
            seen.update(grad=torch.is_grad_enabled(), weight=self.conv.weight.is_contiguous())
            return y

    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module, **options: compiled.append(options) or module)
    p = profile({"spy": Spy()}, input_size=(4, 6, 6), max_blocks=1, time_s=0.01, **options)
    assert seen["dtype"] == (torch.bfloat16 if "amp" in options else torch.float32)
    assert seen["last"] == ("channels_last" in options)
    assert seen["weight"] == ("channels_last" not in options)
    assert (seen["training"], seen["grad"]) == (False, False)
    assert [each["dynamic"] for each in compiled] == [False] * ("mode" in options)
    assert next(iter(options.values())) in (p.scenario.amp, p.scenario.channels_last, p.scenario.mode)


ISOLATES = "isolate_recompiles" in inspect.signature(torch.compile).parameters


@pytest.mark.parametrize(
    "isolates",
    [pytest.param(True, marks=pytest.mark.skipif(not ISOLATES, reason="this torch cannot isolate recompiles")), False],
)
def test_every_one_of_many_models_of_a_class_is_compiled(isolates, monkeypatch):
    graphs, compile_ = [], torch.compile

    def count(graph, example):
        graphs.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    def new(module, *, dynamic, isolate_recompiles):
        return compile_(module, dynamic=dynamic, isolate_recompiles=isolate_recompiles, backend=count)

    def old(module, *, dynamic):  # as torch had it before 2.14
        return compile_(module, dynamic=dynamic, backend=count)

    monkeypatch.setattr(torch, "compile", new if isolates else old)
    models = {str(n): Chain(n) for n in range(1, 12)}
    with torch._dynamo.config.patch(recompile_limit=8):  # torch's own; importing timm.optim raises it
        profile(models, input_size=(2,), mode="compile", max_blocks=1, time_s=0.01)
    assert graphs == list(range(1, 12))  # the whole of each, and none a second time


class Chain(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_the_process_is_left_as_it_was():
    denormal = torch.tensor(1e-40)

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(float(denormal * 1))
            threads.append(torch.get_num_threads())
            return x

    seen: list[float] = []
    threads: list[int] = []
    before = torch.get_num_threads()
    p = profile({"spy": Spy()}, input_size=(1,), max_blocks=1, time_s=0.01, threads=2)
    assert p.scenario.threads == 2
    assert set(seen) == {0.0}
    assert set(threads) == {2}
    assert torch.get_num_threads() == before
    assert float(denormal * 1) != 0
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": {}}, InputError, "no model"),
        ({"models": {"a": 3}}, InputError, "int"),
        ({"models": {"a": nn.Linear(2, 2, device="meta")}}, InputError, "meta"),
        ({"reference": "b"}, UnknownNameError, "'b'"),
        ({"input_size": (3, 0)}, InputError, "positive"),
        ({"batch_size": 0}, InputError, "positive"),
        ({"time_s": 0}, InputError, "time_s"),
        ({"resolution": 0}, InputError, "resolution"),
        ({"max_blocks": 0}, InputError, "max_blocks"),
        ({"threads": 0}, InputError, "threads"),
        ({"mode": "quick"}, UnknownNameError, "'quick'"),
        ({"mode": "cudagraph"}, DeviceError, "CUDA"),
        ({"amp": "int8"}, UnknownNameError, "'int8'"),
        ({"amp": "float16"}, DeviceError, "bfloat16"),
        ({"channels_last": True}, InputError, "images"),
        ({"device": "cuda:99"}, DeviceError, "cuda:99"),
        ({"device": "toaster"}, UnknownNameError, "toaster"),
        ({"device": "meta"}, UnknownNameError, "meta"),
        ({"input_size": (5,)}, InputError, r"'a' fails on an input of shape \(1, 5\)"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"models": {"a": nn.Linear(2, 2)}, "input_size": (2,), "time_s": 0.01, "max_blocks": 1, **change}
    with pytest.raises(error, match=message):
        profile(given.pop("models"), **given)


def test_auto_is_a_device_that_is_there():
    assert usable_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("when", [1, 4])
def test_too_little_memory_is_a_device_error(when):
    class Hungry(nn.Module):
        calls = 0

        def forward(self, x):
            Hungry.calls += 1
            if Hungry.calls >= when:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return x

    with pytest.raises(DeviceError, match=r"too little memory for 1 models at batch size 7.*smaller batch_size"):
        profile({"a": Hungry()}, input_size=(1,), batch_size=7, time_s=0.5)


def test_each_batch_size_that_fits_is_profiled():
    class Picky(nn.Module):
        def forward(self, x):
            if len(x) == 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x

    found = profiler.profile_batches({"a": Picky()}, (1, 4, 8), input_size=(2,), time_s=0.05, max_blocks=3)
    assert list(found) == [1, 4, 8]
    assert isinstance(found[4], DeviceError)
    assert [found[size].scenario.batch_size for size in (1, 8)] == [1, 8]


@pytest.mark.parametrize(
    "message", ["CUDA error: out of memory", "DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_memory_errors_without_a_class_are_known_by_their_words(message):
    class Hungry(nn.Module):
        def forward(self, x):
            raise RuntimeError(message)

    with pytest.raises(DeviceError, match="too little memory"):
        profile({"a": Hungry()}, input_size=(1,), time_s=0.1)


def test_a_batch_that_did_not_fit_leaves_nothing_on_the_device():
    alive = weakref.WeakSet()

    class Picky(nn.Module):
        def forward(self, x):
            alive.add(self)
            if len(x) == 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x

    found = profiler.profile_batches({"a": Picky()}, (4,), input_size=(2,), time_s=0.05, max_blocks=3)
    assert isinstance(found[4], DeviceError)
    assert not alive  # an error that is kept must not keep the models of its traceback
    assert found[4].__traceback__ is None


def test_a_call_the_kernel_interrupted_is_flagged_and_naps_begin_when_that_is_the_rule(monkeypatch):
    switches, naps = iter([0, 0, *[n for i in range(40) for n in (i, i + 1)]]), []
    usage = lambda who: types.SimpleNamespace(ru_nivcsw=next(switches))  # noqa: E731
    monkeypatch.setattr(timing.resource, "getrusage", usage)
    monkeypatch.setattr(timing.time, "sleep", naps.append)
    core = iter(range(0, 10**9, 1_000_000))
    monkeypatch.setattr(timing.time, "thread_time_ns", lambda: next(core))
    timer = timing.CpuTimer()
    flaws = [timer(lambda: None).flaw for _ in range(41)]
    assert flaws == [OK, *[PREEMPTED] * 40]
    assert 0 < len(naps) < 40  # not at once, and then before each call
    assert timer._sleeps


@pytest.mark.parametrize("threads", [1, 2])
def test_a_preempted_call_of_one_thread_counts_the_time_it_had_the_core(threads, monkeypatch):
    switches, core, wall = iter([0, 1]), iter([0, 2_000_000]), iter([0, 9_000_000])
    monkeypatch.setattr(timing.resource, "getrusage", lambda who: types.SimpleNamespace(ru_nivcsw=next(switches)))
    monkeypatch.setattr(timing.time, "thread_time_ns", lambda: next(core))
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: next(wall))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert timing.CpuTimer()(lambda: None) == Sample(2.0 if threads == 1 else 9.0, 9.0, PREEMPTED)


# -- the driver of a GPU -----------------------------------------------------------------------------------------------


def fake_nvml(monkeypatch, clock=1000, **missing):
    class NVMLError(Exception):
        pass

    def refuse(*_):
        raise NVMLError

    library = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "600.1",
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetDefaultApplicationsClock=lambda handle, kind: 1600,
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 2000,
        nvmlDeviceGetClockInfo=lambda handle, kind: clock,
        nvmlDeviceGetTemperature=lambda handle, kind: 41,
        nvmlDeviceGetPowerUsage=lambda handle: 123_456,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: 8,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 4,
    )
    for name in missing:
        setattr(library, name, refuse)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1234"))
    return Nvml.open(torch.device("cuda:0"))


def test_a_clock_under_three_quarters_of_its_default_is_slow(monkeypatch):
    assert fake_nvml(monkeypatch, clock=1199).slow
    assert not fake_nvml(monkeypatch, clock=1200).slow
    assert fake_nvml(monkeypatch, clock=1499, nvmlDeviceGetDefaultApplicationsClock=True).slow
    assert not fake_nvml(monkeypatch, clock=1, nvmlDeviceGetClockInfo=True).slow
    state = {"sm_mhz": 1000, "default_sm_mhz": 1600, "temperature_c": 41, "power_w": 123, "throttle_reasons": 8}
    assert fake_nvml(monkeypatch).state() == state
    assert fake_nvml(monkeypatch, nvmlDeviceGetPowerUsage=True).state() == {**state, "power_w": None}
    old = fake_nvml(monkeypatch, nvmlDeviceGetCurrentClocksEventReasons=True)  # a driver of before that name
    assert old.state() == {**state, "throttle_reasons": 4}


def test_no_driver_and_no_library_are_no_error(monkeypatch):
    assert fake_nvml(monkeypatch, nvmlInit=True) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Nvml.open(torch.device("cuda:0")) is None


# -- the lock ----------------------------------------------------------------------------------------------------------


def free(*, shared=False, device="cpu"):
    """Whether another thread could take the device now; the locks do not tell threads from processes."""
    answers = []

    def ask():
        lock = device_lock(device, shared=shared)
        answers.append(lock.acquire(wait=False))
        lock.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return answers[0]


def test_many_share_a_device_and_one_has_it_alone(lock_folder):
    with device_lock("cpu", shared=True), device_lock("cpu", shared=True):
        assert free(shared=True)
        assert not free()
    with device_lock("cpu"):
        assert not free()
        assert not free(shared=True)
    assert free()


def test_who_has_a_device_alone_may_take_it_again(lock_folder):
    with device_lock("cpu"):
        for shared in (False, True):
            with device_lock("cpu", shared=shared) as lock:
                lock.yield_device()
                assert not free(shared=True)
        device_lock("cpu").release()  # not held by this one: nothing
        assert not free(shared=True)
        with device_lock("cpu"):
            pass
    assert free()


def test_a_measurement_holds_the_lock(lock_folder):
    class Spy(nn.Module):
        def forward(self, x):
            taken.append(free(shared=True))
            return x

    taken: list[bool] = []
    profile({"spy": Spy()}, input_size=(1,), max_blocks=1, time_s=0.01)
    assert set(taken) == {False}
    assert free()


def test_a_measurement_gets_in_between_the_steps_of_several_trainings(lock_folder):
    stop, steps = threading.Event(), [0, 0]

    def training(number):
        with device_lock("cpu", shared=True) as lock:
            while not stop.is_set():
                steps[number] += 1
                time.sleep(0.001)
                lock.yield_device(steps[number])

    threads = [threading.Thread(target=training, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        while not all(steps):  # on a busy machine a thread can start late
            time.sleep(0.001)
        for _ in range(3):
            with device_lock("cpu"):  # would wait for ever if the two never let go together
                before = list(steps)
                time.sleep(0.02)
                assert steps == before  # nobody trains meanwhile
    finally:
        stop.set()
    for thread in threads:
        thread.join()
    assert min(steps) > 0


@contextmanager
def held_elsewhere(folder, shared=False):
    """Another process that has the device."""
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from nasbench.measurement.latency.device_lock import device_lock\n"
        f"lock = device_lock('cpu', shared={shared}); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()
        child.wait()


def test_the_lock_is_gone_with_its_process(lock_folder):
    with held_elsewhere(lock_folder) as child:
        assert not free(shared=True)
        child.kill()
        child.wait()
        assert free()


@pytest.mark.parametrize("shared", [False, True])
def test_a_measurement_that_waits_says_for_what_and_goes_on(shared, lock_folder, monkeypatch, capfd):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.05)
    narrate = locks.narrate
    with held_elsewhere(lock_folder, shared) as child:
        monkeypatch.setattr(locks, "narrate", lambda text: (narrate(text), child.kill()))
        with device_lock("cpu"):  # goes on once the other process is gone
            assert not free()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert str(lock_folder / "nasbench-") in lines[0]
    assert lines[0].count(f"process {child.pid}") == 1


def test_a_measurement_that_does_not_wait_says_nothing(lock_folder, monkeypatch, capfd):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.01)
    with device_lock("cpu"):
        time.sleep(0.1)
        with device_lock("cpu"):
            pass
    assert capfd.readouterr().err == ""


def test_a_profile_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Machine().measure({"a": 1.0}, max_blocks=1).reference = "b"  # type: ignore[misc]
