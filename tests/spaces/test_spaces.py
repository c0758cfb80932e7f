import itertools
import json
import random
import re

import pytest
import yaml
from support import ROOT

from nasbench import backbones
from nasbench.backbones import Slot
from nasbench.cli import main
from nasbench.errors import SpaceError, UnknownNameError
from nasbench.library.plan import Plan
from nasbench.spaces import Selector, Space, list_spaces, load_space

SLOTS = [
    Slot("stage1.block1", 8, (8, 8), "NCHW", "a"),
    Slot("stage1", 8, (8, 8), "NCHW", "a"),
    Slot("stage2", 16, (4, 4), "NCHW", "b"),
]
SMALL = {"variants": ["se", "eca"], "compositions": ["none", "a", "a + b", "a >> b"]}


def test_the_count_is_exact_by_hand():
    """One slot: none, 2 singles, sums {se+se, eca+eca, eca+se} and 4 series: 10 distinct; two slots: 100."""
    resolved = Space.from_dict(SMALL).resolve(SLOTS)
    assert [slot.slot for slot in resolved.slots] == ["stage1", "stage2"]
    assert len(resolved.slots[0].options) == 10
    assert resolved.count == 100
    assert len({plan.hash for plan in resolved}) == 100


def test_what_a_composition_does_not_use_disappears():
    resolved = Space.from_dict(SMALL).resolve(SLOTS)
    base = {"stage2.composition": "none", "stage2.a": "se", "stage2.b": "se"}
    plans = {
        resolved.plan({"stage1.composition": "a", "stage1.a": "eca", "stage1.b": b, **base}) for b in ("se", "eca")
    }
    assert plans == {Plan.of({"stage1": "eca"})}


def test_the_flat_space_is_complete():
    """Every setting of the parameters is a plan of the enumeration, and every plan has a setting."""
    resolved = Space.from_dict(SMALL).resolve(SLOTS)
    settings = itertools.product(*resolved.parameters.values())
    reached = {resolved.plan(dict(zip(resolved.parameters, s, strict=True))).hash for s in settings}
    assert reached == {plan.hash for plan in resolved}
    for plan in resolved:
        assert resolved.plan(resolved.params(plan)) == plan
    assert resolved.params(Plan.of({"stage1": "dual_pool"})) is None
    assert resolved.params(Plan.of({"stage1.block1": "se"})) is None


def test_sampling_is_uniform_over_distinct_plans():
    resolved = Space.from_dict({**SMALL, "slots": ["stage1"]}).resolve(SLOTS)
    rng = random.Random(0)
    drawn = [resolved.sample(rng).hash for _ in range(5000)]
    counts = [drawn.count(plan.hash) for plan in resolved]
    assert min(counts) > 400
    assert max(counts) < 600


def test_the_unseen_are_drawn_to_the_last_one():
    resolved = Space.from_dict({**SMALL, "slots": ["stage1"]}).resolve(SLOTS)
    rng, seen = random.Random(0), set()
    while (plan := resolved.sample_unseen(rng, seen)) is not None:
        assert plan.hash not in seen
        seen.add(plan.hash)
    assert len(seen) == resolved.count


def test_compositions_of_two_properties():
    given = {"variants": ["se", "eca", "dual_pool"], "compositions": ["a", "a >> b"], "distinct_properties": True}
    options = {e.canonical() for e in Space.from_dict(given).resolve(SLOTS).slots[0].options}
    assert options == {
        *("se", "eca", "dual_pool"),
        *("se >> dual_pool", "eca >> dual_pool", "dual_pool >> se", "dual_pool >> eca"),
    }


def test_variants_that_do_not_fit_are_left_out_with_the_reason():
    series = [Slot("stage1", 8, (12,), "NLC", "a")]
    resolved = Space.from_dict({"variants": ["se", "cbam"]}).resolve(series)
    assert [v.canonical() for v in resolved.slots[0].variants] == ["se"]
    assert resolved.excluded[0][:2] == ("stage1", "cbam")
    assert "2-D" in resolved.excluded[0][2]
    with pytest.raises(SpaceError, match="no variant fits"):
        Space.from_dict({"variants": ["cbam"]}).resolve(series)


def test_selectors_take_up_what_modules_declare():
    chosen = [v.canonical() for v in Selector(property="multiscale", max_cost_order=1).variants()]
    assert "sk" in chosen
    assert "se" not in chosen
    everything = [v.canonical() for v in Selector(modules="se", values="all").variants()]
    assert everything == ["se", "se(reduction=4)", "se(reduction=8)"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"variants": []}, "variants"),
        ({"variants": ["sse"]}, "did you mean"),
        ({"compositions": ["a >> "]}, "malformed"),
        ({"compositions": ["a", "x"]}, "no module named 'x'"),
        ({"slot": ["stage1"]}, "slot"),
        ({"variants": [{"property": "localty"}]}, "locality"),
        ({"variants": [{"values": "some"}]}, "variants"),
    ],
)
def test_malformed_spaces_name_the_key(change, word):
    with pytest.raises(SpaceError, match=word):
        Space.from_dict({**SMALL, **change})


def test_slots_that_do_not_exist():
    with pytest.raises(SpaceError, match="no slot matches neck1; the backbone has stage1"):
        Space.from_dict({**SMALL, "slots": ["neck1"]}).resolve(SLOTS)


def test_files(tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text("variants: [se]\n")
    assert load_space(file).name == "mine"
    for text, word in (
        ("- a", "mapping"),
        ("{", "not valid YAML"),
        ("variants: 3", "variants"),
        ("x: !!python/name:os", "YAML"),
    ):
        file.write_text(text)
        with pytest.raises(SpaceError, match=word):
            load_space(file)
    with pytest.raises(UnknownNameError, match="five-properties"):
        load_space("five-propertys")
    with pytest.raises(SpaceError, match="cannot read"):
        load_space("nowhere.yaml")
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "own.yaml").write_text("variants: [se]\n")
    monkeypatch.chdir(tmp_path)
    assert "own" in list_spaces()


@pytest.mark.parametrize(
    ("name", "host", "size"),
    [
        ("five-properties", "test_resnet", (3, 64, 64)),
        ("forecasting", "patchtst", (96, 7)),
        ("forecasting", "dlinear", (96, 7)),
        ("multi-scale", "test_vit", (3, 64, 64)),
        ("multi-scale", "patchtst", (96, 7)),
        ("linear-attention", "test_resnet", (3, 64, 64)),
        ("channel-gates", "test_resnet", (3, 64, 64)),
        ("fusion", "test_vit", (3, 64, 64)),
    ],
)
def test_ready_made_spaces_resolve(name, host, size):
    resolved = load_space(name).resolve(backbones.slots(host, input_size=size))
    assert resolved.count > 1000
    assert Plan.of(None) in resolved
    if name not in ("forecasting", "multi-scale"):  # those serve images and series, with what fits
        assert not resolved.excluded


def test_the_tiny_space_is_small_enough_to_tabulate():
    """Three slots of nothing or one of five: 6 ** 3."""
    for size in (32, 64):
        assert load_space("tiny").resolve(backbones.slots("test_resnet", input_size=(3, size, size))).count == 216


def test_the_listing_counts_all_and_leaves_out_a_broken_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "broken.yaml").write_text("variants: [sse]\n")
    monkeypatch.chdir(tmp_path)
    assert main(["spaces", "--backbone", "test_resnet", "--size", "32", "--json"]) == 1
    out, err = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(out)["data"]}
    assert set(rows) == set(list_spaces()) - {"broken", "sr-transformers"}
    assert "left out, because their plans do not fit test_resnet: sr-transformers" in err
    assert rows["tiny"]["plans"] == 216
    assert "skipped: broken" in err
    assert "did you mean 'se'" in err
    (tmp_path / "narrow.yaml").write_text(
        "base: tiny\nquotas: [{max: 1}]\nonly: {exclude: se}\n",
    )
    assert main(["spaces", "narrow.yaml", "--backbone", "test_resnet", "--size", "32"]) == 0
    page = capsys.readouterr().out
    # each of 3 slots with depthwise_separable, mixconv or self_attention (the gate holds two modules), or nothing
    assert "plans in test_resnet: 10" in page
    assert "max: 1" in page
    assert "exclude: [se]" in page


DOCUMENTED = re.findall(
    r"```yaml\n(?:# ([\d,]+) plans in test_resnet\n)?(.*?)```",
    (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize(("count", "written"), DOCUMENTED)
def test_the_documented_spaces_hold_as_many_plans_as_is_said(count, written):
    space = Space.from_dict(yaml.safe_load(written))
    resolved = space.resolve(backbones.slots("test_resnet", input_size=(3, 64, 64)))
    assert resolved.count > 1
    assert count in ("", f"{resolved.count:,}")  # what selects by property grows with the library
