"""The training loop and its recipe: determinism, schedules, averaging, early stopping, and how failures end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from support.training import Points, network, weights
from torch import nn

from nasbench.errors import EvaluationError, InputError, UnknownNameError
from nasbench.tasks import create_task
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import evaluate, train


class TestDigits:
    def test_the_bare_backbone_reaches_085(self):
        task = create_task("digits")
        torch.manual_seed(0)
        result = train(timm.create_model("test_resnet", num_classes=10), task, seed=0)
        assert result.metrics["accuracy"] >= 0.85
        assert result.per_item.mean() == pytest.approx(result.metrics["accuracy"])
        assert result.per_item.shape == (718,)
        assert (result.epochs, result.steps) == (5, 60)  # 12 batches of 32 an epoch, the last of 8

    def test_same_seed_same_result(self):
        task = create_task("digits", size=32)

        def run(seed):
            torch.manual_seed(1)
            model = timm.create_model("test_resnet", num_classes=10, drop_rate=0.2)
            recipe = task.recipe.with_settings({"epochs": 1, "mixup": 0.2, "augmentation": "crop"})
            return train(model, task, recipe, seed=seed), weights(model)

        (first, w), (again, v), (other, _) = run(0), run(0), run(1)
        assert first.metrics == again.metrics
        assert torch.equal(w, v)
        assert np.array_equal(first.per_item, again.per_item)
        assert first.metrics != other.metrics


class TestLoop:
    def test_learns_and_reports(self):
        task, model = Points(), network()
        lines = []
        result = train(model, task, Recipe(epochs=30, batch_size=8, learning_rate=0.02), on_epoch=lines.append)
        assert result.metrics["accuracy"] > 0.8
        assert result.history == lines
        assert [line["epoch"] for line in lines] == list(range(1, 31))
        assert lines[-1]["train_loss"] < lines[0]["train_loss"]
        assert lines[-1]["accuracy"] == result.metrics["accuracy"]
        assert (result.epochs, result.steps, result.stopped) == (30, 120, "")
        assert result.wall_s >= lines[-1]["wall_s"] > 0
        assert not model.training
        assert set(task.opened) == {"val"}  # the test split stays closed

    def test_recipe_defaults_to_the_tasks(self):
        task = Points()
        task.recipe = Recipe(epochs=2, batch_size=16)
        assert train(network(), task).steps == 4

    def test_validation_does_not_disturb_training(self):
        class Sampling(nn.Module):
            def forward(self, x):
                return x + 0.1 * torch.randn_like(x)  # in evaluation too, as sampled attention does

        results = []
        for every in (0, 1):
            model = nn.Sequential(Sampling(), network(dropout=0.5))
            result = train(model, Points(), Recipe(epochs=4, batch_size=8, validate_every=every), seed=0)
            results.append((result.metrics, weights(model).tolist()))
            assert [("accuracy" in line) for line in result.history] == [bool(every)] * 4
        assert results[0] == results[1]

    @pytest.mark.parametrize(("epochs", "validated"), [(5, [2, 4, 5]), (4, [2, 4]), (1, [1])])
    def test_validate_every_other_epoch_and_the_last(self, epochs, validated):
        task = Points()
        result = train(network(), task, Recipe(epochs=epochs, batch_size=8, validate_every=2))
        assert [line["epoch"] for line in result.history if "accuracy" in line] == validated
        assert task.opened == ["val"] * len(validated)
        assert result.metrics.items() <= result.history[-1].items()

    def test_on_step_counts_steps_and_validation_batches(self):
        seen = []
        train(network(), Points(), Recipe(epochs=2, batch_size=8), on_step=seen.append)
        assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]  # 20 items to validate, 16 a batch

    def test_should_stop_ends_training_after_a_step(self):
        answers = iter([False, False, True])
        result = train(network(), Points(), Recipe(epochs=9, batch_size=8), should_stop=lambda: next(answers))
        assert (result.steps, result.epochs, result.stopped) == (3, 1, "should_stop")
        assert "accuracy" in result.metrics

    def test_patience_keeps_the_best_weights(self):
        task = Points(scores=[0.5, 0.7, 0.6, 0.7, 0.9])
        snapshots = []
        model = network()
        result = train(
            model,
            task,
            Recipe(epochs=5, batch_size=8, patience=2),
            on_epoch=lambda line: snapshots.append(weights(model)),
        )
        assert (result.epochs, result.stopped) == (4, "patience")
        assert result.metrics["accuracy"] == 0.7
        assert torch.equal(weights(model), snapshots[1])
        assert not torch.equal(snapshots[1], snapshots[3])

    def test_patience_minimises_where_the_metric_is_an_error(self):
        task = Points(scores=[3.0, 1.0, 2.0, 2.5])
        task.metrics = {"accuracy": "minimize", "loss": "minimize"}
        result = train(network(), task, Recipe(epochs=9, batch_size=8, patience=2))
        assert (result.epochs, result.metrics["accuracy"]) == (4, 1.0)

    def test_frozen_parameters_stay(self):
        model = network()
        model[0].requires_grad_(False)
        before = weights(model[0]).clone()
        train(model, Points(), Recipe(epochs=1, batch_size=8))
        assert torch.equal(weights(model[0]), before)

    def test_weights_decay_and_biases_do_not(self):
        """With a loss without gradient, weight decay alone moves a parameter."""
        model = network()
        model[3].weight.data.zero_()  # nothing flows back past it
        before = [p.detach().clone() for p in model[0].parameters()]
        recipe = Recipe(epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1, weight_decay=0.1)
        task = Points()
        task.loss = lambda model, outputs, targets: outputs.sum() * 0
        train(model, task, recipe)
        assert not torch.equal(model[0].weight, before[0])
        assert torch.equal(model[0].bias, before[1])

    def test_aux_loss_of_a_module_is_added(self):
        class Shrinking(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.tensor(1.0))

            def forward(self, x):
                self.aux_loss = 3 * self.scale
                return x

        task, module = Points(), Shrinking()
        task.loss = lambda model, outputs, targets: outputs.sum() * 0
        recipe = Recipe(epochs=1, batch_size=32, optimizer="momentum", learning_rate=0.1, schedule="constant")
        result = train(nn.Sequential(network(), module), task, recipe)
        assert float(module.scale.detach()) == pytest.approx(
            1 - 0.1 * 3
        )  # one step of SGD; timm's "sgd" is Nesterov's, 1.9 times that
        assert result.history[0]["train_loss"] == pytest.approx(3)

    @pytest.mark.parametrize("items", [32, 28])
    def test_accumulation_is_a_larger_batch(self, items):
        """28 items: batches of 8, 8, 8 and 4, the last group weighted by what it holds."""
        results = []
        for batch_size, accumulation in ((16, 1), (8, 2)):
            model = network()
            recipe = Recipe(epochs=2, batch_size=batch_size, accumulation=accumulation, optimizer="sgd")
            result = train(model, Points(items), recipe.with_settings({"learning_rate": 0.1}))
            results.append((result.steps, weights(model)))
        assert results[0][0] == results[1][0] == 4
        assert torch.allclose(results[0][1], results[1][1], atol=1e-6)

    def test_clip_grad_bounds_the_step(self):
        model = network()
        before = weights(model).clone()
        recipe = Recipe(
            epochs=1, batch_size=32, optimizer="momentum", learning_rate=1.0, schedule="constant", weight_decay=0
        )
        train(model, Points(), recipe.with_settings({"clip_grad": 1e-3}))
        assert float((weights(model) - before).norm()) == pytest.approx(1e-3, rel=1e-3)

    def test_bfloat16_autocast_reaches_the_forward(self):
        seen = set()

        class Spy(nn.Module):
            def forward(self, x):
                seen.add((self.training, x.dtype))
                return x

        task = Points()
        model = nn.Sequential(nn.Linear(3, 2), Spy())
        train(model, task, Recipe(epochs=1, batch_size=8, amp="bfloat16"))
        assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


class TestSchedules:
    def rates(self, **settings):
        """Learning rates after each of ten steps of one batch an epoch."""
        recipe = Recipe(epochs=10, batch_size=32, learning_rate=1.0, optimizer="sgd", weight_decay=0, **settings)
        return [line["learning_rate"] for line in train(network(), Points(), recipe).history]

    def test_constant(self):
        assert self.rates(schedule="constant") == [1.0] * 10

    def test_cosine(self):
        expected = [0.5 * (1 + math.cos(math.pi * k / 10)) for k in range(1, 11)]
        assert self.rates(schedule="cosine") == pytest.approx(expected, abs=1e-9)

    def test_warmup_rises_from_a_25th(self):
        expected = [1 / 25 + k / 5 * 24 / 25 for k in range(1, 5)] + [
            0.5 * (1 + math.cos(math.pi * k / 5)) for k in range(6)
        ]
        assert self.rates(schedule="cosine", warmup=0.5) == pytest.approx(expected, abs=1e-9)
        assert self.rates(schedule="constant", warmup=0.5) == pytest.approx(expected[:4] + [1.0] * 6)

    @pytest.mark.parametrize(("warmup", "peak"), [(None, 2), (0.6, 6)])
    def test_onecycle_rises_to_its_peak_and_ends_near_zero(self, warmup, peak):
        rates = self.rates(schedule="onecycle", warmup=warmup)
        assert int(np.argmax(rates)) in (peak - 1, peak)
        assert rates[-1] < 1e-4
        assert rates == sorted(rates[: np.argmax(rates)]) + sorted(rates[np.argmax(rates) :], reverse=True)

    @pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adagrad", "lamb"])
    def test_one_step_is_enough(self, schedule, optimizer):
        recipe = Recipe(epochs=1, batch_size=32, schedule=schedule, optimizer=optimizer)
        assert train(network(), Points(), recipe).steps == 1


class TestMixing:
    def soft_targets(self, **settings):
        task = Points(train=21)  # batches of 8, 8 and 5
        train(network(), task, Recipe(epochs=4, batch_size=8, **settings))
        return torch.cat(task.targets_seen)

    def test_label_smoothing_alone(self):
        targets = self.soft_targets(label_smoothing=0.2)
        assert targets.shape == (84, 2)
        assert {round(float(v), 6) for v in targets.unique()} == {0.1, 0.9}

    def test_mixup_mixes_targets_and_leaves_an_odd_item_out(self):
        targets = self.soft_targets(mixup=1.0)
        assert targets.shape == (80, 2)
        assert torch.allclose(targets.sum(1), torch.ones(80))
        assert ((targets > 0.01) & (targets < 0.99)).any()

    def test_cutmix_on_images(self):
        task = create_task("digits", size=16)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        result = train(model, task, Recipe(epochs=1, batch_size=36, cutmix=1.0, mixup=0.2, label_smoothing=0.1))
        assert result.steps == 10

    @pytest.mark.parametrize("key", ["mixup", "cutmix", "label_smoothing"])
    def test_forecasts_are_not_mixed(self, key):
        task = create_task("co2")
        with pytest.raises(InputError, match=f"{key} must be 0: co2 is a forecasting task"):
            train(nn.Identity(), task, task.recipe.with_settings({key: 0.1}))


class TestFailures:
    def test_a_loss_that_is_not_finite(self):
        task = Points()
        task.loss = lambda model, outputs, targets: outputs.sum() * math.nan
        with pytest.raises(EvaluationError, match="training loss became nan in epoch 1") as caught:
            train(network(), task, Recipe(epochs=2, batch_size=8))
        assert caught.value.kind == "nan"
        task.loss = lambda model, outputs, targets: 0 * outputs.sum() + math.inf
        with pytest.raises(EvaluationError, match="training loss became inf in epoch 1") as caught:
            train(network(), task, Recipe(epochs=2, batch_size=8))
        assert caught.value.kind == "inf"

    def test_divergence_ends_long_before_the_epoch_does(self):
        steps = []
        model = nn.Linear(3, 2)
        task = Points(train=2000)
        task.loss = lambda model, outputs, targets: outputs.square().sum() * 1e30
        with pytest.raises(EvaluationError) as caught:
            train(model, task, Recipe(epochs=1, batch_size=2, optimizer="sgd"), on_step=steps.append)
        assert caught.value.kind == "nan"
        assert len(steps) < 20

    def test_an_output_that_is_not_finite(self):
        class Broken(nn.Module):
            def forward(self, x):
                return x[:, :2] if self.training else x[:, :2] / 0

        with pytest.raises(EvaluationError, match="outputs on the test split are not all finite") as caught:
            evaluate(Broken(), Points(), "test")
        assert caught.value.kind == "nan"

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\nmore"), MemoryError("none left")])
    def test_out_of_memory(self, error):
        class Greedy(nn.Linear):
            def forward(self, x):
                raise error

        with pytest.raises(EvaluationError, match=r"out of memory: (CUDA|none)") as caught:
            train(Greedy(3, 2), Points(), Recipe(epochs=1))
        assert caught.value.kind == "out_of_memory"

    def test_out_of_memory_on_a_cpu(self):
        class Greedy(nn.Module):
            def forward(self, x):
                return torch.empty(2**55)

        with pytest.raises(EvaluationError, match="out of memory") as caught:
            evaluate(Greedy(), Points(), "val")
        assert caught.value.kind == "out_of_memory"

    def test_a_modules_own_error_passes_through(self):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            train(nn.Linear(4, 2), Points(), Recipe(epochs=1))

    def test_float16_needs_a_gpu(self):
        with pytest.raises(InputError, match="float16 needs a CUDA device, not cpu; amp=bfloat16"):
            train(network(), Points(), Recipe(amp="float16"))

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_seed_range(self, seed):
        with pytest.raises(InputError, match="a seed is a whole number from 0"):
            train(network(), Points(), seed=seed)


class TestEvaluate:
    def test_per_item_in_the_order_of_the_split(self):
        task = Points()
        model = nn.Linear(3, 2, bias=False)
        model.weight.data = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # judges by the second coordinate
        metrics, per_item = evaluate(model, task, "test", batch_size=7)
        x = task.data["test"]
        expected = ((x[:, 1] > 0) == (x[:, 0] > 0)).double()
        assert per_item.tolist() == expected.tolist()
        assert metrics["accuracy"] == pytest.approx(float(expected.mean()))
        assert task.opened == ["test"]

    def test_batch_size_changes_nothing(self):
        task, model = Points(), network(dropout=0.5)
        one, other = (evaluate(model, task, "val", batch_size=b) for b in (1, 64))
        assert one[0]["loss"] == pytest.approx(other[0]["loss"])
        assert np.array_equal(one[1], other[1])


class TestRecipe:
    def test_text_sets_every_field(self):
        texts = {
            "epochs": "3",
            "batch_size": "16",
            "accumulation": "2",
            "optimizer": "lamb",
            "learning_rate": "3e-3",
            "weight_decay": "0",
            "schedule": "cosine",
            "warmup": "0.1",
            "label_smoothing": "0.1",
            "mixup": "0.2",
            "cutmix": "1.0",
            "augmentation": "crop",
            "amp": "bfloat16",
            "clip_grad": "1",
            "patience": "4",
            "validate_every": "2",
            "ema": "0.9",
            "layer_decay": "0.75",
            "drop_path": "0.1",
            "grad_checkpointing": "true",
            "channels_last": "true",
            "compile": "true",
        }
        assert set(texts) == set(Recipe.model_fields)
        assert all(field.description for field in Recipe.model_fields.values())
        recipe = Recipe().with_text(*(f"{key}={value}" for key, value in texts.items()))
        for key, value in texts.items():
            found = getattr(recipe, key)
            assert found == (value if isinstance(found, str) else value == "true" or float(value))
        assert recipe == Recipe(**recipe.model_dump())
        assert recipe.with_text("warmup=none").warmup is None

    def test_unchanged_fields_stay(self):
        recipe = Recipe(epochs=7).with_text(" batch_size = 8 ")
        assert (recipe.epochs, recipe.batch_size) == (7, 8)

    def test_unknown_setting(self):
        with pytest.raises(UnknownNameError, match="no training setting named 'epoch'; did you mean 'epochs'"):
            Recipe().with_text("epoch=3")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("epochs=0", "epochs='0': expected a whole number from 1 to .*passes over"),
            ("epochs=three", "epochs='three': expected a whole number"),
            ("batch_size=1", "expected a whole number from 2 to"),
            ("learning_rate=nan", "learning_rate='nan'"),
            ("schedule=linear", "no schedule named 'linear'.*known: constant, cosine, onecycle"),
            ("optimizer=adamx", "no optimizer named 'adamx'; did you mean"),
            ("epochs", "'epochs' is not a setting; write key=value"),
        ],
    )
    def test_bad_values(self, text, message):
        with pytest.raises(InputError, match=message):
            Recipe().with_text(text)
