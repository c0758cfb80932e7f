"""The slope on expected effects by hand; the sampler uses them on the metric alone, and drops wrong ones."""

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

import nasbench as nb
from nasbench.backbones.slot_cache import RecordedSlot
from nasbench.errors import InputError, RunError
from nasbench.evidence.atlas_prior import Expected
from nasbench.library.plan import Plan
from nasbench.runs.storage import quiet
from nasbench.spaces import Space
from nasbench.study.samplers import Knowledge, make_sampler
from nasbench.study.samplers.history import read_history
from nasbench.study.samplers.leaning import Leaning
from nasbench.study.samplers.surrogate import Surrogate
from nasbench.study.tabulation import tabulate

SE, ECA, BOTH, BARE = (Plan.of(p) for p in ({"a": "se"}, {"a": "eca"}, {"a": "se", "b": "eca"}, {}))
VARIANTS = ("se", "eca", "cbam", "sk")
WANTED = {"accuracy": "maximize", "cost": "minimize"}
TRUE = {"se": 2.0, "eca": 1.0, "cbam": -1.0, "sk": -2.0}


def test_slope_by_hand():
    # effects of the sample: 1, -1, 0, 0, so mean 0, variance 0.5; each module is in 2 of 4 plans: variance 0.25
    # start = sqrt(0.5 / (0.5 + 0.25 * 0.25 + 0.25 * 0.25)) = sqrt(0.8)
    leaning = Leaning({"se": Expected(1.0, 0.5), "eca": Expected(-1.0, 0.5)}, [SE, ECA, BOTH, BARE])
    assert leaning.start == pytest.approx(0.8**0.5)
    assert leaning([SE, ECA, BOTH]) == pytest.approx([2**0.5, -(2**0.5), 0.0])
    # errors 1, 3: of centred effects ±sqrt(2), better by +1 and -1; (5 * 0.8944 + 2.8284) / (5 + 4)
    assert leaning.slope([SE, ECA], np.array([1.0, 3.0])) == pytest.approx(-(5 * 0.8**0.5 + 2 * 2**0.5) / 9)
    # the other way round it is smaller, and with these four times as often, it is dropped
    assert leaning.slope([SE, ECA], np.array([3.0, 1.0])) == pytest.approx(-(5 * 0.8**0.5 - 2 * 2**0.5) / 9)
    assert leaning.slope([SE, ECA] * 4, np.array([3.0, 1.0] * 4)) == 0.0
    assert leaning.slope([SE, ECA], np.array([2.0, 2.0])) == 0.0


def test_an_unknown_module_adds_doubt_and_nothing_else():
    effects = {"se": Expected(1.0, 0.5), "eca": Expected(-1.0, 0.5)}
    other = Plan.of({"a": "cbam"})
    known, unknown = Leaning(effects, [SE, ECA, BARE, BARE]), Leaning(effects, [SE, ECA, BARE, other])
    assert known([other]) == pytest.approx(known([BARE]))
    assert unknown.start < known.start


def accuracy(plan):
    return 0.5 + 0.01 * sum(TRUE[str(part)] for part in plan.values())


def cost(plan):
    return 10.0 + 3.0 * len(plan)


def expecting(effects, error=0.3):
    there = [RecordedSlot(name=f"stage{i}", channels=32, size=(8, 8), layout="NCHW") for i in (1, 2, 3)]
    space = Space.from_dict({"variants": VARIANTS, "slots": ["stage*"]}).resolve(there)
    expected = {name: Expected(mean, error) for name, mean in effects.items()}
    return Knowledge(space, WANTED, known=lambda plan: {"cost": cost(plan)}, expected=expected)


def evaluated(knowledge, count, *, value=accuracy):
    """Search `count` plans. Return the study and the plans."""
    with quiet():
        study, plans = optuna.create_study(directions=list(WANTED.values())), []
        choices = {k: optuna.distributions.CategoricalDistribution(v) for k, v in knowledge.space.parameters.items()}
        for number in range(count):
            study.sampler = make_sampler("auto", seed=0, number=number, knowledge=knowledge)
            trial = study.ask(choices)
            plans.append(knowledge.space.plan(trial.params))
            trial.set_user_attr("evaluation", {"plan": plans[-1].text})
            study.tell(trial.number, (value(plans[-1]), cost(plans[-1])))
    return study, plans


def test_modules_without_rows_change_no_proposal():
    _, plans = evaluated(expecting({}), 10)
    assert evaluated(expecting({"timm/gc": 3.0}), 10)[1] == plans
    assert evaluated(expecting(dict.fromkeys(VARIANTS, 0.0)), 10)[1] == plans
    assert evaluated(expecting(TRUE), 10)[1] != plans


def test_it_leans_on_the_metric_alone_and_only_where_it_is_right():
    knowledge = expecting({})
    study, _ = evaluated(knowledge, 6)
    asked = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    asked.number = -1
    plans = [Plan.of(dict.fromkeys(("stage1", "stage2"), name)) for name in VARIANTS]

    def predicted(effects):
        told = expecting(effects)
        return Surrogate(told, read_history(told, study, asked)).predict(plans)

    (plain, spread), (leaned, same_spread) = predicted({}), predicted(TRUE)
    assert (leaned[:, 1] == plain[:, 1]).all()  # the cost is known
    assert spread[:, 1] == pytest.approx(same_spread[:, 1])
    true = np.array([-accuracy(plan) for plan in plans])
    assert np.abs(leaned[:, 0] - true).mean() < np.abs(plain[:, 0] - true).mean()
    # expectations of the other sign lose all weight once there are some plans
    study, _ = evaluated(knowledge, 20)
    wrong, right = (predicted({name: sign * mean for name, mean in TRUE.items()})[0] for sign in (-1, 1))
    assert (wrong == predicted({})[0]).all()
    assert (right != wrong).any()


# -- a search ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """A table of a small space on a host, of which the atlas has other data."""
    names = {"variants": list(VARIANTS), "slots": ["stage1", "stage2"]}
    file = tmp_path / "table.parquet"
    tabulate(
        {"name": "four", **names}, out=file, backbone="test_resnet",
        evaluate=lambda plan: {"accuracy": accuracy(Plan.of(plan)), "macs": cost(plan)},
        objectives={"accuracy": "maximize", "macs": "minimize"},
    )  # fmt: skip
    return file


def atlas(signs):
    rows = [(name, signs * 0.01 * mean) for name, mean in [*TRUE.items(), ("caa", 0.0)]]
    return pd.DataFrame(
        {
            "module": [name for name, _ in rows], "dims": 2, "host": "test_resnet", "data": "digits", "slots": "same",
            "protocol": "p", "difference": [d for _, d in rows], "low": [d - 0.005 for _, d in rows],
            "high": [d + 0.005 for _, d in rows],
        }
    )  # fmt: skip


def searched(table, out, trials=12, **more):
    heard = []
    run = nb.search(
        task=f"table:{table}", trials=trials, seeds=1, report=False, out=out,
        on_event=lambda event: heard.append(event.message), **more,
    )  # fmt: skip
    return run, list(run.trials()["plan"]), "\n".join(heard)


def test_a_search_records_what_it_expects_and_continues_with_it(table, tmp_path, monkeypatch):
    monkeypatch.setattr("nasbench.study.expectations.load_atlas", lambda: atlas(1))
    run, plans, heard = searched(table, tmp_path / "a", atlas=True)
    assert "auto leans on its rows of 4 modules, and expects most of se, eca; verdicts do not" in heard
    recorded = yaml.safe_load((run.path / "config.yaml").read_text())["expected"]
    assert list(recorded["effects"]) == sorted(VARIANTS)
    assert recorded["effects"]["se"][0] > 0 > recorded["effects"]["sk"][0]
    assert any("leaned on what the atlas has of 4 modules" in note for note in notes(run))
    whole = searched(table, tmp_path / "whole", 16, atlas=True)[1]
    assert whole[:12] == plans
    monkeypatch.setattr("nasbench.study.expectations.load_atlas", lambda: atlas(-1))
    extended = nb.search(out=tmp_path / "a", trials=16, report=False)  # with another atlas
    assert list(extended.trials()["plan"]) == whole
    # off, nothing is recorded, said or changed
    run, plain, heard = searched(table, tmp_path / "off")
    assert "expected" not in run.config
    assert "atlas" not in heard
    assert not any("atlas" in note for note in notes(run))
    assert plain != plans
    monkeypatch.setattr("nasbench.study.expectations.load_atlas", lambda: atlas(1).iloc[4:])
    _, without, heard = searched(table, tmp_path / "empty", atlas=True)
    assert "it has no module of this space, so it changes nothing" in heard
    assert without == plain


@pytest.mark.parametrize("effects", [{"se": [0.1]}, {"se": [0.1, "x"]}, {"se": [0.1, float("nan")]}, ["se"]])
def test_a_damaged_record_is_an_error(effects, tmp_path):
    run = nb.search(
        {"variants": ["se"], "slots": ["stage1"]}, backbone="test_resnet",
        evaluate=lambda plan: {"score": 1.0 * len(plan)},
        objectives={"score": "maximize"}, trials=2, report=False, out=tmp_path / "run",
    )  # fmt: skip
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    config["expected"] = {"host": "test_resnet", "data": "digits", "effects": effects}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match="expected"):
        nb.load_run(run.path)


def notes(run):
    from nasbench.report.notes import notes_of

    return list(notes_of(run, run.finalists(), None, {}))


def test_expectations_enter_no_verdict(table, tmp_path, monkeypatch):
    """The same trainings give the same table, whatever was expected of the modules."""

    def compared(name, told):
        out = tmp_path / name
        monkeypatch.setattr("nasbench.study.expectations.load_atlas", lambda: atlas(1))
        run = searched(table, out, 25, atlas=told)[0]  # all plans of the space
        config = yaml.safe_load((out / "config.yaml").read_text())
        assert ("expected" in config) == told
        found = run.finalists().drop(columns="number").sort_values("plan", ignore_index=True)
        return found

    pd.testing.assert_frame_equal(compared("silly", True), compared("plain", False))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sampler": "random"}, "only auto uses the atlas, not random"),
        ({"objectives": {"macs": "minimize"}}, "every objective is a cost"),
        ({"evaluate": lambda plan: {"score": 1.0}, "objectives": {"score": "maximize"}}, "cannot know its values"),
        ({"plans": ["se"]}, "leave out"),
    ],
)
def test_a_search_that_cannot_use_the_atlas_says_so(given, told, table, tmp_path):
    task = {} if "evaluate" in given or "plans" in given else {"task": f"table:{table}"}
    with pytest.raises(InputError, match=told):
        nb.search(atlas=True, out=tmp_path / "run", **task, **given)
    assert not (tmp_path / "run").exists()
