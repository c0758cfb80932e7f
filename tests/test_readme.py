import re

from support import ROOT, script

from nasbench.runs.settings import SAMPLERS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, monkeypatch, capsys, small_data, brief_latency):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "coord_attention" in printed
    assert "exact: True" in printed
    assert "probability" in printed
    assert (tmp_path / "runs/readme/trials.jsonl").is_file()


def test_the_tables_of_settings_are_fresh():
    update = script("update_readme")
    for page in update.PAGES:
        text = page.read_text(encoding="utf-8")
        assert update.updated(text) == text, "run scripts/update_readme"
    assert "| `epochs` | 10 |" in README
    assert "| `trials` | `--trials` | 24 |" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_the_page_on_searching_explains_every_sampler():
    text = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")
    assert [name for name in SAMPLERS if f"`{name}`" not in text] == []


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_the_two_commands_exist():
    for name in re.findall(r"scripts/(\w+)", README):
        assert (ROOT / "scripts" / name).is_file(), name
