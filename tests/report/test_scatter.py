"""The chart of a run: what it names, what it says about the front, and which axes the page offers."""

import itertools

import pytest
from support.recorded_run import Recorder

from nasbench.report import scatter
from nasbench.report.explorer import explorer_data


def recorded(path, count, seeds=1, objectives=("accuracy", "macs"), bare=0.5):
    """A run with the bare backbone and plans whose accuracy and MACs grow together, with as many parameters."""
    recorder = Recorder(path, objectives)
    for seed, number in itertools.product(range(seeds), range(count)):
        plan = {"stage1": f"se(reduction={number})"} if number else None
        score = (0.6 + number / 1000 if number else bare) + seed / 100
        more = dict.fromkeys(objectives[2:], 1.0)
        recorder.add(plan, score, seed, macs=1000 + number * 10, **more)
    return recorder.run


def texts(run):
    data = scatter.scatter_data(run, "macs", "accuracy")
    return data, scatter.draw_scatter(data).axes[0].texts


def test_every_plan_of_a_few_is_named(tmp_path):
    data, drawn = texts(recorded(tmp_path / "r", 4, bare=0.9))  # the bare backbone dominates the others
    assert {text.get_text() for text in drawn} == {"bare", "1", "2", "3"}
    assert "Numbers are trial numbers" in scatter.caption_of(data)
    assert "step line" not in scatter.caption_of(data)  # the front is one point


def test_numbers_do_not_overlap_and_are_of_the_front_if_there_are_many(tmp_path):
    data, drawn = texts(recorded(tmp_path / "r", 120))
    assert (data.points["kind"] == "front").sum() == 119
    assert 5 < len(drawn) < 119
    boxes = [text.get_window_extent() for text in drawn]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    caption = scatter.caption_of(data)
    assert "Numbers of plans on the front are trial numbers" in caption
    assert caption.endswith("The step line is the front.")


def test_a_caption_promises_no_numbers_where_there_are_none(tmp_path):
    data, drawn = texts(recorded(tmp_path / "r", 20, bare=0.9))
    assert [text.get_text() for text in drawn] == ["bare"]
    assert "rial numbers" not in scatter.caption_of(data)


def test_a_front_over_other_objectives_than_the_axes_is_told_from_the_line(tmp_path):
    run = recorded(tmp_path / "r", 4, objectives=("accuracy", "macs", "loss"))
    note = "A point is on the front if it is on that of accuracy, macs and loss. The line is the front of the two axes"
    data = scatter.scatter_data(run, "macs", "accuracy")
    assert note in scatter.caption_of(data)
    assert note in explorer_data(run)["note"]
    assert note.split(".")[0] not in scatter.caption_of(texts(recorded(tmp_path / "two", 4))[0])


@pytest.mark.parametrize(("objectives", "told"), [(("accuracy", "macs"), True), (("accuracy",), False)])
def test_the_legend_says_whether_the_bare_backbone_is_on_the_front(tmp_path, objectives, told):
    run = recorded(tmp_path / "r", 3, objectives=objectives)  # the cheapest, and the least accurate
    name = "bare backbone (on the front)" if told else "bare backbone"
    assert explorer_data(run)["kinds"]["bare"] == name
    legend = scatter.draw_scatter(scatter.scatter_data(run, "macs", "accuracy")).axes[0].get_legend()
    assert name in {text.get_text() for text in legend.get_texts()}


def test_a_plan_with_one_seed_is_of_the_same_kind_in_every_run(tmp_path):
    for seeds, kind in ((1, "other"), (2, "finalist")):
        run = recorded(tmp_path / str(seeds), 4, seeds, bare=0.9)
        points = [point for point in explorer_data(run)["points"] if point["plan"] != "{}"]
        assert {point["kind"] for point in points} == {kind}
        still = scatter.scatter_data(run, "macs", "accuracy").points
        assert set(still.loc[still["plan"] != "{}", "kind"]) == {kind}


def test_axes_that_are_the_same_for_every_plan_are_not_offered(tmp_path):
    axes = explorer_data(recorded(tmp_path / "r", 4, 2))["axes"]
    assert axes[:2] == ["accuracy", "macs"]
    assert not {"fidelity", "batch_parts", "training_s"} & set(axes)
