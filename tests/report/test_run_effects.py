"""The effects of a run: which evaluations count, and the tables of a small search."""

import numpy as np
import pandas as pd

import nasbench as nb
from nasbench.evidence.effects import ANY
from nasbench.report.run_effects import first_full_evaluations, run_effects
from nasbench.runs.evaluation import Evaluation


def cell(table, slot, name):
    word = table.columns[1]
    return table[(table["slot"] == slot) & (table[word] == name)].iloc[0]


def test_only_full_trainings_count_and_one_seed_each():
    def evaluation(plan, fidelity, value, seed=0, state="complete"):
        return Evaluation(plan, plan, seed, fidelity, state, metrics={"accuracy": value})

    found = first_full_evaluations(
        [
            evaluation("{}", 9, 0.5),
            evaluation("a", 3, 0.9, state="rejected"),
            evaluation("b", 3, 0.9),
            evaluation("c", 9, 0.7),
            evaluation("c", 9, 0.1, seed=1),
        ]
    )
    assert {plan: one.metrics["accuracy"] for plan, one in found.items()} == {"{}": 0.5, "c": 0.7}


def test_of_a_run(tmp_path):
    def score(plan, seed):
        return {"accuracy": 0.8 + 0.05 * ("se" in plan.values()) + 0.001 * seed, "cost": float(len(plan))}

    space = {"variants": ["se", "eca", "sk"], "slots": ["stage1", "stage2"]}
    objectives = {"accuracy": "maximize", "cost": "minimize"}
    run = nb.search(space, backbone="test_resnet", evaluate=score, trials=16, sampler="random", seeds=2,
                    out=tmp_path / "r", objectives=objectives)  # fmt: skip
    found = run_effects(run)
    assert set(found) == {"properties", "declared", "modules", "pairs", "slots"}
    assert cell(found["modules"], ANY, "se")["verdict"] == "HELPS"
    assert cell(found["modules"], ANY, "se")["n"] == 7  # of the 16 plans, one seed each
    assert all(isinstance(table, pd.DataFrame) for table in found.values())


def test_the_verdicts_of_all_tables_are_corrected_together(tmp_path):
    """The p-value of each decided row times the rows that are not smaller stays below 5 %, over all tables at once."""

    def score(plan):
        return {"accuracy": 0.8 + 0.01 * ("se" in plan.values()) + 0.004 * (len(str(plan)) % 3), "cost": len(plan)}

    space = {"variants": ["se", "eca", "sk"], "slots": ["stage1", "stage2"]}
    objectives = {"accuracy": "maximize", "cost": "minimize"}
    run = nb.search(space, backbone="test_resnet", evaluate=score, trials=16, sampler="random", out=tmp_path / "r",
                    objectives=objectives)  # fmt: skip
    rows = pd.concat(run_effects(run).values())
    rows = rows.dropna(subset=["p"]).sort_values("p")
    passed = (rows["p"] * np.arange(len(rows), 0, -1) <= 0.05).cummin()
    assert (rows["verdict"] != "NOT DECIDED").tolist() == passed.tolist()
    assert passed.any()
    assert not passed.all()
