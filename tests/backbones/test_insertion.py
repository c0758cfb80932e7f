"""Insertion on real tensors: nothing changes at first, everything trains afterwards, and there is a way back."""

import copy
import io
import pickle

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nasbench.backbones import create_backbone, slots
from nasbench.backbones.hooks import Plugin, SlotHook, attach, strip
from nasbench.backbones.insertion import (
    bare_state_dict,
    freeze_backbone,
    frozen_norms,
    host_of,
    insert,
    parameter_groups,
    plan_of,
    plugins_of,
    remove,
    slots_of,
)
from nasbench.backbones.pyramid import PyramidClassifier
from nasbench.backbones.replacement import Replacement
from nasbench.errors import BackboneError, InputError, PlanError, UnknownNameError

ARCHITECTURES = {  # each of another family, small, at a small size
    "test_byobnet": 64, "test_convnext": 64, "test_efficientnet": 64, "test_mambaout": 64, "test_nfnet": 64,
    "test_resnet": 64, "test_vit": 64, "coat_lite_tiny": 64, "crossvit_9_240": 120, "densenet121": 64,
    "deit_tiny_distilled_patch16_224": 64, "edgenext_xx_small": 64, "efficientvim_m1": 64, "efficientvit_b0":
    64, "efficientvit_m0": 64, "fasternet_t0": 64, "ghostnet_050": 64, "hrnet_w18_small": 64, "lcnet_050": 64,
    "levit_128s": 224, "mobilevitv2_050": 64, "pit_ti_224": 224, "poolformer_s12": 64, "pvt_v2_b0": 64,
    "regnetx_002": 64, "selecsls42": 64, "tnt_s_legacy_patch16_224": 64, "xcit_nano_12_p16_224": 64,
}  # fmt: skip


def image(side, batch=2):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def run(model, x):
    with torch.no_grad():
        return model(x)


def randomised(model):
    """Open every gate, so that a plug-in has an effect."""
    for plugin in plugins(model):
        if plugin.gate is not None:
            nn.init.constant_(plugin.gate, 0.5)
    return model


def plugins(model):
    return [m for m in model.modules() if isinstance(m, Plugin)]


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=5).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_real_architectures(name):
    """Identity bit for bit, every stage slot alive, gradients through the plug-ins, and the way back."""
    torch.manual_seed(0)
    size = (3, ARCHITECTURES[name], ARCHITECTURES[name])
    bare = create_backbone(name, input_size=size, num_classes=4).eval()
    model, x = insert(bare, "eca", input_size=size), image(size[1])
    logits = run(bare, x)
    assert torch.equal(run(model, x), logits)

    for plugin in plugins(model):
        nn.init.constant_(plugin.gate, 0.5)
        assert not torch.equal(run(model, x), logits)  # what this slot alone does reaches the output
        nn.init.zeros_(plugin.gate)
    model(x).square().sum().backward()
    assert all(p.gate.grad.abs() > 0 for p in plugins(model))
    randomised(model)(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for plugin in plugins(model) for p in plugin.module.parameters())

    back = remove(model)
    assert torch.equal(run(back, x), logits)
    assert list(back.state_dict()) == list(bare.state_dict())


class Noise(nn.Module):
    """Another map of the same shape."""

    def forward(self, x):
        return x + torch.randn_like(x)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "test_vit2"])
def test_every_slot_is_alive(name):
    """A slot's map changed: the logits move. Prefix tokens are left alone."""
    torch.manual_seed(0)
    side = ARCHITECTURES.get(name, 64)
    model = create_backbone(name, input_size=(3, side, side), num_classes=4).eval()
    x, logits = image(side), run(model, image(side))
    for slot in slots(model, (3, side, side)):
        attach(model, slot.module, Plugin(Noise(), slot.format, gated=False), slot.index)
        assert not torch.equal(run(model, x), logits), slot.name
        strip(model)
    assert torch.equal(run(model, x), logits)


class TestIdentity:
    @pytest.mark.parametrize("expression", ["se", "eca >> depthwise_separable", "gate(se, mixconv)", "se + eca"])
    def test_any_expression(self, resnet, expression):
        model = insert(resnet, {"stage2": expression, "stage3.block1": expression}, input_size=(3, 64, 64))
        assert torch.equal(run(model, image(64)), run(resnet, image(64)))

    def test_in_train_mode(self, resnet):
        bare = copy.deepcopy(resnet).train()
        model = insert(bare, "se", input_size=(3, 64, 64))
        assert model.training
        assert model.nasbench.training
        assert torch.equal(model(image(64)), bare(image(64)))
        assert torch.equal(model.bn1.running_mean, bare.bn1.running_mean)

    def test_plain_insertion_is_one_argument_away(self, resnet):
        model = insert(resnet, "se", input_size=(3, 64, 64), identity_init=False)
        assert all(plugin.gate is None for plugin in plugins(model))
        assert not torch.equal(run(model, image(64)), run(resnet, image(64)))

    def test_an_identity_by_definition_gets_no_second_gate(self, resnet, clean_registry):
        from nasbench.library.registry import register_module

        @register_module(name="late", starts_as_identity=True)
        class Late(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.scale = nn.Parameter(torch.zeros(()))

            def forward(self, x):
                return x + self.scale * x.square()

        model = insert(resnet, {"stage2": "late"}, input_size=(3, 64, 64))
        assert plugins(model)[0].gate is None
        assert torch.equal(run(model, image(64)), run(resnet, image(64)))
        model(image(64)).sum().backward()
        assert model.nasbench.stage2.module.scale.grad.abs() > 0

    def test_half_precision_and_channels_last(self, resnet):
        bare = copy.deepcopy(resnet).to(memory_format=torch.channels_last)
        model = insert(bare, "se", input_size=(3, 64, 64))
        x = image(64).to(memory_format=torch.channels_last)
        assert torch.equal(run(model, x), run(bare, x))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(run(model, x), run(bare, x))
        assert torch.equal(run(model.bfloat16(), x.bfloat16()), run(bare.bfloat16(), x.bfloat16()))

    def test_what_is_inserted_goes_where_the_host_is(self, resnet):
        """To its floating type, and to its device: meta stands for a GPU here."""
        half = copy.deepcopy(resnet).bfloat16()
        model = insert(half, "se", input_size=(3, 64, 64), replace={"layer2.0.bn1": "eca"})
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert torch.isfinite(run(model, image(64).bfloat16())).all()
        back = remove(insert(resnet, "none", input_size=(3, 64, 64), replace={"layer2.0.bn1": "eca"}).bfloat16())
        assert {p.dtype for p in back.parameters()} == {torch.bfloat16}
        there = insert(copy.deepcopy(resnet).to("meta"), "se", input_size=(3, 64, 64))
        assert {p.device.type for p in there.parameters()} == {"meta"}

    def test_the_gate_is_a_scalar_that_interpolates(self, resnet):
        model = insert(resnet, {"stage2": "se"}, input_size=(3, 64, 64))
        plugin, x = model.nasbench.stage2, torch.randn(1, 48, 4, 4)
        nn.init.constant_(plugin.gate, 0.25)
        assert plugin.gate.shape == ()
        assert torch.allclose(plugin(x), 0.75 * x + 0.25 * plugin.module(x))


class TestWeights:
    def test_a_pretrained_state_dict_misses_plugin_keys_alone(self, resnet):
        model = insert(resnet, "se", input_size=(3, 64, 64))
        answer = model.load_state_dict(resnet.state_dict(), strict=False)
        assert not answer.unexpected_keys
        assert answer.missing_keys
        assert all(key.startswith("nasbench.") for key in answer.missing_keys)

    def test_bare_state_dict_loads_strictly(self, resnet):
        model = randomised(insert(resnet, "se", input_size=(3, 64, 64)))
        nn.init.ones_(model.fc.weight)
        other = timm.create_model("test_resnet", num_classes=5).eval()
        other.load_state_dict(bare_state_dict(model))
        assert torch.equal(run(other, image(64)), run(remove(model), image(64)))

    def test_a_checkpoint_of_the_bare_backbone(self, resnet, tmp_path):
        torch.save(resnet.state_dict(), tmp_path / "bare.pt")
        model = insert(
            "test_resnet", "se", input_size=(3, 64, 64), num_classes=5, checkpoint=tmp_path / "bare.pt"
        ).eval()
        assert torch.equal(run(model, image(64)), run(resnet, image(64)))

    def test_keys_name_the_slot(self, resnet):
        model = insert(resnet, {"stage2.block1": "se"}, input_size=(3, 64, 64))
        assert "nasbench.stage2_block1.gate" in model.state_dict()

    def test_freezing_leaves_plugins_and_classifier(self, resnet):
        model = freeze_backbone(insert(resnet, {"stage2": "se"}, input_size=(3, 64, 64)))
        names = {n for n, p in model.named_parameters() if p.requires_grad}
        assert names == {n for n, _ in model.named_parameters() if n.startswith(("nasbench.", "fc."))}

    def test_frozen_norms_are_those_where_nothing_trains(self, resnet):
        model = insert(resnet, {"stage2": "coord_attention"}, input_size=(3, 64, 64))
        assert frozen_norms(model) == []
        norms = {n: m for n, m in freeze_backbone(model).named_modules() if isinstance(m, nn.BatchNorm2d)}
        assert any(n.startswith("nasbench.") for n in norms)
        assert frozen_norms(model) == [m for n, m in norms.items() if not n.startswith("nasbench.")]
        plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False))  # a norm without parameters
        assert frozen_norms(plain) == []
        assert frozen_norms(plain.requires_grad_(False)) == [plain[1]]

    def test_gates_have_a_group_without_decay(self, resnet):
        model = insert(resnet, "se", input_size=(3, 64, 64))
        groups = {g["name"]: g for g in parameter_groups(model, 0.05)}
        assert [g["weight_decay"] for g in groups.values()] == [0.05, 0.0, 0.0]
        assert {id(p) for p in groups["gates"]["params"]} == {id(p.gate) for p in plugins(model)}
        assert all(p.ndim >= 2 for p in groups["decay"]["params"])
        assert sum(len(g["params"]) for g in groups.values()) == len(list(model.parameters()))
        bare_groups = parameter_groups(freeze_backbone(copy.deepcopy(resnet)), 0.05)
        assert [(g["name"], len(g["params"])) for g in bare_groups] == [("decay", 1), ("no_decay", 1)]

    @pytest.mark.parametrize("options", [{}, {"neck": "fpn"}])
    def test_what_the_backbone_exempts_does_not_decay(self, options):
        host = "test_vit" if not options else "test_efficientnet"
        model = insert(host, "se", input_size=(3, 64, 64), num_classes=5, **options)
        inner = model.backbone if options else model
        inner.no_weight_decay = lambda: {"conv_stem.weight"} if options else {"pos_embed", "cls_token"}
        names = {id(p): n for n, p in inner.named_parameters()}
        groups = {g["name"]: {names.get(id(p)) for p in g["params"]} for g in parameter_groups(model, 0.05)}
        assert inner.no_weight_decay() <= groups["no_decay"]
        assert not inner.no_weight_decay() & groups["decay"]


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def model(request):
    torch.manual_seed(0)
    return randomised(insert(request.param, "se", input_size=(3, 64, 64), num_classes=5)).eval()


class TestSurvival:
    """What people do with models keeps working on inserted ones."""

    def test_deepcopy_is_independent(self, model):
        x = image(64)
        twin = copy.deepcopy(model)
        assert torch.equal(run(twin, x), run(model, x))
        before = run(model, x)
        for plugin in plugins(twin):
            nn.init.zeros_(plugin.gate)
        assert not torch.equal(run(twin, x), before)
        assert torch.equal(run(model, x), before)

    def test_pickle_and_torch_save(self, model):
        x = image(64)
        assert torch.equal(run(pickle.loads(pickle.dumps(model)), x), run(model, x))
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        assert torch.equal(run(torch.load(file, weights_only=False), x), run(model, x))

    def test_state_dict_round_trip(self, model):
        twin = insert(remove(model), plan_of(model), input_size=(3, 64, 64))
        twin.load_state_dict(model.state_dict())
        assert torch.equal(run(twin, image(64)), run(model, image(64)))

    def test_compile_in_one_graph(self, model):
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(run(compiled, image(64)), run(model, image(64)), atol=1e-6)

    def test_export(self, model):
        program = torch.export.export(model, (image(64),))
        assert torch.allclose(program.module()(image(64)), run(model, image(64)), atol=1e-6)
        assert set(program.state_dict) == set(model.state_dict())

    def test_gradient_checkpointing(self, model):
        model = copy.deepcopy(model).train()
        for plugin in plugins(model):  # without dropout the two must agree
            plugin.eval()
        x = image(64)
        expected = torch.autograd.grad(model(x).sum(), model.nasbench.stage1.gate)[0]
        model.set_grad_checkpointing(True)
        actual = torch.autograd.grad(model(x).sum(), model.nasbench.stage1.gate)[0]
        assert torch.allclose(actual, expected, rtol=1e-4)
        assert torch.allclose(checkpoint(model, x, use_reentrant=False), model(x), rtol=1e-4, atol=1e-5)

    def test_reset_classifier_and_forward_features(self, model):
        model = copy.deepcopy(model)
        assert torch.equal(model.forward_head(run(model.forward_features, image(64))), run(model, image(64)))
        model.reset_classifier(3)
        assert run(model, image(64)).shape == (2, 3)

    def test_intermediates_are_those_after_the_plugins(self, model):
        closed = copy.deepcopy(model)
        for plugin in plugins(closed):
            nn.init.zeros_(plugin.gate)
        kwargs = {"intermediates_only": True}
        with torch.no_grad():
            opened = model.forward_intermediates(image(64), **kwargs)
            shut = closed.forward_intermediates(image(64), **kwargs)
            bare = remove(model).forward_intermediates(image(64), **kwargs)
        assert all(torch.equal(a, b) for a, b in zip(shut, bare, strict=True))
        assert not torch.equal(opened[-1], bare[-1])

    def test_onnx(self, model, tmp_path):
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        file = tmp_path / "model.onnx"
        torch.onnx.export(model, (image(64),), str(file), dynamo=True)
        session = runtime.InferenceSession(str(file))
        (answer,) = session.run(None, {session.get_inputs()[0].name: image(64).numpy()})
        assert torch.allclose(torch.from_numpy(answer), run(model, image(64)), atol=1e-4)

    def test_get_intermediate_layers(self):
        model = insert("test_vit", "se", input_size=(3, 64, 64)).eval()
        with torch.no_grad():
            assert len(model.get_intermediate_layers(image(64), n=2)) == 2

    def test_another_input_size_at_run_time(self):
        model = randomised(insert("vit_tiny_patch16_224", "se", input_size=(3, 64, 64), num_classes=2)).eval()
        model.set_input_size((96, 96))
        assert run(model, image(96)).shape == (2, 2)

    def test_a_sequential_root(self):
        bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        model = insert(bare, "se", input_size=(3, 16, 16))
        assert torch.equal(run(model, image(16)), run(bare, image(16)))
        assert not torch.equal(run(randomised(model), image(16)), run(bare, image(16)))
        assert len(bare) == len(remove(model)) == 5


class TestWayBack:
    def test_remove_leaves_no_trace_and_the_model_alone(self, resnet):
        model = insert(resnet, "se", input_size=(3, 64, 64))
        keys, back = list(model.state_dict()), remove(model)
        assert list(model.state_dict()) == keys
        assert not any(isinstance(h, SlotHook) for m in back.modules() for h in m._forward_hooks.values())
        assert not hasattr(back, "nasbench")
        assert type(back) is type(resnet)
        assert remove(back) is not back

    def test_the_given_model_is_not_touched(self, resnet):
        state = {k: v.clone() for k, v in resnet.state_dict().items()}
        randomised(insert(resnet, "se", input_size=(3, 64, 64)))
        assert all(torch.equal(v, state[k]) for k, v in resnet.state_dict().items())
        assert not any(m._forward_hooks for m in resnet.modules())

    def test_what_is_in_a_model_can_be_asked(self, resnet):
        model = insert(resnet, {"stage2": "se(reduction=4)"}, input_size=(3, 64, 64))
        assert plan_of(model).text == '{"stage2": "se(reduction=4)"}'
        assert list(slots_of(model)) == slots(resnet, (3, 64, 64))
        assert plan_of(resnet).is_bare
        assert slots_of(resnet) == ()

    def test_inside_wrappers(self, resnet):
        """A compiled model, and one that is trained on several devices, is asked as the model itself."""
        model = insert(resnet, {"stage2.block1": "se"}, input_size=(3, 64, 64))
        for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model)):
            assert plan_of(wrapped) == plan_of(model)
            assert plugins_of(wrapped) == {"stage2.block1": model.nasbench.stage2_block1.module}
            assert type(remove(wrapped)) is type(resnet)
            assert set(bare_state_dict(wrapped)) == set(resnet.state_dict())

    def test_the_host_is_found_in_a_module_of_the_user(self, resnet):
        model = insert(resnet, {"stage2": "se"}, input_size=(3, 64, 64))
        wrapped = nn.Sequential(nn.ModuleDict({"host": model}), nn.Linear(10, 2))
        assert host_of(wrapped) is model
        assert plugins_of(wrapped) == plugins_of(model)
        assert set(bare_state_dict(wrapped)) == set(remove(wrapped).state_dict()) == set(resnet.state_dict())
        with pytest.raises(PlanError, match="already has a plan"):
            insert(wrapped, "se", input_size=(3, 64, 64))
        freeze_backbone(wrapped)
        trained = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
        assert {name.split(".")[0] for name in trained} == {"0", "1"}
        assert {name.split(".")[2] for name in trained if name.startswith("0")} == {"nasbench", "fc"}

    def test_a_plan_of_nothing_is_the_bare_backbone(self, resnet):
        model = insert(resnet, "none", input_size=(3, 64, 64))
        assert torch.equal(run(model, image(64)), run(resnet, image(64)))
        assert list(model.state_dict()) == list(resnet.state_dict())

    def test_user_hooks_stay(self, resnet):
        bare, seen = copy.deepcopy(resnet), []
        bare.layer2.register_forward_hook(lambda *_: seen.append(1))
        back = remove(insert(bare, "se", input_size=(3, 64, 64)))
        seen.clear()
        run(back, image(64))
        assert seen == [1]

    def test_one_map_given_twice_is_replaced_twice(self):
        """As SelecSLS gives it; another map beside it stays."""
        one, other = torch.ones(1), torch.zeros(1)
        hook = SlotHook(nn.Threshold(2.0, 7.0), 1)
        assert [t.item() for t in hook(nn.Identity(), (), [one, one, other])] == [7.0, 7.0, 0.0]
        assert [t.item() for t in hook(nn.Identity(), (), (other, one))] == [0.0, 7.0]

    def test_several_plugins_on_one_module_run_in_order(self, resnet):
        """`stage2` stands after `stage2.block1`, its last block."""
        plan = {"stage2.block1": "se", "stage2": "depthwise_separable"}
        model = insert(resnet, plan, input_size=(3, 64, 64), identity_init=False)
        last = model.get_submodule(slots_of(model)[2].module)
        first, second = [h.plugin for h in last._forward_hooks.values()]
        assert first is model.nasbench.stage2_block1
        assert second is model.nasbench.stage2


class TestOwnFile:
    def test_insert_pickle_and_remove(self, tmp_path):
        file = tmp_path / "own.py"
        file.write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU())\n"
            "        self.head = nn.Linear(8, 2)\n"
            "    def forward(self, x):\n"
            "        if x.sum().item() == float('inf'):\n"
            "            return x\n"
            "        return self.head(self.blocks(x).mean((2, 3)))\n"
        )
        model = insert(f"{file}:Net", "se", input_size=(3, 16, 16)).eval()
        assert [s.name for s in slots_of(model) if "block" not in s.name] == ["stage1", "stage2"]
        twin = pickle.loads(pickle.dumps(model))
        assert torch.equal(run(twin, image(16)), run(remove(model), image(16)))


class TestForecasting:
    def test_a_stem(self):
        torch.manual_seed(0)
        model = insert("patchtst", "depthwise_separable", input_size=(96, 7), horizon=24).eval()
        x = torch.randn(2, 96, 7)
        assert run(model, x).shape == (2, 24, 7)
        assert torch.equal(run(model, x), run(remove(model), x))
        assert not torch.equal(run(randomised(model), x), run(remove(model), x))


class TestReplace:
    def test_squeeze_excite(self):
        bare = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
        places = [n for n, _ in bare.named_modules() if n.endswith(".se")]
        kept = [n for n in places if not isinstance(bare.get_submodule(n), nn.Identity)]
        model = insert(bare, "none", input_size=(3, 64, 64), replace={"SqueezeExcite": "eca"})
        swapped = [n for n, m in model.named_modules() if isinstance(m, Replacement)]
        assert swapped == kept
        assert run(model, image(64)).shape == (2, 3)
        assert not any("conv_reduce" in key for key in model.state_dict())

    def test_identities_hold_a_place_and_are_nothing_to_replace(self):
        model = insert("mobilenetv3_small_050", "none", input_size=(3, 64, 64), replace={"se": "eca"})
        assert any(isinstance(m, nn.Identity) for n, m in model.named_modules() if n.endswith(".se"))
        assert all(p.startswith("blocks.") for p, m in model.named_modules() if isinstance(m, Replacement))
        with pytest.raises(UnknownNameError, match="no module to replace named 'se'"):
            insert("regnetx_002", "none", input_size=(3, 64, 64), replace={"se": "eca"})

    def test_a_host_that_needs_more_of_a_module_than_its_output(self):
        with pytest.raises(PlanError, match=r"does not run with .*replaced.*resolution"):
            insert("efficientvit_m2", "none", input_size=(3, 96, 96), replace={"attn": "eca"})

    def test_attention_with_its_prefix_tokens(self):
        model = insert("test_vit", "none", input_size=(3, 64, 64), replace={"attn": "depthwise_separable"}).eval()
        place = model.blocks[0].attn
        x = torch.randn(2, 1 + 16, model.embed_dim)
        y = place(x, attn_mask=None)
        assert torch.equal(y[:, 0], x[:, 0])
        grid = x[:, 1:].transpose(1, 2).reshape(2, -1, 4, 4)
        assert torch.allclose(y[:, 1:].transpose(1, 2).reshape(grid.shape), place.module(grid), atol=1e-6)

    def test_windows_are_square_maps(self):
        model = insert(
            "swin_tiny_patch4_window7_224", "none", replace={"layers.0.blocks.*.attn": "depthwise_separable"}
        )
        places = [n for n, m in model.named_modules() if isinstance(m, Replacement)]
        assert places == ["layers.0.blocks.0.attn", "layers.0.blocks.1.attn"]
        assert model.layers[0].blocks[0].attn.form.size == (7, 7)

    def test_back(self):
        bare = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
        model = insert(bare, {"stage2": "se"}, input_size=(3, 64, 64), replace={"se": "eca"})
        back = remove(pickle.loads(pickle.dumps(model)))
        assert torch.equal(run(back, image(64)), run(bare, image(64)))
        fresh = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
        fresh.load_state_dict(bare_state_dict(model))
        assert torch.equal(run(fresh, image(64)), run(bare, image(64)))

    def test_replacements_train_while_the_backbone_is_frozen(self):
        model = freeze_backbone(insert("test_vit", "none", input_size=(3, 64, 64), replace={"attn": "se"}))
        names = {n for n, p in model.named_parameters() if p.requires_grad}
        assert any(".attn.module." in n for n in names)
        assert not any(".mlp." in n for n in names)

    def test_nothing_to_replace(self, resnet):
        with pytest.raises(UnknownNameError, match="no module to replace named 'attn'"):
            insert(resnet, "none", input_size=(3, 64, 64), replace={"attn": "se"})

    def test_a_module_that_cannot_serve_the_place(self, resnet, clean_registry):
        one_dimensional()
        with pytest.raises(PlanError, match=r"in place of layer1.*serves 1-D"):
            insert(resnet, "none", input_size=(3, 64, 64), replace={"layer1.*.bn2": "only_1d"})


class TestNeck:
    @pytest.mark.parametrize(("name", "neck"), [("test_resnet", "asff"), ("test_convnext", "fpn")])
    def test_pyramid(self, name, neck):
        torch.manual_seed(0)
        size = (3, 64, 64)
        model = insert(name, {"stage2": "se"}, input_size=size, num_classes=5, neck=neck).eval()
        assert isinstance(model, PyramidClassifier)
        assert run(model, image(64)).shape == (2, 5)
        assert len(model.backbone(image(64))) == 4
        assert plan_of(model).text == '{"stage2": "se"}'
        maps = run(remove(model), image(64))
        assert all(torch.equal(a, b) for a, b in zip(maps, run(model.backbone, image(64)), strict=True))
        remove(model).load_state_dict(bare_state_dict(model))
        model(image(64)).sum().backward()
        assert all(p.grad is not None for p in [*model.neck.parameters(), *model.head.parameters()])

    @pytest.mark.parametrize(("name", "levels"), [("csatv2", 3), ("tresnet_m", 4)])
    def test_one_level_a_stride(self, name, levels):
        """Features of one stride twice (csatv2), and finer ones that timm cannot give (tresnet)."""
        model = insert(name, "none", input_size=(3, 96, 96), num_classes=3, neck="fpn").eval()
        maps = run(model.backbone, image(96))
        assert len({m.shape[2:] for m in maps}) == len(maps) >= levels
        assert run(model, image(96)).shape == (2, 3)

    def test_channels_last_features(self):
        name = "swin_tiny_patch4_window7_224"
        model = insert(name, "none", input_size=(3, 64, 64), num_classes=3, neck="fpn").eval()
        assert model.channels_last
        assert run(model, image(64)).shape == (2, 3)

    @pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])  # timm wraps their features in two ways
    def test_a_checkpoint_of_the_bare_backbone(self, name, tmp_path):
        bare = timm.create_model(name, num_classes=5)
        torch.save(bare.state_dict(), tmp_path / "bare.pt")
        given = {"input_size": (3, 64, 64), "num_classes": 5, "neck": "fpn", "checkpoint": tmp_path / "bare.pt"}
        model = insert(name, "se", **given)
        known = {tuple(v.flatten().tolist()) for v in bare.state_dict().values()}
        assert all(tuple(v.flatten().tolist()) in known for v in bare_state_dict(model).values())
        with pytest.raises(BackboneError, match="another network"):
            insert("test_vit3", "none", **given)

    def test_frozen_and_a_new_classifier(self):
        model = freeze_backbone(insert("test_resnet", "se", input_size=(3, 64, 64), num_classes=5, neck="fpn"))
        frozen = {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad}
        assert frozen == {"backbone"}
        assert all(p.requires_grad for m in (model.neck, model.head) for p in m.parameters())
        model.reset_classifier(2)
        assert run(model.eval(), image(64)).shape == (2, 2)

    def test_bad_input(self, resnet):
        with pytest.raises(PlanError, match="se is a module, not a neck"):
            insert("test_resnet", "none", neck="se")
        with pytest.raises(BackboneError, match="no feature pyramid"):
            insert("test_vit", "none", neck="fpn")
        with pytest.raises(BackboneError, match="needs the features of a timm model"):
            insert("dlinear", "none", neck="fpn")
        with pytest.raises(InputError, match="neck: only for a backbone given by name"):
            insert(resnet, "none", neck="fpn")


def one_dimensional():
    from nasbench.library.registry import register_module

    @register_module(name="only_1d", dims=(1,))
    class OneDimensional(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x


class TestBadInput:
    def test_a_slot_that_does_not_exist_lists_those_that_do(self, resnet):
        with pytest.raises(UnknownNameError, match=r"no slot named 'stage9'.*stage1, stage2.block1"):
            insert(resnet, {"stage9": "se"}, input_size=(3, 64, 64))

    def test_a_module_for_the_other_number_of_dimensions(self, resnet, clean_registry):
        one_dimensional()
        with pytest.raises(
            PlanError, match=r"slot stage2 \(48 channels, 8x8, NCHW\).*only_1d serves 1-D maps, not 2-D"
        ):
            insert(resnet, {"stage2": "only_1d"}, input_size=(3, 64, 64))

    def test_a_two_dimensional_module_on_a_sequence(self):
        with pytest.raises(PlanError, match=r"NCL\).*triplet_attention serves 2-D maps, not 1-D"):
            insert("dlinear", "triplet_attention", input_size=(96, 7))

    def test_channels_it_cannot_serve(self, resnet):
        with pytest.raises(PlanError, match=r"slot stage2 \(48 channels.*heads"):
            insert(resnet, {"stage2": "self_attention(heads=7)"}, input_size=(3, 64, 64))

    def test_a_size_the_backbone_refuses(self):
        with pytest.raises(BackboneError, match="divisible by patch size"):
            insert("test_vit", "se", input_size=(3, 50, 50))

    def test_twice(self, resnet):
        model = insert(resnet, "se", input_size=(3, 64, 64))
        with pytest.raises(PlanError, match="already has a plan"):
            insert(model, "se", input_size=(3, 64, 64))

    def test_arguments_for_a_name_with_a_module(self, resnet):
        with pytest.raises(InputError, match="num_classes: only for a backbone given by name"):
            insert(resnet, "se", input_size=(3, 64, 64), num_classes=10)
