"""Commands on runs: what they print of a run, and which command they name next."""

import re

import pytest
from support.recorded_run import Recorder

from nasbench.cli.results import print_front
from nasbench.runs.run import load_run
from nasbench.study.termination import saved_text

SE, ECA = {"stage1": "se"}, {"stage1": "eca"}


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder(tmp_path / "run", objectives=("mse", "macs"), task=None)
    for seed, score in enumerate((0.30, 0.31, 0.32)):
        recorder.add(None, score, seed)
        recorder.add(SE, score - 0.1, seed, macs=200.0)
    recorder.add(ECA, 0.1, macs=300.0)
    return recorder


def test_a_missing_number_is_empty_and_the_sign_of_an_error_is_explained(recorder, capsys):
    print_front(recorder.run, as_json=False)
    printed = capsys.readouterr().out
    assert printed.startswith("front (vs bare: positive is better)\n")
    assert "nan" not in printed
    assert re.search(r"300 +0\.21 +NOT DECIDED", printed), "one seed has no interval"


def test_of_a_score_nothing_is_explained(tmp_path, capsys):
    recorder = Recorder(tmp_path / "run")
    recorder.add(None, 0.9)
    print_front(recorder.run, as_json=False)
    assert capsys.readouterr().out.startswith("front\n")


def test_a_report_names_the_next_command(nasbench, recorder):
    code, _, err = nasbench("report", recorder.run.path)
    assert code == 0, err
    assert err.splitlines()[-1].startswith("report: run/report.html; next: nasbench export run --format csv")


def test_a_run_shows_its_folder_state_and_trials(recorder):
    run = recorder.run
    assert repr(run) == f"<Run '{run.path}': stopped, 3 of 24 plans>"
    run.refresh()
    run.folder.journal.unlink()
    assert re.match(rf"<Run '{run.path}': unreadable: .*missing", repr(load_run(run.path)))


def test_an_interruption_names_the_folder_and_how_to_go_on():
    error = KeyboardInterrupt()
    assert saved_text("interrupted", error) == (
        "interrupted; all finished work is saved, and the same command continues from there"
    )
    error.add_note("my run")
    assert saved_text("interrupted", error) == (
        "interrupted; all finished work is saved in my run, and the same command with --out 'my run' continues from "
        "there"
    )
