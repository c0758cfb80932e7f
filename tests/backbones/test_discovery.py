"""Slots: found on the meta device in whatever network, against what is known of it by hand or from timm."""

import pickle

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasbench.backbones import backbone_names, create_backbone, default_input_size, register_stem, slots
from nasbench.backbones.layout import MapFormat, factor_grid, readings
from nasbench.backbones.stem_registry import STEMS
from nasbench.backbones.tracing import meta_copy, trace
from nasbench.errors import BackboneError, InputError, PluginError, UnknownNameError


def stages(found):
    return [s for s in found if "block" not in s.name]


def table(found):
    return [(s.name, s.channels, s.size, s.layout, s.module) for s in found]


class Around(nn.Module):
    """A part, the mean of its last map over all positions, and a head."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        maps = self.first(x)
        last = maps[-1] if isinstance(maps, list) else maps
        return self.second(last.mean((2, 3)) if last.ndim == 4 else last)


class TestKnownNetworks:
    def test_resnet18_in_full(self):
        expected = []
        for k, (channels, side) in enumerate(((64, 56), (128, 28), (256, 14), (512, 7)), start=1):
            for j in (1, 2):
                expected.append((f"stage{k}.block{j}", channels, (side, side), "NCHW", f"layer{k}.{j - 1}"))
            expected.append((f"stage{k}", channels, (side, side), "NCHW", f"layer{k}.1"))
        assert table(slots("resnet18", input_size=(3, 224, 224))) == expected

    def test_a_backbone_deep_in_a_detector(self):
        """As in DETR of transformers: the backbone is two attributes deep, beside parts that also have layers."""
        with torch.device("meta"):
            features = timm.create_model("resnet18", features_only=True)
            inner = Around(features, nn.Sequential(nn.Linear(512, 8), nn.Linear(8, 8)))
            model = Around(inner, nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4)))
        found = slots(model, (3, 64, 64))
        assert [s.module for s in stages(found)] == [f"first.first.layer{k}.1" for k in (1, 2, 3, 4)]

    def test_efficientnet_b0_has_five_stages_and_sixteen_blocks(self):
        found = slots("efficientnet_b0", (3, 224, 224))
        assert [(s.channels, s.size[0]) for s in stages(found)] == [(16, 112), (24, 56), (40, 28), (112, 14), (320, 7)]
        assert len(found) == 5 + 16

    def test_a_vit_that_reads_the_class_token_ends_before_its_last_block(self):
        found = slots("vit_tiny_patch16_224")
        assert [s.module for s in stages(found)] == ["blocks.2", "blocks.5", "blocks.8", "blocks.10"]
        assert {(s.channels, s.size, s.layout, s.prefix_tokens, s.dims) for s in found} == {
            (192, (14, 14), "NLC", 1, 2)
        }
        assert len(found) - 4 == 11

    def test_a_vit_that_averages_its_patches_keeps_the_last_block(self):
        found = slots("vit_relpos_small_patch16_rpn_224")
        assert [s.module for s in stages(found)][-1] == "blocks.11"
        assert found[0].prefix_tokens == 0

    def test_two_prefix_tokens(self):
        assert {s.prefix_tokens for s in slots("deit_tiny_distilled_patch16_224")} == {2}

    def test_swin_keeps_channels_last(self):
        found = stages(slots("swin_tiny_patch4_window7_224"))
        expected = [(96, (56, 56)), (192, (28, 28)), (384, (14, 14)), (768, (7, 7))]
        assert [(s.channels, s.size) for s in found] == expected
        assert {s.layout for s in found} == {"NHWC"}

    def test_vgg_is_cut_into_layers_before_each_pool(self):
        found = stages(slots("vgg11"))
        assert [s.size[0] for s in found] == [224, 112, 56, 28, 14]
        with torch.device("meta"):
            net = timm.create_model("vgg11")
        assert all(isinstance(net.get_submodule(s.module), nn.ReLU) for s in found)

    def test_lists_and_tuples(self):
        hrnet = stages(slots("hrnet_w18_small", (3, 64, 64)))
        assert [(s.size[0], s.index) for s in hrnet] == [(16, None), (8, 1), (4, 2), (2, 3)]
        assert {s.index for s in slots("tnt_s_legacy_patch16_224", (3, 64, 64))} == {1}  # (pixels, patches)
        assert {s.index for s in slots("mvitv2_tiny", (3, 64, 64))} == {0}  # (tokens, size)
        selecsls = slots("selecsls42", (3, 64, 64))  # [map, map] at first, then [map, the first]
        assert [(s.index, s.channels) for s in selecsls if "block" in s.name][:2] == [(1, 64), (0, 128)]

    def test_hooks_sit_on_blocks_not_on_containers_that_may_be_bypassed(self):
        # timm's checkpoint_seq(flatten=True) calls the items of `blocks.5`, never the container.
        assert stages(slots("mobilenetv3_small_050", (3, 64, 64)))[-1].module == "blocks.5.0"

    @pytest.mark.parametrize(
        "name", ["resnet26", "convnext_atto", "regnetx_002", "swin_tiny_patch4_window7_224", "fastvit_t8", "pvt_v2_b0"]
    )
    def test_stages_agree_with_timm(self, name):
        """timm's own feature_info, written by hand for each architecture, is the oracle."""
        known = timm.create_model(name, features_only=True).feature_info
        side = default_input_size(name)[1]
        expected = [(c, side // r) for c, r in zip(known.channels(), known.reduction(), strict=True)]
        found = [(s.channels, s.size[0]) for s in stages(slots(name))]
        assert found == expected[-len(found) :]
        assert len(found) == 4

    def test_hiera_keeps_tokens_in_an_order_of_its_own(self):
        """The oracle is timm's reroll, which forward_intermediates applies."""
        model = timm.create_model("hiera_tiny_224").eval()
        found = stages(slots(model))
        seen = {}
        for s in found:
            model.get_submodule(s.module).register_forward_hook(lambda m, a, out, name=s.name: seen.update({name: out}))
        with torch.no_grad():
            maps = model.forward_intermediates(torch.randn(1, 3, 224, 224), intermediates_only=True, output_fmt="NHWC")
            tokens = {s.name: seen[s.name][:, list(s.order)] if s.order else seen[s.name] for s in found}
        assert [s.order is None for s in found] == [False, False, False, True]
        for s, expected in zip(found, maps, strict=True):
            assert torch.equal(tokens[s.name].reshape(expected.shape), expected)


class TestInputSizes:
    def test_a_host_of_fixed_size_is_built_for_the_size(self):
        assert {s.size for s in slots("vit_tiny_patch16_224", (3, 96, 96))} == {(6, 6)}

    def test_not_square(self):
        assert [s.size for s in stages(slots("resnet18", (3, 64, 96)))] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        assert {s.size for s in slots("vit_tiny_patch16_224", (3, 160, 224))} == {(10, 14)}

    def test_one_position_left(self):
        assert stages(slots("resnet18", (3, 32, 32)))[-1].size == (1, 1)
        assert {s.size for s in slots("mixer_s32_224", (3, 32, 32))} == {(1, 1)}

    def test_odd(self):
        assert [s.size for s in stages(slots("resnet18", (3, 75, 101)))] == [(19, 26), (10, 13), (5, 7), (3, 4)]

    def test_channels(self):
        assert stages(slots("resnet18", (1, 64, 64)))[0].channels == 64

    def test_the_default_is_the_backbones(self):
        assert slots("test_resnet") == slots("test_resnet", (3, 160, 160))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x):
        return x + self.f(x)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.body = nn.ModuleList([Residual(8), Residual(8)])
        self.down = nn.Conv2d(8, 12, 2, 2)
        self.late = nn.ModuleList([Residual(12)])

    def forward(self, x):
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        x = self.down(x)
        for block in self.late:
            x = block(x)
        return x


class Wrapped(nn.Module):
    """A user's backbone inside another module, with a head."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean((2, 3)))


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x):
        return self.encoder(x) if x.sum().item() >= 0 else x


class Declared(nn.Module):
    """A host on sequences that says where its slots are."""

    def __init__(self):
        super().__init__()
        self.embed, self.tap, self.head = nn.Linear(1, 6), nn.Identity(), nn.Linear(6, 1)

    @staticmethod
    def host_slots():
        return {"embed": ("tap", "NHWC")}

    def forward(self, x):  # (B, L, series)
        return self.head(self.tap(self.embed(x.transpose(1, 2).unsqueeze(-1)))).squeeze(-1).transpose(1, 2)


class TestOwnNetworks:
    def test_blocks_in_lists_inside_a_wrapper(self):
        expected = [
            ("stage1.block1", 8, (16, 16), "NCHW", "encoder.body.0"),
            ("stage1.block2", 8, (16, 16), "NCHW", "encoder.body.1"),
            ("stage1", 8, (16, 16), "NCHW", "encoder.body.1"),
            ("stage2.block1", 12, (8, 8), "NCHW", "encoder.late.0"),
            ("stage2", 12, (8, 8), "NCHW", "encoder.late.0"),
        ]
        assert table(slots(Wrapped(), (3, 64, 64))) == expected

    def test_the_model_itself_stays_as_it_is(self):
        model = Wrapped().train()
        before = pickle.dumps(model.state_dict())
        slots(model, (3, 64, 64))
        assert model.training
        assert pickle.dumps(model.state_dict()) == before
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_on_the_meta_device(self):
        with torch.device("meta"):
            model = Wrapped()
        assert len(slots(model, (3, 64, 64))) == 5

    def test_a_network_that_looks_at_its_data_is_run_with_data(self):
        assert [s.module for s in stages(slots(DataDependent(), (3, 64, 64)))] == ["encoder.body.1", "encoder.late.0"]

    def test_a_plain_sequence_of_layers(self):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
        )  # fmt: skip
        assert [(s.module, s.size) for s in stages(slots(model, (3, 16, 16)))] == [("2", (16, 16)), ("5", (8, 8))]

    def test_one_dimensional_convolutions(self):
        model = nn.Sequential(nn.Conv1d(7, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 16, 3, padding=1), nn.ReLU())
        found = slots(model, (7, 96))
        assert {(s.channels, s.size, s.layout, s.dims) for s in found} == {(16, (96,), "NCL", 1)}

    def test_a_transformer_on_a_sequence(self):
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        model = nn.Sequential(nn.Linear(7, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
        found = stages(slots(model, (96, 7)))
        assert [(s.module, s.channels, s.size, s.layout) for s in found] == [
            ("1.layers.0", 16, (96,), "NLC"),
            ("1.layers.1", 16, (96,), "NLC"),
        ]

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_recurrent_layers_are_not_run_step_by_step(self, kind):
        """A thousand steps would be thousands of operators; shapes and dependencies are those of a real run."""
        rnn = kind(4, 8, num_layers=2, bidirectional=True, batch_first=True)
        model = meta_copy(rnn)
        fast = trace(model, (1000, 4))
        assert len(fast.nodes) < 20
        real, state = rnn(torch.zeros(2, 1000, 4))
        states = state if isinstance(state, tuple) else (state,)
        shapes = [fast.nodes[n].shape for n in fast.outputs]
        assert shapes == [tuple(t.shape) for t in (real, *states)]

    def test_declared_slots_are_taken_as_they_are(self):
        assert table(slots(Declared(), (96, 7))) == [("embed", 6, (7, 96), "NHWC", "tap")]

    def test_a_declared_slot_that_is_not_there(self):
        model = Declared()
        model.host_slots = lambda: {"embed": ("gone", "NLC")}
        with pytest.raises(BackboneError, match="'gone' must run exactly once, but it ran 0 times"):
            slots(model, (96, 7))

    def test_from_a_file(self, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text(
            "from torch import nn\n"
            "def build(num_classes=5):\n"
            "    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)\n"
            "    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *pooled)\n"
        )
        assert [s.name for s in slots(f"{file}:build", (3, 8, 8))] == ["stage1.block1", "stage1"]
        assert create_backbone(f"{file}:build", num_classes=2)[-1].out_features == 2
        assert create_backbone(f"{file}:build", input_size=(3, 8, 8))(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
        with pytest.raises(UnknownNameError, match=r"did you mean 'build'.*defines nothing"):
            create_backbone(f"{file}:biuld")

    def test_no_slot_at_all(self):
        with pytest.raises(BackboneError, match="no slot"):
            slots(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), (3, 8, 8))

    def test_an_input_size_must_be_said(self):
        with pytest.raises(BackboneError, match="pass input_size"):
            slots(Wrapped())


class TestBadInput:
    def test_neither_a_name_nor_a_module(self):
        with pytest.raises(InputError, match=r"a name, FILE.py:function or a torch module, got int 3"):
            slots(3)

    @pytest.mark.parametrize("places", [{"late": "stages.0"}, {"late": ("stages.0",)}, {"late": (3, "NCHW")}])
    def test_a_declared_slot_without_a_layout(self, places):
        model = Declared()
        model.host_slots = lambda: places
        with pytest.raises(BackboneError, match=r"slot 'late': host_slots must give \(module path, layout\) for it"):
            slots(model, input_size=(3, 32, 32))

    def test_declared_slots_that_are_no_mapping(self):
        model = Declared()
        model.host_slots = lambda: ["stages.0"]
        with pytest.raises(BackboneError, match=r"host_slots must return .*, got \['stages.0'\]"):
            slots(model, input_size=(3, 32, 32))

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
    def test_torchscript(self):
        model = torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))
        with pytest.raises(BackboneError, match=r"is compiled with TorchScript, in whose modules nothing can be"):
            slots(model, input_size=(3, 8, 8))

    def test_a_body_that_runs_twice(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(c, 8, 3, 2, 1), nn.ReLU()) for c in (3, 8)))
                self.head = nn.Linear(8, 2)

            def forward(self, x):
                return self.head((self.body(x) + self.body(x.flip(-1))).mean((2, 3)))

        with pytest.raises(BackboneError, match=r"run several times in one pass, such as 'body\S*' \(2 times\)"):
            slots(Twice(), input_size=(3, 32, 32))

    def test_unknown_backbone_offers_the_nearest(self):
        with pytest.raises(UnknownNameError, match="resnet18"):
            slots("resnet81")

    def test_a_size_the_backbone_refuses(self):
        with pytest.raises(
            BackboneError, match=r"does not accept the input size \(4, 64, 64\).*its default is \(3, 160, 160\)"
        ):
            slots(timm.create_model("test_resnet"), (4, 64, 64))
        with pytest.raises(BackboneError, match="divisible by patch size"):
            slots("test_vit", (3, 50, 50))
        with pytest.raises(BackboneError, match="timm cannot build nest_tiny_jx for"):
            slots("nest_tiny_jx", (3, 50, 50))

    def test_images_are_not_series(self):
        with pytest.raises(BackboneError, match=r"\(channels, height, width\)"):
            slots("resnet18", (96, 7))

    def test_a_stem_is_not_for_images(self):
        with pytest.raises(BackboneError, match=r"\(lookback, series\)"):
            slots("dlinear", (3, 64, 64))

    def test_pretrained_weights_are_timms(self):
        with pytest.raises(BackboneError, match="no pretrained weights"):
            create_backbone("dlinear", pretrained=True)


class TestCreate:
    def test_checkpoint_with_another_classifier(self, tmp_path):
        first = create_backbone("test_resnet", num_classes=7)
        torch.save(first.state_dict(), tmp_path / "w.pt")
        second = create_backbone("test_resnet", num_classes=3, checkpoint=tmp_path / "w.pt")
        assert torch.equal(first.conv1[0].weight, second.conv1[0].weight)
        assert second.fc.out_features == 3

    def test_checkpoint_of_another_network(self, tmp_path):
        torch.save(create_backbone("test_vit").state_dict(), tmp_path / "w.pt")
        with pytest.raises(BackboneError, match="another network"):
            create_backbone("test_resnet", checkpoint=tmp_path / "w.pt")

    def test_checkpoint_that_is_none(self, tmp_path):
        with pytest.raises(BackboneError, match="no checkpoint at"):
            create_backbone("test_resnet", checkpoint=tmp_path / "w.pt")
        (tmp_path / "w.pt").write_text("text")
        with pytest.raises(BackboneError, match=r"cannot read .* as a checkpoint"):
            create_backbone("test_resnet", checkpoint=tmp_path / "w.pt")

    def test_names(self):
        names = backbone_names()
        assert {"resnet18", "dlinear", "patchtst"} <= set(names)
        assert len(set(names)) == len(names) >= 1371

    def test_a_stem_name_is_taken_once(self):
        class Mine(nn.Module):
            pass

        with pytest.raises(PluginError, match="registered twice"):
            register_stem("dlinear")(Mine)
        assert STEMS.get("dlinear") is not Mine


class TestFormats:
    @given(st.sampled_from(["NCHW", "NHWC", "NLC", "NCL"]), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6),
           st.integers(0, 3), st.booleans())  # fmt: skip
    def test_there_and_back(self, layout, c, h, w, prefix, shuffled):
        """A map with its coordinates written in: `split` must find them, `join` must undo it."""
        prefix = prefix if layout == "NLC" else 0
        ground = torch.stack([torch.full((h, w), float(k)) * 100 + torch.arange(h * w).view(h, w) for k in range(c)])
        order = torch.randperm(h * w) if shuffled and layout == "NLC" else None
        tokens = ground.flatten(1).T
        host = {
            "NCHW": ground,
            "NHWC": ground.permute(1, 2, 0),
            "NCL": ground.flatten(1),
            "NLC": torch.cat([torch.full((prefix, c), -1.0), tokens if order is None else tokens[order.argsort()]]),
        }[layout][None]
        form = MapFormat(layout, c, (h, w), prefix, None if order is None else tuple(order.tolist()))
        inner, kept = form.split(host, order)
        assert torch.equal(inner[0], ground)
        assert torch.equal(form.join(inner, kept, None if order is None else order.argsort()), host)

    def test_a_grid_is_inferred_at_other_sizes(self):
        form = MapFormat("NLC", 4, (10, 14), prefix=1)
        inner, _ = form.split(torch.zeros(1, 20 * 28 + 1, 4))
        assert inner.shape == (1, 4, 20, 28)
        with pytest.raises(ValueError, match="do not form a grid"):
            form.split(torch.zeros(1, 12, 4))
        with pytest.raises(ValueError, match="order is known only for 4"):
            MapFormat("NLC", 4, (2, 2), 0, (3, 2, 1, 0)).split(torch.zeros(1, 16, 4))

    @pytest.mark.parametrize(
        ("positions", "aspect", "expected"),
        [(196, (1, 1), (14, 14)), (140, (160, 224), (10, 14)), (2, (64, 128), (1, 2)), (197, (1, 1), None)],
    )
    def test_factor_grid(self, positions, aspect, expected):
        assert factor_grid(positions, aspect) == expected

    @pytest.mark.parametrize(
        ("shape", "layouts"),
        [
            ((2, 64, 56, 56), ["NCHW"]),
            ((2, 56, 56, 64), ["NHWC"]),
            ((2, 8, 8, 8), ["NCHW", "NHWC"]),
            ((2, 197, 192), ["NLC"]),
            ((2, 192, 49), ["NCL"]),
            ((2, 4, 784, 64), []),
            ((2, 1, 192), []),
            ((2, 1000), []),
        ],
    )
    def test_readings(self, shape, layouts):
        grids = {(14, 14), (7, 7)} if len(shape) == 3 else None
        assert [r.layout for r in readings(shape, (224, 224), grids=grids)] == layouts
