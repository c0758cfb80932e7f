"""The record of the modules and the pages made of it: nothing stale, nothing unreadable."""

import importlib.util
import json
import subprocess
import sys
from datetime import date
from importlib.machinery import SourceFileLoader

import pytest
from support import ROOT
from support.atlas import atlas, effect, row

from nasbench import cli, testing
from nasbench.cli import console
from nasbench.evidence.atlas import write_atlas
from nasbench.library import status
from nasbench.library.modules import module_spec, module_specs
from nasbench.report import catalogue
from nasbench.report.docstrings import equations, render

SPECS = {spec.name: spec for spec in module_specs()}
HANDFUL = 3  # modules traced anew a day; tests/modules/test_contract.py traces all
SHORT = {"locality": "L", "globality": "G", "sparsity": "S", "multiscale": "M"}


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("update_gallery", str(ROOT / "scripts" / "update_gallery"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("update_gallery", loader))
    loader.exec_module(module)
    return module


def test_the_record_names_every_module():
    assert sorted(status.read_status(status.status_file())) == sorted(SPECS), "run scripts/update_gallery"


@pytest.mark.parametrize("name", SPECS)
def test_recorded_params_and_macs_are_those_of_today(name):
    held = status.recorded_status(name)
    assert (held.params, held.macs, held.exact) == catalogue.default_count(SPECS[name]), "run scripts/update_gallery"


def test_recorded_outcomes_are_those_of_today():
    start = date.today().toordinal() * HANDFUL
    for index in range(start, start + HANDFUL):
        spec = list(SPECS.values())[index % len(SPECS)]
        held = status.recorded_status(spec.name)
        # messages differ among versions of torch, outcomes should not
        assert testing.compile_status(spec)[:3].strip(": ") == held.compile[:3].strip(": "), spec.name
        assert testing.export_status(spec)[:3].strip(": ") == held.export[:3].strip(": "), spec.name
        if importlib.util.find_spec("onnxscript") and importlib.util.find_spec("onnxruntime"):
            assert testing.onnx_status(spec)[:3].strip(": ") == held.onnx[:3].strip(": "), spec.name


def test_every_no_names_the_operator_and_nine_in_ten_say_yes():
    for tracer in ("compile", "export", "onnx"):
        outcomes = [getattr(status.recorded_status(name), tracer) for name in SPECS]
        refused = [outcome for outcome in outcomes if outcome != "yes"]
        assert all(outcome.startswith("no: ") and ".py]" in outcome for outcome in refused)
        assert len(refused) <= 0.1 * len(SPECS)


def test_the_gallery_page_is_that_of_today(script):
    made = script.page(catalogue.overview(list(SPECS.values())), status.recorded_torch())
    assert script.GALLERY.read_text() == made, "run scripts/update_gallery"
    assert set(script.FAMILIES) == {spec.family for spec in SPECS.values()}


def test_the_gallery_page_holds_each_module_under_its_properties(script):
    lines = script.page(catalogue.overview([module_spec("se"), module_spec("danet")]), "2.0").splitlines()
    se, danet = (next(line for line in lines if line.startswith(f"| `{name}` |")) for name in ("se", "danet"))
    assert se.startswith("| `se` | 1, 2 | globality | N | 512 | 512 | yes | yes | yes | 2018 | Hu et al.")
    assert "| N² |" in danet
    assert "| globality (2) | a position can be reached from any other | `se`, `danet` |" in lines
    assert next(line for line in lines if line.startswith("| complexity (1)")).endswith("| `se` |")


def test_what_is_written_is_read_back_shorter(tmp_path):
    file = tmp_path / "status.json"
    long = status.ModuleStatus(1, 2, False, "no: " + "x" * 999, "no: why [f(x); se.py:51]")
    status.write_status(file, {"b": long, "a": status.ModuleStatus()}, torch_version="2.0")
    read = status.read_status(file)
    assert list(read) == ["a", "b"]
    assert read["a"] == status.ModuleStatus(None, None, True, "", "")
    assert read["b"].export == "no: why [f(x); se.py]"  # a line number would go stale with every edit
    assert read["b"].compile.endswith("x…")
    assert len(read["b"].compile) == 300
    assert status.read_status(tmp_path / "nothing.json") == {}


def test_reading_the_record_needs_no_torch():
    code = "import sys; from nasbench.library.status import recorded_status as r; print(r('se').params, 'torch' in sys.modules)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["512", "False"]


def test_the_table_builds_and_traces_nothing(monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "create_module", lambda *a, **k: pytest.fail("a module was built"))
    assert cli.main(["modules", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["data"]
    heads, pretexts = ([row for row in rows if row["kind"] == kind] for kind in ("head", "pretext"))
    rows = [row for row in rows if row["kind"] not in ("head", "pretext")]
    assert [row["name"] for row in heads] == [s.name for s in module_specs(kind="head")]
    assert [row["name"] for row in pretexts] == [s.name for s in module_specs(kind="pretext")]
    assert next(row for row in heads if row["name"] == "fcn")["tasks"] == ["segmentation"]
    assert [(row["family"], row["name"]) for row in rows] == sorted((s.family, s.name) for s in SPECS.values())
    row = next(row for row in rows if row["name"] == "se")
    assert row["paper"].startswith("Hu et al.")
    assert (row["params"], row["macs"], row["compile"], row["export"], row["year"]) == (512, 512, "yes", "yes", 2018)


def test_the_table_fits_a_terminal_of_80_columns(monkeypatch, capsys):
    monkeypatch.setattr(console, "width", lambda: 80)
    assert cli.main(["modules"]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ["name", "dims", "LGSM", "cost", "params", "MACs", "compile", "export", "year"]
    heads = lines[len(SPECS) :]
    start = 1 + len(module_specs(kind="head"))
    heads, pretexts = heads[:start], heads[start:]
    assert pretexts[0].split() == ["pretext", "learns", "from", "year"]
    assert len(pretexts) == 1 + len(module_specs(kind="pretext"))
    assert ["ts2vec", "series", "2022"] in [line.split() for line in pretexts]
    assert heads[0].split() == ["head", "tasks", "year"]
    assert len(heads) == 1 + len(module_specs(kind="head"))  # no row is folded
    assert ["fcos", "detection", "2019"] in [line.split() for line in heads]
    triplet = next(line for line in lines if line.startswith("triplet_attention"))
    assert triplet.split() == ["triplet_attention", "2", "LG··", "N", "300", "226", "k", "yes", "yes", "2021"]
    assert all(f"{letter} {name[:5]}" in err.replace("multi-scale", "multiscale") for name, letter in SHORT.items())


def test_a_users_module_has_no_record(tmp_path, clean_registry, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch.nn as nn\nimport nasbench as nb\n"
        "@nb.register_module(name='gallery_mine', properties=('locality',), dims=2)\n"
        "class Mine(nn.Conv2d):\n"
        "    '''A convolution.'''\n"
        "    def __init__(self, channels, *, kernel=3):\n"
        "        super().__init__(channels, channels, kernel, padding=kernel // 2)\n"
    )
    assert cli.main(["modules", "gallery_mine", "--modules", str(file), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["data"]
    assert (row["params"], row["macs"], row["compile"], row["export"], row["year"]) == (None, None, "", "", None)
    assert cli.main(["modules", "gallery_mine"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["gallery_mine", "2", "locality", "N"]
    assert cli.main(["show", "gallery_mine"]) == 0
    page = capsys.readouterr().out
    assert "36,928 params, 9,437,184 MACs at C=64, 16x16" in page  # 9 C² + C; 9 C² at 256 positions
    assert "compile     not recorded" in page
    assert "kernel = 3" in page


def test_a_page_is_wrapped_and_says_why_torch_refuses():
    page = catalogue.describe("recurrent").text(72)
    assert max(map(len, page.splitlines()[:-1])) <= 72  # the last line is the path of the source
    assert "compile     no: Unsupported" in page
    assert "RNN, GRU, or LSTM" in " ".join(page.split())
    assert "    cell = 'lstm' ('lstm' or 'gru'); searched: 'lstm', 'gru'" in page
    assert "of order N²" in catalogue.describe("danet").text()
    assert "an identity, bit for bit" in catalogue.describe("channel_attention").text()
    assert "1, 2" not in catalogue.describe("cot").text().split("compile")[0]
    assert "limits      channels must be a multiple of 8" in catalogue.describe("cot").text()


def test_a_page_has_the_rows_of_the_atlas(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("nasbench.evidence.atlas.atlas_file", lambda: tmp_path / "atlas.parquet")
    write_atlas(
        atlas(row("se", latency_ratio=1.023), effect("se", "co2-patchtst", -0.2, low=-0.21)), tmp_path / "atlas.parquet"
    )
    page = catalogue.describe("se").text()
    assert "    co2, patchtst, same        -0.200 [-0.210, -0.190]  WORSE        2.2 k MACs\n" in page
    assert "    digits, test_resnet, same  +0.010 [-0.010, +0.030]  NOT DECIDED  2.2 k MACs  latency 1.02x\n" in page
    assert max(map(len, catalogue.describe("se").text(60).splitlines()[:-1])) <= 60
    assert "not measured; `nasbench search --plan eca`" in " ".join(catalogue.describe("eca").text(60).split())
    assert "not measured" not in catalogue.describe("fpn").text()
    assert cli.main(["show", "se", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]["atlas"]
    assert [(each["host"], each["low"], each["latency_ratio"]) for each in told] == [
        ("patchtst", -0.21, None), ("test_resnet", -0.01, 1.023),
    ]  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_a_page_has_no_latex_left(name):
    text = catalogue.describe(name).text()
    assert not set("\\\ue000\ue001\ue002\ue003") & set(text)
    assert ".. math" not in text
    assert all(text.count(a) == text.count(b) for a, b in ("[]", "{}"))


@pytest.mark.parametrize(
    ("latex", "lines"),
    [
        (r"y = x \odot \sigma(W_2\, \mathrm{relu}(W_1 x))", ["y = x ⊙ σ(W₂ relu(W₁ x))"]),
        (r"a &= b,\quad c = d \\ e &= f", ["a = b", "c = d", "e = f"]),
        (r"\frac{1}{N} \sum_{j \in S_i} q^T k_j", ["1/N Σ_(j ∈ S_i) qᵀ k_j"]),
        (r"\frac{e^{A_{sn}}}{\sum_m e^{A_{sm}}}", ["(e^(A_sn)) / (Σ_m e^(A_sm))"]),
        (r"\hat q \cdot \bar V / \sqrt{d} + \sqrt{C / n}", ["q\u0302 cdot V\u0304 / √d + √(C / n)"]),
        (r"\mathrm{conv}_{3 \times 3}(x)^2 10^{-9}", ["conv_3×3(x)² 10⁻⁹"]),
        (r"\underbrace{S D}_{\text{near}} + \max_{a \in \{C, H\}} a", ["S D [near] + max_(a ∈ {C, H}) a"]),
        (r"y = \begin{cases} a & i \in t \\ b & \text{else} \end{cases}", ["y = { a for i ∈ t; b else }"]),
        (r"[\overrightarrow{\mathrm{RNN}}, \big( \ln M \big)]", ["[→RNN, (ln M)]"]),
    ],
)
def test_equations_read_as_people_write_them(latex, lines):
    assert equations(latex) == lines


def test_a_docstring_is_wrapped_by_its_parts():
    doc = "One two three\nfour.\n\n.. math:: a \\odot b,\\quad c"
    doc += "\n\nArgs:\n    x: Some words\n        that go on.\n    y: More."
    assert render(doc, 20) == (
        "One two three four.\n\n    a ⊙ b\n    c\n\nArgs:\n    x: Some words\n        that go on.\n    y: More."
    )
