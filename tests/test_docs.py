"""The tutorials run as written, and the site builds without a warning."""

import re
import runpy
import shlex
import shutil
import sys
import warnings

import pytest
import torch
from support import ROOT

import nasbench as nb
from nasbench import cli

pytestmark = pytest.mark.usefixtures("small_data", "brief_latency")

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def blocks(page):
    """Return (language, code) of each block to run."""
    return re.findall(r"```(bash|python)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_written(page, tmp_path, monkeypatch, clean_registry):
    monkeypatch.chdir(tmp_path)
    assert blocks(page)
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, page.name, "exec"), {})
            continue
        for line in code.strip().splitlines():
            words = shlex.split(line)
            assert words.pop(0) == "nasbench"
            if not torch.cuda.is_available():
                words = ["cpu" if word == "cuda" else word for word in words]
            assert cli.main(words) in (0, 1), line  # 1: a check of a noisy machine's timer may fail


def test_the_page_on_inserting_runs_as_written():
    together = {}
    for _, code in blocks(ROOT / "docs" / "inserting.md"):
        exec(compile(code, "inserting.md", "exec"), together)
    assert not together["model"].bn1.training
    assert together["light"](together["x"]).shape[0] == together["tall"](together["x"]).shape[0] == 2


def test_the_page_on_searching_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nb.search(
        {"variants": ["se"], "slots": ["stage1"], "compositions": ["none", "a"]}, backbone="test_resnet", task="digits",
        trials=2, seeds=2, training={"epochs": 1}, latency_s=0, proxies=["naswot"], out="runs/images",
    )  # fmt: skip
    together = {}
    for language, code in blocks(ROOT / "docs" / "searching.md"):
        if language == "python":
            exec(compile(code, "searching.md", "exec"), together)
    assert together["run"].settings.trials == 40
    assert len(together["run"].trials()) == 40


def test_the_site_builds_without_warnings(tmp_path, monkeypatch, capsys):
    pytest.importorskip("furo")
    sphinx = pytest.importorskip("sphinx.cmd.build")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "docs", source)
    monkeypatch.setattr(sys, "argv", ["reference_pages", str(source)])
    runpy.run_path(str(ROOT / "scripts" / "reference_pages"), run_name="__main__")
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Sphinx's own code, which a command does not show either
        words = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html", str(source), str(tmp_path / "site")]
        code = sphinx.main(words)
    assert (code, capsys.readouterr().err) == (0, "")
    assert "Which plug-and-play modules" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
