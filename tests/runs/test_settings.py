import pytest
from pydantic import ValidationError

from nasbench import cli
from nasbench.errors import InputError, SpaceError, UnknownNameError
from nasbench.objectives import conventional_direction, directions, parse_constraint, trained_constraint
from nasbench.runs.command_line import command_words, merged
from nasbench.runs.settings import (
    SAMPLERS,
    SearchSettings,
    differences,
    ignored_notes,
    meaning,
    read_settings,
    recorded_settings,
)
from nasbench.study.problem import make_problem
from nasbench.tasks.creation import unused_options
from nasbench.tasks.recipe import Recipe


def test_values_and_their_origins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("trials: 6\nseed: 3\ntraining: {epochs: 2}\n")
    settings, origins = read_settings({"seed": 5, "task": None}, file)
    assert (settings.trials, settings.seed, settings.training) == (6, 5, {"epochs": 2})
    assert (origins["trials"], origins["seed"], origins["sampler"]) == (str(file), "command line", "default")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"trials": 0}, "trials=0"),
        ({"trials": "many"}, "trials"),
        ({"sampler": "magic"}, "sampler .* tpe"),
        ({"seed": -1}, "seed"),
        ({"objectives": ["macs", "macs"]}, "twice"),
        ({"fill": "zero"}, "linear"),
    ],
)
def test_wrong_values_name_key_and_origin(given, word):
    with pytest.raises(InputError, match=word):
        read_settings(given)


def test_unknown_keys_offer_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'trials'"):
        read_settings({"trails": 3})
    file = tmp_path / "run.yaml"
    file.write_text("- 1")
    with pytest.raises(InputError, match="mapping"):
        read_settings({}, file)
    with pytest.raises(InputError, match="cannot read"):
        read_settings({}, tmp_path / "nowhere.yaml")


OF_SERIES = {
    "lookback": 24, "horizon": 6, "fill": "linear", "covariates": True, "dates": "dayfirst", "series": ["a"],
    "target": "a",
}  # fmt: skip


@pytest.mark.parametrize("task", ["digits", "folder:none", None])
@pytest.mark.parametrize("name", OF_SERIES)
def test_a_setting_of_series_with_a_task_of_images_is_refused(task, name):
    given = {"space": "tiny", "backbone": "test_resnet", "task": task, name: OF_SERIES[name]}
    with pytest.raises(InputError, match=rf"task '{task or 'digits'}' does not use {name}; leave out {name}") as caught:
        make_problem(read_settings(given)[0])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [("co2", "size", 32), ("csv:none.csv", "size", 32), ("co2", "dates", "dayfirst"), ("co2", "fill", "forward")],
)
def test_a_setting_that_a_task_of_series_does_not_use_is_refused(task, name, value):
    with pytest.raises(InputError, match=rf"task '{task}' does not use {name}; leave out {name}"):
        make_problem(read_settings({"backbone": "dlinear", "task": task, name: value})[0])


def test_a_users_task_uses_the_options_that_its_constructor_names(tmp_path):
    file = tmp_path / "task.py"
    file.write_text("class Task:\n    def __init__(self, size=8, lookback=3):\n        pass\n")
    assert unused_options(str(file), ["size", "lookback", "dates", "target"]) == ["dates", "target"]
    assert unused_options("csv:none.csv", OF_SERIES) == []


def test_the_command_refuses_an_option_of_series_with_images(tmp_path, capsys):
    call = ["search", "tiny", "--backbone", "test_resnet", "--task", "digits", "--out", str(tmp_path / "r")]
    assert cli.main([*call, "--dates", "dayfirst", "--target", "a"]) == 4
    assert "task 'digits' does not use dates, target; leave out dates, target" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_settings_of_earlier_versions_are_ignored():
    settings, origins = read_settings({"finalists": "all", "trials": 3}, origin="python")
    assert (settings.trials, origins["finalists"]) == (3, "python")
    assert ignored_notes(origins)[0].startswith("the setting finalists no longer exists")
    assert merged({}, ["finalists=all"]) == {"finalists": "all"}
    assert SearchSettings.model_validate({"finalists": "front", "seeds": 3}).seeds == 3


def test_recorded_settings_that_no_reader_needs_are_ignored_with_a_note():
    given = {"trials": 3, "bogus": 3, "keep": "nonsense", "workers": "many", "finalists": "front"}
    settings, notes = recorded_settings(given)
    assert (settings.trials, settings.keep, settings.workers) == (3, "front", 1)
    assert [note.partition(" is ")[0] for note in notes] == [
        "the setting bogus",
        "the setting keep='nonsense'",
        "the setting workers='many'",
    ]
    with pytest.raises(ValidationError) as caught:
        recorded_settings(given | {"seed": "x"})
    assert [error["loc"] for error in caught.value.errors()] == [("seed",)]


def test_settings_survive_their_file():
    settings, _ = read_settings({"space": {"variants": ["se"]}, "constraints": ["params<=1.1x"], "objectives": ["mse"]})
    assert SearchSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_a_list_may_be_typed_with_commas():
    assert read_settings({"proxies": "naswot, zico"})[0].proxies == ("naswot", "zico")
    assert read_settings({"modules": ["a.py"]})[0].modules == ("a.py",)


def test_every_setting_says_what_it_means():
    for name, about in SearchSettings.model_fields.items():
        assert about.description, name
        assert about.description == about.description.strip(" ."), f"{name}: a phrase; the help makes it a sentence"


def test_a_meaning_names_the_choices():
    fields = SearchSettings.model_fields
    assert meaning(fields["sampler"]).endswith(f"({', '.join(SAMPLERS)})")
    assert meaning(fields["fill"]).endswith("(linear, forward)")  # a choice that may be None
    assert meaning(fields["trials"]) == fields["trials"].description


def test_differences_name_the_leaf():
    old = {"training": {"epochs": 5, "batch_size": 32}, "seed": 0}
    new = {"training": {"epochs": 3, "batch_size": 32}, "seed": 0, "task": "digits"}
    assert differences(old, new) == ["task: 'unset' there, 'digits' now", "training.epochs: 5 there, 3 now"]
    assert differences({"a": [1]}, {"a": (1,)}) == []


def test_directions():
    assert directions(["accuracy", "macs"], {"accuracy": "maximize"}) == {"accuracy": "maximize", "macs": "minimize"}
    assert directions({"f1": "maximize"}, {}) == {"f1": "maximize"}
    with pytest.raises(UnknownNameError, match="accuracy"):
        directions(["acuracy"], {"accuracy": "maximize"})
    for wrong in ([], ["macs", "macs"], {"macs": "up"}):
        with pytest.raises(InputError):
            directions(wrong, {})
    assert conventional_direction("val_accuracy") == "maximize"
    assert conventional_direction("mse") == conventional_direction("latency_ms") == "minimize"
    assert conventional_direction("score") is None


def test_constraints_by_hand():
    relative = parse_constraint("params <= 1.1x")
    assert relative.holds(110, {"params": 100})
    assert not relative.holds(111, {"params": 100})
    assert relative.reason(111, {"params": 100}) == "params 111 breaks params<=1.1x (limit 110)"
    absolute = parse_constraint("macs<5e8")
    assert not absolute.holds(5e8, {})
    assert parse_constraint("accuracy>=0.9", ["accuracy"]).holds(0.9, {})
    for wrong in ("params", "params<=", "params<=x", "1<params", "params==3", "params<=1..2", "lat<=1e400", "lat<=inf"):
        with pytest.raises(SpaceError, match="malformed"):
            parse_constraint(wrong)
    for wrong in ("lat<=-1x", "lat>=0x"):
        with pytest.raises(SpaceError, match=r"a factor .* must be above 0, such as lat.=1\.1x"):
            parse_constraint(wrong)
    with pytest.raises(UnknownNameError, match="'params'"):
        trained_constraint("parms<=3")


def test_only_the_costs_of_trained_models_are_above_0():
    """A function can return macs of 0 or below, for example relative ones."""
    for bound in ("macs<=0", "macs<0", "macs<=-2"):
        assert parse_constraint(bound).holds(-3.0, {})
        with pytest.raises(SpaceError, match="macs is above 0 for every plan"):
            trained_constraint(bound)
    assert trained_constraint("naswot<=0", ["naswot"]).holds(-1.0, {})


@pytest.mark.parametrize("given", ["trials: true", "time_s: true", "latency_s: false", "training: {epochs: true}"])
def test_a_boolean_is_no_number(tmp_path, given):
    file = tmp_path / "run.yaml"
    file.write_text(given)
    with pytest.raises(InputError, match=r"(True|False).*expected a number, not (true|false)"):
        Recipe().with_settings(read_settings({}, file)[0].training)


@pytest.mark.parametrize("text", ["trials: 3\nseed: 1\ntrials: 4\n", "training: {epochs: 2, epochs: 3}\n"])
def test_a_key_that_is_given_twice(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"not valid YAML: '(trials|epochs)' is given twice, again in line"):
        read_settings({}, file)


def test_the_columns_of_a_file_of_series():
    given = merged({"series": ["a,b", "c"], "target": "b", "dates": "dayfirst"}, [])
    settings, _ = read_settings(given)
    assert (settings.series, settings.target, settings.dates) == (("a", "b", "c"), "b", "dayfirst")
    words = command_words(settings, {})
    assert "--dates dayfirst --series a --series b --series c --target b" in " ".join(words)
    with pytest.raises(UnknownNameError, match="dayfirst"):
        read_settings({"dates": "dayfrist"})
