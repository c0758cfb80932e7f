"""The grid of a token map is that of the image that runs, not that of the image that was traced."""

import copy
import io
import math
import pickle

import pytest
import timm
import torch
from torch import nn

from nasbench.backbones import slots
from nasbench.backbones.hooks import InputHook, Plugin
from nasbench.backbones.insertion import insert, plan_of, plugins_of, remove
from nasbench.backbones.layout import MapFormat
from nasbench.errors import InputError
from nasbench.measurement.costs import measure

SMALL = {"depth": 4, "embed_dim": 32, "num_heads": 2, "num_classes": 2}
DYNAMIC = {"dynamic_img_size": True, **SMALL}
# Name, arguments, input size at insertion, strides of the stages, and whether the host rounds odd sides up or down.
HOSTS = {
    "vit": ("vit_tiny_patch16_224", DYNAMIC, 224, [16] * 3, None),
    "vit-padded": ("vit_tiny_patch16_224", DYNAMIC | {"dynamic_img_pad": True}, 224, [16] * 3, math.ceil),
    "deit3": ("deit3_small_patch16_224", DYNAMIC, 224, [16] * 3, None),
    "dinov3": ("vit_small_patch16_dinov3", SMALL, 256, [16] * 4, None),
    "eva02": ("eva02_tiny_patch14_224", DYNAMIC, 224, [14] * 4, None),
    "naflexvit": ("naflexvit_base_patch16_gap", SMALL, 384, [16] * 4, None),
    "xcit": ("xcit_nano_12_p16_224", {"depth": 4, "num_classes": 2}, 224, [16] * 4, math.ceil),
    "pvt_v2": ("pvt_v2_b0", {"num_classes": 2}, 224, [4, 8, 16, 32], math.ceil),
    "twins": ("twins_pcpvt_small", {"depths": (1, 1, 1, 1), "num_classes": 2}, 224, [4, 8, 16, 32], math.floor),
}
# In units of the patch: 8x18 has as many tokens as a square of 12x12, and 7x28 as one of 14x14.
GRIDS = [(8, 18), (14, 10), (7, 28)]


def host(name):
    kind, options, side, strides, rounding = HOSTS[name]
    torch.manual_seed(0)
    return timm.create_model(kind, **options).eval(), side, strides, rounding


def watched(bare, side, plan="coord_attention"):
    """Insert at `side`. Return the model, and the sizes of the maps that the modules get, filled at each run."""
    model = insert(bare, plan, input_size=(3, side, side) if isinstance(side, int) else (3, *side))
    seen = {}
    for name, module in plugins_of(model).items():
        module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, tuple(args[0].shape[2:])))
    return model, seen


def opened(model):
    """Give each gate a value, so that the modules have an effect."""
    for plugin in model.modules():
        if isinstance(plugin, Plugin):
            nn.init.constant_(plugin.gate, 0.5)
    return model


def random(*size, batch=1):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_three_aspect_ratios(name):
    bare, side, strides, rounding = host(name)
    model, seen = watched(bare, side)
    patch = 14 if name == "eva02" else 16
    sizes = [(h * patch, w * patch) for h, w in GRIDS]
    for size in [*sizes, (100, 300)] if rounding else sizes:
        assert torch.equal(model(random(*size)), bare(random(*size)))
        expected = [tuple((rounding or math.floor)(one / stride) for one in size) for stride in strides]
        assert list(seen.values()) == expected, size


@pytest.mark.parametrize("size", [(128, 288), (224, 160), (112, 448)])
@torch.no_grad()
def test_a_host_of_one_size_at_three_aspect_ratios(size):
    bare = timm.create_model("beit_base_patch16_224", img_size=size, **SMALL).eval()
    model, seen = watched(bare, size)
    model(random(*size))
    assert set(seen.values()) == {(size[0] // 16, size[1] // 16)}


@torch.no_grad()
def test_a_host_that_resizes_its_input_keeps_its_grid():
    bare = timm.create_model("crossvit_9_240", num_classes=2).eval()
    model, seen = watched(bare, 240)
    for size in [(128, 288), (224, 160), (480, 120)]:
        assert torch.equal(model(random(*size)), bare(random(*size)))
        assert set(seen.values()) == {(14, 14)}  # its second branch resizes to 224


def test_macs_at_the_size_asked():
    bare, side, _, _ = host("vit")
    model = insert(bare, "coord_attention", input_size=(3, side, side))
    there = insert(bare, "coord_attention", input_size=(3, 128, 288))
    sizes = [(3, 128, 288), (3, 192, 192)]
    (cost, own), (square, square_own) = [
        (measure(model, input_size=size).macs, measure(bare, input_size=size).macs) for size in sizes
    ]
    assert cost == measure(there, input_size=sizes[0]).macs
    # coord_attention has one convolution 32 -> 8 on all H + W rows and columns, then one 8 -> 32 on the rows and one on
    # the columns. Both images have 144 tokens, but 26 or 24 rows and columns. Its gates on the tokens cost no MACs.
    assert cost - own == 3 * 26 * 2 * 32 * 8
    assert square - square_own == 3 * 24 * 2 * 32 * 8


class TestWhatIsRun:
    @torch.no_grad()
    def test_a_part_of_the_host_after_a_run_at_another_size(self):
        bare, side, _, _ = host("vit")
        model, seen = watched(bare, side)
        model(random(192, 192))
        model.forward_features(random(128, 288))
        assert set(seen.values()) == {(8, 18)}
        model.forward_intermediates(random(288, 128))
        assert set(seen.values()) == {(18, 8)}

    @torch.no_grad()
    def test_inside_another_network(self):
        bare, side, _, _ = host("vit")
        model, seen = watched(bare, side)
        nn.Sequential(nn.Identity(), model)(random(128, 288))
        assert set(seen.values()) == {(8, 18)}

    @torch.no_grad()
    def test_an_insertion_at_a_size_that_is_no_multiple_of_the_patch(self):
        bare = timm.create_model("vit_tiny_patch16_224", dynamic_img_pad=True, **DYNAMIC).eval()
        model, seen = watched(bare, 230)  # padded to 15x15
        for size, grid in {(320, 640): (20, 40), (100, 300): (7, 19)}.items():
            model(random(*size))
            assert set(seen.values()) == {grid}

    @torch.no_grad()
    def test_a_host_whose_size_is_changed(self):
        model, seen = watched(timm.create_model("vit_tiny_patch16_224", **SMALL).eval(), 224)
        model.set_input_size((128, 288))
        model(random(128, 288))
        assert set(seen.values()) == {(8, 18)}

    @torch.no_grad()
    def test_patches_with_coordinates(self):
        bare, side, _, _ = host("naflexvit")
        model, seen = watched(bare, side)
        opened(model)
        image = random(128, 288, batch=2)
        patches = image.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 4, 5, 1).reshape(2, 144, 768)
        rows, columns = torch.meshgrid(torch.arange(8), torch.arange(18), indexing="ij")
        places = torch.stack([rows, columns], dim=-1).reshape(1, 144, 2).expand(2, -1, -1)
        given = {"patches": patches, "patch_coord": places, "patch_valid": torch.ones(2, 144, dtype=torch.bool)}
        model(given)
        assert set(seen.values()) == {(8, 18)}
        given["patch_valid"][1, -18:] = False
        with pytest.raises(InputError, match="images of one size"):
            model(given)

    def test_tokens_that_are_no_grid_of_the_image(self):
        class Dropping(nn.Module):
            def forward(self, x):
                return x[:, :10]

        bare, side, _, _ = host("vit")
        model, _ = watched(bare, side)
        model.patch_drop = Dropping()
        with pytest.raises(InputError, match=r"9 tokens do not form a grid of an image of 128x288; the host had 14x14"):
            model(random(128, 288))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    bare = timm.create_model("vit_tiny_patch16_224", **DYNAMIC | {"depth": 2}).eval()
    return opened(insert(bare, {"stage1": "coord_attention"}, input_size=(3, 224, 224))).eval()


@pytest.fixture(scope="module")
def expected(model):
    """The output for an image of 128x288 of a model into which the plan was inserted at this size."""
    there = insert(remove(model), plan_of(model), input_size=(3, 128, 288)).eval()
    there.load_state_dict(model.state_dict())
    return there(random(128, 288)).detach()


class TestSurvival:
    """The size of the running input reaches the modules in every way in which models are run and copied."""

    @torch.no_grad()
    def check(self, model, expected):
        model(random(192, 192))
        assert torch.allclose(model(random(128, 288)), expected, atol=1e-5)

    def test_plain(self, model, expected):
        self.check(model, expected)

    def test_copies(self, model, expected):
        self.check(copy.deepcopy(model), expected)
        self.check(pickle.loads(pickle.dumps(model)), expected)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        self.check(torch.load(file, weights_only=False), expected)

    def test_a_copy_reads_its_own_input(self, model, expected):
        twin = copy.deepcopy(model)
        hooks = {id(m.running) for m in twin.modules() if isinstance(m, Plugin)}
        assert len(hooks) == 1
        assert hooks.isdisjoint(id(m.running) for m in model.modules() if isinstance(m, Plugin))

    def test_compile(self, model, expected):
        torch._dynamo.reset()  # at the second size, the sizes become symbols
        self.check(torch.compile(model, fullgraph=True, backend="eager"), expected)
        copy.deepcopy(model)

    def test_export_with_dynamic_sizes(self, model, expected):
        side = torch.export.Dim("rows", min=2, max=40), torch.export.Dim("columns", min=2, max=40)
        shapes = {2: 16 * side[0], 3: 16 * side[1]}
        program = torch.export.export(model, (random(192, 224),), dynamic_shapes=(shapes,))
        self.check(program.module(), expected)
        pickle.dumps(copy.deepcopy(model))

    def test_onnx(self, model, expected, tmp_path):
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        torch.onnx.export(model, (random(128, 288),), str(tmp_path / "model.onnx"), dynamo=True)
        session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
        (answer,) = session.run(None, {session.get_inputs()[0].name: random(128, 288).numpy()})
        assert torch.allclose(torch.from_numpy(answer), expected, atol=1e-4)

    def test_distributed(self, model, expected, tmp_path):
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            self.check(nn.parallel.DistributedDataParallel(copy.deepcopy(model)), expected)
        finally:
            torch.distributed.destroy_process_group()

    def test_gradient_checkpointing(self, model):
        model = copy.deepcopy(model)
        gate = model.nasbench.stage1.gate
        plain = torch.autograd.grad(model(random(128, 288)).sum(), gate)[0]
        model.train().set_grad_checkpointing(True)
        model.nasbench.eval()  # the two runs must agree, so batch norm keeps its statistics
        assert torch.allclose(torch.autograd.grad(model(random(128, 288)).sum(), gate)[0], plain, rtol=1e-4)

    def test_removing(self, model):
        bare = remove(model)
        assert not any(isinstance(h, InputHook) for m in bare.modules() for h in m._forward_pre_hooks.values())
        assert not any(m._forward_pre_hooks_with_kwargs for m in bare.modules())

    def test_a_host_without_tokens_gets_no_hook(self):
        model = insert("test_resnet", "se", input_size=(3, 64, 64))
        assert not any(m._forward_pre_hooks for m in model.modules())


class TestGrid:
    """`MapFormat.grid` alone, with values worked out by hand."""

    @pytest.mark.parametrize(
        ("size", "traced", "image", "positions", "expected"),
        [
            ((14, 14), (224, 224), (112, 448), 196, (7, 28)),  # as many tokens as in the traced run
            ((14, 14), (224, 224), (60, 200), 36, (3, 12)),  # 3.75 x 12.5, rounded down
            ((14, 14), (224, 224), (60, 200), 52, (4, 13)),  # rounded up
            ((14, 14), (224, 224), (60, 200), 39, (3, 13)),
            ((14, 28), (224, 224), (112, 112), 98, (7, 14)),  # patches of 16x8
            ((14, 14), (240, 240), (480, 360), 196, (14, 14)),  # resized by the host
            ((14, 14), (230, 230), (640, 1280), 3200, (40, 80)),  # strides of 16.4 would give 38.9 x 77.9
        ],
    )
    def test_values(self, size, traced, image, positions, expected):
        assert MapFormat("NLC", 8, size, image=traced).grid(positions, image) == expected

    def test_an_order_is_known_for_one_number_of_tokens(self):
        form = MapFormat("NLC", 8, (2, 2), order=(0, 2, 1, 3), image=(8, 8))
        with pytest.raises(InputError, match="insert the plan at the input size that you run"):
            form.grid(16, (16, 16))


def test_slots_know_where_the_input_enters():
    found = slots(host("vit")[0], (3, 224, 224))
    assert {(slot.entry, slot.image) for slot in found} == {("patch_embed.proj", (224, 224))}
