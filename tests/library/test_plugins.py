import textwrap

import pytest

import nasbench as nb
from nasbench.errors import PluginError, UnknownNameError
from nasbench.library import plugins
from nasbench.library.registry import Registry, register_module

GOOD = """
import torch.nn as nn, nasbench as nb

@nb.register_module(name="{name}", properties=("locality",), paper="Someone, A Paper, CVPR 2031", dims=(1, 2),
                    space={{"factor": (0.5, 2.0)}})
class Scale(nn.Module):
    def __init__(self, channels: int, *, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
    def forward(self, x):
        return self.factor * x
"""


@pytest.fixture
def write(tmp_path, clean_registry, monkeypatch):
    monkeypatch.setattr(plugins, "_problems", [])

    def write(name, text):
        file = tmp_path / name
        file.write_text(textwrap.dedent(text))
        return file

    return write


def test_a_file_of_ones_own(write):
    plugins.load_path(write("mine.py", GOOD.format(name="my_scale")))
    assert "my_scale" in nb.list_modules("my_*", property="locality", dims=1)
    assert nb.create_module("my_scale", 4, factor=2.0).factor == 2.0


def test_what_a_plugin_prints_is_no_output_of_the_command(write, capsys):
    plugins.load_path(write("mine.py", "print('hello')\n" + GOOD.format(name="my_scale")))
    assert capsys.readouterr() == ("", "hello\n")


def test_a_folder_and_private_files(write, tmp_path):
    write("one.py", GOOD.format(name="my_one"))
    write("_helper.py", "raise RuntimeError('never loaded')")
    plugins.load_path(tmp_path)
    assert nb.list_modules("my_*") == ["my_one"]


def test_a_folder_of_other_programs_is_not_loaded(tmp_path, monkeypatch):
    """As with `--modules /`: nothing in it is run."""
    monkeypatch.setattr(plugins, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.py").write_text("from pathlib import Path\nPath(__file__).unlink()\n")
    with pytest.raises(PluginError, match=r"contains 3 \.py files, and at most 2"):
        plugins.load_path(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_broken_file_does_not_take_the_rest_down(write, tmp_path):
    write("good.py", GOOD.format(name="my_good"))
    broken = write("broken.py", "x = 1\ny = x / 0\n")
    with pytest.warns(UserWarning, match=r"broken\.py:2: ZeroDivisionError"):
        plugins.load_path(tmp_path)
    assert "my_good" in nb.list_modules()
    with pytest.raises(UnknownNameError, match=r"skipped: .*broken\.py:2"):
        nb.create_module("my_bad", 4)
    with pytest.raises(PluginError, match=r"broken\.py:2: ZeroDivisionError: division by zero"):
        plugins.load_path(broken)


def test_a_syntax_error_names_its_line(write):
    with pytest.raises(PluginError, match=r"bad\.py:3: SyntaxError"):
        plugins.load_path(write("bad.py", "a = 1\nb = 2\nc = = 3\n"))


def test_a_file_that_breaks_half_way_leaves_nothing(write):
    with pytest.raises(PluginError):
        plugins.load_path(write("half.py", GOOD.format(name="my_half") + "\nraise ValueError('late')\n"))
    assert nb.list_modules("my_*") == []


def test_a_duplicate_names_both_files(write):
    file = write("clash.py", GOOD.format(name="se"))
    with pytest.raises(PluginError, match=r"clash\.py:\d+.*'se' is registered twice: .*se\.py:\d+ and .*clash\.py:\d+"):
        plugins.load_path(file)
    assert nb.create_module("se", 64).__class__.__name__ == "SqueezeExcitation"


def test_the_same_file_twice_is_accepted(write):
    file = write("mine.py", GOOD.format(name="my_scale"))
    plugins.load_path(file)
    plugins.load_path(file)
    assert nb.list_modules("my_*") == ["my_scale"]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('name="{name}"', 'name="My Scale"', "lower case"),
        ("dims=(1, 2)", "dims=(3,)", "allowed"),
        ('paper="Someone, A Paper, CVPR 2031"', "paper=None", "paper is None; it is text"),
        ('("locality",)', '("localty",)', "locality"),
        ('"factor": (0.5', '"faktor": (0.5', "faktor"),
        ("channels: int, *,", "width: int, *,", "first argument must be `channels`"),
        ("channels: int, *, factor: float = 1.0", "channels: int, factor: float = 1.0", "keyword-only"),
        ("(nn.Module)", "", "not an nn.Module"),
    ],
)
def test_a_wrong_declaration_says_what_is_allowed(write, old, new, word):
    text = GOOD.replace(old, new).format(name="my_scale")
    with pytest.raises(PluginError, match=word):
        plugins.load_path(write("wrong.py", text))


def test_missing_paths(tmp_path):
    with pytest.raises(PluginError, match="no module file or folder"):
        plugins.load_path(tmp_path / "nowhere")
    with pytest.raises(PluginError, match=r"contains no \.py file"):
        plugins.load_path(tmp_path)


def test_user_files_shadow_nothing(write):
    import json

    plugins.load_path(write("json.py", GOOD.format(name="my_scale")))
    import json as again

    assert again is json
    assert hasattr(again, "loads")


def test_entry_points_load_and_a_broken_one_is_a_problem(monkeypatch, clean_registry):
    class Entry:
        def __init__(self, name, load):
            self.name, self.value, self.load = name, f"pkg:{name}", load

    def register():
        from torch import nn

        class Entered(nn.Identity):
            def __init__(self, channels: int) -> None:
                super().__init__()

        register_module(name="my_entered", dims=(1, 2))(Entered)

    def broken():
        raise ImportError("no such package")

    entries = [Entry("good", lambda: register), Entry("bad", broken)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries)
    monkeypatch.setattr(plugins, "_problems", [])
    with pytest.warns(UserWarning, match="entry point bad"):
        plugins.load_builtin.__wrapped__()
    assert "my_entered" in nb.list_modules()
    assert "no such package" in str(plugins.problems()[0])


def test_listing():
    assert nb.list_modules("se") == ["se"]
    assert nb.list_modules("*attention*", property="Multi-Scale") == sorted(
        nb.list_modules("*attention*", property="multiscale")
    )
    assert "self_attention" not in nb.list_modules(property="complexity")
    with pytest.raises(UnknownNameError, match="locality"):
        nb.list_modules(property="localty")


def test_registry_is_generic():
    registry = Registry[int]("number")
    registry.add("one", 1, origin="a:1", identity="a")
    registry.add("one", 1, origin="a:1", identity="a")
    with pytest.raises(PluginError, match="a:1 and b:2"):
        registry.add("one", 2, origin="b:2", identity="b")
    with pytest.raises(UnknownNameError, match="did you mean 'one'"):
        registry.get("onee")


def test_builtin_classes_have_one_import_name():
    assert type(nb.create_module("se", 8)).__module__ == "nasbench.builtin.modules.channel.se"
