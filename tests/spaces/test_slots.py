"""Slots and variants chosen by what they are, and other choices at some slots."""

import json

import pytest

from nasbench import backbones
from nasbench.backbones import Slot
from nasbench.errors import SpaceError
from nasbench.library import plugins
from nasbench.library.registry import MODULES
from nasbench.spaces import Selector, Space, load_space, usual_compositions

SLOTS = [
    Slot("embed", 8, (16,), "NLC", "e"),
    Slot("stage1.block1", 8, (8, 8), "NCHW", "a"),
    Slot("stage1", 8, (8, 8), "NCHW", "a"),
    Slot("stage2.block1", 16, (4, 12), "NCHW", "b"),
    Slot("stage2", 16, (4, 12), "NCHW", "b"),
    Slot("stage10", 32, (2, 2), "NHWC", "c"),
]


def chosen(*written):
    resolved = Space.from_dict({"variants": ["se"], "slots": list(written)}).resolve(SLOTS)
    return [slot.slot for slot in resolved.slots]


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("stages", ["stage1", "stage2", "stage10"]),
        ("stage2", ["stage2"]),
        ("stage?", ["stage1", "stage2"]),
        ("*.block*", ["stage1.block1", "stage2.block1"]),
        ({"pattern": "stages", "max_channels": 16}, ["stage1", "stage2"]),
        ({"min_size": 9}, ["embed", "stage2.block1", "stage2"]),
        ({"pattern": "stages", "min_size": 3, "max_size": 8}, ["stage1"]),
        ({"min_positions": 48, "max_positions": 48}, ["stage2.block1", "stage2"]),
        ({"dims": 1}, ["embed"]),
        ({"layout": "nhwc"}, ["stage10"]),
        ({"pattern": "stages", "last": 2}, ["stage2", "stage10"]),
        ({"pattern": "stages", "first": 1}, ["stage1"]),
        ({"pattern": ["stages", "embed"], "exclude": "stage1*"}, ["embed", "stage2"]),
        ({"pattern": "stages", "min_channels": 16, "first": 1}, ["stage2"]),
    ],
)
def test_slots_are_chosen_by_what_they_are(written, names):
    assert chosen(written) == names


def test_several_choices_unite_in_network_order():
    assert chosen("stage10", {"dims": 1}, "stage1*") == ["embed", "stage1.block1", "stage1", "stage10"]
    # a pattern is taken where it matches, so that a space serves several backbones
    assert chosen("stages", "trend*") == ["stage1", "stage2", "stage10"]


@pytest.mark.parametrize(
    ("slots", "word"),
    [
        (["stage1", "stage3"], "no slot matches stage3; .*did you mean"),
        (["neck*"], r"no slot matches neck\*; the backbone has embed"),
        ([{"min_size": 99}], "no slot matches.*'min_size': 99"),
        ([{"min_sise": 9}], "did you mean 'min_size'"),
        ([{"layout": "NCWH"}], "did you mean 'NCHW'"),
        ([{"dims": 3}], "slots.0.dims.*1 or 2, got 3"),
        ([{"last": 0}], "slots.0.last.*greater than or equal to 1"),
        ([5], "a slot selector is a mapping"),
    ],
)
def test_wrong_slots_are_named(slots, word):
    with pytest.raises(SpaceError, match=word):
        Space.from_dict({"variants": ["se"], "slots": slots}).resolve(SLOTS)


def test_overrides_give_other_choices_at_some_slots():
    space = Space.from_dict(
        {
            "variants": ["se", "eca"],
            "overrides": [
                {"slots": {"pattern": "stages", "last": 2}, "variants": "dual_pool"},
                {"slots": "stage10", "compositions": ["none", "a >> a"]},
                {"slots": "trend*", "variants": "cbam"},
            ],
        }
    )
    options = {s.slot: {e.canonical() for e in s.options} for s in space.resolve(SLOTS).slots}
    assert options == {
        "stage1": {"none", "se", "eca"},
        "stage2": {"none", "dual_pool"},
        "stage10": {"none", "dual_pool >> dual_pool"},
    }
    assert space.resolve(SLOTS).count == 3 * 2 * 2
    with pytest.raises(SpaceError, match="overrides: no slot matches stage3"):
        Space.from_dict({"variants": ["se"], "overrides": {"slots": "stage3"}}).resolve(SLOTS)


def test_variants_are_chosen_by_every_declared_condition():
    def names(**conditions):
        return {v.canonical() for v in Selector(**conditions).variants()}

    assert names(property=["locality", "sparsity"], dims=1) == names(property="locality") & names(
        property="sparsity", dims=1
    )
    assert names(min_cost_order=2) | names(max_cost_order=1) == names()
    assert not names(min_cost_order=2) & names(max_cost_order=1)
    assert {"se", "eca"} <= names(family="channel") == names() - names(exclude=list(names(family="channel")))
    assert names(modules=["se", "*attention*"], exclude="channel*") >= {"se", "self_attention"}
    assert "channel_attention" not in names(modules="*attention*", exclude="channel*")
    assert names(exclude_family=["channel", "timm"]) == {
        n for n in names() - names(family="channel") if not n.startswith("timm/")
    }
    assert "gate" not in names()
    assert "fpn" not in names()


@pytest.mark.parametrize(
    ("selector", "word"),
    [
        ({"modules": "sse"}, "no module named 'sse'; did you mean 'se'"),
        ({"modules": "zz*"}, r"no module matches the pattern 'zz\*'"),
        ({"family": "chanel"}, "did you mean 'channel'"),
        ({"property": "sparsity", "family": "channel"}, "no module meets"),
        ({"max_cost": 1}, "did you mean 'max_cost_order'"),
        ({"max_cost_order": "low"}, "variants.0.max_cost_order.*valid integer.*'low'"),
    ],
)
def test_wrong_selectors_are_named(selector, word):
    with pytest.raises(SpaceError, match=word):
        Space.from_dict({"variants": [selector]})


def test_depth_stands_for_the_usual_compositions():
    assert usual_compositions(0) == ("none", "a")
    assert usual_compositions(1) == ("none", "a", "a >> b", "a + b", "gate(a, b)")
    space = Space.from_dict({"variants": ["se", "eca"], "depth": 2, "slots": "stage1"})
    options = {e.canonical() for e in space.resolve(SLOTS).slots[0].options}
    assert {"se >> eca >> se", "eca + eca + se", "gate(eca >> se, eca)", "eca + gate(se, eca)"} <= options
    # by hand, of two variants: none, 2 alone; >> 4, + 3, gate 4; of three: >> 8, (>>) + 8, gate(>>) 8,
    # + >> 6, + 4, gate(+) 6, >> + 6, gate >> 8, gate + 8, gate(gate) 8, >> gate 8
    assert len(options) == 3 + 11 + 78
    deepest = usual_compositions(3)
    assert len(set(deepest)) == len(deepest) == 2 + 3 + 11 + 3 * 11 + 6, "six of three variants are no series"
    assert Space.from_dict(space.model_dump(mode="json")) == space


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"depth": 4}, "depth is 4; allowed: 0"),
        ({"depth": "two"}, "depth is 'two'"),
        ({"depth": 1, "compositions": ["a"]}, "not both"),
        ({"dept": 1}, "did you mean 'depth'"),
    ],
)
def test_wrong_depths(change, word):
    with pytest.raises(SpaceError, match=word):
        Space.from_dict({"variants": ["se"], **change})


def test_too_many_settings_to_count_are_refused():
    space = Space.from_dict({"variants": [{"modules": "*"}], "depth": 3, "slots": "stage1"})
    with pytest.raises(SpaceError, match="settings at one slot; at most 200,000"):
        _ = space.resolve(SLOTS).count


def test_compositions_that_do_not_fit_are_left_out_with_the_reason():
    """`pan` of a series, or a module of a composition that serves one dimension only."""
    series = [Slot("stage1", 8, (12,), "NLC", "a")]
    resolved = Space.from_dict({"variants": ["se"], "compositions": ["none", "a", "a >> cbam"]}).resolve(series)
    assert resolved.slots[0].compositions == ("none", "a")
    assert resolved.excluded[0][:2] == ("stage1", "a >> cbam")
    assert "2-D" in resolved.excluded[0][2]


PLUGIN = """
from torch import nn
from nasbench.library.registry import register_module

@register_module(name="{name}", properties=("multiscale",), paper="", dims=2)
class Mine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x):
        return x
"""


def test_a_users_modules_join_every_space_that_selects_by_property(tmp_path, clean_registry, capsys):
    from nasbench.cli import main

    host = backbones.slots("test_resnet", input_size=(3, 32, 32))
    before = load_space("multi-scale").resolve(host)
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(name="users_own_scales"))
    command = ["spaces", "multi-scale", "--backbone", "test_resnet", "--size", "32", "--json"]
    assert main([*command, "--modules", str(file)]) == 0
    row = json.loads(capsys.readouterr().out)["data"][0]
    assert "users_own_scales" in row["variants"]
    assert row["plans"] == load_space("multi-scale").resolve(host).count > before.count
    assert "users_own_scales" not in [v.canonical() for v in load_space("linear-attention").expand()]
    file.write_text(PLUGIN.format(name="users_own_scales").replace("multiscale", "globality"))
    MODULES.drop(str(file))
    plugins.load_path(str(file))
    assert "users_own_scales" in [v.canonical() for v in load_space("linear-attention").expand()]
