"""Backbones by name, and their slots remembered between processes."""

import subprocess
import sys

import pytest

from nasbench.backbones import STEMS, slot_cache
from nasbench.backbones.discovery import slots
from nasbench.backbones.names import backbone_names, check_backbone_name, is_stem, is_timm, stem_names
from nasbench.errors import PluginError, UnknownNameError


def test_the_stems_are_those_that_are_registered():
    assert set(stem_names()) == set(STEMS)


def test_a_stem_of_the_users_is_one(monkeypatch):
    monkeypatch.setitem(STEMS._entries, "mine", (object, "file.py:1", "file.py:Mine"))
    assert is_stem("mine")
    assert check_backbone_name("mine") == "mine"
    assert "mine" in backbone_names()


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "dlinear"])
def test_a_name_that_is_a_backbone(name):
    assert check_backbone_name(name) == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet19", "resnet18"),
        ("ResNet-18", "resnet18"),
        ("Dlinear", "dlinear"),
        ("resnet18.a1_in1kk", "resnet18.a1_in1k"),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_nearest(name, near):
    assert not is_timm(name)
    with pytest.raises(UnknownNameError, match=f"did you mean.* '{near}'"):
        check_backbone_name(name)


def test_a_file_that_is_not_there_is_no_backbone(tmp_path):
    with pytest.raises(PluginError, match="no file at"):
        check_backbone_name(f"{tmp_path / 'hosts.py'}:build")


def test_remembered_slots_are_those_that_were_found(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fields = ("name", "channels", "size", "layout", "rows_are_series", "dims")
    for size in ((3, 32, 32), (3, 64, 64)):
        found = [tuple(getattr(slot, field) for field in fields) for slot in slots("test_resnet", size)]
        for _ in range(2):  # found, then read back
            remembered = slot_cache.slots_by_name("test_resnet", size)
            assert [tuple(getattr(slot, field) for field in fields) for slot in remembered] == found
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_a_damaged_file_of_slots_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = slot_cache.slots_by_name("test_resnet", (3, 32, 32))
    (file,) = tmp_path.rglob("*.json")
    file.write_text("[{")
    assert slot_cache.slots_by_name("test_resnet", (3, 32, 32)) == found
    assert file.read_text().startswith('[{"name"')


def test_a_function_is_searched_without_timm_once_the_slots_are_known(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slot_cache.slots_by_name("test_resnet", (3, 64, 64))
    code = """import sys, nasbench as nb
nb.search("tiny", evaluate=lambda plan: {"score": float(len(plan))}, objectives={"score": "maximize"}, trials=3,
          sampler="random", report=False, out=sys.argv[1])
print("timm" in sys.modules)"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "False"
