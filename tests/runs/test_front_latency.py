"""A search with a device profile: latency is known before training; then a front, measured where it was predicted."""

from __future__ import annotations

import dataclasses
import errno
import json

import pytest
import torch

import nasbench as nb
from nasbench import cli
from nasbench import report as reports
from nasbench.backbones.insertion import plan_of
from nasbench.errors import BackboneError, InputError, SpaceError
from nasbench.library.plan import Plan
from nasbench.measurement.latency import device_lock as locks
from nasbench.measurement.latency.blocks import Blocks, Sample
from nasbench.measurement.latency.profiler import Profile, profile
from nasbench.measurement.latency.scenario import Scenario
from nasbench.measurement.latency.space_profiler import profile_device
from nasbench.report import latency_tables
from nasbench.report.page import command_of, page_of
from nasbench.runs import front_latency
from nasbench.runs.folder import RunFolder
from nasbench.runs.front_latency import measure_front
from nasbench.runs.models import ModelBuilder
from nasbench.runs.settings import read_settings
from nasbench.study.evaluators import trained
from nasbench.study.evaluators.base import Request
from nasbench.study.problem import make_problem
from nasbench.text import human

SIZE = (3, 32, 32)
SPACE = {
    "name": "small",
    "slots": ["stage2", "stage4"],
    "compositions": ["none", "a", "a >> b"],
    "variants": ["eca", "se"],
}
ADDED_MS = {"eca": 1.0, "se": 2.0}
BARE_MS = 10.0


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))


def additive(models, *, input_size, reference, **options):
    """Measure as on a device where each module adds its own time, whatever stands beside it."""
    blocks = Blocks()
    for _ in range(10):
        times = {
            name: BARE_MS + sum(ADDED_MS[leaf.name] for e in plan_of(model).values() for leaf in e.leaves())
            for name, model in models.items()
        }
        blocks.add({name: Sample(ms, ms) for name, ms in times.items()})
    scenario = Scenario.now(torch.device("cpu"), torch.float32, None, {"input_size": input_size, "batch_size": 1})
    return Profile(scenario, reference, blocks, "resolution")


@pytest.fixture(scope="module")
def device_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("devices") / "far.json"
    profile_device("test_resnet", SPACE, file, input_size=SIZE, held_out=4, measure_group=additive)
    return str(file)


def settings(device_file, **changes):
    given = {
        **{"backbone": "test_resnet", "task": "digits", "size": 32, "space": SPACE, "latency_profile": device_file},
        **{"objectives": ["accuracy", "latency_ms"], "training": {"epochs": 1}, "device": "cpu", **changes},
    }
    return read_settings(given)[0]


@pytest.fixture(scope="module")
def problem(device_file):
    return make_problem(settings(device_file, constraints=("latency_ms<=1.25x",)))


def no_measurement(*_, **__):
    pytest.fail("latency was measured")


def test_latency_is_known_before_anything_is_built(problem, device_file, monkeypatch):
    monkeypatch.setattr(ModelBuilder, "build", no_measurement)
    known = problem.evaluator.known
    assert known(Plan({}))["latency_ms"] == pytest.approx(10.0)
    found = known(Plan.of({"stage2": "se >> eca", "stage4": "se"}))
    assert found["latency_ms"] == pytest.approx(15.0)
    assert found["latency_ratio"] == pytest.approx(1.5)
    assert found["latency_predicted"] is True
    assert found["latency_scenario"].startswith(f"predicted from {device_file}, made 2")
    assert found["macs"] > known(Plan({}))["macs"]


def test_a_bound_on_latency_refuses_before_building(problem, monkeypatch):
    bare = problem.evaluator.known(Plan({}))
    monkeypatch.setattr(ModelBuilder, "build", no_measurement)
    found = problem.evaluator.evaluate(Request.of(Plan.of({"stage2": "se", "stage4": "eca"}), bare=bare))
    assert found.state == "rejected"
    assert found.reason == "latency_ms 13 breaks latency_ms<=1.25x (limit 12.5)"
    assert found.costs["latency_predicted"] is True


def test_a_plan_that_was_not_profiled_is_refused_with_its_reason(problem):
    found = problem.evaluator.evaluate(Request.of(Plan.of({"stage2": "cbam"})))
    assert (found.state, "not in the space that was profiled" in found.reason) == ("rejected", True)


def test_nothing_is_measured_and_the_prediction_is_recorded(problem, monkeypatch):
    monkeypatch.setattr(trained, "profile", no_measurement)
    bare = problem.evaluator.known(Plan({}))
    found = problem.evaluator.evaluate(Request.of(Plan.of({"stage4": "se"}), bare=bare))
    assert found.state == "complete", found.reason
    assert found.values["latency_ms"] == pytest.approx(12.0)
    assert problem.settings.latency_s == 0  # nor after the search


def test_a_measured_latency_can_be_computed_again_from_its_samples(device_file, monkeypatch):
    measured = []

    def measuring(*args, **options):
        measured.append(profile(*args, **options))
        return measured[-1]

    monkeypatch.setattr(trained, "profile", measuring)
    evaluator = make_problem(settings(device_file, latency_profile=None)).evaluator
    request = Request.of(Plan.of({"stage4": "se"}), bare={"latency_ms": 7.0})
    costs = dataclasses.replace(evaluator, latency_s=0.3).evaluate(request).costs
    again = Profile.from_dict(json.loads(json.dumps(measured[0].to_dict())))
    assert costs["latency_ratio"] == again["plan"].ratio
    assert costs["latency_ms"] == pytest.approx(7.0 * again["plan"].ratio)
    assert "latency_predicted" not in costs


def test_the_profile_is_part_of_what_a_run_is(problem, device_file):
    told = problem.identity["latency_profile"]
    assert told["quality"]["within_10pct"] == 1.0
    assert (told["device"], told["batch_size"], len(told["sha256"])) == ("cpu", 1, 64)
    json.dumps(told, allow_nan=False)
    plain = make_problem(settings(device_file, latency_profile=None))
    assert "latency_profile" not in plain.identity
    assert plain.settings.latency_s > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"backbone": "test_convnext"}, BackboneError, "of test_resnet .* not of test_convnext"),
        ({"size": 64}, BackboneError, "64"),
        ({"space": {**SPACE, "variants": ["eca", "cbam"]}}, SpaceError, "cbam was not measured at stage2"),
        ({"latency_profile": "missing.json"}, InputError, "cannot read device profile missing.json"),
    ],
)
def test_a_foreign_profile_is_one_clear_error(device_file, change, error, message):
    with pytest.raises(error, match=message):
        make_problem(settings(device_file, **change))


def test_a_profile_without_gates_does_not_serve_loaded_weights(device_file, tmp_path):
    import timm

    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    with pytest.raises(BackboneError, match="identity-init"):
        make_problem(settings(device_file, checkpoint=str(file)))


def test_a_function_brings_its_own_latency(device_file):
    with pytest.raises(InputError, match="latency_profile"):
        make_problem(settings(device_file), evaluate=lambda plan: {"accuracy": 1.0})


@pytest.fixture(scope="module")
def run(device_file, tmp_path_factory, small_data):
    return nb.search(
        space=SPACE,
        backbone="test_resnet",
        task="digits",
        size=32,
        trials=4,
        seeds=1,
        sampler="random",
        objectives={"accuracy": "maximize", "macs": "maximize", "latency_ms": "minimize"},
        training={"epochs": 1},
        latency_profile=device_file,
        device="cpu",
        out=tmp_path_factory.mktemp("runs") / "far",
    )


def test_a_search_says_that_its_latency_is_predicted(run, device_file):
    trials = run.trials()
    assert trials["latency_ms"].min() == pytest.approx(10.0)
    assert trials["latency_scenario"].str.startswith("predicted from").all()
    assert trials["latency_predicted"].all()
    notes = page_of(run, {}, {}).notes
    [note] = [note for note in notes if "atency" in note]
    assert note.startswith(f"Latency is predicted from {device_file} (cpu, ")
    assert "quality: 100 % of 4 whole plans within ±10 %, Kendall's tau 0." in note
    assert f"--latency-profile {device_file}" in command_of(run)
    assert latency_tables.slots_table(run) is None
    assert latency_tables.front_table(run) is None


def test_the_front_is_measured_where_it_was_predicted(run):
    front = run.front()
    first = measure_front(run, device="cpu", time_s=0.5)
    assert first.rows[0]["plan"] == "{}"
    assert {row["plan_hash"] for row in first.rows} >= set(front["plan_hash"])
    by_hash = dict(zip(front["plan_hash"], front["latency_ms"], strict=True))
    for row in first.rows:
        assert row["predicted_ms"] == pytest.approx(by_hash.get(row["plan_hash"], 10.0))
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["kernels"] > 0
    plans = len(first.rows) - 1
    assert (first.quality.plans if first.quality else plans) == plans
    kept = run.folder.latest_latency("front", dict)
    again = Profile.from_dict(kept["profile"])
    assert [row["latency_ms"] for row in kept["rows"]] == [row.latency_ms for row in again.rows]  # from raw samples
    second = measure_front(run, device="cpu", time_s=0.2, per_slot=False)
    assert (first.file.name, second.file.name) == ("front-0.json", "front-1.json")
    assert run.folder.latest_latency("front", dict)["date"] >= kept["date"]
    assert run.front()["latency_ms"].tolist() == front["latency_ms"].tolist()  # what the search believed stays


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_predictions_are_held_against_what_is_measured(run, speed, monkeypatch):
    def measured(models, **options):
        found = additive(models, **options)
        ms = {name: [speed * value for value in values] for name, values in found.samples.items()}
        return dataclasses.replace(found, blocks=Blocks(ms, ms, found.blocks.flaws))

    monkeypatch.setattr(front_latency, "profile", measured)
    found = front_latency.measure_front(run, per_slot=False)
    plans = len(found.rows) - 1
    for row in found.rows:
        assert row["predicted_ratio"] == pytest.approx(row["ratio"])
        assert row["latency_ms"] == pytest.approx(speed * row["predicted_ms"])
    if plans > 1:
        assert (found.quality.plans, found.quality.within_10pct) == (plans, 1.0)
        assert found.within_10pct_ms == (1.0 if speed == 1 else 0.0)  # another clock: the ratios hold, not the times
    else:
        assert found.quality is None


def test_the_report_shows_latency_beside_macs_slot_by_slot(run):
    found = measure_front(run, device="cpu", time_s=0.3)
    best = next(plan for plan in run.front()["plan"] if plan != "{}")
    assert found.slots is not None
    assert found.slots.plan.text == best
    tables = {table.title: table for table in page_of(run, {}, {}).tables}
    table = tables["Latency and MACs, slot by slot"]
    assert [row.cells[0].text for row in table.rows] == [*json.loads(best), "whole"]
    for row, figures in zip(table.rows, found.slots.frame().to_dict("records"), strict=True):
        assert row.cells[2].text == human(figures["added_macs"])
        assert row.cells[4].text == f"{figures['added_ms']:+.4g}"
        assert row.cells[6].text == figures["verdict"]
    assert "cpu" in table.caption
    table = tables["The front, measured on a device"]
    assert len(table.rows) == len(found.rows)
    assert [row.bare for row in table.rows].count(True) == 1
    assert "predicted ms" in [column.title for column in table.columns]
    html = reports.build(run).read_text(encoding="utf-8")
    for words in ("Latency is predicted from", "Latency and MACs, slot by slot", "measured on a device"):
        assert words in html


def test_a_front_that_cannot_be_measured_gets_no_estimate_of_its_time(run, tmp_path, capsys):
    nb.search(
        "tiny", evaluate=lambda plan: {"macs": 1.0 + len(plan)}, objectives=["macs"], trials=2, out=tmp_path / "f"
    )
    for words in (
        [tmp_path / "f"],
        [run.path, "--device", "cpu", "--mode", "cudagraph"],
        [run.path, "--device", "cuda:99"],
    ):
        assert cli.main(["profile", "--run", *map(str, words), "--front"]) == 4
        told = capsys.readouterr().err
        assert told.count("error:") == 1
        assert "at most" not in told
    assert (
        cli.main(["profile", "--run", str(run.path), "--front", "--time", "0.1", "--no-slots", "--device", "cpu"]) == 0
    )
    assert "measuring the front and the bare backbone: at most 0 s" in capsys.readouterr().err


def test_a_measurement_that_cannot_be_stored_is_shown(run, monkeypatch, capsys):
    def save(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(RunFolder, "save_latency", save)
    words = ["profile", "--run", str(run.path), "--front", "--time", "0.1", "--no-slots", "--device", "cpu", "--json"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["data"]["rows"]
    assert json.loads(out)["data"]["file"] is None
    assert f"only shown here, because {run.path} cannot be written: Read-only file system" in err


def test_options_reach_both_measurements(run):
    found = measure_front(run, device="cpu", time_s=0.1, batch_size=3)
    assert found.profile.scenario.batch_size == found.slots.profile.scenario.batch_size == 3


def test_neither_data_nor_weights_are_needed_on_the_device(run, monkeypatch):
    from nasbench import tasks

    monkeypatch.setattr(tasks, "create_task", lambda *_, **__: pytest.fail("data was read"))
    assert measure_front(nb.load_run(run.path), device="cpu", time_s=0.2, per_slot=False).rows
