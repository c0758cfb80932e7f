"""The headline claims no more than the tables: what misled readers of earlier reports, and each thing it must tell."""

import json

import numpy as np
import pytest
from scipy.stats import t as student
from support import ROOT
from support.recorded_run import TASK, Recorder

from nasbench.library.plan import BARE, Plan
from nasbench.report.headline import busy_load, headline
from nasbench.report.page import page_of
from nasbench.runs.trainings import trainings_of

SE, ECA, CBAM, SK = ({"stage1": name} for name in ("se", "eca", "cbam", "sk"))
HASH = {name: Plan.of({"stage1": name}).hash for name in ("se", "eca", "cbam", "sk")}


def said(run, test=None, naive=None):
    recorded = None if run.metric is None else trainings_of(run)
    return headline(run, run.finalists(), recorded, test or {}, naive or {})


def one_with(lines, words):
    """The only line that holds the words."""
    (line,) = [line for line in lines if words in line]
    return line


@pytest.fixture
def recorder(tmp_path):
    """A race in which se is better than the bare backbone by 0.03, and three others are not."""
    recorder = Recorder(tmp_path / "r")
    for seed, score in enumerate((0.900, 0.910, 0.905)):
        recorder.add(None, score, seed, reason="the noise" if seed else "")
    for seed, score in enumerate((0.930, 0.935, 0.940)):
        recorder.add(SE, score, seed, macs=110, reason="the best open plan" if seed else "")
    for plan, score in ((ECA, 0.901), (CBAM, 0.902), (SK, 0.903)):
        recorder.add(plan, score, macs=120)
    return recorder


def test_the_answer_comes_first_with_intervals(recorder):
    lines = said(recorder.run)
    row = recorder.run.finalists().set_index("plan_hash").loc[HASH["se"]]
    assert lines[0].startswith("stage1=se (trial 1) is BETTER than the bare backbone: accuracy 0.9350 [0.9270, 0.9430]")
    assert f"+0.030 [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}], at 1.10 times the macs." in lines[0]
    assert one_with(lines, "evaluated") == "5 plans were evaluated, 1 with several seeds: 1 BETTER."


def test_better_whose_control_is_equal_and_whose_test_is_worse(recorder):
    """Said BETTER and nothing else. A plain block of its cost did as well, and the test split says the opposite."""
    recorder.add_control(SE, {"stage1": "bottleneck(width=4)"}, (0.930, 0.936, 0.938), ratio=1.02)
    test = {HASH["se"]: {"accuracy": 0.915}, BARE.hash: {"accuracy": 0.921}}
    lines = said(recorder.run, test)
    assert lines[1].startswith("But it was not shown to be better than a plain block of equal cost, +0.0003 [")
    assert "perhaps only the added size helps" in lines[1]
    assert lines[2].startswith("The test split does not agree (one seed each): 0.915 against 0.921, -0.006 [")


def test_the_interval_on_the_test_split_is_that_of_one_seed_each(recorder):
    """Without items the noise is that of the seeds, s = 0.005 with 4 degrees of freedom: ± t·s·√2."""
    test = {HASH["se"]: {"accuracy": 0.94}, BARE.hash: {"accuracy": 0.92}}
    half = student.ppf(0.975, 4) * 0.005 * np.sqrt(2)
    line = one_with(said(recorder.run, test), "test split")
    assert round(0.02 - half, 3) == 0  # so it has one more digit, which shows its sign
    assert line.endswith(f"agrees (one seed each): 0.94 against 0.92, +0.020 [{0.02 - half:+.4f}, {0.02 + half:+.3f}].")


def test_a_winner_without_weights_has_no_test(recorder):
    assert "weights of this plan were not stored" in one_with(
        said(recorder.run, {BARE.hash: {"accuracy": 0.9}}), "test result"
    )


@pytest.mark.parametrize(
    ("scores", "ratio", "words"),
    [
        ((0.905, 0.906, 0.907), 1.1, "It is also BETTER than a plain block of equal cost"),
        ((0.980, 0.981, 0.982), 0.9, "But it is WORSE than a plain block of equal cost"),
        ((0.905, 0.906, 0.907), 3.1, "exists (the nearest adds 3.1 times the multiply-adds): +0.0290 ["),
        ((0.905, 0.906, 0.907), 0.7, "exists (the nearest adds 0.7 times the multiply-adds)"),
        ((0.905, 0.906, 0.907), None, "exists (the plan adds no multiply-adds)"),
    ],
)
def test_against_a_plain_block(recorder, scores, ratio, words):
    recorder.add_control(SE, {"stage1": "bottleneck(width=4)"}, scores, ratio=ratio)
    line = said(recorder.run)[1]
    assert words in line
    assert ("no verdict" in line) == (ratio not in (1.1, 0.9))
    finalists = recorder.run.finalists().set_index("plan_hash")
    assert finalists.loc[HASH["se"], "control_difference"] == pytest.approx(0.935 - np.mean(scores))
    assert finalists["control_verdict"].to_dict() == {
        BARE.hash: "",
        HASH["se"]: "" if ratio not in (1.1, 0.9) else "BETTER" if ratio == 1.1 else "WORSE",
    }


def test_without_a_control_the_size_is_in_doubt(recorder):
    assert one_with(said(recorder.run), "No plain block").endswith("the gain can come from the added size alone.")


def latency(ratio, low, high, verdict):
    return {
        "latency_ms": 10 * ratio, "latency_low_ms": 10 * low, "latency_high_ms": 10 * high, "latency_ratio": ratio,
        "latency_ratio_low": low, "latency_ratio_high": high, "latency_verdict": verdict, "latency_scenario": "cpu",
    }  # fmt: skip


def test_a_latency_without_a_verdict_is_not_a_gain(recorder):
    """A report said 22 % faster where the ratio was 1.17 [0.70, 1.40]."""
    recorder.run.journal.record_latency(
        {BARE.hash: latency(1.0, 1.0, 1.0, "SAME"), HASH["se"]: latency(1.17, 0.70, 1.40, "UNDECIDED")}
    )
    lines = said(recorder.run)
    line = one_with(lines, "latency")
    assert line == "Its latency is 1.17 [0.70, 1.40] times the bare backbone's: UNDECIDED."
    assert not any("faster" in each.lower() for each in lines)
    table = page_of(recorder.run, {}, {}).tables[0]
    (verdict,) = [cell for row in table.rows for cell in row.cells if cell.text == "UNDECIDED"]
    style = (ROOT / "reports" / "style.css").read_text()
    assert f".{verdict.verdict}" not in style  # not coloured
    assert ".FASTER" in style


def test_a_busy_machine_is_said(recorder):
    run = recorder.run
    run.journal.record_latency({HASH["se"]: latency(1.3, 1.2, 1.4, "SLOWER")})
    for load, busy in ((2.9, None), (7.5, 7.5)):
        run.folder.save_latency("profile", {"scenario": {"load_average": load, "threads": 2}})
        assert busy_load(run) == busy
        assert ("The machine was busy during the measurement (load 7.5)" in one_with(said(run), "latency")) == bool(
            busy
        )
    run.folder.save_latency("profile", {"scenario": {"load_average": None}})
    assert busy_load(run) is None


def test_failures_are_counted_with_their_commonest_reason(recorder):
    for number, reason in enumerate(["OutOfMemory: 3 GB", "OutOfMemory: 3 GB", "ValueError: odd"]):
        recorder.add({"stage2": "se", "stage3": f"sk(reduction={2**number})"}, 0, failed=reason)
    line = one_with(said(recorder.run), "failed")
    assert line.endswith("3 of 8 plans have a failed evaluation, most often by: OutOfMemory: 3 GB.")


def test_nothing_better_says_the_nearest_and_what_would_decide(tmp_path):
    recorder = Recorder(tmp_path / "r")
    for plan, scores in ((None, (0.90, 0.91, 0.92)), (SE, (0.91, 0.92, 0.93)), (ECA, (0.70, 0.71))):
        for seed, score in enumerate(scores):
            recorder.add(plan, score, seed)
    row = recorder.run.finalists().set_index("plan_hash").loc[HASH["se"]]
    lines = said(recorder.run)
    assert lines[0] == "No plan was shown to be better than the bare backbone."
    assert lines[1].startswith("The nearest plan is stage1=se (trial 1): accuracy +0.010 [")
    assert lines[1].endswith(f"; {row['more_seeds']:.0f} more seeds would decide it.")
    assert "With 3 seeds for each plan, this run can detect differences of " in lines[2]
    assert lines[3] == "3 plans were evaluated, 2 with several seeds: 1 WORSE, 1 NOT DECIDED."


def test_plans_that_are_exactly_equal_are_not_ranked(tmp_path):
    recorder = Recorder(tmp_path / "r")
    for plan, scores in ((None, (0.90, 0.92)), (SE, (0.91, 0.93)), (ECA, (0.91, 0.93))):
        for seed, score in enumerate(scores):
            recorder.add(plan, score, seed)
    line = one_with(said(recorder.run), "The nearest plan")
    assert line.startswith(
        "The nearest plan is stage1=se (trial 1) (and 1 other with exactly the same accuracy): accuracy +0.010"
    )


def test_a_constant_metric_compares_nothing(tmp_path):
    recorder = Recorder(tmp_path / "r")
    for seed in range(3):
        for plan in (None, SE, ECA):
            recorder.add(plan, 0.5, seed)
    lines = said(recorder.run)
    assert lines[0] == "Nothing can be compared, because the metric is the same in every training."
    assert not any("probability" in line for line in lines)


def test_the_detectable_difference_is_for_the_seeds_that_plans_have(tmp_path):
    recorder = Recorder(tmp_path / "r")
    for seed, shift in enumerate((-0.01, 0.0, 0.01, -0.01, 0.01)):
        recorder.add(None, 0.9 + shift, seed)
        recorder.add(SE, 0.9 - shift, seed)
    least = recorder.run.power().detectable[5]
    assert one_with(said(recorder.run), "can detect").startswith(
        f"With 5 seeds for each plan, this run can detect differences of {least:.2g}"
    )


def test_a_report_is_built_if_the_bare_backbone_failed(tmp_path):
    recorder = Recorder(tmp_path / "failed")
    recorder.add(None, 0, failed="ValueError: x")
    with pytest.warns(UserWarning, match="leaves out the hypervolume"):
        page = recorder.run.report()
    assert "no training of the bare backbone succeeded" in page.read_text(encoding="utf-8")


def test_one_evaluation_each(tmp_path):
    recorder = Recorder(tmp_path / "r")
    for plan, score in ((None, 0.9), (SE, 0.95), (ECA, 0.85)):
        recorder.add(plan, score)
    lines = said(recorder.run)
    assert lines[0] == "Each plan has one evaluation. No plan was trained twice, so there is no verdict."
    assert lines[1] == "3 plans were evaluated, 1 of them on the front."
    table = page_of(recorder.run, {}, {}).tables[0]
    assert not {"P(front)", "P(better)"} & {column.title for column in table.columns}


def test_costs_alone_have_no_verdict(tmp_path):
    recorder = Recorder(tmp_path / "r", objectives=("macs", "params"))
    recorder.add(None, 10.0, params=5.0)
    assert said(recorder.run)[0].startswith("Every objective is a cost.")


def test_the_bare_backbone_alone_or_failed(tmp_path):
    recorder = Recorder(tmp_path / "alone")
    recorder.add(None, 0.5)
    assert said(recorder.run)[0] == "Nothing can be compared, because only the bare backbone has a result."
    recorder = Recorder(tmp_path / "failed")
    recorder.add(None, 0, failed="ValueError: x")
    recorder.add(SE, 0.5)
    lines = said(recorder.run)
    assert "no training of the bare backbone succeeded" in lines[0]
    assert lines[1] == "2 plans were evaluated. 1 of 2 plans has a failed evaluation: ValueError: x."


def test_near_chance_and_a_falling_loss(tmp_path):
    recorder = Recorder(tmp_path / "r")
    falling = [{"epoch": n, "train_loss": 2.3 - 0.1 * n} for n in range(5)]
    recorder.add(None, 0.14, history=falling)
    recorder.add(SE, 0.15, history=falling)
    line = said(recorder.run)[-1]
    assert line == (
        "The best accuracy, 0.15 on 10 classes, is near chance; the training loss was still falling at the end: "
        "train longer."
    )


def test_no_better_than_the_naive_forecast(tmp_path):
    task = {**TASK, "kind": "forecasting", "metric": "mse", "model_kwargs": {"horizon": 4}}
    recorder = Recorder(tmp_path / "r", objectives=("mse", "macs"), task=task)
    recorder.run.config["identity"]["data"] = {"horizon": 4}
    for seed in range(3):
        recorder.add(None, 0.40 + 0.01 * seed, seed)
        recorder.add(SE, 0.20 + 0.01 * seed, seed, macs=110)
    test = {HASH["se"]: {"mse": 0.31}, BARE.hash: {"mse": 0.45}}
    naive = {"last value": {"mse": 0.29}, "seasonal naive": {"mse": 0.5}}
    lines = said(recorder.run, test, naive)
    assert "+0.200 [" in lines[0]
    assert "(positive is better)" in lines[0]
    assert "The test split agrees" in one_with(lines, "test split a")
    assert lines[-1] == (
        "The best mse on the test split, 0.31, is no better than the 0.29 of last value, which needs no "
        "model: train longer."
    )
    assert not any("naive" in line for line in said(recorder.run, test, {"last value": {"mse": 0.5}}))


def test_a_long_headline_has_at_most_six_sentences_and_repeats_nothing(recorder):
    recorder.add_control(SE, {"stage1": "bottleneck(width=4)"}, (0.930, 0.936, 0.938))
    recorder.run.journal.record_latency({HASH["se"]: latency(1.3, 1.2, 1.4, "SLOWER")})
    recorder.add({"stage2": "se"}, 0, failed="ValueError: odd")
    test = {HASH["se"]: {"accuracy": 0.15}, BARE.hash: {"accuracy": 0.1}}
    page = page_of(recorder.run, test, {})
    assert 3 <= len(page.answer) <= 6
    assert len({line[:25] for line in page.answer}) == len(page.answer)
    assert json.dumps(page.answer).count("1.30") == 1
