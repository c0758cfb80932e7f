"""The progress of a search against its reference."""

import numpy as np
import pytest

import nasbench as nb
from nasbench.errors import RunError
from nasbench.evidence.reference import reference_point
from nasbench.report.progress import hypervolume_curve, reference_of
from nasbench.runs.run import Run
from nasbench.runs.schema import REFERENCE

TWO = {"accuracy": "maximize", "macs": "minimize"}


def score(plan):
    """More modules are better and dearer; `eca` fails."""
    if "eca" in str(plan):
        raise ValueError("no")
    return {"accuracy": 0.5 + 0.2 * len(plan), "macs": 1e6 * (1 + len(plan))}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    space = {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
    out = tmp_path_factory.mktemp("progress") / "r"
    options = {"backbone": "test_resnet", "evaluate": score, "sampler": "random", "seeds": 2}
    return nb.search(space, trials=9, out=out, objectives=TWO, **options)


def test_the_curve_of_a_search(run):
    """Nine plans: bare (0.5, 1), one module (0.7, 2), two (0.9, 3); the box: accuracy 1 to 0, MACs 1 to 10 million."""
    curve = hypervolume_curve(run)
    assert curve["evaluations"].tolist() == list(range(1, 10))
    assert curve["number"].is_unique
    assert (curve["state"] == "failed").sum() == 5
    assert (curve["hypervolume"].diff().dropna() >= 0).all()
    assert curve["hypervolume"].iloc[0] == pytest.approx(0.5)
    assert curve.loc[curve["state"] == "failed", "hypervolume"].isin(curve["hypervolume"].shift().fillna(-1)).all()
    assert curve["hypervolume"].iloc[-1] == pytest.approx(0.5 + 0.2 * (1 - np.log10(2)) + 0.2 * (1 - np.log10(3)))
    assert (curve["wall_s"].diff().dropna() >= 0).all()


def test_the_stored_reference_holds(run):
    assert reference_of(run) == reference_point({"accuracy": 0.5, "macs": 1e6}, TWO)
    tight = reference_point({"accuracy": 0.5, "macs": 1e6}, TWO, {"macs": 2e6})
    Run(run.path, run.config, writing=True).journal.study().set_user_attr(REFERENCE, tight.to_dict())
    assert reference_of(run) == tight
    assert hypervolume_curve(run)["hypervolume"].iloc[-1] == pytest.approx(0.5)


def test_without_a_bare_backbone_there_is_no_reference(tmp_path, run):
    empty = Run(tmp_path, run.config)
    with pytest.raises(RunError, match="no evaluation of the bare backbone"):
        hypervolume_curve(empty)
