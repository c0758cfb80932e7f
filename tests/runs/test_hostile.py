"""Run folders of somebody else: reading changes nothing, follows no link out of the folder, and names what is bad."""

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from support.recorded_run import Recorder

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError, RunError
from nasbench.library.plan import Plan
from nasbench.objectives import COSTS
from nasbench.report.assembly import render
from nasbench.report.page import page_of
from nasbench.runs.columns import check_metric_names
from nasbench.runs.damage import damage_of
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.folder import RunFolder
from nasbench.runs.journal import RunJournal
from nasbench.runs.run import load_run
from nasbench.runs.schema import SEARCH
from nasbench.runs.shared_ledger import pack_items
from nasbench.runs.storage import open_journal
from nasbench.text import clean, csv_text, printable

PLANS = [None, {"stage1": "se"}, {"stage2": "eca"}, {"stage1": "se", "stage3": "eca"}]
OBJECTIVES = {"accuracy": "maximize", "macs": "minimize"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of four plans with two seeds each, with its views and some of the files that a report writes."""
    recorder = Recorder(tmp_path_factory.mktemp("hostile") / "run", task=None)
    for number, plan in enumerate(PLANS):
        recorder.add(plan, 0.8 + 0.01 * number, macs=100.0 + number, items=[0.8, 0.9])
    for number, plan in enumerate(PLANS):
        recorder.add(plan, 0.8 + 0.012 * number, 1, macs=100.0 + number, items=[0.8, 0.9])
    run = recorder.run
    run.refresh()
    for name in ("figures", "tables", "models", "latency", "full", "plugins"):
        (run.path / name).mkdir()
        (run.path / name / "a.csv").write_text("a\n1\n")
    for name in ("test.json", "report.html"):
        (run.path / name).write_text('{"plans": {}, "naive": {}}')
    return run.path


@pytest.fixture
def folder(recorded, tmp_path):
    return Path(shutil.copytree(recorded, tmp_path / "runs" / "run"))


@pytest.fixture
def nasbench(capfd):
    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


def contents(folder):
    """Return every file below a folder with its bytes and the time of its last change."""
    return {
        path: (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def lines_of(folder):
    return (folder / "journal.log").read_bytes().splitlines(keepends=True)


def with_record(folder, number, change):
    """Change the evaluation of a trial of the search in the journal. `change` gets it as a dict."""
    lines = [json.loads(line) for line in lines_of(folder)]
    trials = [line for line in lines if line["op_code"] == 4 and line["study_id"] == 0]
    change(trials[number]["user_attrs"]["evaluation"])
    (folder / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in lines))


# -- reading changes nothing -----------------------------------------------------------------------------------


opened_for_writing: list[str] = []
watched: list[str] = []


def watch(event, arguments):
    if event != "open" or not watched or not str(arguments[0]).startswith(watched[0]):
        return
    if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        opened_for_writing.append(arguments[0])


@pytest.mark.parametrize("torn", [b"", b'{"op_code": 4, "wor'])
def test_reading_changes_nothing(folder, nasbench, torn):
    """Also on a read-only disk: nothing is opened for writing. A torn last line stays, and counts for nothing."""
    for name in (".lock", "journal.log.lock"):
        (folder / name).unlink(missing_ok=True)
    with (folder / "journal.log").open("ab") as file:
        file.write(torn)
    before = contents(folder)
    sys.addaudithook(watch)
    watched.append(str(folder))
    try:
        for command in (["runs", folder.parent], ["export", folder, "--format", "csv"], ["power", folder]):
            assert nasbench(*command)[0] == 0
        run = load_run(folder)
        assert len(run.trials()) == 8
        assert len(run.front()) >= 1
        assert run.summary()["state"] == "stopped"
    finally:
        watched.clear()
    assert contents(folder) == before
    assert opened_for_writing == []
    with pytest.raises(RunError, match="opened for reading"):
        run.journal.study("new")


def test_a_finished_search_is_read_as_any_run(tmp_path):
    run = nb.search("tiny", evaluate=score, out=tmp_path / "r", trials=3, sampler="random", objectives=OBJECTIVES)
    with pytest.raises(RunError, match="opened for reading"):
        run.journal.study("new")
    lines = lines_of(tmp_path / "r")
    for _ in range(3):
        nb.search("tiny", evaluate=score, out=tmp_path / "r", trials=3, sampler="random", objectives=OBJECTIVES)
    assert lines_of(tmp_path / "r") == lines, "opening a study writes no line"


def score(plan):
    return {"accuracy": 0.5 + 0.1 * len(plan), "macs": 1e6 * (1 + len(plan))}


# -- links, pipes, sizes ---------------------------------------------------------------------------------------

PARTS = (
    *("config.yaml", "environment.json", "journal.log", "journal.log.lock", "trials.csv", "trials.jsonl", "front.csv"),
    *("test.json", "report.html", "items", "models", "latency", "figures", "tables", "full", "plugins", ".lock"),
    *("figures/accuracy-macs.svg", "items/0000000000000000-0.npy", "plugins/a.py", "data.json", ".driver"),
)


@pytest.mark.parametrize("part", PARTS)
def test_no_link_leads_out_of_the_folder(folder, tmp_path, nasbench, part):
    """Neither to read a file of this machine nor to overwrite it. The last line of the target would have been cut."""
    place, outside = folder / part, tmp_path / "outside"
    if place.is_dir():
        shutil.move(place, outside)
    elif place.exists():
        shutil.move(place, outside)
        with outside.open("ab") as file:
            file.write(b"torn")
    else:
        outside.write_text("mine")
    place.symlink_to(outside)
    before = contents(tmp_path)
    with pytest.raises(RunError, match=rf"{part} in .* is a link that leads out of the run folder"):
        load_run(folder)
    code, out, _ = nasbench("runs", folder.parent, "--json")
    assert code == 1
    assert json.loads(out)["data"][0]["state"].startswith(f"unreadable: {part}")
    assert nasbench("report", folder)[0] == 4
    with pytest.raises(RunError, match="leads out"):
        nb.search("tiny", evaluate=score, out=folder, trials=3, objectives=OBJECTIVES)
    assert contents(tmp_path) == before


def test_a_link_that_appears_before_a_report_is_refused(folder, tmp_path):
    run = load_run(folder)
    run.evaluations()
    shutil.rmtree(folder / "figures")
    (tmp_path / "outside").mkdir()
    (folder / "figures").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match=r"figures .* is a link"):
        run.report()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_within_the_folder_and_a_users_own_link_are_fine(folder, tmp_path):
    shutil.move(folder / "latency", folder / "full" / "latency")
    (folder / "latency").symlink_to("full/latency")
    (folder / "notes").symlink_to(tmp_path)
    assert len(load_run(folder).trials()) == 8


@pytest.mark.parametrize("part", ["config.yaml", "journal.log", "test.json", "items/x.npy", "figures/x.svg"])
def test_a_pipe_is_refused_and_not_waited_for(folder, part):
    (folder / part).unlink(missing_ok=True)
    os.mkfifo(folder / part)
    with pytest.raises(RunError, match=f"{part} .* is not a regular file"):
        load_run(folder)


@pytest.mark.parametrize(("part", "size"), [("config.yaml", 2**21), ("journal.log", 2**33)])
def test_a_huge_file_is_refused_by_name(folder, part, size):
    os.truncate(folder / part, size)
    with pytest.raises(RunError, match=rf"{part}.*bytes; at most"):
        page_of(load_run(folder), {}, {})


def test_a_huge_file_without_which_a_run_can_be_read_is_named(folder):
    os.truncate(folder / "environment.json", 2**28)
    assert "environment.json has 268,435,456 bytes; at most" in " ".join(page_of(load_run(folder), {}, {}).notes)


def test_items_that_are_no_array_of_numbers(folder):
    file, archive, pickled = next((folder / "items").iterdir()), io.BytesIO(), io.BytesIO()
    np.savez(archive, a=np.ones(2))
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }"
    for data in (archive.getvalue(), pickled.getvalue(), b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header):
        file.write_bytes(data)
        run = load_run(folder)
        assert len(run.finalists()) == len(PLANS)
        assert f"{file} is damaged" in " ".join(damage_of(run))


@pytest.mark.parametrize("name", ["models/trial-x.safetensors", "latency/front-x.json", "latency/front-9.json"])
def test_odd_names_and_contents_beside_ours(folder, name):
    (folder / name).write_text("[]")
    run = load_run(folder)
    assert run.folder.stored_weights == set()
    assert run.folder.latest_latency("front", dict) is None
    told = " ".join(damage_of(run))
    assert "does not contain a mapping" in told if name.endswith("9.json") else told == ""


# -- text and records ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bad \ud800 name", "bad \ufffd name"),
        ("a\x1b[31mred\x1b[0m\x1b]0;title\x07b", "aredb"),
        ("\x9b2Ja\x00b\u202ec", "abc"),
        (" two\r\n lines\t", "two lines"),
        ("plain é 日本", "plain é 日本"),
        ("x" * 5000, "x" * 997 + "..."),
    ],
)
def test_text_is_cleaned_to_one_line(text, line):
    assert clean(text) == line
    assert clean(line) == line
    assert Evaluation("{}", "", 0, 0, "failed", text).reason == line


def test_what_a_terminal_is_sent_keeps_its_lines():
    assert printable("a\n\tb\x1b[2J\ud800") == "a\n\tb\ufffd"


def test_any_text_of_an_exception_is_recorded(tmp_path, nasbench):
    """The run of FAULTS R1: it could never be read again."""

    def raises(plan):
        if plan:
            raise RuntimeError("bad \ud800 \x1b[31m\x00" + "x" * 9000)
        return score(plan)

    run = nb.search("tiny", evaluate=raises, out=tmp_path / "r", trials=4, sampler="random", objectives=OBJECTIVES)
    reasons = set(run.trials().query("state == 'failed'")["reason"])
    assert {reason[:19] for reason in reasons} == {"RuntimeError: bad \ufffd"}
    assert run.journal.skipped == []
    assert nasbench("runs", tmp_path)[0] == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"accuracy": 1, "macs": 10**30},
        {"accuracy": 1, "macs": 1, "a\ud800": 1},
        {"accuracy": 1, "macs": 1, "x" * 200: 1},
    ],
)
def test_what_a_reader_would_refuse_is_a_failed_trial(tmp_path, answer):
    given = lambda plan: answer if plan else score(plan)  # noqa: E731
    run = nb.search("tiny", evaluate=given, out=tmp_path / "r", trials=4, sampler="random", objectives=OBJECTIVES)
    trials = run.trials()
    if answer["macs"] == 1:
        assert (trials["state"] == "failed").sum() == 3
        assert trials["reason"].str.startswith("its result cannot be recorded: ").sum() == 3
    assert run.journal.skipped == []
    assert len(trials) == 4


BAD = {
    "no mapping": lambda e: e.clear() or e.update(x=1),
    "another plan's hash": lambda e: e.update(plan_hash=Plan.of("se").hash),
    "a path as hash": lambda e: e.update(plan_hash="../../X"),
    "another plan": lambda e: e.update(plan=Plan.of("se").text, plan_hash=Plan.of("se").hash),
    "text as metric": lambda e: e["metrics"].update(accuracy="high"),
    "no metric": lambda e: e["metrics"].clear(),
    "infinite": lambda e: e["metrics"].update(accuracy=float("inf")),
    "infinite, another metric": lambda e: e["metrics"].update(loss=float("nan")),
    "a negative cost": lambda e: e["costs"].update(macs=-5),
    "too many digits": lambda e: e["costs"].update(macs=10**300),
    "a list as cost": lambda e: e["costs"].update(macs=[1]),
    "a column's name": lambda e: e["metrics"].update(plan=1.0),
    "a metric beside its interval": lambda e: e["metrics"].update(accuracy_low=1.0),
    "state": lambda e: e.update(state="perfect"),
    "seed": lambda e: e.update(seed=2**70),
    "plan": lambda e: e.update(plan="[]", plan_hash="4f53cda18c2baa0c"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_record_is_left_out_and_named(folder, name):
    with_record(folder, 2, BAD[name])
    run = load_run(folder)
    assert run.trials()["number"].tolist() == [0, 1, 3, 0, 1, 2, 3]
    assert [(one.study, one.number) for one in run.journal.skipped] == [(SEARCH, 2)]
    assert run.journal.skipped[0].reason
    run.check_complete()  # the views show it, and it is accounted for
    notes = " ".join(page_of(run, {}, {}).notes)
    assert "1 record is damaged and is left out: trial 2: " in notes


@pytest.mark.parametrize("trial", [0, 2])
@pytest.mark.parametrize("name", ["no mapping", "a negative cost"])
def test_a_resumed_search_names_a_bad_record_and_evaluates_its_plan_again(tmp_path, trial, name):
    """It went on silently. The new evaluation was thrown away as a repetition, or the plan was never tried again."""
    folder, told = tmp_path / "r", []
    options = {"evaluate": score, "objectives": OBJECTIVES, "plans": ["se", "eca", "cbam"], "out": folder}
    first = nb.search(backbone="test_resnet", size=32, **options).trials()
    log = [json.loads(line) for line in lines_of(folder)]
    ends = [line for line in log if "evaluation" in line.get("user_attr", {})]
    BAD[name](ends[trial]["user_attr"]["evaluation"])
    (folder / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in log))
    run = nb.search(backbone="test_resnet", size=32, **options, on_event=lambda event: told.append(event.message))
    assert any(message.startswith(f"1 record is damaged and is left out: trial {trial}: ") for message in told)
    assert sorted(run.trials()["plan"]) == sorted(first["plan"])
    assert run.trials()["number"].tolist() == [n for n in range(5) if n != trial]
    assert [one.number for one in run.journal.skipped] == [trial]


def test_a_hash_is_checked_in_a_database_too(tmp_path):
    """`plan_hash` was part of a path: `../../X` wrote outside of the run folder."""
    folder = RunFolder(tmp_path / "a" / "b" / "run")
    folder.path.mkdir(parents=True)
    shared = open_journal(tmp_path / "shared.log")  # instead of a server
    journal = RunJournal(folder, OBJECTIVES, {}, writing=True, database=shared)
    record = Evaluation(Plan.of("se").text, "../../X", 0, 0, "complete", metrics={"accuracy": 1.0, "macs": 1.0})
    study = journal.study()
    trial = study.ask()
    trial.set_user_attr("items", pack_items(np.ones(3)))
    trial.set_user_attr("evaluation", record.to_dict())
    study.tell(trial, [1.0, 1.0])
    journal.fetch_items()
    assert [path.name for path in tmp_path.rglob("*X*")] == []
    assert [one.number for one in journal.skipped] == [0]
    with pytest.raises(RunError, match="not the hash of a plan"):
        folder.items_file("../../X", 0)


# -- journals that were cut or reordered -----------------------------------------------------------------------


def test_one_unreadable_run_is_a_row_of_the_list(folder, nasbench):
    shutil.copytree(folder, folder.parent / "good")
    (folder / "journal.log").write_bytes(b"".join(lines_of(folder)[:4]))
    code, out, _ = nasbench("runs", folder.parent)
    assert code == 1
    good, bad = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("good", "run"))
    assert "stopped" in good
    assert "unreadable: 6 trials are missing from" in bad


@pytest.mark.parametrize("keep", [0, 5, None], ids=["empty", "cut", "missing"])
def test_a_report_replaces_nothing_by_less(folder, nasbench, keep):
    journal = folder / "journal.log"
    if keep is None:
        journal.unlink()
    else:
        journal.write_bytes(b"".join(lines_of(folder)[:keep]))
    before = contents(folder)
    code, _, error = nasbench("report", folder)
    assert code == 4
    assert "trials are missing" in error
    assert contents(folder) == before


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("content", ["[]", "{", '{"plans": {"a": 1}}', '{"naive": {"a": {"b": "x"}}}', "1e400"])
def test_test_metrics_that_no_report_wrote(folder, nasbench, content):
    (folder / "test.json").write_text(content)
    code, _, error = nasbench("report", folder)
    assert code == 0
    assert "Left out: the metrics on the test split, because " in error
    assert "test.json" in error
    assert (folder / "test.json").read_text() == content


@pytest.mark.parametrize("kind", ["front", "slots"])
def test_a_latency_measurement_that_nobody_made(folder, kind):
    (folder / "latency" / f"{kind}-1.json").write_text('{"rows": [{"number": 1}]}')
    page = page_of(load_run(folder), {}, {})
    assert "Latency" not in {section.title for section in page.sections}
    assert f"{kind}-1.json is damaged: KeyError" in " ".join(page.notes)


@pytest.mark.parametrize("whole", [True, False])
def test_a_journal_with_repeated_lines_replaces_nothing_by_less(folder, whole):
    right = load_run(folder).trials()
    lines = lines_of(folder)
    (folder / "journal.log").write_bytes(b"".join(lines * 2 if whole else [line for line in lines for _ in range(2)]))
    run = load_run(folder)
    try:
        run.check_complete()
    except RunError:
        return
    assert run.trials()[["plan_hash", "seed"]].equals(right[["plan_hash", "seed"]])
    assert all("it repeats trial" in one.reason for one in run.journal.skipped)


def test_a_trial_that_was_tried_again_is_missing_nowhere(folder):
    """A killed search leaves both attempts in trials.jsonl, and the journal shows the second one."""
    lines = (folder / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "trials.jsonl").write_bytes(b"".join([*lines, lines[0]]))
    load_run(folder).check_complete()


def test_trials_that_are_missing_are_not_hidden_by_damaged_ones_of_another_study(folder):
    """As many records of the finalists are damaged as trials of the search are missing."""
    lines = [json.loads(line) for line in lines_of(folder)]
    search = [line for line in lines if line["op_code"] == 4 and line["study_id"] == 0]
    further = [line for line in lines if line["op_code"] == 4 and line["study_id"] != 0]
    for line in further[:2]:
        line["user_attrs"]["evaluation"]["seed"] = "x"
    gone = [id(line) for line in search[2:4]]
    kept = [line for line in lines if id(line) not in gone]
    (folder / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in kept))
    with pytest.raises(RunError, match="2 trials are missing"):
        load_run(folder).check_complete()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("identity", "data"), 5),
        (("identity", "data"), {"horizon": "x"}),
        (("schema_version",), 99),
        (("task", "splits"), {"val": -1}),
    ],
)
def test_a_config_that_no_search_wrote_is_damaged(folder, place, value):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["task"] = config["task"] or {
        "kind": "classification", "metric": "accuracy", "splits": {"val": 1}, "input_size": [3, 8, 8]
    }  # fmt: skip
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=f"is damaged: {'.'.join(place)}"):
        load_run(folder)


def test_a_page_has_no_terminal_escapes(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["space"]["name"] = "a\x1b[31mb"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert b"\x1b" not in load_run(folder).report().read_bytes()


def test_a_journal_in_another_order_is_an_error_or_read_correctly(folder):
    right = load_run(folder).trials()
    lines = lines_of(folder)
    refused = 0
    for first in range(len(lines) - 1):
        swapped = [*lines[:first], lines[first + 1], lines[first], *lines[first + 2 :]]
        (folder / "journal.log").write_bytes(b"".join(swapped))
        try:
            run = load_run(folder)
            run.check_complete()
            trials = run.trials()
        except RunError:
            refused += 1
            continue
        merged = trials.merge(right, on=["plan_hash", "seed"], suffixes=("", "_right"))
        assert len(merged) == len(right)
        assert (merged["accuracy"] == merged["accuracy_right"]).all()
    assert refused


@pytest.mark.parametrize(
    "line",
    [
        b'{"op_code": 1e400}',
        b'{"op_code": ' + b"9" * 10_000 + b"}",
        b'{"op_code": 9, "trial_id": 99, "user_attr": {"a": 1}, "worker_id": "x"}',
        b'{"op_code": 2, "study_id": 7, "user_attr": {"a": 1}, "worker_id": "x"}',
        b"[]",
        b"\x80\x04\x95",
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_named(folder, line):
    number = len(lines_of(folder)) + 1
    with (folder / "journal.log").open("ab") as file:
        file.write(line + b"\n" + lines_of(folder)[-1])
    with pytest.raises(RunError, match=rf"journal.log is not an Optuna journal, or is damaged: line {number} "):
        load_run(folder).evaluations()


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['touch pwned']", "a: " + "9" * 10_000, "space: !!python/name:os.system"]
)
def test_yaml_is_data(folder, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (folder / "config.yaml").write_text(text)
    with pytest.raises(RunError, match="not valid YAML"):
        load_run(folder)
    assert not (tmp_path / "pwned").exists()


# -- names of metrics ------------------------------------------------------------------------------------------

TAKEN = ("number", "state", "plan", "plan_hash", "seed", "reason", "fidelity", "probability", "verdict", "wall_s")


@pytest.mark.parametrize("name", TAKEN)
def test_an_objective_with_the_name_of_a_column_is_refused_before_the_search(tmp_path, name):
    with pytest.raises(InputError, match=f"a metric cannot be named '{name}'"):
        nb.search("tiny", evaluate=score, out=tmp_path / "r", objectives={name: "maximize", "macs": "minimize"})
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["number", "probability", "accuracy_low"])
def test_another_metric_with_such_a_name_fails_its_trial_alone(tmp_path, name):
    """Before, one such plan ended the search, and again each time that it was resumed."""

    def later(plan):
        return score(plan) | ({name: 1.0} if "stage2" in plan else {})

    told = f"its result cannot be recorded: a metric cannot be named '{name}', because"
    options = {"trials": 6, "sampler": "random", "objectives": OBJECTIVES, "seeds": 1, "report": False}
    rows = nb.search("tiny", evaluate=later, out=tmp_path / "r", **options).trials()
    bad = rows["plan"].str.contains("stage2")
    assert rows["state"].tolist() == ["failed" if one else "complete" for one in bad]
    assert 0 < bad.sum() < 5
    assert rows["reason"][bad].str.startswith(told).all()
    with pytest.raises(InputError, match=f"the bare backbone itself failed.* {told}"):
        nb.search("tiny", evaluate=lambda plan: score(plan) | {name: 1.0}, out=tmp_path / "s", **options)
    assert nb.search("tiny", evaluate=score, out=tmp_path / "s", **options).trials()["state"].iloc[0] == "complete"


def test_a_value_that_known_tells_under_such_a_name_fails_its_plan_alone(tmp_path):
    options = {"evaluate": score, "plans": ["stage1=se", "stage2=eca"], "objectives": OBJECTIVES, "report": False}
    told = "known: a metric cannot be named 'state'"
    rows = nb.search(known=lambda plan: {"state": 1.0} if "stage2" in plan else {}, out=tmp_path / "r", **options)
    assert rows.trials()["state"].tolist() == ["complete", "complete", "failed"]
    assert told in rows.trials()["reason"].iloc[2]
    with pytest.raises(InputError, match=f"^{told}.*for the bare backbone"):
        nb.search(known=lambda plan: {"state": 1.0}, out=tmp_path / "s", **options)


def test_every_column_is_a_name_that_a_metric_cannot_have(folder):
    run = load_run(folder)
    own = {"accuracy", *COSTS}
    for table in (run.trials(), run.finalists()):
        for column in set(table.columns) - own:
            with pytest.raises(InputError):
                check_metric_names(["accuracy", column])
    check_metric_names(["accuracy", "loss", *COSTS])


# -- the way out -----------------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>\x1b]0;pwned\x07=1+1"


def test_no_text_of_a_run_reaches_a_page_or_a_terminal_unescaped(folder, nasbench):
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["created"] = config["space"]["name"] = config["settings"]["backbone"] = EVIL
    config["space"]["excluded"] = [[EVIL, EVIL, EVIL]]
    config["space"]["slots"] = [EVIL]
    file.write_text(yaml.safe_dump(config))
    (folder / "environment.json").write_text(json.dumps({"packages": {EVIL: EVIL}, "platform": EVIL, "git": EVIL}))
    with_record(folder, 2, lambda e: e.update(state="failed", reason=EVIL, metrics={}, device=EVIL, reused_from=EVIL))
    with_record(folder, 3, lambda e: e.update(state=EVIL))
    run = load_run(folder)
    page = render(run, page_of(run, {}, {}))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 8
    for command in (["runs", folder.parent], ["runs", folder.parent, "--json"], ["export", folder, "--format", "md"]):
        code, out, error = nasbench(*command)
        assert code == 0
        assert "\x1b" not in out + error
        assert "\x07" not in out + error


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        *(("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("+A1", "'+A1")),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        *(("+0.012 [-0.1, 0.3]", "+0.012 [-0.1, 0.3]"), ("-5.2 %", "-5.2 %"), ("se", "se"), ("", "")),
    ],
)
def test_a_cell_or_title_of_a_csv_is_no_formula(cell, written):
    text = csv_text(pd.DataFrame({"a": [cell], "n": [-1.5]}))
    assert list(csv.reader(text.splitlines())) == [["a", "n"], [written, "-1.5"]]
    assert next(csv.reader(csv_text(pd.DataFrame({cell or "x": [1]})).splitlines())) == [written or "x"]


def test_the_trials_table_has_no_formula(folder):
    with_record(folder, 2, lambda e: e.update(state="failed", reason="=HYPERLINK(1)", metrics={}))
    run = load_run(folder)
    run.refresh()
    assert "'=HYPERLINK(1)" in (folder / "trials.csv").read_text()


def test_a_metrics_name_leads_to_no_other_folder(tmp_path):
    recorder = Recorder(tmp_path / "r" / "run", ("../../out/$\\score$", "macs"), task=None)
    for number, plan in enumerate(PLANS):
        recorder.add(plan, 0.8 + 0.01 * number, macs=100.0 + number)
    recorder.run.report()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r"]
    assert (tmp_path / "r" / "run" / "figures" / "out-score-macs.svg").is_file()


# -- each record is validated once -----------------------------------------------------------------------------


def test_each_record_is_validated_once_for_a_report(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path / "run", task=None)
    modules = ["se", "eca", "cbam", "se(reduction=8)", "coord_attention", "se(reduction=4)", "eca(kernel=5)"]
    plans = [{"stage1": a, "stage2": b, "stage3": c} for a in modules for b in modules for c in modules][:300]
    with recorder.run.journal.ledger(SEARCH).atomically():
        for number, plan in enumerate([None, *plans]):
            recorder.add(plan, 0.5 + 0.001 * number, macs=100.0 + number, stage=SEARCH)
    from nasbench.runs import journal

    calls = []
    check = journal.check_evaluation
    monkeypatch.setattr(journal, "check_evaluation", lambda e, d: (calls.append(e.number), check(e, d)))
    run = load_run(tmp_path / "run")
    run.check_complete()
    run.refresh()
    render(run, page_of(run, {}, {}))
    assert sorted(calls) == list(range(301))
