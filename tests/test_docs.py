"""The tutorials run as written, and the site builds without a warning."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from support import ROOT

import nasbench as nb
from nasbench import cli

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


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("furo")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "docs", source)
    subprocess.run([sys.executable, ROOT / "scripts" / "reference_pages", source], check=True)
    words = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-b", "html", source, tmp_path / "site"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Which plug-and-play modules" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
