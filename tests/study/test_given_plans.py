"""A handful of plans: exactly these and the bare backbone, each on the same seeds, by every way to give them."""

import json
import zlib

import pytest
import yaml
from support import ROOT

import nasbench as nb
from nasbench.cli.results import print_front
from nasbench.errors import InputError, RunError, SpaceError, UnknownNameError
from nasbench.runs.command_line import command_words
from nasbench.runs.settings import read_settings
from nasbench.spaces import Space
from nasbench.study.tabulation import tabulate

OBJECTIVES = {"score": "maximize", "modules": "minimize"}


@pytest.fixture
def compare(tmp_path):
    """Return a search by a function that records its calls as (plan, seed)."""
    calls = []

    def fn(plan, seed):
        calls.append((json.dumps(plan), seed))
        noise = zlib.crc32(json.dumps([plan, seed]).encode()) % 100 / 1e4
        return {"score": 0.5 + 0.1 * ("se" in plan.values()) + noise, "modules": len(plan)}

    def search(*args, out="run", **given):
        given = {"backbone": "test_resnet", "objectives": OBJECTIVES, **given}
        return nb.search(*args, evaluate=fn, out=tmp_path / out, **given)

    search.calls = calls
    return search


def plans_of(run):
    return set(run.finalists()["plan"])


def everywhere(module):
    return json.dumps({f"stage{k}": module for k in (1, 2, 3, 4)})


def test_exactly_these_plans_and_the_bare_backbone_on_equal_seeds(compare):
    """4 plans with the bare backbone, 5 seeds each by default: 20 evaluations, none twice."""
    run = compare(plans=["se", "stage3=eca >> se", {"stage2": "cbam"}])
    assert plans_of(run) == {"{}", everywhere("se"), '{"stage3": "eca >> se"}', '{"stage2": "cbam"}'}
    assert len(compare.calls) == len(set(compare.calls)) == 20
    assert list(run.trials()["plan"][:4]) == ["{}", everywhere("se"), '{"stage3": "eca >> se"}', '{"stage2": "cbam"}']
    table = run.finalists().set_index("plan")
    assert set(table["seeds"]) == {5}
    assert table["verdict"][everywhere("se")] == "BETTER"
    assert run.summary()["state"] == "done"
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["settings"]["plans"] == ["se", "stage3=eca >> se", "stage2=cbam"]
    described = {"name": "given plans", "plans": 3, "slots": ["stage1", "stage2", "stage3", "stage4"], "excluded": []}
    assert config["space"].items() >= described.items()
    assert config["space"]["written"]["plans"] == config["settings"]["plans"]
    assert "plans" not in {key for key in config["identity"] if key != "space"}


def test_all_given_plans_are_printed_and_not_the_front_alone(compare, capsys):
    run = compare(plans=["eca", "stage1=sk"], seeds=2)
    print_front(run, as_json=False)
    printed = capsys.readouterr().out
    plans = ("bare backbone", "eca at stage1, stage2, stage3 and stage4", "stage1=sk")
    assert [text for text in plans if text not in printed] == []
    print_front(run, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "compared"
    assert len(document["data"]["rows"]) == 3


def test_equal_plans_are_one_and_the_bare_backbone_is_there_anyway(compare):
    run = compare(
        plans=["se", everywhere("se(reduction=16)"), "stage1: se; stage2: se\nstage3=se; stage4=se", "none"], seeds=2
    )
    assert plans_of(run) == {"{}", everywhere("se")}
    assert len(compare.calls) == 4
    assert run.settings.trials == 2


def test_one_seed_and_the_bare_backbone_alone(compare):
    assert plans_of(compare(plans="se", seeds=1)) == {"{}", everywhere("se")}
    assert len(compare.calls) == 2
    assert plans_of(compare(plans=["none"], seeds=3, out="bare")) == {"{}"}
    assert len(compare.calls) == 5


def test_more_plans_and_more_seeds_extend_the_run(compare):
    compare(plans=["se"], seeds=2)
    assert len(compare.calls) == 4
    run = compare(plans=["eca", "se"], seeds=3)
    assert plans_of(run) == {"{}", everywhere("se"), everywhere("eca")}
    assert len(compare.calls) == len(set(compare.calls)) == 9
    run = compare(plans=["stage2=sk"], seeds=3)  # the plans that are there stay in the comparison
    assert len(compare.calls) == len(set(compare.calls)) == 12
    assert set(run.finalists()["seeds"]) == {3}
    assert run.settings.plans == ("se", "eca", "stage2=sk")
    assert len(nb.load_run(run.path).finalists()) == 4


def test_a_search_of_a_space_is_not_extended_by_plans(compare):
    compare("tiny", trials=2, seeds=1)
    with pytest.raises(RunError, match="another configuration"):
        compare(plans=["se"], seeds=1)


@pytest.mark.parametrize("way", ["config", "space file", "mapping", "space"])
def test_every_way_to_give_them(compare, tmp_path, way):
    written = {"plans": ["se", {"stage3": "eca"}, "stage2: cbam"]}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(written))
    ways = {
        "config": lambda: compare(config=file, seeds=2),
        "space file": lambda: compare(file, seeds=2),
        "mapping": lambda: compare(written, seeds=2),
        "space": lambda: compare(Space.from_dict(written), seeds=2),
    }
    run = ways[way]()
    assert plans_of(run) == {"{}", everywhere("se"), '{"stage3": "eca"}', '{"stage2": "cbam"}'}
    assert len(compare.calls) == 8
    assert run.settings.plans == ("se", "stage3=eca", "stage2=cbam")
    assert run.settings.space is None


@pytest.mark.parametrize(
    ("args", "given", "words"),
    [
        (["tiny"], {}, r"space \(python\).*leave out space, or leave out the plans"),
        ([], {"sampler": "auto"}, r"sampler \(python\): exactly the given plans"),
        ([], {"trials": 24, "halving": 3, "until": "decided"}, "leave out trials, until, halving"),
        ([], {"plans": []}, "is empty"),
        ([{"plans": ["eca"]}], {"plans": (), "sampler": "tpe"}, "is empty"),
        ([], {"plans": 3}, "a list of plans"),
        ([], {"plans": [["se"]]}, "stage3=agent_attention"),
        ([], {"plans": ["ecca"]}, "'eca'"),
        ([], {"plans": [{"stage3": "ecca"}]}, "stage3: no module named 'ecca'"),
        ([], {"plans": ["se; eca"]}, "two expressions without a slot"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(compare, tmp_path, args, given, words):
    with pytest.raises(InputError, match=words):
        compare(*args, **{"plans": ["se"], **given})
    assert list(tmp_path.iterdir()) == []
    assert compare.calls == []


def test_a_plan_that_does_not_fit_the_host_is_named_before_anything_is_written(compare, tmp_path):
    with pytest.raises(SpaceError, match="plan stage9=se: no slot named 'stage9'; did you mean 'stage"):
        compare(plans=["eca", "stage9=se"])
    with pytest.raises(SpaceError, match=r"plan cbam does not fit slot .*: .*2-D"):
        nb.search(plans=["se", "cbam"], backbone="patchtst", task="co2", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert compare.calls == []


def test_a_space_of_plans_with_a_sampler_is_refused(compare):
    with pytest.raises(InputError, match="sampler"):
        compare({"plans": ["se"]}, sampler="random")


def test_a_table_holds_a_whole_space(tmp_path):
    given = {"backbone": "test_resnet", "out": tmp_path / "t.parquet", "objectives": OBJECTIVES, "evaluate": len}
    with pytest.raises(InputError, match="nasbench search --plan"):
        tabulate({"plans": ["se"]}, **given)
    with pytest.raises(InputError, match="plans"):
        tabulate(plans=["se"], **given)


def test_the_command_that_reproduces_a_run_gives_the_plans():
    settings = read_settings({"plans": ["se", {"stage3": "eca"}], "backbone": "a", "task": "b", "seeds": 4})[0]
    words = command_words(settings, {})
    assert words == [
        "nasbench", "search", "--plan", "se", "--plan", '{"stage3": "eca"}', "--backbone", "a", "--task", "b",
        "--seed", "0", "--seeds", "4",
    ]  # fmt: skip


def test_evaluations_of_a_search_are_reused(compare):
    searched = compare("tiny", trials=6, seeds=1)
    known = [plan for plan in searched.trials()["plan"] if plan != "{}"][:2]
    before = len(compare.calls)
    run = compare(plans=[*known, "sk"], seeds=1, reuse=str(searched.path), out="reusing")
    assert len(compare.calls) == before + 1
    assert plans_of(run) == {"{}", *known, everywhere("sk")}


def test_a_plug_in_is_known_in_time(compare, tmp_path):
    gate = (ROOT / "modules" / "channel" / "se.py").read_text().replace('name="se"', 'name="my_gate"')
    (tmp_path / "gate.py").write_text(gate)
    run = compare(plans=["my_gate"], modules=[str(tmp_path / "gate.py")], seeds=1)
    assert plans_of(run) == {"{}", everywhere("my_gate")}
    with pytest.raises(UnknownNameError, match="my_gate"):
        compare(plans=["my_gat"], out="other")
