"""A run is a document: it needs its folder alone, and its Python is run only for the user who made it or trusts it."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from support.recorded_run import Recorder

import nasbench as nb
from nasbench import cli, report
from nasbench.backbones import factory
from nasbench.errors import DataError, InputError, PluginError, RunError
from nasbench.library import plugins
from nasbench.library.registry import MODULES
from nasbench.report.export import export_trial
from nasbench.report.trained_models import TrainedModels
from nasbench.runs import front_latency
from nasbench.runs.run import create_run, load_run
from nasbench.tasks import _image_sources as images

MINE = """
import os, pathlib
import torch.nn as nn, nasbench as nb

pathlib.Path(os.environ["RAN"], "mine").touch()

@nb.register_module(name="mine", properties=("locality",), paper="", dims=(1, 2), space={"factor": (0.5, 2.0)})
class Mine(nn.Module):
    def __init__(self, channels: int, *, factor: float = 1.0) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 1)
        self.factor = factor
    def forward(self, x):
        return x + self.factor * self.inner(x)
"""

NET = """
import os, pathlib
import timm

pathlib.Path(os.environ["RAN"], "net").touch()

def build(num_classes=10):
    return timm.create_model("test_resnet", num_classes=num_classes)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which the code of the run touches a file when it is run."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAN", str(folder))
        yield folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_data, ran):
    """A run with a plug-in, a backbone and a space of its own. Their files are gone."""
    before = dict(MODULES._entries)
    home = tmp_path_factory.mktemp("home")
    for name, text in (("mods/mine.py", MINE), ("nets/net.py", NET), ("space.yaml", "variants: mine\nslots: stage1\n")):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    run = nb.search(
        str(home / "space.yaml"), modules=[str(home / "mods")], backbone=f"{home}/nets/net.py:build", task="digits",
        size=32, trials=2, seeds=1, latency_s=0, keep="all", training={"epochs": 1}, sampler="grid",
        objectives={"accuracy": "maximize", "params": "maximize"}, out=tmp_path_factory.mktemp("runs") / "r",
    )  # fmt: skip
    report.build(run)
    shutil.rmtree(home)
    yield run.path
    MODULES._entries = before


def forget(ran):
    """Make this process one that never loaded the code of the run."""
    MODULES._entries.pop("mine", None)
    MODULES._declared.clear()
    plugins._loaded.clear()
    factory._user_file.cache_clear()
    for file in ran.iterdir():
        file.unlink()


@pytest.fixture
def copied(made, ran, tmp_path, monkeypatch):
    """A copy of the run, in a process that does not know it, in another working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = Path(shutil.copytree(made, tmp_path / "r"))
    forget(ran)
    return path


@pytest.fixture
def foreign(copied, tmp_path, monkeypatch):
    """The same for a user who did not make the run."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-of-another"))
    return copied


def code_that_ran(ran):
    return sorted(file.name for file in ran.iterdir())


def bare_and_best(path):
    table = load_run(path).trials().set_index("plan")["number"]
    return int(table["{}"]), int(table['{"stage1": "mine"}'])


# -- everything works from the folder alone --------------------------------------------------------------------------


def test_its_maker_needs_nothing_but_the_folder(copied, ran, tmp_path):
    run = nb.load_run(copied)
    _, number = bare_and_best(copied)
    assert {plan.text for plan in run.space()} == {"{}", '{"stage1": "mine"}'}
    model = run.build(number)
    assert code_that_ran(ran) == ["mine", "net"]
    exported = export_trial(run, number, tmp_path / "exported")
    assert "class Mine" in (exported / "model.py").read_text()
    assert sum(p.numel() for p in model.parameters()) == run.trials().set_index("number")["params"][number]
    assert report.build(run).is_file()
    assert (copied / "plugins" / "0" / "mods" / "mine.py").read_text() == MINE
    assert not list(copied.rglob("__pycache__")), "reading writes no compiled code"


def test_training_without_data_says_what_still_works(copied, monkeypatch, capsys):
    def gone():
        raise DataError("no digits on this machine")

    monkeypatch.setattr(images, "digits", gone)
    assert cli.main(["train", str(copied), "--trial", "0", "--epochs", "1"]) == 4
    said = capsys.readouterr().err
    assert "the data of run r (digits) cannot be read: no digits on this machine" in said
    assert "report, compare, export" in said


def test_other_data_is_not_the_data_of_the_run(copied, monkeypatch):
    digits = images.digits()
    monkeypatch.setattr(images, "digits", lambda: dataclasses.replace(digits, given={}))
    with pytest.raises(RunError, match=r"not the data of run r(?s:.*)splits"):
        load_run(copied).task()


@pytest.mark.parametrize("learn", ["supervised", "simclr"])
def test_relative_data_is_found_from_another_working_directory(learn, tmp_path, monkeypatch, image_folder):
    """data.json has the absolute path; config.yaml has what was typed."""
    from nasbench.runs.data import make_task
    from nasbench.runs.settings import SearchSettings

    source = Path(image_folder.partition(":")[2])
    monkeypatch.chdir(source.parent)
    text = f"folder:{source.name}"
    task = make_task(SearchSettings(task=text, backbone="test_resnet", learn=learn))
    recorder = Recorder(tmp_path / "r")
    recorder.run.config["settings"] |= {"task": text, "learn": learn}
    recorder.run.config["identity"]["data"] = task.describe()
    create_run(tmp_path / "s", recorder.run.config, {}, task=task)
    monkeypatch.chdir(tmp_path)
    assert load_run(tmp_path / "s").task().splits == task.splits


def test_a_run_of_version_0_1_0_says_what_it_lacks(tmp_path, monkeypatch, ran):
    run = load_run(shutil.copytree(Path(__file__).with_name("version-0.1.0") / "function", tmp_path / "run"))
    with pytest.raises(RunError, match=r"version 0\.1\.0, which recorded only the name of the space: "):
        run.space()
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    (tmp_path / "plug.py").write_text(MINE.replace('"mine"', '"my_old"'))
    config["settings"]["modules"] = [str(tmp_path / "plug.py")]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    forget(ran)
    with pytest.warns(UserWarning, match=r"did not record its modules.*only with --trust"):
        load_run(tmp_path / "run")
    assert code_that_ran(ran) == []
    load_run(tmp_path / "run", trust=True)
    assert "my_old" in nb.list_modules()
    (tmp_path / "plug.py").unlink()
    with pytest.raises(PluginError, match=r"made by version 0\.1\.0, which did not copy plug-ins"):
        load_run(tmp_path / "run", trust=True)


# -- whose code is run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["export", "R", "--trial", "1", "--out", "out"],
        ["train", "R", "--trial", "1", "--epochs", "1"],
        ["suggest", "R"],
        ["fingerprint", "R", "--trial", "1"],
        ["profile", "--run", "R", "--front", "--device", "cpu", "--time", "1"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_needs_the_code_says_what_it_would_run(words, foreign, ran, capsys):
    assert cli.main([str(foreign) if word == "R" else word for word in words]) == 4
    said = capsys.readouterr().err
    assert "plugins/0/mods/mine.py" in said
    assert "plugins/1/nets/net.py" in said
    assert "--trust" in said
    assert code_that_ran(ran) == []


def test_commands_that_only_read_run_nothing(foreign, ran, tmp_path):
    copy = shutil.copytree(foreign, tmp_path / "another")
    for words in (["runs", foreign.parent], ["export", foreign, "--format", "csv"], ["compare", foreign, copy]):
        assert cli.main(list(map(str, words))) == 0
    with pytest.raises(RunError, match="was not made by you on this machine"):
        load_run(foreign).build(1)
    assert code_that_ran(ran) == []
    assert not (foreign.parent / "state-of-another").exists(), "reading makes no key"


def test_with_trust_the_copies_are_run(foreign, ran, tmp_path):
    assert cli.main(["export", str(foreign), "--trial", "1", "--out", str(tmp_path / "out"), "--trust"]) == 0
    assert code_that_ran(ran) == ["mine", "net"]
    model = load_run(foreign, trust=True).build(1)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_report_without_trust_keeps_the_old_pictures(foreign, ran):
    (foreign / "test.json").unlink()
    before = {file.name: file.read_bytes() for file in (foreign / "figures").glob("*.svg")}
    assert "winner-fingerprints.svg" in before or "grad-cam.svg" in before
    with pytest.warns(UserWarning, match=r"Python code of its own, which was not run"):
        text = report.build(load_run(foreign)).read_text()
    assert code_that_ran(ran) == []
    notes = [line for line in text.splitlines() if "<b>left out</b>" in line]
    assert len(notes) == 2, "one line for what is left out, one for what is kept"
    assert "leaves out test metrics of trial" in notes[0]
    assert "keeps Grad-CAM of 20" in notes[1]
    assert "(Made on 20" in text
    assert before == {file.name: file.read_bytes() for file in (foreign / "figures").glob("*.svg")}


@pytest.mark.parametrize("change", ["plugin", "config", "tag"])
def test_what_was_changed_needs_trust(change, copied, ran):
    file = copied / {"plugin": "plugins/0/mods/mine.py", "config": "config.yaml", "tag": "trust.json"}[change]
    text = file.read_text()
    changed = {"plugin": text + "\nopen('x')\n", "config": text.replace("trials: 2", "trials: 3"), "tag": "[]"}[change]
    assert changed != text
    file.write_text(changed)
    with pytest.raises(RunError, match=r"mine\.py was changed" if change == "plugin" else "not made by you"):
        load_run(copied).builder()
    assert code_that_ran(ran) == []


@pytest.mark.filterwarnings("always:The report leaves out")
@pytest.mark.parametrize("name", ["modules", "backbone", "task"])
def test_a_configuration_that_names_code_runs_none(name, tmp_path, monkeypatch, small_data, ran, capsys):
    """FAULTS R3: config.yaml of somebody else says `modules: ["."]`, `backbone: x.py:build` or `task: x.py:Task`."""
    monkeypatch.chdir(tmp_path)
    forget(ran)
    (tmp_path / "x.py").write_text(NET)
    recorder = Recorder(tmp_path / "r", seeds=1)
    recorder.add(None, 0.5, items=[0.0, 1.0])
    recorder.add({"stage1": "se"}, 0.75, items=[0.5, 1.0])
    (tmp_path / "r" / "models").mkdir()
    (tmp_path / "r" / "models" / "trial-1.safetensors").write_bytes(b"x")
    file = tmp_path / "r" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["settings"][name] = {"modules": ["."], "backbone": "x.py:build", "task": "x.py:Task"}[name]
    file.write_text(yaml.safe_dump(config))
    assert cli.main(["report", "r"]) == 0
    assert "Python code of its own, which was not run" in capsys.readouterr().err
    assert cli.main(["export", "r", "--trial", "1", "--out", "out"]) == 4
    assert "give --trust" in capsys.readouterr().err
    assert cli.main(["runs", "."]) == 0
    assert code_that_ran(ran) == []


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_report_that_needs_no_code_says_that_none_was_run(tmp_path, ran, capsys):
    recorder = Recorder(tmp_path / "r", seeds=1)
    recorder.add(None, 0.5, items=[0.0, 1.0])
    file = tmp_path / "r" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["settings"]["backbone"] = "x.py:build"
    file.write_text(yaml.safe_dump(config))
    assert cli.main(["report", str(tmp_path / "r")]) == 0
    said = "The report leaves out nothing: run r has Python code of its own, which was not run, because"
    for text in (capsys.readouterr().err, (tmp_path / "r" / "report.html").read_text()):
        assert text.count(said) == 1
        assert "give --trust" in text
    assert code_that_ran(ran) == []


def test_resuming_a_run_of_others_does_not_make_its_code_trusted(foreign, ran):
    """Its files are no longer those of the run, because this user's search did not load them."""
    config = load_run(foreign).config
    config["settings"] = {**config["settings"], "modules": [], "backbone": "test_resnet"}
    run = create_run(foreign, config, {})
    assert run.config["plugins"].get("files", []) == []
    assert run.sources.fault == ""
    assert code_that_ran(ran) == []


def test_a_copy_that_leads_out_of_the_folder_is_not_read(copied, tmp_path):
    (tmp_path / "evil.py").write_text(MINE)
    link = copied / "plugins" / "0" / "mods" / "mine.py"
    link.unlink()
    link.symlink_to(tmp_path / "evil.py")
    with pytest.raises(RunError, match="leads out of the run folder"):
        load_run(copied, trust=True).builder()
    link.unlink()
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["plugins"]["files"][0]["file"] = "../../evil.py"
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match="damaged: plugins"):
        load_run(copied)


def test_another_module_of_the_name_is_a_clear_error(copied, tmp_path):
    (tmp_path / "other.py").write_text(MINE + "# another version\n")
    plugins.load_path(tmp_path / "other.py")
    with pytest.raises(PluginError, match=r"registered twice(?s:.*)its own version of this module"):
        load_run(copied).builder()


def test_the_same_module_is_used_again(copied, tmp_path, ran):
    (tmp_path / "same.py").write_text(MINE)
    plugins.load_path(tmp_path / "same.py")
    (ran / "mine").unlink()
    load_run(copied).builder()
    assert code_that_ran(ran) == [], "an identical file is one plug-in"


def test_the_import_of_a_neighbour_is_told(tmp_path, ran):
    from nasbench.runs.settings import SearchSettings
    from nasbench.runs.sources import uncopied_imports

    (tmp_path / "helper.py").write_text("")
    (tmp_path / "mine.py").write_text("import json, nasbench\ntry:\n    import helper\nexcept ImportError:\n    pass\n")
    plugins.load_path(tmp_path / "mine.py")
    (told,) = uncopied_imports(SearchSettings(modules=(str(tmp_path / "mine.py"),)))
    assert "mine.py imports helper from its own folder, and imported files are not copied" in told


# -- a report does not get poorer -------------------------------------------------------------------------------------


def test_a_report_that_fails_leaves_the_old_one(copied, monkeypatch):
    from nasbench.report import assembly

    old = {
        name: (copied / name).read_bytes()
        for name in ("report.html", "tables/the-front-and-all-other-compared-plans.csv")
    }
    monkeypatch.setattr(assembly, "pictures_of", lambda *_: {})
    monkeypatch.setattr(assembly, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.build(load_run(copied))
    assert old == {name: (copied / name).read_bytes() for name in old}


def test_without_data_and_weights_the_pictures_stay_with_their_date(copied, monkeypatch):
    def gone():
        raise DataError("no digits on this machine")

    monkeypatch.setattr(images, "digits", gone)
    with pytest.warns(UserWarning, match=r"keeps Grad-CAM of 20.*no digits on this machine"):
        text = report.build(load_run(copied)).read_text()
    assert "Grad-CAM on test images" in text, "the caption stays"
    shutil.rmtree(copied / "models")
    with pytest.warns(UserWarning, match="no weights any more"):
        again = report.build(load_run(copied)).read_text()
    assert again.count("<figure") == text.count("<figure")


def test_a_folder_that_cannot_be_written_is_a_clear_error(copied, monkeypatch, capsys):
    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("nasbench.files.write_bytes", full)
    assert cli.main(["report", str(copied)]) == 4
    assert "cannot write the report" in capsys.readouterr().err


# -- one builder ------------------------------------------------------------------------------------------------------


def test_every_reader_builds_the_same_model(tmp_path, small_data, monkeypatch):
    """FAULTS R16: informer on co2 with covariates has as many parameters wherever it is built."""
    run = nb.search(
        plans=["none"], backbone="informer", task="co2", covariates=True, seeds=1, latency_s=0, keep="all",
        lookback=24, horizon=6, training={"epochs": 1}, out=tmp_path / "r",
    )  # fmt: skip
    profiled = {}

    def profile(models, **_):
        profiled.update(models)
        raise RunError("measured enough")

    monkeypatch.setattr(front_latency, "profile", profile)
    opened = load_run(tmp_path / "r")
    with pytest.raises(RunError, match="measured enough"):
        front_latency.measure_front(opened)
    models = {
        "build": opened.build(0),
        "report": TrainedModels(opened).load(0, "{}"),
        "profile": next(iter(profiled.values())),
    }
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert set(counts.values()) == {int(run.trials()["params"].iloc[0])}
    exported = export_trial(opened, 0, tmp_path / "exported")  # it compares the state dicts, key by key
    assert "covariates=4" in (exported / "model.py").read_text()


# -- a copy, for a run that must not change ----------------------------------------------------------------------------


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def read_only(copied):
    """The run on a file system that nobody, not even root, can write."""

    def mount(*words):
        return subprocess.run(["mount", *words, copied], capture_output=True).returncode == 0

    if not mount("--bind", copied):
        pytest.skip("no file system can be mounted here")
    try:
        assert mount("-o", "remount,ro,bind")
        yield copied
    finally:
        subprocess.run(["umount", "-l", copied], check=True)


def test_a_read_only_run_is_reported_and_trained_in_a_copy(read_only, ran, tmp_path, capsys):
    run, out, before = str(read_only), tmp_path / "new" / "copy", bytes_of(read_only)
    epochs = ["--trial", "1", "--epochs", "1"]
    assert cli.main(["report", run]) == 4
    assert "Read-only file system; a report is written into its run folder, and `nasbench report RUN --out DIR`" in (
        capsys.readouterr().err
    )
    assert cli.main(["train", run, *epochs]) == 4
    told = capsys.readouterr().err
    assert "Read-only file system; a training is stored" in told
    assert "epoch 1/1" not in told, "said before anything is trained"
    assert cli.main(["report", run, "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert f"report: {out / 'report.html'}" in told
    assert "--trust" not in told, "the copy of one's own run is one's own"
    assert code_that_ran(ran) == ["mine", "net"]
    assert cli.main(["train", run, *epochs, "--out", str(tmp_path / "trained"), "--json"]) == 0
    assert str(tmp_path / "trained") in capsys.readouterr().out
    assert len(list((tmp_path / "trained" / "full" / "epochs-1").glob("*.safetensors"))) == 2
    assert bytes_of(read_only) == before
    views = ("report.html", "figures", "tables", "front.csv")
    copied = {name: text for name, text in before.items() if not name.startswith((*views, ".", "journal.log.lock"))}
    assert copied.items() <= bytes_of(out).items()


def test_a_copy_of_a_foreign_run_is_foreign(foreign, ran, tmp_path, capsys):
    opened = load_run(foreign).copy_to(tmp_path / "copy")
    with pytest.warns(UserWarning, match="was not run, because it was not made by you"):
        report.build(opened)
    assert cli.main(["train", str(foreign), "--trial", "1", "--epochs", "1", "--out", str(tmp_path / "other")]) == 4
    assert code_that_ran(ran) == []
    trusted = load_run(foreign, trust=True).copy_to(tmp_path / "trusted")
    assert trusted.sources.fault == ""


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("full", "is not empty"),
        ("file", "file is a file; a run is copied only into a new or empty folder"),
        ("link", "is a link to nowhere, which does not exist"),
        ("other", "contains a run; to work on it, give it as the run"),
        ("r/tables/copy", "is inside the run folder"),
        ("other/copy", "is inside the run folder"),
        ("file/copy", "cannot copy"),
    ],
)
def test_a_run_is_copied_only_into_a_new_folder(out, said, copied, tmp_path, capsys):
    (tmp_path / "full" / "of").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    Recorder(tmp_path / "other")
    before = bytes_of(tmp_path)
    assert cli.main(["report", str(copied), "--out", str(tmp_path / out)]) == 4
    assert said in capsys.readouterr().err
    assert bytes_of(tmp_path) == before


def test_a_copy_needs_the_name_of_a_folder(copied, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert cli.main(["report", str(copied), "--out", ""]) == 4
    assert "a run is copied into a new folder" in capsys.readouterr().err
    with pytest.raises(InputError, match="got None instead of its name"):
        load_run(copied).copy_to(None)


def test_a_copy_follows_no_link(copied, tmp_path):
    (copied / "tables" / "inside.csv").symlink_to(copied / "trials.csv")
    (copied / "notes.txt").write_text("not a part of the run")
    copy = load_run(copied).copy_to(tmp_path / "copy").path
    assert (copy / "tables" / "inside.csv").read_bytes() == (copied / "trials.csv").read_bytes()
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    assert not (copy / "notes.txt").exists()
    assert not (copy / ".lock").exists()
    page = copied / "report.html"
    assert (copy / page.name).stat().st_mtime_ns == page.stat().st_mtime_ns
    (copied / "latency").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"latency in .* is a link that leads out"):
        load_run(copied).copy_to(tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_copy_that_cannot_be_completed_is_removed(copied, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nasbench.files.shutil.copyfileobj", full)
    with pytest.raises(RunError, match=r"cannot copy .*No space left on device"):
        load_run(copied).copy_to(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
