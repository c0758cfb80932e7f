"""Output files are checked before the work whose results they get, and are never overwritten unasked."""

import os
from pathlib import Path

import pytest
import typer
import typer.main

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError

SMALL = ("--backbone", "test_resnet", "--size", "32")
COMMANDS = {
    "compare": ("compare", "run", "run", "--out"),
    "export": ("export", "run", "--trial", "0", "--out"),
    "export --format": ("export", "run", "--format", "csv", "--out"),
    "fingerprint": ("fingerprint", "se", "--figure"),
    "profile": ("profile", "test_resnet", "--size", "32", "--out"),
    "profile --space": ("profile", "test_resnet", "--size", "32", "--space", "tiny", "--out"),
    "report": ("report", "run", "--out"),
    "search": ("search", "tiny", *SMALL, "--out"),
    "suggest": ("suggest", "se", "--out"),
    "tabulate": ("tabulate", "tiny", *SMALL, "--out"),
    "train": ("train", "run", "--trial", "0", "--epochs", "1", "--out"),
}
FOLDERS = {"compare", "export", "report", "search", "train"}
"""Commands whose output is a folder."""

COPIES = {"report", "search", "train"}
"""Commands whose folder becomes a run: it is a run or empty, and --force would mix two runs."""


@pytest.fixture
def here(nasbench, tmp_path):
    """Return the command, which runs in a folder with a run and other things, and may do no work."""
    nb.search(
        {"variants": ["se"], "slots": ["stage1"]}, backbone="test_resnet", trials=2, seeds=1, sampler="random",
        out="run", objectives={"accuracy": "maximize"}, evaluate=lambda plan: {"accuracy": float(len(str(plan)))},
    )  # fmt: skip
    Path("folder").mkdir()
    for file in ("file.parquet", "file.svg", "folder/file"):
        Path(file).write_text("mine")
    return nasbench


def test_every_command_with_an_output_is_here():
    group = typer.main.get_command(cli.app)
    with_output = {
        name
        for name, command in group.commands.items()
        if any({"--out", "--figure"} & set(option.opts) for option in command.get_params(typer.Context(command)))
    }
    assert with_output == {name.split()[0] for name in COMMANDS}


@pytest.fixture
def idle(monkeypatch):
    """Let every command fail that begins to work or to read a run."""

    def work(*_, **__):
        raise AssertionError("the output is checked before the work")

    for name in (
        "study.driver.run_search", "measurement.latency.profiler.profile_batches", "report.suggestion.suggest",
        "measurement.latency.space_profiler.profile_device", "measurement.properties.fingerprint.fingerprint",
        "study.full_training.train_fully", "report.comparison.compare", "report.export.table.trials_text",
        "report.export.folder.export_trial", "report.build",
    ):  # fmt: skip
        monkeypatch.setattr(f"nasbench.{name}", work)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_cannot_be_written_is_an_error_before_the_work(here, idle, monkeypatch, command):
    kind = "svg" if command == "fingerprint" else "parquet"
    wrong = {f"file.{kind}": f"file.{kind}", f"file.parquet/x.{kind}": "file.parquet", "folder": "folder"}
    for out, named in wrong.items():
        code, told, err = here(*COMMANDS[command], out)
        assert (code, told) == (4, ""), err
        assert named in err
        if out == f"file.{kind}" and command not in FOLDERS:
            assert "--force to replace it" in err
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and allowed(path, mode))
    if command not in COPIES:
        code, _, err = here(*COMMANDS[command], f"new/x.{kind}")
        assert code == 4
        assert "is not yours to write" in err
    assert not Path("new").exists()
    assert (Path("file.parquet").read_text(), Path("folder/file").read_text()) == ("mine", "mine")


def test_force_replaces_a_file(here):
    for command in ("export --format", "suggest", "fingerprint"):
        Path("file.svg").write_text("mine")
        assert here(*COMMANDS[command], "file.svg")[0] == 4
        code, _, err = here(*COMMANDS[command], "file.svg", "--force")
        assert code == 0, err
        assert Path("file.svg").read_text() != "mine"
    assert "contains files" in here(*COMMANDS["compare"], "folder")[2]
    assert "contains files" not in here(*COMMANDS["compare"], "folder", "--force")[2]


def test_force_replaces_a_file_that_is_no_device_profile(here, monkeypatch):
    """A link is left alone, because /dev/stdout is one."""
    seen = []

    def begun(backbone, space, out, **_):
        seen.append(out.exists())
        raise InputError("this is enough")

    monkeypatch.setattr("nasbench.measurement.latency.space_profiler.profile_device", begun)
    Path("link.json").symlink_to("folder/file")
    for out in ("file.parquet", "link.json"):
        assert here(*COMMANDS["profile --space"], out, "--force")[0] == 4
    assert seen == [False, True]
    assert Path("link.json").is_symlink()
    assert Path("folder/file").read_text() == "mine"


def test_a_project_overwrites_nothing(here):
    Path("project").mkdir()
    Path("project/run.yaml").write_text("mine")
    for folder in ("file.parquet", "file.parquet/x", "project"):
        code, _, err = here("init", folder)
        assert code == 4
        assert folder in err
    assert os.listdir("project") == ["run.yaml"]


def test_a_search_in_python_checks_its_folder_first(here, idle):
    for out in ("file.parquet", "file.parquet/x", "folder"):
        with pytest.raises(InputError, match="choose another --out"):
            nb.search("tiny", backbone="test_resnet", out=out)
