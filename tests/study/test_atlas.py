"""Groups of the atlas: their plans and data, and a small real run with its rows."""

import json
import re
import tarfile
from collections import Counter
from dataclasses import replace

import pytest
from support import ROOT
from support.malformed import png, tar_of
from torch import nn

from nasbench.backbones.slot_cache import slots_by_name
from nasbench.errors import DataError, InputError, RunError
from nasbench.evidence import atlas as evidence
from nasbench.evidence.atlas import code_file
from nasbench.evidence.atlas_protocol import GROUPS, PASSES, Group, Pass, group_named
from nasbench.library.plan import Plan
from nasbench.library.registry import register_module
from nasbench.report.atlas.rows import atlas_of_run, completed, empty_atlas, group_of, merged, without_stale
from nasbench.runs.run import Run, load_run
from nasbench.study import atlas as study
from nasbench.tasks import create_task
from nasbench.tasks.recipe import Recipe

pytestmark = pytest.mark.usefixtures("small_data")

MODULES = ["eca", "se", "broken"]

COLUMNS = {
    "low": "difference_low", "high": "difference_high", "control_low": "control_difference_low", "verdict": "verdict",
    "control_difference": "control_difference", "macs": "macs", "seeds": "seeds",
}  # fmt: skip
"""Columns of the atlas, each with the column of the finalists that it repeats."""

TWO_SEEDS = Pass("two", False, 2, "")
SETTINGS = {"size": 32, "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.003}}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of two modules and one that fails, with two seeds, and its group."""

    @register_module(name="broken", properties=(), paper="none", dims=(2,))
    class Broken(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()

        def forward(self, x):
            return x.sqrt().log().sqrt() * float("nan")

    del Broken
    sha256 = create_task("digits", size=32).describe()["data_sha256"]
    group = Group("test_resnet", "digits", 2, "digits", sha256, ("stage1",), SETTINGS)
    out = tmp_path_factory.mktemp("atlas") / group.name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "list_modules", lambda **kind: MODULES)
        patch.setattr(study, "LATENCY_S", 0.0)
        study.run_group(group, TWO_SEEDS, out)
    with pytest.MonkeyPatch.context() as patch:
        for where in ("nasbench.report.atlas.rows", "nasbench.evidence.atlas"):
            patch.setattr(f"{where}.GROUPS", (group,))
            patch.setattr(f"{where}.PASSES", (TWO_SEEDS,))
        yield group, out


def test_rows_are_those_of_the_finalists(measured):
    run = load_run(measured[1])
    found = atlas_of_run(run)
    evidence.check_rows(found.rows)
    table = run.finalists().set_index("plan")
    assert found.rows["module"].tolist() == ["eca", "se"]
    for row in found.rows.to_dict("records"):
        plan = json.dumps({f"stage{n}": row["module"] for n in (1, 2, 3, 4)})
        own = table.loc[plan]
        for column, theirs in COLUMNS.items():
            assert row[column] == pytest.approx(own[theirs], nan_ok=True), column
        assert (row["slots"], row["seeds"], row["dims"]) == ("same", 2, 2)
        versions = json.loads(row["versions"])
        assert versions["module"] == evidence.code_hashes([row["module"]])[row["module"]]
        assert versions["judged"] == evidence.judged_by()
        assert versions["device"].startswith("cpu")
    (bare,) = found.groups
    assert (bare.metric, bare.direction, bare.items) == ("accuracy", "maximize", 64)
    assert bare.bare == pytest.approx(table.loc["{}", "accuracy"])
    (failed,) = found.unmeasured
    assert (failed.module, failed.slots) == ("broken", "same")
    assert failed.reason


def test_more_seeds_extend_a_run_and_fewer_change_nothing(measured, monkeypatch):
    group, out = measured
    monkeypatch.setattr(study, "list_modules", lambda **kind: ["eca", "se"])
    monkeypatch.setattr(study, "LATENCY_S", 0.0)
    before = len(load_run(out).trials())
    study.run_group(group, Pass("b", False, 1, ""), out)
    assert len(load_run(out).trials()) == before
    assert load_run(out).settings.seeds == 2


def test_changed_code_is_told_before_and_after(measured, monkeypatch):
    group, out = measured
    found = atlas_of_run(load_run(out))
    monkeypatch.setattr(evidence, "code_hash", lambda file: "changed")
    monkeypatch.setattr(study, "code_hashes", evidence.code_hashes)
    with pytest.raises(RunError, match=r"changed after .* was begun, so older and newer trainings differ"):
        study.run_group(group, PASSES[0], out)
    left, names = without_stale(found)
    assert names == ["eca", "se"]
    assert left.rows.empty
    reasons = {each.module: each.reason for each in completed(left).unmeasured}
    assert reasons["se"] == "its code was changed after the measurement"
    assert reasons["cbam"] == "it was not among the plans of the run"
    assert "broken" not in reasons, "no module of the library"
    assert not evidence.places_without_row(completed(left))


def test_a_run_that_is_not_of_the_atlas_is_refused(measured, monkeypatch):
    group, out = measured
    run = load_run(out)
    assert group_of(run) == group
    monkeypatch.setattr("nasbench.report.atlas.rows.GROUPS", (replace(group, sha256="other"),))
    with pytest.raises(InputError, match="is not a run of the atlas"):
        group_of(run)
    changed = SETTINGS | {"training": {"epochs": 8, "batch_size": 32}}
    monkeypatch.setattr("nasbench.report.atlas.rows.GROUPS", (replace(group, settings=changed),))
    with pytest.raises(
        InputError, match=r"protocol .*: epochs is 1, expected 8; learning_rate is 0.003, expected 0.001"
    ):
        group_of(run)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("mixup: 0.0", "mixup: 0.4", "mixup is 0.4, expected 0.0"),
        ("augmentation: none", "augmentation: flip", "augmentation is flip, expected none"),
        ("seed: 0", "seed: 1", "seed is 1, expected 0"),
        ("seeds: 2", "seeds: 3", "seeds is 3, expected 2"),
        ("pretrained: false", "pretrained: true", "pretrained is True, expected False"),
        ("latency_s: 0.0", "latency_s: 61.0", "latency_s is 61, expected at most 60"),
    ],
)
def test_a_run_of_another_recipe_is_refused(measured, tmp_path, old, new, told):
    copied = load_run(measured[1]).copy_to(tmp_path / "copy")
    file = copied.path / "config.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(told)):
        group_of(load_run(copied.path))


def test_a_run_without_controls_has_none_and_an_unfinished_one_is_refused(measured, tmp_path):
    copied = load_run(measured[1]).copy_to(tmp_path / "copy")
    code_file(copied.path).write_bytes(code_file(measured[1]).read_bytes())
    file = copied.path / "config.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("controls: true", "controls: false"), encoding="utf-8")
    assert group_of(load_run(copied.path)) == measured[0]
    with pytest.MonkeyPatch.context() as patch:
        table = load_run(copied.path).finalists()
        lacking = table.drop(columns=[name for name in table if name.startswith("control_")])
        patch.setattr(Run, "finalists", lambda self: lacking)
        rows = atlas_of_run(load_run(copied.path)).rows
    assert rows["control_difference"].isna().all()
    assert set(rows["control_verdict"]) == {""}
    text = file.read_text(encoding="utf-8").replace("- se\n", "- se\n  - cbam\n", 1)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(
        RunError, match=r"is not finished: 1 of 5 plans, .* `scripts/atlas run digits-test_resnet` resumes"
    ):
        atlas_of_run(load_run(copied.path))


def test_a_run_without_hashes_is_refused(measured, tmp_path):
    copied = load_run(measured[1]).copy_to(tmp_path / "copy")
    with pytest.raises(RunError, match=r"no file at .*copy\.code\.json"):
        atlas_of_run(copied)
    code_file(copied.path).write_text("[]")
    with pytest.raises(RunError, match="is no record of the code"):
        atlas_of_run(copied)
    code_file(copied.path).write_text('{"se": "0"}')
    with pytest.raises(RunError, match="has no hash of eca"):
        atlas_of_run(copied)


def test_new_rows_replace_their_whole_group(measured):
    found = atlas_of_run(load_run(measured[1]))
    other = replace(found, rows=found.rows.assign(data="other"), groups=(replace(found.groups[0], data="other"),),
                    unmeasured=())  # fmt: skip
    first = replace(found, rows=found.rows.assign(module="old"))
    both = merged(merged(empty_atlas(), [first, other]), [found])
    assert sorted(zip(both.rows["data"], both.rows["module"], strict=True)) == [
        ("digits", "eca"), ("digits", "se"), ("other", "eca"), ("other", "se"),
    ]  # fmt: skip
    assert [g.data for g in both.groups] == ["digits", "other"]
    assert both.unmeasured == found.unmeasured
    assert both.rows.dtypes.equals(found.rows.dtypes)
    with pytest.raises(InputError, match="digits, test_resnet is given twice"):
        merged(empty_atlas(), [found, found])


def test_plans_are_every_module_at_every_stage_then_at_each():
    same, stages, _ = PASSES
    for name, places in (
        ("digits-test_resnet", "stage1 stage2 stage3 stage4"),
        ("co2-dlinear", "input seasonal trend"),
    ):
        group = group_named(name)
        modules = study.plans_of(group, same)
        assert {"se", "sk", "self_attention"} <= set(modules)
        assert study.plans_of(group, stages) == [*modules, *(f"{s}={m}" for s in places.split() for m in modules)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_stages_and_recipes_of_the_protocol_are_those_of_host_and_task(group):
    slots = [slot.name for slot in slots_by_name(group.host, (3, 32, 32) if group.dims == 2 else (96, 7))]
    assert group.stages == tuple(Plan.of("se").resolve(slots))
    if not group.files:
        usual = create_task(group.task).recipe
        epochs = {"epochs": group.settings["training"]["epochs"]}
        assert usual.with_settings(epochs) == Recipe(**group.settings["training"])


def test_the_groups_data_is_what_their_hashes_say():
    for name in ("ETTh1-dlinear", "cifar10-test_resnet"):
        with pytest.raises(DataError, match="give their folder by --data"):
            study.data_of(group_named(name), None, ROOT)
    with pytest.raises(DataError, match=r"no file at .*ETTh1\.csv"):
        study.data_of(group_named("ETTh1-dlinear"), ROOT, ROOT)
    assert study.data_of(group_named("digits-test_resnet"), None, ROOT) is None


def test_a_tenth_of_cifar_has_other_images_to_validate(tmp_path):
    names = [f"{label}/{number:04}.png" for label in ("b", "a") for number in range(310, 0, -1)]
    (tmp_path / "train.tar").write_bytes(tar_of([(name, png() + name.encode()) for name in names]))
    (tmp_path / "test.tar").write_bytes(tar_of([("a/9.png", png()), ("b/9.png", png())]))
    made = study.cifar10_tenth(tmp_path / "train.tar", tmp_path / "test.tar", tmp_path / "new" / "tenth.tar")
    with tarfile.open(made) as tar:
        found = tar.getnames()
        first = tar.extractfile("train/a/0001.png")
        assert first is not None
        assert first.read() == png() + b"a/0001.png"
    assert found[0] == "train/a/0001.png"
    counts = Counter(name.rpartition("/")[0] for name in found)
    assert counts == {"train/a": 100, "train/b": 100, "val/a": 200, "val/b": 200, "test/a": 1, "test/b": 1}
    assert len({name.partition("/")[2] for name in found}) == 602, "no image is in two splits"
