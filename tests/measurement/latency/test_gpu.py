"""What only a CUDA device can show: events, graphs, compilation, lock, NVML, memory. `scripts/gpu_check` runs it."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import torch
from torch import nn

from nasbench.errors import DeviceError, InputError
from nasbench.measurement.latency import device_lock as locks
from nasbench.measurement.latency import doctor, profiler
from nasbench.measurement.latency.devices import all_devices, usable_device
from nasbench.measurement.latency.profiler import Profile, device_lock, profile
from nasbench.measurement.latency.space_profiler import profile_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # torch's compiler advises TF32 and the like
]


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))


def tiny(layers=2):
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers)], nn.BatchNorm2d(3))


class Busy(nn.Module):
    """Keeps the device busy for a number of its cycles."""

    def __init__(self, cycles):
        super().__init__()
        self.cycles = cycles

    def forward(self, x):
        torch.cuda._sleep(self.cycles)
        return x


def test_events_time_what_the_device_does():
    p = profile({"one": Busy(2_000_000), "two": Busy(4_000_000)}, input_size=(1,), device="cuda", time_s=5)
    assert p["two"].ratio == pytest.approx(2.0, rel=0.05)
    assert 2e6 / 4e6 < p["one"].latency_ms < 2e6 / 0.3e6  # between 4 GHz and 0.3 GHz
    assert p["one"].wall_ms >= 0.9 * p["one"].latency_ms
    assert p["one"].launch_bound == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("mode", ["eager", "cudagraph", "compile"])
def test_modes(mode):
    models = {"bare": tiny(4), "twin": tiny(4), "deep": tiny(24)}
    p = profile(models, input_size=(3, 32, 32), device="cuda", mode=mode, time_s=8)
    assert (p.scenario.cache, p.scenario.mode) == ("flushed", mode)
    assert p["deep"].verdict == "SLOWER"
    assert p["twin"].ratio == pytest.approx(1.0, abs=0.05)
    assert all(row.launch_bound is not None and row.launch_bound > 0.9 for row in p.rows)
    assert all(row.wall_ms >= 0.9 * row.latency_ms for row in p.rows)


@pytest.mark.parametrize("options", [{"amp": "bfloat16"}, {"amp": "float16", "mode": "cudagraph"}])
def test_autocast(options):
    p = profile({"a": tiny()}, input_size=(3, 32, 32), device="cuda", channels_last=True, time_s=2, **options)
    assert p["a"].samples > 8
    assert (p.scenario.amp, p.scenario.channels_last) == (options["amp"], True)


def test_a_graph_spares_the_launches():
    took = {
        mode: profile({"a": tiny(24)}, input_size=(3, 8, 8), device="cuda", mode=mode, time_s=3)["a"]
        for mode in ("eager", "cudagraph")
    }
    assert took["cudagraph"].latency_ms < took["eager"].latency_ms


def test_a_model_that_no_graph_can_hold_is_refused():
    class Looks(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    with pytest.raises(InputError, match="CUDA graph"):
        profile({"a": Looks()}, input_size=(3,), device="cuda", mode="cudagraph", time_s=1)
    assert torch.cuda.get_sync_debug_mode() == 0
    torch.rand(3, device="cuda")  # after a broken capture this raised


def test_small_kernels_are_launch_bound_and_large_ones_are_not():
    small = profile({"a": tiny(24)}, input_size=(3, 8, 8), device="cuda", time_s=3)
    large = profile({"a": tiny(4)}, input_size=(3, 512, 512), batch_size=64, device="cuda", time_s=3)
    assert small["a"].launch_bound > large["a"].launch_bound
    assert large["a"].launch_bound < 1.5


def test_too_large_a_batch_is_reported_and_the_next_tried():
    found = profiler.profile_batches({"a": tiny()}, (2**20, 2), input_size=(3, 512, 512), device="cuda", time_s=1)
    assert isinstance(found[2**20], DeviceError)
    assert isinstance(found[2], Profile)


def test_what_did_not_fit_is_off_the_device_before_the_next_size():
    free, _ = torch.cuda.mem_get_info()
    items = int(0.6 * free) // (4 * 3 * 512 * 512)  # the input fits, the first layer's output does not
    found = profiler.profile_batches({"a": tiny()}, (items, 1), input_size=(3, 512, 512), device="cuda", time_s=1)
    assert isinstance(found[items], DeviceError)
    assert isinstance(found[1], Profile)
    assert torch.cuda.mem_get_info()[0] > 0.9 * free


def test_without_the_drivers_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    p = profile({"a": tiny()}, input_size=(3, 32, 32), device="cuda", time_s=1)
    assert p.scenario.gpu == {}
    assert p["a"].discarded == 0


def test_with_the_drivers_library():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: pip install nasbench[gpu]")
    p = profile({"a": tiny()}, input_size=(3, 32, 32), device="cuda", time_s=1)
    if not p.scenario.gpu:
        pytest.skip("the driver does not let NVML in here")
    for state in (p.scenario.gpu, p.gpu_after):
        assert state["sm_mhz"] is None or state["sm_mhz"] > 0
        assert state["temperature_c"] is None or 0 < state["temperature_c"] < 120
    assert p.scenario.versions["driver"][0].isdigit()


def test_the_lock_is_one_for_all_names_of_the_device():
    free = []
    with device_lock("cuda"):
        thread = threading.Thread(target=lambda: free.append(device_lock("cuda:0").acquire(wait=False)))
        thread.start()
        thread.join()
    assert free == [False]


def test_a_measurement_gets_in_between_training_steps():
    stop, steps = threading.Event(), [0]

    def training():
        with device_lock("cuda", shared=True) as lock:
            while not stop.is_set():
                torch.cuda._sleep(1_000_000)
                steps[0] += 1
                lock.yield_device()

    thread = threading.Thread(target=training)
    thread.start()
    try:
        with device_lock("cuda"):
            before = steps[0]
            time.sleep(0.05)
            assert steps[0] == before
        assert profile({"a": tiny()}, input_size=(3, 8, 8), device="cuda", time_s=1)["a"].samples
    finally:
        stop.set()
        thread.join()


def test_names_of_devices():
    assert usable_device("auto") == usable_device("cuda") == torch.device("cuda", torch.cuda.current_device())
    assert all_devices()[:2] == ["cpu", "cuda:0"]
    with pytest.raises(DeviceError, match="cuda:0"):
        usable_device("cuda:99")


def test_a_device_profile(tmp_path):
    space = {"name": "small", "slots": ["stage3"], "compositions": ["none", "a", "a >> b"], "variants": ["eca", "se"]}
    options = {"input_size": (3, 32, 32), "held_out": 2, "time_s": 2, "device": "cuda"}
    found = profile_device("test_resnet", space, tmp_path / "d.json", **options)
    assert found.scenario.device == "cuda:0"
    assert found.predict({"stage3": "se"}).ratio > 0.9
    assert found.quality() is not None


def test_the_doctor():
    summary = doctor.examine("cuda")
    assert summary["trials"] == 40
    assert summary["aa_same_interval"][1] >= doctor.MIN_SAME
    assert summary["power_5pct_interval"][1] >= doctor.MIN_POWER
    assert doctor.supported("cuda")["cudagraph"] == ""
