"""The atlas file: what it holds, and which rows are refused."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.atlas import VERSIONS, atlas, frame, row

import nasbench as nb
from nasbench.errors import DataError, InputError
from nasbench.evidence import atlas as module
from nasbench.evidence.atlas_protocol import GROUPS, PASSES, group_named

PROMISED = """
    module dims property host data slots seeds difference low high verdict control_difference control_low
    control_high control_verdict params macs latency_ratio protocol versions
""".split()  # noqa: SIM905


def test_the_atlas_has_the_promised_columns_and_types():
    shipped = nb.load_atlas()
    assert list(shipped) == PROMISED == list(module.COLUMNS)
    assert {name: shipped[name].dtype.kind for name in ("dims", "seeds", "params", "macs")} == dict.fromkeys(
        ("dims", "seeds", "params", "macs"), "i"
    )
    assert all(shipped[name].dtype.kind == "f" for name, kind in module.COLUMNS.items() if kind is float)


def test_the_committed_rows_fit():
    module.check_atlas(module.read_atlas(module.atlas_file()))


def test_what_is_written_is_read_again(tmp_path):
    unmeasured = module.Unmeasured("sk", "test_resnet", "digits", "stage4", "a reason")
    given = atlas(row("se"), row("eca"), row("se", "co2-patchtst"), unmeasured=(unmeasured,))
    module.write_atlas(given, tmp_path / "a.parquet")
    again = module.read_atlas(tmp_path / "a.parquet")
    module.check_rows(again.rows)
    assert list(zip(again.rows["module"], again.rows["data"], strict=True)) == [
        ("eca", "digits"), ("se", "co2"), ("se", "digits"),
    ]  # fmt: skip
    assert (again.groups, again.unmeasured) == (given.groups, (unmeasured,))
    rows = module.rows_of("se", tmp_path / "a.parquet")
    assert [(each["data"], each["difference"], each["latency_ratio"]) for each in rows] == [
        ("co2", 0.01, None), ("digits", 0.01, None),
    ]  # fmt: skip
    assert module.rows_of("sk", tmp_path / "a.parquet") == []
    module.write_atlas(again, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"protocol": "2025-01"}, "protocol '2025-01', expected"),
        ({"host": "resnet18"}, "no such group; known: digits-test_resnet"),
        ({"dims": 1}, "dims 1, expected 2"),
        ({"module": "sse"}, "did you mean 'se' or 'muse'?"),
        ({"module": "add"}, "it is a fusion"),
        ({"property": "sparsity"}, "property 'sparsity', but the module declares 'globality'"),
        ({"slots": "stage1; stage2"}, "slots 'stage1; stage2', expected same or stage1 or stage2 or stage3 or stage4"),
        ({"slots": "stage9"}, "slots 'stage9', expected same or stage1"),
        ({"seeds": 3}, "3 seeds, expected 4 or 8, as a pass of the protocol has"),
        ({"difference": 0.011}, "difference 0.011 is not in the middle of its interval from -0.01 to 0.03"),
        (
            {"versions": json.dumps(VERSIONS | {"data": "0", "module": "0", "torch": 2})},
            "versions has torch 2, expected text",
        ),
        ({"versions": json.dumps(VERSIONS | {"data": "0", "module": "0", "torch": "x"})}, "versions has torch 'x'"),
        (
            {"control_difference": 0.1, "control_low": -0.1, "control_high": 0.3, "control_verdict": "BETTER"},
            "control_verdict BETTER with an interval from -0.1 to 0.3",
        ),
        ({"low": 0.02}, "difference 0.01 with an interval from 0.02 to 0.03"),
        ({"high": np.nan}, "difference 0.01 with an interval from -0.01 to nan"),
        ({"difference": np.inf, "high": np.inf}, "difference inf"),
        ({"control_difference": 0.1}, "control_difference 0.1 with an interval from nan to nan"),
        ({"verdict": "BEST"}, "verdict 'BEST', expected BETTER, WORSE, NOT DECIDED"),
        ({"verdict": "WORSE"}, "WORSE with an interval up to 0.03"),
        ({"difference": -0.005, "low": -0.02, "verdict": "BETTER"}, "BETTER with a difference of -0.005"),
        ({"control_verdict": "SAME"}, "control_verdict 'SAME'"),
        ({"control_verdict": "BETTER"}, "control_verdict BETTER without a control_difference"),
        ({"macs": 0}, "params 1100 and macs 0, expected positive numbers"),
        ({"latency_ratio": 0.0}, "latency_ratio 0.0, expected a positive number or none"),
        ({"versions": "{"}, "versions lack nasbench, python, torch, timm, device, module, data, judged"),
        ({"versions": json.dumps(VERSIONS | {"data": "0" * 64, "module": "0"})}, "the data has the hash 000000000000"),
        (
            {"versions": json.dumps(VERSIONS | {"data": "0" * 64, "module": "0"})},
            "`scripts/atlas collect` drops the row, and `scripts/atlas run digits-test_resnet --out NEW`",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_refused(changed, told):
    module.check_rows(frame(row()))
    with pytest.raises(InputError, match=re.escape(told)):
        module.check_rows(frame(row() | changed))


def test_rows_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match="se on test_resnet, digits, same: there are several such rows"):
        module.check_rows(frame(row(), row()))
    other = row("eca")
    other["versions"] = json.dumps(json.loads(other["versions"]) | {"torch": "3"})
    with pytest.raises(InputError, match="test_resnet, digits: rows of one group come from one run"):
        module.check_rows(frame(row(), other))
    with pytest.raises(InputError, match="equal numbers of seeds, and these have 4 or 8"):
        module.check_rows(frame(row(), row("eca", seeds=8)))
    with pytest.raises(InputError, match="additive_attention on test_resnet, digits, same: neither a row nor a reason"):
        module.check_atlas(atlas(row()))
    with pytest.raises(InputError, match="test_resnet, digits: the bare host of these rows is not told"):
        module.check_atlas(module.Atlas(frame(row())))


def test_columns_that_do_not_fit_are_refused():
    given = frame(row())
    with pytest.raises(InputError, match="columns that are missing: macs"):
        module.check_rows(given.drop(columns="macs"))
    with pytest.raises(InputError, match="columns that the atlas does not have: note"):
        module.check_rows(given.assign(note=""))
    with pytest.raises(InputError, match="column seeds has the type float64, expected int"):
        module.check_rows(given.astype({"seeds": float}))


def test_a_file_that_is_no_atlas_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot read the atlas"):
        module.read_atlas(tmp_path / "none.parquet")
    for text in ("[]", "zz", '{"groups": [{"x": 1}]}', '{"unmeasured": 3}'):
        table = pa.Table.from_pandas(frame(row())).replace_schema_metadata({"nasbench.atlas": text})
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"the metadata of .* is not that of an atlas: .*scripts/atlas collect"):
            module.read_atlas(tmp_path / "a.parquet")
    for given, told in (
        (frame(row()).assign(foo=1), "an atlas has no column foo"),
        (frame(row()).assign(seeds="four"), "column seeds has the type .*string, expected int"),
        (frame(row()).assign(module=pd.Series([None], dtype=str)), "column module has empty values"),
    ):
        given.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=told):
            module.read_atlas(tmp_path / "a.parquet")
    frame(row()).drop(columns="macs").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="is not an atlas: it has no column macs"):
        module.read_atlas(tmp_path / "a.parquet")


def test_the_hash_of_code_sees_code_alone(tmp_path):
    file = tmp_path / "a.py"

    def hashed(text):
        file.write_text(text)
        return module.code_hash(file)

    first = hashed('"""A."""\n\n\nclass A:\n    """It is\n    long."""\n\n    x = 1\n')
    assert first == hashed('"""B."""\nclass A:\n    # why\n    """Other."""\n    x = 1\n')
    assert first != hashed('"""A."""\n\n\nclass A:\n    """It is\n    long."""\n\n    x = 2\n')
    assert hashed("x = '''a\n# b'''\n") != hashed("x = '''a\n# c'''\n")


def test_groups_and_passes_have_names_of_their_own():
    assert len({group.name for group in GROUPS}) == len(GROUPS)
    assert len({each.name for each in PASSES}) == len(PASSES)
    assert group_named("co2-dlinear").dims == 1
    with pytest.raises(InputError, match="did you mean 'co2-dlinear'"):
        group_named("co2-dlinar")
