"""What a network or a module lacks, which modules are proposed, and that the proposal can be searched."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

import nasbench as nb
from nasbench import cli
from nasbench.backbones import slots
from nasbench.backbones.insertion import insert
from nasbench.errors import DataError, InputError, NothingMatched, RunError, UnknownNameError
from nasbench.evidence.atlas_prior import Expected
from nasbench.library.plan import Plan
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.measurement.properties import record
from nasbench.measurement.properties.stage_influence import StageFigures, stage_figures
from nasbench.measurement.properties.subject import open_gates
from nasbench.report.hosts import is_backbone
from nasbench.report.suggestion import Advice, AtlasFigure, Suggestion, _answer, _ordered, suggest, suggest_for_module
from nasbench.spaces import Space

SIZE = (3, 32, 32)


@pytest.fixture(scope="module")
def advice():
    return suggest("test_resnet", input_size=SIZE)


def test_it_proposes_what_is_missing_and_has_it(advice):
    assert advice.suggestions
    for row in advice.suggestions:
        assert row.property in advice.missing[row.slot]
        assert row.figure >= record.THRESHOLDS[row.property]
        assert row.figure == getattr(record.recorded(row.module), row.property)


def test_missing_is_what_the_stage_does_not_show(advice):
    stage = advice.measured[0]
    assert stage.slot == "stage1"
    for name in ("locality", "globality", "sparsity", "multiscale"):
        value = getattr(stage, name)
        assert (name in advice.missing["stage1"]) == (value is None or value < record.THRESHOLDS[name]), name


def test_the_cheapest_come_first_and_cost_what_the_whole_model_costs_more(advice):
    bare = nb.measure(insert("test_resnet", None, input_size=SIZE), input_size=SIZE)
    by_property = {}
    for row in advice.suggestions:
        by_property.setdefault((row.slot, row.property), []).append(row)
    for rows in by_property.values():  # a module that is listed later costs less by a tenth at most
        assert all(a.macs <= 1.1 * b.macs for n, a in enumerate(rows) for b in rows[n:])
    assert all(len(rows) <= 3 for rows in by_property.values())
    for row in advice.suggestions[:3]:
        model = insert("test_resnet", {row.slot: row.module}, input_size=SIZE, identity_init=False)
        whole = nb.measure(model, input_size=SIZE)
        assert (row.macs, row.params) == (whole.macs - bare.macs, whole.params - bare.params)
        assert row.macs_share == row.macs / bare.macs


def test_no_cheaper_module_was_passed_over(advice):
    first = advice.suggestions[0]
    places = slots("test_resnet", SIZE)
    costs = PlanCosts(insert("test_resnet", None, input_size=SIZE), places, input_size=SIZE, identity_init=False)
    for name in nb.list_modules(dims=2):
        figures = record.recorded(name)
        if name.startswith("timm/") or figures is None or not record.has(figures, first.property):
            continue
        try:
            added = costs(Plan.of({first.slot: name})).macs - costs.bare.macs
        except InputError:  # it is no module for one map, or does not serve these channels
            continue
        assert added >= first.macs, name


def test_the_space_offers_each_slot_what_was_suggested_there(advice):
    resolved = Space.from_dict(advice.space).resolve(slots("test_resnet", SIZE))
    for choices in resolved.slots:
        offered = {variant.canonical() for variant in choices.variants}
        assert offered == {row.module for row in advice.suggestions if row.slot == choices.slot}
    assert {choices.slot for choices in resolved.slots} == {row.slot for row in advice.suggestions}


def test_a_slot_that_lacks_one_property_is_offered_single_modules():
    def row(slot, property, module):
        return Suggestion(slot, property, module, 1.0, 10, 1, 0.1)

    rows = (
        row("stage1", "globality", "se"),
        row("stage1", "sparsity", "cbam"),
        row("stage2", "globality", "se"),
        row("stage2", "sparsity", "cbam"),
        row("stage3", "globality", "eca"),
    )
    stages = tuple(StageFigures(f"stage{n}", "input", (4, 4), 8) for n in (1, 2, 3))
    missing = {"stage1": ("globality", "sparsity"), "stage2": ("globality", "sparsity"), "stage3": ("globality",)}
    space = Advice("host", stages, missing, rows, "resnet18").space
    assert space["variants"] == ["se", "cbam"]
    assert space["compositions"] == ["none", "a", "a >> b", "gate(a, b)"]
    assert space["overrides"] == [{"slots": ["stage3"], "compositions": ["none", "a"], "variants": ["eca"]}]


def test_the_file_is_the_space(advice):
    assert yaml.safe_load(advice.space_yaml) == advice.space
    assert "# stage1 lacks" in advice.space_yaml


def test_a_plan_gives_a_stage_what_it_brings(advice):
    torch.manual_seed(0)
    model = insert("test_resnet", {"stage1": "query_attention"}, input_size=SIZE, identity_init=False)
    open_gates(model)
    stages = [slot for slot in slots("test_resnet", SIZE) if slot.name in ("stage1", "stage2")]
    first, second = stage_figures(model, stages, input_size=SIZE)
    assert first.globality > advice.measured[0].globality + 0.1
    assert second.globality == pytest.approx(advice.measured[1].globality, abs=0.1)


def test_a_module():
    found = suggest_for_module("se")
    assert found.missing == {"": ("locality", "sparsity", "multiscale")}
    assert found.search_options == ""
    space = Space.from_dict(found.space)
    assert "se >> a" in space.compositions
    assert {row.property for row in found.suggestions} == {"locality", "sparsity", "multiscale"}
    joined = suggest_for_module("se + eca", each=1)
    assert "(eca + se) >> a" in joined.space["compositions"]
    Space.from_dict(joined.space)


def test_a_series_is_offered_what_serves_series():
    found = suggest("dlinear", input_size=(24, 2), each=1)
    assert found.backbone == "dlinear"
    assert {1} == {len(stage.size) for stage in found.measured}
    for row in found.suggestions:
        assert row.module in nb.list_modules(dims=1)
    Space.from_dict(found.space).resolve(slots("dlinear", (24, 2)))


class Stages(nn.Module):
    """A local stage, then a global one."""

    def __init__(self):
        super().__init__()
        self.near = nn.Conv2d(3, 4, 3, padding=1)
        self.far = Pooled()

    def forward(self, x):
        return self.far(self.near(x))


class Pooled(nn.Module):
    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True)


def test_stages_by_hand():
    model = Stages()
    places = [slot for slot in slots("test_resnet", SIZE) if slot.name in ("stage1", "stage2")]
    assert len(places) == 2
    near = replace(places[0], name="near", module="near", channels=4, size=(8, 8))
    far = replace(places[1], name="far", module="far", channels=4, size=(8, 8))
    first, second = stage_figures(model, [near, far], input_size=(3, 8, 8), positions=64, probes=8)
    assert (first.slot, first.source, second.slot, second.source) == ("near", "input", "far", "near")
    assert first.locality == pytest.approx(1)
    assert first.sparsity == 0
    assert second.globality == pytest.approx(1, abs=0.02)
    assert second.locality == pytest.approx((4 * 3 + 24 * 5 + 36 * 8) / 64 / 63, abs=0.01)
    assert second.self_influence == pytest.approx((1 + 1 / 64) / (1 + 64 / 64), abs=0.02)


@pytest.mark.parametrize(
    ("host", "taken"),
    [("resnet18", True), ("patchtst", True), ("se", False), ("se >> eca", False), ("gate(se, eca)", False)],
)
def test_a_backbone_is_what_is_no_module_and_no_expression(host, taken):
    assert is_backbone(host) == taken


@pytest.mark.parametrize("host", ["resnet1888", "sse >> eca"])
def test_a_name_that_does_not_exist(host):
    with pytest.raises(UnknownNameError):
        suggest(host)


def test_nothing_is_missing():
    with pytest.raises(NothingMatched, match="x lacks no property"):
        _answer(Advice("x", (), {"": ()}, ()))
    with pytest.raises(NothingMatched, match="no module adds the properties that x lacks: sparsity"):
        _answer(Advice("x", (), {"": ("sparsity",)}, ()))


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_data):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return nb.search(
        space={"variants": ["eca", "se"], "slots": ["stage1"]}, backbone="test_resnet", task="digits", trials=2,
        seeds=1, size=32, training={"epochs": 1}, keep="all", out=folder, latency_s=0,
    )  # fmt: skip


def test_a_run(run, capsys):
    found = suggest(run.path, each=1)
    assert found.search_options == " --backbone test_resnet --task digits"
    assert found.host.startswith("tiny, trial ")
    Space.from_dict(found.space).resolve(slots("test_resnet", SIZE))


def test_a_run_after_training(run, capsys):
    trials = run.trials()
    number = int(trials[trials["plan"] != "{}"].iloc[0]["number"])
    code = cli.main(["fingerprint", str(run.path), "--trial", str(number), "--inputs", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["data"]
    assert code == 0
    assert [row["slot"] for row in rows] == ["stage1"]
    assert rows[0]["name"] in {"eca", "se"}
    assert rows[0]["globality"] == pytest.approx(1, abs=0.01)
    assert cli.main(["fingerprint", str(run.path), "--trial", "99"]) == 4
    assert cli.main(["fingerprint", str(run.path)]) == 4
    assert "--trial N" in capsys.readouterr().err


def test_a_run_that_trained_nothing(tmp_path):
    run = nb.search(
        space={"variants": ["eca"]}, backbone="test_resnet", evaluate=lambda plan: {"accuracy": 0.5},
        objectives=["accuracy"], trials=2, size=32, out=tmp_path / "f",
    )  # fmt: skip
    with pytest.raises(RunError, match="it has no models"):
        suggest(run.path)


def test_the_command(capsys, tmp_path):
    file = tmp_path / "s.yaml"
    code = cli.main(["suggest", "test_resnet", "--size", "32", "--each", "1", "--out", str(file)])
    out, err = capsys.readouterr()
    assert code == 0
    assert "stage1" in out
    assert "of the host" in out
    assert f"nasbench search {file} --backbone test_resnet" in err
    assert Space.from_dict(yaml.safe_load(file.read_text())).variants
    code = cli.main(["suggest", "eca", "--each", "1", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["kind"], document["data"]["host"]) == (0, "suggest", "eca")
    assert document["data"]["measured"][0]["lacks"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["suggest", "coord_atention"], "did you mean 'coord_attention'"),
        (["suggest", "fpn"], "fpn is a neck"),
        (["suggest", "gate"], "gate is a fusion"),
        (["suggest", "se", "--each", "1", "--out", "/dev/null/s.yaml"], "cannot write"),
        (["fingerprint", "se", "--trial", "1"], "no run at se"),
    ],
)
def test_what_cannot_be_answered(arguments, words, capsys):
    assert cli.main(arguments) == 4
    assert words in capsys.readouterr().err


PLUGINS = '''
import nasbench as nb
from torch import nn


@nb.register_module(name="test_suggest/{name}", properties=("locality",), paper="none", dims=2)
class Module(nn.Module):
    """Made for a test."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, {width}, 3, padding=1)

    def forward(self, x):
        {body}
'''


@pytest.mark.parametrize(
    ("name", "width", "body", "code", "words"),
    [
        ("wide", "None", "return self.conv(x)", 4, "cannot be built"),
        ("shrinks", "channels", "return self.conv(x)[..., 1:]", 4, "changes the shape"),
        ("branches", "channels", "return self.conv(x) if x.sum() > 0 else x", 0, "control flow depends on data"),
    ],
)
def test_a_users_module_that_cannot_be_measured(name, width, body, code, words, tmp_path, capsys, clean_registry):
    file = tmp_path / f"{name}.py"
    file.write_text(PLUGINS.format(name=name, width=width, body=body))
    command = ["fingerprint", f"test_suggest/{name}", "--modules", str(file), "--inputs", "1", "--size", "4x4"]
    assert cli.main(command) == code
    out, err = capsys.readouterr()
    assert words in out + err


def atlas_of(differences):
    """Rows of one group of the atlas: the difference of each module, with an interval of 0.004 on both sides."""
    ends = {"low": -0.004, "difference": 0.0, "high": 0.004}
    rows = [
        {"module": name, "dims": 2, "host": "test_resnet", "data": "digits", "slots": "same", "protocol": "p"}
        | {end: difference + offset for end, offset in ends.items()}
        for name, difference in differences.items()
    ]
    return pd.DataFrame(rows, columns=["module", "dims", "host", "data", "slots", "protocol", *ends])


def test_the_atlas_is_shown_and_breaks_near_ties_only():
    expected = {"b": Expected(0.5, 0.1), "c": Expected(-0.5, 0.1), "e": Expected(9.0, 0.1)}
    rows = [Suggestion("stage1", "locality", name, 1.0, macs, 0, 0.1) for name, macs in
            [("a", 100), ("b", 109), ("c", 105), ("d", 111), ("e", 200), ("f", 0)]]  # fmt: skip
    # 100 to 110 are near the cheapest, and nothing is expected of a; 111 is not, and 200 is far from it; 0 is alone
    assert [s.module for s in _ordered(rows, expected)] == ["f", "b", "a", "c", "d", "e"]
    assert [s.module for s in _ordered(rows, {})] == ["f", "a", "c", "b", "d", "e"]


def test_without_rows_the_advice_is_that_without_an_atlas(monkeypatch):
    told = {}
    of = {"se": 0.01, "eca": 0.02, "cbam": -0.01, "coord_attention": 0.03, "self_gate": 0.0}
    for name, atlas in {"rows": atlas_of(of), "empty": atlas_of({}), "other": atlas_of({"timm/gc": 1.0})}.items():
        monkeypatch.setattr("nasbench.report.suggestion.load_atlas", lambda atlas=atlas: atlas)
        told[name] = suggest_for_module("mixconv", each=20)
    assert told["empty"] == told["other"]
    assert all(s.atlas is None for s in told["empty"].suggestions)
    shown = {s.module: s.atlas for s in told["rows"].suggestions}
    assert shown["se"] == AtlasFigure(0.01, 0.01 - 0.004, 0.01 + 0.004, "test_resnet", "digits", "same")
    assert shown["se"].text == "+0.0100 [+0.0060, +0.0140] test_resnet, digits"
    assert shown["position_attention"] is None
    as_json = {s["module"]: s["atlas"] for s in told["rows"].to_dict()["suggestions"]}
    assert as_json["se"]["difference"] == 0.01


def test_an_atlas_that_cannot_be_read_leaves_the_advice(monkeypatch):
    def damaged():
        raise DataError("damaged")

    monkeypatch.setattr("nasbench.report.suggestion.load_atlas", damaged)
    assert all(s.atlas is None for s in suggest_for_module("mixconv").suggestions)
