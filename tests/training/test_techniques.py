"""The settings of a recipe that act on the model: averaged weights, rates by depth, stochastic depth, checkpointing."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from nasbench.backbones import create_backbone, slots
from nasbench.backbones.dense import create_dense
from nasbench.backbones.depth import rate_scales
from nasbench.backbones.insertion import insert
from nasbench.errors import BackboneError, InputError
from nasbench.library.heads import attach_head
from nasbench.library.modules import create_head
from nasbench.tasks import create_task
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import check_recipe, train
from nasbench.training.techniques import check_model, clip_of, groups_of
from tests.support.training import Points, network, weights

NEW = {"ema", "layer_decay", "drop_path", "grad_checkpointing", "channels_last", "compile"}
PLAN = "stage2=se; stage4=eca"


def host(name):
    torch.manual_seed(0)
    return create_backbone(name, input_size=(3, 64, 64), num_classes=10)


def model(name="test_vit"):
    return insert(host(name), PLAN, input_size=(3, 64, 64))


@pytest.fixture(scope="module")
def short_digits():
    """Digits with 32 images a split."""
    task = create_task("digits", size=64)
    task.indices = {split: numbers[:32] for split, numbers in task.indices.items()}
    task.splits = dict.fromkeys(task.indices, 32)
    return task


class TestEma:
    def test_the_average_by_hand(self):
        task, net = Points(), network()
        states = []
        train(net, task, Recipe(epochs=2, batch_size=8, ema=0.6), on_step=lambda n: states.append(weights(net).clone()))
        steps = states[: 2 * 4]  # `on_step` is called after validation batches too
        average = weights(network())
        for number, state in enumerate(steps, 1):
            # timm's warm-up: no memory at the first step, then 1 - k^(-2/3), at most the decay
            decay = 0.0 if number == 1 else min(0.6, 1 - number ** (-2 / 3))
            average = decay * average + (1 - decay) * state
        assert torch.allclose(weights(net), average, atol=1e-6)

    def test_the_best_average_is_kept(self):
        task, net = Points(scores=[0.5, 0.9, 0.1, 0.1]), network()
        kept = []
        recipe = Recipe(epochs=4, batch_size=8, ema=0.9, patience=4)
        plain = network()
        train(plain, Points(), recipe.with_settings({"epochs": 4, "patience": 0, "ema": 0}))
        result = train(net, task, recipe, on_epoch=lambda line: kept.append(line["accuracy"]))
        assert kept == [0.5, 0.9, 0.1, 0.1]
        assert result.metrics["accuracy"] == 0.9
        assert not torch.equal(weights(net), weights(plain))


class TestLayerDecay:
    @pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
    def test_inserted_modules_have_the_rate_of_their_block(self, name):
        net = model(name)
        scales = rate_scales(net, 0.5)
        places = {slot.name: slot.module for slot in slots(host(name), input_size=(3, 64, 64))}
        assert {scales[id(p)] for p in net.get_classifier().parameters()} == {1.0}
        for slot in ("stage2", "stage4"):
            block = {scales[id(p)] for p in net.get_submodule(places[slot]).parameters()}
            plugin = {scales[id(p)] for p in net.nasbench.at(slot).parameters()}
            assert plugin == {max(block)}
        own = [scales[id(p)] for n, p in net.named_parameters() if not n.startswith("nasbench.")]
        groups = timm.optim.param_groups_layer_decay(host(name), layer_decay=0.5)
        expected = [group["lr_scale"] for group in groups for _ in group["params"]]
        assert sorted(own) == sorted(expected)  # without the plan, timm's own groups

    @pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
    def test_every_schedule_scales_the_rates(self, schedule, short_digits, monkeypatch):
        seen = []
        step = torch.optim.AdamW.step

        def spy(self, *args, **kwargs):
            seen.append({group["rate_scale"]: group["lr"] for group in self.param_groups})
            return step(self, *args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", spy)
        recipe = Recipe(epochs=1, batch_size=8, schedule=schedule, layer_decay=0.5, warmup=0.3)
        train(model(), short_digits, recipe)
        rates = [rates for rates in seen if rates]
        assert len(rates) == 4
        for one in rates:
            for scale, rate in one.items():
                assert rate == pytest.approx(scale * one[1.0])

    def test_off_is_as_before(self):
        groups = groups_of(model(), Recipe())
        assert [group["name"] for group in groups] == ["decay", "no_decay", "gates"]
        assert {group["rate_scale"] for group in groups} == {1.0}

    def test_a_network_without_layers_is_refused(self):
        with pytest.raises(InputError, match=r"layer_decay needs a backbone that .*Sequential does not"):
            check_model(Recipe(layer_decay=0.9), network(), "cpu")

    def test_a_dense_host_by_hand(self):
        """test_resnet: a stem and four stages of one block. Neck, levels and head have the full rate."""
        size = (3, 64, 64)
        bare = create_dense("test_resnet", "fpn(width=8)", input_size=size)
        net = attach_head(insert(bare, {"stage2": "se", "level1": "se"}, input_size=size), "fcn", num_classes=3)
        check_model(Recipe(layer_decay=0.5), net, "cpu")
        groups = groups_of(net, Recipe(layer_decay=0.5))
        scale = {id(p): group["rate_scale"] for group in groups for p in group["params"]}
        assert len(scale) == len(list(net.parameters()))
        found = {}
        for name, parameter in net.named_parameters():
            path = name.removeprefix("host.").removeprefix("backbone.model.").removeprefix("nasbench.").split(".")[0]
            found.setdefault(path, set()).add(scale[id(parameter)])
        stem = {found.pop("conv1").pop(), found.pop("bn1").pop()}
        assert stem == {0.5**5}
        assert found == {
            "layer1": {0.5**4}, "layer2": {0.5**3}, "layer3": {0.5**2}, "layer4": {0.5},
            "stage2": {0.5**3}, "level1": {1.0}, "neck": {1.0}, "head": {1.0},
        }  # fmt: skip


class TestWhatAHeadAsksFor:
    @pytest.mark.parametrize(("recipe", "norm"), [({}, 0.1), ({"clip_grad": 2}, 2), ({"clip_grad": 1e9}, 10)])
    def test_a_gradient_of_norm_10_is_clipped(self, recipe, norm):
        class Steep(Points):
            def loss(self, model, outputs, targets):
                return 10 * next(model.parameters()).flatten()[0]

        net = network()
        net.gradient_clip = 0.1
        before = weights(net).clone()
        one_step = Recipe(epochs=1, batch_size=32, optimizer="momentum", learning_rate=1.0, schedule="constant")
        train(net, Steep(), one_step.with_settings({"weight_decay": 0, **recipe}))
        assert float((weights(net) - before).norm()) == pytest.approx(norm, rel=1e-4)

    def test_no_head_no_clip(self):
        assert clip_of(network(), Recipe()) == 0
        assert clip_of(create_head("detr", [8], num_classes=2, strides=[32], width=16, layers=1), Recipe()) == 0.1

    @pytest.mark.parametrize("decay", [1.0, 0.5])
    def test_slow_parameters_have_a_tenth_of_the_rate(self, decay):
        size = (3, 64, 64)
        head = "deformable_detr(width=16, layers=1, hidden=16, queries=4)"
        net = attach_head(create_dense("test_resnet", input_size=size), head, num_classes=3)
        optimizer = timm.optim.create_optimizer_v2(groups_of(net, Recipe(layer_decay=decay)), opt="adamw", lr=1e-3)
        scale = {id(p): group["rate_scale"] for group in optimizer.param_groups for p in group["params"]}
        slow = {name for name, p in net.head.named_parameters() if scale[id(p)] == 0.1}
        layers = ("encoder.0.attend.offsets", "decoder.0.read.offsets", "reference")
        assert slow == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
        assert {scale[id(p)] for name, p in net.head.named_parameters() if name not in slow} == {1.0}


class TestDropPath:
    def test_rates_rise_to_the_last_block(self):
        net = create_backbone("test_vit", drop_path=0.2)
        rates = [module.drop_prob for module in net.modules() if isinstance(module, DropPath)]
        assert rates == sorted(rates)
        assert max(rates) == pytest.approx(0.2)
        assert net.state_dict().keys() == create_backbone("test_vit").state_dict().keys()

    @pytest.mark.parametrize("name", ["vgg11", "dlinear"])
    def test_refused_where_there_is_none(self, name):
        with pytest.raises(BackboneError, match=f"{name} .*so drop_path must be 0"):
            create_backbone(name, drop_path=0.1)


class TestGradCheckpointing:
    def test_training_is_the_same(self, short_digits):
        recipe = Recipe(epochs=1, batch_size=16)
        nets = [model(), model()]
        train(nets[0], short_digits, recipe)
        train(nets[1], short_digits, recipe.with_settings({"grad_checkpointing": True}))
        assert torch.allclose(weights(nets[0]), weights(nets[1]), atol=1e-6)
        assert not nets[1].grad_checkpointing  # as it was before

    @pytest.mark.parametrize("momentum", [0.1, None])
    def test_batch_norms_update_once_a_step(self, short_digits, momentum):
        # Before, each step updated the running statistics twice, so the checkpointed network gave other predictions.
        recipe = Recipe(epochs=1, batch_size=16, optimizer="sgd")
        nets = [model("test_resnet"), model("test_resnet")]
        for net, on in zip(nets, (False, True), strict=True):
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = momentum
            train(net, short_digits, recipe.with_settings({"grad_checkpointing": on}))
        plain, checkpointed = (dict(net.named_buffers()) for net in nets)
        assert plain
        for name, value in plain.items():
            assert torch.allclose(value, checkpointed[name], atol=1e-5), name
        norms = [module for module in nets[1].modules() if isinstance(module, nn.BatchNorm2d)]
        assert {norm.momentum for norm in norms} == {momentum}
        assert not any(norm._forward_hooks or norm._forward_pre_hooks for norm in norms)

    def test_refused_where_there_is_none(self):
        for net, said in ((network(), "has no set_grad_checkpointing"), (host("dla34"), "not supported")):
            with pytest.raises(InputError, match=said):
                check_model(Recipe(grad_checkpointing=True), net, "cpu")


class TestChannelsLast:
    def test_training_is_the_same(self, short_digits):
        nets = [model("test_resnet"), model("test_resnet")]
        recipe = Recipe(epochs=1, batch_size=16, optimizer="sgd")  # Adam enlarges differences in rounding
        train(nets[0], short_digits, recipe)
        train(nets[1], short_digits, recipe.with_settings({"channels_last": True}))
        assert torch.allclose(weights(nets[0]), weights(nets[1]), atol=1e-4)
        assert not torch.equal(weights(nets[0]), weights(model("test_resnet")))
        assert all(p.is_contiguous() for p in nets[1].parameters())  # safetensors stores no other format

    def test_series_are_refused(self):
        with pytest.raises(InputError, match="channels_last is for images, and points"):
            check_recipe(Recipe(channels_last=True), Points(), "cpu")


class TestCompile:
    def test_training_is_the_same(self, short_digits, monkeypatch):
        # Without a code generator, which would take most of a minute. The graphs are the same.
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
        nets = [model("test_resnet"), model("test_resnet")]
        recipe = Recipe(epochs=1, batch_size=16, ema=0.9)
        train(nets[0], short_digits, recipe)
        train(nets[1], short_digits, recipe.with_settings({"compile": "true"}))
        assert torch.allclose(weights(nets[0]), weights(nets[1]), atol=1e-5)
        assert nets[0].state_dict().keys() == nets[1].state_dict().keys()

    def test_a_missing_compiler_is_told_before_training(self, monkeypatch):
        def fail(function):
            raise RuntimeError("no compiler\nmore")

        monkeypatch.setattr(torch, "compile", fail)
        with pytest.raises(InputError, match=r"torch\.compile does not work on cpu: no compiler$"):
            train(network(), Points(), Recipe(compile=True))


class TestRecord:
    def test_the_identity_of_older_runs_stays(self):
        assert Recipe().recorded(Recipe()).keys() == Recipe.model_fields.keys() - NEW
        assert Recipe(ema=0.9).recorded(Recipe())["ema"] == 0.9

    def test_what_differs_from_the_task_is_recorded(self):
        usual = Recipe(ema=0.9)
        assert Recipe(ema=0).recorded(usual)["ema"] == 0
        assert usual.with_settings(Recipe(ema=0).recorded(usual)) == Recipe(ema=0)

    def test_short_names_of_precisions(self):
        assert Recipe(amp="bf16") == Recipe(amp="bfloat16")
        assert Recipe().with_text("amp=fp16").amp == "float16"
