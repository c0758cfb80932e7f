"""Wrong values of every option of every command are answered in one dialect. A new option is covered by itself."""

import re

import pytest
import typer
import typer.main

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError, UnknownNameError
from nasbench.runs.settings import SearchSettings
from nasbench.tasks.recipe import Recipe, choices_of

GROUP = typer.main.get_command(cli.app)
NEEDED = {
    "check": ["own.py"],
    "compare": ["run", "run"],
    "export": ["run"],
    "fingerprint": ["se"],
    "measure": ["test_resnet"],
    "power": ["run"],
    "profile": ["test_resnet"],
    "report": ["run"],
    "show": ["se"],
    "slots": ["test_resnet"],
    "suggest": ["se"],
    "train": ["run", "--trial", "0", "--epochs", "1"],
}
"""What a command needs besides the option under test."""

WITH = {
    "--neck": ["--task", "scenes-segment"],
    "--head": ["--task", "scenes-segment"],
    "--set": ["--task", "scenes-segment"],
    "--fill": ["--task", "digits-rows"],
}
"""What an option needs, in every command."""

INSTEAD = {("profile", "--run"): ["--front"]}
"""What an option needs instead of what its command needs."""

ANY = {"--out", "--figure"}
"""Options that accept any text. `test_outputs.py` has the files that they name."""

OF_DATA = {"--series", "--target", "--groups"}
"""Options whose values depend on the data."""


def options(numbers):
    """Yield each option with a value of every command, that of a number or that of a text."""
    for command in sorted(GROUP.commands):
        for option in GROUP.commands[command].get_params(typer.Context(GROUP.commands[command])):
            annotation = option.get_runtime_param().annotation
            if option.param_type_name != "option" or annotation is bool or option.opts[0] in ANY | OF_DATA:
                continue
            about = SearchSettings.model_fields.get(option.name)
            known = {annotation, *getattr(annotation, "__args__", ())} | ({about.annotation} if about else set())
            known |= set(getattr(about.annotation, "__args__", ())) if about else set()
            if bool({int, float} & known) == numbers:
                yield pytest.param(command, option.opts[0], id=f"{command} {option.opts[0]}")


@pytest.fixture
def refused(nasbench, tmp_path):
    """Run a command that must end with exit code 4, and return what it says."""
    (tmp_path / "own.py").write_text("def build(num_classes):\n    return None\n")

    def run(command, option, *value):
        needed = INSTEAD.get((command, option), [*NEEDED.get(command, []), *WITH.get(option, [])])
        code, out, err = nasbench(command, *needed, option, *value)
        assert (code, out) == (4, ""), err
        assert not re.search("Traceback|Input should be|Invalid value|Value error", err), err
        assert not (tmp_path / "runs").exists()
        return err

    return run


@pytest.mark.parametrize(("command", "option"), [*options(numbers=False)])
def test_a_wrong_text_is_repeated_in_the_message(refused, command, option):
    assert "zzqx" in refused(command, option, "zzqx")


@pytest.mark.parametrize(("command", "option"), [*options(numbers=True)])
def test_a_wrong_number_is_answered_with_what_is_allowed(refused, command, option):
    assert re.search(rf"{option}|zzqx.*(expected|duration)", refused(command, option, "zzqx"))
    assert "-3" in refused(command, option, "-3") or option == "--scale"


CHOICES = [
    (model, name, choice)
    for model in (SearchSettings, Recipe)
    for name, about in model.model_fields.items()
    for choice in choices_of(about)
]


@pytest.mark.parametrize(("model", "name", "choice"), CHOICES)
def test_a_choice_in_capitals_finds_the_choice(model, name, choice, tmp_path):
    given = {name: choice.upper()} if model is SearchSettings else {"training": {name: choice.upper()}}
    file = tmp_path / "run.yaml"
    file.write_text("".join(f"{key}: {str(value).replace(chr(39), '')}\n" for key, value in given.items()))
    for call in ({"config": file}, given):
        with pytest.raises(InputError, match=f"{choice.upper()}'; did you mean '{choice}'\\? known: "):
            nb.search(backbone="test_resnet", out=tmp_path / "run", **call)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("epoch: 3", r"did you mean 'epochs'.*write `training: \{epochs: 3\}`"),
        ("epochs: 3", r"write `training: \{epochs: 3\}`"),
        ("lr: 0.1", r"did you mean 'learning_rate'.*write `training: \{learning_rate: 0.1\}`"),
        ("learning-rate: 0.1", r"write `training: \{learning_rate: 0.1\}`"),
        ("training: {epoch: 3}", "no training setting named 'epoch'; did you mean 'epochs'"),
        ("training: {trials: 3}", "trials is no training setting; it belongs outside `training`; write `trials: 3`"),
        ("modules: 3", "expected a list"),
        ("halving: 1", "expected 0 for no halving, or a whole number from 2"),
        ("effect: .inf", "expected a finite number"),
        ("trials: {a", "line 2, column 1: expected"),
        ("x: 1\n\ty: 1", "line 2, column 1: found character"),
        ("plans: {}", "nothing to compare"),
        ("device: cpu:3", "no device named 'cpu:3'; did you mean 'cpu'"),
        ("constraints: [params<=0x]", "a factor of the bare backbone's value must be above 0"),
        ("constraints: [params<=-1]", "params is above 0 for every plan"),
        ("training: {trial: 3}", "write `trials: 3`"),
        ("trial: 3", "did you mean 'trials'"),
        ("training: 3", "expected a mapping"),
        ("plans: [{stage1: SE}]", "stage1: no module named 'SE'; did you mean 'se'\\?"),
    ],
)
def test_a_wrong_key_or_value_in_a_file_is_answered_with_what_is_right(given, words, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(given + "\n")
    with pytest.raises(InputError, match=words):
        nb.search(backbone="test_resnet", task="digits", out=tmp_path / "run", config=file)


@pytest.mark.parametrize(
    "call",
    [
        lambda: nb.create_module("SE", channels=8),
        lambda: nb.insert("test_resnet", "SE", input_size=(3, 32, 32)),
        lambda: nb.search({"variants": ["SE"]}, backbone="test_resnet"),
        lambda: nb.search(plans=["stage1=SE"], backbone="test_resnet"),
        lambda: nb.fingerprint("SE"),
    ],
)
def test_a_module_in_capitals_finds_the_module_in_python(call):
    with pytest.raises(InputError, match="did you mean 'se'\\?"):
        call()


def test_a_name_that_differs_only_in_case_is_the_only_suggestion():
    error = UnknownNameError("module", "SE", ["se", "muse", "sk"])
    assert str(error) == "no module named 'SE'; did you mean 'se'? known: muse, se, sk"


def test_weights_from_two_places_are_refused(refused):
    words = refused("search", "--backbone", "resnet18", "--checkpoint", "own.py", "--pretrained")
    assert "checkpoint=own.py and pretrained" in words


def test_a_wrong_value_in_a_file_is_found_under_an_option(refused, tmp_path):
    (tmp_path / "wide.yaml").write_text("size: 32px\n")
    assert "size='32px' (wide.yaml): expected" in refused("search", "--size", "32", "--config", "wide.yaml")


@pytest.mark.parametrize("option", ["--objective", "--latency-profile", "--log", "--modules", "--task", "--trials"])
def test_an_empty_value_is_refused(refused, option):
    assert f"{option} is empty" in refused("search", option, "")


def test_options_and_arguments_that_are_none(refused, nasbench):
    assert "no option named '--trails'; did you mean '--trials'" in refused("search", "--trails", "3")
    assert "3,650 days" in refused("search", "--time", "1000000h")
    assert "--front needs --run RUN" in refused("profile", "--front")
    assert "must end in .svg or .png or .pdf" in refused("fingerprint", "--figure", "x.xyz")
    for file, words in ((".", "is a folder; give one of its files"), ("", "name of a file is empty")):
        code, _, err = nasbench("check", file)
        assert code == 4
        assert words in err
    assert "did you mean 'build'" in nasbench("check", "own.py:biuld")[2]


def test_a_figure_gets_its_folder(nasbench, tmp_path):
    assert nasbench("fingerprint", "se", "--size", "4x4", "--inputs", "1", "--figure", "new/se.svg")[0] == 0
    assert (tmp_path / "new" / "se.svg").is_file()
