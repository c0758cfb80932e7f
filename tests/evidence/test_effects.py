"""Effects against made-up studies whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from nasbench.evidence.effects import (
    ANY,
    declared_properties,
    judge_together,
    module_effects,
    paired_effects,
    property_effects,
    slot_importance,
)
from nasbench.library.plan import Plan
from nasbench.report.run_effects import measured_properties

SLOTS = ("stage1", "stage2", "stage10")
MODULES = ("se", "eca", "sk", "none")
TRUTH = {("stage1", "se"): 0.03, ("stage2", "sk"): -0.02, ("stage10", "eca"): 0.01}
"""Effects against nothing there; every other one is 0."""


def study(count, seed, noise=0.01, truth=TRUTH):
    rng = np.random.default_rng(seed)
    plans = {}
    while len(plans) < count:
        plans.setdefault(Plan.of({slot: str(rng.choice(MODULES)) for slot in SLOTS}))
    values = [
        0.8 + sum(truth.get((s, e.canonical()), 0.0) for s, e in plan.items()) + noise * rng.normal() for plan in plans
    ]
    return list(plans), values


def cell(table, slot, name):
    word = table.columns[1]
    return table[(table["slot"] == slot) & (table[word] == name)].iloc[0]


def test_known_effects_are_recovered():
    table = module_effects(*study(60, 0, noise=0.001), "maximize")
    for slot in SLOTS:
        for module in MODULES[:3]:
            row = cell(table, slot, module)
            assert row["estimate"] == pytest.approx(TRUTH.get((slot, module), 0.0), abs=0.002)
            assert row["adjusted"]
    decided = table[(table["verdict"] != "NOT DECIDED") & (table["slot"] != ANY)]
    assert {(r.slot, r.module, r.verdict) for r in decided.itertuples()} == {
        ("stage1", "se", "HELPS"), ("stage2", "sk", "HURTS"), ("stage10", "eca", "HELPS")
    }  # fmt: skip
    assert table["slot"].drop_duplicates().tolist() == ["stage1", "stage2", "stage10", ANY]


def test_an_error_that_grows_hurts():
    plans, values = study(60, 0, noise=0.001)
    table = module_effects(plans, values, "minimize")
    assert cell(table, "stage1", "se")["verdict"] == "HURTS"
    assert cell(table, "stage2", "sk")["verdict"] == "HELPS"


@pytest.mark.parametrize("count", [9, 40])
def test_the_intervals_hold_the_truth(count):
    """50 studies of 9 effects each, with too few plans to adjust and with enough: about 95 % of the intervals hold the
    truth, and wrong verdicts come in few tables."""
    held = told = wrong = 0
    for seed in range(50):
        table = module_effects(*study(count, seed), "maximize")
        for row in table[table["slot"] != ANY].dropna().itertuples():
            true = TRUTH.get((row.slot, row.module), 0.0)
            held += row.low <= true <= row.high
            told += 1
            wrong += row.verdict != "NOT DECIDED" and (row.verdict == "HELPS") != (true > 0)
    assert told > 200
    assert 0.92 <= held / told <= 0.98
    assert wrong / 50 <= 0.12
    assert table.loc[table["slot"] != ANY, "adjusted"].any() == (count == 40)


def test_with_few_plans_nothing_is_decided():
    for count in (0, 1, 3, 6):
        table = module_effects(*study(count, 1), "maximize")
        assert set(table["verdict"]) <= {"NOT DECIDED"}
        assert table["estimate"].isna().all()
    empty = module_effects([Plan({})] * 1, [0.5], "maximize")
    assert list(empty.columns) == ["slot", "module", "estimate", "low", "high", "p", "n", "adjusted", "verdict"]


def test_what_every_plan_has_is_not_told():
    plans = [Plan.of({"stage1": "se", "stage2": module}) for module in ("se", "eca", "sk", "none")]
    table = module_effects(plans * 3, np.random.default_rng(0).normal(size=12), "maximize")
    assert np.isnan(cell(table, "stage1", "se")["estimate"])
    assert cell(table, "stage1", "se")["verdict"] == "NOT DECIDED"


def test_properties_that_pay():
    """Globality is worth 0.02 in stage 1 and a module as such costs 0.01 anywhere: `se` and `eca` are global."""
    worth = {("stage1", module): 0.01 for module in ("se", "eca")} | {("stage1", "sk"): -0.01}
    worth |= {(slot, module): -0.01 for slot in SLOTS[1:] for module in MODULES[:3]}
    for properties_of in (declared_properties, measured_properties):
        table = property_effects(*study(60, 3, noise=0.001, truth=worth), "maximize", properties_of=properties_of)
        assert set(table["property"]) <= {ANY, "locality", "globality", "sparsity", "multiscale", "complexity"}
    declared = property_effects(*study(60, 3, noise=0.001, truth=worth), "maximize", properties_of=declared_properties)
    n = int(sum("stage1" in plan for plan in study(60, 3)[0]))
    assert cell(declared, "stage1", ANY)["n"] == n
    occupied = [i for i, plan in enumerate(study(60, 3)[0]) if "stage1" in plan]
    assert cell(declared, "stage1", "complexity")["n"] == len(occupied)  # all three cost linearly: no effect of its own
    assert np.isnan(cell(declared, "stage1", "complexity")["estimate"])


def test_a_property_apart_from_being_a_module():
    """Two modules that differ in globality alone as declared: `eca` (global) and `depthwise_separable` (local)."""
    rng = np.random.default_rng(0)
    plans, values = [], []
    for index in range(40):
        text = ("none", "eca", "depthwise_separable", "sk")[index % 4]
        plans.append(Plan.of({"stage1": text, "stage2": ("none", "se")[index // 4 % 2]}))
        values.append(0.5 + {"none": 0.0, "eca": 0.01, "depthwise_separable": -0.01, "sk": -0.01}[text]
                      + 1e-4 * rng.normal())  # fmt: skip
    table = property_effects(plans, values, "maximize", properties_of=declared_properties)
    assert cell(table, "stage1", "multiscale")["estimate"] == pytest.approx(0.0, abs=1e-3)
    assert cell(table, "stage1", "multiscale")["verdict"] == "NOT DECIDED"


def test_pairs_by_hand():
    plans = [Plan.of(p) for p in ({}, {"stage1": "se"}, {"stage1": "se", "stage2": "eca"}, {"stage2": "eca"})]
    plans += [Plan.of({"stage2": "sk"}), Plan.of({"stage1": "se", "stage2": "sk"}), Plan.of({"stage1": "eca"})]
    values = [0.50, 0.53, 0.60, 0.58, 0.55, 0.59, 0.50]
    table = paired_effects(plans, values, "maximize")
    row = table[(table["slot"] == "stage1") & (table["expression"] == "se")].iloc[0]
    gaps = np.array([0.03, 0.02, 0.04])
    assert row["n"] == 3
    assert row["estimate"] == pytest.approx(0.03)
    assert row["high"] - row["estimate"] == pytest.approx(4.302653 * gaps.std(ddof=1) / np.sqrt(3))
    single = table[(table["slot"] == "stage1") & (table["expression"] == "eca")].iloc[0]
    assert (single["n"], single["estimate"], single["verdict"]) == (1, 0.0, "NOT DECIDED")
    assert np.isnan(single["low"])


def test_the_slot_that_matters():
    table = slot_importance(*study(60, 5, noise=0.005, truth={("stage2", "se"): 0.05})).set_index("slot")
    assert table.loc["stage2", "verdict"] == "MATTERS"
    assert table.loc["stage2", "low"] > 0.5
    assert table.loc["stage1", "verdict"] == "NOT DECIDED"
    assert table.loc["stage1", "low"] == 0.0
    assert slot_importance([], []).empty


def test_several_tables_are_corrected_as_one():
    """A p of 0.02 passes among two rows (0.05/2), but not among five (0.05/5). One of 0.001 passes either way."""
    tables = {
        "modules": pd.DataFrame({"p": [0.02, 0.5], "verdict": ["HELPS", "NOT DECIDED"]}),
        "slots": pd.DataFrame({"p": [0.001, np.nan, 0.4, 0.9], "verdict": ["MATTERS", *["NOT DECIDED"] * 3]}),
        "pairs": pd.DataFrame({"p": [], "verdict": []}),
    }
    judged = judge_together(tables)
    assert list(judged) == ["modules", "slots", "pairs"]
    assert judged["modules"]["verdict"].tolist() == ["NOT DECIDED"] * 2
    assert judged["slots"]["verdict"].tolist() == ["MATTERS", *["NOT DECIDED"] * 3]
    assert tables["modules"]["verdict"].tolist() == ["HELPS", "NOT DECIDED"]
    assert judge_together({}) == {}
