"""The page of the atlas, from rows made by hand."""

import re

import pytest
from support import ROOT
from support.atlas import atlas, effect, row

from nasbench.evidence.atlas import Unmeasured, atlas_file, read_atlas
from nasbench.report.atlas.forest import forest_frame
from nasbench.report.atlas.page import atlas_page, write_page
from nasbench.report.atlas.summary import agreements, never_better, standings

A, B, C = "digits-test_resnet", "digits-test_convnext", "co2-patchtst"

ROWS = (
    effect("se", A, 0.03), effect("se", B, 0.02, 0.005),
    effect("eca", A, 0.02), effect("eca", B, -0.02),
    effect("cbam", A, 0.005), effect("cbam", B, 0.0),
    effect("sk", A, -0.2), effect("sk", B, -0.1),
    effect("caa", A, -0.05), effect("caa", B, 0.001),
    effect("se", C, 0.02, 0.05), effect("sk", C, -0.5, 0.1),
    effect("caa", A, 0.05, slots="stage2"),
)  # fmt: skip


@pytest.fixture(scope="module")
def given():
    unmeasured = (Unmeasured("timm/halo", "test_resnet", "digits", "same", "RuntimeError: 1 < 2 |\n more"),)
    return atlas(*ROWS, unmeasured=unmeasured)


def test_modules_are_sorted_by_verdicts_then_by_strength(given):
    found = standings(given.rows, 2)
    assert [(e.module, e.better, e.worse, e.groups) for e in found] == [
        ("se", 2, 0, 2), ("cbam", 0, 0, 2), ("eca", 1, 1, 2), ("caa", 0, 1, 2), ("sk", 0, 2, 2),
    ]  # fmt: skip
    # se: 0.03 / 0.01 and 0.02 / 0.005; cbam: 0.005 / 0.01 and 0; eca: 2 and -2
    assert [e.strength for e in found] == pytest.approx([3.5, 0.25, 0, -2.45, -15])


def test_what_never_helped_is_better_nowhere_and_at_no_single_stage(given):
    assert [e.module for e in never_better(given.rows, 2)] == ["sk"]  # caa helps at stage2
    assert [e.module for e in never_better(given.rows, 1)] == ["sk"]


def test_agreement_of_two_hosts_is_kendalls_tau(given):
    # test_convnext: se .02, caa .001, cbam 0, eca -.02, sk -.1; test_resnet: se, eca, cbam, caa, sk
    # of ten pairs, caa-cbam, caa-eca and cbam-eca are in the other order
    (found,) = agreements(given.rows, 2)
    assert (found.first, found.second) == (("test_convnext", "digits"), ("test_resnet", "digits"))
    assert found.ranks.plans == 5
    assert found.ranks.tau == pytest.approx((7 - 3) / 10)
    assert agreements(given.rows, 1) == []


def test_a_forest_plot_has_points_of_a_score_and_percent_of_an_error(given):
    images = forest_frame(given.rows, given.groups, 2, "locality")
    assert set(images["module"]) == {"cbam", "sk"}
    first = images.iloc[0]
    assert (first["module"], first["group"]) == ("cbam", "digits, test_convnext")
    assert images.iloc[1][["difference", "low", "high"]].tolist() == pytest.approx([0.5, -0.5, 1.5])
    series = forest_frame(given.rows, given.groups, 1, "globality")
    assert series.iloc[0][["difference", "low", "high"]].tolist() == pytest.approx([4, -6, 14])  # of an error of 0.5


def test_the_page_says_what_to_try_first_and_how_sure_that_is(given):
    page = atlas_page(given)
    images = page.partition("## Images: try these first")[2].partition("## ")[0]
    assert (
        "Of 5 modules, 2 are BETTER on some host and data, 1 on more than one and WORSE on none: `se`. 2 are" in images
    )
    assert re.findall(r"^\d\. `(.*?)`, (.*?) the MACs", images, re.MULTILINE) == [
        ("se", "1.10x"), ("cbam", "1.10x"), ("eca", "1.10x"),
    ]  # fmt: skip
    assert "- digits, test_resnet: **BETTER**, gain +0.030 [+0.020, +0.040] in accuracy\n" in images
    assert "BETTER at a single stage: `caa`: stage2 of test_resnet on digits." in images
    series = page.partition("## Series: try these first")[2].partition("## ")[0]
    assert "None of 2 modules is BETTER than the bare host on the one host and data set that was measured." in series
    assert "gain +0.020 [-0.030, +0.070] in mse" in series
    assert "| images | digits, test_convnext | digits, test_resnet | 5 | +0.4 [" in page
    assert (
        "**Images**: 1 of 5 modules is WORSE on some host and data and BETTER on none:\n\n- WORSE on 2 of 2: `sk`."
        in page
    )
    assert "No row of `timm/halo` (same) on digits, test_resnet: RuntimeError: 1 &lt; 2 \\| more" in page
    assert "- Latency was not measured on digits, test_resnet." in page
    timed = atlas_page(atlas(row("se", latency_ratio=1.2), row("eca")))
    assert "Latency of 1 of 2 rows on digits, test_resnet: a search times at most 32 models" in timed
    assert "not measured yet: co2, dlinear; cifar10, test_resnet" in page


def test_the_tables_hold_every_row_with_the_values_to_sort_by(given):
    page = atlas_page(given)
    same, single = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert same.count("<tr><td>") == len(ROWS) - 1
    assert '<td class="number" data-value="0.03">+0.030 [+0.020, +0.040]</td><td>BETTER</td>' in same
    assert '<td class="number" data-value="2200">2.2 k (1.10x)</td>' in same
    assert '<th class="number">stage2</th>' in single
    assert "BETTER</td></tr>" in single
    assert "\n\n" not in same + single, "a blank line would end the HTML in Markdown"


def test_a_control_is_shown_only_where_its_cost_is_near():
    near = {"control_difference": 0.04, "control_low": 0.03, "control_high": 0.05}
    page = atlas_page(atlas(row("se", **near, control_verdict="BETTER"), row("eca", **near)))
    assert page.count("+0.040 [+0.030, +0.050]") == 1
    assert "At a single stage" not in page
    assert "BETTER at a single stage" not in page
    assert "same slots, and 1 of 1 controls lie below the bare host" in page
    assert '<td class="number" data-value="-0.03">-0.030</td>' in page, "0.01 - 0.04"
    assert "No control was trained on: digits, test_resnet." in atlas_page(atlas(row("se")))


def test_twins_are_named_together_and_count_once():
    same = [effect(name, group, 0.03) for name in ("timm/eca", "eca", "se") for group in (A, B)]
    same[-1] |= {"macs": 2201}  # se costs more on B
    given = atlas(*same)
    first, second = standings(given.rows, 2)
    assert (first.module, first.twins, second.module) == ("eca", ("timm/eca",), "se")
    assert agreements(given.rows, 2)[0].ranks.plans == 2
    page = atlas_page(given)
    assert "1. `eca` (the same as `timm/eca`), 1.10x the MACs" in page
    assert "Of 2 modules, 2 are BETTER on some host and data" in page
    assert page.count("<code>timm/eca</code>") == 2, "the table keeps both"


def test_an_empty_atlas_has_a_page():
    page = atlas_page(atlas())
    assert "No group with images was measured yet." in page
    assert "No two groups of one kind were measured yet." in page


def test_plots_are_written_and_old_ones_deleted(given, tmp_path):
    (tmp_path / "atlas-images-old.svg").touch()
    write_page(given, tmp_path)
    shown = re.findall(r"\((atlas-.*?\.svg)\)", (tmp_path / "atlas.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(file.name for file in tmp_path.glob("*.svg"))
    assert "atlas-images-globality.svg" in shown
    text = (tmp_path / "atlas-images-globality.svg").read_text(encoding="utf-8")
    assert "points of accuracy" in text
    assert float(re.search(r'width="([\d.]+)pt"', text)[1]) * 96 / 72 <= 360, "fits a phone"


def test_the_committed_page_is_that_of_the_committed_rows():
    text = (ROOT / "docs" / "atlas.md").read_text(encoding="utf-8")
    assert text == atlas_page(read_atlas(atlas_file())), "run scripts/atlas collect"
