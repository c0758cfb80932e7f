"""The instrument's own test: rates, intervals and budget, with synthetic and real measurements."""

from __future__ import annotations

import json
import math
import random

import pytest

from nasbench.errors import DeviceError, InputError
from nasbench.measurement.costs import macs
from nasbench.measurement.latency import device_lock as locks
from nasbench.measurement.latency import doctor
from nasbench.measurement.latency.blocks import Blocks, Sample
from nasbench.measurement.latency.profiler import Profile
from nasbench.measurement.latency.scenario import Scenario

SCENARIO = Scenario("cpu", "synthetic", (8, 16, 16), 1, versions={"torch": "9"})


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    """No test waits for another process's measurement."""
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))


def trial(same=1.0, slowed=1.05, noise=0.0, blocks=20, seed=0):
    """A profile of a twin and a slowed model that take these multiples of the reference's time."""
    rng, found = random.Random(seed), Blocks()
    for _ in range(blocks):
        times = {"reference": 1.0, "same": same, "slowed": slowed}
        samples = {name: ms * math.exp(rng.gauss(0, noise)) for name, ms in times.items()}
        found.add({name: Sample(ms, ms) for name, ms in samples.items()})
    return Profile(SCENARIO, "reference", found, "resolution", resolution=doctor.RESOLUTION, wall_s=0.1)


def test_rates_and_wilson_intervals_by_hand():
    found = [trial() for _ in range(38)] + [trial(same=1.2), trial(slowed=1.0)]
    summary = doctor.summarise(found)
    assert (summary["trials"], summary["aa_same_rate"], summary["power_5pct"]) == (40, 39 / 40, 39 / 40)
    p, n, z = 39 / 40, 40, 1.959964
    spread = 1 + z * z / n
    centre, half = (p + z * z / 2 / n) / spread, z / spread * math.sqrt(p * (1 - p) / n + z * z / 4 / n**2)
    assert summary["aa_same_interval"] == pytest.approx([centre - half, centre + half], abs=1e-6)
    assert summary["power_5pct_interval"] == summary["aa_same_interval"]
    assert summary["slowed_ratio"] == pytest.approx(1.05)
    assert summary["settled_share"] == 1.0
    assert summary["discarded_share"] == 0.0
    assert summary["aa_sd"] == pytest.approx(math.log(1.2) / math.sqrt(40))  # one of 40 off by this much
    assert (summary["device"], summary["versions"]) == ("cpu", {"torch": "9"})
    assert "batch 1" in summary["scenario_text"]
    json.dumps(summary, allow_nan=False)


def test_a_wrong_instrument_is_seen():
    biased = [trial(same=1.03, noise=0.01, seed=seed) for seed in range(40)]
    assert doctor.summarise(biased)["aa_same_rate"] < 0.1
    blind = [trial(noise=0.5, seed=seed) for seed in range(40)]
    assert doctor.summarise(blind)["power_5pct"] < 0.2
    assert doctor.summarise(blind)["aa_same_rate"] < 0.2  # undecided is not SAME


def test_the_slowed_model_has_five_percent_more_of_the_same_work():
    import torch

    x = torch.zeros(1, 8, 16, 16)
    counts = [macs.count(doctor.chain(layers), x).macs for layers in (20, 21)]
    assert counts[1] / counts[0] == pytest.approx(1.05)


def test_every_trial_gets_its_share_of_what_is_left():
    shares = []

    def measure(models, *, time_s, **options):
        shares.append(time_s)
        assert list(models) == ["reference", "same", "slowed"]
        assert (options["device"], options["threads"]) == ("cpu", 1)
        return trial()

    summary = doctor.examine("cpu", trials=50, time_s=100.0, measure=measure)
    assert summary["trials"] == 50
    assert len(shares) == 51  # one before the trials, which starts the libraries
    assert shares[1] == pytest.approx(2.0, rel=0.01)
    assert shares[-1] > 50  # these trials took no time: the last one may have what they left


def test_too_few_trials_and_a_missing_device_are_refused():
    with pytest.raises(InputError, match="at least 40"):
        doctor.examine("cpu", trials=39)
    with pytest.raises(DeviceError, match="cuda:99"):
        doctor.examine("cuda:99")


def test_the_real_instrument_end_to_end():
    summary = doctor.examine("cpu", time_s=3.0)
    assert summary["trials"] == 40
    assert 0 <= summary["aa_same_interval"][0] <= summary["aa_same_rate"] <= summary["aa_same_interval"][1] <= 1
    assert summary["scenario"]["input_size"] == [8, 16, 16]
