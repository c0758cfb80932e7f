"""Series classification: splits, scales, padding, metrics and the nearest neighbour."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from nasbench.errors import DataError, InputError
from nasbench.runs.settings import SearchSettings
from nasbench.study.problem import check_pair, make_problem
from nasbench.tasks import SPLITS, SeriesClassificationTask, create_task
from nasbench.tasks.creation import unused_options
from nasbench.tasks.series_classification import LabelledItems
from nasbench.testing import check_task
from tests.tasks.test_ts_reader import written


def drawn(lengths, series=2, seed=0, **given):
    """Items of two classes in turn: noise around -1 and around 1, in other units for each series."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(lengths)) % 2
    units = 10.0 ** np.arange(series)
    values = [(rng.normal(size=(n, series)) + 2 * label - 1) * units for n, label in zip(lengths, labels, strict=True)]
    return LabelledItems(values, labels, ["low", "high"], **given)


def test_digits_rows():
    task = create_task("digits-rows")
    assert task.splits == {"train": 360, "val": 718, "test": 719} == create_task("digits").splits
    assert task.input_size == (8, 8)
    assert task.model_kwargs == {"num_classes": 10}
    from sklearn.datasets import load_digits

    numbers = task.indices["train"].numpy()
    images = load_digits().images[numbers]  # rows are steps, and columns are series
    assert np.allclose(task.scaled[numbers].numpy(), (images - task.mean) / task.std, atol=1e-6)
    assert np.allclose(task.mean, images.mean(axis=(0, 1)))
    assert task.naive("test")["1-nearest neighbour"]["accuracy"] > 0.9


def test_a_training_file_and_a_test_file(tmp_path):
    rows = [f"{i},2,{i % 3}:{-i},5,6:{'up' if i % 2 else 'down'}" for i in range(20)]
    train, test = written(tmp_path / "a.ts", rows=rows), written(tmp_path / "b.ts", rows=rows[:6])
    task = create_task(f"series:{train},{test}", seed=3)
    assert task.splits == {"train": 16, "val": 4, "test": 6}
    assert task.indices["test"].tolist() == [20, 21, 22, 23, 24, 25]
    assert set(task.indices["train"].tolist()) | set(task.indices["val"].tolist()) == set(range(20))
    assert task.labels[task.indices["val"]].sum() == 2  # stratified
    assert task.notes == (f"series:{train},{test}: val drawn from the training items, stratified by class, seed 3",)
    other = create_task(f"series:{train},{test}", seed=4)
    assert other.indices["val"].tolist() != task.indices["val"].tolist()
    assert other.describe()["data_sha256"] == task.describe()["data_sha256"]
    alone = create_task(f"series:{train}")
    assert alone.splits == {"train": 12, "val": 4, "test": 4}
    assert "val and test drawn from all items" in alone.notes[0]
    assert all(result.passed for result in check_task(task)), [r for r in check_task(task) if not r.passed]
    assert unused_options(f"series:{train}", ["fill", "lookback"]) == ["lookback"]
    assert unused_options("digits-rows", ["fill"]) == ["fill"]


def test_scales_are_those_of_valid_training_steps():
    items = drawn([5, 3, 4, 6, 2, 5, 3, 4], given={"test": np.array([6, 7]), "val": np.array([4, 5])})
    items.given["train"] = np.arange(4)
    task = SeriesClassificationTask("t", items)
    train = np.concatenate(items.values[:4])
    assert np.allclose(task.mean, train.mean(axis=0))
    assert np.allclose(task.std, train.std(axis=0))
    assert task.input_size == (6, 2)
    assert task.model_kwargs == {"num_classes": 2, "padded": 1}
    (x, y), *_ = task.eval_batches("val", 8)
    assert x.isnan().any(dim=2).sum(dim=1).tolist() == [4, 1]
    assert np.allclose(x[0, :2].numpy(), (items.values[4] - task.mean) / task.std, atol=1e-6)
    assert y.tolist() == [0, 1]
    assert all(result.passed for result in check_task(task))


def test_a_constant_series_is_only_centred_and_huge_values_are_an_error():
    items = drawn([4] * 20)
    for item in items.values:
        item[:, 1] = 7.0
    task = SeriesClassificationTask("t", items)
    assert task.std[1] == 1
    assert not task.scaled[..., 1].any()
    items.values[3][2, 0] = 1e200
    with pytest.raises(DataError, match="value 3 of series 1 of item 4 is 1e\\+200, too large"):
        SeriesClassificationTask("t", items)


def test_a_class_with_too_few_items():
    items = drawn([4] * 6)
    items.labels = np.array([0, 0, 0, 0, 0, 1])
    with pytest.raises(DataError, match=r"too few training items of t: high \(1\); each needs 3"):
        SeriesClassificationTask("t", items)


def test_metrics_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    task = create_task("digits-rows")
    logits, targets = rng.normal(size=(500, 10)), rng.choice(10, 500, p=np.arange(1, 11) / 55)
    logits[np.arange(500), targets] += 1
    targets[targets == 4] = 5  # a class without items counts in no metric
    values, items = task.evaluate(torch.from_numpy(logits), torch.from_numpy(targets))
    predicted = logits.argmax(axis=1)
    assert values["accuracy"] == pytest.approx(accuracy_score(targets, predicted), abs=1e-6)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(targets, predicted)
    assert values["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert items.mean() == pytest.approx(values["accuracy"])
    meter = task.meter("val")
    for part in (slice(0, 7), slice(7, 500)):
        meter.update(torch.from_numpy(logits[part]), torch.from_numpy(targets[part]))
    assert meter.result()[0] == pytest.approx(values)


@pytest.mark.parametrize("lengths", [[6] * 60, [3, 6, 4] * 20], ids=["equal", "unequal"])
def test_the_nearest_neighbour_equals_that_of_scikit_learn(lengths):
    task = SeriesClassificationTask("t", drawn(lengths))
    x = task.scaled.nan_to_num(0.0).flatten(1).double().numpy()
    train, test = (task.indices[split].numpy() for split in ("train", "test"))
    judge = KNeighborsClassifier(1, algorithm="brute").fit(x[train], task.labels[train])
    expected = balanced_accuracy_score(task.labels[test], judge.predict(x[test]))
    values = task.naive("test")["1-nearest neighbour"]
    assert values["accuracy"] == pytest.approx(judge.score(x[test], task.labels[test]), abs=1e-6)
    assert values["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_which_backbones_fit(tmp_path):
    task = SeriesClassificationTask("t", drawn([3, 6, 4] * 20))
    check_pair("inception_time", task)
    for backbone, words in (
        ("patchtst", "unequal lengths, and patchtst .*inception_time, resnet1d, ts2vec.*padded.*one length"),
        ("resnet18", "a series classification task needs one of .*inception_time.*FILE.py:build"),
    ):
        with pytest.raises(InputError, match=words):
            check_pair(backbone, task)
    file = tmp_path / "mine.py"
    file.write_text("def build(num_classes): ...\ndef masked(num_classes, padded): ...\n")
    check_pair(f"{file}:masked", task)
    with pytest.raises(InputError, match="unequal lengths"):
        check_pair(f"{file}:build", task)
    with pytest.raises(InputError, match="a classification task needs a timm model"):
        check_pair("resnet1d", create_task("digits"))
    with pytest.raises(InputError, match="a forecasting task needs one of"):
        check_pair("resnet1d", create_task("co2"))


def test_defaults_of_a_search():
    problem = make_problem(SearchSettings(task="digits-rows"))
    assert problem.settings.backbone == "inception_time"
    assert problem.settings.space == "series-classification"
    assert problem.directions == {"accuracy": "maximize", "macs": "minimize"}
    assert "kernels (40, 20, 10) becomes (8, 4, 2)" in problem.task.notes[-1]
    assert make_problem(SearchSettings(backbone="resnet1d")).settings.task == "digits-rows"
    assert make_problem(SearchSettings(backbone="ts2vec", task="digits-rows")).slots[0].name == "embed"


def test_every_split_is_whole_and_the_order_depends_on_seed_and_epoch():
    task = SeriesClassificationTask("t", drawn([4] * 50))
    for split in SPLITS:
        assert sum(len(y) for _, y in task.eval_batches(split, 7)) == task.splits[split]
    with pytest.raises(InputError, match="augmentation=flip"):
        next(task.train_batches(8, seed=0, epoch=0, augmentation="flip"))
