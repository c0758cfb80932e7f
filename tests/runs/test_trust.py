"""The tag by which a user's own runs are known."""

import json
import stat

import pytest
from support.recorded_run import Recorder

from nasbench import cli
from nasbench.errors import RunError
from nasbench.runs.run import load_run
from nasbench.runs.trust import is_trusted, write_tag


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "nasbench" / "key"


def test_a_search_makes_a_key_that_only_the_user_can_read(state, tmp_path):
    run = Recorder(tmp_path / "r").run
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert len(state.read_bytes()) == 32
    assert [file.name for file in state.parent.iterdir()] == ["key"]
    assert is_trusted(run.folder, load_run(run.path).config)
    assert state.read_bytes() not in run.folder.trust.read_bytes()
    key = state.read_bytes()
    Recorder(tmp_path / "another")
    assert state.read_bytes() == key


def test_a_tag_holds_for_one_configuration_and_one_key(state, tmp_path):
    run = Recorder(tmp_path / "r").run
    config = load_run(run.path).config
    assert not is_trusted(run.folder, {**config, "created": "another day"})
    state.write_bytes(bytes(32))
    assert not is_trusted(run.folder, config)
    state.unlink()
    assert not is_trusted(run.folder, config)
    assert not state.exists(), "reading makes no key"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tag": 1}', '{"tag": "\u00e9"}', '{"tag": ""}', "\x00"])
def test_a_damaged_tag_is_no_tag(text, state, tmp_path):
    run = Recorder(tmp_path / "r").run
    run.folder.trust.write_text(text)
    assert not is_trusted(run.folder, load_run(run.path).config)


def test_without_a_writable_state_directory_a_run_has_no_tag(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    run = Recorder(tmp_path / "r").run
    assert not run.folder.trust.exists()
    run.folder.trust.write_text(json.dumps({"tag": "0" * 64}))
    write_tag(run.folder, run.config)
    assert not run.folder.trust.exists(), "a tag of another user does not stay"


@pytest.mark.parametrize(
    "words",
    [
        "report R", "power R", "compare R S", "export R --format csv", "export R --trial 0 --out o",
        "train R --trial 0 --epochs 1", "suggest R", "fingerprint R --trial 0", "profile --run R --front",
    ],
)  # fmt: skip
def test_every_command_that_reads_a_run_can_trust_it(words, tmp_path, monkeypatch, capsys):
    """The option is the argument of `load_run`, which is the one way in."""
    told = []

    def load(path, *, trust=False):
        told.append(trust)
        raise RunError("heard")

    for name in ("R", "S"):
        Recorder(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for module in ("nasbench.runs.run", "nasbench.report.suggestion"):
        monkeypatch.setattr(f"{module}.load_run", load)
    for given in ([], ["--trust"]):
        assert cli.main([*words.split(), *given]) == 4
        assert "heard" in capsys.readouterr().err
    assert told == [False, True]


def test_the_list_of_runs_can_trust_them(tmp_path, monkeypatch):
    told = []
    Recorder(tmp_path / "R")
    monkeypatch.setattr("nasbench.runs.run.load_run", lambda path, *, trust: told.append(trust) or load_run(path))
    assert cli.main(["runs", str(tmp_path), "--trust"]) == 0
    assert told == [True]
