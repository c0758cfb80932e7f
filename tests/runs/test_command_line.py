"""What options and `--set` tell a search, and the command that gives it again."""

import shlex

import pytest

from nasbench.errors import InputError, UnknownNameError
from nasbench.runs.command_line import command_line, command_words, merged
from nasbench.runs.settings import SearchSettings, read_settings


def test_options_and_pairs_become_settings():
    options = {"trials": 3, "time_s": "2m", "reuse": "runs//a/", "controls": False, "seed": None}
    given = merged(options, ["keep = all", "training.epochs=5", "mixup=0.2"])
    assert given == {
        "trials": 3, "time_s": 120.0, "reuse": "runs/a", "controls": False, "keep": "all",
        "training": {"epochs": "5", "mixup": "0.2"},
    }  # fmt: skip
    assert merged({"seed": None}, None) == {}


@pytest.mark.parametrize(
    ("options", "pair", "words"),
    [
        ({}, "epochs", "KEY=VALUE"),
        ({"seeds": 2}, "seeds=3", "seeds is given by an option and by --set seeds=3"),
        ({"controls": False}, "controls=true", "give it once"),
        ({"time_s": "soon"}, "epochs=3", "'soon' is not a duration"),
        ({"trial_timeout_s": ""}, "epochs=3", "--trial-timeout is empty"),
    ],
)
def test_wrong_options_and_pairs(options, pair, words):
    with pytest.raises(InputError, match=words):
        merged(options, [pair])


def test_an_unknown_key_offers_the_nearest_of_search_and_training():
    for given, near in (("epoch", "epochs"), ("trails", "trials")):
        with pytest.raises(UnknownNameError, match=f"did you mean '{near}'"):
            merged({}, [f"{given}=3"])


def test_a_search_by_default_is_spelled_out():
    assert command_words(read_settings({"space": "tiny", "backbone": "a", "task": "b"})[0], {"epochs": 3}) == [
        "nasbench", "search", "tiny", "--backbone", "a", "--task", "b", "--trials", "24", "--sampler", "auto",
        "--seed", "0", "--set", "epochs=3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"controls": False}, ["--no-controls"]),
        ({"pretrained": True}, ["--pretrained"]),
        ({"proxies": ("naswot", "zico")}, ["--proxy", "naswot", "--proxy", "zico"]),
        ({"objectives": {"mse": "", "macs": ""}}, ["--objective", "mse", "--objective", "macs"]),
        ({"covariates": True}, ["--set", "covariates=True"]),
        ({"workers": 2, "time_s": 9.0, "device": "cpu"}, []),  # they do not change what comes of it
    ],
)
def test_a_changed_setting_is_spelled_as_it_is_typed(changed, words):
    base, command = (command_words(SearchSettings(**given), {}) for given in ({}, changed))
    assert shlex.join(words) in shlex.join(command)
    assert len(command) == len(base) + len(words)


def test_how_a_setting_is_typed_fits_its_type():
    spelt = [how.option for how in map(command_line, SearchSettings.model_fields) if how.option]
    assert len(spelt) == len(set(spelt))
    for name, about in SearchSettings.model_fields.items():
        how = command_line(name)
        assert how.repeated == (bool(how.option) and about.default in ((), {})), name
        assert not how.off or about.default is True, f"{name}: a flag that is off by default needs no other"
        assert not (about.default is True and how.option) or how.off, f"{name} cannot be turned off"
