"""Learning without labels: features of hosts, what they are worth, and the training of pretexts."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import nasbench as nb
from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.errors import EvaluationError, InputError
from nasbench.ops.pretext import Pretext
from nasbench.tasks import create_task
from nasbench.tasks.recipe import Recipe
from nasbench.training import loop
from nasbench.training.loop import evaluate, train
from nasbench.training.optimisation import cut
from nasbench.training.pretexts import PretextTask, check_host, hosts_for, pooled_encoder
from nasbench.training.pretexts.encoder import encoder_of, width_of
from nasbench.training.pretexts.features import linear_probe, rank_me, spread, weighted_knn

DRAW = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def rows():
    return create_task("digits-rows")


def series_host(task, name="ts2vec", plan=None, seed=0):
    torch.manual_seed(seed)
    host = create_backbone(name, input_size=task.input_size, **task.model_kwargs)
    return insert(host, plan, input_size=task.input_size, identity_init=False)


class TestFeatures:
    def test_knn_is_that_of_scikit_learn(self):
        labels = torch.randint(4, (90,), generator=DRAW)
        known = torch.randn(90, 8, generator=DRAW) + nn.functional.one_hot(labels, 8)
        wanted = torch.randn(70, 8, generator=DRAW)
        peer = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
        expected = peer.fit(known.double().numpy(), labels.numpy()).predict(wanted.double().numpy())
        assert weighted_knn(known, labels, wanted).tolist() == expected.tolist()

    def test_fewer_items_than_neighbours(self):
        known, labels = torch.eye(3), torch.tensor([2, 0, 1])
        assert weighted_knn(known, labels, 5 * torch.eye(3)).tolist() == [2, 0, 1]

    def test_the_probe_separates_what_a_line_separates(self):
        x = torch.randn(80, 3, generator=DRAW)
        labels = (x[:, 1] > 0).long()
        assert (linear_probe(100 * x[:60], labels[:60], 100 * x[60:]) == labels[60:]).double().mean() > 0.85

    def test_rank_of_known_matrices(self):
        assert rank_me(torch.eye(5)) == pytest.approx(5.0, rel=1e-4)
        assert rank_me(torch.ones(9, 4)) == pytest.approx(1.0, rel=1e-3)

    def test_spread_is_1_on_a_sphere_and_0_after_a_collapse(self):
        assert spread(torch.randn(4000, 16, generator=DRAW)) == pytest.approx(1.0, abs=0.01)
        assert spread(torch.ones(10, 4) * torch.arange(1.0, 11).unsqueeze(1)) == pytest.approx(0.0, abs=1e-7)


class TestEncoder:
    @pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
    def test_pooled_features_are_what_timms_classifier_gets(self, name):
        size = {"img_size": 64} if name == "test_vit" else {}
        model = insert(timm.create_model(name, num_classes=5, **size), "se", input_size=(3, 64, 64)).eval()
        x = torch.randn(2, 3, 64, 64, generator=DRAW)
        encoder = pooled_encoder(model, (3, 64, 64))
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(encoder(x), expected)
        assert width_of(encoder, (3, 64, 64)) == expected.shape[1]

    def test_a_host_without_a_single_classifier_gives_the_mean_of_its_last_map(self):
        model = timm.create_model("test_resnet", num_classes=0)
        model = insert(model, None, input_size=(3, 64, 64)).eval()
        x = torch.randn(2, 3, 64, 64, generator=DRAW)
        torch.testing.assert_close(pooled_encoder(model, (3, 64, 64))(x), model.forward_features(x).mean((2, 3)))

    def test_steps_come_after_the_module_in_the_last_slot(self, rows):
        bare, inside = (series_host(rows, plan=plan).eval() for plan in (None, {"stage3": "se"}))
        x = next(iter(rows.eval_batches("val", 4)))[0]
        first, second = (encoder_of(host, "steps", rows.input_size)(x) for host in (bare, inside))
        assert first.shape == (4, 128, 8)
        torch.testing.assert_close(bare.head(first.amax(2)), bare(x))
        torch.testing.assert_close(inside.head(second.amax(2)), inside(x))

    def test_hidden_steps_have_no_influence(self, rows):
        host = series_host(rows).eval()
        encoder = encoder_of(host, "steps", rows.input_size)
        x = next(iter(rows.eval_batches("val", 2)))[0]
        hide = torch.zeros(2, 8, dtype=torch.bool)
        hide[:, 3] = True
        other = x.clone()
        other[:, 3] = 7.0
        torch.testing.assert_close(encoder(x, hide=hide), encoder(other, hide=hide))
        assert not torch.allclose(encoder(x), encoder(other))


class TestTask:
    def test_hosts_that_fit_are_named(self, rows):
        task = PretextTask(rows, "ts2vec")
        assert {"ts2vec", "inception_time", "resnet1d"} <= set(hosts_for(task))
        with pytest.raises(InputError, match=r"patchtst.*fit: inception_time.*ts2vec"):
            check_host(series_host(rows, "patchtst"), "patchtst", task)

    @pytest.mark.parametrize(
        ("name", "learn", "message"),
        [
            ("digits-rows", "simclr", "simclr learns from images, and digits-rows has series; pretexts for series: "),
            ("digits", "ts2vec", "ts2vec learns from series, and digits has images; pretexts for images: byol"),
            ("scenes-segment", "simclr", "is a segmentation task"),
        ],
    )
    def test_data_that_do_not_fit(self, name, learn, message):
        with pytest.raises(InputError, match=message):
            PretextTask(create_task(name), learn)

    def test_images_without_labels(self, tmp_path):
        for i in range(10):
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
        task = PretextTask(create_task(f"folder:{tmp_path}", labels=False, size=32), "simclr")
        assert (task.metric, task.has_items, task.class_names) == ("pretext_loss", False, [])
        assert "there are no labels" in task.notes[-1]
        host = insert("test_resnet", None, input_size=task.input_size, **task.model_kwargs)
        result = train(host, task, task.recipe.with_settings({"epochs": 1, "batch_size": 4}))
        assert set(result.metrics) == {"pretext_loss", "rank_me", "feature_spread"}
        with pytest.raises(InputError, match=r"semi_supervised reads some labels, and the items of .* have none"):
            PretextTask(task.data, "semi_supervised")
        with pytest.raises(InputError, match=r"knn_accuracy needs labels, and the items of .* have none.*pretext_loss"):
            task.check_objectives(["macs", "knn_accuracy"])

    @pytest.mark.parametrize("setting", [{"mixup": 0.2}, {"compile": True}, {"augmentation": "flip"}])
    def test_settings_of_supervised_training_are_refused(self, rows, setting):
        task = PretextTask(rows, "ts2vec")
        with pytest.raises(InputError, match=f"{next(iter(setting))}.*ts2vec"):
            loop.check_recipe(task.recipe.with_settings(setting), task, "cpu")

    @pytest.mark.parametrize(
        ("learn", "told"),
        [
            ("ts2vec", "learnt without labels by ts2vec: labels are read by knn_accuracy and probe_accuracy alone"),
            ("semi_supervised", "learnt by semi_supervised, which reads the labels of 10 % of the training items;"),
            ("semi_supervised(share=0.05)", "reads the labels of 5 % of the training items;"),
            ("reads_all", "learnt by reads_all, which reads the labels of all training items;"),
        ],
    )
    def test_whose_labels_are_read_is_told(self, rows, learn, told, clean_registry):
        @nb.register_module(name="reads_all", kind="pretext", dims=1)
        class ReadsAll(Pretext):
            reads = ("labels",)
            views = forward = loss = lambda self, *given, **known: None

            def __init__(self, channels):
                super().__init__()

        assert told in PretextTask(rows, learn).notes[-1]

    def test_targets_have_no_labels_and_items_only_on_request(self, rows):
        task = PretextTask(rows, "ts2vec")
        x, targets = next(iter(task.train_batches(16, seed=0, epoch=1)))
        assert set(targets) == {"count"}
        task.reads = ("items",)
        again, targets = next(iter(task.train_batches(16, seed=0, epoch=1)))
        train = torch.cat([each for each, _ in rows.eval_batches("train", 100)])
        assert torch.equal(x, again)
        assert torch.equal(train[targets["items"]], x)


class TestTraining:
    def run(self, rows, seed=0, **settings):
        task = PretextTask(rows, "ts2vec")
        host = series_host(rows)
        recipe = task.recipe.with_settings({"epochs": 1, "batch_size": 32, **settings})
        return task, host, train(host, task, recipe, seed=seed)

    def test_features_become_better_than_those_of_the_untrained_host(self, rows):
        task = PretextTask(rows, "ts2vec")
        before = evaluate(series_host(rows), task, "val")[0]
        _, host, result = self.run(rows)
        assert result.metrics["knn_accuracy"] > before["knn_accuracy"] + 0.02
        assert set(result.metrics) == {
            "knn_accuracy",
            "probe_accuracy",
            "feature_spread",
            "rank_me",
            "pretext_loss",
        }
        assert result.per_item.mean() == pytest.approx(result.metrics["knn_accuracy"])
        # What is left in the host are the weights that were validated.
        assert evaluate(host, task, "val")[0]["knn_accuracy"] == result.metrics["knn_accuracy"]
        assert {"knn_accuracy", "pretext_loss", "train_loss"} <= set(result.history[-1])

    def test_same_seed_same_result_and_no_label_is_read(self, rows, monkeypatch):
        _, host, result = self.run(rows)
        _, again, repeated = self.run(rows)
        assert all(torch.equal(a, b) for a, b in zip(host.parameters(), again.parameters(), strict=True))
        assert repeated.metrics == result.metrics
        monkeypatch.setattr(rows, "labels", torch.randint(10, rows.labels.shape, generator=DRAW))
        _, other, shuffled = self.run(rows)
        assert all(torch.equal(a, b) for a, b in zip(host.parameters(), other.parameters(), strict=True))
        assert shuffled.metrics["knn_accuracy"] < 0.2
        assert shuffled.metrics["pretext_loss"] == result.metrics["pretext_loss"]

    def test_without_labels_the_pretext_loss_is_validated(self):
        data = create_task("co2", lookback=16, horizon=4)
        task = PretextTask(data, "ts2vec")
        host = series_host(data)
        result = train(host, task, task.recipe.with_settings({"epochs": 1, "batch_size": 256}))
        assert (task.metric, task.metrics["pretext_loss"]) == ("pretext_loss", "minimize")
        assert set(result.metrics) == {"pretext_loss", "feature_spread", "rank_me"}
        assert result.per_item is None
        assert "pretext's own validation loss" in task.notes[-1]

    def test_averaged_weights_can_be_validated(self, rows):
        _, host, result = self.run(rows, ema=0.9, patience=1, epochs=2)
        assert evaluate(host, PretextTask(rows, "ts2vec"), "val")[0]["knn_accuracy"] == result.metrics["knn_accuracy"]

    def test_a_batch_is_cut_where_memory_runs_out(self, rows, monkeypatch):
        task, seen = PretextTask(rows, "ts2vec"), []
        views = type(task.learner(series_host(rows), 0).pretext).views

        def of_few(self, x, draw):
            seen.append(len(x))
            if len(x) > 8:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return views(self, x, draw)

        monkeypatch.setattr(type(task.learner(series_host(rows), 0).pretext), "views", of_few)
        recipe = task.recipe.with_settings({"epochs": 1, "batch_size": 20, "validate_every": 0})
        monkeypatch.setattr(loop, "validate_features", lambda *args, **given: ({"knn_accuracy": 0.5}, None))
        assert train(series_host(rows), task, recipe).batch_parts == 4
        assert min(seen) >= 2

    def test_a_collapsed_encoder_is_noticed(self, rows):
        task, host = PretextTask(rows, "ts2vec"), series_host(rows)
        with torch.no_grad():
            for parameter in host.encoder.parameters():
                parameter.zero_()
            host.encoder[-1].second.bias.fill_(1.0)
        with pytest.raises(EvaluationError, match="all items of the val split have the same features") as caught:
            evaluate(host, task, "val")
        assert caught.value.kind == "collapsed"

    def test_a_supervised_training_draws_no_other_number(self, rows):
        states = []
        for _ in range(2):
            host = series_host(rows)
            train(host, rows, Recipe(epochs=1, batch_size=64), seed=3)
            states.append((torch.get_rng_state(), [p.clone() for p in host.parameters()]))
        assert torch.equal(states[0][0], states[1][0])
        assert all(torch.equal(a, b) for a, b in zip(states[0][1], states[1][1], strict=True))


def test_the_predictor_of_simsiam_has_a_constant_rate():
    task = PretextTask(create_task("digits", size=32), "simsiam(width=16, hidden=8)")
    model = insert(timm.create_model("test_resnet", num_classes=10), None, input_size=(3, 32, 32))
    learner = task.learner(model, 0)
    made = loop._Loop(learner, task, task.recipe, 0, torch.device("cpu"), None, None)
    predictor = {id(p) for p in learner.pretext.predictor.parameters()}
    rates = {
        id(p) in predictor: group["lr"] for group in made.optimizer.param_groups for p in group["params"]
    }  # before the first step the schedule starts low
    assert rates[True] == task.recipe.learning_rate
    assert rates[False] < task.recipe.learning_rate


def test_no_part_of_a_batch_is_smaller_than_the_fewest():
    batch = (torch.arange(7), torch.arange(7))
    assert [len(x) for x, _ in cut(batch, 3)] == [3, 3, 1]
    assert [len(x) for x, _ in cut(batch, 3, 2)] == [3, 4]
    assert [len(x) for x, _ in cut(batch, 8, 2)] == [2, 2, 3]
    assert [len(x) for x, _ in cut(batch, 1, 2)] == [7]
