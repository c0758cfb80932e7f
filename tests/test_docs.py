"""The tutorials run as written, and the site builds without a warning."""

import contextlib
import html
import importlib
import inspect
import io
import pkgutil
import re
import runpy
import shlex
import shutil
import sys
import warnings

import pydantic
import pytest
import torch
from support import ROOT

import nasbench as nb
import nasbench.ops
from nasbench import cli
from nasbench.runs.settings import SearchSettings
from nasbench.study import driver
from nasbench.study.engines import Inline
from nasbench.tasks.recipe import Recipe

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
            if words[0] == "doctor":  # whose figures are not looked at
                words = re.sub("--time [^ ]+", "--time 1", " ".join(words)).split()
            if not torch.cuda.is_available():
                words = ["cpu" if word == "cuda" else word for word in words]
            assert cli.main(words) in (0, 1), line  # 1: a check of a noisy machine's timer may fail


def test_the_page_on_inserting_runs_as_written():
    together = {}
    for _, code in blocks(ROOT / "docs" / "inserting.md"):
        exec(compile(code, "inserting.md", "exec"), together)
    assert not together["model"].bn1.training
    assert together["light"](together["x"]).shape[0] == together["tall"](together["x"]).shape[0] == 2


def test_the_page_on_heads_runs_as_written(clean_registry):
    together = {}
    for _, code in blocks(ROOT / "docs" / "heads.md"):
        exec(compile(code, "heads.md", "exec"), together)
    assert together["loss"].isfinite()
    assert "my_head" in nb.list_modules(kind="head")


def test_the_page_on_pretexts_runs_as_written(clean_registry):
    together = {}
    for language, code in blocks(ROOT / "docs" / "pretexts.md"):
        if language == "python":
            exec(compile(code, "pretexts.md", "exec"), together)
    assert "my_pretext" in nb.list_modules(kind="pretext")
    assert together["result"].metrics["knn_accuracy"] > 0.5


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


@pytest.mark.parametrize("page", ["postgresql", "ray"])
def test_a_page_on_several_machines_is_true(page, request, tmp_path, monkeypatch):
    """Its Python runs on a server of our own. Its commands are read, and asked for what the page is about."""
    monkeypatch.chdir(tmp_path)
    found = blocks(ROOT / "docs" / f"{page}.md")
    for code in [code for language, code in found if language == "python"]:
        monkeypatch.setattr(driver, "make_engine", lambda settings, evaluator, apart: Inline(evaluator))
        server = request.getfixturevalue("postgresql")
        exec(compile(code.replace("postgresql://nasbench@localhost/studies", server.url), page, "exec"), {})
        assert len(nb.load_run("runs/try").trials()) == 6
    asked = []

    def remember(settings, *_, **__):
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run_search", remember)
    for code in [code for language, code in found if language == "bash"]:
        assert cli.main(shlex.split(code)[1:]) == 2
    (settings,) = asked
    assert (settings.engine == "ray") == (page == "ray")
    assert (settings.storage is not None) == (page == "postgresql")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as `scripts/docs` does; return its folder, Sphinx's exit code and what it said."""
    pytest.importorskip("furo")
    sphinx = pytest.importorskip("sphinx.cmd.build")
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "docs", folder / "source")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")  # of Sphinx's own code, which a command does not show either
        patch.setattr(sys, "argv", ["reference_pages", str(folder / "source")])
        runpy.run_path(str(ROOT / "scripts" / "reference_pages"), run_name="__main__")
        words = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]
        code = sphinx.main([*words, str(folder / "source"), str(folder / "site")])
    return folder / "site", code, said.getvalue()


def test_the_site_builds_without_warnings(site):
    folder, code, said = site
    assert (code, said) == (0, "")
    assert "which plug-and-play modules" in (folder / "index.html").read_text(encoding="utf-8")


def promised():
    """Return the object of each name that is promised, by the path that the reference must give it."""
    ops = [f"nasbench.ops.{info.name}" for info in pkgutil.iter_modules(nasbench.ops.__path__)]
    modules = ["nasbench", "nasbench.errors", "nasbench.testing", "nasbench.tasks", "nasbench.spaces", *ops]
    paths = [f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__]
    paths += [
        "nasbench.backbones.Slot",
        "nasbench.library.registry.ModuleSpec",
        "nasbench.measurement.costs.Cost",
        "nasbench.measurement.latency.profiler.Profile",
        "nasbench.measurement.properties.fingerprint.Fingerprint",
        "nasbench.runs.evaluation.Evaluation",
        "nasbench.runs.run.Run",
        "nasbench.runs.settings.SearchSettings",
        "nasbench.study.search.Event",
        "nasbench.tasks.recipe.Recipe",
    ]
    found = {}
    for path in paths:
        module, _, name = path.rpartition(".")
        thing = getattr(importlib.import_module(module), name)
        if inspect.isfunction(thing) or (inspect.isclass(thing) and thing.__module__.startswith("nasbench.")):
            found[path] = thing
    return found


def signatures(folder):
    """Return the text of every signature of the reference by the full name that it has there."""
    found = {}
    for page in [folder / "python.html", *(folder / "reference").glob("*.html")]:
        text = page.read_text(encoding="utf-8")
        for name, signature in re.findall(r'<dt class="sig[^>]*? id="([^"]+)">(.*?)</dt>', text, re.DOTALL):
            found[name] = " ".join(html.unescape(re.sub("<[^>]+>", "", signature)).split())
    return found


def test_every_promised_name_is_in_the_reference_with_its_types(site):
    shown, faults = signatures(site[0]), []
    for path, thing in promised().items():
        if path not in shown:
            faults.append(f"{path} has no entry")
            continue
        listed = inspect.isclass(thing) and issubclass(
            thing, (pydantic.BaseModel, Exception)
        )  # their fields are, below
        for name in () if listed or getattr(thing, "_is_protocol", False) else inspect.signature(thing).parameters:
            if not re.search(rf"\b{name}: \S", shown[path]):
                faults.append(f"{path}: {name} has no type in {shown[path]!r}")
        if inspect.isfunction(thing) and "→" not in shown[path]:
            faults.append(f"{path} does not say what it returns")
    assert faults == []


def test_the_fields_of_settings_are_in_the_reference_with_their_types(site):
    shown = signatures(site[0])
    for model in (Recipe, SearchSettings):
        for name in model.model_fields:
            assert re.match(rf"{name}: \S", shown[f"{model.__module__}.{model.__qualname__}.{name}"]), name


def test_no_entry_of_the_reference_has_a_private_path(site):
    assert [name for name in signatures(site[0]) if re.search(r"\._[a-z]", name)] == []


def test_the_token_of_a_ray_cluster_is_made_private_before_it_is_copied():
    """Ray writes it readable for everybody."""
    text = (ROOT / "docs" / "ray.md").read_text(encoding="utf-8")
    made, private, copied = map(
        text.index, ("get-auth-token --generate", "chmod 600 ~/.ray/auth_token", "scp -p ~/.ray")
    )
    assert made < private < copied
