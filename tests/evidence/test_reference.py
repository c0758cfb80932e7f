"""The reference of hypervolume."""

import numpy as np
import pytest

from nasbench.errors import InputError
from nasbench.evidence.reference import Reference, reference_point

TWO = {"accuracy": "maximize", "macs": "minimize"}


def test_the_rule_by_hand():
    bare = {"accuracy": 0.8, "macs": 1e6, "mse": 0.5, "mae": -2.0, "score": 3.0, "count": 0.0}
    directions = {**TWO, "mse": "minimize", "mae": "minimize", "score": "maximize", "count": "minimize"}
    found = reference_point(bare, directions)
    boxes = {name: (found.ideal[name], found.point[name]) for name in directions}
    expected = {
        "accuracy": (1.0, 0.6),  # an error of 0.2 in the bare backbone, 0.4 at the reference
        "macs": (1e6, 1e7),
        "mse": (0.0, 1.0),
        "mae": (-4.0, 0.0),
        "score": (6.0, 0.0),
        "count": (-1.0, 1.0),
    }
    assert boxes == {name: pytest.approx(box) for name, box in expected.items()}
    assert found.logarithmic == ("macs",)


@pytest.mark.parametrize(
    ("accuracy", "box"), [(0.99, (1.0, 0.9)), (0.3, (1.0, 0.0)), (1.0, (1.0, 0.9)), (80.0, (100.0, 60.0))]
)
def test_a_share_is_held_within_its_range(accuracy, box):
    found = reference_point({"accuracy": accuracy}, {"accuracy": "maximize"})
    assert (found.ideal["accuracy"], found.point["accuracy"]) == pytest.approx(box)


def test_hypervolume_by_hand():
    """In the box: bare (0.5, 0) and a plan at sqrt(10) times the cost and accuracy 0.9, (0.25, 0.5)."""
    found = reference_point({"accuracy": 0.8, "macs": 1e6}, TWO)
    plan = [0.9, 1e6 * np.sqrt(10)]
    assert found.coordinates(np.array([[0.8, 1e6], plan])) == pytest.approx(np.array([[0.5, 0.0], [0.25, 0.5]]))
    assert found.hypervolume(np.array([[0.8, 1e6]])) == pytest.approx(0.5)
    assert found.hypervolume(np.array([[0.8, 1e6], plan])) == pytest.approx(0.5 + 0.25 * 0.5)
    assert found.hypervolume(np.array([[0.5, 1e6], [0.9, 2e7]])) == 0.0  # beyond the reference point
    assert found.hypervolume(np.empty((0, 2))) == 0.0


def test_every_objective_in_either_direction_has_a_box():
    """A box that the rule makes is never refused, whatever a user optimises."""
    for name in ("macs", "latency_ms", "accuracy", "mse", "anything"):
        for direction in ("maximize", "minimize"):
            for bare in (-2.0, 0.0, 0.5, 1.0, 70.0, 1e9):
                found = reference_point({name: bare}, {name: direction})
                better = found.ideal[name] - found.point[name]
                assert (better > 0) == (direction == "maximize")
                assert found.coordinates(np.array([[bare]]))[0, 0] <= 1.0


def test_units_do_not_matter():
    small = reference_point({"accuracy": 0.8, "macs": 1e6}, TWO).hypervolume(np.array([[0.9, 3e6]]))
    large = reference_point({"accuracy": 0.8, "macs": 1e9}, TWO).hypervolume(np.array([[0.9, 3e9]]))
    assert small == pytest.approx(large)


def test_given_references():
    found = reference_point({"accuracy": 0.8, "macs": 1e6}, TWO, {"macs": 2e6})
    assert found.point == {"accuracy": pytest.approx(0.6), "macs": 2e6}
    with pytest.raises(InputError, match="not worse than"):
        reference_point({"accuracy": 0.8, "macs": 1e6}, TWO, {"macs": 1e5})
    with pytest.raises(InputError, match="latency_ms"):
        reference_point({"accuracy": 0.8, "macs": 1e6}, TWO, {"latency_ms": 1.0})


def test_it_is_stored_and_read():
    import json

    found = reference_point({"accuracy": 0.8, "macs": 1e6}, TWO)
    assert Reference.from_dict(json.loads(json.dumps(found.to_dict()))) == found
