"""Reports of runs that learnt without labels, and their demos."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from support.demos import problem_of
from support.recorded_run import Recorder

from nasbench import cli
from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.report.assembly import page_without_pictures
from nasbench.report.curves import curves_data
from nasbench.report.feature_map import draw_feature_map, feature_map_data
from nasbench.report.feature_table import feature_table, rank_note
from nasbench.report.notes import notes_of
from nasbench.runs.run import load_run
from nasbench.tasks import create_task
from nasbench.training.pretexts import PretextTask, pooled_encoder


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_data, brief_latency):
    """A search of two plans for one epoch, with its report."""
    folder = tmp_path_factory.mktemp("pretext") / "run"
    words = ["search", "--backbone", "test_resnet", "--task", "digits", "--size", "32", "--learn", "simclr"]
    words += ["--plan", "stage1=eca", "--seeds", "1", "--no-controls", "--set", "epochs=1"]
    assert cli.main([*words, "--out", str(folder)]) == 0
    return load_run(folder)


def test_the_report(run):
    drawn = {file.stem for file in run.folder.figures.glob("*.svg")}
    assert {"features", "learning-curves"} <= drawn
    assert not {"grad-cam", "confusion"} & drawn  # the last layer is not trained
    table = pd.read_csv(run.folder.figures / "features.csv")
    assert table["model"].unique().tolist()[0] == "bare"
    assert table.groupby("model").size().tolist() == [64, 64]
    page = run.folder.report.read_text()
    assert "Features of validation items" in page
    assert "It cannot tell which plan is best after training with labels" in page
    finalists = run.finalists()
    features = feature_table(run, finalists)
    assert [column.title for column in features.columns][3:] == [
        *("kNN accuracy", "linear probe", "RankMe", "feature spread", "pretext loss"),
    ]
    assert [cell.value for cell in features.rows[0].cells[3:]] == [
        finalists[name][0] for name in ("knn_accuracy", "probe_accuracy", "rank_me", "feature_spread", "pretext_loss")
    ]
    assert "Features</h3>" in page
    assert "and knn_accuracy and pretext_loss of the epochs after which" in page


def test_an_export_says_that_the_last_layer_is_not_trained(run, tmp_path):
    assert cli.main(["export", str(run.path), "--trial", "0", "--out", str(tmp_path / "model")]) == 0
    assert "**The last layer is not trained.**" in (tmp_path / "model" / "README.md").read_text()
    assert "softmax" not in (tmp_path / "model" / "example.py").read_text()  # no classes are named
    assert not (tmp_path / "model" / "example-result.json").exists()


def test_images_without_labels(tmp_path):
    """A flat folder of images is searched, reported and exported, and nothing speaks of classes."""
    (tmp_path / "flat").mkdir()
    for i in range(12):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / "flat" / f"{i}.png")
    words = ["search", "--backbone", "test_resnet", "--task", f"folder:{tmp_path / 'flat'}", "--size", "32"]
    words += ["--learn", "simclr", "--plan", "stage1=eca", "--seeds", "1", "--no-controls", "--set", "epochs=1"]
    assert cli.main([*words, "--set", "latency_s=0", "--out", str(tmp_path / "run")]) == 0
    page = page_without_pictures(load_run(tmp_path / "run"))
    assert {"one class", "damaged"} & {alert.label for alert in page.alerts} == set()
    assert dict(page.data)["classes"] == "none"
    (table,) = (table for table in page.tables if table.title == "Features")
    assert [column.title for column in table.columns[3:]] == ["RankMe", "feature spread", "pretext loss"]
    assert "So label some items" in page.reading[0]
    assert "--learn supervised" not in page.reading[0]  # it would be refused
    assert "items that overlap here" in (tmp_path / "run" / "report.html").read_text()
    assert cli.main(["export", str(tmp_path / "run"), "--trial", "1", "--out", str(tmp_path / "model")]) == 0
    assert "image-feature-extraction" in (tmp_path / "model" / "README.md").read_text()


def test_curves_have_knn_and_both_losses(run):
    assert set(curves_data(run)["what"]) == {"train_loss", "knn_accuracy", "pretext_loss"}


def test_the_map_is_that_of_scikit_learn(small_data):
    task = PretextTask(create_task("digits", size=32), "simclr")
    torch.manual_seed(0)
    host = create_backbone("test_resnet", input_size=task.input_size, **task.model_kwargs)
    model = insert(host, None, input_size=task.input_size).eval()
    table = feature_map_data(task, {"bare": model}, task.class_names, "cpu")
    with torch.no_grad():
        batches = list(task.eval_batches("val", 16))
        features = torch.cat([pooled_encoder(model, task.input_size).eval()(x) for x, _ in batches]).double().numpy()
    peer = PCA(2).fit(features / np.linalg.norm(features, axis=1, keepdims=True))
    places = peer.transform(features / np.linalg.norm(features, axis=1, keepdims=True))
    for column, expected, share in zip("xy", places.T, peer.explained_variance_ratio_, strict=True):
        sign = np.sign(expected @ table[column])
        np.testing.assert_allclose(table[column], sign * expected, atol=1e-5)
        assert table[f"{column}_share"][0] == pytest.approx(share, rel=1e-4)
    assert table["class"].tolist() == [str(int(each)) for _, y in batches for each in y]
    assert len(draw_feature_map(table, task.class_names).axes) == 1
    assert draw_feature_map(table.assign(**{"class": ""}), []).legends == []


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("knn_accuracy", "separate the classes of this data"),
        ("pretext_loss", "can tell whether training worked"),
    ],
)
def test_what_a_ranking_without_labels_can_tell(metric, told, tmp_path):
    recorder = Recorder(tmp_path / "run", (metric, "macs"), learn="simclr")
    recorder.add(None, 0.5)
    assert told in next(iter(notes_of(recorder.run, recorder.run.finalists(), None, {})))


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ([1.4, 1.45], "All compared plans are so. After few epochs this is usual"),
        ([8.0, 1.4], "below 2 after 1 epoch: trial 1 (1.40). At 1, the projected features of all validation"),
        ([3.0, 1.4], "The bare backbone has 3.00, so this is a near collapse of these plans, or a slower start"),
        ([2.2, 1.9], ""),
        ([1.4, 9.0], ""),
        ([5.0, 6.0], ""),
    ],
)
def test_a_low_rank_is_told(ranks, told, tmp_path):
    recorder = Recorder(tmp_path / "run", ("knn_accuracy", "macs"), learn="simclr", training={"epochs": 1})
    for plan, rank in zip((None, {"stage1": "se"}), ranks, strict=True):
        recorder.add(plan, 0.5, rank_me=rank)
    notes = list(rank_note(recorder.run, recorder.run.finalists()))
    assert len(notes) == (told != "")
    assert told in "".join(notes)


@pytest.mark.parametrize(("demo", "learn"), [("pretext", "simclr(flip=False)"), ("pretext-series", "ts2vec")])
def test_a_demo_is_a_search_of_two_plans(demo, learn, small_data, monkeypatch, tmp_path):
    """Its slots and settings are those of its host. It is not trained here."""
    problem = problem_of(demo, monkeypatch, tmp_path / "run")
    assert problem.space.count == 2
    assert problem.settings.learn == learn
