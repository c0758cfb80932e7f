"""Every script compiles, says in its docstring how it is called, and answers `--help` without doing work."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from unittest.mock import patch

import pytest
from support import ROOT

SCRIPTS = ROOT / "scripts"
FILES = sorted(path for path in SCRIPTS.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
SHELL = [path for path in FILES if path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash")]
PYTHON = [path for path in FILES if path not in SHELL]
COMMANDS = [path for path in PYTHON if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


def name_of(path):
    return path.relative_to(SCRIPTS).as_posix()


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_python_script_compiles_and_says_what_it_is(path):
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    docstring = code.co_consts[0]
    assert isinstance(docstring, str)
    if path in COMMANDS:
        usage = rf"^ *(\.venv/bin/python )?scripts/{re.escape(name_of(path))}\b"
        assert re.search(usage, docstring, re.MULTILINE), "the docstring shows how it is called"


@pytest.mark.parametrize("path", SHELL, ids=name_of)
def test_a_shell_script_parses_and_says_what_it_is(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True).returncode == 0
    assert path.read_text(encoding="utf-8").splitlines()[1].startswith("# ")


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_a_command_answers_help_without_doing_work(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with patch.dict(os.environ), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert f"scripts/{name_of(path)}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_ruff_and_mypy_see_every_python_script():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    without_ending = [f"scripts/{name_of(path)}" for path in PYTHON if path.suffix != ".py"]
    assert settings["ruff"]["extend-include"] == without_ending
    assert settings["mypy"]["files"] == ["nasbench", "modules", "scripts", *without_ending]


def test_what_the_documents_name_exists():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"scripts/([\w/.]*\w)", page.read_text(encoding="utf-8")):
            assert (SCRIPTS / name).exists(), f"{page.name} names scripts/{name}"


def test_a_record_is_what_its_script_writes():
    """In one process for all of them, because most of the time goes into importing timm."""
    names = ["update_declarations", "update_spaces", "update_timm_names"]
    code = "import runpy, sys\nfor sys.argv in [[path, '--check'] for path in sys.argv[1:]]:\n    "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    paths = [SCRIPTS / name for name in names]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
