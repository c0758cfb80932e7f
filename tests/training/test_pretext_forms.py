"""Features of hosts for pretexts that need maps or patches, and hosts that do not fit."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from nasbench.backbones.insertion import insert, slots_of
from nasbench.errors import InputError, PlanError, UnsupportedError
from nasbench.library.plan import Plan
from nasbench.runs.models import ModelBuilder
from nasbench.tasks import create_task
from nasbench.training.loop import train
from nasbench.training.pretexts import PretextTask, check_host
from nasbench.training.pretexts.encoder import encoder_of, width_of

SIZE = (3, 64, 64)


def hosted(name, plan=None, **given):
    torch.manual_seed(0)
    size = {"img_size": 64} if name.startswith("test_vit") else {}
    return insert(timm.create_model(name, num_classes=5, **size, **given), plan, input_size=SIZE, identity_init=False)


def images(count=2):
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(0))


class TestMaps:
    def test_they_are_the_features_of_timm(self):
        model = hosted("test_resnet").eval()
        encoder = encoder_of(model, "maps", SIZE)
        expected = model.forward_intermediates(images(), intermediates_only=True)[-4:]
        for found, wanted in zip(encoder(images()), expected, strict=True):
            torch.testing.assert_close(found, wanted)
        assert width_of(encoder, SIZE) == [each.shape[1] for each in expected]

    @pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
    def test_a_vector_is_added_to_its_map_and_reaches_later_maps_alone(self, name):
        model = hosted(name).eval()
        encoder = encoder_of(model, "maps", SIZE)
        widths = width_of(encoder, SIZE)
        vectors = [torch.zeros(2, width) for width in widths]
        before = encoder(images())
        for found, wanted in zip(encoder(images(), add=vectors), before, strict=True):
            torch.testing.assert_close(found, wanted)
        vectors[1][1] = 1.0
        after = encoder(images(), add=vectors)
        torch.testing.assert_close(after[0], before[0])
        torch.testing.assert_close(after[1][1], before[1][1] + 1)
        for found, wanted in zip(after, before, strict=True):
            torch.testing.assert_close(found[0], wanted[0])  # the other image
        assert not torch.allclose(after[2][1], before[2][1])
        # Nothing stays in the host.
        torch.testing.assert_close(encoder(images())[-1], before[-1])

    def test_it_comes_after_the_module_in_the_slot(self):
        model = hosted("test_resnet", {"stage2": "se"}).eval()
        encoder = encoder_of(model, "maps", SIZE)
        vectors = [torch.zeros(2, width) for width in width_of(encoder, SIZE)]
        before = encoder(images())[1]
        vectors[1] += 2.0
        torch.testing.assert_close(encoder(images(), add=vectors)[1], before + 2)

    def test_a_host_without_maps(self):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
        with pytest.raises(UnsupportedError, match="it needs the map of an image after each stage"):
            encoder_of(model, "maps", (3, 2, 2))


class TestPatches:
    def test_tokens_are_those_of_timm(self):
        model = hosted("test_vit").eval()
        encoder = encoder_of(model, "patches", SIZE)
        torch.testing.assert_close(encoder(images()).transpose(1, 2), model.forward_features(images()))
        assert (encoder.grid, encoder.patch, encoder.prefix) == ((4, 4), (16, 16), 1)
        assert width_of(encoder, SIZE) == 64

    def test_removed_patches_have_no_influence_and_positions_stay(self):
        encoder = encoder_of(hosted("test_vit").eval(), "patches", SIZE)
        keep = torch.tensor([[5, 0], [3, 9]])
        x = images()
        found = encoder(x, keep=keep)
        assert found.shape == (2, 64, 3)
        other = x.clone()
        other[1, :, :16, :48] = 9.0  # patches 0 to 2 of the second image
        torch.testing.assert_close(encoder(other, keep=keep), found)
        # The order of the patches has no effect, because positions were added before.
        torch.testing.assert_close(encoder(x, keep=keep.flip(1))[..., [0, 2, 1]], found)
        whole = torch.arange(16).expand(2, -1)
        torch.testing.assert_close(encoder(x, keep=whole), encoder(x))

    def test_modules_between_blocks_get_a_sequence(self):
        host = timm.create_model("test_vit", num_classes=5, img_size=64)
        host.sequence_slots = True
        model = insert(host, {"stage2": "eca"}, input_size=SIZE, identity_init=False)
        assert {slot.size for slot in slots_of(model)} == {(16,)}
        encoder = encoder_of(model, "patches", SIZE)
        assert encoder(images(), keep=torch.tensor([[5, 0, 7], [3, 9, 1]])).shape == (2, 64, 4)
        with pytest.raises(UnsupportedError, match="the module in stage2 gets a grid of patches"):
            encoder_of(hosted("test_vit", {"stage2": "eca"}), "patches", SIZE)

    def test_a_module_for_images_alone_does_not_fit_between_blocks(self):
        builder = ModelBuilder("test_vit", SIZE, {"num_classes": 5}, learn="mae")
        assert builder.build(Plan.of({"stage1": "se"})) is not None
        with pytest.raises(PlanError, match="stage1"):
            builder.build(Plan.of({"stage1": "coord_attention"}))

    @pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
    def test_hosts_that_do_not_fit_are_refused_with_those_that_do(self, name):
        model, task = hosted(name), PretextTask(create_task("digits"), "mae")
        if name == "test_vit":
            check_host(model, name, task)
            return
        with pytest.raises(InputError, match=rf"mae does not fit backbone '{name}'.*fit: plain vision.*vit_tiny"):
            check_host(model, name, task)


@pytest.mark.parametrize(
    ("name", "learn"),
    [
        ("test_vit", "mae(width=32, depth=1)"),
        ("test_resnet", "denoise(width=8)"),
        ("test_resnet", "instance_discrimination(width=8)"),
    ],
)
def test_an_epoch_of_training_lowers_the_loss_and_leaves_the_host_alone(name, learn):
    task = PretextTask(create_task("digits", size=32), learn)
    size = {"img_size": 32} if name == "test_vit" else {}
    model = insert(timm.create_model(name, num_classes=10, **size), None, input_size=(3, 32, 32))
    keys, before = list(model.state_dict()), copy.deepcopy(model)
    recipe = task.recipe.with_settings({"epochs": 2, "validate_every": 0})
    result = train(model, task, recipe)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert list(model.state_dict()) == keys
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert {"pretext_loss", "rank_me", "feature_spread"} <= set(result.metrics)


def test_a_pretext_that_reads_labels_says_so_and_needs_classes():
    assert (
        "which reads the labels of 10 % of the training items"
        in PretextTask(create_task("digits-rows"), "semi_supervised").notes[-1]
    )
    with pytest.raises(InputError, match="semi_supervised reads some labels, and the items of co2 have none"):
        PretextTask(create_task("co2", lookback=16, horizon=4), "semi_supervised")
