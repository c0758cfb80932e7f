"""Every declared property against its measurement, both ways, and the record and page of the measurements."""

import runpy

import pytest
from support import ROOT

from nasbench.library.modules import module_spec, module_specs
from nasbench.library.registry import PROPERTIES
from nasbench.measurement.properties import record
from nasbench.measurement.properties.fingerprint import fingerprint
from nasbench.report import property_map

NAMES = [spec.name for spec in module_specs()]
RECORD = record.read(record.fingerprints_file())


def test_every_module_is_on_record_and_nothing_else():
    assert sorted(RECORD) == sorted(NAMES), "run scripts/update_properties"
    series = record.read(record.fingerprints_file(), "series")
    assert sorted(series) == sorted(spec.name for spec in module_specs(kind="module") if set(spec.dims) == {1, 2})
    assert {len(row.size) for row in series.values()} == {1}
    assert all(len(row.size) == max(module_spec(name).dims) for name, row in RECORD.items())
    assert record.recorded("se") == record.recorded("se", 2) != record.recorded("se", 1) == series["se"]
    assert record.recorded("gated_tcn") == record.recorded("gated_tcn", 1)
    assert record.recorded("gated_tcn", 2) is None
    assert record.recorded("no_such_module") is None


@pytest.mark.parametrize("name", NAMES)
def test_what_is_declared_is_measured_or_explained(name):
    spec = module_spec(name)
    unmeasured = {p for p in PROPERTIES if spec.has(p) and not record.has(RECORD[name], p)}
    assert unmeasured == set(record.disagreements().get(name, {})), (
        f"{name} measures {RECORD[name]}: what it declares and does not measure stands in modules/disagreements.yaml "
        "with its reason, and nothing else"
    )


def test_disagreements_are_of_modules_and_have_reasons():
    assert set(record.disagreements()) <= set(NAMES)
    for name, reasons in record.disagreements().items():
        assert reasons, name
        assert all(len(reason) > 20 for reason in reasons.values()), name


@pytest.mark.parametrize(
    "name", ["se", "eca", "coord_attention", "depthwise_separable", "dilated_conv_block", "gated_tcn", "select"]
)
def test_the_record_is_what_is_measured_now(name):
    held = RECORD[name]
    found = fingerprint(name, size=held.size, channels=held.channels)
    assert (found.params, found.exact, found.notes) == (held.params, held.exact, held.notes)
    assert found.macs_per_position == pytest.approx(held.macs_per_position, abs=1e-3)
    assert found.complexity == pytest.approx(held.complexity, abs=1e-3)
    for figure in ("locality", "globality", "sparsity", "multiscale", "self_influence"):
        now, then = getattr(found, figure), getattr(held, figure)
        if then is None:
            assert now is None, figure
        else:
            assert now == pytest.approx(then, abs=0.02), figure


def test_a_figure_on_the_threshold_counts_and_none_does_not():
    row = record.Measured((16, 16), 8, locality=0.1, globality=0.49, sparsity=None, multiscale=0.2, complexity=1.25)
    assert record.measured(row) == ("locality", "multiscale", "complexity")
    assert record.lacking(row) == ("globality", "sparsity")
    assert not record.has(record.Measured((16, 16), 8, complexity=1.26), "complexity")


def test_what_is_written_is_read_back(tmp_path):
    found = fingerprint("cbam", size=(6, 6), inputs=2)
    row = record.Measured.of(found)
    assert row.locality == round(found.locality, 4)
    record.write(tmp_path / "f.json", modules={"z": row, "cbam": row}, series={"eca": row})
    assert list(record.read(tmp_path / "f.json").items()) == [("cbam", row), ("z", row)]
    assert record.read(tmp_path / "f.json", "series") == {"eca": row}
    assert record.read(tmp_path / "none.json") == {}


def test_the_page_is_generated_from_the_record():
    script = runpy.run_path(str(ROOT / "scripts" / "update_properties"))
    text = (ROOT / "docs" / "properties.md").read_text(encoding="utf-8")
    assert text == script["page"](RECORD), "run scripts/update_properties"
    assert all(f"| `{name}` |" in text for name in NAMES)
    for name, reasons in record.disagreements().items():
        assert all(f"- `{name}`, {property}: {reason}" in text for property, reason in reasons.items())


def test_the_figures_show_every_module():
    parallel = (ROOT / "docs" / "properties-parallel.svg").read_text(encoding="utf-8")
    shown = (ROOT / "docs" / "properties-map.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in parallel for name in NAMES)
    groups = property_map.clusters(property_map.property_frame(RECORD))
    assert sorted(name for group in groups for name in group.names) == sorted(NAMES)
    assert all(f">{group.names[0]}" in shown for group in groups)


def test_names_on_the_map_do_not_overlap():
    figure = property_map.draw_map(property_map.property_frame(RECORD))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > 20
    hidden = sum(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    assert hidden == 0
