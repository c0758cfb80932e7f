"""The alerts and the data summary at the top of a page."""

import json

import pytest
from support.recorded_run import TASK, Recorder

from nasbench.library.plan import Plan
from nasbench.report.formatting import what_would_decide
from nasbench.report.next_step import next_step
from nasbench.report.page import page_of
from nasbench.report.race_table import race_table
from nasbench.report.scatter import scatter_data

SE, ECA = {"stage1": "se"}, {"stage1": "eca"}


def alerts(recorder, omissions=()):
    return {alert.label: alert for alert in page_of(recorder.run, {}, {}, omissions=omissions).alerts}


@pytest.fixture
def recorder(tmp_path):
    """Three plans with three seeds each, none of them decided."""
    recorder = Recorder(tmp_path / "r")
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        for plan in (None, SE, ECA):
            recorder.add(plan, 0.9 + shift, seed)
    return recorder


def test_nothing_decided_and_one_seed(recorder, tmp_path):
    assert "nothing decided" in alerts(recorder)
    single = Recorder(tmp_path / "single")
    for plan in (None, SE):
        single.add(plan, 0.9)
    found = alerts(single)
    assert "one seed" in found
    assert "nothing decided" not in found


def test_failures_and_nan_come_as_serious(recorder):
    recorder.add({"stage2": "se"}, 0, failed="nan: accuracy is not finite after training")
    recorder.add({"stage3": "se"}, 0, failed="ValueError: odd")
    found = alerts(recorder)
    assert found["failed"].text.startswith("2 of 5 plans failed")
    assert found["NaN"].text.startswith("The result of 1 training was NaN")
    assert found["failed"].serious
    assert found["NaN"].serious
    serious = [alert.serious for alert in found.values()]
    assert serious == sorted(serious, reverse=True)


def test_an_infeasible_bare_backbone_is_said_in_words(recorder, tmp_path):
    """It is said once, in the answer. Before, an alert said it again."""
    assert "infeasible" not in alerts(recorder)
    bounded = Recorder(tmp_path / "bounded", constraints=["macs<=110"])
    for seed in range(3):
        bounded.add(None, 0.9, seed, macs=120, breaks="macs 120 breaks macs<=110 (limit 110)")
        bounded.add(SE, 0.8 + 0.01 * seed, seed)
    assert "infeasible" not in alerts(bounded)
    told = page_of(bounded.run, {}, {}).answer
    wanted = "The bare backbone is infeasible and only the reference: macs 120 breaks macs<=110 (limit 110)."
    assert wanted in told[-1]


def test_a_plan_whose_mean_breaks_a_bound_is_no_answer_anywhere(tmp_path):
    """SE is better by .1 and keeps heat<=110 with its first seed. Its mean of 100, 130 and 130 breaks it.

    Before, the headline called it BETTER, the next command trained it, and the text said "the bare backbone" breaks.
    """
    recorder = Recorder(tmp_path / "r", ("accuracy", "heat"), constraints=["heat<=110"])
    for seed, heat in enumerate((100.0, 130.0, 130.0)):
        recorder.add(None, 0.80 + 0.001 * seed, seed, heat=90.0, reason="the noise" if seed else "")
        recorder.add(SE, 0.90 + 0.001 * seed, seed, heat=heat, reason="the best open plan" if seed else "")
        recorder.add(ECA, 0.781 + 0.02 * seed, seed, heat=100.0)
    run = recorder.run
    table = run.finalists().set_index("plan")
    row = table.loc[Plan.of(SE).text]
    assert row["verdict"] == "NOT DECIDED"
    assert row["breaks"] == "heat 120 breaks heat<=110 (limit 110)"
    assert not row["on_front"]
    assert table.loc[Plan.of(ECA).text, "verdict"] == "NOT DECIDED"
    page = page_of(run, {}, {})
    assert not any("is BETTER" in line for line in page.answer)
    assert "1 infeasible" in page.answer[-1]
    assert "1 plan is infeasible: the mean of its seeds breaks a bound." in page.answer[-1]
    assert "bare backbone is infeasible" not in " ".join(page.answer)
    assert alerts(recorder)["infeasible"].text.startswith(
        "Trial 1 is infeasible on the mean of its seeds: heat 120 brea"
    )
    words, _ = next_step(run, tmp_path / "r")
    assert words[0] != "train"
    raced = race_table(run)
    assert raced[raced["plan"] == Plan.of(SE).text]["state"].tolist() == ["infeasible", "infeasible"]
    told = dict(zip(page.front.texts("plan"), page.front.texts("breaks"), strict=True))
    assert told[Plan.of(SE).text] == row["breaks"]
    front = scatter_data(run, "macs", "accuracy").front
    assert Plan.of(SE).text not in front["plan"].tolist()
    assert what_would_decide(row) == ""  # it gets no further seeds


def test_several_infeasible_plans_are_one_alert(tmp_path):
    recorder = Recorder(tmp_path / "r", ("accuracy", "heat"), constraints=["heat<=110"])
    for seed, heat in enumerate((100.0, 130.0)):
        recorder.add(None, 0.80 + 0.001 * seed, seed, heat=90.0, reason="the noise" if seed else "")
        for plan in (SE, ECA):
            recorder.add(plan, 0.90 + 0.001 * seed, seed, heat=heat, reason="the best open plan" if seed else "")
    assert alerts(recorder)["infeasible"].text.startswith("Trials 1, 2 are infeasible on the means of their seeds.")


@pytest.mark.parametrize(("classes", "items", "labels"), [(1, 50, {"one class", "few items"}), (10, 500, set())])
def test_data_that_decides_nothing(tmp_path, classes, items, labels):
    task = {**TASK, "splits": {"train": 5, "val": items, "test": items}, "model_kwargs": {"num_classes": classes}}
    recorder = Recorder(tmp_path / "r", task=task)
    recorder.add(None, 0.5)
    recorder.add(SE, 0.6)
    assert {"one class", "few items"} & set(alerts(recorder)) == labels


def test_a_latency_that_was_not_steady(recorder):
    for steady, told in ((False, True), (True, False)):
        recorder.run.folder.save_latency("profile", {"scenario": {}, "steady": steady})
        assert ("latency not steady" in alerts(recorder)) == told


def test_what_is_left_out_is_said_first(recorder):
    found = alerts(recorder, ["The report leaves out Grad-CAM: the run is not trusted"])
    assert found["left out"].serious
    assert found["left out"].text.endswith("not trusted")


def test_the_data_is_summarised(recorder):
    told = dict(page_of(recorder.run, {}, {}).data)
    assert told["items"] == ", ".join(f"{count:,} {name}" for name, count in TASK["splits"].items())
    assert told["input"] == "x".join(map(str, TASK["input_size"]))


def test_two_small_splits_are_one_alert(tmp_path):
    recorder = Recorder(tmp_path / "r", task={**TASK, "splits": {"train": 5, "val": 24, "test": 1}})
    recorder.add(None, 0.5)
    few = [alert.text for alert in page_of(recorder.run, {}, {}).alerts if alert.label == "few items"]
    assert few == ["The val split has 24 items and the test split has 1 item, so one item moves the metric much."]


@pytest.mark.parametrize(
    ("kind", "read", "shown"),
    [
        ("series", {"series": "2: load, temp"}, ["series"]),
        ("classes", {"folders": "no split folders; 2 classes: load, temp (40 images each)"}, ["folders"]),
        ("classes", {"files": "120 .png"}, ["classes", "files"]),
    ],
)
def test_classes_and_series_are_in_the_summary_once(recorder, kind, read, shown):
    data = json.loads(recorder.run.folder.data.read_text())
    data |= {"described": {kind: 2}, "preprocessing": {kind: ["load", "temp"]}, "read": read}
    recorder.run.folder.data.write_text(json.dumps(data))
    names = [name for name, _ in page_of(recorder.run, {}, {}).data]
    assert [name for name in names if name in (kind, *read)] == shown
