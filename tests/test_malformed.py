"""Every reader of what a stranger may hand over ends in a clear error or in a good result, never in a traceback.

For each reader a valid file is mutated in its own structure; exit code 4 stands for `InputError` and its kin.
"""

# ruff: noqa: E501, PT017

import html
import json
import random
import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from support.malformed import YAML_TRICKS, mutated, paths, png, special, tar_of, torn

import nasbench as nb
from nasbench import cli
from nasbench.errors import NasbenchError, RunError
from nasbench.library.plan import BARE, Plan
from nasbench.measurement.latency.device_profile import load_device_profile
from nasbench.report import pictures
from nasbench.report.assembly import build
from nasbench.report.headline import busy_load
from nasbench.report.page import page_of
from nasbench.report.plotting import Picture
from nasbench.runs.damage import damage_of, missing_of
from nasbench.runs.run import create_run, load_run
from nasbench.runs.settings import read_settings
from nasbench.spaces import load_space
from nasbench.tasks import create_task

AT_LEAST = 50


class Tally:
    """Counts what a reader made of its inputs, and fails on anything but a good result or a clear error."""

    def __init__(self) -> None:
        self.refused = self.taken = 0

    def read(self, reader, given, what):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader(given)
        except NasbenchError as error:
            assert error.exit_code in (4, 5), f"{what}: exit code {error.exit_code}: {error}"
            assert 10 < len(str(error)) < 4000, f"{what}: {error}"
            self.refused += 1
        except Exception as error:
            pytest.fail(f"{what}: {type(error).__name__}: {error}")
        else:
            self.taken += 1

    def check(self, least=AT_LEAST, faults=None):
        assert self.refused + self.taken >= least
        assert self.refused >= (least // 3 if faults is None else faults), "too few of the mutations were faults"


def files(document, folder, ending, seed, count=45):
    """Yield mutated YAML or JSON files, then torn ones."""
    rng = random.Random(seed)
    write = yaml.safe_dump if ending == "yaml" else json.dumps
    whole = write(document).encode()
    for number in range(count):
        file = folder / f"{number}.{ending}"
        file.write_bytes(write(mutated(document, rng)).encode("utf-8", "surrogatepass"))
        yield file
    for number in range(15):
        file = folder / f"torn{number}.{ending}"
        file.write_bytes(torn(whole, rng))
        yield file


SETTINGS = {
    "space": "five-properties", "backbone": "test_resnet", "task": "digits", "trials": 4, "objectives": ["accuracy", "macs"],
    "constraints": ["params<=1.1x"], "seed": 1, "seeds": 2, "size": 32, "modules": [], "keep": "all",
    "training": {"epochs": 1, "learning_rate": 0.001}, "latency_s": 0,
}  # fmt: skip


def test_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tally = Tally()
    for file in files(SETTINGS, tmp_path, "yaml", 0):
        tally.read(lambda f: read_settings({}, f), file, file.read_bytes()[:300])
    for number, text in enumerate(YAML_TRICKS):
        file = tmp_path / f"trick{number}.yaml"
        file.write_bytes(text)
        tally.read(lambda f: read_settings({}, f), file, text[:80])
    tally.check(60)
    assert not (tmp_path / "pwned").exists()


def test_a_search_refuses_before_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1)
    for number in range(12):
        document = {**SETTINGS, rng.choice(list(SETTINGS)): rng.choice([{"a": [1]}, [[1]], {"x": None}])}
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(document))
        assert cli.main(["search", "--config", str(file), "--out", "run"]) == 4, document
        assert "error:" in capsys.readouterr().err
        assert not Path("run").exists()


SPACE = {
    "name": "s", "description": "d", "slots": ["stages"], "compositions": ["none", "a", "a >> b", "gate(a, b)"],
    "variants": ["se", "eca(kernel=3)", {"property": "globality", "pattern": "*attention*", "cost_order": 1}],
    "distinct_properties": True,
}  # fmt: skip


def test_spaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slots = nb.slots("test_resnet", input_size=(3, 32, 32))
    tally = Tally()
    for file in files(SPACE, tmp_path, "yaml", 2, count=90):
        tally.read(lambda f: load_space(f).resolve(slots).count, file, file.read_bytes()[:300])
    for number, text in enumerate(YAML_TRICKS):
        file = tmp_path / f"trick{number}.yaml"
        file.write_bytes(text)
        tally.read(lambda f: load_space(f).resolve(slots).count, file, text[:80])
    tally.check(100)
    assert not (tmp_path / "pwned").exists()


PLAN = {"stage1": "eca(kernel=3) >> se", "stage2.block1": "gate(se, eca) + cbam", "stage3": "none"}
PIECES = (
    "(", ")", ">>", "+", ",", "=", "'", '"', "#", "\\", "se", "gate", "__import__('os')", "**x", "*x", "lambda: 1", ".x", "[0]",
    "\n", "é", "9" * 50, "se(reduction=0)", "se(reduction=-4)", "se(reduction='a')", "none(1)", "a", ":=", "f'{1}'", "~", "if",
)  # fmt: skip


def test_plans():
    rng = random.Random(3)
    tally = Tally()
    for _ in range(60):
        tally.read(Plan.of, mutated(PLAN, rng), "a plan")
    for _ in range(140):
        slot, text = rng.choice(list(PLAN.items()))
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(PIECES) + text[at + rng.choice((0, 0, 1, 5)) :]
        tally.read(lambda t: nb.insert("test_resnet", t, input_size=(3, 32, 32)), {slot.split(".")[0]: text}, text)
        tally.read(Plan.of, json.dumps({slot: text})[rng.choice((0, 0, 1)) :], text)
    tally.read(Plan.of, "se >> " * 3000 + "se", "long")
    tally.read(Plan.of, "gate(" * 300 + "se", "deep")
    tally.check(300)


SEARCH = {
    "space": {"variants": ["se", "eca"], "slots": ["stage1"], "compositions": ["none", "a"]},
    "backbone": "test_resnet", "task": "digits", "trials": 3, "seeds": 2, "size": 32, "keep": "all", "latency_s": 0,
    "training": {"epochs": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_data):
    return nb.search(**SEARCH, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds", 5), ("seeds", {"search": "a"}), ("packages", ["torch"]), ("device", "cpu"), ("git", 7)],
)
def test_an_environment_that_no_search_wrote(run, tmp_path, key, value):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    file = folder / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    whole, page = page_of(load_run(run.path), {}, {}), page_of(load_run(folder), {}, {})
    (told,) = set(page.notes) - set(whole.notes)
    assert told.startswith(f"Left out: the versions, machine and seeds, because {file} is damaged: {key}")
    assert told.endswith("; restore the file from a copy of the run, or delete it.")
    missing = {name for name, _ in whole.facts} - {name for name, _ in page.facts}
    assert missing - {"git"} == {"seeds", "versions", "machine"}
    assert (page.answer, page.tables) == (whole.answer, whole.tables)


@pytest.mark.parametrize(("commit", "facts"), [(None, []), ("1234abc+dirty", [("git", "1234abc+dirty")])])
def test_a_search_outside_of_a_repository_has_no_commit(run, tmp_path, commit, facts):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    file = folder / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"git": commit}))
    assert [fact for fact in page_of(load_run(folder), {}, {}).facts if fact[0] == "git"] == facts


def test_a_configuration_with_settings_that_no_reader_needs(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["settings"] |= {"bogus": 3, "keep": "nonsense", "workers": "many"}
    config |= {"created": 5, "origins": {"sampler": 5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    opened = load_run(folder)
    assert opened.summary() == load_run(run.path).summary() | {"created": ""}
    told = damage_of(opened)
    assert len(told) == 3
    for name in ("bogus", "keep", "workers"):
        (line,) = (line for line in told if f"the setting {name}" in line)
        assert line.startswith(f"In {folder / 'config.yaml'}, ")
        assert line in page_of(opened, {}, {}).notes
    config["settings"]["seed"] = "x"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match="is damaged: seed"):
        load_run(folder)


def damaged(folder, place):
    """Damage a file of a run, and return it."""
    if place == "items":
        file = min((folder / "items").iterdir())
        np.save(file, np.load(file)[:-1])  # a valid file with an item less
    else:
        file = folder / place
        file.parent.mkdir(exist_ok=True)
        file.write_text("[")
    return file


OPTIONAL = {
    "environment.json": "the versions, machine and seeds",
    "data.json": "what was read of the data",
    "test.json": "the metrics on the test split",
    "figures/index.json": "pictures of the last report that were not made again",
    "latency/front-0.json": "the measured latency of the front",
    "latency/slots-0.json": "the measured latency slot by slot",
    "items": "the values of single validation items of a training",
}


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("place", OPTIONAL)
def test_a_damaged_file_costs_only_its_part_of_the_report(reported, tmp_path, capfd, monkeypatch, place):
    """The page and the command name it. Its neighbours stay as they are."""
    monkeypatch.setattr(pictures, "_drawn", lambda *_: [])  # pictures take time, and are not read here
    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    file = damaged(folder, place)
    before = file.read_bytes()
    assert cli.main(["report", str(folder)]) == 0
    err = capfd.readouterr().err
    line = f"Left out: {OPTIONAL[place]}, because "
    for text in (err, html.unescape((folder / "report.html").read_text())):
        assert text.count("Left out: ") == text.count(line) == 1
        told = text[text.index(line) :].split("\n")[0]
        assert str(file) in told
        assert "restore the file from a copy of the run, or delete it" in told
    assert file.read_bytes() == before
    run = load_run(folder)
    assert run.finalists()["plan"].tolist() == load_run(reported).finalists()["plan"].tolist()
    assert load_run(folder).task().splits == load_run(reported).task().splits


@pytest.fixture(scope="module")
def reported(run, tmp_path_factory):
    """A run with its test metrics, but with few of its weights and without pictures."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(run.path, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_drawn", lambda *_: [])
        build(load_run(folder))
    return folder


def test_a_damaged_measurement_of_the_search_costs_only_whether_the_machine_was_busy(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    file, copy = damaged(folder, "latency/profile-0.json"), load_run(folder)
    assert busy_load(copy) is None
    assert f"the search's measurement of latency, because latency measurement {file} is not valid" in damage_of(copy)[0]


def test_other_commands_name_a_damaged_file_too(run, tmp_path, capfd):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    file = damaged(folder, "items")
    for command in (["power", folder], ["compare", run.path, folder]):
        assert cli.main(list(map(str, command))) == 0
        assert (
            f"run: Left out: the values of single validation items of a training, because {file} is damaged: it has"
            in (capfd.readouterr().err)
        )


def test_a_resumed_search_names_a_damaged_file(run, tmp_path):
    folder, told = tmp_path / "run", []
    shutil.copytree(run.path, folder)
    file = damaged(folder, "items")
    nb.search(**SEARCH, out=folder, on_event=lambda event: told.append(event.message))
    (line,) = [message for message in told if "eft out" in message]
    assert f"because {file} is damaged: it has 63 items, but other trainings have 64" in line


def test_a_search_names_a_damaged_file_of_the_run_that_it_reuses(run, tmp_path):
    folder, told = tmp_path / "earlier", []
    shutil.copytree(run.path, folder)
    file = damaged(folder, "items")
    nb.search(**SEARCH, reuse=str(folder), out=tmp_path / "run", on_event=lambda event: told.append(event.message))
    assert (
        sum(
            f"earlier: Left out: the values of single validation items of a training, because {file}" in m for m in told
        )
        == 1
    )


def test_every_damaged_file_of_a_few_is_named_and_of_many_five(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    for file in (folder / "items").iterdir():
        file.write_text("[")
    for place in ("environment.json", "data.json"):
        damaged(folder, place)
    count = 2 + len(list((folder / "items").iterdir()))
    assert count == 8  # three plans with two seeds
    notes = [note for note in page_of(load_run(folder), {}, {}).notes if "eft out" in note]
    assert [note[:9] for note in notes] == ["Left out:"] * 5 + ["3 more fi"]


def look(folder):
    found = load_run(folder)
    found.trials(), found.finalists(), found.front(), found.environment, found.settings, page_of(found, {}, {})


def test_run_folders(run, tmp_path):
    rng = random.Random(4)
    tally = Tally()
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    environment = json.loads((run.path / "environment.json").read_text())

    def copied(number):
        folder = tmp_path / str(number)
        shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("models", "figures"))
        return folder

    for number in range(40):
        folder = copied(f"c{number}")
        (folder / "config.yaml").write_text(yaml.safe_dump(mutated(config, rng)))
        tally.read(look, folder, (folder / "config.yaml").read_bytes()[:200])
    for number in range(10):
        folder = copied(f"e{number}")
        text = json.dumps(mutated(environment, rng)).encode()
        (folder / "environment.json").write_bytes(text if number % 2 else torn(text, rng))
        tally.read(look, folder, "environment.json")
    lines = (run.path / "journal.log").read_bytes().splitlines(keepends=True)
    for number in range(30):
        folder = copied(f"j{number}")
        at = rng.randrange(len(lines))
        line = (
            torn(lines[at], rng)
            if number % 3 == 0
            else json.dumps(mutated(json.loads(lines[at]), rng)).encode() + b"\n"
        )
        (folder / "journal.log").write_bytes(b"".join([*lines[:at], line, *lines[at + 1 :]]))
        tally.read(look, folder, (at, line[:200]))
    tally.check(80, 20)  # many of them are in parts of config.yaml that no reader needs


MISSING = {
    "environment.json": "the versions, machine and seeds",
    "data.json": "what was read of the data",
    "items": "the values of single validation items",
    "latency": "the raw samples of latency",
}


def test_a_missing_file_is_named_with_what_the_report_loses(reported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "_drawn", lambda *_: [])
    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    assert missing_of(load_run(folder)) == ()
    create_run(folder, load_run(folder).config, {}).journal.record_latency({BARE.hash: {"latency_ms": 1.0}})
    for place in MISSING:
        file = folder / place
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
    with pytest.warns(UserWarning, match="Left out: ") as warned:
        build(load_run(folder))
    page = html.unescape((folder / "report.html").read_text())
    lines = [
        f"Left out: {what}, because {folder / place} is missing; restore it from a copy of the run."
        for place, what in MISSING.items()
    ]
    assert [str(each.message) for each in warned] == lines
    assert all(page.count(line) == 1 for line in lines)
    assert "? threads" not in page


@pytest.mark.parametrize("place", ["figures/index.json", "front.csv", "tables", "figures"])
def test_what_is_in_the_way_of_a_report_is_named(reported, tmp_path, capsys, monkeypatch, place):
    """A folder where the report writes a file, or a file where it makes a folder."""
    if place == "figures/index.json":
        one = Picture("", "", "", name="one")
        monkeypatch.setattr(pictures, "_drawn", lambda _, models, index, omissions: index.add("front", [one]) or [])
    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    there = folder / place
    if there.suffix:
        there.unlink(missing_ok=True)
        there.mkdir(parents=True)
    else:
        shutil.rmtree(there, ignore_errors=True)
        there.write_text("")
    assert cli.main(["report", str(folder)]) == 4
    err = capsys.readouterr().err
    assert f"cannot write the report into {folder}: {there}" in err
    assert "is in the way" in err
    assert "move it to another place" in err
    assert "--out" not in err


def test_items_and_weights_are_data_not_code(run, tmp_path):
    """A pickle inside an .npy file is refused; so are weights that are no safetensors."""

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "pwned",)

    folder = tmp_path / "copy"
    shutil.copytree(run.path, folder)
    for file in (folder / "items").glob("*.npy"):
        np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    for file in (folder / "models").glob("*"):
        file.write_bytes(torn(file.read_bytes(), random.Random(0)))
    tally = Tally()
    tally.read(look, folder, "items")  # its page is made without them
    number = int(run.trials()["number"].max())
    tally.read(lambda f: load_run(f).build(number), folder, "weights")
    assert (tally.taken, tally.refused) == (1, 1)
    assert not (tmp_path / "pwned").exists()


def test_series(tmp_path):
    rng = random.Random(5)
    rows = 120
    dates = pd.date_range("2020-01-01", periods=rows, freq="h")
    frame = pd.DataFrame({"date": dates, "a": np.arange(rows) * 1.5, "b": np.sin(np.arange(rows))})
    lines = frame.to_csv(index=False).splitlines()
    tally = Tally()
    for number in range(75):
        changed = list(lines)
        at = rng.randrange(len(changed))
        cells = changed[at].split(",")
        kind = number % 8
        if kind < 4:
            cells[rng.randrange(len(cells))] = rng.choice(
                ["", "x", "nan", "inf", "-inf", "1e999", "2020-13-45", "=cmd()", '"', "9" * 400, "1;2", "\x00", "true"]
            )
            changed[at] = ",".join(cells)
        elif kind == 4:
            changed[at] = ",".join(cells[:-1] if number % 16 < 8 else [*cells, "7"])
        elif kind == 5:
            changed = changed[: rng.randrange(8)]
        elif kind == 6:
            changed[1:] = rng.sample(changed[1:], len(changed) - 1)
        else:
            changed[at : at + 1] = [changed[at]] * 3
        file = tmp_path / f"{number}.csv"
        file.write_text("\n".join(changed) + "\n")
        tally.read(
            lambda f: create_task(f"csv:{f}", lookback=8, horizon=2),
            file,
            changed[at % len(changed) if changed else 0 :][:2],
        )
    whole = "\n".join(lines).encode()
    for number in range(15):
        file = tmp_path / f"torn{number}.csv"
        file.write_bytes(torn(whole, rng))
        tally.read(lambda f: create_task(f"csv:{f}", lookback=8, horizon=2), file, "torn")
    tally.check(60)


def test_image_tars(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(6)
    good = [(f"{name}/{number}.png", png()) for name in "ab" for number in range(8)]
    huge = png()
    huge = huge[:16] + (60000).to_bytes(4, "big") + (60000).to_bytes(4, "big") + huge[24:]  # a header that lies
    strange = [
        ("../../escape/x.png", png()), ("/etc/x.png", png()), ("a/../../b/x.png", png()), ("x.png", png()), ("a/x.txt", b"hi"),
        ("a/x.png", b""), ("a/x.png", b"not an image"), ("a/x.png", png()[:40]), ("a/x.png", huge), ("a/x.png", png(1, 1)),
        ("a/x.png", png(3, 900)), ("a/é.png", png(mode="L")), ("a/" + "x" * 300 + ".png", png()), ("a/b/c/x.png", png()),
        (special("a/link.png", tarfile.SYMTYPE, "/etc/passwd"), b""), (special("a/hard.png", tarfile.LNKTYPE, "a/0.png"), b""),
        (special("a/pipe.png", tarfile.FIFOTYPE), b""), (special("a/device.png", tarfile.CHRTYPE), b""),
        (special("a/link2.png", tarfile.SYMTYPE, "a/link2.png"), b""), ("\x01/x.png", png()), ("a/x.png", png(mode="P")),
    ]  # fmt: skip
    tally = Tally()

    def read(file):
        task = create_task(f"tar:{file}", size=8)
        for split in ("val", "test"):
            list(task.eval_batches(split, 4))
        list(task.train_batches(4, seed=0, epoch=1))

    for number, member in enumerate(strange):
        for form, members in (("beside", [*good, member]), ("alone", [member])):
            file = tmp_path / f"{number}-{form}.tar"
            file.write_bytes(tar_of(members))
            tally.read(read, file, (member[0], form))
    whole = tar_of(good)
    for number in range(30):
        file = tmp_path / f"torn{number}.tar"
        file.write_bytes(torn(whole, rng))
        tally.read(read, file, "torn")
    tally.check(60)
    assert not (tmp_path.parent / "escape").exists()


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    from nasbench.measurement.latency.space_profiler import profile_device

    out = tmp_path_factory.mktemp("profile") / "p.json"
    space = load_space({"variants": ["se"], "slots": ["stage1"], "compositions": ["none", "a"]})
    profile_device("test_resnet", space, out, input_size=(3, 32, 32), device="cpu", time_s=1.0)
    return out


def test_device_profiles(profile, tmp_path):
    document = json.loads(profile.read_text())
    space = load_space({"variants": ["se"], "slots": ["stage1"], "compositions": ["none", "a"]})
    resolved = space.resolve(nb.slots("test_resnet", input_size=(3, 32, 32)))
    tally = Tally()

    def read(file):
        found = load_device_profile(file)
        found.check("test_resnet", (3, 32, 32), resolved)
        found.predict(Plan.of({"stage1": "se"}))

    for file in files(document, tmp_path, "json", 7, count=80):
        tally.read(read, file, file.read_bytes()[:200])
    tally.check(80)


def test_tables(tmp_path, small_data):
    pytest.importorskip("pyarrow")
    from nasbench.runs.tabulated import read_table

    rng = random.Random(8)
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nasbench.study.tabulation import tabulate

    file = tmp_path / "table.parquet"
    tabulate(
        {"variants": ["se", "eca"], "slots": ["stage1"], "compositions": ["none", "a"]},
        backbone="test_resnet", task="digits", seeds=1, size=32, training={"epochs": 1}, out=file,
    )  # fmt: skip
    table = pq.read_table(file)
    tally = Tally()

    def written(number, changed):
        other = tmp_path / f"{number}.parquet"
        pq.write_table(changed, other)
        return other

    number = 0
    for name in table.column_names:
        at = table.column_names.index(name)
        nulls = pa.nulls(len(table), table.schema.field(name).type)
        texts = pa.array(["x"] * len(table))
        for changed in (
            table.drop_columns([name]),
            table.set_column(at, name, nulls),
            table.set_column(at, name, texts),
            table.set_column(at, f"{name}_", table.column(name)),
        ):
            tally.read(read_table, written(number, changed), (name, number))
            number += 1
    metadata = table.schema.metadata or {}
    for key, value in metadata.items():
        for _ in range(25):
            try:
                other = json.dumps(mutated(json.loads(value), rng)).encode()
            except (ValueError, IndexError):
                other = torn(value, rng)
            tally.read(
                read_table, written(number, table.replace_schema_metadata({**metadata, key: other})), (key, other[:99])
            )
            number += 1
    tally.read(read_table, written("none", table.replace_schema_metadata(None)), "no metadata")
    tally.read(read_table, written("empty", table.slice(0, 0)), "no rows")
    tally.read(read_table, written("twice", pa.concat_tables([table, table])), "every row twice")
    whole = file.read_bytes()
    for _ in range(15):
        other = tmp_path / f"torn{number}.parquet"
        other.write_bytes(torn(whole, rng))
        tally.read(read_table, other, "torn")
        number += 1
    tally.check()


def test_the_mutations_reach_every_place():
    assert {place[0] for place in paths(SETTINGS)} == set(SETTINGS)
    rng = random.Random(0)
    assert sum(mutated(SPACE, rng) != SPACE for _ in range(100)) > 90
