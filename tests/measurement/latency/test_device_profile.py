"""Device profiles: what is measured, what is predicted from it, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import pytest
import torch

import nasbench
from nasbench.backbones import slots
from nasbench.backbones.insertion import insert, plan_of
from nasbench.errors import BackboneError, DeviceError, InputError, PlanError, RunError, SpaceError
from nasbench.files import FileLock
from nasbench.measurement.latency import device_lock as locks
from nasbench.measurement.latency import device_profile, kernels, space_profiler
from nasbench.measurement.latency import scenario as scenarios
from nasbench.measurement.latency.blocks import Blocks, Sample
from nasbench.measurement.latency.device_profile import load_device_profile
from nasbench.measurement.latency.profiler import Profile
from nasbench.measurement.latency.scenario import Scenario
from nasbench.measurement.latency.space_profiler import estimate_s, profile_device
from nasbench.spaces import load_space

SIZE = (3, 32, 32)
SPACE = {
    "name": "small",
    "slots": ["stage2", "stage3"],
    "compositions": ["none", "a", "a >> b", "gate(a, b)"],
    "variants": ["eca", "se"],
}
COST_MS = {"stage2": {"eca": 1.0, "se": 2.0, "gate": 0.5}, "stage3": {"eca": 3.0, "se": 0.25, "gate": 0.125}}
BARE_MS = 10.0


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))


def true_ms(plan) -> float:
    """A device on which costs add up: known by hand."""
    total = BARE_MS
    for slot, expression in plan.items():
        total += sum(COST_MS[slot][leaf.name] for leaf in expression.leaves())
        total += COST_MS[slot]["gate"] * expression.canonical().count("gate(")
    return total


class Device:
    """Measures as `profile` would on that device, and remembers what it was asked."""

    def __init__(self, ms=true_ms, stop_after=math.inf):
        self.ms, self.groups, self.stop_after = ms, [], stop_after

    def __call__(self, models, *, input_size, reference, **options):
        if len(self.groups) >= self.stop_after:
            raise KeyboardInterrupt
        self.groups.append(list(models))
        blocks = Blocks()
        for _ in range(10):
            times = {name: self.ms(plan_of(model)) for name, model in models.items()}
            blocks.add({name: Sample(ms, ms) for name, ms in times.items()})
        asked = {"input_size": input_size, "batch_size": options.get("batch_size", 1)}
        scenario = Scenario.now(torch.device("cpu"), torch.float32, None, asked)
        return Profile(scenario, reference, blocks, "resolution")


def made(tmp_path, device=None, **options):
    options = {"held_out": 4, "measure_group": device or Device(), "input_size": SIZE, **options}
    return profile_device("test_resnet", SPACE, tmp_path / "device.json", **options)


def test_the_parts_of_a_space_are_measured_once_each_beside_the_bare_backbone(tmp_path):
    device = Device()
    found = made(tmp_path, device)
    parts = [{slot: text} for slot in ("stage2", "stage3") for text in ("eca", "se", "eca >> se", "gate(eca, se)")]
    assert list(found.parts) == [json.dumps(part) for part in parts]
    names = list(itertools.chain(*device.groups))
    assert all(group[0] == "bare" and len(group) <= 9 for group in device.groups)
    assert sorted(set(names) - {"bare"}) == sorted([*found.parts, *found.held_out])
    assert len(names) == len(set(names)) + len(device.groups) - 1
    assert found.bare_ms == BARE_MS
    assert not found.missing


def test_what_variants_add_and_compositions_themselves(tmp_path):
    found = made(tmp_path)
    assert found.added("stage2", "se") == pytest.approx(0.2)
    assert found.overhead("stage2", "gate(a, b)") == pytest.approx(0.05)
    assert found.overhead("stage2", "a >> b") == pytest.approx(0.0)
    assert found.overhead("stage2", "a") == 0.0
    frame = found.frame().set_index(["slot", "name"])
    assert frame.loc[("stage3", "eca"), "added_ms"] == pytest.approx(3.0)
    assert frame.loc[("stage3", "gate(a, b)"), "added_ms"] == pytest.approx(0.125)
    assert set(frame["kind"]) == {"variant", "composition"}


def test_every_plan_of_an_additive_device_is_predicted(tmp_path):
    found = made(tmp_path)
    resolved = load_space(SPACE).resolve(slots("test_resnet", input_size=SIZE))
    for plan in resolved:
        assert found.predict(plan).latency_ms == pytest.approx(true_ms(plan)), plan.text
    assert found.predict(None).ratio == 1.0
    quality = found.quality()
    assert quality is not None
    assert (quality.plans, quality.within_10pct, quality.kendall_tau) == (4, 1.0, pytest.approx(1.0))
    for tau in (quality.macs_tau, quality.kernels_tau):
        assert tau is None or -1 <= tau <= 1


def test_a_bad_prediction_shows_in_the_held_out_plans(tmp_path):
    found = made(tmp_path)
    wrong = {text: tuple(1.3 * value for value in found.measured[text]) for text in found.held_out}
    shifted = dataclasses.replace(found, measured={**found.measured, **wrong})
    assert shifted.quality().within_10pct == 0.0
    assert shifted.quality().kendall_tau == pytest.approx(1.0)
    reversed_ = {text: (3 - found.measured[text][0],) * 3 for text in found.held_out}
    assert dataclasses.replace(found, measured={**found.measured, **reversed_}).quality().kendall_tau < -0.99


def test_predictions_and_baselines_are_judged_by_hand():
    found = device_profile.judged([1.0, 2.19, 3.4, 4.0], [1.0, 2.0, 3.0, 5.0], [4, 3, 2, 1], [1, 1, 2, 2])
    assert (found.plans, found.within_10pct) == (4, 0.5)  # 3.4 / 3.0 and 4.0 / 5.0 are further off
    assert (found.kendall_tau, found.macs_tau) == (1.0, -1.0)
    assert found.kernels_tau == pytest.approx(4 / math.sqrt(6 * 4))  # tau-b: 4 of 6 pairs agree, 2 are tied
    assert found.text == (
        "50 % of 4 whole plans within ±10 %, Kendall's tau 1.00 (MACs alone -1.00, kernel count 0.82)"
    )
    assert "undefined" in device_profile.judged([1, 1], [1, 2], [1, 1], [1, 2]).text


def test_the_description_changes_with_the_figures(tmp_path):
    found = made(tmp_path)
    told = json.loads(json.dumps(found.describe()))
    assert told == json.loads(json.dumps(load_device_profile(tmp_path / "device.json").describe()))
    assert (told["device"], told["batch_size"], told["quality"]["plans"]) == ("cpu", 1, 4)
    other = dataclasses.replace(found, measured={**found.measured, next(iter(found.parts)): (1.5, 1.4, 1.6)})
    assert other.describe()["sha256"] != told["sha256"]


def test_compositions_of_each_slot_are_its_own(tmp_path):
    places = slots("test_resnet", input_size=SIZE)
    space = {**SPACE, "overrides": [{"slots": ["stage3"], "compositions": ["none", "a", "b + a"]}]}
    found = profile_device(
        "test_resnet", space, tmp_path / "o.json", input_size=SIZE, held_out=2, measure_group=Device()
    )
    frame = found.frame()
    composed = frame[frame["kind"] == "composition"]
    assert set(zip(composed["slot"], composed["name"], strict=True)) == {
        ("stage2", "a >> b"),
        ("stage2", "gate(a, b)"),
        ("stage3", "b + a"),
    }
    for plan in load_space(space).resolve(places):
        assert found.predict(plan).latency_ms == pytest.approx(true_ms(plan)), plan.text


def test_an_interrupted_profile_goes_on_where_it_was(tmp_path):
    first = Device(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, first)
    told = []
    second = Device()
    found = made(tmp_path, second, on_group=lambda done, total, left_s: told.append((done, total)))
    measured = [name for group in first.groups + second.groups for name in group if name != "bare"]
    assert len(measured) == len(set(measured)) == 12
    assert told == [(8, 12)]
    assert not found.missing
    again = Device()
    assert made(tmp_path, again) == found
    assert again.groups == []


def test_two_processes_do_not_make_one_file(tmp_path):
    with FileLock(tmp_path / "device.json.lock"), pytest.raises(RunError, match="another process is making"):
        made(tmp_path)


def test_a_profile_can_be_read_where_it_was_not_made(tmp_path):
    found = made(tmp_path)
    read = load_device_profile(tmp_path / "device.json")
    assert read == found
    plan = {"stage2": "gate(se, eca)", "stage3": "se"}
    assert read.predict(plan) == found.predict(plan)
    document = json.loads((tmp_path / "device.json").read_text())
    assert document["quality"]["plans"] == 4
    assert len(document["added"]) == 8
    assert "batch 1" in document["scenario_text"]


def test_the_estimate_counts_groups(tmp_path):
    resolved = load_space(SPACE).resolve(slots("test_resnet", input_size=SIZE))
    assert estimate_s(resolved, held_out=4, time_s=10) == 2 * 12.0  # 8 parts and 4 plans, 8 a group
    assert estimate_s(resolved, held_out=9, time_s=10) == 3 * 12.0


def test_what_was_not_profiled_is_refused(tmp_path, monkeypatch):
    found = made(tmp_path)
    places = slots("test_resnet", input_size=SIZE)
    same = load_space(SPACE).resolve(places)
    found.check("test_resnet", SIZE, same)
    found.check("test_resnet", list(SIZE), load_space({**SPACE, "variants": ["se"]}).resolve(places))
    with pytest.raises(BackboneError, match="not of resnet18"):
        found.check("resnet18", SIZE, same)
    with pytest.raises(BackboneError, match="64"):
        found.check("test_resnet", (3, 64, 64), same)
    found.check("test_resnet", SIZE, same, identity_init=False)
    with pytest.raises(BackboneError, match="without gates, but the search inserts with gates"):
        found.check("test_resnet", SIZE, same, identity_init=True)
    for change, named in (
        ({"variants": ["se", "cbam"]}, "cbam"),
        ({"slots": ["stage1"]}, "stage1"),
        ({"compositions": ["none", "a + b"]}, r"a \+ b"),
    ):
        with pytest.raises(SpaceError, match=named):
            found.check("test_resnet", SIZE, load_space({**SPACE, **change}).resolve(places))
    with pytest.raises(PlanError, match="cbam"):
        found.predict({"stage2": "cbam"})
    with pytest.raises(DeviceError, match="not complete"):
        dataclasses.replace(found, measured={}).check("test_resnet", SIZE, same)
    with pytest.raises(DeviceError, match="not complete"):
        dataclasses.replace(found, measured={}).predict({"stage2": "se"})
    monkeypatch.setattr(device_profile, "__version__", "9.9")
    with pytest.raises(DeviceError, match=r"nasbench 9\.9"):
        found.check("test_resnet", SIZE, same)


def test_a_file_of_another_profile_is_not_resumed(tmp_path, monkeypatch):
    made(tmp_path)
    for change, named in (
        ({"batch_size": 4}, "batch_size: 1 there, 4 now"),
        ({"identity_init": True}, "identity_init"),
    ):
        with pytest.raises(RunError, match=named):
            made(tmp_path, **change)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(scenarios, "_processor", lambda: "another kind")
        with pytest.raises(RunError, match=r"device_name: .* there, another kind now"):
            made(tmp_path)
    with pytest.raises(RunError, match="threads: 1 there, 2 now"):
        made(tmp_path, threads=2)
    with monkeypatch.context() as later:
        later.setattr(torch, "__version__", "99.0")
        with pytest.raises(RunError, match=r"torch: .* there, 99\.0 now"):
            made(tmp_path)
    space = {**SPACE, "variants": ["se"]}
    with pytest.raises(RunError, match="another space"):
        profile_device("test_resnet", space, tmp_path / "device.json", input_size=SIZE, measure_group=Device())


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("[]", "not a device profile"), ('{"schema_version": 1, "slots": []}', "damaged")],
)
def test_a_file_that_is_no_profile(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_device_profile(tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot read"):
        load_device_profile(tmp_path / "missing.json")


def test_a_missing_device_and_a_throttled_one(tmp_path):
    with pytest.raises(DeviceError, match="cuda:99"):
        profile_device("test_resnet", SPACE, tmp_path / "y.json", input_size=SIZE, device="cuda:99")

    def throttled(models, **options):
        return dataclasses.replace(Device()(models, **options), stopped="no accepted samples")

    with pytest.raises(DeviceError, match="no accepted samples"):
        made(tmp_path, throttled)


def test_kernels_are_operators_without_views():
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    assert kernels.count_kernels(model, (3, 2, 2)) == 3  # convolution, relu, addmm; transpose and view are free
    assert model.training
    bare = insert("test_resnet", None, input_size=SIZE)
    more = insert("test_resnet", "se", input_size=SIZE, identity_init=False)
    assert kernels.count_kernels(more, SIZE) > kernels.count_kernels(bare, SIZE)
    assert torch.is_grad_enabled()


def test_end_to_end_on_this_machine(tmp_path):
    space = {**SPACE, "slots": ["stage3"], "compositions": ["none", "a", "a >> b"]}
    options = {"input_size": SIZE, "held_out": 1, "time_s": 0.5}
    found = profile_device("test_resnet", space, tmp_path / "d.json", **options)
    assert len(found.measured) == 4
    assert all(low <= ratio <= high for ratio, low, high in found.measured.values())
    assert found.scenario.device_name
    assert found.predict({"stage3": "se"}).latency_ms == pytest.approx(
        found.bare_ms * found.measured['{"stage3": "se"}'][0]
    )
    assert device_profile.versions_here()["nasbench"] == nasbench.__version__
    assert space_profiler.GROUP == 8


def test_where_the_time_goes_slot_by_slot(monkeypatch):
    from nasbench.measurement.costs import measure
    from nasbench.measurement.latency import per_slot

    monkeypatch.setattr(per_slot, "profile", Device())
    found = per_slot.profile_slots("test_resnet", {"stage2": "eca", "stage3": "gate(se, eca)"}, input_size=SIZE)
    frame = found.frame().set_index("slot")
    assert list(frame.index) == ["stage2", "stage3", "whole"]
    assert frame["added_ms"].tolist() == pytest.approx([1.0, 3.375, 4.375])
    assert frame["added_share"].tolist() == pytest.approx([0.1, 0.3375, 0.4375])
    alone = insert("test_resnet", {"stage2": "eca"}, input_size=SIZE, identity_init=False)
    bare = insert("test_resnet", None, input_size=SIZE)
    counts = [measure(model, input_size=SIZE).macs for model in (alone, bare)]
    assert frame.loc["stage2", "added_macs"] == counts[0] - counts[1] > 0
    assert frame["added_macs"].iloc[:2].sum() == frame.loc["whole", "added_macs"]
    assert frame.loc["whole", "verdict"] == "SLOWER"
