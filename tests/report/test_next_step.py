"""The command after a search fits its verdicts, and a shell reads it as it is meant."""

import shlex
from pathlib import Path

import pytest
from support.recorded_run import Recorder

from nasbench.cli import console
from nasbench.report.next_step import next_step

SE = {"stage1": "se"}


def fill(recorder, plan, *scores, **more):
    for seed, score in enumerate(scores):
        recorder.add(plan, score, seed, **more)


def words_of(recorder):
    words, what = next_step(recorder.run, Path("my runs/r"))
    assert what
    return words


def test_a_winner_is_trained_longer(tmp_path):
    recorder = Recorder(tmp_path / "r")
    fill(recorder, None, 0.50, 0.51, 0.49, 0.50, 0.51)
    fill(recorder, SE, 0.90, 0.91, 0.89, 0.90, 0.91)
    assert words_of(recorder) == ["train", "my runs/r", "--trial", "1", "--epochs", "4"]


def test_an_undecided_plan_gets_the_seeds_that_decide_it(tmp_path):
    recorder = Recorder(tmp_path / "r", plans=("se",))
    fill(recorder, None, 0.50, 0.52)
    fill(recorder, SE, 0.52, 0.54)
    (row,) = recorder.run.finalists().query("verdict == 'NOT DECIDED'").to_dict(orient="records")
    seeds = str(int(row["seeds"] + row["more_seeds"]))
    assert words_of(recorder) == ["search", "--out", "my runs/r", "--seeds", seeds]


def test_few_plans_of_a_space_get_enough_further_trainings(tmp_path):
    """A given number of further trainings is the limit: S seeds of the plan and the bare backbone are 2(S - 1) more."""
    recorder = Recorder(tmp_path / "r", refine=2)
    fill(recorder, None, 0.50, 0.52)
    fill(recorder, SE, 0.52, 0.54)
    words = words_of(recorder)
    assert words[:3] == ["search", "--out", "my runs/r"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    (row,) = recorder.run.finalists().query("verdict == 'NOT DECIDED'").to_dict(orient="records")
    assert int(options["--refine"]) == 2 * (row["seeds"] + row["more_seeds"] - 1)


def test_a_difference_that_needs_too_many_seeds_asks_for_the_power(tmp_path):
    recorder = Recorder(tmp_path / "r", plans=("se",))
    fill(recorder, None, 0.50, 0.60, 0.40)
    fill(recorder, SE, 0.501, 0.601, 0.401)
    assert words_of(recorder) == ["power", "my runs/r", "--effect", "0.001"]


def test_only_worse_plans(tmp_path):
    recorder = Recorder(tmp_path / "given", plans=("se",))
    fill(recorder, None, 0.90, 0.91, 0.89, 0.90, 0.91)
    fill(recorder, SE, 0.50, 0.51, 0.49, 0.50, 0.51)
    assert words_of(recorder) == ["suggest", "my runs/r"]


def test_one_seed_gives_no_verdict(tmp_path):
    recorder = Recorder(tmp_path / "r", seeds=1)
    fill(recorder, None, 0.5)
    fill(recorder, SE, 0.6)
    assert words_of(recorder) == ["search", "--out", "my runs/r", "--seeds", "5"]


def test_failed_plans_are_tried_again(tmp_path):
    recorder = Recorder(tmp_path / "r")
    fill(recorder, None, 0.5)
    fill(recorder, SE, 0.6, failed="ValueError: a fault")
    assert words_of(recorder) == ["search", "--out", "my runs/r", "--retry-failed"]


def test_costs_alone_are_printed(tmp_path):
    recorder = Recorder(tmp_path / "r", objectives=("macs",))
    fill(recorder, None, 5)
    fill(recorder, SE, 6)
    assert words_of(recorder) == ["export", "my runs/r", "--format", "csv"]


@pytest.mark.parametrize("words", [["power", "my runs/r"], ["search", "--plan", "stage3=se; stage4=eca >> se"]])
def test_a_shell_reads_a_command_as_it_is_meant(words):
    assert shlex.split(console.command(*words)) == ["nasbench", *words]
