"""Costs of whole models: known figures, invariances, and that measuring leaves nothing behind."""

import math
import random
import warnings

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch._C import _jit_get_all_schemas

from nasbench.errors import InputError
from nasbench.library import modules as library
from nasbench.measurement import costs
from nasbench.measurement.costs import formulas, inferred_shapes, vocabulary
from nasbench.measurement.costs.memory import LiveStorages

KNOWN = {  # GMACs at the default size, and how far the last digit allows
    "mobilenetv3_small_050": (0.0242, 5e-5),
    "convnext_atto": (0.547, 5e-4),
    "efficientvit_b0": (0.100, 5e-4),
    "vit_tiny_patch16_224": (1.254, 5e-4),
    "xcit_nano_12_p16_224": (0.551, 5e-4),
    "pvt_v2_b1": (2.108, 5e-4),
    "resnet50": (4.089, 5e-4),
}


class Fn(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Branches(nn.Module):
    """Takes one of two layers, by the data."""

    def __init__(self):
        super().__init__()
        self.few, self.many = nn.Linear(4, 5), nn.Linear(4, 500)

    def forward(self, x):
        return self.few(x) if x.sum() > -1e9 else self.many(x)


def meta_model(name, **options):
    with torch.device("meta"):
        return timm.create_model(name, **options)


@pytest.fixture(scope="module")
def hybrid():
    """A small backbone with convolutions, batch norm and attention."""
    return timm.create_model("mobilevit_xxs")


@pytest.fixture
def formula_tables(monkeypatch):
    """Undo what a test registers."""
    monkeypatch.setattr(formulas, "MAC_FORMULAS", dict(formulas.MAC_FORMULAS))
    monkeypatch.setattr(formulas, "ELEMENTWISE_FORMULAS", dict(formulas.ELEMENTWISE_FORMULAS))
    monkeypatch.setattr(formulas, "REGISTERED", set())
    yield
    formulas._generation += 1


# --- figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_known_backbones(name):
    known, tolerance = KNOWN[name]
    cost = costs.measure(meta_model(name))
    assert cost.macs / 1e9 == pytest.approx(known, abs=tolerance)
    assert cost.exact
    assert cost.input_size == (3, 224, 224)


def test_every_figure_of_a_small_network_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    model[0].bias.requires_grad_(False)
    cost = costs.measure(model, input_size=(3, 8, 8), batch_size=2)
    assert cost.params == 4 * 27 + 4 + 2560 + 10
    assert cost.trainable_params == cost.params - 4
    assert cost.macs == 2 * (64 * 4 * 27 + 2560)
    assert cost.activations == 2 * (4 * 64 + 10)
    assert cost.elementwise_flops == 2 * 4 * 64
    assert (cost.batch_size, cost.input_size, cost.peak_memory_bytes) == (2, (3, 8, 8), None)


def test_a_shared_layer_counts_once_in_params_and_twice_in_macs():
    layer = nn.Linear(4, 4, bias=False)
    cost = costs.measure(nn.Sequential(layer, layer), input_size=(4,))
    assert (cost.params, cost.macs) == (16, 32)


def test_a_forecasting_input_and_a_bare_plug_in_with_several_inputs():
    assert costs.measure(nn.LSTM(7, 5, batch_first=True), input_size=(12, 7)).macs == 12 * 4 * (7 + 5) * 5
    maps = [torch.empty(2, 4, 3, 3), torch.empty(2, 4, 3, 3)]
    assert costs.count(Fn(lambda a, b: F.conv2d(a + b, torch.ones(4, 4, 1, 1))), *maps).macs == 2 * 9 * 16
    neck = Fn(lambda pyramid: [x @ x for x in pyramid])
    assert costs.count(neck, [torch.empty(3, 3), torch.empty(4, 4)]).macs == 27 + 64


def test_outputs_of_any_structure_and_arguments_that_are_no_tensors():
    found = costs.count(Fn(lambda x, n: {"logits": x @ x.T, "aux": [x[:n], None]}), torch.empty(3, 4), 2)
    assert (found.macs, found.exact) == (36, True)


# --- invariances -------------------------------------------------------------------------------------------------


def figures(cost):
    return cost.macs, cost.elementwise_flops, cost.activations, cost.exact


def test_twice_the_batch_costs_exactly_twice(hybrid):
    one, two = (figures(costs.measure(hybrid, batch_size=b)) for b in (1, 2))
    assert two == (2 * one[0], 2 * one[1], 2 * one[2], True)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_mambaout"])
def test_mode_gradients_layout_dtype_and_device_change_nothing(name):
    model = timm.create_model(name)
    size = (3, 64, 64) if "vit" not in name else model.pretrained_cfg["input_size"]
    expected = figures(costs.measure(model.eval(), input_size=size))
    assert expected[3]
    assert figures(costs.measure(model.train(), input_size=size)) == expected
    with torch.no_grad():
        assert figures(costs.measure(model, input_size=size)) == expected
    assert figures(costs.measure(model.to(memory_format=torch.channels_last), input_size=size)) == expected
    assert figures(costs.measure(model.bfloat16(), input_size=size)) == expected
    assert figures(costs.measure(model.to("meta"), input_size=size)) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch.compile's own imports
def test_a_compiled_model_counts_as_what_it_wraps(hybrid):
    assert figures(costs.measure(torch.compile(hybrid))) == figures(costs.measure(hybrid))


def test_parts_add_up_to_the_whole():
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))
    whole = costs.measure(nn.Sequential(first, second), input_size=(3, 9, 9))
    a, b = costs.measure(first, input_size=(3, 9, 9)), costs.measure(second, input_size=(8, 9, 9))
    assert figures(whole)[:3] == tuple(x + y for x, y in zip(figures(a)[:3], figures(b)[:3], strict=True))


def test_counting_again_from_remembered_shapes_gives_the_same(hybrid):
    inferred_shapes.forget()
    assert costs.measure(hybrid) == costs.measure(hybrid)


def test_a_remembered_operator_is_not_run_again():
    key = inferred_shapes.call_key(torch.ops.aten.mm.default, (A.to("meta"), B.to("meta")), {})
    inferred_shapes.forget()
    assert inferred_shapes.recalled(key, ()) is None
    assert costs.count(Fn(torch.mm), A, B).macs == 60
    out, macs = inferred_shapes.recalled(key, ())
    assert (out.shape, out.dtype, out.is_meta, macs) == ((3, 5), torch.float32, True, 60)
    assert inferred_shapes.call_key(torch.ops.aten.mm.default, (A, B), {}) is None  # numbers may matter
    assert inferred_shapes.call_key(torch.ops.aten.t.default, (A.to("meta"),), {}) is None  # a view shares memory


def traces_of(model):
    """Everything measuring could change."""
    modules = [
        (name, m.training, sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks), len(m._buffers))
        for name, m in model.named_modules()
    ]
    tensors = {n: (id(t), t.clone(), t._version) for n, t in model.state_dict(keep_vars=True).items()}
    grads = {n: (p.requires_grad, p.grad) for n, p in model.named_parameters()}
    return modules, tensors, grads


@pytest.mark.parametrize("make", [lambda: timm.create_model("test_resnet"), Branches, lambda: nn.GRU(3, 4)])
def test_nothing_is_left_behind(make):
    model = make()
    next(model.children(), model).eval()  # a mixture of modes stays one
    size = {"GRU": (5, 3), "Branches": (4,)}.get(type(model).__name__, (3, 32, 32))
    before = traces_of(model)
    state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    costs.measure(model, input_size=size, peak_memory=True)
    after = traces_of(model)
    assert before[0] == after[0]
    assert before[2] == after[2]
    for name, (identity, value, version) in before[1].items():
        assert (identity, version) == (after[1][name][0], after[1][name][2])
        assert torch.equal(value, after[1][name][1])
    assert state[0] == random.getstate()
    assert np.array_equal(state[1], np.random.get_state()[1])
    assert torch.equal(state[2], torch.get_rng_state())
    assert not torch.nn.modules.module._global_forward_hooks
    assert torch.is_grad_enabled()
    assert torch._C._get_tracing_state() is None


def test_a_failed_count_leaves_nothing_behind_either():
    with pytest.raises(InputError, match=r"Linear fails on inputs of shape \(1, 7\)"):
        costs.measure(nn.Linear(4, 5), input_size=(7,))
    assert torch._C._get_tracing_state() is None
    assert costs.measure(nn.Linear(4, 5), input_size=(4,)).macs == 20


# --- what is not known is named ----------------------------------------------------------------------------------


@torch.library.custom_op("nasbench_test::product", mutates_args=())
def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b


@product.register_fake
def _(a, b):
    return a.new_empty(a.shape[0], b.shape[1])


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        return a @ b

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


def script_product(a, b):
    return torch.mm(a, b)


A, B = torch.zeros(3, 4), torch.zeros(4, 5)


@pytest.mark.parametrize(
    ("name", "function", "hidden"),
    [
        ("nasbench_test::product", product, 0),
        ("Product", Product.apply, 60),  # the auditor sees inside, so the lower bound is already the figure
    ],
)
def test_a_custom_operator_is_a_lower_bound_until_it_has_a_formula(name, function, hidden, formula_tables):
    model = Fn(function)
    found = costs.count(model, A, B)
    assert (found.macs, found.exact, found.unknown_ops) == (hidden, False, (name,))
    costs.register_formula(name, macs=lambda inputs, outputs: math.prod(outputs[0]) * inputs[0][-1])
    found = costs.count(model, A, B)
    assert (found.macs, found.activations, found.exact) == (60, 15, True)
    assert found.formula_ops == (name,)


def test_a_scripted_function(formula_tables):
    with warnings.catch_warnings():  # recent torch deprecates it
        warnings.simplefilter("ignore")
        script = torch.jit.script(script_product)
    found = costs.count(Fn(lambda a, b: script(a, b)), A, B)
    assert (found.macs, found.exact, found.unknown_ops) == (60, False, ("torch.jit.script script_product",))
    costs.register_formula("script_product", lambda inputs, outputs: math.prod(outputs[0]) * inputs[0][-1])
    assert costs.count(Fn(lambda a, b: script(a, b)), A, B).exact


def test_a_formula_that_contradicts_the_auditor_is_named(formula_tables):
    costs.register_formula("Product", lambda inputs, outputs: 105)
    found = costs.count(Fn(Product.apply), A, B)
    assert (found.exact, found.unknown_ops) == (False, ("Product",))
    assert found.notes == ("fvcore counts 105 MACs, FlopCounterMode 60",)


def test_a_formula_for_elementwise_work(formula_tables):
    costs.register_formula("nasbench_test::product", elementwise_flops=lambda inputs, outputs: 7)
    found = costs.count(Fn(product), A, B)
    assert (found.macs, found.elementwise_flops, found.exact) == (0, 7, True)


@pytest.mark.parametrize(
    ("name", "macs"),
    [("no name!", len), ("mylib::op", None), ("mylib::op", 3), ("a::b::c", len), ("a::", len), (3, len)],
)
def test_a_formula_needs_a_name_and_a_function(name, macs, formula_tables):
    with pytest.raises(InputError):
        costs.register_formula(name, macs)


def test_samples_whose_number_depends_on_the_boxes_are_named():
    boxes = torch.tensor([[0.0, 0, 0, 3, 3]])
    found = costs.count(Fn(lambda x: torchvision.ops.roi_align(x, boxes.to(x), 2)), torch.zeros(1, 3, 8, 8))
    assert (found.macs, found.exact, found.unknown_ops) == (0, False, ("torchvision::roi_align",))


def test_boxes_that_suppress_each_other_are_no_multiply_adds():
    found = costs.count(Fn(lambda x: torchvision.ops.nms(x, x[:, 0], 0.5)), torch.rand(5, 4))
    assert (found.macs, found.elementwise_flops, found.exact) == (0, 13 * 10, True)


def test_the_inverse_of_a_windowed_transform():
    def there_and_back(x):
        window = torch.hann_window(16)
        return torch.istft(torch.stft(x, 16, window=window, return_complex=True), 16, window=window)

    found = costs.count(Fn(there_and_back), torch.rand(2, 64))
    frames = 2 * 17  # of 16 points, each windowed twice and added to the signal of 2x64 points
    assert found.elementwise_flops == 2 * frames * 5 * 16 * 4 + 3 * frames * 16 + 2 * 64
    assert found.exact


def test_a_sparse_operand_is_a_lower_bound():
    """Four elements are stored, so the product of a 4x4 identity with 4x4 numbers has 16 multiply-adds, not 64."""
    found = costs.count(Fn(lambda x: torch.eye(4).to_sparse() @ x), torch.rand(4, 4))
    assert found.macs <= 16
    assert not found.exact


class Quantised(nn.Module):
    """A quantised layer of torch, and the operator that runs it."""

    def __init__(self, kind, weight, *geometry):
        super().__init__()
        integers = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
        self.run = getattr(torch.ops.quantized, kind)
        self.packed = getattr(torch.ops.quantized, f"{kind}_prepack")(integers, None, *geometry)

    def forward(self, x):
        return self.run(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), self.packed, 0.1, 0).dequantize()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("kind", "weight", "geometry", "size", "macs"),
    [
        ("linear", (5, 4), (), (3, 4), 3 * 4 * 5),
        ("conv2d", (4, 3, 3, 3), ([1, 1], [0, 0], [1, 1], 1), (1, 3, 5, 5), 4 * 9 * 27),
        ("conv_transpose2d", (3, 4, 3, 3), ([1, 1], [0, 0], [0, 0], [1, 1], 1), (1, 3, 5, 5), 75 * 36),
    ],
)
def test_quantised_layers_are_counted_by_one_engine(kind, weight, geometry, size, macs):
    """A trace cannot hold packed weights, so there is no second engine, and the count says so."""
    model = Quantised(kind, torch.rand(weight), *geometry)
    one, two = (costs.count(model, torch.rand(b * size[0], *size[1:])) for b in (1, 2))
    assert (one.macs, two.macs) == (macs, 2 * macs)
    assert [reason.partition(":")[0] for reason in one.unknown_ops] == ["cannot be traced"]
    assert one.formula_ops == (f"quantized::{kind}",)


def test_a_model_that_reads_data_leaves_the_tracer_usable():
    assert costs.count(Fn(lambda x: x.data + 1), torch.rand(3)).exact
    assert costs.count(nn.Linear(4, 5), torch.rand(3, 4)).exact


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (torch.linalg.inv, "aten::linalg_inv"),
        (lambda x: torch.linalg.norm(x, ord=2), "aten::_linalg_svd"),
        (lambda x: x + torch.from_numpy(x.numpy() @ x.numpy()), "Tensor.numpy"),
        (lambda x: torch.cond(x.shape[0] > 2, lambda y: y @ y, lambda y: y, (x,)), "cannot be traced"),
        (lambda x: torch.func.jacrev(lambda y: y @ y)(x), "cannot be traced"),
    ],
)
def test_what_neither_engine_knows_is_named(function, named):
    found = costs.count(Fn(function), torch.eye(3))
    assert not found.exact
    assert any(named in reason for reason in found.unknown_ops)


def test_control_flow_on_data_counts_the_branch_taken_and_says_so():
    found = costs.count(Branches(), torch.zeros(3, 4))
    assert (found.macs, found.exact) == (60, True)
    assert "depends on data" in found.notes[0]
    selected = costs.count(Fn(lambda x: x[x > 0].sum()), torch.ones(3, 4))
    assert "depends on data" in selected.notes[0]


@pytest.mark.parametrize(
    ("make", "macs"),
    [
        (lambda: nn.LSTM(4, 5, 2), 3 * 4 * (9 + 10) * 5),
        (lambda: nn.GRU(4, 5, bidirectional=True), 2 * 3 * 3 * 9 * 5),
        (lambda: Fn(lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])), 3 * 3 * 8),
        (lambda: nn.Conv1d(3, 2, 3, padding="same"), 2 * 4 * 9),
        (lambda: Fn(lambda x: torch.einsum("bi,bj->bij", x, x)), 48),
    ],
)
def test_on_real_numbers_the_kernels_of_the_device_count_the_same(make, macs):
    inner = make()
    model = nn.Sequential(Fn(lambda x: x if x.sum() < 1e9 else -x), inner)
    found = costs.count(model, torch.zeros(3, 4))
    assert (found.macs, found.exact, len(found.notes)) == (macs, True, 1)


def test_work_that_nobody_uses_is_counted_and_told():
    found = costs.count(Fn(lambda x: (x @ x, x)[1]), torch.ones(3, 3))
    assert (found.macs, found.activations, found.exact) == (27, 9, True)
    assert "does not use" in found.notes[0]
    within = costs.count(Fn(lambda x: (torch.vmap(torch.mv, (None, 0))(x, x), x)[1]), torch.ones(3, 3))
    assert (within.macs, within.exact) == (27, False)  # there the trace cannot be made to show it


def test_control_flow_on_data_needs_weights():
    with torch.device("meta"):
        model = Branches()
    with pytest.raises(InputError, match="depends on data"):
        costs.measure(model, input_size=(4,))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(4, 5), {}, "input size"),
        (nn.Linear(4, 5), {"input_size": (0,)}, "not a shape"),
        (nn.Linear(4, 5), {"input_size": (4,), "batch_size": 0}, "batch_size"),
        (nn.Linear(4, 5), {"inputs": [3]}, "no tensor"),
        (Fn(lambda x: None), {"input_size": (4,)}, "returned no tensor"),
    ],
)
def test_bad_input_is_told(model, options, message):
    with pytest.raises(InputError, match=message):
        costs.measure(model, **options)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_model_is_told():
    with pytest.raises(InputError, match="not initialised"):
        costs.measure(nn.LazyLinear(4), input_size=(4,))


def test_what_cannot_be_copied_is_shared():
    model = nn.Linear(4, 5)
    model.handle = (n for n in range(3))
    assert costs.measure(model, input_size=(4,)).macs == 20
    assert next(model.handle) == 0


def test_a_model_that_refuses_to_be_copied_is_told():
    class Single(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("there is only one of me")

    with pytest.raises(InputError, match=r"Single cannot be copied .* only one"):
        costs.measure(Single(4, 5), input_size=(4,))


class Scaled(nn.Module):
    """Keeps tensors outside its parameters, one of them with a graph, and caches another by size."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scale = torch.ones(4)
        self.history = [self.layer(torch.ones(1, 4))]
        self.cache = {}

    def forward(self, x):
        grid = self.cache.setdefault(x.shape[0], torch.arange(4.0))
        return self.layer(x) * self.scale + self.history[0] + grid


def test_tensors_outside_the_parameters_go_along_and_a_cache_stays_empty():
    model = Scaled()
    found = costs.measure(model, input_size=(4,), batch_size=3)
    assert (found.macs, found.elementwise_flops, found.notes) == (48, 36, ())
    assert model.cache == {}


# --- the closed world --------------------------------------------------------------------------------------------


def test_the_vocabulary_holds_torchs_operators_once_each():
    known = {vocabulary.unqualified(schema.name) for schema in _jit_get_all_schemas() if "aten::" in schema.name}
    tables = [vocabulary.ELEMENTWISE, vocabulary.NORMS, vocabulary.FREE]
    assert all(table <= known for table in tables)
    assert sum(map(len, tables)) == len(frozenset().union(*tables))
    own = {vocabulary.unqualified(name) for name in formulas.MAC_FORMULAS}
    assert not own & frozenset().union(*tables)


@pytest.mark.parametrize("spec", library.module_specs(), ids=lambda spec: spec.name)
def test_every_module_of_the_library_counts_exactly(spec):
    """Exact in every dimension it serves; the part that does not depend on the batch (position tables) is small."""
    for dims in spec.dims:
        size = (16, 16) if dims == 2 else (64,)
        if spec.kind == "neck":
            module = library.create_module(spec.name, [16, 32], dims=dims)
            inputs = [[torch.empty(b, 16, *size), torch.empty(b, 32, *(n // 2 for n in size))] for b in (1, 2, 3)]
            counts = [costs.count(module, maps) for maps in inputs]
        else:
            module = library.create_module(spec.name, 16, dims=dims)
            maps = 2 if spec.kind == "fusion" else 1
            counts = [costs.count(module, *[torch.empty(b, 16, *size)] * maps) for b in (1, 2, 3)]
        assert [c.unknown_ops for c in counts] == [(), (), ()]
        one, two, three = (c.macs for c in counts)
        assert three - two == two - one
        assert 0 <= 2 * one - two <= 0.1 * one
        if 2 * one != two:
            assert spec.name in BATCH_INDEPENDENT


BATCH_INDEPENDENT = {  # position tables: an MLP over offsets, or a table interpolated to the size
    "agent_attention",
    "dual_aggregation",
    "mgtu",
    "token_dictionary",
}


# --- memory ------------------------------------------------------------------------------------------------------


def test_inference_memory_by_hand():
    model = nn.Sequential(nn.Linear(100, 200, bias=False), nn.ReLU())
    cost = costs.measure(model, input_size=(100,), batch_size=10, peak_memory=True)
    weights, batch, hidden = 4 * 20_000, 4 * 1_000, 4 * 2_000
    assert cost.peak_memory_bytes == weights + batch + 2 * hidden  # the layer's output lives until ReLU is done
    assert costs.peak_memory(model, (100,), 10, training=False) == cost.peak_memory_bytes


def test_training_memory_holds_gradients_and_what_backward_needs():
    model = nn.Sequential(*[nn.Linear(100, 100, bias=False) for _ in range(4)])
    peak = costs.peak_memory(model, (100,), 50, training=True)
    weights, activation = 4 * 4 * 10_000, 4 * 50 * 100
    # all weights, their gradients but the last to come, and the inputs that backward has not used yet
    assert 2 * weights + activation <= peak <= 2 * weights + 6 * activation
    kept = [costs.peak_memory(model, (100,), b, training=True) for b in (1000, 2000)]
    assert kept[1] - kept[0] >= 4 * 4 * 100 * 1000  # four layer inputs an item
    assert peak > costs.peak_memory(model, (100,), 50)


def test_memory_counts_a_storage_once_and_lets_go():
    with LiveStorages() as live:
        x = torch.zeros(1000)
        y = x.view(10, 100).t()
        assert live.current == 4000
        y.add_(1)
        assert (live.current, live.peak) == (4000, 4000)
        del x, y
        z = torch.zeros(10)
        assert (live.current, live.peak) == (z.nbytes, 4000)


def test_a_batch_that_cannot_be_trained_on_has_no_training_memory():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    cost = costs.measure(model, input_size=(4,), peak_memory=True)
    assert cost.training_memory_bytes is None
    assert "Expected more than 1 value per channel" in cost.notes[0]
    assert costs.measure(model, input_size=(4,), batch_size=2, peak_memory=True).training_memory_bytes > 0


def test_memory_of_data_dependent_models_and_bad_input():
    assert costs.peak_memory(Branches(), (4,), 2, training=True) > 4 * (505 * 4 + 505)
    with pytest.raises(InputError, match="peak memory of Linear"):
        costs.peak_memory(nn.Linear(4, 5), (7,))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_on_a_gpu_is_the_allocators():
    model = timm.create_model("resnet18").cuda()
    inference = costs.peak_memory(model, (3, 224, 224), 8)
    training = costs.peak_memory(model, (3, 224, 224), 8, training=True)
    weights = sum(t.nbytes for t in model.state_dict().values())
    assert weights < inference < training
    assert costs.measure(model).macs == costs.measure(model.cpu()).macs
