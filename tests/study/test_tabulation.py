"""Tabulating a space, and replaying the table: round trip, resume, refusals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nasbench as nb
from nasbench import cli
from nasbench.errors import DataError, InputError, RunError, SpaceError, UnknownNameError
from nasbench.library.plan import Plan
from nasbench.runs.run import load_run
from nasbench.runs.tabulated import Table, TableInfo, read_table, write_table
from nasbench.spaces import Space
from nasbench.study.evaluators.base import Request
from nasbench.study.evaluators.replayed import ReplayedEvaluator
from nasbench.study.tabulation import run_folder, tabulate

SPACE = {"name": "small", "variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
"""9 plans."""

OBJECTIVES = {"accuracy": "maximize", "macs": "minimize"}


def score(plan, seed):
    """Longer plans score higher, seeds add a little; eca in stage2 breaks."""
    if plan.get("stage2") == "eca" and "stage1" in plan:
        raise ZeroDivisionError("no good")
    return {"accuracy": len(str(plan)) / 100 + seed / 1000, "macs": 10.0 + len(plan), "loss": 1.0}


def make(tmp_path, **more):
    options = {"backbone": "test_resnet", "evaluate": score, "objectives": OBJECTIVES, "seeds": 2, **more}
    return tabulate(SPACE, out=tmp_path / "t.parquet", **options)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """9 plans under 2 seeds, two of which fail."""
    return make(tmp_path_factory.mktemp("table"))


def replay(table, out, **more):
    return nb.search(task=f"table:{table.name}", out=out, **{"trials": 50, "sampler": "random", **more})


def test_every_plan_under_every_seed(table):
    frame = read_table(table.name).frame
    whole = frame[frame["state"] == "complete"]
    assert frame["plan_hash"].nunique() == 9
    assert whole.groupby("plan_hash")["seed"].apply(list).tolist() == [[0, 1]] * 7
    for row in whole.to_dict("records"):
        plan = {slot: e.canonical() for slot, e in Plan.of(row["plan"]).items()}
        assert {name: row[name] for name in ("accuracy", "macs", "loss")} == score(plan, row["seed"])
        assert row["plan_hash"] == Plan.of(row["plan"]).hash
    failed = frame[frame["state"] == "failed"]
    assert set(failed["plan"]) == {f'{{"stage1": "{name}", "stage2": "eca"}}' for name in ("se", "eca")}
    assert failed["reason"].str.contains("no good").all()
    assert failed["accuracy"].isna().all()


def test_the_table_says_what_it_is(table):
    info = read_table(table.name).info
    assert info == table.info
    assert (info.schema_version, info.backbone, info.task, info.seeds) == (1, "test_resnet", "function", (0, 1))
    assert info.metrics == {"accuracy": "maximize", "loss": "minimize"}
    assert info.costs == ("macs",)
    assert {"nasbench", "python", "packages"} <= set(info.environment)


def test_a_replay_gives_what_was_tabulated(table, tmp_path):
    run = replay(table, tmp_path / "run", seeds=5)
    rows = run.trials()
    expected = table.frame[(table.frame["seed"] == 0)].set_index("plan_hash")
    searched = rows[rows["seed"] == 0].set_index("plan_hash")
    assert set(searched.index) == set(expected.index)
    for column in ("state", "accuracy", "macs", "loss"):
        left, right = searched[column], expected[column].loc[searched.index]
        assert ((left == right) | (left.isna() & right.isna())).all()
    assert run.directions == OBJECTIVES
    assert set(rows["seed"]) == {0, 1}, "finalists are replayed on the seeds there are, never on the same one twice"


def test_a_replay_needs_no_backbone(table, tmp_path, monkeypatch):
    from nasbench import backbones
    from nasbench.training import loop as training

    def never(*_, **__):
        raise AssertionError("something was built")

    monkeypatch.setattr(backbones, "create_backbone", never)
    monkeypatch.setattr(backbones, "slots", never)
    monkeypatch.setattr(training, "train", never)
    assert len(replay(table, tmp_path / "run", seeds=1).trials()) == 9


def test_a_replay_resumes_and_the_report_is_built(table, tmp_path, capfd):
    replay(table, tmp_path / "run", trials=4, seeds=1)
    run = replay(table, tmp_path / "run", trials=7, seeds=1)
    assert run.trials()["plan_hash"].nunique() == len(run.trials()) == 7
    assert cli.main(["search", "--task", f"table:{table.name}", "--trials", "9", "--out", str(tmp_path / "cli")]) == 1
    assert (tmp_path / "cli" / "report.html").is_file()
    assert "no good" in (tmp_path / "cli" / "trials.csv").read_text()


def test_constraints_and_costs_hold_in_a_replay(table, tmp_path):
    rows = replay(table, tmp_path / "run", constraints=["macs<=1.1x"], seeds=1, sampler="auto").trials()
    assert set(rows[rows["state"] == "rejected"]["macs"]) == {12.0}
    assert rows[rows["state"] == "complete"]["macs"].max() == 11.0
    assert set(rows["macs"].iloc[:5]) <= {10.0, 11.0}, "costs are known, so what breaks the bound comes last"


def test_a_plan_that_was_not_tabulated_is_rejected(table, tmp_path):
    wider = {**SPACE, "variants": ["se", "eca", "dual_pool"]}
    run = replay(table, tmp_path / "run", space=wider, seeds=1)
    rows = run.trials()
    assert len(rows) == 16
    rejected = rows[rows["state"] == "rejected"]
    assert rejected["plan"].str.contains("dual_pool").all()
    assert rejected["reason"].str.contains("not in .*t.parquet").all()
    assert len(rejected) == 7


def test_a_seed_that_was_not_tabulated_stands_for_one_that_was(table):
    evaluator, plan = ReplayedEvaluator(table), Plan.of({"stage1": "se"})
    found = [evaluator.evaluate(Request.of(plan, seed)).metrics["accuracy"] for seed in range(4)]
    assert found == pytest.approx([0.16, 0.161, 0.16, 0.161])


def test_stopped_and_taken_up_again_nothing_is_evaluated_twice(tmp_path):
    calls = []

    def counted(plan, seed):
        calls.append((str(plan), seed))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(plan, seed)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, evaluate=counted)
    assert not (tmp_path / "t.parquet").exists()
    made = make(tmp_path, evaluate=counted)
    assert len(made.frame) == 16
    assert len(calls) == 17, "the one that was interrupted came twice"
    again = make(tmp_path, evaluate=counted)
    assert len(calls) == 17
    assert again.frame.equals(made.frame)


def test_more_seeds_extend_a_table(tmp_path):
    assert make(tmp_path, seeds=1).info.seeds == (0,)
    made = make(tmp_path, seeds=3)
    assert made.info.seeds == (0, 1, 2)
    assert len(made.frame) == 7 * 3 + 2


def test_its_run_folder_is_an_ordinary_one(table):
    run = load_run(run_folder(Path(table.name)))
    assert run.settings.sampler == "grid"
    assert run.trials()["plan_hash"].nunique() == 9


def test_two_workers_make_the_same_table(tmp_path, table, functions_by_value):
    made = make(tmp_path, workers=2)
    columns = ["plan", "seed", "state", "accuracy", "macs", "loss"]
    assert made.frame[columns].equals(table.frame[columns])
    assert load_run(run_folder(Path(made.name))).settings.workers == 2


def test_a_real_table_from_the_command_line(tmp_path, monkeypatch, capfd, small_data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text("variants: [se, eca]\nslots: [stage1]\n")
    command = ["tabulate", "one.yaml", "--backbone", "test_resnet", "--task", "digits", "--size", "32",
               "--set", "epochs=1", "--out", "one.parquet", "--json"]  # fmt: skip
    assert cli.main(command) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    assert (data["plans"], data["complete"], data["failed"]) == (3, 3, 0)
    info = read_table("one.parquet").info
    assert info.metric == "accuracy"
    assert {"params", "macs"} <= set(info.costs)
    assert info.recipe["epochs"] == 1
    run = nb.search(task="table:one.parquet", out="replayed", seeds=1)
    real = load_run("one.run").trials().set_index("plan")
    for plan, row in run.trials().set_index("plan").iterrows():
        assert row[["accuracy", "macs", "params"]].tolist() == real.loc[plan, ["accuracy", "macs", "params"]].tolist()


def test_a_table_of_a_dense_task_says_for_which_head_it_is(tmp_path, small_scenes):
    ending = {"head": "fcn(max_stride=8)", "neck": "fpn(width=16)"}
    space, training = {"variants": ["se"], "slots": ["level1"]}, {"epochs": 1, "batch_size": 6}
    tabulated = tabulate(
        space, out=tmp_path / "t.parquet", backbone="test_resnet", task="scenes-segment", training=training, **ending
    )
    info = read_table(tabulated.name).info
    assert {"head": info.head, "neck": info.neck} == ending
    with pytest.raises(InputError, match=r"table of fcn\(max_stride=8\), not of semantic_fpn; leave the head out"):
        replay(tabulated, tmp_path / "a", head="semantic_fpn")
    with pytest.raises(InputError, match=r"table of fpn\(width=16\), not of none; leave the neck out"):
        replay(tabulated, tmp_path / "b", neck="none")
    run = replay(tabulated, tmp_path / "c", seeds=1, **ending)
    assert (run.settings.head, run.settings.neck) == tuple(ending.values())
    assert sorted(run.trials()["miou"]) == sorted(tabulated.frame["miou"])
    run.report()


# -- refusals ------------------------------------------------------------------------------------------------------


def test_what_is_no_table_is_refused(table, tmp_path):
    with pytest.raises(DataError, match=r"no table at .*nasbench tabulate"):
        nb.search(task=f"table:{tmp_path / 'missing.parquet'}")
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(tmp_path / "text.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a table"):
        read_table(tmp_path / "other.parquet")


def rewritten(table, path, **changed):
    """Write a table with some of its metadata changed; None takes a key out."""
    arrow = pq.read_table(table.name)
    document = json.loads(arrow.schema.metadata[b"nasbench"]) | changed
    document = {key: value for key, value in document.items() if value is not None}
    pq.write_table(arrow.replace_schema_metadata({b"nasbench": json.dumps(document).encode()}), path)
    return path


def test_a_damaged_or_newer_table_is_refused(table, tmp_path):
    with pytest.raises(DataError, match="schema version 2, but this nasbench reads 1"):
        read_table(rewritten(table, tmp_path / "newer.parquet", schema_version=2))
    with pytest.raises(DataError, match=r"damaged.*metadata"):
        read_table(rewritten(table, tmp_path / "less.parquet", backbone=None))
    with pytest.raises(DataError, match="lacks the columns top5"):
        read_table(rewritten(table, tmp_path / "columns.parquet", metrics={"top5": "maximize"}))
    arrow = pq.read_table(table.name)
    arrow = arrow.replace_schema_metadata({b"nasbench": b"[}"})
    pq.write_table(arrow, tmp_path / "json.parquet")
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path / "json.parquet")
    assert isinstance(arrow, pa.Table)


def test_what_contradicts_the_table_is_refused(table, tmp_path):
    with pytest.raises(InputError, match="table of test_resnet, not of resnet18"):
        replay(table, tmp_path / "a", backbone="resnet18")
    with pytest.raises(InputError, match="table of models without a head, not of fcn; leave the head out"):
        replay(table, tmp_path / "a", head="fcn")
    with pytest.raises(InputError, match="leave out training, size"):
        replay(table, tmp_path / "b", training={"epochs": 3}, size=64)
    with pytest.raises(UnknownNameError, match="latency_ms"):
        replay(table, tmp_path / "c", objectives=["accuracy", "latency_ms"])
    with pytest.raises(SpaceError, match="stage9"):
        replay(table, tmp_path / "d", space={**SPACE, "slots": ["stage9"]})


def test_another_table_does_not_resume_a_run(table, tmp_path):
    replay(table, tmp_path / "run", trials=3, seeds=1)
    changed = table.frame.assign(accuracy=table.frame["accuracy"] + 1)
    other = write_table(tmp_path / "t.parquet", changed, table.info)
    with pytest.raises(RunError, match="another configuration"):
        replay(other, tmp_path / "run", trials=4, seeds=1)


def test_a_space_too_large_is_not_begun(tmp_path):
    with pytest.raises(InputError, match=r"has [\d,]+ plans .* at most 100,000"):
        tabulate("five-properties", out=tmp_path / "t.parquet", backbone="resnet18", evaluate=score,
                 objectives=OBJECTIVES)  # fmt: skip
    with pytest.raises(InputError, match=r"\.parquet"):
        tabulate(SPACE, out=tmp_path / "t.csv", backbone="test_resnet", evaluate=score, objectives=OBJECTIVES)


# -- what is stored ------------------------------------------------------------------------------------------------


def test_the_stored_space_no_longer_depends_on_the_library(clean_registry):
    override = {"slots": ["stage1"], "variants": [{"modules": ["*attention"]}]}
    space = Space.from_dict(
        {"variants": [{"modules": ["se", "ec*"]}], "slots": ["stage1", "stage2"], "overrides": [override]}
    )
    union = space | Space.from_dict({"variants": ["cbam"], "slots": ["stage2"]})
    stored = union.frozen().model_dump(mode="json", exclude_defaults=True)
    assert "modules" not in json.dumps(stored)
    again = Space.from_dict(stored)
    slots = [table_slot("stage1"), table_slot("stage2")]
    assert set(again.resolve(slots)) == set(union.resolve(slots))


def table_slot(name):
    return TableInfo.model_validate(
        dict(backbone="b", task="t", space={}, metrics={}, metric=None, costs=(), seeds=(0,),
             slots=[dict(name=name, channels=32, size=(8, 8), layout="NCHW")])
    ).slots[0]  # fmt: skip


def test_a_table_of_one_s_own(tmp_path):
    """Anything with the columns can be replayed."""
    info = TableInfo(backbone="mine", task="made up", space=SPACE, slots=(table_slot("stage1"), table_slot("stage2")),
                     metrics={"f1": "maximize"}, metric="f1", costs=("params",), seeds=(7,))  # fmt: skip
    plans = list(Space.from_dict(SPACE).resolve(info.slots))
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"plan": [p.text for p in plans], "plan_hash": [p.hash for p in plans], "seed": 7, "state": "complete",
         "reason": "", "fidelity": 0, "wall_s": 0.0, "params": range(9), "f1": rng.random(9)}
    )  # fmt: skip
    made = write_table(tmp_path / "mine.parquet", frame, info)
    assert isinstance(made, Table)
    run = replay(made, tmp_path / "run", sampler="auto")
    assert run.directions == {"f1": "maximize", "params": "minimize"}
    assert sorted(run.trials()["f1"]) == sorted(frame["f1"])
